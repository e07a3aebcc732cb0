use super::{LeftOut, QueryError, Whose, read};
use crate::store::tests::{Dir, Session, encoded};
use crate::store::{Incoming, Reader, Store};
use hopgap_proto::plan::Plan;
use hopgap_proto::record::{
    BlockBody, Event, EventKind, FlowIndex, MAX_ROWS, Probe, ProbeFate, Stamp, StampSource,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span, Wall};

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
    assert_eq!(left_out.of, Whose::Session("own".parse().unwrap()));
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
        of: Whose::Echoes,
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
    assert_eq!(read.left_out[0].of, Whose::Session("own".parse().unwrap()));
}
