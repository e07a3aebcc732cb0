use super::{Sleep, Sleeps};
use crate::findings::{Findings, MissingCause, VerdictResult};
use crate::input::Input;
use crate::scenario::{BEGIN, REFLECTOR_BEGIN, UTC, World, line, world};
use hopgap_proto::record::{Event, EventKind, ProbeFate};
use hopgap_proto::time::{Mono, Span};

/// The host sleeps from 3 s on for so long.
const BEGINS: Span = Span::from_secs(3);
const LASTED: Span = Span::from_secs(14);

/// What a clock shows that stood still meanwhile.
fn stood_still(at: Mono, begin: Mono) -> Mono {
    let sleep = begin + BEGINS;
    if at <= sleep {
        at
    } else {
        sleep.max(at - LASTED)
    }
}

fn told(begin: Mono) -> [Event; 2] {
    let at = begin + BEGINS + Span::from_millis(4);
    let since = begin + BEGINS - Span::from_millis(4);
    let slept = EventKind::Suspended {
        since,
        lasted: LASTED,
    };
    [slept, EventKind::ClockStepped(LASTED)].map(|kind| Event { at, kind })
}

/// 30 s of probes; `fate` of those that were sent while a host slept.
fn night(fate: char) -> World {
    let asleep = fate.to_string().repeat(1_400);
    World {
        tail: Span::from_secs(60),
        ..world(&[line(&format!(
            "{}{asleep}{}",
            ".".repeat(300),
            ".".repeat(1_300)
        ))])
    }
}

fn judged(mut input: Input) -> Findings {
    input.window = Some((UTC, UTC + Span::from_secs(30)));
    crate::analyse(&input)
}

fn missing(found: &Findings, place: usize) -> Vec<(i64, MissingCause)> {
    let missing = found.coverage.directions[place].missing.iter();
    missing
        .map(|m| (m.lasted_ns.0.as_nanos() / 1_000_000, m.cause.clone()))
        .collect()
}

fn slept(found: &Findings, agent: &str) {
    let counts = found.sessions[0].counts;
    let lost = (
        counts.lost_forward,
        counts.lost_reverse,
        counts.lost_unknown,
    );
    assert_eq!(lost, (0, 0, 0), "{counts:?}");
    for place in [0, 1] {
        let [(lasted, cause)] = missing(found, place).try_into().unwrap();
        assert!((13_900..14_100).contains(&lasted), "{place}: {lasted}");
        let agent = agent.to_owned();
        assert_eq!(cause, MissingCause::HostStalled { agent });
    }
    // It is longer than the objective.
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    let stalls = &found.sessions[0].host_stalls;
    assert!(
        stalls.iter().any(|s| s.suspended && s.agent == agent),
        "{stalls:?}"
    );
    let said = |c: &String| c.contains("was suspended");
    assert!(found.caveats.iter().any(said), "{:?}", found.caveats);
    // No clock was set.
    let stepped = |c: &String| c.contains("clock");
    assert!(!found.caveats.iter().any(stepped), "{:?}", found.caveats);
}

#[test]
fn a_reflecting_host_that_slept_is_no_data_and_no_loss() {
    let mut input = night('x').input();
    let reflector = &mut input.sessions[0].reflector[0];
    let still = |at: &mut Mono| *at = stood_still(*at, REFLECTOR_BEGIN);
    for reception in &mut reflector.receptions {
        still(&mut reception.received.at);
        if let Some(departed) = &mut reception.departed {
            still(&mut departed.at);
        }
    }
    reflector.clocks.iter_mut().for_each(|c| still(&mut c.mono));
    // Pairs that were read while it slept there are none.
    let asleep = REFLECTOR_BEGIN + BEGINS;
    reflector.clocks.retain(|c| c.mono != asleep);
    reflector.events.extend(told(REFLECTOR_BEGIN));
    slept(&judged(input), "azure");
}

#[test]
fn a_sending_host_that_slept_sent_nothing_meanwhile() {
    let mut input = night('s').input();
    let sender = &mut input.sessions[0].sender[0];
    let still = |at: &mut Mono| *at = stood_still(*at, BEGIN);
    for probe in &mut sender.probes {
        still(&mut probe.sent.at);
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            still(&mut reply.received.at);
        }
    }
    sender.clocks.iter_mut().for_each(|c| still(&mut c.mono));
    let asleep = BEGIN + BEGINS;
    sender.clocks.retain(|c| c.mono != asleep);
    sender.events.clear();
    sender.events.extend(told(BEGIN));
    slept(&judged(input), "onprem");
}

#[test]
fn one_sleep_is_told_by_every_thread_and_counts_once() {
    let at = |ms: i64| Mono::from_nanos(5_000_000_000) + Span::from_millis(ms);
    let told = |after: i64, told: i64| Sleep {
        after: at(after),
        told: at(told),
        lasted: LASTED,
        total: Span::ZERO,
    };
    let sleeps = Sleeps::of(vec![
        told(20, 130),
        told(0, 101),
        told(60, 110),
        told(900, 950),
    ]);
    assert_eq!(sleeps.0.len(), 2, "{sleeps:?}");
    assert_eq!(sleeps.awake(at(60)), at(60));
    assert_eq!(sleeps.awake(at(61)), at(61) + LASTED);
    assert_eq!(sleeps.awake(at(901)), at(901) + LASTED * 2);
    // A step of the wall clock that is none of it remains.
    assert_eq!(sleeps.jump(at(120), LASTED + Span::from_millis(3)), LASTED);
    assert_eq!(sleeps.jump(at(120), Span::from_millis(300)), Span::ZERO);
    assert_eq!(sleeps.jump(at(40_000), LASTED), Span::ZERO);
}

#[test]
fn an_agent_that_tells_of_very_many_sleeps_does_not_hold_up_a_report() {
    let mut input = world(&[line(&"r".repeat(2_000))]).input();
    let events = (0..100_000).map(|i| {
        let since = BEGIN + Span::from_micros(i * 200);
        Event {
            at: since + Span::from_micros(100),
            kind: EventKind::Suspended {
                since,
                lasted: Span::from_nanos(1),
            },
        }
    });
    input.sessions[0].sender[0].events.extend(events);
    let counts = crate::analyse(&input).sessions[0].counts;
    assert_eq!((counts.sent, counts.no_data), (2_000, 2_000));
}
