use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Answers one request on each connection with the next of `answers`; an empty
/// answer cuts the connection.
fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let n = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..n]);
                let text = String::from_utf8_lossy(&request);
                let Some(head) = text.find("\r\n\r\n") else {
                    continue;
                };
                let length = text
                    .lines()
                    .find_map(|l| {
                        l.to_ascii_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0usize);
                if request.len() >= head + 4 + length {
                    break;
                }
            }
            requests.push(request);
            stream.write_all(answer.as_bytes()).unwrap();
        }
        requests
    });
    (url, thread)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn client(url: &str) -> Client {
    Client::new(
        url,
        Some("s3cret".to_owned()),
        "onprem".parse().unwrap(),
        RunId(1),
    )
}

#[test]
fn a_refusal_says_what_the_collector_said() {
    let body = r#"{"code":"storage","error":"the disk is full","remedy":"make room"}"#;
    let (url, server) = server(vec![answer("507 Insufficient Storage", body)]);
    let error = client(&url).deliver(b"frame", Duration::ZERO).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the collector refused: the disk is full; make room"
    );
    assert!(!error.wants_less());
    server.join().unwrap();
}

#[test]
fn an_acknowledgement_that_cannot_be_read_is_none() {
    let (url, server) = server(vec![answer("200 OK", "welcome to the hotel")]);
    let error = client(&url).deliver(b"frame", Duration::ZERO).unwrap_err();
    assert!(
        matches!(error, UplinkError::NotACollector { status: 200, .. }),
        "{error}"
    );
    server.join().unwrap();
}

#[test]
fn a_collector_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = client(&url).with_timeout(Duration::from_millis(200));
    // The kernel accepts, and nobody ever answers.
    let error = client.deliver(b"frame", Duration::ZERO).unwrap_err();
    assert!(matches!(error, UplinkError::Unreachable { .. }), "{error}");
    assert!(error.wants_less(), "{error}");
}

#[test]
fn a_collector_of_another_version_is_told_apart() {
    let welcome = |protocol| Welcome {
        protocol,
        version: "9.9.9".to_owned(),
        now_ns: Wall::ZERO,
    };
    assert!(check(&welcome(1), Wall::ZERO).is_ok());
    for protocol in [0, 2] {
        let error = check(&welcome(protocol), Wall::ZERO).unwrap_err();
        assert!(matches!(error, UplinkError::Version { .. }), "{error}");
    }
}

#[test]
fn a_cut_connection_is_an_error_and_the_same_delivery_succeeds_later() {
    let ack = serde_json::to_string(&Ack {
        bytes: 5,
        stored: 1,
        ..Ack::default()
    })
    .unwrap();
    let (url, server) = server(vec![String::new(), answer("200 OK", &ack)]);
    let client = client(&url);
    assert!(matches!(
        client.deliver(b"frame", Duration::ZERO),
        Err(UplinkError::Unreachable { .. })
    ));
    let ack = client.deliver(b"frame", Duration::ZERO).unwrap();
    assert_eq!((ack.bytes, ack.stored), (5, 1));
    let requests = server.join().unwrap();
    let second = String::from_utf8_lossy(&requests[1]).to_ascii_lowercase();
    assert!(second.starts_with("post /uplink/v1/blocks "), "{second}");
    assert!(second.contains("authorization: bearer s3cret"), "{second}");
    assert!(second.contains("hopgap-agent: onprem"), "{second}");
    assert!(second.ends_with("frame"), "{second}");
}

#[test]
fn an_unchanged_plan_is_no_plan() {
    let (url, server) = server(vec![answer("304 Not Modified", "")]);
    let plan = client(&url).plan(None, Duration::from_secs(1)).unwrap();
    assert!(plan.is_none());
    let request = server.join().unwrap().remove(0);
    assert!(String::from_utf8_lossy(&request).starts_with("GET /uplink/v1/plan?wait=1 "));
}

#[test]
fn a_plan_of_a_newer_collector_says_what_is_not_known() {
    let plan = r#"{"revision":"00000000000000ff","plan":{"session":[],"tarpit":true}}"#;
    let (url, thread) = server(vec![answer("200 OK", plan), answer("200 OK", "<html>")]);
    let ask = || {
        client(&url)
            .plan(None, Duration::ZERO)
            .unwrap_err()
            .to_string()
    };
    let said = ask();
    assert!(said.contains("unknown field `tarpit`"), "{said}");
    assert!(
        said.contains("install programs of the same release"),
        "{said}"
    );
    let said = ask();
    assert!(said.contains("not as a hopgap collector does"), "{said}");
    thread.join().unwrap();
}

#[test]
fn a_proxy_is_asked_to_connect_and_named_where_it_does_not() {
    let (proxy, server) = server(vec![answer("403 Forbidden", "")]);
    let error = client("http://192.0.2.1:8620")
        .through(Some(proxy.parse().unwrap()))
        .deliver(b"frame", Duration::ZERO)
        .unwrap_err()
        .to_string();
    let named = format!("http://192.0.2.1:8620{BLOCKS_PATH} by the proxy {proxy}");
    assert!(error.contains(&named), "{error}");
    let requests = server.join().unwrap();
    assert!(
        requests[0].starts_with(b"CONNECT 192.0.2.1:8620 "),
        "{requests:?}"
    );
}
