use super::flows;
use crate::wire::log::{Entry, Flow, Stamp};
use hopgap_proto::time::{Mono, Span};
use std::net::SocketAddrV4;

fn at(millis: i64) -> Mono {
    Mono::from_nanos(0) + Span::from_millis(millis)
}

fn entry(reply: Option<u32>, seq: u32, enter: i64, exit: Option<i64>) -> (usize, Entry) {
    let (a, b): (SocketAddrV4, SocketAddrV4) = (
        "10.1.0.10:50000".parse().expect("an address"),
        "10.2.0.10:862".parse().expect("an address"),
    );
    let (source, destination) = if reply.is_some() { (b, a) } else { (a, b) };
    let flow = Flow {
        source,
        destination,
        ssid: 1,
    };
    let stamp = Stamp {
        flow,
        seq,
        echo: reply,
        ttl: 255,
    };
    let entry = Entry {
        stamp,
        enter: at(enter),
        exit: exit.map(at),
    };
    (0, entry)
}

#[test]
fn a_probe_has_its_reply_and_each_way_its_fate() {
    let all = vec![
        entry(None, 1, 0, Some(5)),
        entry(Some(1), 0, 6, Some(11)),
        entry(None, 2, 10, Some(15)),
        entry(Some(2), 1, 16, None),
        entry(None, 3, 20, None),
    ];
    let flows = flows(all);
    let probes = &flows[0].probes;
    let fates: Vec<_> = probes.iter().map(|p| (p.lost(0), p.lost(1))).collect();
    assert_eq!(
        fates,
        [
            (Some(false), Some(false)),
            (Some(false), Some(true)),
            (Some(true), None)
        ]
    );
}

#[test]
fn copies_are_one_probe_and_a_number_used_again_is_another() {
    let all = vec![
        entry(None, 1, 0, Some(5)),
        entry(None, 1, 0, Some(5)),
        entry(Some(1), 0, 6, Some(11)),
        entry(Some(1), 1, 6, Some(11)),
        entry(None, 1, 2000, None),
    ];
    let flows = flows(all);
    let probes = &flows[0].probes;
    assert_eq!(probes.len(), 2);
    assert_eq!(probes[0].back.expect("a reply").copies, 1);
    assert_eq!(probes[1].lost(0), Some(true));
}

#[test]
fn a_reply_to_a_translated_address_is_that_probes() {
    let (path, mut reply) = entry(Some(1), 0, 6, Some(11));
    reply.stamp.flow.destination = "100.64.2.1:50000".parse().expect("an address");
    let found = flows(vec![entry(None, 1, 0, Some(5)), (path, reply)]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].side, found[0].probes.len()), (0, 1));
    assert_eq!(found[0].probes[0].lost(1), Some(false));
}
