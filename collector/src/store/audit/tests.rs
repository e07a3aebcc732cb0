use super::super::tests::{Dir, Session, encoded};
use super::super::{Reader, Store};
use super::{Audit, SpoolFrames};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{Block, BlockBody, BlockHeader, BlockKey, Event, EventKind};
use hopgap_proto::time::{Span, Wall};
use rusqlite::Connection;
use std::path::Path;

/// 2026-11-23T02:00:00Z.
const TWO: Wall = Wall::from_nanos(1_795_399_200_000_000_000);
const UNIT: Span = Span::from_nanos(100);

/// The probes of `onprem`, ten seconds in each block, numbered from 0.
fn blocks(count: u64) -> Vec<Block> {
    let mut session = Session::new(TWO);
    (0..count)
        .map(|number| {
            let [mut probes, _] = session.ten_seconds();
            probes.header.key.number = number;
            probes
        })
        .collect()
}

fn store(dir: &Dir, blocks: &[Block]) -> Store {
    let mut store = Store::open(&dir.0).unwrap();
    let blocks: Vec<_> = blocks.iter().map(encoded).collect();
    store.append(&blocks, TWO).unwrap();
    store
}

fn audit(dir: &Dir) -> Audit {
    with_spools(dir, Vec::new())
}

fn with_spools(dir: &Dir, spools: Vec<SpoolFrames>) -> Audit {
    let reader = Reader::open(&dir.0).unwrap();
    reader.audit(Wall::MIN, Wall::MAX, spools).unwrap()
}

fn write_segment(dir: &Path, number: u64, blocks: &[Block]) -> usize {
    let mut bytes = Vec::new();
    for block in blocks {
        let payload = block.encode(UNIT).unwrap();
        frame::append(&mut bytes, FrameKind::Block, &payload).unwrap();
    }
    std::fs::write(dir.join(format!("{number:016}.seg")), &bytes).unwrap();
    bytes.len()
}

#[test]
fn a_whole_store_is_whole_sealed_or_not() {
    let dir = Dir::new();
    let blocks = blocks(3);
    let mut store = store(&dir, &blocks);
    store.append(&[encoded(&blocks[1])], TWO).unwrap();
    let found = audit(&dir);
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(found.agents[0].duplicates_refused, 1);
    assert_eq!(found.agents[0].runs[0].blocks, 3);
    assert_eq!(found.agents[0].runs[0].records, 12_000);

    let sealed = store.seal(TWO + Span::from_secs(86_400), Span::from_secs(60));
    let sealed = sealed.unwrap();
    let found = audit(&dir);
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(found.segments, 1);

    std::fs::remove_file(&sealed[0]).unwrap();
    let found = audit(&dir);
    assert!(!found.is_whole());
    assert_eq!(found.segment_faults.len(), 1, "{found:?}");
}

#[test]
fn a_missing_block_is_found_and_known_when_its_agent_declared_it() {
    let dir = Dir::new();
    let mut all = blocks(6);
    let lost = all.remove(3);
    let mut store = store(&dir, &all);
    let found = audit(&dir);
    let run = &found.agents[0].runs[0];
    assert!(!found.is_whole());
    assert_eq!(run.missing.len(), 1);
    let missing = run.missing[0];
    assert_eq!((missing.first, missing.last), (3, 3));
    assert_eq!(missing.after, Some(all[2].header.closed.wall));
    assert_eq!(missing.before, all[3].header.closed.wall);
    // Its probes do not count as missing in addition.
    let probes = run.probes.values().next().unwrap();
    assert_eq!((probes.missing, probes.explained), (0, 4_000));

    // Lost blocks of another time declare nothing.
    let told = |number, from: Wall, to: Wall| {
        let at = all[4].header.closed.mono;
        let kind = EventKind::BlocksLost {
            blocks: 1,
            from: Some(from),
            to,
        };
        Block {
            header: BlockHeader {
                key: BlockKey {
                    number,
                    ..all[4].header.key.clone()
                },
                session: None,
                closed: all[4].header.closed,
            },
            body: BlockBody::Events(vec![Event { at, kind }]),
        }
    };
    let elsewhere = told(6, TWO - Span::from_secs(90), TWO - Span::from_secs(80));
    store.append(&[encoded(&elsewhere)], TWO).unwrap();
    assert!(!audit(&dir).is_whole());
    let closed = lost.header.closed.wall;
    store
        .append(&[encoded(&told(7, closed, closed))], TWO)
        .unwrap();
    let found = audit(&dir);
    assert!(found.is_whole(), "{found:?}");
    assert!(found.agents[0].runs[0].missing[0].declared);
    assert_eq!(found.agents[0].declared, 2);

    // Only in a time that includes it.
    let reader = Reader::open(&dir.0).unwrap();
    let earlier = reader
        .audit(Wall::MIN, TWO + Span::from_secs(5), Vec::new())
        .unwrap();
    assert_eq!(earlier.agents[0].runs[0].missing, []);
}

#[test]
fn what_was_deleted_for_its_age_is_not_missing() {
    let dir = Dir::new();
    let all = blocks(6);
    let mut store = store(&dir, &all);
    let until = all[2].header.closed.wall;
    // Blocks expire by when they came, too.
    Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .execute("UPDATE block SET received = first", [])
        .unwrap();
    assert_eq!(store.expire(until).unwrap().blocks, 3);
    let found = audit(&dir);
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(found.agents[0].runs[0].expired, 3);
    assert_eq!(found.agents[0].runs[0].blocks, 3);
}

#[test]
fn a_block_that_the_disk_changed_is_found() {
    let dir = Dir::new();
    drop(store(&dir, &blocks(3)));
    let db = Connection::open(dir.0.join("hopgap.db")).unwrap();
    let mut data: Vec<u8> = db
        .query_row("SELECT data FROM payload WHERE block = 2", [], |r| r.get(0))
        .unwrap();
    *data.last_mut().unwrap() ^= 4;
    db.execute("UPDATE payload SET data = ?1 WHERE block = 2", [data])
        .unwrap();
    let found = audit(&dir);
    let damaged = &found.agents[0].runs[0].damaged;
    assert!(!found.is_whole());
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].number, 1);
    assert!(damaged[0].what.contains("checksum"), "{damaged:?}");

    db.execute("DELETE FROM payload WHERE block = 2", [])
        .unwrap();
    let found = audit(&dir);
    let damaged = &found.agents[0].runs[0].damaged;
    assert!(damaged[0].what.contains("not there"), "{damaged:?}");

    db.execute("UPDATE block SET records = 3 WHERE id = 3", [])
        .unwrap();
    assert_eq!(audit(&dir).agents[0].runs[0].damaged.len(), 2);
}

#[test]
fn a_probe_that_was_recorded_twice_or_not_at_all_is_found() {
    let dir = Dir::new();
    let mut all = blocks(4);
    let BlockBody::Probes(rows) = &mut all[1].body else {
        panic!("probes");
    };
    let again = rows[100];
    rows.remove(500);
    rows.remove(500);
    let BlockBody::Probes(rows) = &mut all[2].body else {
        panic!("probes");
    };
    rows.push(again);
    drop(store(&dir, &all));
    let found = audit(&dir);
    assert!(!found.is_whole());
    let probes = found.agents[0].runs[0].probes.values().next().unwrap();
    assert_eq!((probes.twice, probes.missing, probes.explained), (1, 2, 0));
}

#[test]
fn frames_of_a_spool_are_stored_or_wait_or_are_missing() {
    let dir = Dir::new();
    let spool = Dir::new();
    let mut all = blocks(6);
    drop(store(&dir, &all[..3]));
    write_segment(&spool.0, 1, &all[..2]);
    let end = write_segment(&spool.0, 2, &all[2..4]);
    write_segment(&spool.0, 3, &all[4..]);
    let read = || SpoolFrames::read(&spool.0).unwrap();
    // Without a cursor everything waits for delivery.
    let found = with_spools(&dir, vec![read()]);
    assert!(found.is_whole(), "{found:?}");
    let of = &found.spools[0];
    assert_eq!((of.segments, of.frames), (3, 6));
    assert_eq!((of.stored, of.waiting), (3, 3));

    // The collector acknowledged block 3, and does not have it.
    std::fs::write(
        spool.0.join("cursor"),
        format!("2 {end} 1790000000000000000\n"),
    )
    .unwrap();
    let found = with_spools(&dir, vec![read()]);
    assert!(!found.is_whole());
    let numbers: Vec<u64> = found.spools[0].missing.iter().map(|k| k.number).collect();
    assert_eq!(numbers, [3]);
    assert_eq!(found.spools[0].waiting, 2);

    // Half a frame at the end is being written; a block of the same key with other
    // records is another block.
    let path = spool.0.join("0000000000000003.seg");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    std::fs::remove_file(spool.0.join("0000000000000002.seg")).unwrap();
    let BlockBody::Probes(rows) = &mut all[0].body else {
        panic!("probes");
    };
    rows.pop();
    write_segment(&spool.0, 1, &all[..2]);
    let found = with_spools(&dir, vec![read()]);
    let of = &found.spools[0];
    assert_eq!((of.frames, of.stored, of.waiting), (3, 1, 1));
    assert_eq!((of.different.len(), of.damaged), (1, 0));
    assert!(!found.is_whole());

    let error = SpoolFrames::read(&spool.0.join("none")).unwrap_err();
    assert!(error.to_string().contains("cannot read the spool"));
}

#[test]
fn a_store_of_version_1_is_audited_as_it_is_and_brought_up_to_date() {
    let dir = Dir::new();
    let mut all = blocks(4);
    let lost = all.remove(1);
    drop(store(&dir, &all));
    Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .execute_batch(
            "ALTER TABLE block DROP COLUMN crc; DROP TABLE expired;
             ALTER TABLE segment DROP COLUMN digest; PRAGMA user_version = 1",
        )
        .unwrap();
    let numbers = |found: &Audit| -> Vec<u64> {
        let missing = &found.agents[0].runs[0].missing;
        missing.iter().map(|m| m.first).collect()
    };
    assert_eq!(numbers(&audit(&dir)), [1]);
    // The writer upgrades the store, and later blocks have checksums.
    let mut store = Store::open(&dir.0).unwrap();
    store.append(&[encoded(&lost)], TWO).unwrap();
    let found = audit(&dir);
    assert!(found.is_whole(), "{found:?}");
    let kept: i64 = Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .query_row("SELECT count(crc) FROM block", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn a_flipped_bit_in_a_sealed_file_is_found_wherever_it_is() {
    let dir = Dir::new();
    let mut store = store(&dir, &blocks(2));
    let sealed = store.seal(TWO + Span::from_secs(86_400), Span::from_secs(60));
    let path = sealed.unwrap().remove(0);
    let whole = std::fs::read(&path).unwrap();
    assert!(audit(&dir).is_whole());
    let step = whole.len() / 97;
    for place in (0..whole.len()).step_by(step) {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        let found = audit(&dir);
        assert_eq!(found.segment_faults.len(), 1, "byte {place}");
    }
    std::fs::write(&path, whole).unwrap();
    assert!(audit(&dir).is_whole());
}

#[test]
fn a_store_of_version_2_keeps_its_sealed_files() {
    let dir = Dir::new();
    let mut all = blocks(2);
    let later = all.pop().unwrap();
    let mut store = store(&dir, &all);
    let day = TWO + Span::from_secs(86_400);
    store.seal(day, Span::from_secs(60)).unwrap();
    drop(store);
    Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .execute_batch("ALTER TABLE segment DROP COLUMN digest; PRAGMA user_version = 2")
        .unwrap();
    assert!(audit(&dir).is_whole());
    let mut store = Store::open(&dir.0).unwrap();
    store.append(&[encoded(&later)], TWO).unwrap();
    store.seal(day, Span::from_secs(60)).unwrap();
    let found = audit(&dir);
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(found.segments, 2);
}

#[test]
fn sealing_does_not_hide_that_a_block_was_damaged() {
    let dir = Dir::new();
    let all = blocks(2);
    let mut store = store(&dir, &all);
    // Other bytes that can be read: the probes of another block.
    let mut other = all[1].clone();
    other.header.key.number = 0;
    let other = other.encode(UNIT).unwrap();
    Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .execute("UPDATE payload SET data = ?1 WHERE block = 1", [other])
        .unwrap();
    store
        .seal(TWO + Span::from_secs(86_400), Span::from_secs(60))
        .unwrap();
    let found = audit(&dir);
    let damaged = &found.agents[0].runs[0].damaged;
    assert_eq!(damaged.len(), 1, "{found:?}");
    assert_eq!(damaged[0].number, 0);
}

#[test]
fn a_file_that_could_not_be_deleted_costs_no_later_one_its_life() {
    let dir = Dir::new();
    let mut all = blocks(2);
    let later = all.pop().unwrap();
    let mut store = store(&dir, &all);
    let day = TWO + Span::from_secs(86_400);
    let first = store.seal(day, Span::from_secs(60)).unwrap().remove(0);
    // It cannot be deleted: a directory with something in it is at its place.
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(&first).unwrap();
    std::fs::write(first.join("x"), "x").unwrap();
    let long_after = day + Span::from_secs(86_400);
    store.expire(long_after).unwrap();
    store.append(&[encoded(&later)], long_after).unwrap();
    let second = store
        .seal(long_after + Span::from_secs(86_400), Span::from_secs(60))
        .unwrap()
        .remove(0);
    assert_ne!(first, second);
    std::fs::remove_dir_all(&first).unwrap();
    drop(store);
    let _store = Store::open(&dir.0).unwrap();
    assert!(second.exists());
    assert!(audit(&dir).segment_faults.is_empty());
}
