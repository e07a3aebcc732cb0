//! Faults of the disk, one at a time.

use super::simulated::{Crash, EACCES, EIO, EMFILE, ENOSPC, EROFS, Faults, SimulatedDisk};
use super::{block, blocks, drain, lost, payloads};
use crate::spool::disk::Disk as _;
use crate::spool::{Lost, Spool, SpoolOptions, quarantine, segment};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{
    Block, BlockBody, BlockHeader, BlockKey, Event, EventKind, RunId, SessionName,
};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use std::time::Duration;

fn open(disk: &SimulatedDisk) -> Spool {
    let options = SpoolOptions {
        segment_bytes: 200,
        ..SpoolOptions::default()
    };
    Spool::open_on(Box::new(disk.clone()), options).unwrap()
}

pub(super) fn at(seconds: i64) -> Mono {
    Mono::ZERO + Span::from_secs(seconds)
}

fn fill(spool: &mut Spool, range: std::ops::Range<u32>, now: Mono) {
    for i in range {
        spool.append(&block(i), now).unwrap();
    }
}

/// Keeps the durable bytes and nothing else.
const WORST: Crash = Crash {
    kept: 0,
    zeros: false,
    old_names: true,
};

/// A real block, closed so many seconds after 1970.
pub(super) fn closed(seconds: i64) -> Vec<u8> {
    events_of(Some("out".parse().unwrap()), seconds)
}

fn events_of(session: Option<SessionName>, seconds: i64) -> Vec<u8> {
    let wall = Wall::ZERO + Span::from_secs(seconds);
    let block = Block {
        header: BlockHeader {
            key: BlockKey {
                agent: "onprem".parse().unwrap(),
                run: RunId(1),
                number: u64::try_from(seconds).unwrap(),
            },
            session,
            closed: ClockPair {
                mono: Mono::ZERO,
                wall,
            },
        },
        body: BlockBody::Events(vec![Event {
            at: Mono::ZERO,
            kind: EventKind::SessionStarted,
        }]),
    };
    block.encode(Span::from_nanos(1)).unwrap()
}

pub(super) fn wall(seconds: i64) -> Wall {
    Wall::ZERO + Span::from_secs(seconds)
}

#[test]
fn without_a_wait_a_block_that_was_taken_survives_a_loss_of_power() {
    for count in 1..12 {
        let disk = SimulatedDisk::new();
        let options = SpoolOptions {
            sync_every: Span::ZERO,
            segment_bytes: 200,
            ..SpoolOptions::default()
        };
        let mut spool = Spool::open_on(Box::new(disk.clone()), options).unwrap();
        fill(&mut spool, 0..count, at(0));
        drop(spool);
        disk.crash(WORST);
        assert_eq!(drain(&mut open(&disk), 1 << 20), blocks(0..count));
    }
}

#[test]
fn a_loss_of_power_costs_what_was_not_flushed_and_no_more() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..2, at(0));
    spool.sync_due(at(1));
    fill(&mut spool, 2..3, at(1));
    drop(spool);
    disk.crash(WORST);
    assert_eq!(drain(&mut open(&disk), 1 << 20), blocks(0..2));
}

#[test]
fn after_a_failed_flush_no_later_one_of_that_file_is_trusted() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..2, at(0));
    disk.set(Faults {
        flush: Some(EIO),
        ..Faults::default()
    });
    spool.sync_due(at(1));
    // The next flush succeeds. For the first file that success would be false.
    disk.set(Faults::default());
    fill(&mut spool, 2..3, at(3));
    spool.sync_due(at(5));
    drop(spool);
    disk.crash(WORST);
    let mut spool = open(&disk);
    assert_eq!(drain(&mut spool, 1 << 20), blocks(0..3));
    assert_eq!(lost(&mut spool), 0);
}

#[test]
fn what_the_collector_has_is_not_written_anew_after_a_failed_flush() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..3, at(0));
    let batch = spool.next_batch(120).unwrap().unwrap();
    disk.set(Faults {
        flush: Some(EIO),
        ..Faults::default()
    });
    spool.acknowledge(batch.cursor_after(120));
    spool.sync_due(at(1));
    assert_eq!(spool.only_in_memory(), 60);
    assert_eq!(drain(&mut spool, 1 << 20), blocks(2..3));
}

#[test]
fn a_disk_that_is_full_costs_nothing_while_memory_lasts() {
    for errno in [EIO, ENOSPC, EROFS] {
        let disk = SimulatedDisk::new();
        let mut spool = open(&disk);
        fill(&mut spool, 0..2, at(0));
        disk.set(Faults {
            refuses: Some(errno),
            ..Faults::default()
        });
        fill(&mut spool, 2..20, at(1));
        // The oldest come from the disk, the others from memory.
        let batch = spool.next_batch(1 << 20).unwrap().unwrap();
        assert_eq!(payloads(&batch), blocks(0..2));
        assert_eq!(spool.only_in_memory(), 18 * 60);
        disk.set(Faults::default());
        spool.sync_due(at(3));
        assert_eq!(
            spool.only_in_memory(),
            0,
            "written as soon as there is room"
        );
        drop(spool);
        disk.crash(WORST);
        assert_eq!(drain(&mut open(&disk), 1 << 20), blocks(0..20));
    }
}

#[test]
fn records_are_delivered_without_any_disk() {
    let disk = SimulatedDisk::new();
    disk.set(Faults {
        refuses: Some(EROFS),
        ..Faults::default()
    });
    let mut spool = open(&disk);
    fill(&mut spool, 0..20, at(0));
    assert_eq!(drain(&mut spool, 100), blocks(0..20));
    assert_eq!(spool.only_in_memory(), 0);
    assert_eq!(lost(&mut spool), 0);
}

#[test]
fn memory_that_is_full_keeps_the_newest_and_counts_the_others() {
    let disk = SimulatedDisk::new();
    let options = SpoolOptions {
        max_memory: 1_000,
        ..SpoolOptions::default()
    };
    let mut spool = Spool::open_on(Box::new(disk.clone()), options).unwrap();
    fill(&mut spool, 0..3, at(0));
    disk.set(Faults {
        room: Some(0),
        ..Faults::default()
    });
    fill(&mut spool, 3..500, at(1));
    let gone = lost(&mut spool);
    assert!(
        spool.only_in_memory() <= 1_300,
        "{}",
        spool.only_in_memory()
    );
    let kept = drain(&mut spool, 1 << 20);
    assert_eq!(kept[..3], blocks(0..3), "what the disk has stays");
    assert_eq!(kept.last(), Some(&block(499)), "the newest stays");
    assert_eq!(gone as usize + kept.len(), 500);
}

#[test]
fn a_torn_write_is_not_delivered_and_its_block_is_not_lost() {
    for room in 0..120 {
        let disk = SimulatedDisk::new();
        let mut spool = open(&disk);
        disk.set(Faults {
            room: Some(room),
            ..Faults::default()
        });
        fill(&mut spool, 0..3, at(0));
        disk.set(Faults::default());
        spool.sync_due(at(2));
        drop(spool);
        let mut spool = open(&disk);
        assert_eq!(drain(&mut spool, 1 << 20), blocks(0..3), "{room}");
        assert_eq!(lost(&mut spool), 0, "{room}");
    }
}

#[test]
fn names_that_power_took_away_take_no_flushed_block_with_them() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..10, at(0));
    spool.sync();
    let batch = spool.next_batch(120).unwrap().unwrap();
    spool.acknowledge(batch.cursor_after(120));
    drop(spool);
    // The cursor's name was not flushed: what was acknowledged comes again.
    disk.crash(WORST);
    assert_eq!(drain(&mut open(&disk), 1 << 20), blocks(0..10));
}

#[test]
fn a_number_that_the_cursor_knew_is_not_used_for_other_records() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..10, at(0));
    while spool.cursor.segment < 3 {
        let batch = spool.next_batch(100).unwrap().unwrap();
        spool.acknowledge(batch.cursor_after(u64::MAX));
    }
    drop(spool);
    // A disk that lied: the segments are gone, the cursor is not.
    for name in disk.names() {
        if name.ends_with(".seg") {
            disk.lose(&name);
        }
    }
    for life in 0..5 {
        let mut spool = open(&disk);
        fill(&mut spool, 10 * life..10 * life + 5, at(0));
    }
    let kept: Vec<_> = (0..5)
        .flat_map(|life| blocks(10 * life..10 * life + 5))
        .collect();
    assert_eq!(drain(&mut open(&disk), 1 << 20), kept);
}

#[test]
fn a_missing_segment_is_counted_and_holds_nothing_up() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    for i in 0..12 {
        disk.pass(Duration::from_secs(10));
        fill(&mut spool, i..i + 1, at(0));
    }
    drop(spool);
    // Frames of 60 bytes, four in a segment.
    let left: Vec<_> = (0..4).chain(8..12).map(block).collect();
    let name = segment::Segment::in_memory(2, Vec::new(), disk.now()).name();
    disk.lose(&name);
    let mut spool = open(&disk);
    let missing = spool.take_lost();
    let expected = Lost {
        blocks: 1,
        from: Some(wall(1_000_040)),
        to: wall(1_000_120),
    };
    assert_eq!(missing, [expected]);
    assert_eq!(drain(&mut spool, 1 << 20), left);
}

#[test]
fn a_segment_that_goes_missing_under_way_is_counted_too() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..12, at(0));
    disk.lose("0000000000000001.seg");
    assert_eq!(drain(&mut spool, 1 << 20), blocks(4..12));
    assert_eq!(lost(&mut spool), 1);
}

#[test]
fn a_segment_that_cannot_be_read_is_set_aside_after_a_few_tries() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..12, at(0));
    disk.set(Faults {
        read: Some(EIO),
        ..Faults::default()
    });
    for _ in 1..crate::spool::damage::MOST_READ_FAILURES {
        let error = spool.next_batch(1 << 20).unwrap_err().to_string();
        assert!(
            error.contains("cannot read /simulated/0000000000000001.seg"),
            "{error}"
        );
    }
    assert_eq!(lost(&mut spool), 0);
    spool.next_batch(1 << 20).unwrap_err();
    disk.set(Faults::default());
    assert_eq!(lost(&mut spool), 1);
    assert_eq!(drain(&mut spool, 1 << 20), blocks(4..12));
    assert!(
        disk.names()
            .contains(&"quarantine/0000000000000001.seg".to_owned())
    );
}

#[test]
fn what_bars_reading_for_a_while_costs_no_record() {
    for errno in [EACCES, EMFILE] {
        let disk = SimulatedDisk::new();
        let mut spool = open(&disk);
        fill(&mut spool, 0..12, at(0));
        disk.set(Faults {
            read: Some(errno),
            ..Faults::default()
        });
        for _ in 0..3 * crate::spool::damage::MOST_READ_FAILURES {
            spool.next_batch(1 << 20).unwrap_err();
        }
        disk.set(Faults::default());
        assert_eq!(drain(&mut spool, 1 << 20), blocks(0..12));
        assert_eq!(lost(&mut spool), 0);
    }
}

#[test]
fn segments_whose_names_were_exchanged_are_delivered_once_each() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..12, at(0));
    drop(spool);
    disk.exchange("0000000000000001.seg", "0000000000000002.seg");
    let mut spool = open(&disk);
    let order: Vec<_> = (4..8).chain(0..4).chain(8..12).map(block).collect();
    assert_eq!(drain(&mut spool, 1 << 20), order);
    assert_eq!(lost(&mut spool), 0);
}

#[test]
fn a_segment_cut_at_the_end_of_a_frame_under_way_is_damage() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    fill(&mut spool, 0..12, at(0));
    disk.tamper("0000000000000001.seg", |bytes| bytes.truncate(120));
    let left: Vec<_> = (0..2).chain(4..12).map(block).collect();
    assert_eq!(drain(&mut spool, 1 << 20), left);
    assert_eq!(lost(&mut spool), 1);
}

#[test]
fn damage_is_kept_aside_and_its_time_is_known_from_its_neighbours() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    // Of one length each.
    for seconds in [20, 30, 40] {
        spool.append(&closed(seconds), at(0)).unwrap();
    }
    let name = "0000000000000001.seg";
    let bytes = disk.bytes(name);
    let (frame, second) = (bytes.len() / 3, bytes.len() / 3 + 40);
    disk.tamper(name, |bytes| bytes[second] ^= 1);
    assert_eq!(drain(&mut spool, 1 << 20), [closed(20), closed(40)]);
    let expected = Lost {
        blocks: 1,
        from: Some(wall(20)),
        to: wall(40),
    };
    assert_eq!(spool.take_lost(), [expected]);
    let kept = format!("{}/0000000000000001-{frame:012}.bad", quarantine::FOLDER);
    let mut damaged = bytes[frame..2 * frame].to_vec();
    damaged[second - frame] ^= 1;
    assert_eq!(disk.bytes(&kept), damaged);
}

#[test]
fn what_is_dropped_says_of_which_time_it_was() {
    let disk = SimulatedDisk::new();
    let options = SpoolOptions {
        max_bytes: 1_000,
        segment_bytes: 200,
        ..SpoolOptions::default()
    };
    let mut spool = Spool::open_on(Box::new(disk.clone()), options).unwrap();
    for seconds in 0..100 {
        spool.append(&closed(seconds), at(0)).unwrap();
    }
    let missing = spool.take_lost();
    let kept = drain(&mut spool, 1 << 20).len();
    let gone = u32::try_from(100 - kept).unwrap();
    let total: u32 = missing.iter().map(|l| l.blocks).sum();
    assert_eq!(total, gone);
    assert_eq!(missing.first().and_then(|l| l.from), Some(wall(0)));
    let last = missing.iter().map(|l| l.to).max();
    assert_eq!(last, Some(wall(i64::from(gone) - 1)));
}

#[test]
fn old_records_are_dropped_while_it_runs() {
    let disk = SimulatedDisk::new();
    let options = SpoolOptions {
        max_age: Span::from_secs(3_600),
        segment_bytes: 200,
        ..SpoolOptions::default()
    };
    let mut spool = Spool::open_on(Box::new(disk.clone()), options).unwrap();
    fill(&mut spool, 0..4, at(0));
    disk.pass(Duration::from_secs(3_000));
    fill(&mut spool, 4..5, at(3_000));
    spool.sync_due(at(3_001));
    assert_eq!(lost(&mut spool), 0);
    disk.pass(Duration::from_secs(1_000));
    spool.sync_due(at(4_001));
    assert_eq!(lost(&mut spool), 4);
    assert_eq!(drain(&mut spool, 1 << 20), blocks(4..5));
}

#[test]
fn what_is_delivered_goes_before_what_is_not() {
    let disk = SimulatedDisk::new();
    let options = SpoolOptions {
        max_bytes: 1_000,
        segment_bytes: 200,
        ..SpoolOptions::default()
    };
    let mut spool = Spool::open_on(Box::new(disk.clone()), options).unwrap();
    for i in 0..200 {
        fill(&mut spool, i..i + 1, at(0));
        if i % 5 == 4 {
            assert_eq!(drain(&mut spool, 1 << 20).len(), 5);
        }
    }
    assert_eq!(lost(&mut spool), 0, "there was always room for what waited");
}

#[test]
fn the_quarantine_does_not_grow_without_bound() {
    let disk = SimulatedDisk::new();
    for i in 0..200 {
        disk.pass(Duration::from_secs(1));
        quarantine::keep_bytes(&disk, "0000000000000001.seg", i, &[0; 100]);
    }
    let kept = disk.list(quarantine::FOLDER).unwrap();
    assert_eq!(kept.len(), 64);
    assert!(kept.iter().any(|e| e.name.ends_with("-000000000199.bad")));
    for i in 0..10 {
        disk.pass(Duration::from_secs(1));
        quarantine::keep_bytes(&disk, "0000000000000002.seg", i, &vec![0; 4 << 20]);
    }
    let kept = disk.list(quarantine::FOLDER).unwrap();
    let bytes: u64 = kept.iter().map(|e| e.length).sum();
    assert!(bytes <= 16 << 20, "{bytes}");
}

#[test]
fn a_frame_that_the_collector_cannot_use_is_kept_aside_and_counted() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    for seconds in [20, 30] {
        spool.append(&closed(seconds), at(0)).unwrap();
    }
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    let second = batch.bytes.len() / 2;
    spool.refused(&batch, second as u64);
    spool.acknowledge(batch.cursor_after(batch.bytes.len() as u64));
    let expected = Lost {
        blocks: 1,
        from: Some(wall(30)),
        to: wall(30),
    };
    assert_eq!(spool.take_lost(), [expected]);
    let kept = format!("{}/0000000000000001-{second:012}.bad", quarantine::FOLDER);
    let mut frame = Vec::new();
    frame::append(&mut frame, FrameKind::Block, &closed(30)).unwrap();
    assert_eq!(disk.bytes(&kept), frame);
}

/// Otherwise the block that reports that loss would be refused next, and so on.
#[test]
fn own_events_that_the_collector_cannot_use_are_kept_aside_and_make_no_loss() {
    let disk = SimulatedDisk::new();
    let mut spool = open(&disk);
    spool.append(&events_of(None, 20), at(0)).unwrap();
    let batch = spool.next_batch(1 << 20).unwrap().unwrap();
    spool.refused(&batch, 0);
    spool.acknowledge(batch.cursor_after(batch.bytes.len() as u64));
    assert_eq!(spool.take_lost(), []);
    let kept = format!("{}/0000000000000001-{:012}.bad", quarantine::FOLDER, 0);
    assert_eq!(disk.bytes(&kept), batch.bytes);
}

#[test]
fn files_that_are_none_of_ours_disturb_nothing() {
    let disk = SimulatedDisk::new();
    for name in [
        "1.seg",
        "9999999999999999.seg",
        "99999999999999999999.seg",
        "-000000000000001.seg",
        "x.seg",
        "0000000000000001.torn",
    ] {
        disk.put(name, b"something else");
    }
    disk.put("cursor", b"18446744073709551615 7\n");
    let mut spool = open(&disk);
    fill(&mut spool, 0..10, at(0));
    drop(spool);
    assert_eq!(drain(&mut open(&disk), 1 << 20), blocks(0..10));
}
