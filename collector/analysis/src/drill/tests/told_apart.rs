//! Failovers and failbacks that are close to each other, or amid other loss.

use super::{INTERVAL, of};
use crate::findings::{MarkerKind, Transition, TransitionKind};
use crate::note::Note;
use crate::scenario::{Line, PRIMARY, SECONDARY, World, line, utc_at, world};
use hopgap_proto::time::Span;

fn kinds(found: &[Transition]) -> Vec<TransitionKind> {
    found.iter().map(|t| t.kind).collect()
}

fn marked(found: &[Transition]) -> Vec<Option<MarkerKind>> {
    found
        .iter()
        .map(|t| t.marker.as_ref().map(|m| m.kind))
        .collect()
}

/// Both ways over these hops, so many probes each.
fn over(fates: &str, hops: &[(&str, usize)]) -> Line {
    let hops: String = hops.iter().map(|(hop, n)| hop.repeat(*n)).collect();
    line(fates).forward(&hops).reverse(&hops)
}

/// Of `all` probes about one in `n`, always the same ones, lost.
fn sprinkled(all: usize, n: u64, seed: u64) -> String {
    let mut state = seed;
    (0..all)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            if (state >> 33).is_multiple_of(n) {
                'x'
            } else {
                '.'
            }
        })
        .collect()
}

/// On the VPN for two seconds, less than traffic needs to count as stable.
fn short() -> World {
    let fates = format!("{}{}{}", ".".repeat(1000), "x".repeat(90), ".".repeat(1200));
    let flow = over(&fates, &[("5", 1090), ("3", 200), ("5", 1000)]);
    world(&[flow.clone(), flow])
        .mark(Span::from_millis(9_500), MarkerKind::Failover)
        .mark(Span::from_millis(12_000), MarkerKind::Failback)
}

#[test]
fn a_failback_soon_after_its_failover_is_a_transition_of_its_own() {
    let found = of(&short());
    use TransitionKind::{Failback, Failover};
    assert_eq!(kinds(&found), [Failover, Failback]);
    assert_eq!(
        marked(&found),
        [Some(MarkerKind::Failover), Some(MarkerKind::Failback)]
    );
    assert_eq!(found[0].started, utc_at(INTERVAL, 1000));
    assert_eq!(found[0].recovered, Some(utc_at(INTERVAL, 1090)));
    assert_eq!(found[1].started, utc_at(INTERVAL, 1290));
    assert_eq!(found[1].recovered, Some(utc_at(INTERVAL, 1290)));
    let soon = |t: &Transition| {
        t.remarks
            .iter()
            .any(|r| r.contains("next transition began"))
    };
    assert!(soon(&found[0]), "{:?}", found[0].remarks);
    assert!(!soon(&found[1]), "{:?}", found[1].remarks);
    let row = &found[1].directions[0].rows[0];
    assert_eq!(row.path_before.as_deref(), Some("vpn"));
}

#[test]
fn without_markers_and_without_named_paths_they_are_told_apart_as_well() {
    let mut world = short();
    world.markers.clear();
    use TransitionKind::{Failback, Failover, Reroute};
    assert_eq!(kinds(&of(&world)), [Failover, Failback]);
    let mut input = world.input();
    input.plan.paths.clear();
    assert_eq!(
        kinds(&crate::analyse(&input).transitions),
        [Reroute, Reroute]
    );
}

#[test]
fn a_flicker_while_routing_converges_is_part_of_its_failover() {
    let fates = format!("{}{}{}", ".".repeat(1000), "x".repeat(50), ".".repeat(2000));
    let hops = [("5", 1050), ("3", 20), ("5", 20), ("7", 5), ("3", 1955)];
    let flow = over(&fates, &hops);
    let found = of(&world(&[flow]).mark(Span::from_millis(9_900), MarkerKind::Failover));
    assert_eq!(kinds(&found), [TransitionKind::Failover]);
    assert_eq!(found[0].recovered, Some(utc_at(INTERVAL, 1095)));
}

#[test]
fn steady_loss_does_not_hold_two_transitions_together() {
    let flow = |seed| {
        let mut fates = sprinkled(6000, 20, seed);
        fates.replace_range(2000..2090, &"x".repeat(90));
        over(&fates, &[("5", 2090), ("3", 1910), ("5", 2000)])
    };
    let world = world(&[flow(1), flow(2), flow(3), flow(4)])
        .mark(Span::from_millis(19_500), MarkerKind::Failover)
        .mark(Span::from_millis(39_500), MarkerKind::Failback);
    let findings = world.analyse();
    let found = &findings.transitions;
    use TransitionKind::{Failback, Failover};
    // What chance makes before, between and after is told apart from both.
    let found: Vec<Transition> = found
        .iter()
        .filter(|t| t.kind != TransitionKind::Interruption)
        .cloned()
        .collect();
    assert_eq!(kinds(&found), [Failover, Failback]);
    assert_eq!(
        marked(&found),
        [Some(MarkerKind::Failover), Some(MarkerKind::Failback)]
    );
    let chance = |t: &&Transition| t.kind == TransitionKind::Interruption;
    for transition in findings.transitions.iter().filter(chance) {
        assert_eq!(transition.marker, None);
        assert!(transition.worst_at_most_ns.unwrap().0 < INTERVAL * 12);
    }
    let close = |at: crate::schema::Utc, slot: usize| {
        (at.0 - utc_at(INTERVAL, slot).0).abs() <= INTERVAL * 10
    };
    assert!(close(found[0].started, 2000), "{}", found[0].started);
    assert!(close(found[0].recovered.unwrap(), 2090));
    // The first probe that arrives by the old way: some before it are lost.
    assert!(close(found[1].started, 4000), "{}", found[1].started);
    let steady: Vec<_> = findings
        .notes
        .iter()
        .filter_map(|n| match n {
            Note::SteadyLoss(loss) => Some(loss),
            _ => None,
        })
        .collect();
    assert_eq!(steady.len(), 1, "{steady:?}");
    assert!(steady[0].outages >= 1);
    assert!((30_000..80_000).contains(&steady[0].most_lost_ppm));
    assert!(
        findings
            .caveats
            .iter()
            .any(|c| c.contains("lost all the time"))
    );
}

#[test]
fn one_outage_in_a_quiet_time_is_no_steady_loss() {
    let fates = format!("{0}xxx{0}", ".".repeat(1000));
    let findings = world(&[line(&fates)]).analyse();
    assert_eq!(kinds(&findings.transitions), [TransitionKind::Interruption]);
    assert!(findings.notes.is_empty(), "{:?}", findings.notes);
}

#[test]
fn a_failback_does_not_swallow_what_was_lost_seconds_before() {
    let fates = format!(
        "{}{}{}{}{}",
        ".".repeat(1000),
        "x".repeat(90),
        ".".repeat(1000),
        "x".repeat(20),
        ".".repeat(1400)
    );
    let flow = over(&fates, &[("5", 1090), ("3", 1400), ("5", 1020)]);
    let found = of(&world(&[flow])
        .mark(Span::from_millis(9_500), MarkerKind::Failover)
        .mark(Span::from_millis(24_500), MarkerKind::Failback));
    use TransitionKind::{Failback, Failover, Interruption};
    assert_eq!(kinds(&found), [Failover, Interruption, Failback]);
    assert_eq!(
        marked(&found),
        [Some(MarkerKind::Failover), None, Some(MarkerKind::Failback)]
    );
    assert_eq!(found[2].started, utc_at(INTERVAL, 2490));
}

#[test]
fn an_interruption_does_not_take_the_marker_of_the_failover_that_follows() {
    let fates = format!(
        "{}xxxxx{}{}{}",
        ".".repeat(1000),
        ".".repeat(1995),
        "x".repeat(90),
        ".".repeat(1000)
    );
    let flow = over(&fates, &[("5", 3090), ("3", 1000)]);
    let found = of(&world(&[flow]).mark(Span::from_secs(9), MarkerKind::Failover));
    use TransitionKind::{Failover, Interruption};
    assert_eq!(kinds(&found), [Interruption, Failover]);
    assert_eq!(marked(&found), [None, Some(MarkerKind::Failover)]);
}

#[test]
fn one_circuit_of_two_announced_as_failover_has_its_markers() {
    let (good, bad) = (
        ".".repeat(4000),
        format!("{}{}{}", ".".repeat(1000), "x".repeat(90), ".".repeat(2910)),
    );
    let lines: Vec<_> = (0..8)
        .map(|i| line(if i % 2 == 0 { &good } else { &bad }))
        .collect();
    let mut world = world(&lines)
        .mark(Span::from_millis(9_900), MarkerKind::Failover)
        .mark(Span::from_millis(24_900), MarkerKind::Failback);
    for flow in 0..8 {
        let moves = flow % 2 == 1;
        for slot in (0..3900).step_by(100) {
            let on_first = moves && !(1000..2500).contains(&slot);
            let hops = if on_first { &PRIMARY } else { &SECONDARY };
            world = world.trace(flow, slot + usize::from(flow), hops);
        }
    }
    let findings = world.analyse();
    let found = &findings.transitions;
    use TransitionKind::Reroute;
    assert_eq!(kinds(found), [Reroute, Reroute]);
    assert_eq!(
        marked(found),
        [Some(MarkerKind::Failover), Some(MarkerKind::Failback)]
    );
    for transition in found {
        let forward = &transition.directions[0];
        assert_eq!((forward.flows_moved, forward.flows), (4, 8));
        let said = |r: &String| r.contains("announced as a fail") && r.contains("4 of 8 flows");
        assert!(
            transition.remarks.iter().any(said),
            "{:?}",
            transition.remarks
        );
    }
    assert!(findings.notes.is_empty(), "{:?}", findings.notes);
}

#[test]
fn a_failover_of_some_flows_says_how_many() {
    let fates = format!("{}{}{}", ".".repeat(1000), "x".repeat(50), ".".repeat(1000));
    let moved = over(&fates, &[("5", 1050), ("3", 1000)]);
    let stayed = line(&".".repeat(2050));
    let found = of(&world(&[moved.clone(), stayed.clone(), moved, stayed]));
    assert_eq!(kinds(&found), [TransitionKind::Failover]);
    let out = &found[0].directions[0];
    assert_eq!((out.flows_affected, out.flows_moved, out.flows), (2, 2, 4));
    assert!(
        found[0].remarks.iter().any(|r| r.contains("2 of 4 flows")),
        "{:?}",
        found[0].remarks
    );
}

#[test]
fn a_marker_that_nothing_followed_is_told() {
    let quiet = world(&[line(&".".repeat(2000))]).mark(Span::from_secs(5), MarkerKind::Failover);
    let findings = quiet.analyse();
    assert!(findings.transitions.is_empty());
    let [Note::UnfollowedMarker(note)] = findings.notes.as_slice() else {
        panic!("{:?}", findings.notes)
    };
    assert_eq!(note.marker.kind, MarkerKind::Failover);
    assert_eq!(note.within, None);
    let said = |c: &String| c.contains("announces a failover, but no change of path followed");
    assert!(findings.caveats.iter().any(said), "{:?}", findings.caveats);

    // Routing stayed up: the loss ends with the heal, and nothing follows that.
    let fates = format!(
        "{}{}{}",
        ".".repeat(1000),
        "x".repeat(500),
        ".".repeat(1000)
    );
    let grey = world(&[line(&fates)])
        .mark(Span::from_millis(9_900), MarkerKind::Failover)
        .mark(Span::from_millis(14_990), MarkerKind::Failback)
        .analyse();
    assert_eq!(marked(&grey.transitions), [Some(MarkerKind::Failover)]);
    let [Note::UnfollowedMarker(note)] = grey.notes.as_slice() else {
        panic!("{:?}", grey.notes)
    };
    assert_eq!(note.within, Some(utc_at(INTERVAL, 1000)));
    assert_eq!(note.ended, Some(utc_at(INTERVAL, 1500)));
}
