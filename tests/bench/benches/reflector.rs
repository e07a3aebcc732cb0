//! How many probes a second one core reflects under a flood: the shell and engine of
//! `hopgap-agent reflect`, beside an echo of bare recvmmsg and sendmmsg, and one with
//! our socket but without an engine, by turns. Then those of an agent that records every
//! reception with its departure, beside echoes that take the kernel's departures, too.

use clap::Parser;
use hopgap_agent::recorder::Batch;
use hopgap_agent::reflector::{Link, ReflectorShell};
use hopgap_agent::session::{Stop, error_estimate};
use hopgap_bench::cost::{Cost, Meter};
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::{World, sealed};
use hopgap_engine::reflector::{OpenMode, Rate, ReflectedSession, ReflectorConfig};
use hopgap_net::clock::Clock;
use hopgap_net::probe::{Outgoing, ProbeOptions, ProbeSocket, TxStamps};
use hopgap_net::timer::{Ready, wait};
use hopgap_proto::stamp::{Compatibility, Ssid};
use hopgap_proto::time::{Mono, Span};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use nix::unistd::Pid;
use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

const BATCH: usize = 64;
/// RFC 8762 section 4.2.1.
const PROBE: usize = 44;
const FLOWS: usize = 8;
const SOURCE_PORT: u16 = 50_000;

#[derive(Parser)]
struct Options {
    /// Rounds; in each, every echo has its turn
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Milliseconds of a turn
    #[arg(long, default_value_t = 1_500)]
    millis: u32,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
    /// As cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    sealed(|| Ok(()), |world| bench(&options, world))
}

/// Something that answers on an address until an instant; how many packets it answered.
type Echo = fn(SocketAddr, Mono) -> anyhow::Result<u64>;

fn bench(options: &Options, world: &World) -> anyhow::Result<()> {
    let mut table = Table::begin(
        "reflector",
        "44-byte probes of 8 flows over loopback, flooded from one core, answered on another",
    );
    let echoes: [Echo; 6] = [
        ours,
        bare,
        bare_stamped,
        recording,
        bare_sampled,
        bare_departures,
    ];
    let mut sums = [(0, Cost::default()); 6];
    for _ in 0..options.rounds {
        for ((answered, cost), echo) in sums.iter_mut().zip(echoes) {
            let (more, took) = world.near.inside(|| turn(echo, options.millis))?;
            *answered += more;
            *cost += took;
        }
    }
    let [ours, bare, stamped, recording, sampled, departures] = sums;
    let open = [
        ("bare recvmmsg/sendmmsg", bare, Target::AtLeast(0.7)),
        ("the same with stamps and TTLs", stamped, Target::Shown),
    ];
    // Beyond 20,000 replies a second ours asks for the departures of one batch in n.
    let recorded = [
        (
            "stamps, TTLs and departures of one batch in 16",
            sampled,
            Target::AtLeast(0.7),
        ),
        ("the same of every batch", departures, Target::Shown),
    ];
    for (what, ours, peers) in [("answered", ours, open), ("recorded", recording, recorded)] {
        for (peer, (answered, cost), target) in peers {
            let theirs = (peer, cost.per_second(answered));
            table.ratio(what, "probes/s", ours.1.per_second(ours.0), theirs, target);
            let theirs = (peer, cost.per_cpu_second(answered));
            let per_cpu = ours.1.per_cpu_second(ours.0);
            table.ratio(
                &format!("{what}, per second of processor"),
                "probes",
                per_cpu,
                theirs,
                Target::Shown,
            );
        }
    }
    table.end(options.strict)
}

/// One echo under flood.
fn turn(echo: Echo, millis: u32) -> anyhow::Result<(u64, Cost)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8620));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            pin(0);
            flood(address, &done)
        });
        let answering = scope.spawn(|| -> anyhow::Result<(u64, Cost)> {
            pin(1);
            let end = Clock::now() + Span::from_millis(i64::from(millis));
            let meter = Meter::thread()?;
            let answered = echo(address, end)?;
            Ok((answered, meter.read()?))
        });
        let result = answering.join();
        done.store(true, Ordering::Relaxed);
        let flooded = flood.join();
        flooded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Keeps the calling thread on one core, where the machine has it.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        // With one core only, they share it; the ratio still holds.
        let _ = sched_setaffinity(Pid::from_raw(0), &cores);
    }
}

fn flood(to: SocketAddr, done: &AtomicBool) -> anyhow::Result<()> {
    let mut sockets = Vec::new();
    for port in (SOURCE_PORT..).take(FLOWS) {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        sockets.push(ProbeSocket::open(&ProbeOptions {
            tx_stamps: TxStamps::Off,
            icmp_errors: false,
            ..ProbeOptions::sender(local)
        })?);
    }
    let mut packets = [[0_u8; PROBE]; BATCH];
    let mut sequence = 0_u32;
    while !done.load(Ordering::Relaxed) {
        for (socket, ssid) in sockets.iter_mut().zip(1_u8..) {
            for packet in &mut packets {
                packet[..4].copy_from_slice(&sequence.to_be_bytes());
                packet[13] = 1;
                packet[15] = ssid;
                sequence = sequence.wrapping_add(1);
            }
            let batch = packets.iter().map(|bytes| Outgoing::new(bytes, to));
            socket.send_batch(batch, |_| {});
        }
    }
    Ok(())
}

fn ours(address: SocketAddr, end: Mono) -> anyhow::Result<u64> {
    // As `hopgap-agent reflect --rate 1000000` has it.
    let config = ReflectorConfig {
        open: Some(OpenMode {
            max_sessions: 4_096,
            rate: Rate {
                per_second: 1_000_000,
            },
            key: None,
            compatibility: Compatibility::TwampLight,
        }),
        ..ReflectorConfig::new(address.port(), error_estimate())
    };
    let shell = ReflectorShell::open(address, config)?;
    Ok(shell.run(&Stop::default(), Some(end)).answered)
}

/// As `hopgap-agent run` has it for a session of a plan: every reception is recorded, with
/// its departure.
fn recording(address: SocketAddr, end: Mono) -> anyhow::Result<u64> {
    let config = ReflectorConfig {
        sessions: vec![ReflectedSession {
            name: "flood".parse()?,
            from: Ipv4Addr::LOCALHOST.into(),
            reflector_port: 862,
            source_port: SOURCE_PORT,
            ssid: Ssid(1),
            flows: u8::try_from(FLOWS)?,
            keys: None,
            rate: Rate {
                per_second: 1_000_000,
            },
        }],
        ..ReflectorConfig::new(address.port(), error_estimate())
    };
    let (_plan, changes) = sync_channel(1);
    let (records, taken) = sync_channel::<Batch>(1_024);
    let recorder = std::thread::spawn(move || taken.iter().map(|b| b.receptions.len()).sum());
    let shell = ReflectorShell::open(address, config)?.linked(Link { changes, records });
    let answered = shell.run(&Stop::default(), Some(end)).answered;
    let recorded: usize = recorder.join().unwrap_or_default();
    anyhow::ensure!(
        u64::try_from(recorded)? == answered,
        "{answered} were answered, and {recorded} are on record"
    );
    Ok(answered)
}

/// The least that answers in batches.
fn bare(address: SocketAddr, end: Mono) -> anyhow::Result<u64> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let fd = socket.as_raw_fd();
    let mut buffers = vec![[0_u8; 9_216]; BATCH];
    let mut incoming = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut outgoing = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut answered = 0;
    while Clock::now() < end {
        let flags = MsgFlags::MSG_WAITFORONE;
        let came: Vec<(usize, Option<SockaddrIn>)> = {
            let mut room: Vec<[IoSliceMut<'_>; 1]> =
                buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
            match recvmmsg(fd, &mut incoming, room.iter_mut(), flags, None) {
                Ok(messages) => messages.map(|m| (m.bytes, m.address)).collect(),
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let replies: Vec<[IoSlice<'_>; 1]> = came
            .iter()
            .zip(&buffers)
            .map(|((length, _), bytes)| [IoSlice::new(&bytes[..*length])])
            .collect();
        let to: Vec<Option<SockaddrIn>> = came.iter().map(|(_, from)| *from).collect();
        let sent = sendmmsg(fd, &mut outgoing, &replies, &to, [], MsgFlags::empty())?;
        answered += u64::try_from(sent.count())?;
    }
    Ok(answered)
}

/// With our socket, which takes the kernel's stamp and the TTL of every packet.
fn bare_stamped(address: SocketAddr, end: Mono) -> anyhow::Result<u64> {
    echo(address, end, None)
}

/// The same, with the departures of one batch in 16.
fn bare_sampled(address: SocketAddr, end: Mono) -> anyhow::Result<u64> {
    echo(address, end, Some(16))
}

/// The same, with every departure.
fn bare_departures(address: SocketAddr, end: Mono) -> anyhow::Result<u64> {
    echo(address, end, Some(1))
}

/// `departures`: of one batch in so many.
fn echo(address: SocketAddr, end: Mono, departures: Option<u32>) -> anyhow::Result<u64> {
    let mut socket = ProbeSocket::open(&ProbeOptions {
        tx_stamps: match departures {
            Some(_) => TxStamps::Sent,
            None => TxStamps::Off,
        },
        ..ProbeOptions::reflector(address)
    })?;
    let mut bytes: Vec<[u8; PROBE]> = Vec::with_capacity(BATCH);
    let mut to = Vec::with_capacity(BATCH);
    let mut answered = 0;
    let mut batches = 0_u32;
    let mut ready = [Ready::NONE];
    while Clock::now() < end {
        bytes.clear();
        to.clear();
        socket.recv_batch(|datagram| {
            if let Some(probe) = datagram.bytes.first_chunk() {
                bytes.push(*probe);
                to.push((datagram.from, datagram.to));
            }
        })?;
        if bytes.is_empty() {
            let latest = Clock::now() + Span::from_millis(100);
            wait(Some(latest), &[socket.as_fd()], &mut ready)?;
            continue;
        }
        batches = batches.wrapping_add(1);
        let taken = departures.is_some_and(|of| batches.is_multiple_of(of));
        socket.take_departures(taken)?;
        let replies = bytes.iter().zip(&to).map(|(bytes, (to, from))| Outgoing {
            from: *from,
            ..Outgoing::new(bytes, *to)
        });
        socket.send_batch(replies, |outcome| answered += u64::from(outcome.is_ok()));
        if taken {
            socket.drain_errors(|stamp| {
                black_box(stamp);
            })?;
        }
    }
    Ok(answered)
}
