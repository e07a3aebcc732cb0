mod delivered;
mod disks;
mod model;
pub(crate) mod simulated;

use super::*;
use hopgap_proto::frame::FrameReader;
use proptest::prelude::*;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // In memory where there is such a place: these tests flush thousands of times.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = base.join(format!("hopgap-spool-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn open(&self, options: SpoolOptions) -> Spool {
        Spool::open(&self.0, options).unwrap()
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:016}.seg"))
    }

    /// What was set aside of a segment from this byte on.
    fn quarantine(&self, number: u64, offset: usize) -> io::Result<Vec<u8>> {
        let name = format!("quarantine/{number:016}-{offset:012}.bad");
        std::fs::read(self.0.join(name))
    }

    fn count(&self, extension: &str) -> usize {
        std::fs::read_dir(&self.0)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension() == Some(extension.as_ref()))
            .count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Segments of three or four blocks.
fn small() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 200,
        ..SpoolOptions::default()
    }
}

/// Frames of 60 bytes each.
fn block(i: u32) -> Vec<u8> {
    i.to_le_bytes().repeat(10)
}

fn blocks(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(block).collect()
}

fn fill(spool: &mut Spool, range: std::ops::Range<u32>) {
    for i in range {
        spool.append(&block(i), Mono::ZERO).unwrap();
    }
}

/// How many blocks the spool lost since it was last asked.
fn lost(spool: &mut Spool) -> u32 {
    let lost = spool.take_lost().iter().map(|l| l.blocks).sum();
    spool.lost_is_told();
    lost
}

fn payloads(batch: &Batch) -> Vec<Vec<u8>> {
    FrameReader::new(&batch.bytes)
        .map(|frame| frame.unwrap().payload.to_vec())
        .collect()
}

/// Takes everything out as a collector would, acknowledging each batch.
fn drain(spool: &mut Spool, max: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(batch) = spool.next_batch(max).unwrap() {
        assert!(batch.bytes.len() <= max || batch.frames() == 1);
        out.extend(payloads(&batch));
        let all = batch.cursor_after(batch.bytes.len() as u64);
        spool.acknowledge(all);
    }
    out
}

#[test]
fn what_goes_in_comes_out_in_order_and_once() {
    let folder = Folder::new();
    let mut spool = folder.open(small());
    fill(&mut spool, 0..50);
    assert_eq!(drain(&mut spool, 100), blocks(0..50));
    assert!(spool.next_batch(100).unwrap().is_none());
    assert_eq!(folder.count("seg"), 1, "acknowledged segments are removed");
    fill(&mut spool, 50..60);
    assert_eq!(drain(&mut spool, 100), blocks(50..60));
    assert_eq!(lost(&mut spool), 0);
}

#[test]
fn a_lock_that_cannot_be_written_still_locks() {
    let folder = Folder::new();
    // As on a disk that takes nothing, also for root.
    std::fs::create_dir(folder.0.join("lock")).unwrap();
    let first = folder.open(small());
    let second = Spool::open(&folder.0, small());
    assert!(matches!(second, Err(SpoolError::InUse { .. })));
    drop(first);
    folder.open(small());
}

#[test]
fn a_loss_is_told_again_after_a_kill_until_a_block_tells_it() {
    let folder = Folder::new();
    let mut spool = folder.open(small());
    fill(&mut spool, 0..9);
    // The second frame of the oldest segment.
    let segment = folder.segment(1);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let all: Vec<Vec<u8>> = blocks(0..9)
        .into_iter()
        .filter(|b| *b != block(1))
        .collect();
    assert_eq!(drain(&mut spool, 1000), all);
    // Killed: the cursor has passed the damage, and nobody has taken the loss.
    drop(spool);
    let mut spool = folder.open(small());
    let found = spool.take_lost();
    assert_eq!(found.iter().map(|l| l.blocks).sum::<u32>(), 1);
    // Taken, but killed before a block reported it: the same loss again, and a new one.
    drop(spool);
    let mut spool = folder.open(small());
    assert_eq!(spool.take_lost(), found);
    spool.lost_is_told();
    drop(spool);
    assert!(!folder.0.join("lost").exists());
    assert_eq!(folder.open(small()).take_lost(), []);
}

#[test]
fn what_is_not_acknowledged_comes_again_after_a_restart() {
    let folder = Folder::new();
    let mut spool = folder.open(small());
    fill(&mut spool, 0..20);
    let batch = spool.next_batch(130).unwrap().unwrap();
    assert_eq!(payloads(&batch), blocks(0..2));
    // The collector took the first frame and a part of the second.
    assert_eq!(batch.cursor_after(59), batch.cursor_after(0));
    spool.acknowledge(batch.cursor_after(119));
    drop(spool);
    let mut spool = folder.open(small());
    assert_eq!(drain(&mut spool, 1 << 20), blocks(1..20));
    drop(spool);
    assert!(folder.open(small()).next_batch(1 << 20).unwrap().is_none());
    assert_eq!(
        folder.count("seg"),
        1,
        "restarts leave no empty segments behind"
    );
}

#[test]
fn a_batch_is_handed_out_until_it_is_acknowledged() {
    let folder = Folder::new();
    let mut spool = folder.open(small());
    fill(&mut spool, 0..3);
    for _ in 0..3 {
        let batch = spool.next_batch(1 << 20).unwrap().unwrap();
        assert_eq!(payloads(&batch), blocks(0..3));
        spool.acknowledge(batch.cursor_after(0));
    }
}

#[test]
fn a_frame_larger_than_a_batch_comes_alone() {
    let folder = Folder::new();
    let mut spool = folder.open(SpoolOptions::default());
    let large = vec![7; 700_000];
    spool.append(&block(0), Mono::ZERO).unwrap();
    spool.append(&large, Mono::ZERO).unwrap();
    spool.append(&block(1), Mono::ZERO).unwrap();
    assert_eq!(drain(&mut spool, 100), [block(0), large, block(1)]);
}

#[test]
fn every_cut_of_the_newest_segment_keeps_the_whole_frames() {
    let folder = Folder::new();
    fill(&mut folder.open(SpoolOptions::default()), 0..4);
    let bytes = std::fs::read(folder.segment(1)).unwrap();
    for cut in 0..bytes.len() {
        let folder = Folder::new();
        std::fs::write(folder.segment(1), &bytes[..cut]).unwrap();
        let mut spool = folder.open(SpoolOptions::default());
        let torn = cut % 60;
        assert_eq!(lost(&mut spool), u32::from(torn > 0), "cut at {cut}");
        let whole = u32::try_from(cut / 60).unwrap();
        assert_eq!(drain(&mut spool, 1 << 20), blocks(0..whole), "cut at {cut}");
        let aside = folder.quarantine(1, cut - torn);
        assert_eq!(
            aside.unwrap_or_default(),
            bytes[cut - torn..cut],
            "cut at {cut}"
        );
    }
}

#[test]
fn zeros_behind_the_last_frame_are_a_torn_end_too() {
    let folder = Folder::new();
    fill(&mut folder.open(SpoolOptions::default()), 0..3);
    let mut bytes = std::fs::read(folder.segment(1)).unwrap();
    bytes[130..].fill(0);
    bytes.extend([0; 1000]);
    std::fs::write(folder.segment(1), &bytes).unwrap();
    let mut spool = folder.open(SpoolOptions::default());
    assert_eq!(drain(&mut spool, 1 << 20), blocks(0..2));
    assert_eq!(lost(&mut spool), 1);
}

#[test]
fn a_cursor_that_cannot_be_read_delivers_again() {
    for bad in ["", "1", "1 60", "x y\n", "9 0\n", "\0\0\0\0\0\0"] {
        let folder = Folder::new();
        fill(&mut folder.open(SpoolOptions::default()), 0..3);
        std::fs::write(folder.0.join("cursor"), bad).unwrap();
        let mut spool = folder.open(SpoolOptions::default());
        assert_eq!(drain(&mut spool, 1 << 20), blocks(0..3), "{bad:?}");
    }
}

#[test]
fn a_cursor_beyond_a_segment_that_lost_its_end_goes_on_with_the_next() {
    let folder = Folder::new();
    let mut spool = folder.open(SpoolOptions::default());
    fill(&mut spool, 0..3);
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    spool.acknowledge(batch.cursor_after(180));
    drop(spool);
    std::fs::write(folder.segment(1), [0; 30]).unwrap();
    let mut spool = folder.open(SpoolOptions::default());
    assert_eq!(lost(&mut spool), 0, "the collector has what was torn");
    fill(&mut spool, 3..5);
    assert_eq!(drain(&mut spool, 1 << 20), blocks(3..5));
}

#[test]
fn a_full_spool_drops_the_oldest_and_counts_what_was_not_delivered() {
    let folder = Folder::new();
    let options = SpoolOptions {
        max_bytes: 1_000,
        ..small()
    };
    let mut spool = folder.open(options);
    fill(&mut spool, 0..3);
    // Two of these are delivered before they are dropped.
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    spool.acknowledge(batch.cursor_after(120));
    fill(&mut spool, 3..100);
    assert!(spool.bytes() <= 1_000, "{}", spool.bytes());
    let gone = lost(&mut spool);
    let kept = drain(&mut spool, 1 << 20);
    assert_eq!(kept.last(), Some(&block(99)), "the newest is kept");
    assert_eq!(gone as usize + kept.len(), 98);
    assert_eq!(lost(&mut spool), 0);
}

#[test]
fn old_segments_are_dropped_and_counted() {
    let folder = Folder::new();
    fill(&mut folder.open(small()), 0..8);
    let first = File::options().write(true).open(folder.segment(1)).unwrap();
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(31 * 86_400);
    first.set_modified(long_ago).unwrap();
    let mut spool = folder.open(small());
    assert_eq!(lost(&mut spool), 4);
    assert_eq!(drain(&mut spool, 1 << 20), blocks(4..8));
}

#[test]
fn a_flush_comes_when_it_is_due_and_before_a_segment_is_left() {
    let folder = Folder::new();
    let mut spool = folder.open(small());
    let at = |ms| Mono::ZERO + Span::from_millis(ms);
    spool.append(&block(0), at(0)).unwrap();
    spool.append(&block(1), at(900)).unwrap();
    spool.sync_due(at(999));
    assert_eq!(spool.unflushed_since, Some(at(0)));
    spool.sync_due(at(1000));
    assert_eq!(spool.unflushed_since, None);
    // The fifth begins a segment: only it is not flushed.
    for i in 2..5 {
        spool.append(&block(i), at(1000 + i64::from(i))).unwrap();
    }
    assert_eq!(spool.unflushed_since, Some(at(1004)));
}

#[test]
fn two_processes_do_not_share_a_spool() {
    let folder = Folder::new();
    let spool = folder.open(small());
    let error = Spool::open(&folder.0, small()).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
    drop(spool);
    folder.open(small());
}

#[test]
fn a_failed_write_says_what_to_do() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("file"), "").unwrap();
    let error = Spool::open(&folder.0.join("file/spool"), small()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("cannot create") && text.contains("check that"),
        "{text}"
    );
}

#[test]
fn frames_of_newer_programs_are_passed_on() {
    let folder = Folder::new();
    fill(&mut folder.open(SpoolOptions::default()), 0..2);
    let mut bytes = std::fs::read(folder.segment(1)).unwrap();
    bytes[4] = 9;
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(folder.segment(1), &bytes).unwrap();
    let mut spool = folder.open(SpoolOptions::default());
    assert_eq!(spool.next_batch(1 << 20).unwrap().unwrap().bytes, bytes);
    assert_eq!(lost(&mut spool), 0);
}

#[test]
fn damage_longer_than_a_window_is_one_loss() {
    let folder = Folder::new();
    let mut spool = folder.open(SpoolOptions::default());
    spool.append(&block(0), Mono::ZERO).unwrap();
    spool.append(&vec![5; 1 << 20], Mono::ZERO).unwrap();
    spool.append(&block(1), Mono::ZERO).unwrap();
    let mut bytes = std::fs::read(folder.segment(1)).unwrap();
    bytes[60] ^= 1;
    std::fs::write(folder.segment(1), &bytes).unwrap();
    assert_eq!(drain(&mut spool, 1 << 20), blocks(0..2));
    assert_eq!(lost(&mut spool), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A flipped bit costs the frame that it hits, is counted once however often
    /// it is read, and costs nothing else.
    #[test]
    fn damage_costs_one_frame(at in 0usize..600, bit in 0u8..8, max in 1usize..700) {
        let folder = Folder::new();
        let mut spool = folder.open(SpoolOptions::default());
        fill(&mut spool, 0..10);
        let mut bytes = std::fs::read(folder.segment(1)).unwrap();
        prop_assert_eq!(bytes.len(), 600);
        bytes[at] ^= 1 << bit;
        std::fs::write(folder.segment(1), &bytes).unwrap();
        for _ in 0..3 {
            spool.next_batch(max).unwrap();
        }
        let hit = u32::try_from(at / 60).unwrap();
        let expected: Vec<_> = (0..10).filter(|i| *i != hit).map(block).collect();
        prop_assert_eq!(drain(&mut spool, max), expected);
        prop_assert_eq!(lost(&mut spool), 1);
    }

    #[test]
    fn batches_of_any_size_deliver_everything(
        sizes in prop::collection::vec(0usize..300, 1..40),
        max in 1usize..500,
    ) {
        let folder = Folder::new();
        let mut spool = folder.open(small());
        let blocks: Vec<Vec<u8>> = sizes.iter().map(|n| vec![7; *n]).collect();
        for b in &blocks {
            spool.append(b, Mono::ZERO).unwrap();
        }
        prop_assert_eq!(drain(&mut spool, max), blocks);
    }
}
