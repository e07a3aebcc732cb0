//! Agents' reports, and the status that follows from them.

use super::{Running, SECRET, frames, json, now};
use crate::serve::{AgentState, SessionState};
use crate::store::tests::Session;
use hopgap_analysis::schema::Nanos;
use hopgap_proto::record::{FlowIndex, RunFault, RunId};
use hopgap_proto::time::Span;
use hopgap_proto::uplink::{
    AgentReport, ErrorBody, ErrorCode, FlowFault, REPORT_PATH, SessionReport, SpoolReport,
};

fn report() -> AgentReport {
    AgentReport {
        run: RunId(1),
        at_ns: now(),
        block: Span::from_secs(1),
        spool: SpoolReport {
            waiting: 12_345,
            free: Some(5_000_000_000),
            ..SpoolReport::default()
        },
        sessions: vec![SessionReport {
            name: "out".parse().unwrap(),
            running: 4,
            faults: Vec::new(),
        }],
        faults: Vec::new(),
    }
}

fn tell(running: &Running, report: &AgentReport) -> u16 {
    let body = serde_json::to_vec(report).unwrap();
    running
        .send("onprem", Some(SECRET), REPORT_PATH, Some(&body))
        .0
}

#[test]
fn agents_and_sessions_are_judged_with_the_path_in_use() {
    let running = Running::start();
    let status = running.client().status().unwrap();
    let states: Vec<_> = status.agents.iter().map(|a| a.state).collect();
    assert_eq!(states, [AgentState::Down, AgentState::Down]);
    assert_eq!(status.sessions[0].state, SessionState::NoData);
    assert!(!status.ok);

    let [probes, receptions] = Session::new(now()).ten_seconds();
    assert_eq!(running.deliver("onprem", &frames([&probes])).0, 200);
    assert_eq!(running.deliver("azure", &frames([&receptions])).0, 200);
    assert_eq!(tell(&running, &report()), 204);
    let status = running.client().status().unwrap();
    let onprem = status.agents.iter().find(|a| a.name == "onprem").unwrap();
    assert_eq!(onprem.spool.unwrap().waiting, 12_345);
    let Nanos(silent) = onprem.silent_ns.unwrap();
    assert!(silent < Span::from_secs(30), "{silent}");
    assert!(onprem.behind_ns.is_some());
    let session = &status.sessions[0];
    assert_eq!((session.flows, session.running), (4, Some(4)));
    assert_eq!(session.paths.forward, [Some("direct".to_owned())]);
    assert!(status.disk.free.is_some() && status.disk.error.is_none());
}

#[test]
fn why_a_flow_does_not_run_is_in_the_status() {
    let running = Running::start();
    let why = RunFault::PortInUse {
        address: [10, 1, 11, 10].into(),
        port: 50_003,
    };
    let fault = FlowFault {
        flow: Some(FlowIndex(3)),
        why,
    };
    let mut told = report();
    told.sessions[0].running = 3;
    told.sessions[0].faults = vec![fault];
    // A report on another agent's session is ignored.
    told.sessions.push(SessionReport {
        name: "elsewhere".parse().unwrap(),
        running: 0,
        faults: vec![fault],
    });
    assert_eq!(tell(&running, &told), 204);
    let status = running.client().status().unwrap();
    assert_eq!(status.sessions.len(), 1);
    let session = &status.sessions[0];
    assert_eq!(session.state, SessionState::Partly);
    assert_eq!(
        (session.running, &session.faults[..]),
        (Some(3), &[fault][..])
    );

    let whole = FlowFault {
        flow: None,
        why: RunFault::UnusableKey,
    };
    told.sessions[0].running = 0;
    told.sessions[0].faults = vec![whole];
    tell(&running, &told);
    let status = running.client().status().unwrap();
    assert_eq!(status.sessions[0].state, SessionState::NotRunning);
    assert_eq!(status.sessions[0].faults, [whole]);
}

#[test]
fn a_report_is_taken_from_the_agent_itself_only() {
    let running = Running::start();
    let body = serde_json::to_vec(&report()).unwrap();
    let code = |(status, text): (u16, String)| (status, json::<ErrorBody>(&text).code);
    let send = |secret, body: &[u8]| running.send("onprem", secret, REPORT_PATH, Some(body));
    assert_eq!(code(send(None, &body)), (401, ErrorCode::Unauthorized));
    assert_eq!(code(send(Some(SECRET), b"{}")), (400, ErrorCode::Malformed));
    let status = running.client().status().unwrap();
    assert!(status.agents.iter().all(|a| a.spool.is_none()));
    assert_eq!(tell(&running, &report()), 204);
}
