//! How many probes a second one core can send and match with their replies: the engine
//! alone in memory, beside a loop that only remembers send times; and a whole session
//! with its sockets over loopback, beside a loop with the same sockets and no engine.

use anyhow::{Context as _, bail};
use clap::Parser;
use hopgap_agent::icmp::RawSockets;
use hopgap_agent::reflector::ReflectorShell;
use hopgap_agent::session::{Session, SessionSetup, Stop, error_estimate};
use hopgap_bench::cost::{Cost, Meter};
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::{World, sealed};
use hopgap_engine::reflector::{OpenMode, Rate, ReflectorConfig};
use hopgap_engine::sender::{Output, Sender, SenderConfig};
use hopgap_net::clock::Clock;
use hopgap_net::probe::{ErrorMessage, ProbeOptions, ProbeSocket, TxKind};
use hopgap_net::timer::sleep_until;
use hopgap_proto::plan::{Destination, SessionPlan};
use hopgap_proto::record::{FlowIndex, ProbeFate, Stamp, StampSource};
use hopgap_proto::stamp::{Compatibility, ErrorEstimate, Seq, Ssid, TimestampFormat};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

const FLOWS: u8 = 8;
/// RFC 8762 section 4.2.1 and 4.3.1.
const PROBE: usize = 44;
/// 200 000 probes a second over all flows: more than is asked for.
const PACE: Span = Span::from_micros(5);

#[derive(Parser)]
struct Options {
    /// Thousands of probes in memory
    #[arg(long, default_value_t = 2_000)]
    thousands: u64,
    /// Seconds of a turn with sockets
    #[arg(long, default_value_t = 4)]
    seconds: u32,
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

fn bench(options: &Options, world: &World) -> anyhow::Result<()> {
    let mut table = Table::begin("sender", "sending and matching with 8 flows, on one core");
    let probes = options.thousands * 1_000;
    let ours = in_memory(probes)?;
    let bare = bare_in_memory(probes)?;
    table.figure(
        "engine, in memory",
        "probes/s",
        ours.per_cpu_second(probes),
        ("a table of send times", bare.per_cpu_second(probes)),
        Target::AtLeast(100_000.0),
    );
    let bare = world
        .near
        .inside(|| with_sockets(options.seconds, bare_session))?;
    let ours = world
        .near
        .inside(|| with_sockets(options.seconds, session))?;
    let peer = "stamped sockets, no engine";
    table.figure(
        "session with sockets, per second of processor",
        "probes",
        ours.1.per_cpu_second(ours.0),
        (peer, bare.1.per_cpu_second(bare.0)),
        Target::AtLeast(100_000.0),
    );
    table.figure(
        "session with sockets, elapsed (asked: 200 000)",
        "probes/s",
        ours.1.per_second(ours.0),
        (peer, bare.1.per_second(bare.0)),
        Target::Shown,
    );
    table.end(options.strict)
}

/// The engine with the time that the loop gives it; a reply comes 1 ms after its probe.
fn in_memory(probes: u64) -> anyhow::Result<Cost> {
    let origin = Mono::from_nanos(1_000_000_000_000);
    let wall = |at: Mono| Wall::from_nanos(at.as_nanos() + 1_790_000_000_000_000_000);
    let kernel = |at| Stamp {
        at,
        source: StampSource::Kernel,
    };
    let mut sender = Sender::new(SenderConfig {
        origin,
        interval: PACE * i64::from(FLOWS),
        flows: FLOWS,
        ssid: Ssid(1),
        timeout: Span::from_secs(2),
        late_window: Span::from_secs(10),
        stamp_grace: Span::from_millis(50),
        keys: None,
        error_estimate: ErrorEstimate::from_error(Span::MAX, TimestampFormat::Ntp),
        first_seq: Seq(0),
    });
    let mut packet = Vec::new();
    let mut on_the_way: VecDeque<(Mono, FlowIndex, [u8; PROBE])> = VecDeque::new();
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let mut now = origin;
    let meter = Meter::thread()?;
    while answered < probes {
        if sent < probes
            && let Some(transmit) = sender.poll_transmit(now, wall(now), &mut packet)
        {
            sender.handle_sent(transmit.flow, transmit.seq, now);
            sender.handle_tx_stamp(transmit.flow, transmit.seq, kernel(now));
            let reply = reply_to(&packet, transmit.seq).context("a base packet")?;
            on_the_way.push_back((now + Span::from_millis(1), transmit.flow, reply));
            sent += 1;
        }
        while let Some((at, flow, reply)) = on_the_way.pop_front_if(|(at, ..)| *at <= now) {
            sender.handle_datagram(flow, &reply, kernel(at), Some(255));
        }
        sender.handle_timeout(now);
        while let Some(output) = sender.poll_output() {
            if let Output::Probe(probe) = output {
                if !matches!(probe.fate, ProbeFate::Answered(_)) {
                    bail!("a probe was not matched with its reply: {probe:?}");
                }
                answered += 1;
            }
        }
        now += PACE;
    }
    meter.read()
}

/// A stateful reflector's reply, as RFC 8762 section 4.3.1 lays it out.
fn reply_to(request: &[u8], seq: Seq) -> Option<[u8; PROBE]> {
    let mut reply = [0; PROBE];
    reply[..4].copy_from_slice(&seq.0.to_be_bytes());
    let sent = request.get(4..16)?;
    reply[4..16].copy_from_slice(sent);
    reply[16..24].copy_from_slice(sent.get(..8)?);
    reply[24..38].copy_from_slice(request.get(..14)?);
    reply[40] = 255;
    Some(reply)
}

/// The same packets, of which only the send times are kept.
fn bare_in_memory(probes: u64) -> anyhow::Result<Cost> {
    let mut times: Vec<VecDeque<Mono>> = vec![VecDeque::new(); FLOWS.into()];
    let mut on_the_way: VecDeque<(Mono, u8, [u8; PROBE])> = VecDeque::new();
    let mut now = Mono::from_nanos(1_000_000_000_000);
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let mut flow = 0;
    let mut request = [0; PROBE];
    let meter = Meter::thread()?;
    while answered < probes {
        if sent < probes {
            let seq = u32::try_from(sent / u64::from(FLOWS))?;
            request[..4].copy_from_slice(&seq.to_be_bytes());
            request[4..12].copy_from_slice(&now.as_nanos().to_be_bytes());
            let reply = reply_to(&request, Seq(seq)).context("a base packet")?;
            times[usize::from(flow)].push_back(now);
            on_the_way.push_back((now + Span::from_millis(1), flow, reply));
            flow = (flow + 1) % FLOWS;
            sent += 1;
        }
        while let Some((at, flow, reply)) = on_the_way.pop_front_if(|(at, ..)| *at <= now) {
            let first = times[usize::from(flow)]
                .pop_front()
                .context("it was sent")?;
            black_box((at - first, &reply));
            answered += 1;
        }
        now += PACE;
    }
    meter.read()
}

/// A sender at full pace for some seconds; how many of its probes were answered.
type Shell = fn(u32) -> anyhow::Result<(u64, Cost)>;

/// Against our reflector on a thread of its own.
fn with_sockets(seconds: u32, shell: Shell) -> anyhow::Result<(u64, Cost)> {
    let config = ReflectorConfig {
        open: Some(OpenMode {
            max_sessions: 64,
            rate: Rate {
                per_second: 1_000_000,
            },
            key: None,
            compatibility: Compatibility::TwampLight,
        }),
        ..ReflectorConfig::new(862, error_estimate())
    };
    let reflector = ReflectorShell::open(reflector(), config)?;
    let stop = Stop::default();
    std::thread::scope(|scope| {
        scope.spawn(|| reflector.run(&stop, None));
        let result = shell(seconds);
        stop.request();
        result
    })
}

fn reflector() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 862))
}

fn session(seconds: u32) -> anyhow::Result<(u64, Cost)> {
    let setup = SessionSetup {
        plan: SessionPlan {
            name: "bench".parse()?,
            from: "here".parse()?,
            to: Destination::Foreign(reflector()),
            interval: PACE * i64::from(FLOWS),
            flows: FLOWS,
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
        source: Ipv4Addr::LOCALHOST.into(),
        destination: reflector(),
        keys: None,
        max_hops: 30,
    };
    let (records, batches) = sync_channel(1_024);
    let session = Session::open(&setup, &RawSockets::default(), records)?;
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| -> anyhow::Result<Cost> {
            let meter = Meter::thread()?;
            session.run(&stop);
            // Waiting for the last replies is not sending.
            let wall = Duration::from_secs(seconds.into());
            Ok(Cost {
                wall,
                ..meter.read()?
            })
        });
        let timer = stop.clone();
        scope.spawn(move || {
            std::thread::sleep(Duration::from_secs(seconds.into()));
            timer.request();
        });
        let mut fates: BTreeMap<&str, u64> = BTreeMap::new();
        for batch in batches {
            for probe in batch.probes {
                let fate = match probe.fate {
                    ProbeFate::Answered(_) => "answered",
                    ProbeFate::Unanswered => "unanswered",
                    ProbeFate::Refused(_) => "refused",
                };
                *fates.entry(fate).or_default() += 1;
            }
        }
        let cost = running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let answered = fates.get("answered").copied().unwrap_or(0);
        if fates.len() > 1 {
            println!("  (not all were answered: {fates:?})");
        }
        Ok((answered, cost))
    })
}

/// Sends by the same grid and takes stamps and replies, and matches nothing.
fn bare_session(seconds: u32) -> anyhow::Result<(u64, Cost)> {
    let mut sockets = Vec::new();
    for port in 0..u16::from(FLOWS) {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000 + port));
        sockets.push(ProbeSocket::open(&ProbeOptions::sender(local))?);
    }
    let to = reflector();
    let origin = Clock::now();
    let end = origin + Span::from_secs(i64::from(seconds));
    let (mut slot, mut stamped, mut answered) = (0_i64, 0_u64, 0_u64);
    let mut packet = [0; PROBE];
    packet[13] = 1;
    let meter = Meter::thread()?;
    let mut now = origin;
    while now < end {
        now = sleep_until(origin + PACE * slot, false);
        // Late by more than a round of all flows: those slots are left out, as we do.
        let due = (now - origin).as_nanos() / PACE.as_nanos();
        slot = slot.max(due - i64::from(FLOWS) + 1);
        while slot <= due {
            let flow = slot.rem_euclid(i64::from(FLOWS));
            let socket = sockets.get_mut(usize::try_from(flow)?).context("a flow")?;
            packet[..4].copy_from_slice(&u32::try_from(slot)?.to_be_bytes());
            packet[15] = u8::try_from(flow)? + 1;
            let _ = socket.send_to(&packet, to);
            slot += 1;
        }
        for socket in &mut sockets {
            socket.drain_errors(|message| {
                if let ErrorMessage::TxStamp {
                    kind: TxKind::Sent, ..
                } = message
                {
                    stamped += 1;
                }
            })?;
            socket.recv_batch(|_| answered += 1)?;
        }
    }
    black_box(stamped);
    Ok((answered, meter.read()?))
}
