//! What each target of records does with its bytes: the frames of spool and
//! uplink, and the blocks in them.

use hopgap_proto::frame::{FrameError, FrameReader, HEADER, append};
use hopgap_proto::record::{Block, BlockBody, ProbeColumns, ProbeFate};

/// Blocks of more rows are read, but not written again: that takes too long.
const ROWS: usize = 4096;

/// A file of the spool, or the body of a delivery.
pub(crate) fn frames(bytes: &[u8]) {
    read_frames(bytes);
    // A fuzzer finds no checksums: behind them there is more to see.
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    read_frames(&mended);
}

fn read_frames(bytes: &[u8]) {
    let mut reader = FrameReader::new(bytes);
    let (mut at, mut kept, mut again) = (0, Vec::new(), Vec::new());
    while let Some(read) = reader.next() {
        let (offset, length) = match &read {
            Ok(frame) => {
                assert_eq!(frame.end(), frame.offset + frame.raw.len());
                (frame.offset, frame.raw.len())
            }
            Err(FrameError::Torn { offset, missing }) => {
                assert!(*missing > 0);
                (*offset, 0)
            }
            Err(
                FrameError::Corrupt { offset, length, .. }
                | FrameError::NewerVersion { offset, length, .. }
                | FrameError::UnknownKind { offset, length, .. },
            ) => (*offset, *length),
        };
        // No byte is skipped or read twice, and it goes on until the end.
        assert_eq!(offset, at);
        at += length;
        assert_eq!(reader.consumed(), at);
        match read {
            Ok(frame) => {
                assert!(append(&mut again, frame.kind, frame.payload).is_ok());
                kept.push((frame.kind, frame.payload));
            }
            Err(FrameError::Torn { .. }) => assert!(reader.next().is_none()),
            Err(_) => assert!(length > 0),
        }
    }
    assert!(at <= bytes.len());
    // Written again, the same frames come out and nothing else.
    let read: Vec<_> = FrameReader::new(&again)
        .map(|frame| frame.map(|frame| (frame.kind, frame.payload)))
        .collect();
    assert_eq!(read, kept.into_iter().map(Ok).collect::<Vec<_>>());
}

/// Gives every header, and every payload that is there, its checksum.
fn mend(bytes: &mut [u8]) {
    for at in 0..bytes.len() {
        let Some((header, rest)) = bytes
            .get_mut(at..)
            .and_then(<[u8]>::split_first_chunk_mut::<HEADER>)
        else {
            break;
        };
        if header[..4] != *b"hgap" {
            continue;
        }
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if let Some(payload) = usize::try_from(length).ok().and_then(|n| rest.get(..n)) {
            header[12..16].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        }
        let crc = crc32fast::hash(&header[..16]);
        header[16..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The payload of a frame: probes, receptions, traces, events or echoes.
pub(crate) fn block(bytes: &[u8]) {
    let summary = Block::peek(bytes);
    let mut columns = ProbeColumns::default();
    let read = columns.read(bytes);
    let Ok(block) = Block::decode(bytes) else {
        return;
    };
    let Ok(summary) = summary else {
        unreachable!("what can be read can be peeked at");
    };
    assert_eq!(block.header, summary.header);
    assert_eq!(block.body.kind(), summary.kind);
    assert_eq!(block.body.rows(), summary.rows);
    // The analysis reads some columns only, and must read the same.
    match &block.body {
        BlockBody::Probes(probes) => {
            assert_eq!(read.as_ref(), Ok(&summary));
            assert_eq!(columns.len(), probes.len());
            for (i, probe) in probes.iter().enumerate() {
                assert_eq!(columns.flow()[i], probe.flow);
                assert_eq!(columns.seq()[i], probe.seq);
            }
        }
        _ => assert!(read.is_err()),
    }
    if summary.rows > ROWS {
        return;
    }
    let Ok(again) = block.encode(summary.unit) else {
        unreachable!("what was read can be written");
    };
    let Ok(again) = Block::decode(&again) else {
        unreachable!("what was written can be read");
    };
    assert_eq!(again.body.rows(), block.body.rows());
    // At the ends of the clock a time is cut off and does not come back alike.
    if in_range(&block.body) {
        assert_eq!(sorted(again), sorted(block));
    }
}

/// The writer sorts probes and receptions; other writers need not.
fn sorted(mut block: Block) -> Block {
    match &mut block.body {
        BlockBody::Probes(rows) => rows.sort(),
        BlockBody::Receptions(rows) => rows.sort(),
        BlockBody::Traces(_) | BlockBody::Events(_) | BlockBody::Echoes(..) => {}
    }
    block
}

fn in_range(body: &BlockBody) -> bool {
    let near = |nanos: i64| nanos.unsigned_abs() < 1 << 62;
    match body {
        BlockBody::Probes(rows) => rows.iter().all(|probe| {
            let reply = match &probe.fate {
                ProbeFate::Answered(reply) => {
                    near(reply.received.at.as_nanos())
                        && near(reply.reflector_received.as_nanos())
                        && near(reply.reflector_sent.as_nanos())
                }
                ProbeFate::Unanswered | ProbeFate::Refused(_) => true,
            };
            reply && near(probe.sent.at.as_nanos())
        }),
        BlockBody::Receptions(rows) => rows.iter().all(|row| near(row.received.at.as_nanos())),
        BlockBody::Traces(_) | BlockBody::Events(_) | BlockBody::Echoes(..) => true,
    }
}
