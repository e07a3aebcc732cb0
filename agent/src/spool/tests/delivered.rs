//! Blocks that the collector has never count as lost, whatever happens to the spool.

use super::disks::{at, closed, wall};
use super::simulated::SimulatedDisk;
use super::{Folder, block, blocks, drain, fill, lost, payloads, small};
use crate::spool::{Lost, Spool, SpoolOptions};
use hopgap_proto::time::Span;

/// Room for about 16 blocks.
fn narrow() -> SpoolOptions {
    SpoolOptions {
        max_bytes: 1_000,
        ..small()
    }
}

#[test]
fn a_batch_whose_segment_is_dropped_while_it_is_delivered_is_not_lost() {
    let folder = Folder::new();
    let mut spool = folder.open(narrow());
    fill(&mut spool, 0..3);
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    assert_eq!(payloads(&batch), blocks(0..3));
    fill(&mut spool, 3..100);
    spool.acknowledge(batch.cursor_after(180));
    let gone = lost(&mut spool);
    let kept = drain(&mut spool, 1 << 20);
    assert_eq!(kept.last(), Some(&block(99)));
    assert_eq!(3 + gone as usize + kept.len(), 100);
}

#[test]
fn what_the_collector_did_not_take_of_a_dropped_batch_is_lost() {
    let folder = Folder::new();
    let mut spool = folder.open(narrow());
    fill(&mut spool, 0..3);
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    fill(&mut spool, 3..100);
    let others = lost(&mut spool);
    // One of three.
    spool.acknowledge(batch.cursor_after(60));
    assert_eq!(lost(&mut spool), 2);
    assert_eq!(
        1 + 2 + others as usize + drain(&mut spool, 1 << 20).len(),
        100
    );

    // Nothing at all: the connection broke.
    let folder = Folder::new();
    let mut spool = folder.open(narrow());
    fill(&mut spool, 0..3);
    spool.next_batch(1 << 20).unwrap().unwrap();
    fill(&mut spool, 3..100);
    let kept = drain(&mut spool, 1 << 20).len();
    assert_eq!(lost(&mut spool) as usize + kept, 100);
}

#[test]
fn an_agent_killed_before_it_knows_tells_the_loss() {
    let disk = SimulatedDisk::new();
    let open = || Spool::open_on(Box::new(disk.clone()), narrow()).unwrap();
    let mut spool = open();
    for seconds in 0..3 {
        spool.append(&closed(seconds), at(0)).unwrap();
    }
    spool.next_batch(1 << 20).unwrap().unwrap();
    for seconds in 3..40 {
        spool.append(&closed(seconds), at(0)).unwrap();
    }
    spool.take_lost();
    spool.lost_is_told();
    drop(spool);
    let expected = Lost {
        blocks: 3,
        from: Some(wall(0)),
        to: wall(2),
    };
    assert_eq!(open().take_lost(), [expected]);
}

#[test]
fn what_is_lost_is_younger_than_what_the_collector_has_also_after_a_restart() {
    let disk = SimulatedDisk::new();
    let options = SpoolOptions {
        segment_bytes: 400,
        ..SpoolOptions::default()
    };
    let open = || Spool::open_on(Box::new(disk.clone()), options.clone()).unwrap();
    let mut spool = open();
    let mut seconds = 10;
    while spool.segments.len() < 3 {
        spool.append(&closed(seconds), at(0)).unwrap();
        seconds += 1;
    }
    spool.sync_at_end();
    // Segment 1 is delivered and removed: no file is left that says when it was written.
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    let last = wall(9 + i64::try_from(batch.frames()).unwrap());
    spool.acknowledge(batch.cursor_after(u64::MAX));
    assert_eq!(spool.segments.first().map(|s| s.number), Some(2));
    drop(spool);

    // The first frame of segment 2 is damaged.
    disk.tamper("0000000000000002.seg", |bytes| bytes[40] ^= 1);
    let mut spool = open();
    drain(&mut spool, 1 << 20);
    let told = spool.take_lost();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].from, Some(last));
    assert_eq!(told[0].to, last + Span::from_secs(2));
}
