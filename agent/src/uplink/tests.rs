//! The uplink against a small collector on loopback, which fails as real ones do.

use super::*;
use crate::spool::SpoolOptions;
use hopgap_proto::frame::FrameReader;
use hopgap_proto::plan::Plan;
use hopgap_proto::record::RunId;
use hopgap_proto::time::{Mono, Wall};
use hopgap_proto::uplink::{Ack, HELLO_PATH, PLAN_PATH, Refused, Welcome};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

/// What the collector does with one request.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Stores all of it, and says so.
    Take,
    /// Stores the first so many bytes, and says so.
    TakeBytes(u64),
    /// Takes all of it, but has no use for the frame at this byte.
    Refuse(u64),
    /// Takes the connection and the request, and says nothing, ever.
    Silence,
    /// Begins an answer, and does not end it.
    HalfAnAnswer,
    /// Stores all of it, and cuts the connection before it can say so.
    TakeAndCut,
    /// Cuts the connection in the middle of the request.
    CutEarly,
    /// Answers like something else.
    Status(&'static str),
}

struct Request {
    path: String,
    body: Vec<u8>,
}

fn read_request(stream: &TcpStream, most: usize) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length.min(most)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, body })
}

fn respond(mut stream: &TcpStream, status: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // The other side may be gone: that is its test's matter.
    let _ = stream.write_all(text.as_bytes());
}

/// Follows a script of one step for each connection, then takes everything. Sends
/// what it stored, body by body, to the receiver.
fn collector(script: Vec<Then>) -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stored, bodies) = channel();
    std::thread::spawn(move || {
        let mut script = script.into_iter();
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let then = script.next().unwrap_or(Then::Take);
            let most = match then {
                Then::CutEarly => 10,
                _ => usize::MAX,
            };
            let Some(Request { body, .. }) = read_request(&stream, most) else {
                continue;
            };
            let refused = match then {
                Then::Refuse(offset) => vec![Refused {
                    offset,
                    error: "of a kind of the future".to_owned(),
                }],
                _ => Vec::new(),
            };
            let take = |bytes: u64| {
                let ack = Ack {
                    bytes,
                    refused: refused.clone(),
                    ..Ack::default()
                };
                let body = body[..usize::try_from(bytes).unwrap()].to_vec();
                let gone = stored.send(body).is_err();
                (serde_json::to_string(&ack).unwrap(), gone)
            };
            let (ack, gone) = match then {
                Then::Take | Then::Refuse(_) | Then::TakeAndCut => take(body.len() as u64),
                Then::TakeBytes(bytes) => take(bytes.min(body.len() as u64)),
                Then::CutEarly | Then::Status(_) | Then::Silence | Then::HalfAnAnswer => {
                    (String::new(), false)
                }
            };
            if gone {
                return;
            }
            match then {
                Then::Take | Then::TakeBytes(_) | Then::Refuse(_) => {
                    respond(&stream, "200 OK", &ack)
                }
                Then::Status(status) => respond(&stream, status, "<html>"),
                Then::TakeAndCut | Then::CutEarly => drop(stream),
                // Held open to the end of the test.
                Then::Silence => held.push(stream),
                Then::HalfAnAnswer => {
                    let mut half = &stream;
                    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"bytes\":";
                    // The other side may be gone: that is its test's matter.
                    let _ = half.write_all(head.as_bytes());
                    held.push(stream);
                }
            }
        }
    });
    (url, bodies)
}

fn client(url: &str) -> Client {
    Client::new(url, None, "onprem".parse().unwrap(), RunId(1)).with_timeout(Duration::from_secs(2))
}

/// As fast as it goes.
fn within(grace: Duration) -> Delivery {
    Delivery {
        rate: u64::MAX,
        grace,
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("hopgap-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn blocks(bodies: &Receiver<Vec<u8>>) -> Vec<u8> {
    bodies
        .try_iter()
        .flat_map(|body| {
            FrameReader::new(&body)
                .map(|frame| frame.unwrap().payload[0])
                .collect::<Vec<u8>>()
        })
        .collect()
}

#[test]
fn everything_arrives_through_cuts_and_refusals_and_nothing_leaves_unacknowledged() {
    let folder = Folder::new("uplink");
    let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    for i in 0..6 {
        spool.append(&[i; 80], Mono::ZERO).unwrap();
    }
    let spool: SharedSpool = Arc::new(Mutex::new(spool));
    let (url, bodies) = collector(vec![
        Then::CutEarly,
        Then::Status("502 Bad Gateway"),
        Then::TakeBytes(200),
        Then::TakeAndCut,
    ]);
    let stop = Stop::default();
    let thread = deliver(
        client(&url),
        Arc::clone(&spool),
        stop.clone(),
        within(Duration::from_secs(20)),
    )
    .unwrap();
    stop.request();
    thread.join().unwrap();
    assert!(lock(&spool).next_batch(BATCH_BYTES).unwrap().is_none());
    assert_eq!(lock(&spool).take_lost(), []);
    // The third request took two, the fourth the rest without saying so, the fifth
    // the rest once more.
    assert_eq!(blocks(&bodies), [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]);
}

#[test]
fn a_connection_that_went_dead_is_given_up_and_made_anew() {
    let folder = Folder::new("uplink-dead");
    let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    for i in 0..3 {
        spool.append(&[i; 80], Mono::ZERO).unwrap();
    }
    let spool: SharedSpool = Arc::new(Mutex::new(spool));
    let (url, bodies) = collector(vec![Then::Silence, Then::HalfAnAnswer]);
    let stop = Stop::default();
    let thread = deliver(
        client(&url).with_timeout(Duration::from_millis(300)),
        Arc::clone(&spool),
        stop.clone(),
        within(Duration::from_secs(20)),
    )
    .unwrap();
    stop.request();
    thread.join().unwrap();
    assert!(lock(&spool).next_batch(BATCH_BYTES).unwrap().is_none());
    assert_eq!(blocks(&bodies), [0, 1, 2]);
}

#[test]
fn a_frame_that_the_collector_cannot_read_is_kept_aside_and_told() {
    let folder = Folder::new("uplink-refused");
    let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    for i in 0..3 {
        spool.append(&[i; 80], Mono::ZERO).unwrap();
    }
    // The second is of a kind that only a newer program knows.
    let segment = folder.0.join("0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[105] = 9;
    let crc = crc32fast::hash(&bytes[100..116]);
    bytes[116..120].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&segment, &bytes).unwrap();

    let spool: SharedSpool = Arc::new(Mutex::new(spool));
    let (url, bodies) = collector(vec![Then::Refuse(100)]);
    let stop = Stop::default();
    stop.request();
    let grace = within(Duration::from_secs(20));
    deliver(client(&url), Arc::clone(&spool), stop, grace)
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(bodies.try_iter().collect::<Vec<_>>(), [bytes.clone()]);
    let missing = lock(&spool).take_lost();
    assert_eq!(missing.iter().map(|l| l.blocks).sum::<u32>(), 1);
    let kept = folder
        .0
        .join("quarantine/0000000000000001-000000000100.bad");
    assert_eq!(std::fs::read(kept).unwrap(), bytes[100..200]);
    assert!(lock(&spool).next_batch(BATCH_BYTES).unwrap().is_none());
}

#[test]
fn a_plan_of_a_newer_program_is_not_followed_by_half() {
    let folder = Folder::new("cache-newer");
    let cache = PlanCache::new(&folder.0);
    let plan = PlanResponse {
        revision: Revision(7),
        plan: Plan::default(),
    };
    cache.store(&plan).unwrap();
    let path = folder.0.join("plan.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let newer = text.replacen("\"plan\":{", "\"plan\":{\"weather\":1,", 1);
    assert_ne!(newer, text);
    std::fs::write(&path, newer).unwrap();
    let error = cache.load().unwrap_err().to_string();
    assert!(error.contains("unknown field `weather`"), "{error}");
    // A newer collector may add fields beside the plan.
    let newer = text.replacen('{', "{\"weather\":1,", 1);
    std::fs::write(&path, newer).unwrap();
    assert_eq!(cache.load().unwrap(), Some(plan));
}

#[test]
fn what_is_not_delivered_in_time_stays_in_the_spool() {
    let folder = Folder::new("uplink-away");
    let mut spool = Spool::open(&folder.0, SpoolOptions::default()).unwrap();
    spool.append(&[7; 80], Mono::ZERO).unwrap();
    let spool: SharedSpool = Arc::new(Mutex::new(spool));
    // A port that nobody listens on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let stop = Stop::default();
    stop.request();
    let grace = Duration::from_millis(300);
    deliver(client(&url), Arc::clone(&spool), stop, within(grace))
        .unwrap()
        .join()
        .unwrap();
    let batch = lock(&spool).next_batch(BATCH_BYTES).unwrap().unwrap();
    assert_eq!(batch.frames(), 1);
}

#[test]
fn plans_come_one_after_the_other_and_each_once() {
    let plans: Vec<PlanResponse> = [1, 2]
        .map(|min_lost| {
            let mut plan = Plan::default();
            plan.objective.min_lost = min_lost;
            PlanResponse {
                revision: Revision::of(&plan),
                plan,
            }
        })
        .to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let script = plans.clone();
    let (asked, paths) = channel();
    std::thread::spawn(move || {
        let mut answers = vec![
            (PLAN_PATH, Some(&script[0])),
            (PLAN_PATH, None),
            (PLAN_PATH, Some(&script[1])),
        ]
        .into_iter();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let Some(Request { path, .. }) = read_request(&stream, usize::MAX) else {
                continue;
            };
            let hello = path == HELLO_PATH;
            // Sent before the answer, so that whoever has the answer finds the request here.
            if asked.send(path).is_err() {
                return;
            }
            if hello {
                let welcome = Welcome {
                    protocol: 1,
                    version: "0.1.0".to_owned(),
                    now_ns: Wall::ZERO,
                };
                respond(&stream, "200 OK", &serde_json::to_string(&welcome).unwrap());
            } else {
                match answers.next() {
                    Some((_, Some(plan))) => {
                        respond(&stream, "200 OK", &serde_json::to_string(plan).unwrap());
                    }
                    Some((_, None)) => respond(&stream, "304 Not Modified", ""),
                    None => return,
                }
            }
        }
    });
    let (sender, receiver) = channel();
    let stop = Stop::default();
    let thread = follow_plan(client(&url), None, sender, stop.clone()).unwrap();
    assert_eq!(receiver.recv().unwrap(), plans[0]);
    assert_eq!(receiver.recv().unwrap(), plans[1]);
    stop.request();
    thread.join().unwrap();
    let paths: Vec<String> = paths.try_iter().collect();
    let first = plans[0].revision;
    assert_eq!(paths[0], HELLO_PATH);
    assert_eq!(paths[1], format!("{PLAN_PATH}?wait=25"));
    // The second had nothing new; the third is asked with the same revision.
    for path in &paths[2..4] {
        assert_eq!(*path, format!("{PLAN_PATH}?wait=25&revision={first}"));
    }
}

#[test]
fn the_cached_plan_is_kept_whole_and_secret() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("cache");
    let cache = PlanCache::new(&folder.0);
    assert_eq!(cache.load().unwrap(), None);
    let plan = PlanResponse {
        revision: Revision(7),
        plan: Plan::default(),
    };
    cache.store(&plan).unwrap();
    assert_eq!(cache.load().unwrap(), Some(plan.clone()));
    let path = folder.0.join("plan.json");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A crash while writing leaves the fresh file behind, and the old one whole.
    std::fs::write(folder.0.join("plan.new"), "{\"revi").unwrap();
    assert_eq!(cache.load().unwrap(), Some(plan.clone()));
    cache.store(&plan).unwrap();
    std::fs::write(&path, "{\"revi").unwrap();
    assert!(matches!(cache.load(), Err(CacheError::Unreadable { .. })));
}
