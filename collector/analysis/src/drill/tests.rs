mod told_apart;

use crate::findings::{Direction, MarkerKind, Transition, TransitionKind, VerdictResult};
use crate::scenario::{PRIMARY, SECONDARY, VPN, World, line, sent_at, utc_at, world};
use hopgap_proto::record::{Event, EventKind, FlowIndex, IcmpEvidence};
use hopgap_proto::time::Span;

const INTERVAL: Span = Span::from_millis(10);

/// The article's test: 10 s steady, an outage of 0.9 s, 10 s on the VPN, back without
/// loss (the way back half a second earlier), 10 s steady.
fn article() -> World {
    let (steady, outage) = (1000, 90);
    let fates = format!(
        "{}{}{}",
        ".".repeat(steady),
        "x".repeat(outage),
        ".".repeat(2 * steady)
    );
    let hops = |back: usize| {
        format!(
            "{}{}{}",
            "5".repeat(steady + outage),
            "3".repeat(back),
            "5".repeat(2 * steady - back)
        )
    };
    let flow = line(&fates)
        .forward(&hops(steady))
        .reverse(&hops(steady - 50));
    world(&[flow.clone(), flow])
        .mark(Span::from_secs(9), MarkerKind::Failover)
        .mark(Span::from_secs(20), MarkerKind::Failback)
        .trace(0, 850, &PRIMARY)
        .trace(0, 950, &PRIMARY)
        .trace(0, 1050, &["10.1.11.1", "!192.168.11.0", "*"])
        .trace(0, 1150, &VPN)
        .trace(0, 1250, &VPN)
        .trace(0, 2150, &PRIMARY)
}

fn of(world: &World) -> Vec<Transition> {
    world.analyse().transitions
}

#[test]
fn a_failover_and_a_failback_are_told_apart() {
    let found = of(&article());
    let kinds: Vec<_> = found.iter().map(|t| t.kind).collect();
    assert_eq!(kinds, [TransitionKind::Failover, TransitionKind::Failback]);

    let failover = &found[0];
    assert_eq!(failover.started, utc_at(INTERVAL, 1000));
    assert_eq!(failover.recovered, Some(utc_at(INTERVAL, 1090)));
    let marked = failover.marker.as_ref().unwrap();
    assert_eq!(marked.kind, MarkerKind::Failover);
    assert_eq!(
        failover.marker_to_loss_ns.unwrap().0,
        utc_at(INTERVAL, 1000).0 - marked.at.0
    );
    assert_eq!(
        failover.marker_to_new_path_ns.unwrap().0,
        utc_at(INTERVAL, 1090).0 - marked.at.0
    );
    assert_eq!(failover.marker_to_stable_ns, failover.marker_to_new_path_ns);
    assert_eq!(
        failover.worst_at_least_ns.0,
        sent_at(INTERVAL, 1089) - sent_at(INTERVAL, 1000)
    );

    let failback = &found[1];
    assert_eq!(failback.marker.as_ref().unwrap().kind, MarkerKind::Failback);
    assert_eq!(failback.started, utc_at(INTERVAL, 2040));
    assert_eq!(failback.recovered, Some(utc_at(INTERVAL, 2090)));
    assert_eq!(failback.marker_to_loss_ns, None);
    assert_eq!(failback.worst_at_most_ns.unwrap().0, Span::ZERO);
}

#[test]
fn rows_tell_each_direction_of_each_flow() {
    let found = of(&article());
    let [out, back] = found[0].directions.as_slice() else {
        panic!("{:?}", found[0].directions)
    };
    assert_eq!(
        (out.direction, out.from.as_str(), out.to.as_str()),
        (Direction::Forward, "onprem", "azure")
    );
    assert_eq!((back.from.as_str(), back.to.as_str()), ("azure", "onprem"));
    assert_eq!(
        (out.flows_affected, out.flows, back.flows_affected),
        (2, 2, 0)
    );
    let row = &out.rows[0];
    assert_eq!((row.lost, row.outages.len()), (90, 1));
    assert_eq!(row.path_before.as_deref(), Some("expressroute-primary"));
    assert_eq!(row.path_after.as_deref(), Some("vpn"));
    assert_eq!(row.last_on_old_path.unwrap().seq, 999);
    assert_eq!(row.first_on_new_path.unwrap().seq, 1090);
    assert_eq!(out.latency_before.unwrap().p50_ns.0, Span::from_millis(5));
    assert_eq!(out.latency_after.unwrap().p50_ns.0, Span::from_millis(8));
    assert_eq!(out.latency_during, None);
    let back = &found[1].directions[1].rows[0];
    assert_eq!(back.first_on_new_path.unwrap().seq, 2040);
}

#[test]
fn what_no_probe_could_tell_is_not_called_fine() {
    let failover = &of(&article())[0];
    let [forward, reverse] = &failover.directions[..] else {
        panic!("both directions");
    };
    assert!(forward.rows.iter().all(|r| r.untold == 0 && r.lost == 90));
    for row in &reverse.rows {
        assert!(row.outages.is_empty());
        // Lost on the way out, from the last probe that came back to the next.
        assert_eq!(row.untold, 90);
        assert!(row.untold_ns.0 >= INTERVAL * 89 && row.untold_ns.0 <= INTERVAL * 91);
    }
}

#[test]
fn the_hop_table_shows_before_during_and_after() {
    let found = of(&article());
    let tables = &found[0].hop_tables;
    assert_eq!(tables.len(), 1, "{tables:?}");
    let hops = |route: &crate::findings::Route| -> Vec<String> {
        route
            .hops
            .iter()
            .map(|h| h.address.clone().unwrap_or("*".to_owned()))
            .collect()
    };
    let (before, during, after) = (
        tables[0].before.as_ref().unwrap(),
        tables[0].during.as_ref().unwrap(),
        tables[0].after.as_ref().unwrap(),
    );
    assert_eq!(hops(before), PRIMARY);
    assert_eq!(before.at, utc_at(INTERVAL, 950));
    assert!(!during.reached);
    assert_eq!(
        during.hops[1].unreachable.as_deref(),
        Some("network unreachable")
    );
    assert_eq!(hops(after), VPN);
    assert_eq!(after.path.as_deref(), Some("vpn"));
    assert_eq!(after.at, utc_at(INTERVAL, 1150));
}

#[test]
fn half_of_the_flows_hit_is_said() {
    let (good, bad) = (
        ".".repeat(3000),
        format!("{}{}{}", ".".repeat(1000), "x".repeat(50), ".".repeat(1950)),
    );
    let lines: Vec<_> = (0..8)
        .map(|i| line(if i % 2 == 0 { &good } else { &bad }))
        .collect();
    let mut world = world(&lines);
    for flow in 0..8 {
        let (before, after) = if flow % 2 == 0 {
            (&SECONDARY, &SECONDARY)
        } else {
            (&PRIMARY, &SECONDARY)
        };
        // Two in a row of each: one alone confirms no path.
        world = world.trace(flow, 800, before).trace(flow, 900, before);
        world = world.trace(flow, 1100, after).trace(flow, 1200, after);
    }
    let found = of(&world);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, TransitionKind::Reroute);
    assert_eq!(found[0].directions[0].flows_affected, 4);
    assert!(
        found[0]
            .remarks
            .iter()
            .any(|r| r.contains("4 of 8 flows lost connectivity, the others lost nothing")),
        "{:?}",
        found[0].remarks
    );
    assert!(
        found[0]
            .remarks
            .iter()
            .any(|r| r.contains("no reply was lost"))
    );
    // One table for each route before.
    let flows: Vec<_> = found[0].hop_tables.iter().map(|t| t.flow).collect();
    assert_eq!(flows, [0, 1]);
}

#[test]
fn loss_without_a_change_of_path_is_an_interruption() {
    let found = of(&world(&[line(&format!(
        "{}{}{}",
        ".".repeat(1000),
        "x".repeat(300),
        ".".repeat(1000)
    ))]));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, TransitionKind::Interruption);
    assert_eq!(found[0].marker, None);
}

#[test]
fn background_loss_is_no_transition_and_is_named_beside_one() {
    let quiet = format!("{}x{}", ".".repeat(500), ".".repeat(500));
    assert!(of(&world(&[line(&quiet)])).is_empty());
    let found = of(&world(&[line(&format!(
        "{}x.....xxxx{quiet}",
        ".".repeat(500)
    ))]));
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .remarks
            .iter()
            .any(|r| r.contains("1 probe was lost in runs of fewer than 3")),
        "{:?}",
        found[0].remarks
    );
}

#[test]
fn impaired_probes_close_behind_delay_recovery() {
    let found = of(&world(&[line(&format!(
        "{}xxxx..x..l.{}",
        ".".repeat(500),
        ".".repeat(1000)
    ))]));
    assert_eq!(found[0].recovered, Some(utc_at(INTERVAL, 510)));
}

#[test]
fn recovery_needs_data() {
    let found = of(&world(&[line(&format!(
        "{}xxxx{}",
        ".".repeat(500),
        ".".repeat(400)
    ))]));
    assert_eq!(found[0].recovered, None);
    assert_eq!(found[0].marker_to_stable_ns, None);
    assert!(found[0].remarks.iter().any(|r| r.contains("data ends")));
}

#[test]
fn no_remark_denies_a_loss_that_another_names() {
    let found = of(&world(&[line(&format!(
        "{0}{1}{2}r{0}",
        ".".repeat(600),
        "x".repeat(100),
        ".".repeat(80)
    ))]));
    let remarks = found[0].remarks.join("\n");
    assert!(
        remarks.contains("From azure to onprem (session out, replies): 1 reply was lost in runs"),
        "{remarks}"
    );
    assert!(!remarks.contains("no reply was lost"), "{remarks}");
}

#[test]
fn a_marker_may_be_a_little_late_but_is_used_once() {
    let twice = format!("{0}xxxx{0}xxxx{0}", ".".repeat(1000));
    let world = world(&[line(&twice)]).mark(Span::from_millis(11_000), MarkerKind::Failover);
    let found = of(&world);
    assert_eq!(found.len(), 2);
    assert!(found[0].marker.is_some());
    // It came a second after the first loss: the time from it is negative, and said so.
    let late = utc_at(INTERVAL, 1000).0 - (crate::scenario::UTC + Span::from_secs(11));
    assert_eq!(found[0].marker_to_loss_ns.unwrap().0, late);
    assert!(found[1].marker.is_none());
}

#[test]
fn icmp_errors_are_evidence() {
    let mut world = article();
    for i in [1010, 1020] {
        world.events.push(Event {
            at: sent_at(INTERVAL, i),
            kind: EventKind::Icmp(IcmpEvidence {
                flow: FlowIndex(0),
                seq: None,
                from: "192.168.11.88".parse().unwrap(),
                icmp_type: 3,
                code: 0,
                mtu: None,
            }),
        });
    }
    let found = of(&world);
    assert_eq!(found[0].icmp.len(), 1);
    assert_eq!(found[0].icmp[0].meaning, "network unreachable");
    assert_eq!(found[0].icmp[0].count, 2);
    assert_eq!(found[0].icmp[0].first, utc_at(INTERVAL, 1010));
    assert!(found[1].icmp.is_empty());
}

#[test]
fn the_verdict_holds_both_bounds_against_the_objective() {
    let with_outage = |slots: usize| {
        world(&[line(&format!(
            "{0}{1}{0}",
            ".".repeat(600),
            "x".repeat(slots)
        ))])
        .analyse()
        .verdict
    };
    assert_eq!(with_outage(0).result, VerdictResult::Met);
    assert_eq!(with_outage(500).result, VerdictResult::Met);
    let missed = with_outage(1200);
    assert_eq!(missed.result, VerdictResult::Missed);
    // Rounded outwards, so that two bounds do not read as one.
    assert!(
        missed.sentence.contains("between 11.9") && missed.sentence.contains(" s and 12.0"),
        "{}",
        missed.sentence
    );
    // 1000 slots of 10 ms: the bounds straddle 10 s.
    assert_eq!(with_outage(1000).result, VerdictResult::Undecided);
}

#[test]
fn what_was_not_watched_is_not_met() {
    let verdict = world(&[line(&format!(
        "{0}{1}{0}",
        ".".repeat(600),
        "s".repeat(1200)
    ))])
    .analyse()
    .verdict;
    assert_eq!(verdict.result, VerdictResult::Undecided);
    assert!(
        verdict.sentence.contains("no usable probe"),
        "{}",
        verdict.sentence
    );
    let empty = crate::analyse(&crate::input::Input {
        plan: crate::scenario::plan(2, INTERVAL, false),
        ..crate::input::Input::default()
    });
    assert_eq!(empty.verdict.result, VerdictResult::Undecided);
    assert_eq!(empty.window, None);
    assert!(empty.caveats.iter().any(|c| c.contains("no data")));
}
