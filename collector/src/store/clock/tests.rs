use crate::store::tests::{Dir, Session, encoded, name};
use crate::store::{Reader, Store};
use hopgap_proto::record::{AgentName, BlockBody, Event, EventKind};
use hopgap_proto::time::{Mono, Span, Wall};
use hopgap_proto::uplink::ClockExchange;

const NOON: i64 = 1_790_000_000_000_000_000;

/// Makes an exchange that took `took` ms at `seconds` after noon on the collector's clock,
/// with an agent whose clock is `behind` it.
fn exchange(seconds: i64, behind: i64, took: i64) -> ClockExchange {
    const SECOND: i64 = 1_000_000_000;
    let collector = NOON + seconds * SECOND;
    let sent = seconds * SECOND;
    let received = sent + took * 1_000_000;
    let wall = collector + took * 1_000_000 - behind * SECOND;
    let text = format!("7 {sent} {collector} {received} {wall}");
    text.parse().unwrap()
}

fn at(seconds: i64) -> Wall {
    Wall::from_nanos(NOON) + Span::from_secs(seconds)
}

fn seconds_behind(reader: &Reader, from: i64, to: i64) -> Vec<i64> {
    let rows = reader.clocks(at(from), at(to)).unwrap();
    let behind = rows.iter().map(|row| -row.ahead().0.as_nanos());
    behind
        .map(|nanos| (nanos + 500_000_000).div_euclid(1_000_000_000))
        .collect()
}

#[test]
fn what_an_agent_tells_of_its_clock_is_read_back() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let onprem: AgentName = name("onprem");
    store.clock(&onprem, &exchange(0, 30, 10), at(1)).unwrap();
    let reader = Reader::open(&dir.0).unwrap();
    let rows = reader.clocks(at(0), at(10)).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].agent, rows[0].run.0), (&onprem, 7));
    assert_eq!(rows[0].latest - rows[0].earliest, Span::from_millis(10));
    let (ahead, bound) = rows[0].ahead();
    assert_eq!(bound, Span::from_millis(5));
    assert!((ahead + Span::from_secs(30)).abs() <= bound);
    assert_eq!(reader.newest_clocks().unwrap(), rows);
}

#[test]
fn of_each_minute_the_narrowest_is_kept() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    for (second, took) in [(0, 80), (5, 10), (9, 400)] {
        let said = exchange(second, 30, took);
        store.clock(&name("onprem"), &said, at(second)).unwrap();
    }
    let rows = Reader::open(&dir.0).unwrap().clocks(at(0), at(10)).unwrap();
    let widths: Vec<Span> = rows.iter().map(|r| r.latest - r.earliest).collect();
    assert_eq!(widths, [Span::from_millis(10)]);
}

#[test]
fn the_nearest_before_and_after_are_read_however_far() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    for (hour, behind) in [(0, 1), (5, 2), (10, 3), (20, 4)] {
        let said = exchange(hour * 3_600, behind, 10);
        store
            .clock(&name("onprem"), &said, at(hour * 3_600))
            .unwrap();
    }
    store
        .clock(&name("azure"), &exchange(0, 9, 10), at(0))
        .unwrap();
    let reader = Reader::open(&dir.0).unwrap();
    // `azure` first.
    assert_eq!(seconds_behind(&reader, 25_000, 26_000), [9, 2, 3]);
    assert_eq!(seconds_behind(&reader, 18_000, 18_100), [9, 1, 2, 3]);
    assert_eq!(seconds_behind(&reader, 80_000, 90_000), [9, 4]);
    let newest: Vec<i64> = reader
        .newest_clocks()
        .unwrap()
        .iter()
        .map(|row| row.earliest.as_nanos() - NOON)
        .collect();
    assert_eq!(newest, [0, 72_000 * 1_000_000_000]);
}

#[test]
fn a_store_of_an_older_version_has_none() {
    let dir = Dir::new();
    drop(Store::open(&dir.0).unwrap());
    let db = rusqlite::Connection::open(dir.0.join(crate::store::DATABASE)).unwrap();
    db.execute_batch("DROP TABLE clock").unwrap();
    drop(db);
    let reader = Reader::open(&dir.0).unwrap();
    assert_eq!(reader.clocks(at(0), at(10)).unwrap(), []);
    assert_eq!(reader.newest_clocks().unwrap(), []);
}

/// A clock set more often than the limit of offsets: one range covers all.
#[test]
fn no_difference_of_clocks_is_dropped() {
    const BLOCKS: u64 = 4_200;
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let [mut block, _] = Session::new(at(0)).ten_seconds();
    let event = Event {
        at: block.header.closed.mono,
        kind: EventKind::SessionStarted,
    };
    block.body = BlockBody::Events(vec![event]);
    let mut blocks = Vec::new();
    for number in 0..BLOCKS {
        block.header.key.number = number;
        block.header.closed.wall += Span::from_secs(10);
        blocks.push(encoded(&block));
    }
    store.append(&blocks, at(0)).unwrap();
    let reader = Reader::open(&dir.0).unwrap();
    let run = block.header.key.run;
    let always = (Mono::ZERO, Mono::from_nanos(i64::MAX));
    let found = reader.clock_offsets(&name("onprem"), run, always).unwrap();
    let [(low, high)] = found[..] else {
        panic!("{} ranges", found.len());
    };
    assert_eq!(high - low, Span::from_secs(4_199 * 10 + 2));
}
