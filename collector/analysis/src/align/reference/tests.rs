use crate::findings::{Findings, MarkerKind, TransitionKind};
use crate::input::{ClockReading, Input, ReflectorRun, SenderRun};
use crate::note::{ClockDifference, Note, ReferenceClock};
use crate::scenario::{BEGIN, REFLECTOR_BEGIN, SKEW, UTC, World, line, world};
use hopgap_proto::plan::Destination;
use hopgap_proto::record::{ProbeFate, RunId};
use hopgap_proto::time::{ClockPair, Span};

/// A failover of four seconds and thirty on the VPN, seen by both hosts.
fn failover() -> World {
    let fates = format!(
        "{}{}{}",
        ".".repeat(1000),
        "x".repeat(400),
        ".".repeat(3000)
    );
    let hops = format!("{}{}", "5".repeat(1400), "3".repeat(3000));
    let flow = line(&fates).forward(&hops).reverse(&hops);
    world(&[flow]).mark(Span::from_millis(9_500), MarkerKind::Failover)
}

/// Moves a host's clocks, as its own records show them.
fn move_clocks(pairs: &mut [ClockPair], mono: Span, wall: Span) {
    for pair in pairs {
        pair.mono += mono;
        pair.wall += wall;
    }
}

fn move_sender(run: &mut SenderRun, mono: Span, wall: Span, reflectors_wall: Span) {
    move_clocks(&mut run.clocks, mono, wall);
    for probe in &mut run.probes {
        probe.sent.at += mono;
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.at += mono;
            reply.reflector_received += reflectors_wall;
            reply.reflector_sent += reflectors_wall;
        }
    }
}

fn move_reflector(run: &mut ReflectorRun, mono: Span, wall: Span) {
    move_clocks(&mut run.clocks, mono, wall);
    for reception in &mut run.receptions {
        reception.received.at += mono;
    }
}

/// Both hosts send and reflect; the wall clock of `azure` is ahead by `ahead`.
fn both_ways(world: &World, ahead: Span) -> Input {
    let mut input = world.input();
    let mut back = world.input().sessions.remove(0);
    let mut plan = input.plan.sessions[0].clone();
    plan.name = "back".parse().unwrap();
    plan.from = "azure".parse().unwrap();
    plan.to = Destination::Agent("onprem".parse().unwrap());
    input.plan.sessions.push(plan);

    // The model knows only the clocks of sender and reflector.
    let to_azure = REFLECTOR_BEGIN - BEGIN;
    let out = &mut input.sessions[0];
    move_sender(&mut out.sender[0], Span::ZERO, Span::ZERO, ahead);
    move_reflector(&mut out.reflector[0], Span::ZERO, ahead);
    back.session = "back".parse().unwrap();
    let sender = &mut back.sender[0];
    (sender.agent, sender.run) = ("azure".parse().unwrap(), RunId(2));
    move_sender(sender, to_azure, SKEW + ahead, -SKEW);
    let reflector = &mut back.reflector[0];
    (reflector.agent, reflector.run) = ("onprem".parse().unwrap(), RunId(1));
    move_reflector(reflector, -to_azure, -SKEW);
    input.sessions.push(back);
    input
}

fn differences(found: &Findings) -> Vec<&ClockDifference> {
    found
        .notes
        .iter()
        .filter_map(|n| match n {
            Note::ClockDifference(note) => Some(note),
            _ => None,
        })
        .collect()
}

fn kinds(found: &Findings) -> Vec<TransitionKind> {
    found.transitions.iter().map(|t| t.kind).collect()
}

/// The first probe of a session's first flow that was lost.
fn first_lost(found: &Findings, session: usize) -> crate::schema::Utc {
    found.sessions[session].flows[0].outages[0].first_lost.sent
}

#[test]
fn one_failover_is_one_whatever_the_wall_clocks_show() {
    for seconds in [-7_200, -30, 30, 7_200] {
        let ahead = Span::from_secs(seconds);
        let found = crate::analyse(&both_ways(&failover(), ahead));
        assert_eq!(kinds(&found), [TransitionKind::Failover], "{seconds} s");
        assert!(found.transitions[0].marker.is_some());
        let apart = first_lost(&found, 0).0 - first_lost(&found, 1).0;
        assert!(apart.abs() <= Span::from_millis(5), "{apart}");

        let [note] = differences(&found)[..] else {
            panic!("{:?}", found.notes)
        };
        assert_eq!(note.agent, "azure");
        let error = (note.ahead_ns.0 - (ahead + SKEW)).abs();
        assert!(error <= note.bound_ns.0 + Span::from_micros(1), "{error}");
        assert!(note.bound_ns.0 <= Span::from_millis(4));
        let first = ReferenceClock::Agent {
            agent: "onprem".to_owned(),
        };
        assert_eq!(note.reference, first);
        let said = |c: &String| c.contains("Agent `azure`: its wall clock was");
        assert!(found.caveats.iter().any(said), "{:?}", found.caveats);
    }
}

#[test]
fn the_window_is_on_the_reference_clock_for_all() {
    let mut input = both_ways(&failover(), -Span::from_secs(7_200));
    input.window = Some((UTC + Span::from_secs(5), UTC + Span::from_secs(25)));
    let found = crate::analyse(&input);
    let sent: Vec<u64> = found.sessions.iter().map(|s| s.counts.sent).collect();
    assert!(sent.iter().all(|n| (1_998..=2_002).contains(n)), "{sent:?}");
}

#[test]
fn clocks_that_agree_are_believed_as_they_are() {
    let found = crate::analyse(&both_ways(&failover(), -SKEW));
    assert!(differences(&found).is_empty());
    assert_eq!(kinds(&found), [TransitionKind::Failover]);
    // Equal to the nanosecond: nothing was moved.
    assert_eq!(first_lost(&found, 0), first_lost(&found, 1));
}

fn reading(agent: &str, run: u64, at_begin: hopgap_proto::time::Mono, bound: Span) -> ClockReading {
    ClockReading {
        agent: agent.parse().unwrap(),
        run: RunId(run),
        at: at_begin,
        earliest: UTC - bound,
        latest: UTC + bound,
    }
}

#[test]
fn the_collectors_clock_goes_before_the_agents() {
    let hours = Span::from_secs(7_200);
    let mut input = both_ways(&failover(), -SKEW);
    // Both agents are two hours ahead of the collector, which made the marker.
    for session in &mut input.sessions {
        move_sender(&mut session.sender[0], Span::ZERO, hours, hours);
        move_reflector(&mut session.reflector[0], Span::ZERO, hours);
    }
    let unmarked = crate::analyse(&input);
    assert_eq!(unmarked.transitions[0].marker, None);

    let bound = Span::from_millis(20);
    input.clocks = vec![
        reading("onprem", 1, BEGIN, bound),
        reading("azure", 2, REFLECTOR_BEGIN, bound * 100),
    ];
    let found = crate::analyse(&input);
    assert!(found.transitions[0].marker.is_some());
    let notes = differences(&found);
    assert_eq!(notes.len(), 2, "{notes:?}");
    for note in notes {
        assert_eq!(note.reference, ReferenceClock::Collector);
        assert!((note.ahead_ns.0 - hours).abs() <= note.bound_ns.0);
        // The exchanges between the two bound the other agent's clock.
        assert!(note.bound_ns.0 <= bound + Span::from_millis(4));
    }
}

#[test]
fn a_reading_that_allows_what_the_clock_shows_changes_nothing() {
    let mut input = both_ways(&failover(), -SKEW);
    let before = crate::analyse(&input);
    let at = |bound| vec![reading("onprem", 1, BEGIN + Span::from_secs(3), bound)];
    input.clocks = at(Span::from_secs(5));
    assert_eq!(crate::analyse(&input), before);
    input.clocks = at(Span::from_millis(100));
    let found = crate::analyse(&input);
    let [azure, onprem] = differences(&found)[..] else {
        panic!("{:?}", found.notes)
    };
    assert_eq!(onprem.ahead_ns.0, Span::from_secs(3));
    assert_eq!(onprem.bound_ns.0, Span::from_millis(100));
    // The other agent's clock is as far off, within the bounds of the exchanges.
    let between = azure.bound_ns.0 - onprem.bound_ns.0;
    assert!((azure.ahead_ns.0 - Span::from_secs(3)).abs() <= between);
    assert!(between <= Span::from_millis(4), "{between}");
}
