use super::{
    AgentPlan, Destination, EchoPlan, Objective, Plan, PlanError, SessionPlan, UnusableKey,
};
use crate::stamp::Ssid;
use crate::time::Span;

fn agent(name: &str, address: &str) -> AgentPlan {
    AgentPlan {
        name: name.parse().unwrap(),
        address: address.parse().unwrap(),
        reflector_port: 862,
    }
}

fn session(name: &str, from: &str, to: &str, source_port: u16) -> SessionPlan {
    SessionPlan {
        name: name.parse().unwrap(),
        from: from.parse().unwrap(),
        to: Destination::Agent(to.parse().unwrap()),
        interval: Span::from_millis(10),
        flows: 8,
        source_port,
        ssid: None,
        timeout: Span::from_secs(2),
        trace_interval: Span::from_secs(1),
        path_mtu_interval: None,
        dscp: 0,
        precise: false,
        time_unit: Span::from_nanos(100),
        authenticated: None,
        key: None,
    }
}

fn plan() -> Plan {
    Plan {
        agents: vec![
            agent("onprem", "10.1.11.10"),
            agent("azure", "10.17.11.132"),
        ],
        sessions: vec![
            session("out", "onprem", "azure", 50_000),
            session("back", "azure", "onprem", 50_000),
        ],
        objective: Objective::default(),
        ..Plan::default()
    }
}

#[test]
fn sessions_get_distinct_ssids() {
    let plan = plan().checked().unwrap();
    assert_eq!(plan.sessions[0].ssid, Some(Ssid(1)));
    assert_eq!(plan.sessions[1].ssid, Some(Ssid(65)));
}

#[test]
fn sessions_between_agents_are_authenticated_unless_the_plan_says_otherwise() {
    let key = "000102030405060708090a0b0c0d0e0f".to_owned();
    let ours = session("out", "onprem", "azure", 50_000);
    let absent = UnusableKey::Absent {
        session: "out".parse().unwrap(),
    };
    assert_eq!(ours.keys().unwrap_err(), absent);
    let open = SessionPlan {
        authenticated: Some(false),
        ..ours.clone()
    };
    assert!(open.keys().unwrap().is_none());
    let keyed = SessionPlan {
        key: Some(key.clone()),
        ..ours.clone()
    };
    let keys = keyed.keys().unwrap().unwrap();
    let one = key.parse().unwrap();
    assert!(keys.is_same(&crate::stamp::SessionKeys::per_direction(&one)));

    let foreign = SessionPlan {
        to: Destination::Foreign("192.0.2.1:862".parse().unwrap()),
        ..ours
    };
    assert!(foreign.keys().unwrap().is_none());
    let keyed = SessionPlan {
        key: Some(key),
        ..foreign
    };
    let keys = keyed.keys().unwrap().unwrap();
    assert!(keys.is_same(&crate::stamp::SessionKeys::shared(one)));
}

#[test]
fn keys_that_contradict_the_plan_or_each_other_are_refused() {
    let key = Some("000102030405060708090a0b0c0d0e0f".to_owned());
    let checked = |authenticated, key: &Option<String>, to: &Destination| {
        let mut plan = plan();
        plan.sessions[0].authenticated = authenticated;
        plan.sessions[0].key.clone_from(key);
        plan.sessions[0].to = to.clone();
        plan.checked()
    };
    let azure = plan().sessions[0].to.clone();
    let foreign = Destination::Foreign("192.0.2.1:862".parse().unwrap());
    for (authenticated, key, to) in [(Some(false), &key, &azure), (Some(true), &None, &foreign)] {
        assert!(matches!(
            checked(authenticated, key, to),
            Err(PlanError::Range {
                key: "authenticated",
                ..
            })
        ));
    }
    assert!(checked(Some(true), &None, &azure).is_ok());

    let mut same = plan();
    for session in &mut same.sessions {
        session.key.clone_from(&key);
    }
    // Written differently, but the same key.
    same.sessions[1].key = key.as_ref().map(|k| k.to_uppercase());
    assert!(matches!(
        same.clone().checked(),
        Err(PlanError::SameKey { .. })
    ));
    // Two sessions of one agent to one foreign reflector, which has one key.
    for (session, port) in same.sessions.iter_mut().zip([50_000, 51_000]) {
        session.from = "onprem".parse().unwrap();
        session.to = foreign.clone();
        session.source_port = port;
    }
    same.checked().unwrap();
}

#[test]
fn mistakes_are_named() {
    let mut twice = plan();
    twice.agents.push(agent("onprem", "10.1.11.11"));
    assert!(matches!(
        twice.checked(),
        Err(PlanError::Duplicate { kind: "agent", .. })
    ));

    let mut unknown = plan();
    unknown.sessions[0].to = Destination::Agent("moon".parse().unwrap());
    assert!(matches!(
        unknown.checked(),
        Err(PlanError::UnknownAgent { .. })
    ));

    let mut fast = plan();
    fast.sessions[0].interval = Span::from_micros(10);
    assert!(matches!(
        fast.checked(),
        Err(PlanError::Range {
            key: "interval",
            ..
        })
    ));

    let mut reserved = plan();
    reserved.sessions[0].source_port = 65_325;
    assert!(matches!(
        reserved.checked(),
        Err(PlanError::Range {
            key: "source_port",
            ..
        })
    ));

    let mut overlap = plan();
    overlap
        .sessions
        .push(session("third", "onprem", "azure", 50_004));
    assert!(matches!(
        overlap.checked(),
        Err(PlanError::Overlap {
            key: "source_port",
            ..
        })
    ));
}

#[test]
fn an_agent_sees_only_its_own_sessions() {
    let mut all = plan();
    all.agents.push(agent("third", "10.1.11.12"));
    all.sessions
        .push(session("other", "third", "azure", 50_000));
    let part = all.checked().unwrap().for_agent(&"onprem".parse().unwrap());
    assert_eq!(part.sessions.len(), 2);
}

#[test]
fn no_session_sends_from_a_reflectors_port() {
    // A reflector drops packets from a reflector's port: all of them would look lost.
    for (whose, port) in [(0, 50_003), (1, 50_007)] {
        let mut plan = plan();
        plan.agents[whose].reflector_port = port;
        let error = plan.checked().unwrap_err();
        assert!(
            matches!(&error, PlanError::SendsFromReflector { port: p, .. } if *p == port),
            "{error}"
        );
    }
    let mut beside = plan();
    beside.agents[0].reflector_port = 50_008;
    beside.checked().unwrap();
}

#[test]
fn ends_that_cannot_be_are_named() {
    let value = |plan: Plan| match plan.checked() {
        Err(PlanError::Value { of, key, .. }) => format!("{of}: {key}"),
        other => panic!("{other:?}"),
    };
    for address in ["0.0.0.0", "::", "224.0.0.1"] {
        let mut plan = plan();
        plan.agents[1].address = address.parse().unwrap();
        assert_eq!(value(plan), "agent `azure`: address");
    }
    let mut portless = plan();
    portless.agents[0].reflector_port = 0;
    assert_eq!(value(portless), "agent `onprem`: reflector_port");
    for to in ["10.0.0.1:0", "0.0.0.0:862"] {
        let mut foreign = plan();
        foreign.sessions[0].to = Destination::Foreign(to.parse().unwrap());
        assert!(matches!(
            foreign.checked(),
            Err(PlanError::Range { key: "to", .. })
        ));
    }
}

#[test]
fn an_echo_has_an_interval_and_a_timeout_that_can_be_kept() {
    let echo = EchoPlan {
        name: "ce1".parse().unwrap(),
        from: "onprem".parse().unwrap(),
        target: "10.1.11.2".parse().unwrap(),
        interval: Span::from_secs(1),
        timeout: Span::from_secs(2),
    };
    let key = |change: fn(&mut EchoPlan)| {
        let mut echo = echo.clone();
        change(&mut echo);
        let plan = Plan {
            echoes: vec![echo],
            ..plan()
        };
        match plan.checked() {
            Ok(_) => None,
            Err(PlanError::Value { key, .. }) => Some(key),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(key(|_| ()), None);
    assert_eq!(key(|e| e.interval = Span::ZERO), Some("interval"));
    assert_eq!(
        key(|e| e.interval = Span::from_secs(7_200)),
        Some("interval")
    );
    assert_eq!(key(|e| e.timeout = Span::ZERO), Some("timeout"));
    assert_eq!(
        key(|e| e.target = "0.0.0.0".parse().unwrap()),
        Some("target")
    );
}
