use super::{Spool, SpoolOptions};
use hopgap_proto::frame::FrameReader;
use hopgap_proto::time::Mono;
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("hopgap-spool-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn small() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 200,
        ..SpoolOptions::default()
    }
}

/// Takes everything out as a collector would, acknowledging each batch.
fn drain(spool: &mut Spool, max: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(batch) = spool.next_batch(max).unwrap() {
        for frame in FrameReader::new(&batch.bytes) {
            out.push(frame.unwrap().payload.to_vec());
        }
        spool
            .acknowledge(batch.cursor_after(batch.bytes.len() as u64))
            .unwrap();
    }
    out
}

fn block(i: u32) -> Vec<u8> {
    i.to_le_bytes().repeat(10)
}

#[test]
fn what_goes_in_comes_out_in_order_and_once() {
    let folder = Folder::new();
    let mut spool = Spool::open(&folder.0, small()).unwrap();
    let blocks: Vec<_> = (0..50).map(block).collect();
    for b in &blocks {
        spool.append(b, Mono::ZERO).unwrap();
    }
    assert_eq!(drain(&mut spool, 100), blocks);
    assert!(spool.next_batch(100).unwrap().is_none());
    assert_eq!(spool.segments.len(), 1, "acknowledged segments are removed");
}

#[test]
fn what_is_not_acknowledged_comes_again_after_a_restart() {
    let folder = Folder::new();
    let mut spool = Spool::open(&folder.0, small()).unwrap();
    for i in 0..20 {
        spool.append(&block(i), Mono::ZERO).unwrap();
    }
    let batch = spool.next_batch(130).unwrap().unwrap();
    // The collector took the first frame only.
    spool.acknowledge(batch.cursor_after(60)).unwrap();
    drop(spool);
    let mut spool = Spool::open(&folder.0, small()).unwrap();
    let rest = drain(&mut spool, 1 << 20);
    assert_eq!(rest, (1..20).map(block).collect::<Vec<_>>());
}

#[test]
fn a_torn_end_is_set_aside_and_the_rest_is_kept() {
    let folder = Folder::new();
    let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    for i in 0..5 {
        spool.append(&block(i), Mono::ZERO).unwrap();
    }
    drop(spool);
    let path = super::segment::path(&folder.0, 1);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    assert_eq!(
        drain(&mut spool, 1 << 20),
        (0..4).map(block).collect::<Vec<_>>()
    );
    assert!(path.with_extension("torn").exists());
}

#[test]
fn a_full_spool_drops_the_oldest_and_counts_it() {
    let folder = Folder::new();
    let options = SpoolOptions {
        max_bytes: 1_000,
        segment_bytes: 200,
        ..small()
    };
    let mut spool = Spool::open(&folder.0, options).unwrap();
    for i in 0..100 {
        spool.append(&block(i), Mono::ZERO).unwrap();
    }
    assert!(spool.bytes() <= 1_000);
    let lost = spool.take_lost();
    let kept = drain(&mut spool, 1 << 20);
    assert_eq!(lost as usize + kept.len(), 100);
    assert_eq!(kept.last(), Some(&block(99)), "the newest is kept");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A flipped bit costs the frame that it hits, is counted, and nothing else.
    #[test]
    fn damage_costs_one_frame(at in 0usize..600, bit in 0u8..8) {
        let folder = Folder::new();
        let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
        for i in 0..10 {
            spool.append(&block(i), Mono::ZERO).unwrap();
        }
        let path = super::segment::path(&folder.0, 1);
        let mut bytes = std::fs::read(&path).unwrap();
        prop_assert_eq!(bytes.len(), 600);
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        let out = drain(&mut spool, 1 << 20);
        let hit = u32::try_from(at / 60).unwrap();
        let expected: Vec<_> = (0..10).filter(|i| *i != hit).map(block).collect();
        // A damaged length in the last frame's header looks like a torn end.
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn batches_of_any_size_deliver_everything(sizes in prop::collection::vec(0usize..300, 1..40), max in 1usize..500) {
        let folder = Folder::new();
        let mut spool = Spool::open(&folder.0, small()).unwrap();
        let blocks: Vec<Vec<u8>> = sizes.iter().map(|n| vec![7; *n]).collect();
        for b in &blocks {
            spool.append(b, Mono::ZERO).unwrap();
        }
        prop_assert_eq!(drain(&mut spool, max), blocks);
    }
}
