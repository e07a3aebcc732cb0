use super::Watch;
use hopgap_proto::record::{FlowIndex, Reply, Stamp, StampSource};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span, Wall};

/// The hops of both ends, where replies say these TTLs.
fn hops(forward_ttl: u8, reverse_ttl: u8) -> Option<(u8, u8)> {
    let at = Mono::from_nanos(1_000_000_000);
    let mut watch = Watch::new(1, Span::from_millis(10), at);
    let reply = Reply {
        received: Stamp {
            at,
            source: StampSource::Kernel,
        },
        reflector_received: Wall::ZERO,
        reflector_sent: Wall::ZERO,
        reflector_seq: Seq(0),
        forward_ttl: Some(forward_ttl),
        reverse_ttl: Some(reverse_ttl),
    };
    watch.replied(FlowIndex(0), &reply);
    watch.hops()
}

#[test]
fn hops_are_those_of_the_report() {
    assert_eq!(hops(251, 251), Some((5, 5)));
    // A reflector that replies with another usual TTL.
    assert_eq!(hops(251, 61), Some((5, 4)));
    assert_eq!(hops(251, 126), Some((5, 3)));
    // Not known: no TTL, one that many only copy, and one that was set on the way.
    for (out, back) in [(0, 251), (251, 0), (255, 251), (64, 251), (251, 160)] {
        assert_eq!(hops(out, back), None, "{out} {back}");
    }
}
