use super::*;
use crate::plan::Plan;
use crate::record::{FlowIndex, RunFault, RunId};

#[test]
fn versions_agree_on_the_newest_that_both_know() {
    let range = |oldest, newest| ProtocolRange { oldest, newest };
    assert_eq!(range(1, 3).agree(range(2, 5)), Some(3));
    assert_eq!(range(2, 5).agree(range(1, 3)), Some(3));
    assert_eq!(range(1, 1).agree(range(1, 1)), Some(1));
    assert_eq!(range(1, 2).agree(range(3, 5)), None);
    assert_eq!(range(3, 5).agree(range(1, 2)), None);
}

#[test]
fn a_secret_is_read_from_its_header_and_from_no_other() {
    assert_eq!(secret_of(&bearer("s3cret")), Some("s3cret"));
    assert_eq!(secret_of("bearer s3cret "), Some("s3cret"));
    for bad in ["", "s3cret", "Bearer", "Bearer ", "Basic s3cret"] {
        assert_eq!(secret_of(bad), None, "{bad}");
    }
}

#[test]
fn a_revision_follows_the_content() {
    let empty = Plan::default();
    let mut other = Plan::default();
    other.objective.min_lost += 1;
    assert_eq!(Revision::of(&empty), Revision::of(&Plan::default()));
    assert_ne!(Revision::of(&empty), Revision::of(&other));
    // Agents keep revisions across upgrades of the collector: the value is part
    // of the protocol.
    let text = Revision::of(&empty).to_string();
    assert_eq!(text, "5f7f7d6ae3329b96");
    assert_eq!(text.parse(), Ok(Revision::of(&empty)));
}

#[test]
fn what_is_no_revision_is_told_so() {
    for bad in [
        "",
        "1",
        "+000000000000001",
        "00000000000000g1",
        "00000000000000001",
    ] {
        assert!(bad.parse::<Revision>().is_err(), "{bad}");
    }
}

#[test]
fn messages_read_as_they_are_documented() {
    let hello: Hello = serde_json::from_str(
        r#"{"agent":"onprem","run":7,"version":"0.1.0","protocol":{"oldest":1,"newest":1},"new_field":true}"#,
    )
    .unwrap();
    assert_eq!(hello.run, RunId(7));
    let ack: Ack = serde_json::from_str(r#"{"bytes":120,"stored":1,"duplicates":0}"#).unwrap();
    assert_eq!(ack.bytes, 120);
    assert!(ack.refused.is_empty());
    let error: ErrorBody =
        serde_json::from_str(r#"{"code":"of_the_future","error":"e","remedy":"r"}"#).unwrap();
    assert_eq!(error.code, ErrorCode::Other);
    let plan = PlanResponse {
        revision: Revision(0xab),
        plan: Plan::default(),
    };
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains(r#""revision":"00000000000000ab""#), "{text}");
    assert_eq!(serde_json::from_str::<PlanResponse>(&text).unwrap(), plan);
}

#[test]
fn a_report_of_a_newer_agent_is_read_as_far_as_it_is_known() {
    let report: AgentReport = serde_json::from_str(
        r#"{"run":7,"at_ns":1790000000000000000,"block":"1s","of_the_future":1,
            "spool":{"waiting":5,"in_memory":0,"most":10,"free":null},
            "sessions":[{"name":"a-b","running":7,"faults":[
                {"flow":3,"why":{"port_in_use":{"address":"10.0.0.1","port":50003}}},
                {"flow":4,"why":{"of_the_future":{"x":1}}},
                {"why":"of_the_future"}]}],
            "faults":[{"part":"of_the_future","why":"unusable_key"}]}"#,
    )
    .unwrap();
    let faults = &report.sessions[0].faults;
    assert_eq!(
        faults[0],
        FlowFault {
            flow: Some(FlowIndex(3)),
            why: RunFault::PortInUse {
                address: [10, 0, 0, 1].into(),
                port: 50_003
            },
        }
    );
    assert_eq!(faults[1].why, RunFault::Other);
    assert_eq!((faults[2].flow, faults[2].why), (None, RunFault::Other));
    assert_eq!(report.faults[0].part, AgentPart::Other);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<AgentReport>(&text).unwrap(), report);
}
