use crate::input::Input;
use crate::scenario::{line, world};
use hopgap_proto::record::{Event, EventKind, ProbeFate};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use proptest::prelude::*;

/// Steps the reflector's wall clock this long after the first probe.
fn step(input: &mut Input, after: Span, by: Span) {
    let records = &mut input.sessions[0];
    let reflector = &mut records.reflector[0];
    // The reading at the beginning of the probes; one is a second before.
    let first: ClockPair = reflector.clocks[1];
    let at: Mono = first.mono + after;
    // What the clock showed then, before this step and after all earlier ones.
    let earlier: Span = reflector
        .events
        .iter()
        .filter_map(|e| match e.kind {
            EventKind::ClockStepped(by) if e.at < at => Some(by),
            _ => None,
        })
        .sum();
    let true_wall = first.wall + after;
    for clock in &mut reflector.clocks {
        if clock.mono >= at {
            clock.wall += by;
        }
    }
    reflector.events.push(Event {
        at,
        kind: EventKind::ClockStepped(by),
    });
    // Steps are made in the order of time, so that replies after this one carry `earlier`.
    let stepped = |wall: &mut Wall| {
        if *wall - earlier >= true_wall {
            *wall += by;
        }
    };
    for probe in &mut records.sender[0].probes {
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            // A reply that was made before an earlier step shows less than `earlier`
            // more; those are told by when they were sent.
            if probe.sent.at - crate::scenario::BEGIN + Span::from_millis(10) >= after {
                stepped(&mut reply.reflector_received);
                stepped(&mut reply.reflector_sent);
            }
        }
    }
}

/// Returns the judged losses as text.
fn judged(input: &Input) -> String {
    let found = crate::analyse(input);
    let session = &found.sessions[0];
    let flows: Vec<_> = session
        .flows
        .iter()
        .map(|f| (&f.counts, &f.outages, &f.background))
        .collect();
    format!("{:?} {flows:?}", session.counts)
}

fn outages() -> Input {
    world(&[line(&format!(
        "{0}{1}{0}{2}{0}",
        ".".repeat(300),
        "x".repeat(200),
        "r".repeat(200)
    ))])
    .input()
}

#[test]
fn a_clock_set_back_within_an_outage_changes_no_direction() {
    let plain = outages();
    for (after, by) in [(4, -20), (4, 20), (9, -3), (9, 3), (2, -1), (12, -10)] {
        let mut input = plain.clone();
        step(&mut input, Span::from_secs(after), Span::from_secs(by));
        assert_eq!(judged(&input), judged(&plain), "{by} s after {after} s");
    }
}

#[test]
fn without_a_certain_reply_the_first_is_taken_as_it_is() {
    // Set back by more than has passed, so that every later time was shown before, too, or would
    // have been.
    let plain = outages();
    let mut input = plain.clone();
    step(&mut input, Span::from_millis(1), Span::from_secs(-3600));
    assert_eq!(judged(&input), judged(&plain));
}

proptest! {
    #[test]
    fn steps_of_the_reflector_change_nothing_that_is_lost(
        fates in "[.xr]{0,40}[.]{5}[.xr]{200,400}[.]{5}",
        first in 200_i64..2_000,
        then in 100_i64..2_000,
        by in prop::sample::select(vec![-30_000_i64, -900, -150, 150, 1_000, 45_000]),
        again in prop::sample::select(vec![-20_000_i64, -300, 200, 7_000]),
    ) {
        let plain = world(&[line(&fates)]).input();
        let mut input = plain.clone();
        step(&mut input, Span::from_millis(first), Span::from_millis(by));
        step(&mut input, Span::from_millis(first + then), Span::from_millis(again));
        prop_assert_eq!(judged(&input), judged(&plain));
    }
}
