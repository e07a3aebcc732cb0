use crate::store::tests::{Dir, Session, TWO, both, counts, everything};
use crate::store::{Runs, Store};
use hopgap_proto::record::EventKind;
use hopgap_proto::time::{Span, Wall};
use rusqlite::Connection;
use std::path::PathBuf;

const PROBES: &str = "sealed/probes/out/2026-11-23T02.parquet";
const RECEPTIONS: &str = "sealed/receptions/out/2026-11-23T02.parquet";

/// Two blocks of each kind, sealed.
fn sealed() -> Dir {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let mut session = Session::new(TWO);
    for _ in 0..2 {
        store.append(&both(&session.ten_seconds()), TWO).unwrap();
    }
    let later = TWO + Span::from_secs(7_200);
    assert_eq!(store.seal(later, Span::from_secs(1)).unwrap().len(), 2);
    assert!(dir.0.join(PROBES).exists() && dir.0.join(RECEPTIONS).exists());
    dir
}

/// Returns the blocks reported as lost, by agent, with the first and last time at which one
/// was closed.
fn lost(runs: &Runs) -> Vec<(String, u32, Wall, Wall)> {
    let mut lost = Vec::new();
    for ((agent, _), rows) in runs {
        for event in &rows.events {
            if let EventKind::BlocksLost { blocks, from, to } = event.kind {
                lost.push((agent.to_string(), blocks, from.unwrap(), to));
            }
        }
    }
    lost
}

fn second(n: i64) -> Wall {
    TWO + Span::from_secs(n)
}

/// Asserts that a rejected file leaves the other side's records and a reported loss.
fn assert_lost(dir: &Dir, probes: bool) {
    let runs = everything(&dir.0);
    let (agent, left) = if probes {
        ("onprem", (0, 8_000))
    } else {
        ("azure", (8_000, 0))
    };
    let (probes, receptions) = counts(&runs);
    assert!(
        probes <= left.0 && receptions <= left.1,
        "{probes} {receptions}"
    );
    assert!(probes + receptions > 7_000, "the other file is read");
    assert_eq!(lost(&runs), [(agent.to_owned(), 2, second(10), second(20))]);
}

#[test]
fn what_is_whole_is_read_and_nothing_is_told_as_lost() {
    let dir = sealed();
    let runs = everything(&dir.0);
    assert!(counts(&runs).0 == 8_000 && counts(&runs).1 > 7_000);
    assert_eq!(lost(&runs), []);
}

#[test]
fn a_missing_file_is_that_hours_lost_records_and_no_end() {
    for (path, probes) in [(PROBES, true), (RECEPTIONS, false)] {
        let dir = sealed();
        std::fs::remove_file(dir.0.join(path)).unwrap();
        assert_lost(&dir, probes);
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_the_file() {
    let dir = sealed();
    let path = dir.0.join(PROBES);
    let whole = std::fs::read(&path).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 23) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        assert_lost(&dir, true);
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_lost(&dir, true);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(lost(&everything(&dir.0)), []);
}

/// The same hour of the same agents, sealed as another session's.
fn of_another_session() -> (Dir, PathBuf) {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let mut session = Session::new(TWO);
    for _ in 0..2 {
        let mut blocks = session.ten_seconds();
        for block in &mut blocks {
            block.header.session = Some("elsewhere".parse().unwrap());
        }
        store.append(&both(&blocks), TWO).unwrap();
    }
    let later = TWO + Span::from_secs(7_200);
    store.seal(later, Span::from_secs(1)).unwrap();
    let path = dir.0.join("sealed/probes/elsewhere/2026-11-23T02.parquet");
    assert!(path.exists());
    (dir, path)
}

#[test]
fn another_sessions_file_is_not_believed_with_a_digest_or_without() {
    let dir = sealed();
    let (_other, path) = of_another_session();
    std::fs::copy(path, dir.0.join(PROBES)).unwrap();
    assert_lost(&dir, true);
    // An older version kept no digest.
    Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .execute("UPDATE segment SET digest = NULL", [])
        .unwrap();
    assert_lost(&dir, true);
}

#[test]
fn a_damaged_block_that_is_not_sealed_yet_is_told_as_lost_too() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let mut session = Session::new(TWO);
    for _ in 0..2 {
        store.append(&both(&session.ten_seconds()), TWO).unwrap();
    }
    let db = Connection::open(dir.0.join("hopgap.db")).unwrap();
    let mut data: Vec<u8> = db
        .query_row("SELECT data FROM payload WHERE block = 1", [], |r| r.get(0))
        .unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    db.execute("UPDATE payload SET data = ?1 WHERE block = 1", [data])
        .unwrap();
    let runs = everything(&dir.0);
    assert_eq!(counts(&runs).0, 4_000);
    assert_eq!(
        lost(&runs),
        [("onprem".to_owned(), 1, second(10), second(10))]
    );
}
