use super::{Client, UplinkError, classify};
use hopgap_proto::record::RunId;
use hopgap_proto::uplink::{Ack, ErrorBody, ErrorCode};
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
fn only_200_is_an_acknowledgement() {
    let body = serde_json::to_vec(&ErrorBody {
        code: ErrorCode::Storage,
        error: "the disk is full".to_owned(),
        remedy: "make room".to_owned(),
    })
    .unwrap();
    assert!(classify(200, b"", "u").is_ok());
    for status in [201, 204, 301, 400, 401, 403, 404, 413, 500, 503, 507] {
        assert!(
            matches!(
                classify(status, &body, "u"),
                Err(UplinkError::Refused { .. })
            ),
            "{status}"
        );
        assert!(matches!(
            classify(status, b"<html>", "u"),
            Err(UplinkError::NotACollector { .. })
        ));
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
        client.deliver(b"frame"),
        Err(UplinkError::Unreachable { .. })
    ));
    let ack = client.deliver(b"frame").unwrap();
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
    let plan = client(&url)
        .plan(None, std::time::Duration::from_secs(1))
        .unwrap();
    assert!(plan.is_none());
    let request = server.join().unwrap().remove(0);
    assert!(String::from_utf8_lossy(&request).starts_with("GET /uplink/v1/plan?wait=1 "));
}
