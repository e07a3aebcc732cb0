use super::lines;
use hopgap_proto::record::{FlowIndex, Hop, HopReply, HopReplyKind, Trace};
use hopgap_proto::time::{Mono, Span};
use std::net::{IpAddr, SocketAddr};

const MS: Span = Span::from_millis(1);

/// A trace to `target`, hop by hop: who answered and how.
fn trace(target: &str, hops: &[(&str, HopReplyKind)]) -> (Trace, SocketAddr) {
    let target: IpAddr = target.parse().unwrap();
    let hops: Vec<Hop> = (1..)
        .zip(hops)
        .map(|(ttl, (from, kind))| Hop {
            ttl,
            sent: 1,
            replies: vec![HopReply {
                from: from.parse().unwrap(),
                round_trip: MS,
                kind: *kind,
            }],
        })
        .collect();
    let last = hops.last().unwrap();
    let reached = last.replies[0].from == target;
    let trace = Trace {
        flow: FlowIndex(0),
        started: Mono::from_nanos(0),
        finished: Mono::from_nanos(0) + MS,
        target,
        reached_at: reached.then_some(last.ttl),
        hops,
    };
    (trace, SocketAddr::new(target, 862))
}

fn told(target: &str, hops: &[(&str, HopReplyKind)]) -> String {
    let (trace, destination) = trace(target, hops);
    lines(&trace, 50_000, destination)
}

#[test]
fn a_closed_port_is_reached_in_both_families() {
    use HopReplyKind::{TimeExceeded, Unreachable};
    for (router, target, code) in [("10.0.0.2", "10.0.1.2", 3), ("fd00::2", "fd00:1::2", 4)] {
        let said = told(
            target,
            &[(router, TimeExceeded), (target, Unreachable(code))],
        );
        assert!(
            said.contains("(reached, nothing listens on the port)"),
            "{said}"
        );
        assert!(!said.contains("did not answer"), "{said}");
    }
    let said = told("fd00:1::2", &[("fd00:1::2", Unreachable(1))]);
    assert!(
        said.contains("(reached: administratively prohibited)"),
        "{said}"
    );
}

#[test]
fn a_refusal_on_the_way_is_told_by_its_name() {
    use HopReplyKind::{TimeExceeded, Unreachable};
    for (target, router, code, name) in [
        ("10.0.1.2", "10.0.0.2", 1, "host unreachable"),
        (
            "10.0.1.2",
            "10.0.0.2",
            13,
            "communication administratively prohibited",
        ),
        ("fd00:1::2", "fd00::2", 0, "no route to destination"),
        ("fd00:1::2", "fd00::2", 6, "reject route to destination"),
    ] {
        let said = told(
            target,
            &[(router, TimeExceeded), (router, Unreachable(code))],
        );
        assert!(said.contains(&format!("({name})")), "{said}");
        let end = format!("{router} passes nothing on to the target: {name}\n");
        assert!(said.ends_with(&end), "{said}");
    }
}
