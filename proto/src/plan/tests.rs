use super::{AgentPlan, Destination, Objective, Plan, PlanError, SessionPlan};
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
