use crate::plan::CollectorPlan;
use crate::store::tests::{Dir, Session, TWO, counts, encoded, everything, name};
use crate::store::{Reader, Store};
use hopgap_proto::record::RunId;
use hopgap_proto::time::Span;
use rusqlite::Connection;
use std::path::Path;

#[test]
fn a_renamed_agent_keeps_its_history_sealed_or_not_and_whatever_came_under_the_new_name() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let text = include_str!("../../../examples/plan.toml");
    let plan = CollectorPlan::parse(text, Path::new("plan.toml"))
        .unwrap()
        .plan;
    store.adopt_plan(&plan, TWO).unwrap();
    let mut session = Session::new(TWO);
    // Each agent has its own run, as in reality.
    let mut ten_seconds = |agent: &str| {
        let [mut probes, _] = session.ten_seconds();
        probes.header.key.run = RunId(77);
        probes.header.key.agent = agent.parse().unwrap();
        encoded(&probes)
    };
    store.append(&[ten_seconds("onprem")], TWO).unwrap();
    let hour = Span::from_secs(3_600);
    assert_eq!(
        store
            .seal(TWO + hour * 2, Span::from_secs(1))
            .unwrap()
            .len(),
        1
    );
    let again = ten_seconds("onprem");
    store.append(&[again], TWO).unwrap();
    // The same run delivers between the renaming in the catalogue and in the store.
    let mut twice = ten_seconds("dc1");
    store.append(&[twice.clone()], TWO).unwrap();
    twice.header.key.agent = name("onprem");
    store.append(&[twice], TWO).unwrap();

    store.rename_agent(&name("onprem"), &name("dc1")).unwrap();
    let runs = everything(&dir.0);
    let runs: Vec<_> = runs
        .iter()
        .map(|((a, r), rows)| (a.as_str(), *r, rows.probes.len()))
        .collect();
    assert_eq!(runs, [("dc1", RunId(77), 12_000)]);
    let reader = Reader::open(&dir.0).unwrap();
    let agents = reader.agents().unwrap();
    assert_eq!((agents.len(), agents[0].agent.as_str()), (1, "dc1"));
    let past = reader.plan_at(TWO).unwrap().unwrap();
    assert!(past.agent(&name("onprem")).is_none());
    assert_eq!(past.sessions[0].from, name("dc1"));
    assert!(past.destination(&past.sessions[1]).is_some(), "to dc1");

    // A repeated renaming, and one of an unknown agent, change nothing.
    store.rename_agent(&name("onprem"), &name("dc1")).unwrap();
    assert_eq!(counts(&everything(&dir.0)).0, 12_000);
    let more = store.append(&[ten_seconds("dc1")], TWO).unwrap();
    assert_eq!(more.new, 1);
}

#[test]
fn what_expired_under_the_old_name_is_not_missing_under_the_new_one() {
    let dir = Dir::new();
    let hour = Span::from_secs(3_600);
    let mut store = Store::open(&dir.0).unwrap();
    let mut session = Session::new(TWO);
    let mut ten_seconds = |agent: &str| {
        let [mut probes, _] = session.ten_seconds();
        probes.header.key.run = RunId(77);
        probes.header.key.agent = name(agent);
        encoded(&probes)
    };
    let old = [ten_seconds("onprem"), ten_seconds("onprem")];
    let numbers = old.each_ref().map(|b| b.header.key.number.cast_signed());
    store.append(&old, TWO).unwrap();
    assert_eq!(store.expire(TWO + hour).unwrap().blocks, 2);
    // The same run delivers under its new name before the records follow.
    store.append(&[ten_seconds("dc1")], TWO + hour * 2).unwrap();
    store.rename_agent(&name("onprem"), &name("dc1")).unwrap();
    drop(store);
    let db = Connection::open(dir.0.join("hopgap.db")).unwrap();
    let expired: Vec<(String, i64, i64)> = db
        .prepare(
            "SELECT agent.name, first, last FROM expired
             JOIN run ON run.id = expired.run JOIN agent ON agent.id = run.agent",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(expired, numbers.map(|n| ("dc1".to_owned(), n, n)));
}
