use super::synthetic::{Stretch, Synthetic};
use super::*;
use crate::record::{
    EventKind, FlowIndex, Hop, HopReply, HopReplyKind, ProbeFate, Reply, Stamp, StampSource,
};
use crate::stamp::Seq;
use crate::time::{Mono, Wall};
use proptest::prelude::*;

const UNIT: Span = Span::from_nanos(100);

fn header() -> BlockHeader {
    BlockHeader {
        key: BlockKey {
            agent: "onprem".parse().unwrap(),
            run: RunId(7),
            number: 3,
        },
        session: Some("onprem-azure".parse().unwrap()),
        closed: ClockPair {
            mono: Mono::from_nanos(10_000_000_000),
            wall: Wall::from_nanos(1_790_000_000_000_000_050),
        },
    }
}

fn block(body: BlockBody) -> Block {
    Block {
        header: header(),
        body,
    }
}

fn stretch(flows: u8, rows: u32) -> Stretch {
    Synthetic::new(1, flows, Span::from_millis(1))
        .unwrap()
        .stretch(rows)
}

fn probes(block: &Block) -> &[Probe] {
    match &block.body {
        BlockBody::Probes(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn rounded(nanos: i64, unit: i64) -> i64 {
    (nanos + unit / 2).div_euclid(unit) * unit
}

fn rounded_stamp(stamp: Stamp, unit: i64) -> Stamp {
    Stamp {
        at: Mono::from_nanos(rounded(stamp.at.as_nanos(), unit)),
        ..stamp
    }
}

fn rounded_wall(wall: Wall, unit: i64) -> Wall {
    Wall::from_nanos(rounded(wall.as_nanos(), unit))
}

/// What decoding should give: sorted, and each time rounded for itself.
fn expected(rows: &[Probe], unit: i64) -> Vec<Probe> {
    let mut rows = rows.to_vec();
    rows.sort();
    for row in &mut rows {
        row.sent = rounded_stamp(row.sent, unit);
        if let ProbeFate::Answered(reply) = &mut row.fate {
            reply.received = rounded_stamp(reply.received, unit);
            reply.reflector_received = rounded_wall(reply.reflector_received, unit);
            reply.reflector_sent = rounded_wall(reply.reflector_sent, unit);
        }
    }
    rows
}

#[test]
fn ten_seconds_of_eight_flows_take_five_bytes_a_probe_at_most() {
    let Stretch { probes, receptions } = stretch(8, 10_000);
    let per_row = |block: &Block| {
        let bytes = block.encode(UNIT).unwrap().len();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let per_row = bytes as f64 / block.body.rows() as f64;
        per_row
    };
    let (probe, reception) = (per_row(&probes), per_row(&receptions));
    println!("{probe:.3} bytes a probe, {reception:.3} bytes a reception");
    assert!(probe <= 5.0, "{probe}");
    assert!(reception <= 3.0, "{reception}");
}

#[test]
fn small_blocks_are_small_too() {
    let Stretch { probes, receptions } = stretch(8, 10);
    let (p, r) = (
        probes.encode(UNIT).unwrap(),
        receptions.encode(UNIT).unwrap(),
    );
    println!(
        "80 rows: {} bytes of probes, {} of receptions",
        p.len(),
        r.len()
    );
    assert!(p.len() <= 80 * 8 + 100, "{}", p.len());
    assert!(r.len() <= 80 * 4 + 100, "{}", r.len());
    let one = stretch(1, 1).probes.encode(UNIT).unwrap();
    assert!(one.len() <= 130, "{}", one.len());
}

#[test]
fn a_session_comes_back_sorted_and_rounded() {
    let made = stretch(8, 1500);
    for unit in [1, 100, 1_000, 333] {
        let bytes = made.probes.encode(Span::from_nanos(unit)).unwrap();
        let got = Block::decode(&bytes).unwrap();
        assert_eq!(got.header, made.probes.header);
        assert_eq!(probes(&got), expected(probes(&made.probes), unit));
        // Rounding twice changes nothing.
        assert_eq!(got.encode(Span::from_nanos(unit)).unwrap(), bytes);
    }
    let bytes = made.receptions.encode(Span::from_nanos(1)).unwrap();
    let BlockBody::Receptions(mut rows) = made.receptions.body else {
        panic!("receptions expected");
    };
    rows.sort();
    assert_eq!(
        Block::decode(&bytes).unwrap().body,
        BlockBody::Receptions(rows)
    );
}

#[test]
fn columns_agree_with_rows() {
    let made = stretch(3, 4000);
    let bytes = made.probes.encode(UNIT).unwrap();
    let block = Block::decode(&bytes).unwrap();
    let rows = probes(&block);
    let mut columns = ProbeColumns::default();
    // Earlier content must not show.
    columns
        .read(&stretch(8, 2000).probes.encode(UNIT).unwrap())
        .unwrap();
    let summary = columns.read(&bytes).unwrap();
    assert_eq!(summary, Block::peek(&bytes).unwrap());
    assert_eq!((summary.rows, summary.unit), (rows.len(), UNIT));
    assert_eq!(columns.len(), rows.len());
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(columns.flow()[i], row.flow);
        assert_eq!(columns.seq()[i], row.seq);
        assert_eq!(columns.sent()[i], row.sent.at);
        assert_eq!(columns.fate()[i], FateKind::of(row.fate));
        assert_eq!(
            columns.round_trip()[i],
            row.round_trip().unwrap_or_default()
        );
        let waited = match row.fate {
            ProbeFate::Answered(reply) => reply.received.at - row.sent.at,
            _ => Span::ZERO,
        };
        assert_eq!(columns.waited()[i], waited);
    }
    assert!(rows.iter().any(|row| row.fate == ProbeFate::Unanswered));
}

#[test]
fn columns_are_of_probes_only() {
    let mut columns = ProbeColumns::default();
    columns
        .read(&stretch(1, 9).probes.encode(UNIT).unwrap())
        .unwrap();
    let receptions = stretch(1, 9).receptions.encode(UNIT).unwrap();
    assert_eq!(columns.read(&receptions), Err(BlockError::NoProbes));
    assert!(columns.is_empty() && columns.sent().is_empty());
}

#[test]
fn other_kinds_keep_every_nanosecond() {
    let target = "192.168.11.18".parse().unwrap();
    let bodies = [
        BlockBody::Traces(vec![Trace {
            flow: FlowIndex(3),
            started: Mono::from_nanos(1),
            finished: Mono::from_nanos(12_345),
            target,
            hops: vec![
                Hop {
                    ttl: 1,
                    sent: 1,
                    replies: vec![HopReply {
                        from: target,
                        round_trip: Span::from_nanos(77),
                        kind: HopReplyKind::Unreachable(3),
                    }],
                },
                Hop {
                    ttl: 2,
                    sent: 1,
                    replies: vec![],
                },
            ],
            reached_at: None,
        }]),
        BlockBody::Events(vec![
            Event {
                at: Mono::from_nanos(-5),
                kind: EventKind::RecordsLost { blocks: 9 },
            },
            Event {
                at: Mono::from_nanos(-4),
                kind: EventKind::BlocksLost {
                    blocks: 3,
                    from: None,
                    to: Wall::from_nanos(7),
                },
            },
        ]),
        BlockBody::Echoes(
            "msee-1".parse().unwrap(),
            vec![Echo {
                seq: 65_535,
                sent: Stamp {
                    at: Mono::from_nanos(123),
                    source: StampSource::User,
                },
                round_trip: Some(Span::from_nanos(1)),
            }],
        ),
        BlockBody::Events(vec![]),
        BlockBody::Probes(vec![]),
        BlockBody::Receptions(vec![]),
    ];
    for body in bodies {
        let block = block(body);
        let bytes = block.encode(Span::from_millis(1)).unwrap();
        assert_eq!(Block::decode(&bytes), Ok(block));
    }
}

#[test]
fn a_newer_version_is_told_so() {
    let mut bytes = stretch(1, 1).probes.encode(UNIT).unwrap();
    bytes[0] = BLOCK_VERSION + 1;
    assert_eq!(
        Block::decode(&bytes),
        Err(BlockError::NewerVersion {
            version: BLOCK_VERSION + 1
        })
    );
}

/// Three receptions as version 1 wrote them: no departures.
const OLD_RECEPTIONS: [u8; 78] = [
    1, 6, 111, 110, 112, 114, 101, 109, 7, 3, 1, 12, 111, 110, 112, 114, 101, 109, 45, 97, 122,
    117, 114, 101, 128, 144, 223, 192, 74, 228, 128, 152, 191, 132, 225, 173, 215, 49, 100, 1, 3,
    128, 128, 128, 241, 4, 1, 1, 3, 3, 162, 156, 1, 3, 3, 0, 1, 4, 3, 3, 1, 2, 28, 0, 1, 2, 248, 3,
    3, 3, 0, 1, 5, 3, 3, 5, 2, 2,
];

#[test]
fn receptions_of_the_first_version_are_read_and_have_no_departures() {
    let row = |seq: u32, at: i64, reply: Option<u32>| Reception {
        flow: FlowIndex(1),
        seq: Seq(seq),
        received: Stamp {
            at: Mono::from_nanos(at),
            source: StampSource::Kernel,
        },
        ttl: Some(251),
        reflector_seq: reply.map(Seq),
        departed: None,
        refused: None,
    };
    let rows = vec![
        row(3, 1_000_000, Some(2)),
        row(4, 2_000_300, None),
        row(6, 4_000_100, Some(3)),
    ];
    let read = Block::decode(&OLD_RECEPTIONS).unwrap();
    assert_eq!(read, block(BlockBody::Receptions(rows)));
    // Version 1 has no code for a refused reply; a version 2 block needs the columns that follow.
    let mut newer = OLD_RECEPTIONS;
    newer[0] = 2;
    assert!(Block::decode(&newer).is_err());
}

#[test]
fn what_an_older_collector_can_read_is_written_for_it() {
    let made = stretch(1, 3);
    assert_eq!(made.probes.encode(UNIT).unwrap()[0], 1);
    assert_eq!(made.receptions.encode(UNIT).unwrap()[0], 2);
}

#[test]
fn a_departure_and_a_refusal_come_back() {
    let row = |seq: u32, departed: Option<Stamp>, refused: Option<i32>| Reception {
        flow: FlowIndex(0),
        seq: Seq(seq),
        received: Stamp {
            at: Mono::from_nanos(5_000),
            source: StampSource::Kernel,
        },
        ttl: None,
        reflector_seq: (departed.is_some() && refused.is_none()).then_some(Seq(seq)),
        departed,
        refused,
    };
    let left = |at, source| {
        Some(Stamp {
            at: Mono::from_nanos(at),
            source,
        })
    };
    let rows = vec![
        row(0, left(9_000, StampSource::Kernel), None),
        row(1, left(30_000_005_000, StampSource::User), None),
        row(2, left(6_000, StampSource::User), Some(101)),
        row(3, None, None),
    ];
    assert_eq!(rows[1].residence(), Some(Span::from_secs(30)));
    assert_eq!(rows[3].residence(), None);
    let made = block(BlockBody::Receptions(rows));
    assert_eq!(Block::decode(&made.encode(UNIT).unwrap()), Ok(made));
}

#[test]
fn units_out_of_range_are_refused() {
    for nanos in [0, -1, 1_000_000_001, i64::MAX] {
        let unit = Span::from_nanos(nanos);
        assert_eq!(
            stretch(1, 1).probes.encode(unit),
            Err(BlockError::Unit(unit))
        );
    }
}

#[test]
fn more_rows_than_a_block_may_have_are_refused_on_both_sides() {
    let row = Event {
        at: Mono::ZERO,
        kind: EventKind::SessionStarted,
    };
    let rows = MAX_ROWS + 1;
    let large = block(BlockBody::Events(vec![row; rows]));
    assert_eq!(large.encode(UNIT), Err(BlockError::TooManyRows { rows }));
    let prelude = Prelude {
        header: header(),
        unit_ns: 100,
        kind: BlockKind::Probes,
        rows: u32::MAX,
    };
    let bytes = [
        vec![BLOCK_VERSION],
        postcard::to_allocvec(&prelude).unwrap(),
    ]
    .concat();
    assert_eq!(
        Block::decode(&bytes),
        Err(BlockError::TooManyRows {
            rows: usize::try_from(u32::MAX).unwrap()
        })
    );
}

#[test]
fn no_cut_and_no_excess_is_a_block() {
    let bytes = stretch(2, 40).probes.encode(UNIT).unwrap();
    for cut in 0..bytes.len() {
        assert!(Block::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Block::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn every_single_bit_flip_is_survived() {
    let bytes = stretch(2, 600).probes.encode(UNIT).unwrap();
    let mut columns = ProbeColumns::default();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let decoded = Block::decode(&bytes);
            let read = columns.read(&bytes);
            if let (Ok(block), Ok(summary)) = (decoded, read) {
                assert_eq!(block.body.rows(), summary.rows);
            }
        }
    }
}

fn stamp() -> impl Strategy<Value = Stamp> {
    let source = prop_oneof![
        Just(StampSource::Kernel),
        Just(StampSource::Hardware),
        Just(StampSource::User)
    ];
    let at = prop_oneof![
        0i64..10_000_000_000,
        Just(i64::MIN),
        Just(i64::MAX),
        any::<i64>()
    ];
    (at, source).prop_map(|(at, source)| Stamp {
        at: Mono::from_nanos(at),
        source,
    })
}

fn fate() -> impl Strategy<Value = ProbeFate> {
    let reply = (
        stamp(),
        any::<i64>(),
        any::<i64>(),
        any::<u32>(),
        any::<Option<u8>>(),
        any::<Option<u8>>(),
    )
        .prop_map(|(received, t2, t3, seq, forward_ttl, reverse_ttl)| {
            ProbeFate::Answered(Reply {
                received,
                reflector_received: Wall::from_nanos(t2),
                reflector_sent: Wall::from_nanos(t3),
                reflector_seq: Seq(seq),
                forward_ttl,
                reverse_ttl,
            })
        });
    prop_oneof![
        3 => reply,
        1 => Just(ProbeFate::Unanswered),
        1 => any::<i32>().prop_map(ProbeFate::Refused),
    ]
}

fn probe() -> impl Strategy<Value = Probe> {
    let seq = prop_oneof![0u32..50, any::<u32>(), Just(u32::MAX)];
    (any::<u8>(), seq, stamp(), fate()).prop_map(|(flow, seq, sent, fate)| Probe {
        flow: FlowIndex(flow),
        seq: Seq(seq),
        sent,
        fate,
    })
}

fn reception() -> impl Strategy<Value = Reception> {
    (
        0u8..4,
        any::<u32>(),
        stamp(),
        any::<Option<u8>>(),
        any::<Option<u32>>(),
        proptest::option::of(stamp()),
        proptest::option::weighted(0.2, any::<i32>()),
    )
        .prop_map(
            |(flow, seq, received, ttl, reply, departed, refused)| Reception {
                flow: FlowIndex(flow),
                seq: Seq(seq),
                received,
                ttl,
                // A refused reply has no number.
                reflector_seq: reply.map(Seq).filter(|_| refused.is_none()),
                departed,
                refused,
            },
        )
}

proptest! {
    /// Nothing is lost at one nanosecond, however strange the rows are.
    #[test]
    fn any_probes_come_back(rows in proptest::collection::vec(probe(), 0..60)) {
        let bytes = block(BlockBody::Probes(rows.clone())).encode(Span::from_nanos(1)).unwrap();
        let mut sorted = rows;
        sorted.sort();
        prop_assert_eq!(Block::decode(&bytes).unwrap().body, BlockBody::Probes(sorted));
    }

    #[test]
    fn any_receptions_come_back(rows in proptest::collection::vec(reception(), 0..60)) {
        let bytes = block(BlockBody::Receptions(rows.clone())).encode(Span::from_nanos(1)).unwrap();
        let mut sorted = rows;
        sorted.sort();
        prop_assert_eq!(Block::decode(&bytes).unwrap().body, BlockBody::Receptions(sorted));
    }

    #[test]
    fn no_time_is_off_by_more_than_half_a_unit(
        rows in proptest::collection::vec(probe(), 1..40),
        unit in 1i64..1_000_000_000,
    ) {
        let bytes = block(BlockBody::Probes(rows.clone())).encode(Span::from_nanos(unit)).unwrap();
        let got = Block::decode(&bytes).unwrap();
        let mut sorted = rows;
        sorted.sort();
        let near = |a: i64, b: i64| i128::from(a.abs_diff(b)) * 2 <= i128::from(unit);
        for (a, b) in sorted.iter().zip(probes(&got)) {
            prop_assert!(near(a.sent.at.as_nanos(), b.sent.at.as_nanos()));
            if let (ProbeFate::Answered(a), ProbeFate::Answered(b)) = (a.fate, b.fate) {
                prop_assert!(near(a.received.at.as_nanos(), b.received.at.as_nanos()));
                prop_assert!(near(a.reflector_sent.as_nanos(), b.reflector_sent.as_nanos()));
                prop_assert!(near(a.reflector_received.as_nanos(), b.reflector_received.as_nanos()));
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), real: bool) {
        if real {
            // Past the prelude, where the columns are.
            let good = stretch(1, 1).probes.encode(UNIT).unwrap();
            bytes.splice(0..0, good[..60].iter().copied());
        }
        let _ = Block::decode(&bytes);
        let _ = ProbeColumns::default().read(&bytes);
    }
}

/// The size that a few bytes may decode to is known before anything is allocated.
#[test]
fn what_decoding_takes_is_known_before() {
    let made = stretch(8, 4_000);
    for block in [&made.probes, &made.receptions] {
        let bytes = block.encode(UNIT).unwrap();
        let summary = Block::peek(&bytes).unwrap();
        let least = match &Block::decode(&bytes).unwrap().body {
            BlockBody::Probes(rows) => size_of_val(rows.as_slice()),
            BlockBody::Receptions(rows) => size_of_val(rows.as_slice()),
            other => panic!("{other:?}"),
        };
        let most = summary.decoded_bytes(bytes.len());
        assert!((least..least * 4).contains(&most), "{least} {most}");
    }
    // A constant column costs a byte, however many rows it has.
    let sent = |i: u32| Reception {
        flow: FlowIndex(0),
        seq: Seq(i),
        received: Stamp {
            at: Mono::from_nanos(i64::from(i) * 1_000),
            source: StampSource::Kernel,
        },
        ttl: None,
        reflector_seq: None,
        departed: None,
        refused: None,
    };
    let rows = (0..u32::try_from(MAX_ROWS).unwrap()).map(sent).collect();
    let bytes = block(BlockBody::Receptions(rows)).encode(UNIT).unwrap();
    assert!(bytes.len() < 120, "{}", bytes.len());
    let summary = Block::peek(&bytes).unwrap();
    assert!(summary.decoded_bytes(bytes.len()) > MAX_ROWS * size_of::<Reception>());
    // Traces hold more than their rows.
    let hops = (1..=200)
        .map(|ttl| Hop {
            ttl,
            sent: 0,
            replies: Vec::new(),
        })
        .collect();
    let traces = block(BlockBody::Traces(vec![Trace {
        flow: FlowIndex(0),
        started: Mono::ZERO,
        finished: Mono::ZERO,
        target: "10.0.0.1".parse().unwrap(),
        hops,
        reached_at: None,
    }]));
    let bytes = traces.encode(UNIT).unwrap();
    let summary = Block::peek(&bytes).unwrap();
    assert!(summary.decoded_bytes(bytes.len()) > 200 * size_of::<Hop>());
}

#[test]
fn more_rows_than_were_announced_are_not_made() {
    let events = |n| {
        let event = Event {
            at: Mono::ZERO,
            kind: EventKind::SessionStarted,
        };
        block(BlockBody::Events(vec![event; n]))
    };
    let good = events(3).encode(UNIT).unwrap();
    let mut less = good.clone();
    // The prelude's last byte is the number of rows; the body's first byte repeats it.
    let at = good.len() - 3 * 2 - 2;
    assert_eq!(less[at..at + 2], [3, 3]);
    less[at] = 2;
    assert_eq!(
        Block::decode(&less),
        Err(BlockError::Malformed(
            "it has another number of rows than it states"
        ))
    );
    assert!(Block::decode(&good).is_ok());
}
