use super::*;
use crate::serve::delivery::TakenBody;
use crate::serve::health::AgentState;

/// An agent of which little is known.
fn agent(name: &str, taken: TakenBody) -> AgentBody {
    AgentBody {
        name: name.to_owned(),
        planned: true,
        plan: None,
        version: None,
        last_seen: None,
        newest: None,
        blocks: 3,
        duplicates: 0,
        records: 40,
        refused: 0,
        state: AgentState::Ok,
        silent_ns: None,
        behind_ns: None,
        spool: None,
        faults: Vec::new(),
        taken,
        clock: None,
    }
}

fn snapshot() -> Snapshot {
    let taken = TakenBody {
        deliveries: 2,
        bytes: 1_234,
        held_ms: 1_500,
        no_part: 7,
        ..TakenBody::default()
    };
    Snapshot {
        started: Wall::from_nanos(1_700_000_000_500_000_000),
        agents: vec![agent("a", TakenBody::default()), agent("m", taken)],
        refused: RefusedBody {
            token: 5,
            ..RefusedBody::default()
        },
        tls: None,
        writer: WriterBody::default(),
        disk: DiskBody::default(),
        plan_is_in_force: true,
        drill_runs: false,
    }
}

/// Whether a line is there.
fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

#[test]
fn each_number_is_told_with_its_agent_and_cause() {
    let text = snapshot().write(Form::OpenMetrics).unwrap();
    for line in [
        "hopgap_start_time_seconds 1700000000.5",
        "hopgap_plan_in_force 1",
        "hopgap_refused_requests_total{cause=\"token\"} 5",
        "hopgap_agent_deliveries_total{agent=\"m\"} 2",
        "hopgap_agent_delivered_bytes_total{agent=\"m\"} 1234",
        "hopgap_agent_delivered_bytes_total{agent=\"a\"} 0",
        "hopgap_agent_held_back_seconds_total{agent=\"m\"} 1.5",
        "hopgap_agent_refused_frames_total{agent=\"m\",cause=\"no_part\"} 7",
        "hopgap_agent_stored_records_total{agent=\"a\"} 40",
        "# UNIT hopgap_agent_delivered_bytes bytes",
    ] {
        assert!(has(&text, line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
    // What is not known has no value.
    for unknown in ["hopgap_agent_spool_waiting_bytes", "hopgap_disk_free_bytes"] {
        assert!(!text.lines().any(|l| l.starts_with(unknown)), "{text}");
    }
}

#[test]
fn the_older_format_names_counters_as_it_must() {
    let text = snapshot().write(Form::Prometheus).unwrap();
    assert!(has(
        &text,
        "# TYPE hopgap_agent_delivered_bytes_total counter"
    ));
    assert!(has(
        &text,
        "hopgap_agent_delivered_bytes_total{agent=\"m\"} 1234"
    ));
    assert!(!text.contains("# EOF"), "{text}");
}

#[test]
fn a_reader_gets_the_form_that_it_takes() {
    let form = |accept: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Form::for_reader(&headers)
    };
    // As Prometheus 2.42 asks.
    let prometheus =
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(form(prometheus), Form::OpenMetrics);
    assert_eq!(form("text/plain"), Form::Prometheus);
    assert_eq!(Form::for_reader(&HeaderMap::new()), Form::Prometheus);
}
