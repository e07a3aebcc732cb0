use super::super::HostClock;
use super::Message;
use hopgap_proto::uplink::AgentReport;

fn read(text: &str) -> anyhow::Result<Option<Message>> {
    Message::read(&mut text.as_bytes())
}

#[test]
fn a_message_is_its_head_and_its_body() {
    let message = read("POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef")
        .expect("right")
        .expect("one");
    assert_eq!(message.body, b"abc");
    assert!(message.begins_with("POST /x"));
    let other = message.with_body(b"four");
    assert_eq!(other.lines, ["POST /x HTTP/1.1", "content-length: 4"]);
}

#[test]
fn what_has_no_length_has_no_body() {
    let message = read("HTTP/1.1 304 Not Modified\r\n\r\n").expect("right");
    assert_eq!(message.expect("one").body, b"");
    assert_eq!(read("").expect("an end"), None);
}

#[test]
fn what_cannot_be_passed_on_is_said() {
    for text in [
        "GET /x HTTP/1.1\r\n",
        "GET /x HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        "GET /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET /x HTTP/1.1\r\ncontent-length: 9\r\n\r\nab",
        "GET /x HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\nab",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

/// Two hours ahead from the beginning.
fn ahead() -> HostClock {
    let spec: super::super::ClockSpec = toml::from_str("offset-s = 7200").expect("a clock");
    spec.draw(7, hopgap_net::clock::Clock::pair()).0
}

#[test]
fn all_that_the_host_says_of_its_clocks_is_of_the_other_clock() {
    let head = |agent| {
        format!(
            "GET /x HTTP/1.1\r\nHopgap-Agent: {agent}\r\n\
             hopgap-clock: 7 1000 5000000000 2000 6000000000\r\n\
             hopgap-clock-ns: 6000000000\r\n\r\n"
        )
    };
    let shown = |agent| {
        let message = read(&head(agent)).expect("right").expect("one");
        message.with_clocks(&ahead()).lines
    };
    assert_eq!(
        shown("b")[2..],
        [
            "hopgap-clock: 7 1000 5000000000 2000 7206000000000",
            "hopgap-clock-ns: 7206000000000"
        ]
    );
    let other = read(&head("a")).expect("right").expect("one").lines;
    assert_eq!(shown("a"), other);
}

#[test]
fn the_hosts_report_is_of_the_other_clock() {
    let report = |agent| {
        let body = r#"{"run":7,"at_ns":6000000000,"block":"10s",
            "spool":{"waiting":0,"in_memory":0,"most":1,"free":null}}"#;
        let text = format!(
            "POST /uplink/v1/report HTTP/1.1\r\nhopgap-agent: {agent}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let message = read(&text).expect("right").expect("one");
        let passed = message.with_report(&ahead()).expect("a report");
        let report: AgentReport = serde_json::from_slice(&passed.body).expect("a report");
        report.at_ns.as_nanos()
    };
    assert_eq!(report("b"), 7_206_000_000_000);
    assert_eq!(report("a"), 6_000_000_000);
}
