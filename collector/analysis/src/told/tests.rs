use super::NotRunningCause;
use crate::analyse;
use crate::findings::Findings;
use crate::scenario::{UTC, World, line, sent_at, world};
use crate::schema::Utc;
use hopgap_proto::record::{Event, EventKind, FlowIndex, RunFault};
use hopgap_proto::time::{Mono, Span};

/// Ten seconds without loss.
fn good() -> World {
    world(&[line(&".".repeat(1_000))])
}

fn second(s: i64) -> Span {
    Span::from_secs(s)
}

fn translated(since: Mono, at: Mono, count: u32) -> Event {
    Event {
        at,
        kind: EventKind::AddressTranslated {
            address: "100.0.2.1".parse().unwrap(),
            since,
            count,
        },
    }
}

/// With what the reflector saw from probe to probe: when, and how many packets.
fn seen_by_the_reflector(stretches: &[(i64, i64, u32)], window: Option<(i64, i64)>) -> Findings {
    let mut input = good().input();
    let run = &mut input.sessions[0].reflector[0];
    let clock = run.clocks[0];
    let begin = clock.mono + (UTC - clock.wall);
    for (from, to, count) in stretches {
        let event = translated(begin + second(*from), begin + second(*to), *count);
        run.events.push(event);
    }
    input.window = window.map(|(from, to)| (UTC + second(from), UTC + second(to)));
    analyse(&input)
}

fn of_translation(findings: &Findings) -> Vec<&str> {
    let caveats = findings.caveats.iter().map(String::as_str);
    caveats.filter(|c| c.contains("is translated")).collect()
}

#[test]
fn a_translated_address_is_told_and_is_no_loss() {
    let findings = seen_by_the_reflector(&[(2, 3, 100), (3, 6, 300)], None);
    let session = &findings.sessions[0];
    assert_eq!(session.counts.answered, 1_000);
    assert!(session.flows.iter().all(|f| f.outages.is_empty()));
    let [seen] = &session.translations[..] else {
        panic!("{:?}", session.translations);
    };
    assert_eq!((seen.address.as_str(), seen.packets), ("100.0.2.1", 400));
    assert_eq!((&seen.of, &seen.seen_by), (&session.from, &session.to));
    let length = seen.last.0 - seen.first.0;
    assert!(
        (length - second(4)).abs() < Span::from_millis(1),
        "{seen:?}"
    );
    let [said] = of_translation(&findings)[..] else {
        panic!("{:?}", findings.caveats);
    };
    assert!(
        said.contains(" is translated to 100.0.2.1 on the way")
            && said.contains("400 packets")
            && said.contains("SSID and HMAC prove"),
        "{said}"
    );
    assert!(of_translation(&analyse(&good().input())).is_empty());
}

#[test]
fn what_was_translated_at_another_time_is_no_news() {
    let stretch = [(6, 9, 300)];
    let before = seen_by_the_reflector(&stretch, Some((1, 5)));
    assert_eq!(before.sessions[0].translations, []);
    assert!(of_translation(&before).is_empty());
    let within = seen_by_the_reflector(&stretch, Some((1, 7)));
    let [seen] = &within.sessions[0].translations[..] else {
        panic!("{:?}", within.sessions[0].translations);
    };
    let length = seen.last.0 - seen.first.0;
    assert!(length > Span::ZERO && length < second(2), "{seen:?}");
}

#[test]
fn replies_from_a_translated_address_are_told_of_the_other_end() {
    let mut world = good();
    let event = translated(
        sent_at(world.interval, 100),
        sent_at(world.interval, 300),
        200,
    );
    world.events.push(event);
    let findings = world.analyse();
    let session = &findings.sessions[0];
    assert_eq!(session.translations[0].of, session.to);
    assert_eq!(session.translations[0].seen_by, session.from);
    assert_eq!(of_translation(&findings).len(), 1);
}

#[test]
fn why_a_flow_did_not_run_is_told_with_its_time() {
    let mut world = good();
    let why = RunFault::PortInUse {
        address: "10.0.0.1".parse().unwrap(),
        port: 50_003,
    };
    let mut tell = |flow, why, from, to| {
        world.events.push(Event {
            at: sent_at(world.interval, to),
            kind: EventKind::NotRunning {
                flow,
                why,
                since: sent_at(world.interval, from),
            },
        });
    };
    let flow = Some(FlowIndex(3));
    tell(flow, why, 0, 0);
    tell(flow, why, 0, 400);
    tell(flow, why, 400, 800);
    tell(None, RunFault::UnusableKey, 900, 950);
    let findings = world.analyse();
    let [first, second] = &findings.sessions[0].not_running[..] else {
        panic!("{:?}", findings.sessions[0].not_running);
    };
    assert_eq!(first.flow, Some(3));
    assert_eq!(
        first.why,
        NotRunningCause::PortInUse {
            address: "10.0.0.1".to_owned(),
            port: 50_003
        }
    );
    let utc =
        |i| Utc(UTC + (sent_at(Span::from_millis(10), i) - sent_at(Span::from_millis(10), 0)));
    assert_eq!((first.first, first.last), (utc(0), utc(800)));
    assert_eq!(
        (second.flow, &second.why),
        (None, &NotRunningCause::UnusableKey)
    );
    let said: Vec<_> = findings
        .caveats
        .iter()
        .filter(|c| c.contains("did not run from"))
        .collect();
    assert_eq!(said.len(), 2, "{:?}", findings.caveats);
    assert!(
        said[0].contains("flow 3 (source port ")
            && said[0].contains("another program has UDP 10.0.0.1 port 50003"),
        "{}",
        said[0]
    );
}

#[test]
fn a_drill_within_the_time_in_which_a_flow_did_not_run_says_so() {
    let mut world = good();
    world.events.push(Event {
        at: sent_at(world.interval, 900),
        kind: EventKind::NotRunning {
            flow: Some(FlowIndex(3)),
            why: RunFault::NoEnds,
            since: sent_at(world.interval, 100),
        },
    });
    let of = |from, to| {
        let mut input = world.input();
        input.window = Some((UTC + second(from), UTC + second(to)));
        analyse(&input).sessions[0].not_running.len()
    };
    assert_eq!((of(3, 5), of(8, 12), of(0, 2)), (1, 1, 1));
    assert_eq!((of(0, 0), of(10, 12)), (0, 0));
}
