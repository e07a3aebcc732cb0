use super::super::{ROOM, Units};
use super::Recording;
use crate::recorder::{Batch, Recorder};
use crate::spool::{Spool, SpoolOptions};
use crate::uplink::{SharedSpool, lock};
use hopgap_net::clock::Clock;
use hopgap_proto::frame::FrameReader;
use hopgap_proto::record::{Block, BlockBody, Event, EventKind, RunId};
use hopgap_proto::time::Span;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("hopgap-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A recording whose blocks are of one record each.
fn started(folder: &Folder, most_waiting: u64) -> (SharedSpool, SyncSender<Batch>, Recording) {
    let spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    let spool = Arc::new(Mutex::new(spool));
    let recorder = Recorder::new("a".parse().unwrap(), RunId(1), Span::ZERO);
    let (records, batches) = sync_channel(ROOM);
    let recording = Recording::start(
        recorder,
        (records.clone(), batches),
        Arc::clone(&spool),
        most_waiting,
        Units::default(),
    );
    (spool, records, recording.unwrap())
}

fn event() -> Batch {
    let at = Clock::now();
    Batch {
        events: vec![Event {
            at,
            kind: EventKind::RecordsLost { blocks: 1 },
        }],
        ..Batch::default()
    }
}

/// All events in the spool, in order.
fn spooled(spool: &SharedSpool) -> Vec<EventKind> {
    let mut events = Vec::new();
    let mut spool = lock(spool);
    while let Some(batch) = spool.next_batch(1 << 20).unwrap() {
        for frame in FrameReader::new(&batch.bytes) {
            let block = Block::decode(frame.unwrap().payload).unwrap();
            let BlockBody::Events(of_block) = block.body else {
                panic!("only events were recorded: {block:?}")
            };
            events.extend(of_block.into_iter().map(|event| event.kind));
        }
        spool.acknowledge(batch.cursor_after(u64::MAX));
    }
    events
}

#[test]
fn a_disk_that_hangs_costs_no_record() {
    let folder = Folder::new("hanging");
    let (spool, records, recording) = started(&folder, 4 << 20);
    // A flush holds the spool's lock for as long as the disk hangs.
    let hanging = lock(&spool);
    let many = 2 * ROOM;
    for number in 0..many {
        // A busy machine may run the recorder late, but not for ten seconds.
        let taken = (0..10_000).any(|_| {
            let taken = records.try_send(event()).is_ok();
            if !taken {
                std::thread::sleep(Duration::from_millis(1));
            }
            taken
        });
        assert!(
            taken,
            "the recorder waits for the disk after {number} records"
        );
    }
    drop(hanging);
    drop(records);
    recording.finish();
    let found = spooled(&spool);
    assert_eq!(found.len(), many);
    let recorded = |kind: &EventKind| *kind == EventKind::RecordsLost { blocks: 1 };
    assert!(found.iter().all(recorded), "{found:?}");
}

#[test]
fn what_finds_no_room_is_told() {
    let folder = Folder::new("no-room");
    let (spool, records, recording) = started(&folder, 1_000);
    let begin = Clock::pair().wall;
    let hanging = lock(&spool);
    for _ in 0..200 {
        records.send(event()).unwrap();
    }
    drop(records);
    // The recorder comes to its end while the disk hangs.
    let Recording {
        records,
        recorder,
        spooler,
    } = recording;
    drop(records);
    recorder.join().unwrap();
    drop(hanging);
    spooler.join().unwrap();
    let found = spooled(&spool);
    let told: Vec<_> = found
        .iter()
        .filter_map(|kind| match kind {
            EventKind::BlocksLost { blocks, from, to } => Some((*blocks, *from, *to)),
            _ => None,
        })
        .collect();
    let [(blocks, Some(from), to)] = told[..] else {
        panic!("one stretch is told, with its beginning: {told:?}")
    };
    let recorded = found.len() - told.len();
    assert_eq!(recorded + blocks as usize, 200, "{found:?}");
    assert!(recorded > 0 && blocks > 0, "{recorded} and {blocks}");
    assert!(begin <= from && from <= to, "{begin:?} {from:?} {to:?}");
}
