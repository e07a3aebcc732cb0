use super::{Batch, MAX_LONG_ROWS, MAX_ROWS, Recorder};
use hopgap_proto::record::{
    BlockBody, Event, EventKind, FlowIndex, Hop, HopReply, HopReplyKind, Probe, ProbeFate, RunId,
    Stamp, StampSource, Trace,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

fn at(seconds: i64) -> ClockPair {
    ClockPair {
        mono: Mono::ZERO + Span::from_secs(seconds),
        wall: Wall::ZERO + Span::from_secs(1_000 + seconds),
    }
}

fn recorder() -> Recorder {
    Recorder::new("onprem".parse().unwrap(), RunId(7), Span::from_secs(10))
}

fn probes(count: u32) -> Batch {
    let probe = |seq| Probe {
        flow: FlowIndex(0),
        seq: Seq(seq),
        sent: Stamp {
            at: Mono::ZERO,
            source: StampSource::Kernel,
        },
        fate: ProbeFate::Unanswered,
    };
    Batch {
        probes: (0..count).map(probe).collect(),
        ..Batch::of("out".parse().unwrap())
    }
}

#[test]
fn a_block_closes_with_age_and_keeps_every_record() {
    let mut recorder = recorder();
    assert!(recorder.push(probes(5), at(0)).is_empty());
    assert!(recorder.push(probes(5), at(9)).is_empty());
    assert!(recorder.close_due(at(9)).is_empty());
    let blocks = recorder.close_due(at(10));
    assert_eq!(blocks.len(), 1);
    assert!(matches!(&blocks[0].body, BlockBody::Probes(p) if p.len() == 10));
    assert!(recorder.close_all(at(11)).is_empty());
}

#[test]
fn a_full_block_closes_at_once() {
    let blocks = recorder().push(probes(u32::try_from(MAX_ROWS).unwrap()), at(0));
    assert_eq!(blocks.len(), 1);
}

#[test]
fn a_block_of_long_rows_closes_before_it_is_too_large_for_a_frame() {
    let hop = |ttl| Hop {
        ttl,
        sent: 3,
        replies: (0..3)
            .map(|i| HopReply {
                from: std::net::Ipv6Addr::new(0xfd00, i, 2, 3, 4, 5, 6, 7).into(),
                round_trip: Span::from_nanos(i64::MAX / (i64::from(i) + 2)),
                kind: HopReplyKind::TimeExceeded,
            })
            .collect(),
    };
    let trace = Trace {
        flow: FlowIndex(0),
        started: Mono::ZERO,
        finished: Mono::ZERO,
        target: std::net::Ipv6Addr::LOCALHOST.into(),
        hops: (1..=63).map(hop).collect(),
        reached_at: None,
    };
    let batch = Batch {
        traces: vec![trace; MAX_LONG_ROWS],
        ..Batch::of("out".parse().unwrap())
    };
    let blocks = recorder().push(batch, at(0));
    let bytes = blocks[0].encode(Span::from_nanos(1)).unwrap();
    assert!(
        bytes.len() <= hopgap_proto::frame::MAX_PAYLOAD,
        "{}",
        bytes.len()
    );
}

#[test]
fn kinds_and_sessions_keep_apart_and_numbers_do_not_repeat() {
    let mut recorder = recorder();
    let mut batch = probes(1);
    batch.events.push(Event {
        at: Mono::ZERO,
        kind: EventKind::SessionStarted,
    });
    recorder.push(batch, at(0));
    recorder.push(
        Batch {
            probes: probes(1).probes,
            ..Batch::of("back".parse().unwrap())
        },
        at(0),
    );
    let blocks = recorder.close_all(at(1));
    let mut numbers: Vec<u64> = blocks.iter().map(|b| b.header.key.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
}
