use super::SignsOfLife;
use crate::input::{Input, SessionRecords};
use crate::scenario::{BEGIN, REFLECTOR_BEGIN, World, line, reflector_at, world};
use hopgap_proto::record::{AgentName, Event, EventKind, ProbeFate, RunId, StampSource};
use hopgap_proto::time::{Mono, Span};

const INTERVAL: Span = Span::from_millis(10);

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn stalled(from: usize, to: usize) -> Event {
    Event {
        at: reflector_at(INTERVAL, to),
        kind: EventKind::Stalled {
            since: reflector_at(INTERVAL, from),
        },
    }
}

fn arrivals(input: &Input, run: u64, name: &str) -> Vec<Mono> {
    let agent = agent(name);
    let heard = SignsOfLife::of(input);
    heard
        .by(RunId(run), &agent)
        .map_or_else(Vec::new, |signs| signs.arrived.clone())
}

#[test]
fn only_what_came_during_a_stall_is_kept() {
    let mut plain = world(&[line(&".".repeat(600))]);
    assert!(arrivals(&plain.input(), 2, "azure").is_empty());
    plain.reflector_events = vec![stalled(200, 300)];
    let heard = arrivals(&plain.input(), 2, "azure");
    assert_eq!(heard.len(), 100);
    assert!(heard.is_sorted());
    let within =
        |at: &Mono| reflector_at(INTERVAL, 200) <= *at && *at <= reflector_at(INTERVAL, 300);
    assert!(heard.iter().all(within));
    // The sender's process did not stand still.
    assert!(arrivals(&plain.input(), 1, "onprem").is_empty());
}

#[test]
fn a_late_answer_tells_of_a_stall_as_an_event_does() {
    let late = World {
        stalls: vec![(Span::from_secs(2), Span::from_secs(4))],
        ..world(&[line(&".".repeat(600))])
    };
    let heard = arrivals(&late.input(), 2, "azure");
    assert!((150..=200).contains(&heard.len()), "{}", heard.len());
    let (from, to) = (Span::from_secs(2), Span::from_secs(4));
    let within = |at: &Mono| REFLECTOR_BEGIN + from <= *at && *at <= REFLECTOR_BEGIN + to;
    assert!(heard.iter().all(within));
}

/// In another session the host itself sends and gets replies meanwhile.
#[test]
fn replies_to_the_hosts_own_probes_tell_too() {
    let mut input = world(&[line(&"x".repeat(600))]).input();
    input.sessions[0].reflector[0].events = vec![stalled(200, 300)];
    assert!(arrivals(&input, 2, "azure").is_empty());
    let mut back: SessionRecords = world(&[line(&".".repeat(600))]).input().sessions.remove(0);
    back.session = "back".parse().unwrap();
    back.reflector.clear();
    let sender = &mut back.sender[0];
    (sender.agent, sender.run) = (agent("azure"), RunId(2));
    for probe in &mut sender.probes {
        // On the clock of the reflecting host.
        let moved = |at: Mono| REFLECTOR_BEGIN + (at - BEGIN);
        probe.sent.at = moved(probe.sent.at);
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.at = moved(reply.received.at);
        }
    }
    input.sessions.push(back);
    assert_eq!(arrivals(&input, 2, "azure").len(), 100);
    // A program's stamps are from when it went on.
    for probe in &mut input.sessions[1].sender[0].probes {
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.source = StampSource::User;
        }
    }
    assert!(arrivals(&input, 2, "azure").is_empty());
}
