use super::{Drill, Incoming, Kind, Marker, MarkerKind, Reader, Runs, Store, StoreError, seal};
use crate::plan::CollectorPlan;
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::record::{
    Block, BlockBody, BlockHeader, BlockKey, Echo, Event, EventKind, Probe, ProbeFate, Reception,
    RunId, Stamp, StampSource,
};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is gone when the test is over.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hopgap-store-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const UNIT: Span = Span::from_nanos(100);

/// 2026-11-23T02:00:00Z, the beginning of an hour.
pub(super) const TWO: Wall = Wall::from_nanos(1_795_399_200_000_000_000);

/// A session between two agents, its blocks set to begin at a time of choice.
pub(crate) struct Session {
    synthetic: Synthetic,
    shift: Option<Span>,
    begin: Wall,
}

impl Session {
    pub(crate) fn new(begin: Wall) -> Self {
        let synthetic = Synthetic::new(7, 4, Span::from_millis(10)).unwrap();
        Self {
            synthetic,
            shift: None,
            begin,
        }
    }

    /// The next ten seconds: the account of `onprem`, and that of `azure`.
    pub(crate) fn ten_seconds(&mut self) -> [Block; 2] {
        let stretch = self.synthetic.stretch(1_000);
        let (mut probes, mut receptions) = (stretch.probes, stretch.receptions);
        let closed = probes.header.closed;
        let shift = *self
            .shift
            .get_or_insert(self.begin - (closed.wall - Span::from_secs(10)));
        for (block, agent) in [(&mut probes, "onprem"), (&mut receptions, "azure")] {
            block.header.key.agent = agent.parse().unwrap();
            block.header.session = Some("out".parse().unwrap());
            block.header.closed.wall += shift;
        }
        if let BlockBody::Probes(probes) = &mut probes.body {
            for probe in probes {
                if let ProbeFate::Answered(reply) = &mut probe.fate {
                    reply.reflector_received += shift;
                    reply.reflector_sent += shift;
                }
            }
        }
        [probes, receptions]
    }
}

pub(crate) fn encoded(block: &Block) -> Incoming {
    Incoming::read(&block.encode(UNIT).unwrap()).unwrap()
}

pub(super) fn both(blocks: &[Block]) -> Vec<Incoming> {
    blocks.iter().map(encoded).collect()
}

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn read(dir: &Path, from: Wall, to: Wall) -> Runs {
    let kinds = [Kind::Probes, Kind::Receptions, Kind::Traces, Kind::Events];
    let mut runs = Reader::open(dir)
        .unwrap()
        .records(&name("out"), &kinds, from, to)
        .unwrap();
    for rows in runs.values_mut() {
        rows.probes.sort();
        rows.receptions.sort();
    }
    runs
}

pub(super) fn everything(dir: &Path) -> Runs {
    read(dir, Wall::MIN, Wall::MAX)
}

/// Probes and receptions of all runs.
pub(super) fn counts(runs: &Runs) -> (usize, usize) {
    (
        runs.values().map(|r| r.probes.len()).sum(),
        runs.values().map(|r| r.receptions.len()).sum(),
    )
}

#[test]
fn what_is_stored_comes_back_and_a_second_delivery_changes_nothing() {
    let dir = Dir::new();
    let blocks = Session::new(TWO).ten_seconds();
    let mut store = Store::open(&dir.0).unwrap();
    let first = store.append(&both(&blocks), TWO).unwrap();
    assert_eq!((first.new, first.duplicate), (2, 0));
    let before = everything(&dir.0);
    let again = store.append(&both(&blocks), TWO).unwrap();
    assert_eq!((again.new, again.duplicate, again.records), (0, 2, 0));
    assert_eq!(everything(&dir.0), before);

    // The records read back are those of the blocks.
    let onprem = &before[&(name("onprem"), RunId(1))];
    let BlockBody::Probes(mut sent) = Block::decode(&blocks[0].encode(UNIT).unwrap())
        .unwrap()
        .body
    else {
        panic!("probes were encoded");
    };
    sent.sort();
    assert_eq!(onprem.probes, sent);
    assert_eq!(onprem.clocks, [blocks[0].header.closed]);
    assert_eq!(onprem.receptions, []);
    assert_eq!(counts(&before).0, 4_000);

    // Another process, too.
    drop(store);
    drop(Store::open(&dir.0).unwrap());
    assert_eq!(everything(&dir.0), before);
    let agents = Reader::open(&dir.0).unwrap().agents().unwrap();
    assert_eq!(agents.len(), 2);
    assert_eq!((agents[1].agent.as_str(), agents[1].blocks), ("onprem", 1));
    assert_eq!((agents[1].duplicates, agents[1].records), (1, 4_000));
    assert_eq!(agents[1].newest, Some(blocks[0].header.closed.wall));
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let dir = Dir::new();
    let crashed = Dir::new();
    let mut session = Session::new(TWO);
    let mut store = Store::open(&dir.0).unwrap();
    store.append(&both(&session.ten_seconds()), TWO).unwrap();
    // A process killed here leaves the database and its log as they are now.
    for file in std::fs::read_dir(&dir.0).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, crashed.0.join(file.file_name().unwrap())).unwrap();
    }
    let mut reopened = Store::open(&crashed.0).unwrap();
    assert_eq!(everything(&crashed.0), everything(&dir.0));
    let more = reopened.append(&both(&session.ten_seconds()), TWO).unwrap();
    assert_eq!(more.new, 2);
    assert_eq!(counts(&everything(&crashed.0)).0, 8_000);
}

#[test]
fn a_stretch_of_time_is_read_exactly() {
    let dir = Dir::new();
    let mut session = Session::new(TWO);
    let mut store = Store::open(&dir.0).unwrap();
    for _ in 0..3 {
        store.append(&both(&session.ten_seconds()), TWO).unwrap();
    }
    let second = Span::from_secs(1);
    let check = |dir: &Path| {
        let runs = read(dir, TWO + second * 15, TWO + second * 25);
        let rows = &runs[&(name("onprem"), RunId(1))];
        // 4 flows, 100 probes a second and flow, give or take one at the edges.
        assert!(
            (3_996..=4_004).contains(&rows.probes.len()),
            "{}",
            rows.probes.len()
        );
        // The reading within, and the next one after it.
        assert_eq!(
            rows.clocks.iter().map(|c| c.wall).collect::<Vec<_>>(),
            [TWO + second * 20, TWO + second * 30]
        );
    };
    check(&dir.0);
    store.seal(TWO + second * 7200, second).unwrap();
    check(&dir.0);
    let reader = Reader::open(&dir.0).unwrap();
    assert!(reader.count(TWO + second * 15, TWO + second * 25).unwrap() >= 8_000);
}

#[test]
fn sealing_keeps_every_row() {
    let dir = Dir::new();
    let mut session = Session::new(TWO + Span::from_secs(3_575));
    let mut store = Store::open(&dir.0).unwrap();
    // The third block begins in the next hour, which is not over.
    for _ in 0..4 {
        store.append(&both(&session.ten_seconds()), TWO).unwrap();
    }
    let mut odd = session.ten_seconds();
    if let BlockBody::Probes(probes) = &mut odd[0].body {
        probes[0].fate = ProbeFate::Refused(101);
        probes[1].sent.source = StampSource::User;
        if let ProbeFate::Answered(reply) = &mut probes[2].fate {
            reply.forward_ttl = None;
            reply.received.source = StampSource::Hardware;
        }
    }
    if let BlockBody::Receptions(receptions) = &mut odd[1].body {
        receptions[0].reflector_seq = None;
        receptions[1].ttl = None;
    }
    store.append(&both(&odd), TWO).unwrap();
    let before = everything(&dir.0);

    let (hour, quiet) = (Span::from_secs(3_600), Span::from_secs(600));
    let sealed = |store: &mut Store, now| -> Vec<String> {
        let paths = store.seal(now, quiet).unwrap();
        let relative = paths.iter().map(|p| p.strip_prefix(&dir.0).unwrap());
        relative.map(|p| p.display().to_string()).collect()
    };
    assert_eq!(
        sealed(&mut store, TWO + hour),
        [""; 0],
        "the hour may not be complete"
    );
    assert_eq!(
        sealed(&mut store, TWO + hour + quiet),
        [
            "sealed/probes/out/2026-11-23T02.parquet",
            "sealed/receptions/out/2026-11-23T02.parquet"
        ]
    );
    assert_eq!(everything(&dir.0), before);
    assert_eq!(
        blobs(&dir.0),
        4,
        "two blocks of the next hour, of each kind"
    );
    assert_eq!(
        sealed(&mut store, TWO + hour * 2 + quiet),
        [
            "sealed/probes/out/2026-11-23T03.parquet",
            "sealed/receptions/out/2026-11-23T03.parquet"
        ]
    );
    assert_eq!(everything(&dir.0), before);
    assert_eq!(blobs(&dir.0), 0);

    // Late blocks of an hour become a further file; repeated blocks change nothing.
    let again = store.append(&both(&odd), TWO).unwrap();
    assert_eq!((again.new, again.duplicate), (0, 2));
    let mut late = Session::new(TWO).ten_seconds();
    for block in &mut late {
        block.header.key.run = RunId(2);
    }
    store.append(&both(&late), TWO + hour * 3).unwrap();
    assert_eq!(
        sealed(&mut store, TWO + hour * 3),
        [""; 0],
        "more of it may come"
    );
    let before = everything(&dir.0);
    assert_eq!(
        sealed(&mut store, TWO + hour * 4),
        [
            "sealed/probes/out/2026-11-23T02.1.parquet",
            "sealed/receptions/out/2026-11-23T02.1.parquet"
        ]
    );
    assert_eq!(everything(&dir.0), before);
}

fn blobs(dir: &Path) -> i64 {
    let db = Connection::open(dir.join("hopgap.db")).unwrap();
    db.query_row("SELECT count(*) FROM payload", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_crash_while_sealing_loses_nothing_and_doubles_nothing() {
    let dir = Dir::new();
    let (later, quiet) = (TWO + Span::from_secs(7_200), Span::from_secs(600));
    let mut store = Store::open(&dir.0).unwrap();
    let blocks = Session::new(TWO).ten_seconds();
    store.append(&both(&blocks), TWO).unwrap();
    let before = everything(&dir.0);

    // The file is written, the catalogue does not know it.
    let reader = Reader::open(&dir.0).unwrap();
    let due = seal::due(&reader, later, quiet).unwrap().unwrap();
    let first = seal::encode(&reader, due).unwrap();
    assert!(dir.0.join(first.path()).exists());
    drop((store, reader));
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!(everything(&dir.0), before);

    // A second try has the same name; a repeated commit changes nothing.
    let reader = Reader::open(&dir.0).unwrap();
    let due = seal::due(&reader, later, quiet).unwrap().unwrap();
    let second = seal::encode(&reader, due).unwrap();
    assert_eq!(second.path(), first.path());
    store.commit(&second, later).unwrap();
    store.commit(&second, later).unwrap();
    store.commit(&first, later).unwrap();
    assert_eq!(everything(&dir.0), before);
    assert_eq!(
        store.seal(later, quiet).unwrap().len(),
        1,
        "the receptions are left"
    );
    assert_eq!(everything(&dir.0), before);
    assert_eq!(store.seal(later, quiet).unwrap().len(), 0);
}

#[test]
fn a_block_that_the_disk_damaged_costs_itself_only() {
    let dir = Dir::new();
    let mut session = Session::new(TWO);
    let mut store = Store::open(&dir.0).unwrap();
    for _ in 0..2 {
        store.append(&both(&session.ten_seconds()), TWO).unwrap();
    }
    Connection::open(dir.0.join("hopgap.db"))
        .unwrap()
        .execute("UPDATE payload SET data = x'00' WHERE block = 1", [])
        .unwrap();
    assert_eq!(counts(&everything(&dir.0)).0, 4_000);
    let later = TWO + Span::from_secs(7_200);
    assert_eq!(store.seal(later, Span::from_secs(1)).unwrap().len(), 2);
    assert_eq!(counts(&everything(&dir.0)).0, 4_000);
    assert_eq!(blobs(&dir.0), 1, "it stays, for whoever can read it");
    assert_eq!(store.seal(later, Span::from_secs(1)).unwrap().len(), 0);
}

#[test]
fn events_of_the_agent_itself_come_with_its_sessions() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let closed = ClockPair {
        mono: Mono::from_nanos(5_000),
        wall: TWO,
    };
    let event = |kind| Event {
        at: Mono::from_nanos(4_000),
        kind,
    };
    let block = |number, session: Option<&str>, body| Block {
        header: BlockHeader {
            key: BlockKey {
                agent: name("onprem"),
                run: RunId(9),
                number,
            },
            session: session.map(name),
            closed,
        },
        body,
    };
    let stepped = event(EventKind::ClockStepped(Span::from_secs(1)));
    let started = event(EventKind::SessionStarted);
    let echo = Echo {
        seq: 1,
        sent: Stamp {
            at: Mono::from_nanos(4_500),
            source: StampSource::User,
        },
        round_trip: None,
    };
    let blocks = [
        block(0, None, BlockBody::Events(vec![stepped.clone()])),
        block(1, Some("out"), BlockBody::Events(vec![started.clone()])),
        block(2, Some("back"), BlockBody::Events(vec![started.clone()])),
        block(3, None, BlockBody::Echoes(name("msee1"), vec![echo])),
    ];
    store.append(&both(&blocks), TWO).unwrap();
    let runs = everything(&dir.0);
    assert_eq!(runs[&(name("onprem"), RunId(9))].events, [stepped, started]);

    let reader = Reader::open(&dir.0).unwrap();
    let echoes = reader.echoes(TWO - Span::from_secs(1), TWO).unwrap();
    assert_eq!(echoes.len(), 1);
    assert_eq!(
        (echoes[0].target.as_str(), &echoes[0].echoes[..]),
        ("msee1", &[echo][..])
    );
    assert_eq!(reader.echoes(TWO, TWO).unwrap(), []);
    let ran = reader.runs(&name("onprem"), TWO, TWO).unwrap();
    assert_eq!(ran[&RunId(9)], [closed]);
    assert!(reader.runs(&name("azure"), TWO, TWO).unwrap().is_empty());
}

#[test]
fn a_store_that_cannot_be_used_says_why() {
    let dir = Dir::new();
    let missing = Reader::open(&dir.0).unwrap_err().to_string();
    assert!(missing.contains("there is no store at"), "{missing}");
    // A path that cannot be inspected, as of another user: here a name that is too long.
    let hidden = Reader::open(&dir.0.join("x".repeat(300))).unwrap_err();
    assert!(matches!(hidden, StoreError::Hidden { .. }), "{hidden}");
    let hidden = hidden.to_string();
    assert!(hidden.contains("cannot read the store at"), "{hidden}");

    let store = Store::open(&dir.0).unwrap();
    let busy = Store::open(&dir.0).unwrap_err();
    assert!(matches!(busy, StoreError::InUse { .. }), "{busy}");
    drop(store);

    let db = Connection::open(dir.0.join("hopgap.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    for error in [
        Store::open(&dir.0).map(|_| ()).unwrap_err(),
        Reader::open(&dir.0).map(|_| ()).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("has the schema version 99, but this program knows up to 3"),
            "{text}"
        );
    }

    let other = Dir::new();
    let db = Connection::open(other.0.join("hopgap.db")).unwrap();
    db.execute_batch("CREATE TABLE mine (x)").unwrap();
    let foreign = Store::open(&other.0).unwrap_err();
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign}");

    std::fs::write(other.0.join("hopgap.db"), [7; 100]).unwrap();
    let garbage = Store::open(&other.0).unwrap_err();
    assert!(matches!(garbage, StoreError::Open { .. }), "{garbage}");
}

#[test]
fn one_drill_runs_at_a_time() {
    let dir = Dir::new();
    let second = Span::from_secs(1);
    let mut store = Store::open(&dir.0).unwrap();
    let said = |e: StoreError| e.to_string();
    assert!(said(store.stop_drill(TWO).unwrap_err()).contains("no drill is running"));
    store.start_drill("q4", TWO).unwrap();
    assert!(said(store.start_drill("q5", TWO).unwrap_err()).contains("`q4` is running"));
    assert!(said(store.stop_drill(TWO - second).unwrap_err()).contains("started after"));
    store.stop_drill(TWO + second).unwrap();
    assert!(said(store.start_drill("q4", TWO).unwrap_err()).contains("there was a drill `q4`"));
    assert!(said(store.start_drill(" ", TWO).unwrap_err()).contains("is empty"));
    let mark = |at, kind, text: &str| Marker {
        at,
        kind,
        text: text.to_owned(),
    };
    for name in ["a/b", r"a\b", "../up", "-15m", " q5", &"x".repeat(101)] {
        let error = said(store.start_drill(name, TWO).unwrap_err());
        assert!(
            error.contains("cannot be a drill's name"),
            "{name}: {error}"
        );
    }
    let control = said(store.start_drill("a\u{1b}[31m", TWO).unwrap_err());
    assert!(control.contains("control character"), "{control}");
    // A drill that is over takes notes on its time, but on no other.
    let beside = mark(TWO + second * 2, MarkerKind::Note, "late");
    let beside = said(store.mark(&beside).unwrap_err());
    assert!(
        beside.contains("no drill is running, so nothing was noted"),
        "{beside}"
    );
    let failover = mark(TWO + second, MarkerKind::Failover, "peering off");
    let note = mark(TWO, MarkerKind::Note, "begin");
    store.mark(&failover).unwrap();
    store.mark(&note).unwrap();
    assert!(
        said(
            store
                .mark(&mark(TWO, MarkerKind::Note, "a\nb"))
                .unwrap_err()
        )
        .contains("one line")
    );

    let reader = Reader::open(&dir.0).unwrap();
    let drill = Drill {
        name: "q4".to_owned(),
        started: TWO,
        stopped: Some(TWO + second),
    };
    assert_eq!(reader.drills().unwrap(), vec![drill.clone()]);
    assert_eq!(reader.drill("q4").unwrap(), drill);
    assert!(said(reader.drill("q9").unwrap_err()).contains("drill list"));
    assert_eq!(
        reader.markers(TWO, TWO + second).unwrap(),
        [note.clone(), failover]
    );
    assert_eq!(reader.markers(TWO, TWO).unwrap(), [note]);
}

#[test]
fn the_plan_of_a_time_is_kept_without_its_keys() {
    let dir = Dir::new();
    let text = include_str!("../../examples/plan.toml");
    let mut plan = CollectorPlan::parse(text, Path::new("plan.toml"))
        .unwrap()
        .plan;
    let mut store = Store::open(&dir.0).unwrap();
    let hour = Span::from_secs(3_600);
    store.adopt_plan(&plan, TWO).unwrap();
    store.adopt_plan(&plan, TWO + hour).unwrap();
    plan.objective.min_lost = 99;
    let key = "0123456789abcdef0123456789abcdef";
    plan.sessions[0].key = Some(key.to_owned());
    store.adopt_plan(&plan, TWO + hour * 2).unwrap();

    let reader = Reader::open(&dir.0).unwrap();
    let min_lost = |at| reader.plan_at(at).unwrap().unwrap().objective.min_lost;
    assert_eq!(min_lost(TWO - hour), 3, "before the first, the first");
    assert_eq!(min_lost(TWO + hour), 3);
    assert_eq!(min_lost(TWO + hour * 2), 99);
    let kept: i64 = reader
        .db
        .query_row("SELECT count(*) FROM plan", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 2);
    assert_eq!(
        reader.plan_at(TWO + hour * 2).unwrap().unwrap().sessions[0].key,
        None
    );
}

#[test]
fn refused_frames_are_kept_aside() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    store.seen(&name("onprem"), Some("0.1.0"), TWO).unwrap();
    let aside = super::Aside {
        error: "of the future",
        frame: b"frame",
    };
    store.deliver(&name("onprem"), &[], &[aside], TWO).unwrap();
    let agent = &Reader::open(&dir.0).unwrap().agents().unwrap()[0];
    assert_eq!(
        (agent.refused, agent.version.as_deref()),
        (1, Some("0.1.0"))
    );
    let kept: Vec<u8> = store
        .db
        .query_row("SELECT data FROM refused", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, b"frame");

    // All are counted, but only a bounded number is kept.
    let kept = |store: &Store| -> (i64, i64) {
        let sql = "SELECT count(*), sum(length(data)) FROM refused";
        let row = store
            .db
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        row.unwrap()
    };
    store
        .deliver(&name("onprem"), &[], &[aside; 3_000], TWO)
        .unwrap();
    assert_eq!(kept(&store), (1_000, 5_000));
    let large = vec![0; 5 << 20];
    let large = super::Aside {
        error: "large",
        frame: &large,
    };
    store
        .deliver(&name("azure"), &[], &[large; 6], TWO)
        .unwrap();
    assert_eq!(kept(&store), (1_003, 5_000 + 15 * (1 << 20)));
    let agents = Reader::open(&dir.0).unwrap().agents().unwrap();
    assert_eq!((agents[0].refused, agents[1].refused), (6, 3_001));
}

#[test]
fn roles_outlive_a_restart_and_a_plan() {
    use hopgap_proto::record::Block as Encoded;
    let dir = Dir::new();
    let day = Span::from_secs(86_400);
    let plan = |session: &str| {
        let text = format!(
            "[[agent]]\nname = \"onprem\"\naddress = \"10.0.0.1\"\n[[agent]]\nname = \"azure\"\naddress = \"10.0.0.2\"\n[[session]]\nname = \"{session}\"\nfrom = \"onprem\"\nto = \"azure\"\n"
        );
        toml::from_str(&text).unwrap()
    };
    let mut store = Store::open(&dir.0).unwrap();
    store.adopt_plan(&plan("older"), TWO - day * 100).unwrap();
    store.adopt_plan(&plan("out"), TWO - day * 90).unwrap();
    store.adopt_plan(&plan("next"), TWO).unwrap();
    drop(store);
    let roles = |now| Store::open(&dir.0).unwrap().roles(now).unwrap();
    let [probes, _] = Session::new(TWO).ten_seconds();
    let out = Encoded::peek(&probes.encode(UNIT).unwrap()).unwrap();
    let may = |session: &str, now| {
        let mut block = out.clone();
        block.header.session = Some(name(session));
        roles(now)
            .may_deliver(&[&name("onprem")], &block, now)
            .is_ok()
    };
    // In force until a day ago.
    assert!(may("out", TWO + day) && may("next", TWO + day));
    assert!(!may("older", TWO + day), "its last day was long ago");
    assert!(!may("out", TWO + day * 40) && may("next", TWO + day * 40));
}

#[test]
fn the_newest_minute_is_of_the_sender_and_of_no_time_to_come() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let [probes, _] = Session::new(TWO).ten_seconds();
    let now = TWO + Span::from_secs(10);
    store.append(&both(&[probes]), now).unwrap();
    let newest = || {
        let reader = Reader::open(&dir.0).unwrap();
        let newest = reader.newest_minute(&name("out"), &name("onprem"));
        newest.unwrap().unwrap()
    };
    let before = newest();
    assert!(before.last <= now && before.answered > 3_900, "{before:?}");
    // Blocks that older collectors took: another agent's, and one of the year 2262.
    let [mut another, _] = Session::new(TWO + Span::from_secs(20)).ten_seconds();
    another.header.key.agent = name("mallory");
    let [mut far, _] = Session::new(TWO).ten_seconds();
    far.header.key.number = 77;
    far.header.closed.wall = Wall::from_nanos(i64::MAX - 1_000_000_000_000);
    store.append(&both(&[another, far]), now).unwrap();
    assert_eq!(newest(), before);
}

#[test]
fn the_newest_minute_says_since_when_nothing_was_answered() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let [good, _] = Session::new(TWO).ten_seconds();
    let at = |block: &Block| encoded(block).tally.last;
    let answered = at(&good);
    store.append(&both(&[good]), answered).unwrap();
    let newest = || {
        let reader = Reader::open(&dir.0).unwrap();
        let newest = reader.newest_minute(&name("out"), &name("onprem"));
        newest.unwrap().unwrap()
    };
    assert_eq!(newest().last_answered, Some(answered));
    assert_eq!(newest().unanswered_since, 0);
    // Ten seconds of silence after it.
    let [mut silent, _] = Session::new(TWO + Span::from_secs(10)).ten_seconds();
    silent.header.key.number = 90;
    let BlockBody::Probes(probes) = &mut silent.body else {
        panic!("probes come first");
    };
    for probe in probes.iter_mut() {
        probe.fate = ProbeFate::Unanswered;
    }
    let sent = probes.len() as u64;
    let now = at(&silent);
    store.append(&both(&[silent]), now).unwrap();
    assert_eq!(newest().last_answered, Some(answered));
    assert_eq!(newest().unanswered_since, sent);
    assert_eq!(newest().last, now);
}

#[test]
fn a_tally_is_of_the_records() {
    let blocks = Session::new(TWO).ten_seconds();
    let incoming = encoded(&blocks[0]);
    assert_eq!(incoming.kind, Kind::Probes);
    let tally = incoming.tally;
    let BlockBody::Probes(probes) = &blocks[0].body else {
        panic!("probes come first");
    };
    let lost = probes
        .iter()
        .filter(|p: &&Probe| p.fate == ProbeFate::Unanswered);
    assert_eq!(tally.unanswered as usize, lost.count());
    assert_eq!(tally.records, 4_000);
    assert_eq!(
        tally.answered + tally.unanswered + tally.refused,
        tally.records
    );
    assert!(TWO <= tally.first && tally.first < TWO + Span::from_millis(20));
    assert!(tally.last <= TWO + Span::from_millis(10_005));

    let empty = Block {
        body: BlockBody::Receptions(Vec::<Reception>::new()),
        ..blocks[1].clone()
    };
    let closed = empty.header.closed.wall;
    assert_eq!(encoded(&empty).tally.first, closed);
}
