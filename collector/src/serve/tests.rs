mod access;
mod commands;
mod delivery;
mod health;
mod tls;

use super::{DrillRequest, MarkerRequest, Options, Service, StopRequest, TimeText};
use crate::client::Client;
use crate::query;
use crate::store::tests::{Dir, Session, encoded};
use crate::store::{MarkerKind, Reader};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{Block, RunId};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, BLOCKS_PATH, ErrorBody, ErrorCode, HELLO_PATH, Hello, PLAN_PATH,
    PlanResponse, ProtocolRange, Welcome, bearer,
};
use serde::de::DeserializeOwned;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const SECRET: &str = "0123456789abcdef0123";

const PLAN: &str = r#"
[[agent]]
name = "onprem"
address = "10.1.11.10"
secret_file = "onprem.secret"

[[agent]]
name = "azure"
address = "10.17.11.132"

[[session]]
name = "out"
from = "onprem"
to = "azure"
flows = 4

[[path]]
name = "direct"
role = "primary"
target_at_hop = 5
"#;

/// A collector on loopback, with a directory of its own.
struct Running {
    dir: Dir,
    address: SocketAddr,
    api: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        Self::start_in(Dir::new())
    }

    fn start_in(dir: Dir) -> Self {
        Self::with(dir, PLAN)
    }

    fn with(dir: Dir, plan: &str) -> Self {
        std::fs::write(dir.0.join("plan.toml"), plan).unwrap();
        write_secret(&dir.0.join("onprem.secret"));
        let options = Options {
            plan: dir.0.join("plan.toml"),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            store: Some(dir.0.join("store")),
        };
        let (stop, stopped) = oneshot::channel();
        let (address_in, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let service = Service::bind(options).await.unwrap();
                let addresses = (service.address().unwrap(), service.api_address().unwrap());
                address_in.send(addresses).unwrap();
                let stop = async move { drop(stopped.await) };
                service.run(stop).await.unwrap();
            });
        });
        let (address, api) = address.recv().unwrap();
        Self {
            dir,
            address,
            api,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }

    fn client(&self) -> Client {
        Client::new(&self.url(""))
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.dir.0.join("store")).unwrap()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn send(
        &self,
        agent: &str,
        secret: Option<&str>,
        path: &str,
        body: Option<&[u8]>,
    ) -> (u16, String) {
        let http: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        let url = self.url(path);
        let with = |request: ureq::http::request::Builder| {
            let request = request.header(AGENT_HEADER, agent);
            match secret {
                Some(secret) => request.header("authorization", bearer(secret)),
                None => request,
            }
        };
        let builder = with(ureq::http::Request::builder().uri(url));
        let mut response = match body {
            Some(body) => http.run(builder.method("POST").body(body).unwrap()),
            None => http.run(builder.method("GET").body(()).unwrap()),
        }
        .unwrap();
        let status = response.status().as_u16();
        (status, response.body_mut().read_to_string().unwrap())
    }

    fn deliver(&self, agent: &str, body: &[u8]) -> (u16, String) {
        let secret = (agent == "onprem").then_some(SECRET);
        self.send(agent, secret, BLOCKS_PATH, Some(body))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

fn write_secret(file: &Path) {
    std::fs::write(file, SECRET).unwrap();
    std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

fn json<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn frames<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Vec<u8> {
    let mut body = Vec::new();
    for block in blocks {
        frame::append(&mut body, FrameKind::Block, &encoded(block).payload).unwrap();
    }
    body
}

fn now() -> Wall {
    crate::clock::now()
}

#[test]
fn only_agents_of_the_plan_with_their_own_secret_get_in() {
    let running = Running::start();
    let plan = |agent, secret| running.send(agent, secret, PLAN_PATH, None);
    let code = |(status, text): (u16, String)| (status, json::<ErrorBody>(&text).code);
    assert_eq!(code(plan("onprem", None)), (401, ErrorCode::Unauthorized));
    assert_eq!(
        code(plan("onprem", Some("0123456789abcdef0124"))),
        (401, ErrorCode::Unauthorized)
    );
    assert_eq!(
        code(plan("onprem", Some(&SECRET[1..]))),
        (401, ErrorCode::Unauthorized)
    );
    assert_eq!(
        code(plan("moon", Some(SECRET))),
        (403, ErrorCode::Forbidden)
    );
    assert_eq!(
        code(plan("no name!", Some(SECRET))),
        (400, ErrorCode::Malformed)
    );
    let told = || running.client().status().unwrap().refusals;
    let of: Vec<_> = told()
        .into_iter()
        .map(|r| (r.agent, r.peer.to_string(), r.count, r.error))
        .collect();
    let here = "127.0.0.1".to_owned();
    assert_eq!(
        of,
        [
            (
                "moon".to_owned(),
                here.clone(),
                1,
                "the plan has no agent `moon`; correct the agent's `name` or add it to the collector's plan".to_owned()
            ),
            (
                "onprem".to_owned(),
                here,
                3,
                "the secret of agent `onprem` is absent or wrong; give the agent's `secret_file` the content of the collector's".to_owned()
            )
        ]
    );
    assert_eq!(plan("onprem", Some(SECRET)).0, 200);
    let left: Vec<_> = told().into_iter().map(|r| r.agent).collect();
    assert_eq!(left, ["moon"], "who is let in is no longer told");
    // The plan gives this one no secret, so the collector listens on loopback only.
    assert_eq!(plan("azure", None).0, 200);
    assert_eq!(
        code(running.send("azure", None, "/uplink/v9/plan", None)).0,
        404
    );
}

#[test]
fn a_body_has_a_limit() {
    let running = Running::start();
    let secret = format!(
        "POST {BLOCKS_PATH} HTTP/1.1\r\nHost: localhost\r\n{AGENT_HEADER}: azure\r\nContent-Length: {}\r\n\r\n",
        1_u64 << 40
    );
    // Announced as a terabyte: refused before it is sent.
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(secret.as_bytes()).unwrap();
    let mut answer = [0; 256];
    let n = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn hello_agrees_on_a_version() {
    let running = Running::start();
    let hello = |agent: &str, oldest| {
        let body = serde_json::to_vec(&Hello {
            agent: agent.parse().unwrap(),
            run: RunId(1),
            version: "0.1.0".parse().unwrap(),
            protocol: ProtocolRange { oldest, newest: 9 },
        })
        .unwrap();
        running.send("onprem", Some(SECRET), HELLO_PATH, Some(&body))
    };
    let (status, text) = hello("onprem", 1);
    assert_eq!((status, json::<Welcome>(&text).protocol), (200, 1));
    let (status, text) = hello("onprem", 9);
    assert_eq!(
        (status, json::<ErrorBody>(&text).code),
        (400, ErrorCode::Protocol)
    );
    assert_eq!(hello("azure", 1).0, 403);
    let agents = running.client().status().unwrap().agents;
    assert_eq!(agents[1].version.as_deref(), Some("0.1.0"));
    assert_eq!(
        agents[0].last_seen, None,
        "azure is in the plan and was never heard of"
    );
}

#[test]
fn a_held_plan_request_ends_with_the_new_plan() {
    let running = Running::start();
    let ask =
        |query: &str| running.send("onprem", Some(SECRET), &format!("{PLAN_PATH}{query}"), None);
    let first: PlanResponse = json(&ask("").1);
    assert_eq!(first.plan.sessions.len(), 1);
    let held = format!("?revision={}&wait=60", first.revision);
    let unchanged = format!("?revision={}", first.revision);
    assert_eq!(ask(&unchanged), (304, String::new()));
    assert_eq!(ask("?revision=what").0, 400);

    // A bad plan changes nothing and is said.
    let file = running.dir.0.join("plan.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let plan_error = || running.client().status().unwrap().plan.error;
    write(&PLAN.replace("flows = 4", "flows = 65"));
    let error = wait_for(plan_error);
    assert!(
        error.contains("plan.toml:15: session `out`: flows is 65"),
        "{error}"
    );
    assert_eq!(ask(&unchanged).0, 304);

    // A good one wakes who waits for it.
    let (status, text) = std::thread::scope(|scope| {
        let held = scope.spawn(|| ask(&held));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!held.is_finished());
        write(&PLAN.replace("flows = 4", "flows = 5"));
        held.join().unwrap()
    });
    let second: PlanResponse = json(&text);
    assert_eq!((status, second.plan.sessions[0].flows), (200, 5));
    assert_ne!(second.revision, first.revision);
    assert_eq!(plan_error(), None);
    let stored = running.reader().plan_at(now()).unwrap().unwrap();
    assert_eq!(stored.sessions[0].flows, 5);
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it did not come within 20 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn stopping_ends_held_requests_and_keeps_what_was_stored() {
    let mut running = Running::start();
    let [probes, _] = Session::new(now()).ten_seconds();
    assert_eq!(running.deliver("onprem", &frames([&probes])).0, 200);
    let first: PlanResponse = json(&running.send("azure", None, PLAN_PATH, None).1);
    let mut held = TcpStream::connect(running.address).unwrap();
    let request = format!(
        "GET {PLAN_PATH}?revision={}&wait=60 HTTP/1.1\r\nHost: localhost\r\n{AGENT_HEADER}: azure\r\n\r\n",
        first.revision
    );
    held.write_all(request.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    running.end();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 304"), "{answer}");

    let dir = std::mem::replace(&mut running.dir, Dir::new());
    let again = Running::start_in(dir);
    assert_eq!(
        json::<Ack>(&again.deliver("onprem", &frames([&probes])).1).duplicates,
        1
    );
}

#[test]
fn drills_and_markers_reach_the_analysis() {
    let running = Running::start();
    let client = running.client();
    let begin = now() - Span::from_secs(60);
    let at = |seconds| Some(TimeText(begin + Span::from_secs(seconds)));
    let drill = client
        .start(&DrillRequest {
            name: "q4".to_owned(),
            at: at(0),
            id: None,
            until: None,
        })
        .unwrap();
    assert_eq!((drill.started, drill.stopped), (at(0).unwrap(), None));
    assert_eq!(client.status().unwrap().drill, Some(drill));
    let refused = client
        .start(&DrillRequest {
            name: "q5".to_owned(),
            at: None,
            id: None,
            until: None,
        })
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("`q4` is running; stop it first"),
        "{refused}"
    );
    client
        .mark(&MarkerRequest {
            text: "peerings disabled".to_owned(),
            kind: MarkerKind::Failover,
            at: at(5),
            id: None,
            until: None,
        })
        .unwrap();
    let mut session = Session::new(begin);
    for _ in 0..2 {
        let [probes, receptions] = session.ten_seconds();
        assert_eq!(running.deliver("onprem", &frames([&probes])).0, 200);
        assert_eq!(running.deliver("azure", &frames([&receptions])).0, 200);
    }
    let session = &client.status().unwrap().sessions[0];
    assert_eq!(session.answered + session.unanswered, 8_000);
    assert!((2..=40).contains(&session.unanswered), "{session:?}");
    let stopped = client
        .stop(&StopRequest {
            at: at(15),
            ..StopRequest::default()
        })
        .unwrap();
    assert_eq!(client.drills().unwrap(), [stopped]);

    let reader = running.reader();
    let drill = reader.drill("q4").unwrap();
    let plan = reader.plan_at(drill.stopped.unwrap()).unwrap().unwrap();
    let input = query::input(&reader, &plan, drill.started, drill.stopped.unwrap()).unwrap();
    let out = &input.sessions[0];
    assert_eq!((out.sender.len(), out.reflector.len()), (1, 1));
    assert_eq!(out.sender[0].probes.len(), 8_000);
    assert!(out.reflector[0].receptions.len() > 7_900);

    let findings = hopgap_analysis::analyse(&input);
    assert_eq!(findings.markers.len(), 1);
    assert_eq!(findings.markers[0].text, "peerings disabled");
    let counts = findings.sessions[0].counts;
    // Fifteen seconds of 4 flows at 100 a second, one in a thousand lost on each way.
    assert!((5_990..=6_010).contains(&counts.sent), "{counts:?}");
    let lost = counts.lost_forward + counts.lost_reverse;
    assert!((2..=30).contains(&lost), "{counts:?}");
    assert_eq!((counts.lost_unknown, counts.no_data), (0, 0), "{counts:?}");
}

#[test]
fn what_is_yet_to_come_is_not_noted() {
    let running = Running::start();
    let client = running.client();
    let later = Some(TimeText(now() + Span::from_secs(3_600)));
    let start = |name: &str, at| {
        client.start(&DrillRequest {
            name: name.to_owned(),
            at,
            id: None,
            until: None,
        })
    };
    let future = start("q4", later).unwrap_err().to_string();
    assert!(future.contains("is in the future (it is "), "{future}");
    start("q4", None).unwrap();
    let stop = client
        .stop(&StopRequest {
            at: later,
            ..StopRequest::default()
        })
        .unwrap_err();
    assert!(
        stop.to_string()
            .ends_with("leave out --at for now, or give a time that is past"),
        "{stop}"
    );
    assert!(client.status().unwrap().drill.is_some(), "it goes on");
}

#[test]
fn agent_and_status_tell_the_same_revision() {
    let running = Running::start();
    let fetched: PlanResponse = json(&running.send("azure", None, PLAN_PATH, None).1);
    let status = running.client().status().unwrap();
    let azure = status.agents.iter().find(|a| a.name == "azure").unwrap();
    assert_eq!(azure.plan, Some(fetched.revision));
}

#[test]
fn what_is_wrong_at_the_start_is_one_sentence() {
    let dir = Dir::new();
    let bind = |listen: &str| {
        let options = Options {
            plan: dir.0.join("plan.toml"),
            listen: Some(listen.parse().unwrap()),
            store: Some(dir.0.join("store")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            Service::bind(options)
                .await
                .map(|_| ())
                .unwrap_err()
                .to_string()
        })
    };
    assert!(bind("127.0.0.1:0").starts_with("cannot read the plan "));
    std::fs::write(dir.0.join("plan.toml"), PLAN).unwrap();
    write_secret(&dir.0.join("onprem.secret"));
    let open = bind("0.0.0.0:0");
    assert!(
        open.starts_with("agent `onprem` has a `secret_file`, but agents come by TLS"),
        "{open}"
    );
    let lab = format!("[collector]\nplain_http = true\n{PLAN}");
    std::fs::write(dir.0.join("plan.toml"), lab).unwrap();
    let open = bind("0.0.0.0:0");
    assert!(open.starts_with("agent `azure` has no secret"), "{open}");
    std::fs::write(dir.0.join("plan.toml"), PLAN).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let used = bind(&address);
    assert!(
        used.starts_with(&format!("cannot listen on {address}")),
        "{used}"
    );
    assert!(used.contains("choose another with --listen"), "{used}");
}
