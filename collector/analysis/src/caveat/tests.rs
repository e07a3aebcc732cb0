use crate::input::Input;
use crate::scenario::{UTC, line, sent_at, world};
use hopgap_proto::record::{DropReason, Event, EventKind, FlowIndex};
use hopgap_proto::time::Span;

const INTERVAL: Span = Span::from_millis(10);

/// 40 s of probes, all answered, of which the first 2.5 s are asked for.
fn first_of_many() -> Input {
    let mut input = world(&[line(&".".repeat(4_000))]).input();
    input.window = Some((UTC, UTC + Span::from_millis(2_500)));
    input
}

fn said(input: &Input, words: &str) -> Option<String> {
    let caveats = crate::analyse(input).caveats;
    caveats.into_iter().find(|c| c.contains(words))
}

/// Adds the reflector's report of `count` unanswered packets, `after` the first probe.
fn turned_away(input: &mut Input, after: Span, count: u32) {
    let log = &mut input.sessions[0].reflector[0];
    let at = log.receptions[0].received.at + after;
    let reason = DropReason::Unprovisioned;
    log.events.push(Event {
        at,
        kind: EventKind::ReflectorDropped { reason, count },
    });
}

#[test]
fn what_a_reflector_turned_away_at_another_time_is_not_told() {
    let mut input = first_of_many();
    turned_away(&mut input, Span::from_secs(20), 10_314);
    assert_eq!(said(&input, "did not answer"), None);
    // It is reported if the whole time is asked for.
    input.window = None;
    assert!(said(&input, "did not answer 10314 packets").is_some());
}

#[test]
fn a_count_over_an_edge_of_the_question_is_told_as_a_bound() {
    let mut input = first_of_many();
    turned_away(&mut input, Span::from_millis(3_200), 40);
    let told = said(&input, "did not answer").unwrap();
    assert!(
        told.contains("did not answer up to 40 packets (counted over an edge"),
        "{told}"
    );
    turned_away(&mut input, Span::from_millis(2_000), 3);
    let told = said(&input, "did not answer").unwrap();
    assert!(
        told.contains("did not answer 3 packets (and up to 40 more"),
        "{told}"
    );
}

#[test]
fn what_the_senders_host_threw_away_is_told_of_its_time() {
    let overflow = |since: usize, at: usize| {
        let mut input = first_of_many();
        input.sessions[0].sender[0].events.push(Event {
            at: sent_at(INTERVAL, at),
            kind: EventKind::ReceiveOverflow {
                flow: Some(FlowIndex(0)),
                since: sent_at(INTERVAL, since),
                count: 7,
            },
        });
        said(&input, "threw away")
    };
    assert!(overflow(100, 110).unwrap().contains("threw away 7 replies"));
    // It is told after the question's end, and part of it lies before.
    assert!(
        overflow(240, 260)
            .unwrap()
            .contains("threw away up to 7 replies")
    );
    assert_eq!(overflow(300, 310), None);
}

#[test]
fn blocks_lost_of_another_time_are_not_told() {
    let lost = |from: i64, to: i64| {
        let mut input = first_of_many();
        let wall = |seconds| UTC + Span::from_secs(seconds);
        let kind = EventKind::BlocksLost {
            blocks: 2,
            from: Some(wall(from)),
            to: wall(to),
        };
        // Losses are told long after.
        let at = sent_at(INTERVAL, 3_900);
        input.sessions[0].sender[0].events.push(Event { at, kind });
        said(&input, "lost by the agent itself")
    };
    assert!(lost(1, 2).unwrap().contains("`onprem`: 2 blocks"));
    assert!(lost(-5, 2).unwrap().contains("`onprem`: up to 2 blocks"));
    assert_eq!(lost(10, 20), None);
}

#[test]
fn slots_are_counted_that_were_due_in_the_question() {
    let mut input = world(&[line(&format!(
        "{}{}{}",
        ".".repeat(200),
        "s".repeat(100),
        ".".repeat(200)
    ))])
    .input();
    // One event tells of all of them.
    let events = &mut input.sessions[0].sender[0].events;
    let first = events[0].at;
    events.retain(|e| !matches!(e.kind, EventKind::SlotsSkipped { .. }));
    events.push(Event {
        at: first + INTERVAL * 99,
        kind: EventKind::SlotsSkipped {
            flow: FlowIndex(0),
            first,
            count: 100,
        },
    });
    let skipped = |input: &Input| crate::analyse(input).sessions[0].counts.skipped;
    assert_eq!(skipped(&input), 100);
    let ask = |from: i64, to: i64| {
        let mut input = input.clone();
        let at = |millis| UTC + Span::from_millis(millis);
        input.window = Some((at(from), at(to)));
        skipped(&input)
    };
    // Half an interval off, so that no edge falls on a slot.
    assert_eq!(ask(5, 2_495), 50);
    assert_eq!(ask(2_495, 4_995), 50);
    assert_eq!(ask(2_195, 2_495), 30);
    assert_eq!(ask(5, 1_495), 0);
    assert_eq!(ask(3_495, 4_995), 0);
    assert_eq!(ask(5, 4_995), 100);
}

#[test]
fn a_step_of_a_clock_at_another_time_is_not_told() {
    let mut input = first_of_many();
    let stepped = sent_at(INTERVAL, 3_000);
    let by = Span::from_secs(1);
    let sender = &mut input.sessions[0].sender[0];
    for clock in sender.clocks.iter_mut().filter(|c| c.mono >= stepped) {
        clock.wall += by;
    }
    sender.events.push(Event {
        at: stepped,
        kind: EventKind::ClockStepped(by),
    });
    assert_eq!(said(&input, "wall clock was set"), None);
    input.window = None;
    assert!(said(&input, "wall clock was set forward").is_some());
}

#[test]
fn arrivals_of_another_time_are_no_strays_of_this_one() {
    let mut input = first_of_many();
    let probes = &mut input.sessions[0].sender[0].probes;
    probes.retain(|p| !(2_000..2_100).contains(&p.seq.0));
    assert_eq!(said(&input, "belong to no probe"), None);
    input.window = None;
    assert!(said(&input, "100 arrivals in the reflector's log belong").is_some());
}

#[test]
fn a_log_that_is_not_here_yet_lacks_no_probes() {
    // The log ends after 5 s; all 20 s of probes were answered.
    let mut input = world(&[line(&".".repeat(2_000))]).input();
    let log = &mut input.sessions[0].reflector[0];
    log.receptions.truncate(500);
    log.clocks.truncate(2);
    assert_eq!(said(&input, "answered probes are not in"), None);
    let told = said(&input, "log is missing").unwrap();
    assert!(told.contains("still on their way"), "{told}");
    // A hole inside the log is reported.
    let log = &mut input.sessions[0].reflector[0];
    log.receptions.retain(|r| !(100..150).contains(&r.seq.0));
    assert!(said(&input, "50 answered probes are not in the reflector's log").is_some());
}
