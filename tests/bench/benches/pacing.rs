//! How punctually, how cheaply and how truly a paced session measures, on a veth pair:
//! `hopgap-agent measure`, a bare timerfd loop and irtt by turns; and what the kernel
//! itself saw of the same packets.

use anyhow::{Context as _, bail};
use clap::Parser;
use hopgap_bench::capture::{Capture, Numbered, Seen};
use hopgap_bench::cost::{Cost, Meter, float, median};
use hopgap_bench::program;
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::{World, sealed};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde_json::Value;
use std::fs::File;
use std::io::Read as _;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FAR: &str = "10.0.0.2";
const STAMP_PORT: u16 = 862;
const IRTT_PORT: u16 = 2112;
const ECHO_PORT: u16 = 7007;
/// A share of slots that comes and goes with whatever else the machine does.
const NOISE_PERCENT: f64 = 0.2;

#[derive(Parser)]
struct Options {
    /// Rounds; in each, every program has its turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of a turn at 1 kHz; at 10 kHz it is half as long
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
    /// As cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came of one program's turns.
#[derive(Default)]
struct Turns {
    slots: u64,
    missed: u64,
    probing: Duration,
    cost: Cost,
    /// Reported median round trip of each turn, in microseconds.
    round_trips: Vec<f64>,
}

impl Turns {
    fn missed_percent(&self) -> f64 {
        100.0 * float(self.missed) / float(self.slots)
    }

    /// Share of a core in percent.
    fn core_percent(&self) -> f64 {
        100.0 * self.cost.cpu.as_secs_f64() / self.probing.as_secs_f64()
    }

    fn add(&mut self, turn: Self) {
        self.slots += turn.slots;
        self.missed += turn.missed;
        self.probing += turn.probing;
        self.cost += turn.cost;
        self.round_trips.extend(turn.round_trips);
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    sealed(
        || {
            program::require("irtt", "irtt")?;
            program::require("tcpdump", "tcpdump")?;
            program::build().map(drop)
        },
        |world| bench(&options, world),
    )
}

fn bench(options: &Options, world: &World) -> anyhow::Result<()> {
    let agent = program::ours("hopgap-agent")?;
    let stop = AtomicBool::new(false);
    let _reflector = world.far.serve(
        &agent,
        &["reflect", "--rate", "1000000"],
        ("udp", STAMP_PORT),
    )?;
    let irtt_server = ["server", "-i", "0", "-b", &format!("{FAR}:{IRTT_PORT}")];
    let _irtt = world
        .far
        .serve(Path::new("irtt"), &irtt_server, ("udp", IRTT_PORT))?;
    let echo = world
        .far
        .inside(|| Ok(UdpSocket::bind((FAR, ECHO_PORT))?))?;
    std::thread::scope(|scope| {
        scope.spawn(|| bare_echo(&echo, &stop));
        let result = turns(options, world, &agent);
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn turns(options: &Options, world: &World, agent: &Path) -> anyhow::Result<()> {
    for (khz, seconds) in [(1, options.seconds), (10, options.seconds.div_ceil(2))] {
        let title = match khz {
            1 => "1 kHz on a veth pair, one flow",
            _ => "10 kHz on a veth pair (ours: ten flows of 1 kHz; the others: one of 10 kHz)",
        };
        let mut table = Table::begin("pacing", title);
        let (mut ours, mut precise) = (Turns::default(), Turns::default());
        let (mut bare, mut irtt) = (Turns::default(), Turns::default());
        for _ in 0..options.rounds {
            bare.add(bare_turn(world, khz, seconds)?);
            ours.add(measure_turn(world, agent, khz, seconds, false)?);
            irtt.add(irtt_turn(world, khz, seconds)?);
            precise.add(measure_turn(world, agent, khz, seconds, true)?);
        }
        // At 10 kHz the figures are shown; the targets are for 1 kHz.
        let judged = |target| if khz == 1 { target } else { Target::Shown };
        let most_missed = judged(Target::AtMost(bare.missed_percent() + NOISE_PERCENT));
        let peers = [("bare timerfd", &bare), ("irtt", &irtt)];
        for (turns, name) in [(&ours, "measure"), (&precise, "measure --precise")] {
            for (peer, theirs) in peers {
                let target = match (name, peer) {
                    ("measure", "bare timerfd") => most_missed,
                    _ => Target::Shown,
                };
                table.figure(
                    &format!("{name}: slots missed"),
                    "%",
                    turns.missed_percent(),
                    (peer, theirs.missed_percent()),
                    target,
                );
            }
        }
        for (turns, name) in [(&ours, "measure"), (&precise, "measure --precise")] {
            for (peer, theirs) in peers {
                let target = match (name, peer) {
                    ("measure", "irtt") => judged(Target::AtMost(0.5)),
                    _ => Target::Shown,
                };
                table.ratio(
                    &format!("{name}: processor"),
                    "% of a core",
                    turns.core_percent(),
                    (peer, theirs.core_percent()),
                    target,
                );
            }
        }
        table.end(options.strict)?;
    }
    truth(options, world, agent)
}

/// The reported round trip beside the kernel's, of the same packets.
fn truth(options: &Options, world: &World, agent: &Path) -> anyhow::Result<()> {
    let mut table = Table::begin(
        "pacing",
        "median round trip at 1 kHz, as reported and as tcpdump saw it at both ends of the link",
    );
    let stamp = Numbered {
        port: STAMP_PORT,
        in_request: 0,
        in_reply: 24,
        shortest: 44,
    };
    let capture = Capture::begin(world, stamp)?;
    let ours = measure_turn(world, agent, 1, options.seconds, false)?;
    let seen = capture.end()?;
    let irtt = Numbered {
        port: IRTT_PORT,
        in_request: 12,
        in_reply: 12,
        shortest: 40,
    };
    let capture = Capture::begin(world, irtt)?;
    let theirs = irtt_turn(world, 1, options.seconds)?;
    let irtt_seen = capture.end()?;
    for (who, mut turn, seen, target) in [
        ("measure", ours, seen, Target::AtMost(5.0)),
        ("irtt", theirs, irtt_seen, Target::Shown),
    ] {
        let Seen {
            waited,
            round_trip,
            exchanges,
        } = seen;
        let reported = median(&mut turn.round_trips);
        let kernel = ("kernel, without the reflector", round_trip);
        table.figure(
            &format!("{who}: reported"),
            "µs",
            reported,
            kernel,
            Target::Shown,
        );
        table.alone(
            &format!("{who}: reported − kernel, {exchanges} exchanges"),
            "µs",
            (reported - round_trip).abs(),
            target,
        );
        table.alone(
            &format!("{who}: kernel, with the reflector"),
            "µs",
            waited,
            Target::Shown,
        );
    }
    table.end(options.strict)
}

fn measure_turn(
    world: &World,
    agent: &Path,
    khz: u32,
    seconds: u32,
    precise: bool,
) -> anyhow::Result<Turns> {
    let mut line = format!(
        "measure {FAR} --interval 1ms --flows {khz} --duration {seconds}s --timeout 500ms \
         --trace-interval 0s --json"
    );
    if precise {
        line.push_str(" --precise");
    }
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let meter = Meter::children()?;
    let said = world.near.finish(agent, &arguments)?;
    let cost = meter.read()?;
    let found: Value = serde_json::from_str(&said).context("measure --json")?;
    let session = &found["sessions"][0];
    let count = |name: &str| session["counts"][name].as_u64();
    let (Some(sent), Some(skipped)) = (count("sent"), count("skipped")) else {
        bail!("measure --json has no counts");
    };
    let p50 = session["latency"][0]["round_trip"]["p50_ns"].as_f64();
    Ok(Turns {
        slots: sent + skipped,
        missed: skipped,
        probing: Duration::from_secs(seconds.into()),
        cost,
        round_trips: p50.map(|ns| ns / 1_000.0).into_iter().collect(),
    })
}

fn irtt_turn(world: &World, khz: u32, seconds: u32) -> anyhow::Result<Turns> {
    let out: PathBuf = world.scratch("irtt.json");
    let line = format!(
        "client -Q -i {}us -d {seconds}s --wait=500ms -o {} {FAR}:{IRTT_PORT}",
        1_000 / khz,
        out.display()
    );
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let meter = Meter::children()?;
    world.near.finish(Path::new("irtt"), &arguments)?;
    let cost = meter.read()?;
    let found: Value = serde_json::from_slice(&std::fs::read(&out)?).context("irtt's JSON")?;
    let stats = &found["stats"];
    let sent = stats["packets_sent"]
        .as_u64()
        .context("irtt: packets_sent")?;
    let median = stats["rtt"]["median"].as_f64();
    let slots = u64::from(khz * 1_000 * seconds);
    Ok(Turns {
        slots,
        missed: slots.saturating_sub(sent),
        probing: Duration::from_secs(seconds.into()),
        cost,
        round_trips: median.map(|ns| ns / 1_000.0).into_iter().collect(),
    })
}

/// The least that can be called pacing: wake by a periodic timerfd, send, take what came.
fn bare_turn(world: &World, khz: u32, seconds: u32) -> anyhow::Result<Turns> {
    world.near.inside(|| {
        let socket = UdpSocket::bind("10.0.0.1:0")?;
        socket.connect((FAR, ECHO_PORT))?;
        socket.set_nonblocking(true)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())?;
        let interval = TimeSpec::from(Duration::from_micros((1_000 / khz).into()));
        timer.set(Expiration::Interval(interval), TimerSetTimeFlags::empty())?;
        let mut timer = File::from(OwnedFd::from(timer));
        let (mut slots, mut missed) = (0, 0);
        let mut packet = [0; 44];
        let meter = Meter::thread()?;
        let probing = Duration::from_secs(seconds.into());
        let end = Instant::now() + probing;
        while Instant::now() < end {
            let mut expirations = [0; 8];
            timer.read_exact(&mut expirations)?;
            let expirations = u64::from_ne_bytes(expirations);
            slots += expirations;
            missed += expirations - 1;
            packet[..8].copy_from_slice(&slots.to_be_bytes());
            socket.send(&packet)?;
            while socket.recv(&mut [0; 64]).is_ok() {}
        }
        Ok(Turns {
            slots,
            missed,
            probing,
            cost: meter.read()?,
            round_trips: Vec::new(),
        })
    })
}

fn bare_echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut bytes = [0; 64];
    // Without this it would wait for ever for a packet that does not come.
    let _ = socket.set_read_timeout(Some(Duration::from_millis(100)));
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..length], from);
        }
    }
}
