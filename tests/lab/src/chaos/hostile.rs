//! An agent that was let in and turned, beside the others: it sends what its secret lets it
//! send, as fast as it is answered. And a witness, whose deliveries tell how long others
//! wait meanwhile.

use super::world::World;
use anyhow::{Context, Result};
use hopgap_net::clock::Clock;
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{
    Block, BlockBody, BlockHeader, BlockKey, Event, EventKind, FlowIndex, MAX_ROWS, Probe,
    ProbeFate, RunId, SessionName, Stamp, StampSource,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use hopgap_proto::uplink::{AGENT_HEADER, BLOCKS_PATH, HELLO_PATH, PLAN_PATH, bearer};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The agent that turned.
pub(super) const HOSTILE: &str = "m";
/// The agent whose deliveries are timed.
pub(super) const WITNESS: &str = "w";
/// Both, whose blocks are made up.
pub(super) const MADE_UP: [&str; 2] = [HOSTILE, WITNESS];
/// A delay that others must not have.
pub(super) const DELAY: Duration = Duration::from_secs(1);
/// How often the witness delivers.
const EVERY: Duration = Duration::from_millis(250);
/// How often a report is made.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// A request without an answer for as long is given up: the collector was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The secret of an agent of [`MADE_UP`].
pub(super) fn secret(name: &str) -> String {
    format!("{name}-0123456789abcdef0123456789abcdef")
}

/// What was seen, while it goes on.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    /// Requests of the hostile agent that were answered.
    attacks: AtomicU64,
    /// Deliveries of the witness that were acknowledged.
    delivered: AtomicU64,
    /// Those that took longer than [`DELAY`].
    delayed: AtomicU64,
    /// The longest, in milliseconds.
    longest_ms: AtomicU64,
    /// Reports that were made, and those that were not.
    reports: AtomicU64,
    failed: AtomicU64,
}

/// What the run beside a hostile agent gave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    pub(super) attacks: u64,
    pub(super) delivered: u64,
    pub(super) delayed: u64,
    pub(super) longest_ms: u64,
    pub(super) reports: u64,
    pub(super) reports_failed: u64,
}

impl Beside {
    /// Whether it was attacked, nobody else was delayed, and reports were made.
    pub(super) fn holds(&self) -> bool {
        self.attacks > 0
            && self.delivered > 0
            && self.delayed == 0
            && self.reports > 0
            && self.reports_failed == 0
    }
}

/// The threads of an attack.
pub(super) struct Attack {
    seen: Arc<Seen>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Attack {
    /// Begins it.
    pub(super) fn begin(world: &World, seed: u64) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let mut threads = Vec::new();
        let mut spawn = |name: &str, work: Box<dyn FnOnce() + Send>| -> Result<()> {
            let thread = std::thread::Builder::new().name(name.to_owned());
            threads.push(thread.spawn(work).context("cannot start a thread")?);
            Ok(())
        };
        for lane in 0..2 {
            let (seen, connect) = (Arc::clone(&seen), world.connect()?);
            let rng = fastrand::Rng::with_seed(seed ^ lane);
            spawn("hostile", Box::new(move || attack(&seen, &connect, rng)))?;
        }
        let (witness, connect) = (Arc::clone(&seen), world.connect()?);
        spawn("witness", Box::new(move || deliver(&witness, &connect)))?;
        let (reporting, report) = (Arc::clone(&seen), world.reporter());
        spawn(
            "reports",
            Box::new(move || {
                while wait(&reporting, REPORT_EVERY) {
                    let made = report();
                    let count = if made {
                        &reporting.reports
                    } else {
                        &reporting.failed
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }),
        )?;
        Ok(Self { seen, threads })
    }

    /// Ends it; what it gave.
    pub(super) fn end(self) -> Beside {
        self.seen.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            // A thread that panicked has not delivered or reported, which shows.
            let _ = thread.join();
        }
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Beside {
            attacks: of(&self.seen.attacks),
            delivered: of(&self.seen.delivered),
            delayed: of(&self.seen.delayed),
            longest_ms: of(&self.seen.longest_ms),
            reports: of(&self.seen.reports),
            reports_failed: of(&self.seen.failed),
        }
    }
}

/// Waits; false where it is time to stop.
fn wait(seen: &Seen, length: Duration) -> bool {
    let end = Instant::now() + length;
    while Instant::now() < end {
        if seen.stop.load(Ordering::SeqCst) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    !seen.stop.load(Ordering::SeqCst)
}

/// Connects to the collector, from its own host.
pub(super) type Connect = Box<dyn Fn() -> io::Result<TcpStream> + Send>;

/// Everything that an agent can send, in the order of chance.
fn attack(seen: &Seen, connect: &Connect, mut rng: fastrand::Rng) {
    let mut number = 0;
    while !seen.stop.load(Ordering::SeqCst) {
        let (path, body) = match rng.u8(0..8) {
            // Few bytes that stand for very many rows, of its own session and of others'.
            0 | 1 => (BLOCKS_PATH, blocks("m-a", &dense(), 300, &mut number, None)),
            2 => (BLOCKS_PATH, blocks("a-b", &dense(), 300, &mut number, None)),
            // Frames that hold nothing that can be read.
            3 => (BLOCKS_PATH, noise(5_000)),
            // Times to come.
            4 => {
                let far = Wall::from_nanos(i64::MAX - 1_000_000_000);
                let event = BlockBody::Events(vec![event(Mono::MAX)]);
                (
                    BLOCKS_PATH,
                    blocks("m-a", &event, 50, &mut number, Some(far)),
                )
            }
            // Two records that are days apart.
            5 => {
                let wide = BlockBody::Events(vec![event(Mono::ZERO), event(Clock::now())]);
                (BLOCKS_PATH, blocks("m-a", &wide, 500, &mut number, None))
            }
            6 => (HELLO_PATH, hello("0.1\u{1b}[2J\n")),
            _ => (PLAN_PATH, Vec::new()),
        };
        let method = if body.is_empty() { "GET" } else { "POST" };
        if ask(connect, HOSTILE, method, path, &body).is_ok() {
            seen.attacks.fetch_add(1, Ordering::SeqCst);
        } else {
            // The collector is being started.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Delivers a block now and then, and takes the time.
fn deliver(seen: &Seen, connect: &Connect) {
    let run = Clock::pair().wall.as_nanos().unsigned_abs();
    let mut number = 0;
    while wait(seen, EVERY) {
        let header = header(WITNESS, None, run, number, None);
        let block = Block {
            header,
            body: BlockBody::Events(vec![event(Clock::now())]),
        };
        let body = framed([block.encode(Span::from_nanos(1)).unwrap_or_default()]);
        let begun = Instant::now();
        let Ok(200) = ask(connect, WITNESS, "POST", BLOCKS_PATH, &body) else {
            // Killed, or its disk is full: delivered again, as an agent would.
            continue;
        };
        let took = begun.elapsed();
        number += 1;
        seen.delivered.fetch_add(1, Ordering::SeqCst);
        seen.delayed
            .fetch_add(u64::from(took > DELAY), Ordering::SeqCst);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        seen.longest_ms.fetch_max(millis, Ordering::SeqCst);
    }
}

fn event(at: Mono) -> Event {
    Event {
        at,
        kind: EventKind::SessionStarted,
    }
}

/// As many probes as a block may have; encoded, some hundred bytes.
fn dense() -> BlockBody {
    let at = Clock::now();
    let rows = u32::try_from(MAX_ROWS).unwrap_or(u32::MAX);
    let probe = |i| Probe {
        flow: FlowIndex(0),
        seq: Seq(i),
        sent: Stamp {
            at,
            source: StampSource::Kernel,
        },
        fate: ProbeFate::Unanswered,
    };
    BlockBody::Probes((0..rows).map(probe).collect())
}

fn header(
    agent: &str,
    session: Option<&str>,
    run: u64,
    number: u64,
    closed: Option<Wall>,
) -> BlockHeader {
    let now = Clock::pair();
    let named = |session: &str| session.parse::<SessionName>().ok();
    BlockHeader {
        key: BlockKey {
            // Names of this file.
            agent: agent.parse().unwrap_or_else(|_| unreachable!()),
            run: RunId(run),
            number,
        },
        session: session.and_then(named),
        closed: ClockPair {
            mono: now.mono,
            wall: closed.unwrap_or(now.wall),
        },
    }
}

/// So many blocks of these records, each under a number of its own.
fn blocks(
    session: &str,
    body: &BlockBody,
    count: usize,
    number: &mut u64,
    closed: Option<Wall>,
) -> Vec<u8> {
    // Encoding costs more than what it costs the collector to refuse it: once is enough,
    // and the same block again is as much work.
    let block = Block {
        header: header(HOSTILE, Some(session), 7, *number, closed),
        body: body.clone(),
    };
    *number += 1;
    let payload = block.encode(Span::from_nanos(100)).unwrap_or_default();
    framed(std::iter::repeat_n(payload, count))
}

fn noise(count: usize) -> Vec<u8> {
    framed(std::iter::repeat_n(b"no".to_vec(), count))
}

fn framed(payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut body = Vec::new();
    for payload in payloads {
        // One that is too large for a frame is left out.
        let _ = frame::append(&mut body, FrameKind::Block, &payload);
    }
    body
}

fn hello(version: &str) -> Vec<u8> {
    let hello = serde_json::json!({
        "agent": HOSTILE,
        "run": 7,
        "version": version,
        "protocol": { "oldest": 1, "newest": 1 },
    });
    hello.to_string().into_bytes()
}

/// The status of the answer to one request on a connection of its own.
fn ask(connect: &Connect, agent: &str, method: &str, path: &str, body: &[u8]) -> io::Result<u16> {
    let mut stream = connect()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:8620\r\n{AGENT_HEADER}: {agent}\r\nauthorization: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bearer(&secret(agent)),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    status.ok_or_else(|| io::Error::other("no answer"))
}
