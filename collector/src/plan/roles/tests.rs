use super::{LATELY, NoPart, Roles};
use hopgap_proto::plan::Plan;
use hopgap_proto::record::{AgentName, BlockHeader, BlockKey, BlockKind, BlockSummary, RunId};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

const NOW: Wall = Wall::from_nanos(1_795_399_200_000_000_000);

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Sessions `(name, from, to)`, and the echo of `msee` from `a`.
fn plan(sessions: &[(&str, &str, &str)]) -> Plan {
    let mut text = String::new();
    for (agent, end) in [("a", 1), ("b", 2), ("m", 3)] {
        text += &format!("[[agent]]\nname = \"{agent}\"\naddress = \"10.0.0.{end}\"\n");
    }
    for (session, from, to) in sessions {
        text += &format!("[[session]]\nname = \"{session}\"\nfrom = \"{from}\"\nto = \"{to}\"\n");
    }
    text += "[[echo]]\nname = \"msee\"\nfrom = \"a\"\ntarget = \"10.0.9.9\"\n";
    toml::from_str(&text).unwrap()
}

fn block(kind: BlockKind, session: Option<&str>) -> BlockSummary {
    BlockSummary {
        header: BlockHeader {
            key: BlockKey {
                agent: name("a"),
                run: RunId(1),
                number: 0,
            },
            session: session.map(name),
            closed: ClockPair {
                mono: Mono::ZERO,
                wall: NOW,
            },
        },
        unit: Span::from_nanos(1),
        kind,
        rows: 1,
    }
}

#[test]
fn an_agent_delivers_what_its_part_gives_it_and_nothing_else() {
    let mut roles = Roles::default();
    roles.adopt(&plan(&[("out", "a", "b")]), NOW);
    let [a, b, m]: [AgentName; 3] = ["a", "b", "m"].map(name);
    let may = |agent: &AgentName, kind: BlockKind, session: Option<&str>| {
        roles.may_deliver(&[agent], &block(kind, session), NOW)
    };
    let out = Some("out");
    let sending = |agent: &AgentName| {
        Err(NoPart::Sending {
            agent: agent.clone(),
            session: name("out"),
        })
    };
    let reflecting = |agent: &AgentName| {
        Err(NoPart::Reflecting {
            agent: agent.clone(),
            session: name("out"),
        })
    };
    for kind in [BlockKind::Probes, BlockKind::Traces] {
        assert_eq!(may(&a, kind.clone(), out), Ok(()));
        assert_eq!(may(&b, kind.clone(), out), sending(&b));
        assert_eq!(may(&m, kind.clone(), out), sending(&m));
        assert_eq!(may(&a, kind, None), Err(NoPart::NoSession));
    }
    assert_eq!(may(&b, BlockKind::Receptions, out), Ok(()));
    assert_eq!(may(&a, BlockKind::Receptions, out), reflecting(&a));
    assert_eq!(may(&m, BlockKind::Receptions, out), reflecting(&m));
    // Events: of both ends, and each of itself.
    for agent in [&a, &b] {
        assert_eq!(may(agent, BlockKind::Events, out), Ok(()));
    }
    assert!(matches!(
        may(&m, BlockKind::Events, out),
        Err(NoPart::Session { .. })
    ));
    assert_eq!(may(&m, BlockKind::Events, None), Ok(()));
    // A session that no plan knows is nobody's.
    assert!(may(&a, BlockKind::Probes, Some("other")).is_err());
    // Echoes by their target.
    let echoes = |target| BlockKind::Echoes(name(target));
    assert_eq!(may(&a, echoes("msee"), None), Ok(()));
    assert!(matches!(
        may(&b, echoes("msee"), None),
        Err(NoPart::Echo { .. })
    ));
    assert!(may(&a, echoes("other"), None).is_err());
}

#[test]
fn what_the_plan_took_away_counts_a_while_longer() {
    let mut roles = Roles::default();
    roles.adopt(&plan(&[("out", "a", "b")]), NOW);
    let later = NOW + Span::from_secs(60);
    roles.adopt(&plan(&[("back", "b", "a")]), later);
    let a: AgentName = name("a");
    let probes = block(BlockKind::Probes, Some("out"));
    let end = later + LATELY;
    assert_eq!(roles.may_deliver(&[&a], &probes, end), Ok(()));
    let after = end + Span::from_nanos(1);
    assert!(roles.may_deliver(&[&a], &probes, after).is_err());
    // Another plan does not make it longer, and forgets it in the end.
    roles.adopt(&plan(&[("back", "b", "a")]), later + Span::from_secs(60));
    assert!(roles.may_deliver(&[&a], &probes, after).is_err());
    let known = roles.parts.len();
    roles.adopt(&plan(&[("back", "b", "a")]), after);
    assert_eq!(roles.parts.len(), known - 2);
    // And given anew it counts again.
    roles.adopt(&plan(&[("out", "a", "b")]), after);
    assert_eq!(
        roles.may_deliver(&[&a], &probes, after + LATELY + LATELY),
        Ok(())
    );
}

#[test]
fn an_agent_that_was_renamed_delivers_what_was_its_part() {
    let mut roles = Roles::default();
    roles.adopt(&plan(&[("out", "a", "b")]), NOW);
    let (new, old): (AgentName, AgentName) = (name("onprem"), name("a"));
    let probes = block(BlockKind::Probes, Some("out"));
    assert_eq!(roles.may_deliver(&[&new, &old], &probes, NOW), Ok(()));
    assert!(roles.may_deliver(&[&new], &probes, NOW).is_err());
}
