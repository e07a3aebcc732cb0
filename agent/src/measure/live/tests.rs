use super::Live;
use crate::recorder::Batch;
use hopgap_proto::record::{FlowIndex, Probe, ProbeFate, Reply, Stamp, StampSource};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

const MS: Span = Span::from_millis(1);
const WALL: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
const FLOWS: u8 = 4;

fn at(ms: i64) -> Mono {
    Mono::from_nanos(5_000_000_000) + MS * ms
}

fn now(ms: i64) -> ClockPair {
    ClockPair {
        mono: at(ms),
        wall: WALL + MS * ms,
    }
}

fn live() -> Live {
    let paths = ["vpn=hop:3", "expressroute=hop:5"].map(|p| p.parse().unwrap());
    Live::new(FLOWS, MS * 10, &paths, at(0))
}

fn probe(flow: u8, ms: i64, fate: ProbeFate) -> Probe {
    Probe {
        flow: FlowIndex(flow),
        seq: Seq(0),
        sent: stamp(ms),
        fate,
    }
}

fn stamp(ms: i64) -> Stamp {
    Stamp {
        at: at(ms),
        source: StampSource::Kernel,
    }
}

fn answered(flow: u8, ms: i64, routers: u8) -> Probe {
    let reply = Reply {
        received: stamp(ms + 2),
        reflector_received: WALL,
        reflector_sent: WALL,
        reflector_seq: Seq(0),
        forward_ttl: Some(255 - routers),
        reverse_ttl: Some(255 - routers),
    };
    probe(flow, ms, ProbeFate::Answered(reply))
}

/// Answers on these flows every 10 ms of a stretch, read every 100 ms; returns the dated
/// lines.
fn run(live: &mut Live, from: i64, to: i64, flows: &[u8], routers: u8) -> Vec<String> {
    let mut said = Vec::new();
    for ms in (from..to).step_by(100) {
        let mut batch = Batch::default();
        for ms in (ms..ms + 100).step_by(10) {
            batch
                .probes
                .extend(flows.iter().map(|f| answered(*f, ms, routers)));
        }
        live.take(&batch);
        said.extend(live.events(now(ms + 100)));
    }
    said
}

const ALL: &[u8] = &[0, 1, 2, 3];

#[test]
fn an_outage_has_a_dated_line_at_each_end_and_the_line_begins_with_it() {
    let mut live = live();
    assert_eq!(run(&mut live, 0, 2_000, ALL, 4), [""; 0]);
    assert!(live.line(at(2_000), 80).starts_with("answered 800"));
    let down = run(&mut live, 2_000, 5_200, &[], 4);
    assert_eq!(down.len(), 1, "{down:?}");
    // 2026-09-21 14:13:20 and two seconds: when the last reply came.
    assert!(
        down[0].ends_with("14:13:21.992 UTC  DOWN: no reply since then"),
        "{down:?}"
    );
    assert!(live.line(at(5_200), 80).starts_with("DOWN 3.2 s  "));
    let up = run(&mut live, 5_200, 6_000, ALL, 4);
    assert_eq!(up.len(), 1, "{up:?}");
    assert!(
        up[0].ends_with("14:13:25.202 UTC  UP after 3.2 s"),
        "{up:?}"
    );
    assert!(live.line(at(6_000), 80).starts_with("answered "));
}

#[test]
fn some_flows_down_are_told_as_some() {
    let mut live = live();
    run(&mut live, 0, 1_000, ALL, 4);
    let down = run(&mut live, 1_000, 3_000, &[0, 2], 4);
    assert_eq!(down.len(), 1, "{down:?}");
    assert!(down[0].contains("DOWN on 2 of 4 flows: "), "{down:?}");
    let line = live.line(at(3_000), 80);
    assert!(line.starts_with("DOWN 2.0 s on 2 of 4 flows"), "{line}");
    // One comes back much before the other.
    let one = run(&mut live, 3_000, 4_000, &[0, 1, 2], 4);
    assert_eq!(one.len(), 1, "{one:?}");
    assert!(one[0].contains("UP on 1 of 4 flows after 2.0 s"), "{one:?}");
    assert!(live.line(at(4_000), 80).starts_with("DOWN 3.0 s on 1 of 4"));
    let other = run(&mut live, 4_000, 5_000, ALL, 4);
    assert!(
        other[0].contains("UP on 1 of 4 flows after 3.0 s"),
        "{other:?}"
    );
}

#[test]
fn a_change_of_path_is_told_once_for_all_flows_and_by_its_names() {
    let mut live = live();
    run(&mut live, 0, 1_000, ALL, 4);
    let said = run(&mut live, 1_000, 3_000, ALL, 2);
    assert_eq!(said.len(), 2, "{said:?}");
    for (line, way) in said.iter().zip(["out", "back"]) {
        let expected = format!("PATH {way}: expressroute (hop 5) -> vpn (hop 3)");
        assert!(line.ends_with(&expected), "{line}");
        assert!(line.contains("14:13:21.002 UTC"), "{line}");
    }
}

#[test]
fn a_host_that_stood_still_has_seen_no_outage() {
    let mut live = live();
    run(&mut live, 0, 1_000, ALL, 4);
    // Stopped for 30 s: what came meanwhile is read a moment later.
    assert_eq!(live.events(now(31_000)), [""; 0]);
    assert_eq!(run(&mut live, 31_000, 33_000, ALL, 4), [""; 0]);
    // Where nothing comes afterwards, it is one.
    assert_eq!(run(&mut live, 33_000, 35_000, &[], 4).len(), 1);
}

#[test]
fn a_far_end_that_never_answers_is_down_from_the_start() {
    let mut live = live();
    assert!(live.line(at(100), 80).ends_with("no reply yet"));
    let said = run(&mut live, 0, 3_000, &[], 4);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("14:13:20.000 UTC  DOWN"), "{said:?}");
}

#[test]
fn the_line_fits_every_width_and_says_the_outage_first() {
    for width in 40..=200 {
        let mut live = live();
        run(&mut live, 0, 2_000, ALL, 4);
        (live.answered, live.unanswered, live.refused) = (1_234_567_890, 98_765_432, 7_654_321);
        let healthy = live.line(at(2_000), width);
        assert!(healthy.chars().count() < width, "{width}: {healthy}");
        run(&mut live, 2_000, 5_200, &[], 4);
        let down = live.line(at(5_200), width);
        assert!(down.chars().count() < width, "{width}: {down}");
        assert!(down.starts_with("DOWN 3.2 s"), "{width}: {down}");
        // An outage of a part of the flows, of hours, is no longer.
        let mut partly = super::tests::live();
        run(&mut partly, 0, 1_000, ALL, 4);
        run(&mut partly, 1_000, 3_000, &[0], 4);
        let long = partly.line(at(9_000_000), width);
        assert!(long.chars().count() < width, "{width}: {long}");
        assert!(long.starts_with("DOWN 2 h 29 min on 3"), "{width}: {long}");
    }
    let mut live = live();
    run(&mut live, 0, 2_000, ALL, 4);
    let wide = live.line(at(2_000), 120);
    assert!(
        wide.contains("rtt p50 2.0")
            && wide.ends_with("out expressroute (hop 5) back expressroute (hop 5)"),
        "{wide}"
    );
}
