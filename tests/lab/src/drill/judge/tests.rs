use super::paths::readings;
use super::{Judgement, head, judge};
use crate::fault::Fault;
use crate::topology::{SERVER, VM};
use crate::truth::{FlowTruth, Mark, Packet, PathEpoch, TrueOutage, TruePath, Truth};
use crate::tunnel::Tunnel;
use crate::wire::log::Flow;
use hopgap_proto::time::{Mono, Span};
use std::net::SocketAddrV4;

fn mark(seq: u32) -> Mark {
    let enter = Mono::ZERO + Span::from_secs(10) + Span::from_millis(10) * i64::from(seq);
    Mark {
        seq,
        echo: None,
        enter,
    }
}

fn epoch(path: TruePath, first: u32, last: u32) -> PathEpoch {
    PathEpoch {
        path,
        first: mark(first),
        last: mark(last),
        packets: last - first + 1,
    }
}

/// One flow that lost probes 100 to 149 and went from the primary circuit to the VPN.
pub(super) fn truth() -> Truth {
    let flow = Flow {
        source: SocketAddrV4::new(SERVER, 50_000),
        destination: SocketAddrV4::new(VM, 862),
        ssid: 1,
    };
    let packet = |seq: u32| Packet {
        mark: mark(seq),
        exit: (!(100..150).contains(&seq)).then(|| mark(seq).enter + Span::from_millis(4)),
        path: (seq >= 150).then_some(TruePath::Vpn),
        duplicates: 0,
    };
    let truth = FlowTruth {
        flow,
        packets: (0..300).map(packet).collect(),
        undecided: 0,
        outages: vec![TrueOutage {
            last_good: Some(mark(99)),
            first_lost: mark(100),
            last_lost: mark(149),
            first_good: Some(mark(150)),
            lost: 50,
        }],
        paths: vec![
            epoch(TruePath::ExpressroutePrimary, 0, 99),
            epoch(TruePath::Vpn, 150, 299),
        ],
    };
    Truth {
        flows: [(flow, truth)].into(),
        complete: true,
        ..Truth::default()
    }
}

/// What a right report says of it, with `outages` and `paths` as given.
fn judged(name: &str, outages: &str, paths: &str) -> Judgement {
    judged_with(name, outages, paths, ("", 1450))
}

/// With latencies and the VPN's path MTU.
fn judged_with(
    name: &str,
    outages: &str,
    paths: &str,
    (latency, vpn_mtu): (&str, u16),
) -> Judgement {
    judged_counted(name, outages, paths, (latency, vpn_mtu), (50, 0, &truth()))
}

/// With so many counted as lost on the way out and of unknown direction, held against
/// this truth.
fn judged_counted(
    name: &str,
    outages: &str,
    paths: &str,
    (latency, vpn_mtu): (&str, u16),
    (lost, unknown, truth): (u64, u64, &Truth),
) -> Judgement {
    let counts = format!(r#"{{"lost_forward":{lost},"lost_reverse":0,"lost_unknown":{unknown}}}"#);
    let dir = std::env::temp_dir().join(format!("hopgap-judge-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let report = format!(
        r#"{{"findings":{{"verdict":{{"result":"undecided"}},"coverage":{{"directions":[
            {{"from":"onprem","to":"azure","asked_ns":60000000000,"seen_ns":2990000000}},
            {{"from":"azure","to":"onprem","asked_ns":60000000000,"seen_ns":0}}]}},
            "transitions":[],"sessions":[{{"session":"onprem-azure","latency":[{latency}],
            "path_mtu":[{{"forward":"expressroute-primary","reverse":"expressroute-primary","bytes":1500}},
            {{"forward":"vpn","reverse":"vpn","bytes":{vpn_mtu}}}],"flows":[{{
            "source_port":50000,"counts":{counts},"outages":[{outages}],"forward_paths":[{paths}],"reverse_paths":[]}}]}}]}}}}"#
    );
    std::fs::write(dir.join("report.json"), report).unwrap();
    let window = (Mono::ZERO, Mono::ZERO + Span::from_secs(60));
    let judgement = judge((Fault::Blackhole, Tunnel::Vxlan), truth, window, &dir).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    judgement
}

fn outage(first: u32, last: u32, least_ms: i64, most_ms: i64) -> String {
    format!(
        r#"{{"direction":"forward","first_lost":{{"seq":{first}}},"last_lost":{{"seq":{last}}},
            "at_least_ns":{least_ms}000000,"at_most_ns":{most_ms}000000,"lost":{},"loss_periods":[{{}}]}}"#,
        last - first + 1
    )
}

fn path(name: &str, hop: u8, first: u32, last: u32) -> String {
    format!(
        r#"{{"path":"{name}","target_at_hop":{hop},"first":{{"seq":{first}}},"last":{{"seq":{last}}}}}"#
    )
}

fn right_paths() -> String {
    [
        path("expressroute-primary", 5, 0, 99),
        path("vpn", 3, 150, 299),
    ]
    .join(",")
}

/// The faults but for the one that a single flow in one direction always has.
fn faults(judgement: &Judgement) -> Vec<&String> {
    judgement
        .faults
        .iter()
        .filter(|f| !f.contains("directions of flows are in the truth"))
        .collect()
}

#[test]
fn a_right_report_has_no_fault() {
    let judgement = judged("right", &outage(100, 149, 490, 510), &right_paths());
    assert_eq!(faults(&judgement), Vec::<&String>::new());
    assert_eq!((judgement.true_outages, judgement.changes), (1, 1));
}

#[test]
fn every_kind_of_wrong_report_is_found() {
    let right = outage(100, 149, 490, 510);
    let invented = format!("{right},{}", outage(200, 210, 100, 120));
    let cases = [
        ("missed", String::new(), right_paths(), "is not reported"),
        ("invented", invented, right_paths(), "truly 0 were"),
        (
            "shifted",
            outage(99, 149, 500, 520),
            right_paths(),
            "reported as probes 99 to 149",
        ),
        (
            "long",
            outage(100, 149, 600, 700),
            right_paths(),
            "truly it was at most",
        ),
        (
            "short",
            outage(100, 149, 100, 200),
            right_paths(),
            "truly it was at least",
        ),
        (
            "late change",
            right.clone(),
            [
                path("expressroute-primary", 5, 0, 99),
                path("vpn", 3, 151, 299),
            ]
            .join(","),
            "lies between probes 99 and 150",
        ),
        (
            "wrong path",
            right.clone(),
            [
                path("expressroute-secondary", 5, 0, 99),
                path("vpn", 3, 150, 299),
            ]
            .join(","),
            "the paths are reported as",
        ),
        (
            "no change",
            right,
            path("vpn", 3, 0, 299),
            "the paths are reported as",
        ),
    ];
    for (name, outages, paths, expected) in cases {
        let judgement = judged(name, &outages, &paths);
        let found = faults(&judgement);
        assert!(
            found.iter().any(|f| f.contains(expected)),
            "{name}: {found:?}"
        );
        assert!(!judgement.agrees());
    }
}

#[test]
fn a_name_for_both_circuits_is_right_for_each() {
    let paths = [
        path("expressroute-primary or expressroute-secondary", 5, 0, 99),
        path("vpn", 3, 150, 299),
    ];
    let judgement = judged("both", &outage(100, 149, 490, 510), &paths.join(","));
    assert_eq!(faults(&judgement), Vec::<&String>::new());
}

#[test]
fn a_stay_too_short_for_a_traceroute_may_be_seen_or_not() {
    let epochs = [
        epoch(TruePath::Vpn, 0, 99),
        epoch(TruePath::ExpressrouteSecondary, 100, 105),
        epoch(TruePath::ExpressroutePrimary, 106, 900),
    ];
    let refs: Vec<&PathEpoch> = epochs.iter().collect();
    let found = readings(&refs);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], epochs);
    assert_eq!(found[1].len(), 2);
    // The change away from the VPN stays where it was.
    assert_eq!(found[1][1].first.seq, 100);
}

#[test]
fn a_one_way_delay_outside_of_its_bound_is_found() {
    let latency = |p50: i64, one_way: bool| {
        let delay = |ms: i64| format!(r#"{{"count":1000,"p50_ns":{ms}000000}}"#);
        let delays = format!(
            r#"{{"forward":{},"reverse":{},"bound_ns":2000000}}"#,
            delay(p50),
            delay(9)
        );
        format!(
            r#"{{"forward":"vpn","reverse":"vpn","round_trip":{},"one_way":{}}}"#,
            delay(8),
            if one_way { &delays } else { "null" }
        )
    };
    let right = outage(100, 149, 490, 510);
    let judged = |name, latency: &str| judged_with(name, &right, &right_paths(), (latency, 1450));
    // Truly 4 ms out; of the way back the truth has nothing.
    for (p50, agrees) in [(2, true), (6, true), (1, false), (7, false)] {
        let judgement = judged("delay", &latency(p50, true));
        assert_eq!(judgement.delays, 1);
        assert_eq!(
            faults(&judgement).is_empty(),
            agrees,
            "{p50} ms: {judgement:?}"
        );
    }
    let none = judged("none", &latency(4, false));
    assert!(faults(&none)[0].contains("no one-way delay"));
}

#[test]
fn a_wrong_path_mtu_is_found() {
    let right = outage(100, 149, 490, 510);
    for (mtu, agrees) in [(1450, true), (1449, false), (1500, false)] {
        let judgement = judged_with("mtu", &right, &right_paths(), ("", mtu));
        assert_eq!(faults(&judgement).is_empty(), agrees, "{mtu}");
    }
}

#[test]
fn a_page_that_is_cut_says_where_the_rest_is() {
    let lines = |n: usize| "line\n".repeat(n);
    let out = std::path::Path::new("drill-admin-vxlan");
    assert_eq!(head(&lines(60), out).lines().count(), 60);
    assert!(!head(&lines(60), out).contains("more"));
    let cut = head(&lines(61), out);
    assert!(
        cut.ends_with("line\n... 1 more line in drill-admin-vxlan/report.txt"),
        "{cut}"
    );
    assert!(head(&lines(75), out).contains("... 15 more lines in "));
}

#[test]
fn wrong_counts_unknown_directions_and_a_fault_that_did_not_bite_are_found() {
    let right = outage(100, 149, 490, 510);
    let with = |lost: u64, unknown: u64, outages: &str, truth: &Truth| {
        let judgement = judged_counted(
            &format!("counts-{lost}-{unknown}-{}", outages.len()),
            outages,
            &right_paths(),
            ("", 1450),
            (lost, unknown, truth),
        );
        faults(&judgement)
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
            .join("; ")
    };
    let all = truth();
    assert_eq!(with(50, 0, &right, &all), "");
    for lost in [49, 51] {
        let said = with(lost, 0, &right, &all);
        assert!(said.contains("truly 50 to 50 were"), "{said}");
    }
    let said = with(50, 1, &right, &all);
    assert!(said.contains("the direction of 1 lost"), "{said}");
    let unknown = right.replace("forward", "unknown");
    let said = with(50, 0, &format!("{right},{unknown}"), &all);
    assert!(said.contains("direction of the outage"), "{said}");

    let mut quiet = truth();
    for flow in quiet.flows.values_mut() {
        flow.outages.clear();
        flow.packets.retain(|p| p.exit.is_some());
    }
    let said = with(0, 0, "", &quiet);
    assert!(said.contains("did not bite"), "{said}");
}
