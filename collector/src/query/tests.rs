use super::{LeftOut, QueryError, RecordOwner, has_records, read};
use crate::store::tests::{Dir, Session, encoded};
use crate::store::{Incoming, Reader, Store};
use hopgap_proto::plan::Plan;
use hopgap_proto::record::{
    BlockBody, Echo, Event, EventKind, FlowIndex, MAX_ROWS, Probe, ProbeFate, Stamp, StampSource,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use hopgap_proto::uplink::ClockExchange;

const FROM: Wall = Wall::from_nanos(1_795_399_200_000_000_000);

/// Sessions `out`, of `onprem` and `azure`, and `own`, of `mallory` and `azure`.
fn plan() -> Plan {
    let mut text = String::new();
    for (agent, end) in [("onprem", 1), ("azure", 2), ("mallory", 3)] {
        text += &format!("[[agent]]\nname = \"{agent}\"\naddress = \"10.0.0.{end}\"\n");
    }
    // The hostile one first.
    for (session, from) in [("own", "mallory"), ("out", "onprem")] {
        text += &format!(
            "[[session]]\nname = \"{session}\"\nfrom = \"{from}\"\nto = \"azure\"\nflows = 4\n"
        );
    }
    toml::from_str(&text).unwrap()
}

/// A block of `mallory` for `session`.
fn hostile(number: u64, session: Option<&str>, body: BlockBody) -> Incoming {
    let [mut block, _] = Session::new(FROM).ten_seconds();
    block.header.key.agent = "mallory".parse().unwrap();
    block.header.key.number = number;
    block.header.session = session.map(|s| s.parse().unwrap());
    block.body = body;
    encoded(&block)
}

fn closed() -> Mono {
    Session::new(FROM).ten_seconds()[0].header.closed.mono
}

/// As many rows as a block may have, of which all are at `at`.
fn dense(at: Mono) -> BlockBody {
    let probe = |i: u32| Probe {
        flow: FlowIndex(0),
        seq: Seq(i),
        sent: Stamp {
            at,
            source: StampSource::Kernel,
        },
        fate: ProbeFate::Unanswered,
    };
    BlockBody::Probes((0..u32::try_from(MAX_ROWS).unwrap()).map(probe).collect())
}

fn ask(dir: &Dir, most: u64) -> Result<super::Read, QueryError> {
    let reader = Reader::open(&dir.0).unwrap();
    read(&reader, &plan(), (FROM, FROM + Span::from_secs(20)), most)
}

fn honest(store: &mut Store) {
    let mut session = Session::new(FROM);
    for _ in 0..2 {
        let blocks = session.ten_seconds();
        let blocks: Vec<Incoming> = blocks.iter().map(encoded).collect();
        store.append(&blocks, FROM).unwrap();
    }
}

/// Whether all of the honest session was read.
fn is_whole(read: &super::Read) -> bool {
    let out = &read.input.sessions[1];
    out.sender.iter().map(|r| r.probes.len()).sum::<usize>() == 8_000
        && out
            .reflector
            .iter()
            .map(|r| r.receptions.len())
            .sum::<usize>()
            > 7_900
}

#[test]
fn a_session_with_far_more_records_than_planned_is_left_out_and_no_other() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    honest(&mut store);
    let most = 50_000_000;
    assert!(is_whole(&ask(&dir, most).unwrap()));
    assert_eq!(ask(&dir, most).unwrap().left_out, []);
    let blocks: Vec<_> = (0..4)
        .map(|n| hostile(n, Some("own"), dense(closed() - Span::from_secs(1))))
        .collect();
    let sent: usize = blocks.iter().map(|b| b.payload.len()).sum();
    assert!(sent < 1_000, "{sent}");
    store.append(&blocks, FROM).unwrap();
    let read = ask(&dir, most).unwrap();
    assert!(is_whole(&read));
    let own = &read.input.sessions[0];
    assert!(own.sender.is_empty(), "its records are not held");
    let [left_out] = &read.left_out[..] else {
        panic!("{:?}", read.left_out);
    };
    assert_eq!(left_out.of, RecordOwner::Session("own".parse().unwrap()));
    assert_eq!(left_out.records, 4 * MAX_ROWS as u64);
    // 4 flows, a probe each 10 ms, over 20 s and two minutes at each side.
    assert_eq!(left_out.planned, 26_000 * 4 + 10_000);
    let said = left_out.to_string();
    assert!(
        said.starts_with("Session `own`: agent `mallory` delivered 1048576 records"),
        "{said}"
    );
}

/// A block of two records that are days apart overlaps every report of those days.
#[test]
fn what_is_counted_is_what_is_read() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    honest(&mut store);
    let far = |at| Event {
        at,
        kind: EventKind::SessionStarted,
    };
    let wide = BlockBody::Events(vec![far(Mono::ZERO), far(closed())]);
    store
        .append(&[hostile(0, Some("own"), wide)], FROM)
        .unwrap();
    // 90 s behind the window: read for the sake of its edge, and counted.
    let [mut late, _] = Session::new(FROM + Span::from_secs(110)).ten_seconds();
    late.header.key.agent = "mallory".parse().unwrap();
    late.header.session = Some("own".parse().unwrap());
    late.header.key.number = 1;
    let at = late.header.closed.mono - Span::from_secs(5);
    late.body = dense(at);
    store.append(&[encoded(&late)], FROM).unwrap();
    for most in [6_000_000, 50_000_000] {
        let read = ask(&dir, most).unwrap();
        assert!(is_whole(&read));
        assert_eq!(read.left_out.len(), 1, "{:?}", read.left_out);
    }
}

#[test]
fn what_the_plan_makes_is_refused_as_a_whole_with_a_remedy() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    honest(&mut store);
    let error = ask(&dir, 1_000_000).unwrap_err();
    assert!(matches!(error, QueryError::TooMany { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("8000 records") && said.contains("--max-memory"),
        "{said}"
    );
    // Echoes of an agent that made far too many are left out alone.
    let left = LeftOut {
        of: RecordOwner::Echoes,
        agent: "mallory".parse().unwrap(),
        records: 9,
        planned: 1,
    };
    assert!(left.to_string().starts_with("Echoes of agent `mallory`: "));
}

/// What agents that have no part in a session say of themselves is not read for it.
#[test]
fn another_agents_own_events_cost_a_session_nothing() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    honest(&mut store);
    let event = Event {
        at: closed(),
        kind: EventKind::SessionStarted,
    };
    let many = BlockBody::Events(vec![event; MAX_ROWS]);
    store.append(&[hostile(0, None, many)], FROM).unwrap();
    let read = ask(&dir, 8_000_000).unwrap();
    assert!(is_whole(&read));
    let of_out = &read.input.sessions[1];
    assert!(of_out.sender.iter().all(|run| run.events.is_empty()));
    // They are read with its own session alone.
    assert_eq!(read.left_out.len(), 1, "{:?}", read.left_out);
    assert_eq!(
        read.left_out[0].of,
        RecordOwner::Session("own".parse().unwrap())
    );
}

/// The two agents of session `out`.
const BOTH: [&str; 2] = ["onprem", "azure"];

/// Stores twice ten seconds of an honest session. `ahead` says how far the wall clocks of
/// `onprem` and `azure` are ahead in the first ten seconds, and in the second.
fn off(store: &mut Store, ahead: [[Span; 2]; 2]) {
    let mut session = Session::new(FROM);
    for ahead in ahead {
        let mut blocks = session.ten_seconds();
        for (block, ahead) in blocks.iter_mut().zip(ahead) {
            block.header.closed.wall += ahead;
        }
        if let BlockBody::Probes(probes) = &mut blocks[0].body {
            for probe in probes {
                if let ProbeFate::Answered(reply) = &mut probe.fate {
                    reply.reflector_received += ahead[1];
                    reply.reflector_sent += ahead[1];
                }
            }
        }
        let blocks: Vec<Incoming> = blocks.iter().map(encoded).collect();
        store.append(&blocks, FROM + Span::from_secs(30)).unwrap();
    }
}

/// Stores an agent's clock report at the beginning of the session.
fn tell(store: &mut Store, agent: &str, ahead: Span) {
    let [first, _] = Session::new(FROM).ten_seconds();
    let then = first.header.closed.mono - Span::from_secs(10);
    let exchange = ClockExchange {
        run: first.header.key.run,
        sent: then,
        collector: FROM,
        received: ClockPair {
            mono: then + Span::from_millis(10),
            wall: FROM + Span::from_millis(10) + ahead,
        },
    };
    let agent = agent.parse().unwrap();
    store.clock(&agent, &exchange, FROM).unwrap();
}

/// How far clocks are off in the tests, in seconds.
const FAR: [i64; 6] = [30, 7_200, -7_200, 259_200, -259_200, -34_560_000];

#[test]
fn records_are_read_whole_however_far_a_clock_is_off() {
    for ahead in FAR.map(Span::from_secs) {
        for whose in [[true, false], [false, true], [true, true]] {
            let dir = Dir::new();
            let mut store = Store::open(&dir.0).unwrap();
            let of = whose.map(|off| if off { ahead } else { Span::ZERO });
            off(&mut store, [of, of]);
            for (agent, ahead) in BOTH.iter().zip(of) {
                tell(&mut store, agent, ahead);
            }
            let read = ask(&dir, 50_000_000).unwrap();
            assert!(is_whole(&read), "{ahead} {whose:?}");
            assert_eq!(read.left_out, []);
            // Where both ends are in, on the collector's clock.
            let ends = read
                .input
                .ends
                .iter()
                .filter(|e| e.session.as_str() == "out");
            let ends: Vec<Wall> = ends.filter_map(|e| e.until).collect();
            assert_eq!(ends.len(), 2);
            for until in ends {
                let late = until - (FROM + Span::from_secs(20));
                assert!(late.abs() < Span::from_secs(2), "{ahead} {whose:?}: {late}");
            }
            let reader = Reader::open(&dir.0).unwrap();
            let has = |from: Wall| has_records(&reader, from, from + Span::from_secs(20)).unwrap();
            assert!(has(FROM));
            assert!(!has(FROM + ahead * 2), "{ahead} {whose:?}");
        }
    }
}

/// The agent could not tell of it: it is known by what its blocks say of its clocks.
#[test]
fn records_are_read_whole_where_a_clock_was_set_meanwhile() {
    for ahead in FAR.map(Span::from_secs) {
        for (first, second) in [(ahead, Span::ZERO), (Span::ZERO, ahead), (ahead, -ahead)] {
            let dir = Dir::new();
            let mut store = Store::open(&dir.0).unwrap();
            off(&mut store, [[first; 2], [second; 2]]);
            for agent in BOTH {
                tell(&mut store, agent, first);
            }
            let read = ask(&dir, 50_000_000).unwrap();
            assert!(is_whole(&read), "{first} {second}");
            for end in read
                .input
                .ends
                .iter()
                .filter(|e| e.session.as_str() == "out")
            {
                let late = end.until.unwrap() - (FROM + Span::from_secs(20));
                assert!(late.abs() < Span::from_secs(2), "{first} {second}: {late}");
            }
        }
    }
}

/// Replies alone tell how the reflector's clock stands to that of the sender.
#[test]
fn the_log_of_a_reflector_that_told_nothing_is_found_by_the_replies() {
    for ahead in FAR.map(Span::from_secs) {
        let dir = Dir::new();
        let mut store = Store::open(&dir.0).unwrap();
        off(&mut store, [[Span::ZERO, ahead], [Span::ZERO, -ahead]]);
        assert!(is_whole(&ask(&dir, 50_000_000).unwrap()), "{ahead}");
    }
}

#[test]
fn echoes_of_a_clock_that_is_off_are_read() {
    let ahead = Span::from_secs(7_200);
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let [mut block, _] = Session::new(FROM).ten_seconds();
    let echo = |second| Echo {
        seq: 1,
        sent: Stamp {
            at: block.header.closed.mono - Span::from_secs(second),
            source: StampSource::User,
        },
        round_trip: None,
    };
    let echoes = (1..10).map(echo).collect();
    block.body = BlockBody::Echoes("msee".parse().unwrap(), echoes);
    block.header.session = None;
    block.header.closed.wall += ahead;
    store.append(&[encoded(&block)], FROM).unwrap();
    tell(&mut store, "onprem", ahead);
    let mut plan = plan();
    plan.echoes = toml::from_str::<Plan>(
        "[[agent]]\nname = \"onprem\"\naddress = \"10.0.0.1\"\n\
         [[echo]]\nname = \"msee\"\nfrom = \"onprem\"\ntarget = \"10.0.0.9\"\n",
    )
    .unwrap()
    .echoes;
    let reader = Reader::open(&dir.0).unwrap();
    let asked = (FROM, FROM + Span::from_secs(20));
    let read = super::read(&reader, &plan, asked, 50_000_000).unwrap();
    let found = hopgap_analysis::analyse(&read.input).echoes;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].sent, 9);
    // On the collector's clock.
    let silent = found[0].silent[0];
    assert!((silent.from.0 - FROM - Span::from_secs(1)).abs() < Span::from_millis(100));
}

/// While a host sleeps its monotonic clock stands still, and the wall clock goes on.
#[test]
fn an_agent_that_slept_is_dated_by_what_it_told_after_it() {
    let slept = Span::from_secs(8 * 3_600);
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    off(&mut store, [[slept; 2]; 2]);
    let [first, _] = Session::new(FROM).ten_seconds();
    let woke = FROM + slept + Span::from_secs(1);
    for agent in BOTH {
        tell(&mut store, agent, Span::ZERO);
        let then = first.header.closed.mono - Span::from_secs(9);
        let exchange = ClockExchange {
            run: first.header.key.run,
            sent: then,
            collector: woke,
            received: ClockPair {
                mono: then + Span::from_millis(10),
                wall: woke + Span::from_millis(10),
            },
        };
        store
            .clock(&agent.parse().unwrap(), &exchange, woke)
            .unwrap();
    }
    let reader = Reader::open(&dir.0).unwrap();
    let from = FROM + slept;
    let to = from + Span::from_secs(20);
    let read = read(&reader, &plan(), (from, to), 50_000_000).unwrap();
    assert!(is_whole(&read));
    assert_eq!(read.left_out, []);
    let ends = read.input.ends.iter();
    let ends: Vec<Wall> = ends
        .filter(|e| e.session.as_str() == "out")
        .filter_map(|e| e.until)
        .collect();
    assert_eq!(ends.len(), 2);
    for until in ends {
        assert!((until - to).abs() < Span::from_secs(2), "{until:?}");
    }
    // Records after the sleep do not count for the time before it.
    let before = FROM + Span::from_secs(3_600);
    assert!(!has_records(&reader, before, before + slept / 2).unwrap());
}

/// As many records as planned at each of many clock levels are too many in total.
#[test]
fn a_clock_that_is_set_often_gets_no_more_memory() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    honest(&mut store);
    tell(&mut store, "mallory", Span::ZERO);
    let BlockBody::Probes(mut probes) = dense(closed() - Span::from_secs(1)) else {
        panic!("probes were made");
    };
    probes.truncate(200_000);
    for level in 0..5_i64 {
        let [mut block, _] = Session::new(FROM).ten_seconds();
        block.header.key.agent = "mallory".parse().unwrap();
        block.header.key.number = level.unsigned_abs();
        block.header.session = Some("own".parse().unwrap());
        block.header.closed.wall += Span::from_secs(level * 3_600);
        block.body = BlockBody::Probes(probes.clone());
        store.append(&[encoded(&block)], FROM).unwrap();
    }
    let read = ask(&dir, 100_000_000).unwrap();
    assert!(is_whole(&read));
    let [left_out] = &read.left_out[..] else {
        panic!("{:?}", read.left_out);
    };
    assert_eq!(left_out.records, 1_000_000);
}
