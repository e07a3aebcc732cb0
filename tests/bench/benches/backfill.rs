//! What a backlog on its way to the collector does to the probes of the same agent: how
//! late they leave after their slot, as the kernel stamped them, while the spool is
//! delivered at the shipped rate, beside the same session with nothing to deliver, by
//! turns; and as fast as it goes, without a rate. This is what the host does to the
//! probes: the link here has no narrow place, which is what the rate spares.
//!
//! Session and uplink run in one process, as in the agent. The collector is a socket on
//! the other host that acknowledges everything: on one machine a real one would take
//! the processor that it has for itself in the field.

use anyhow::{Context as _, bail};
use clap::Parser;
use hopgap_agent::config::SpoolConfig;
use hopgap_agent::icmp::RawSockets;
use hopgap_agent::session::{Session, SessionSetup, Stop};
use hopgap_agent::spool::{Spool, SpoolOptions};
use hopgap_agent::uplink::{Client, Delivery, deliver, lock};
use hopgap_bench::cost::{float, median};
use hopgap_bench::program;
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::{World, sealed};
use hopgap_proto::plan::{Destination, SessionPlan};
use hopgap_proto::record::RunId;
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::time::{Mono, Span};
use hopgap_proto::uplink::Ack;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const STAMP_PORT: u16 = 862;
const SINK_PORT: u16 = 8620;
const INTERVAL: Span = Span::from_millis(1);
/// No probe is quicker than half of them by more than this.
const QUICKER: Span = Span::from_micros(100);
/// A delivery more or less than the rate says, and the burst at the start.
const SLACK_BYTES: u64 = 2 << 20;

#[derive(Parser)]
struct Options {
    /// Rounds; in each, every way has its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of a turn
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Where the spool is: a directory on a disk; removed afterwards
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/backfill"))]
    dir: PathBuf,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
    /// As cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came of the turns of one way.
#[derive(Default)]
struct Turns {
    /// Median and 99th percentile of each turn, of how late probes left after their slot,
    /// in microseconds.
    medians: Vec<f64>,
    p99s: Vec<f64>,
    delivered: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    sealed(
        || program::build().map(drop),
        |world| bench(&options, world),
    )
}

fn bench(options: &Options, world: &World) -> anyhow::Result<()> {
    let agent = program::ours("hopgap-agent")?;
    let _reflector = world.far.serve(
        &agent,
        &["reflect", "--rate", "1000000"],
        ("udp", STAMP_PORT),
    )?;
    let sink = world
        .far
        .inside(|| Ok(TcpListener::bind((FAR, SINK_PORT))?))?;
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in sink.incoming().flatten() {
            std::thread::spawn(move || take_all(&stream));
        }
    });
    let rate = SpoolConfig::default().backfill_rate;
    let (mut alone, mut paced, mut flood) = (Turns::default(), Turns::default(), Turns::default());
    let mut table = Table::begin(
        "backfill",
        "how late probes at 1 kHz leave, with and without a backlog on its way",
    );
    for _ in 0..options.rounds {
        turn(options, world, None, &mut alone)?;
        turn(options, world, Some(rate), &mut paced)?;
        turn(options, world, Some(u64::MAX), &mut flood)?;
    }
    let seconds = f64::from(options.rounds * options.seconds);
    for (turns, what, target) in [
        (&mut paced, "backfill at the shipped rate", true),
        (&mut flood, "backfill without a rate", false),
    ] {
        let judged = |most| {
            if target {
                Target::AtMost(most)
            } else {
                Target::Shown
            }
        };
        // The median turn: another program's stall in one turn is none of the backlog's.
        table.ratio(
            &format!("{what}: lateness, p50"),
            "µs",
            median(&mut turns.medians),
            ("no backlog", median(&mut alone.medians)),
            judged(1.25),
        );
        table.ratio(
            &format!("{what}: lateness, p99"),
            "µs",
            median(&mut turns.p99s),
            ("no backlog", median(&mut alone.p99s)),
            judged(1.5),
        );
        table.alone(
            &format!("{what}: delivered"),
            "MB/s",
            float(turns.delivered) / seconds / 1e6,
            if target {
                Target::AtLeast(0.9 * float(rate) / 1e6)
            } else {
                Target::Shown
            },
        );
    }
    table.end(options.strict)
}

/// One turn: a session, and the spool delivered at `rate` where there is one.
fn turn(
    options: &Options,
    world: &World,
    rate: Option<u64>,
    turns: &mut Turns,
) -> anyhow::Result<()> {
    if options.dir.exists() {
        std::fs::remove_dir_all(&options.dir)?;
    }
    let seconds = u64::from(options.seconds);
    let backlog = rate.map_or(0, |rate| match rate.checked_mul(seconds) {
        Some(bytes) => bytes + SLACK_BYTES,
        None => 256 << 20,
    });
    let spool = Arc::new(Mutex::new(filled(&options.dir, backlog)?));
    let before = lock(&spool).bytes();
    let stop = Stop::default();
    let mut late = world.near.inside(|| {
        let client = Client::new(
            &format!("http://{FAR}:{SINK_PORT}"),
            None,
            "near".parse()?,
            RunId(1),
        );
        let delivery = Delivery {
            rate: rate.unwrap_or(u64::MAX),
            grace: Duration::ZERO,
        };
        let uplink = deliver(client, Arc::clone(&spool), stop.clone(), delivery)?;
        let late = lateness(options.seconds);
        stop.request();
        if uplink.join().is_err() {
            bail!("the uplink ended by a fault of the program");
        }
        late
    })?;
    let mut spool = lock(&spool);
    let mut waits = 0;
    while let Some(batch) = spool.next_batch(1 << 20)? {
        waits += u64::try_from(batch.bytes.len())?;
        spool.acknowledge(batch.cursor_after(u64::MAX));
    }
    turns.delivered += before - waits;
    drop(spool);
    std::fs::remove_dir_all(&options.dir)?;

    late.sort_by(f64::total_cmp);
    let at = |share: usize| late.get((late.len() * share / 100).min(late.len() - 1));
    let (Some(p50), Some(p99)) = (at(50), at(99)) else {
        bail!("no probe was sent");
    };
    turns.medians.push(*p50);
    turns.p99s.push(*p99);
    Ok(())
}

/// A spool with so many bytes of records in it.
fn filled(dir: &Path, bytes: u64) -> anyhow::Result<Spool> {
    let mut spool = Spool::open(dir, SpoolOptions::default())?;
    let mut made_up = Synthetic::new(1, 8, INTERVAL)?;
    let block = made_up.stretch(4_000).probes.encode(Span::from_nanos(1))?;
    while spool.appended() < bytes {
        spool.append(&block, Mono::ZERO)?;
    }
    spool.sync();
    Ok(spool)
}

/// How late each probe of a session left after its slot, in microseconds.
fn lateness(seconds: u32) -> anyhow::Result<Vec<f64>> {
    let setup = SessionSetup {
        plan: SessionPlan {
            name: "bench".parse()?,
            from: "near".parse()?,
            to: Destination::Foreign(SocketAddr::new(FAR, STAMP_PORT)),
            interval: INTERVAL,
            flows: 1,
            source_port: 50_000,
            ssid: None,
            timeout: Span::from_millis(500),
            trace_interval: Span::ZERO,
            path_mtu_interval: None,
            dscp: 0,
            precise: false,
            time_unit: Span::from_nanos(100),
            authenticated: None,
            key: None,
        },
        source: NEAR,
        destination: SocketAddr::new(FAR, STAMP_PORT),
        keys: None,
        max_hops: 30,
    };
    let (records, batches) = sync_channel(1_024);
    let session = Session::open(&setup, &RawSockets::default(), records)?;
    let stop = Stop::default();
    let timer = stop.clone();
    let sent: Vec<Mono> = std::thread::scope(|scope| {
        scope.spawn(|| session.run(&stop));
        scope.spawn(move || {
            std::thread::sleep(Duration::from_secs(seconds.into()));
            timer.request();
        });
        batches
            .into_iter()
            .flat_map(|batch| batch.probes)
            .map(|probe| probe.sent.at)
            .collect()
    });
    // The grid is absolute, and a slot is never taken later than the next one is due: what
    // is left of a send time beyond whole intervals is how late it was, but for where in
    // the interval the grid lies. Most probes leave right behind it: the shortest arc that
    // holds half of them begins there, but for the few that were quicker still.
    let circle = INTERVAL.as_nanos();
    let mut phases: Vec<i64> = sent
        .iter()
        .map(|at| at.as_nanos().rem_euclid(circle))
        .collect();
    phases.sort_unstable();
    let half = phases.len() / 2;
    let arc = |i: &usize| {
        let end = phases.get((i + half) % phases.len()).unwrap_or(&0);
        (end - phases.get(*i).unwrap_or(&0)).rem_euclid(circle)
    };
    let begin = (0..phases.len()).min_by_key(arc);
    let begin = begin.and_then(|i| phases.get(i).copied());
    let begin = begin.context("no probe was sent")? - QUICKER.as_nanos();
    let mut late: Vec<i64> = phases
        .iter()
        .map(|phase| (phase - begin).rem_euclid(circle))
        .collect();
    late.sort_unstable();
    // The hundredth quickest stands for the grid: a probe that was late by nearly the whole
    // interval would be taken for the quickest of all.
    let zero = late.get(late.len() / 100).copied().unwrap_or(0);
    Ok(late
        .iter()
        .map(|nanos| Span::from_nanos((nanos - zero).max(0)).as_secs_f64() * 1e6)
        .collect())
}

/// Acknowledges every delivery of a connection.
fn take_all(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut stream = stream;
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                return;
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap_or(0);
            }
        }
        body.resize(length, 0);
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let ack = Ack {
            bytes: u64::try_from(length).unwrap_or(0),
            ..Ack::default()
        };
        let Ok(text) = serde_json::to_string(&ack) else {
            return;
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        let answer = format!("{head}{}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
