//! Access and limits, tested over real connections.

use super::{Dir, PLAN, Running, SECRET, Session, frames, json, now, wait_for};
use crate::serve::{DRILLS_PATH, DrillBody, DrillRequest, RefusedBody, STATUS_PATH, Status};
use hopgap_proto::uplink::{AGENT_HEADER, BLOCKS_PATH, ErrorBody, ErrorCode, PLAN_PATH};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const READ: &str = "read-read-read-read-read-read-re";
const OPERATE: &str = "operate-operate-operate-operate-";
const JSON: &str = "content-type: application/json";
const OURS: &str = "x-hopgap: 1";

/// A collector that asks everybody for a token.
fn guarded() -> Running {
    let dir = Dir::new();
    for (name, token) in [("read", READ), ("operate", OPERATE)] {
        let file = dir.0.join(name);
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let settings = "[collector]\nread_token_file = \"read\"\noperate_token_file = \"operate\"\ntoken_required = true\n";
    Running::with(dir, &format!("{settings}{PLAN}"))
}

struct Answer {
    status: u16,
    header: String,
    body: String,
}

impl Answer {
    fn code(&self) -> (u16, ErrorCode) {
        (self.status, json::<ErrorBody>(&self.body).code)
    }
}

fn host(running: &Running) -> String {
    running.url("").replace("http://", "")
}

/// One request on a connection of its own, `first` being its first line, with these
/// header lines and perhaps a body.
fn ask(running: &Running, first: &str, lines: &[&str], body: &str) -> Answer {
    let host = host(running);
    let mut stream = TcpStream::connect(&host).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut text = format!("{first} HTTP/1.1\r\nconnection: close\r\n");
    if !lines.iter().any(|line| line.starts_with("host:")) {
        text.push_str(&format!("host: {host}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    // A client refused by its header may find the connection closed before it sent the rest.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (header, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = header.split(' ').nth(1).unwrap();
    Answer {
        status: status.parse().unwrap(),
        header: header.to_lowercase() + "\r",
        body: body.to_owned(),
    }
}

fn get(path: &str) -> String {
    format!("GET {path}")
}

fn post(path: &str) -> String {
    format!("POST {path}")
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

#[test]
fn who_may_look_cannot_operate_and_who_shows_nothing_can_do_neither() {
    let running = guarded();
    let look = |lines: &[&str]| ask(&running, &get(STATUS_PATH), lines, "");
    let start = |token: &str, name: &str| {
        let body = format!("{{\"name\":\"{name}\"}}");
        let token = bearer(token);
        ask(&running, &post(DRILLS_PATH), &[JSON, OURS, &token], &body)
    };
    let none = look(&[]);
    assert_eq!(none.code(), (401, ErrorCode::Unauthorized));
    let header = &none.header;
    assert!(header.contains("\nwww-authenticate: bearer\r"), "{header}");
    assert_eq!(look(&[&bearer("x")]).status, 401);
    assert_eq!(look(&[&bearer(READ)]).status, 200);
    assert_eq!(start(READ, "q4").code(), (403, ErrorCode::Forbidden));
    let drills = ask(&running, &get(DRILLS_PATH), &[&bearer(READ)], "");
    assert_eq!(drills.body, "[]", "nothing was started");
    let started: DrillBody = json(&start(OPERATE, "q5").body);
    assert_eq!(started.name, "q5");
    let status: Status = json(&look(&[&bearer(OPERATE)]).body);
    let refused = RefusedBody {
        token: 3,
        ..RefusedBody::default()
    };
    assert_eq!(status.refused, refused);
    // An agent proves itself by its own secret, which opens nothing here.
    let agent = format!("{AGENT_HEADER}: onprem");
    let plan = ask(&running, &get(PLAN_PATH), &[&agent, &bearer(SECRET)], "");
    assert_eq!(plan.status, 200);
    assert_eq!(look(&[&bearer(SECRET)]).status, 401);
}

#[test]
fn a_token_that_is_replaced_in_its_file_opens_nothing_any_more() {
    let running = guarded();
    let look = |token: &str| ask(&running, &get(STATUS_PATH), &[&bearer(token)], "").status;
    assert_eq!(look(READ), 200);
    let other = "another-".repeat(5);
    std::fs::write(running.dir.0.join("read"), &other).unwrap();
    wait_for(|| (look(&other) == 200).then_some(()));
    assert_eq!(look(READ), 401);
}

#[test]
fn the_command_line_shows_the_token_of_a_file() {
    let running = guarded();
    let client = |name: &str| running.client().with_token_file(&running.dir.0.join(name));
    let refused = running.client().status().unwrap_err().to_string();
    assert_eq!(
        refused,
        "all programs need a token here; show one, as with --token-file"
    );
    let status = client("read").unwrap().status().unwrap();
    assert_eq!(status.refused.token, 1);
    let drill = DrillRequest {
        name: "q4".to_owned(),
        at: None,
        id: None,
        until: None,
    };
    let refused = client("read").unwrap().start(&drill).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this token is for looking only; show the token for operating"
    );
    let started = client("operate").unwrap().start(&drill).unwrap();
    assert_eq!(started.name, "q4");
    let absent = client("absent").err().unwrap().to_string();
    assert!(
        absent.starts_with("cannot read the token from "),
        "{absent}"
    );
}

#[test]
fn a_page_of_another_site_gets_nothing_and_is_counted() {
    let running = Running::start();
    let drills = post(DRILLS_PATH);
    let start = |lines: &[&str]| ask(&running, &drills, lines, "{\"name\":\"q4\"}");
    let look = |line: &str| ask(&running, &get(STATUS_PATH), &[line], "");
    let refused = [
        start(&[JSON]),
        start(&["content-type: text/plain", OURS]),
        start(&[JSON, OURS, "origin: http://rebound.example"]),
        look("sec-fetch-site: cross-site"),
        look("host: rebound.example:8620"),
    ];
    let statuses: Vec<u16> = refused.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [403, 415, 403, 403, 403]);
    // What a browser asks before it sends such a header to another site.
    let asked = ask(
        &running,
        &format!("OPTIONS {DRILLS_PATH}"),
        &[
            "origin: http://rebound.example",
            "access-control-request-method: POST",
            "access-control-request-headers: x-hopgap",
        ],
        "",
    );
    assert_eq!(asked.status, 403);
    for answer in refused.iter().chain([&asked]) {
        let header = &answer.header;
        assert!(!header.contains("access-control"), "{header}");
    }
    let status = running.client().status().unwrap();
    assert_eq!(status.drill, None);
    let counted = RefusedBody {
        cross_site: 6,
        ..RefusedBody::default()
    };
    assert_eq!(status.refused, counted);
}

#[test]
fn no_answer_can_be_kept_embedded_or_taken_for_something_else() {
    let running = guarded();
    let agent = format!("{AGENT_HEADER}: onprem");
    let look = |path: &str, lines: &[&str]| ask(&running, &get(path), lines, "");
    let answers = [
        look(STATUS_PATH, &[&bearer(READ)]),
        look(STATUS_PATH, &[]),
        look("/", &[]),
        look("/api/v1/what", &[]),
        look(PLAN_PATH, &[&agent, &bearer(SECRET)]),
        look(PLAN_PATH, &[&agent]),
    ];
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 401, 404, 404, 200, 401]);
    for Answer { header, .. } in &answers {
        for line in [
            "\ncache-control: no-store\r",
            "\nx-content-type-options: nosniff\r",
            "\ncross-origin-resource-policy: same-origin\r",
            "\ncontent-security-policy: default-src 'none'; frame-ancestors 'none'\r",
        ] {
            assert!(header.contains(line), "{line:?} is not in {header}");
        }
    }
}

#[test]
fn a_body_is_refused_at_its_limit_however_it_comes() {
    let running = Running::start();
    let drills = post(DRILLS_PATH);
    let of = |bytes: usize| format!("{{\"name\":\"{}\"}}", "x".repeat(bytes - 11));
    let large = ask(&running, &drills, &[JSON, OURS], &of((64 << 10) + 1));
    assert_eq!(large.code(), (413, ErrorCode::TooLarge));
    // One of the limit's size is read, and refused for the name in it.
    let whole = ask(&running, &drills, &[JSON, OURS], &of(64 << 10));
    assert_eq!(whole.status, 409, "{}", whole.body);
    // Without a length it is counted as it comes.
    let host = host(&running);
    let mut stream = TcpStream::connect(&host).unwrap();
    let head = format!(
        "{drills} HTTP/1.1\r\nhost: {host}\r\n{JSON}\r\n{OURS}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let part = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    for _ in 0..8 {
        stream.write_all(part.as_bytes()).unwrap();
    }
    // The one byte that is too many.
    stream.write_all(b"1\r\nx\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(running.client().status().unwrap().refused.body, 2);
}

#[test]
fn who_asks_too_often_is_told_to_wait_and_agents_go_on() {
    let running = Running::start();
    let look = || ask(&running, &get(STATUS_PATH), &[], "");
    let refused = (0..2_000).map(|_| look()).find(|a| a.status != 200);
    let refused = refused.expect("it is refused at some time");
    assert_eq!(refused.code(), (429, ErrorCode::Busy));
    let header = &refused.header;
    assert!(header.contains("\nretry-after: 1\r"), "{header}");
    // Much more than the API takes, from the same address.
    let agent = format!("{AGENT_HEADER}: onprem");
    for _ in 0..200 {
        let plan = ask(&running, &get(PLAN_PATH), &[&agent, &bearer(SECRET)], "");
        assert_eq!(plan.status, 200);
    }
    // What a page of another site sends costs its reader nothing.
    let status = wait_for(|| running.client().status().ok());
    assert!(status.refused.rate >= 1, "{}", status.refused);
    for _ in 0..100 {
        let page = ["sec-fetch-site: cross-site"];
        let page = ask(&running, &get(STATUS_PATH), &page, "");
        assert_eq!(page.status, 403);
    }
    let status = wait_for(|| running.client().status().ok());
    assert_eq!(status.refused.cross_site, 100);
}

#[test]
fn a_page_in_a_browser_gets_no_plan_and_delivers_nothing() {
    let running = Running::start();
    let (named, secret) = (format!("{AGENT_HEADER}: onprem"), bearer(SECRET));
    let bare = format!("{AGENT_HEADER}: azure");
    let plan = |lines: &[&str]| ask(&running, &get(PLAN_PATH), lines, "");
    let forbidden = (403, ErrorCode::Forbidden);
    assert_eq!(plan(&[&bare]).status, 200);
    let evil = "host: evil.example";
    for page in [
        "origin: http://evil.example",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-origin",
    ] {
        assert_eq!(plan(&[&bare, page]).code(), forbidden, "{page}");
        assert_eq!(plan(&[&named, &secret, page]).code(), forbidden, "{page}");
        let delivery = ask(&running, &post(BLOCKS_PATH), &[&bare, page], "x");
        assert_eq!(delivery.code(), forbidden, "{page}");
    }
    // A foreign name that resolves to this host.
    assert_eq!(plan(&[&bare, evil]).code(), forbidden);
    // A client with a secret may use any host name, as through a proxy.
    assert_eq!(plan(&[&named, &secret, evil]).status, 200);
}

#[test]
fn where_all_need_a_token_no_agent_is_believed_without_a_secret() {
    let running = guarded();
    let bare = format!("{AGENT_HEADER}: azure");
    let plan = ask(&running, &get(PLAN_PATH), &[&bare], "");
    assert_eq!(plan.code(), (401, ErrorCode::Unauthorized));
    assert!(!plan.body.contains("session"), "{}", plan.body);
    assert!(plan.body.contains("secret_file"), "{}", plan.body);
}

#[test]
fn bodies_that_drip_in_hold_up_their_own_agent_alone() {
    let running = Running::start();
    let host = host(&running);
    let dripping: Vec<_> = (0..12)
        .map(|_| {
            let mut stream = TcpStream::connect(&host).unwrap();
            let head = format!(
                "POST {BLOCKS_PATH} HTTP/1.1\r\nhost: {host}\r\n{AGENT_HEADER}: azure\r\ncontent-length: 1000\r\n\r\nx"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    // However many of them hold a place or wait for one by now.
    let [probes, _] = Session::new(now()).ten_seconds();
    let (status, text) = running.deliver("onprem", &frames([&probes]));
    assert_eq!(status, 200, "{text}");
    // They do not hold it for long, and that is counted.
    let cut = || running.client().status().unwrap().refused.time;
    wait_for(|| (cut() >= 2).then_some(()));
    drop(dripping);
}
