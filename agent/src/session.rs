//! The shell of one probe session: a thread that sends on the grid, reads the
//! kernel's stamps and the replies, and hands over what the engine records.
//!
//! The kernel stamps replies when they arrive, so the thread need not wake for them: at
//! short intervals it empties the sockets once a slot, after the send. That halves the
//! number of wake-ups, and reading late costs no accuracy.

pub(crate) mod clocks;
mod opening;
mod path_mtu;
mod records;
pub(crate) mod stamps;
mod tracing_shell;

pub use clocks::{clock_reading, error_estimate};

use crate::health::SessionHealth;
use crate::icmp::{Listening, QuotedFlows, RawFamily, RawSockets};
use crate::recorder::Batch;
use clocks::Stamps;
use hopgap_engine::secret::Secret;
use hopgap_engine::sender::{IcmpError, IcmpOwner, Sender, SenderConfig};
use hopgap_engine::stall::Watch;
use hopgap_engine::tracer::{IcmpOutcome, TracerConfig};
use hopgap_net::NetError;
use hopgap_net::clock::{Clock, ClockTracker};
use hopgap_net::probe::{
    BATCH, ErrorMessage, ProbeSocket, Received, Stamps as KernelStamps, TxKind,
};
use hopgap_net::raw::Family;
use hopgap_net::timer::{Ready, SPIN, sleep_until, wait, wake_exactly};
use hopgap_proto::icmp::IcmpErrorKind;
use hopgap_proto::plan::SessionPlan;
use hopgap_proto::record::{Event, EventKind, FlowIndex, SessionName};
use hopgap_proto::stamp::{Seq, SessionKeys};
use hopgap_proto::time::{Mono, Span};
use opening::Opening;
use path_mtu::PathMtuShell;
use stamps::SentTokens;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use tracing::{info, warn};
use tracing_shell::TraceShell;

/// How often records are handed over.
pub(crate) const HAND_OVER: Span = Span::from_millis(100);
/// How often sockets are emptied, at the first wake-up after it: the kernel has stamped
/// what waits there, and emptying costs as much as several sends.
const EMPTY_EVERY: Span = Span::from_millis(2);
/// With less time between two sends of the session, replies are read only after a send.
const LAZY_BELOW: Span = Span::from_millis(20);
/// How often both clocks are recorded together.
pub(crate) const CLOCK_EVERY: Span = Span::from_secs(10);
/// Most records of a session that wait while the recorder has no room. Beyond it they are dropped
/// and counted.
pub(crate) const MOST_HELD: usize = 100_000;

/// Longest wait of an ending session for its last replies, also where its timeout is longer:
/// ending an agent must not take a minute.
const LONGEST_END: Span = Span::from_secs(7);

/// Most batches fetched from a socket before the next socket's turn.
const MOST_BATCHES: usize = 256;

/// Ends threads in order: they stop sending, wait for the last replies and hand
/// over what they have.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks all holders of a copy to end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The settings of a session.
#[derive(Clone, Debug)]
pub struct SessionSetup {
    /// The session, as the plan has it.
    pub plan: SessionPlan,
    /// Source address of probes; unspecified for the kernel's choice.
    pub source: IpAddr,
    /// The reflector.
    pub destination: SocketAddr,
    /// Keys of authenticated mode.
    pub keys: Option<SessionKeys>,
    /// Greatest TTL of its traceroutes.
    pub max_hops: u8,
}

impl SessionSetup {
    /// Returns the address to bind. A link-local source gets the destination's interface.
    fn local(&self, port: u16) -> SocketAddr {
        match (self.source, self.destination) {
            (IpAddr::V6(source), SocketAddr::V6(to)) if source.is_unicast_link_local() => {
                SocketAddrV6::new(source, port, 0, to.scope_id()).into()
            }
            _ => SocketAddr::new(self.source, port),
        }
    }

    /// Whether a session of this setup can continue under the other. Does not compare keys: they
    /// are read from the plan.
    pub fn is_same(&self, other: &Self) -> bool {
        self.plan == other.plan
            && self.source == other.source
            && self.destination == other.destination
    }
}

/// A session, ready to run on a thread of its own.
pub struct Session {
    name: SessionName,
    sender: Sender,
    /// Address and port of flow 0.
    source: SocketAddr,
    destination: SocketAddr,
    flows: Vec<Flow>,
    opening: Opening,
    tracer: Option<TraceShell>,
    path_mtu: Option<PathMtuShell>,
    /// Source of ICMP errors; `None` without the right to raw sockets: then the flows' own
    /// sockets.
    raw: Option<(Arc<RawFamily>, Listening)>,
    clock: ClockTracker,
    precise: bool,
    /// Time between two sends of the session, over all flows.
    pace: Span,
    batch: Batch,
    records: SyncSender<Batch>,
    /// Batches dropped because the recorder had no room.
    lost: u32,
}

/// One flow's socket and the sends that await their stamp.
struct Flow {
    /// `None` until it can be opened.
    socket: Option<ProbeSocket>,
    tokens: SentTokens<Seq>,
    /// When the last datagram arrived.
    last_arrival: Mono,
}

/// Deadlines of periodic work.
struct Turns {
    empty: Mono,
    clock: Mono,
    hand_over: Mono,
}

impl Session {
    /// Opens the session's sockets, all or none.
    ///
    /// # Errors
    /// When an address or port cannot be had; the message says what to do. Without the
    /// right to raw sockets the traceroute goes through the probes' own sockets.
    pub fn open(
        setup: &SessionSetup,
        raw: &RawSockets,
        records: SyncSender<Batch>,
    ) -> Result<Self, NetError> {
        let raw = raw_sockets(setup, raw);
        let mut opening = Opening::new(setup, SessionHealth::default(), raw.is_some());
        let flows = opening.open_all()?;
        Ok(Self::begin(setup, raw, records, flows, opening))
    }

    /// Opens the session's sockets as far as possible. The others are tried again while these
    /// run, and `health` holds the reasons.
    ///
    /// # Errors
    /// When none can be opened.
    pub fn open_some(
        setup: &SessionSetup,
        raw: &RawSockets,
        records: SyncSender<Batch>,
        health: SessionHealth,
    ) -> Result<Self, NetError> {
        let raw = raw_sockets(setup, raw);
        let mut opening = Opening::new(setup, health, raw.is_some());
        let flows = opening.open_some()?;
        let mut session = Self::begin(setup, raw, records, flows, opening);
        session.note_closed(Clock::now());
        Ok(session)
    }

    fn begin(
        setup: &SessionSetup,
        raw: Option<(Arc<RawFamily>, Listening)>,
        records: SyncSender<Batch>,
        flows: Vec<Flow>,
        opening: Opening,
    ) -> Self {
        let plan = &setup.plan;
        let clock = ClockTracker::new(Clock::read());
        // Delays the first slot, so that the threads of all sessions are running.
        let origin = Clock::now() + Span::from_millis(50);
        let error_estimate = error_estimate();
        let mut config = SenderConfig::from_plan(plan, origin, setup.keys.clone(), error_estimate);
        let mut sockets = flows.iter().filter_map(|f| f.socket.as_ref());
        if let Some(stamps) = sockets.next().map(ProbeSocket::stamps)
            && stamps != KernelStamps::Kernel
        {
            // No stamp is waited for.
            config.stamp_grace = Span::ZERO;
            warn!(
                "session {}: this kernel stamps no packet {}; those times are the program's own, and late by as long as it waits for a processor",
                plan.name,
                match stamps {
                    KernelStamps::ReceiveOnly | KernelStamps::Kernel => "as it leaves",
                    KernelStamps::None => "as it leaves or arrives",
                }
            );
        }
        let source = SocketAddr::new(setup.source, plan.source_port);
        let family = raw.as_ref().map(|(family, _)| Arc::clone(family));
        let tracer = TracerConfig::from_plan(
            plan,
            origin,
            source,
            setup.destination,
            setup.keys.clone(),
            error_estimate,
            secret(),
        )
        .map(|config| {
            let config = TracerConfig {
                max_ttl: setup.max_hops,
                ..config
            };
            TraceShell::new(config, family.clone())
        });
        let path_mtu = PathMtuShell::from_plan(
            plan,
            origin,
            [source, setup.destination],
            setup.keys.clone(),
            error_estimate,
            secret(),
            family,
        );
        Self {
            name: plan.name.clone(),
            sender: Sender::new(config),
            source,
            destination: setup.destination,
            flows,
            opening,
            tracer,
            path_mtu,
            raw,
            clock,
            precise: plan.precise,
            pace: plan.interval / i64::from(plan.flows.max(1)),
            batch: Batch::of(plan.name.clone()),
            records,
            lost: 0,
        }
    }

    /// Probes until `stop` is requested, then waits for the last replies.
    pub fn run(mut self, stop: &Stop) {
        if let Err(error) = wake_exactly() {
            warn!(
                "session {}: sends may be late by 50 µs more: {error}",
                self.name
            );
        }
        if let Some((raw, _)) = &self.raw {
            raw.read();
        }
        let now = Clock::now();
        let mut next = Turns {
            empty: now,
            clock: now,
            hand_over: now + HAND_OVER,
        };
        let mut watch = Watch::new(now, Clock::asleep());
        let mut packet = Vec::new();
        let mut asked_to_end: Option<Mono> = None;
        while !(stop.requested() && self.sender.is_drained()) {
            self.sleep(next.hand_over);
            self.send_due(&mut packet);
            let now = Clock::now();
            self.batch.events.extend(watch.look(now, Clock::asleep()));
            let beside = self.beside_due().is_some_and(|due| due <= now);
            // At a slow pace it sleeps on the sockets, so a wake-up means that something is there.
            if now >= next.empty || beside || self.pace >= LAZY_BELOW {
                next.empty = now + EMPTY_EVERY;
                self.empty_sockets();
                self.take_icmp();
                self.sender.handle_timeout(now);
                if let Some(tracer) = &mut self.tracer {
                    tracer.turn(now, &mut self.flows);
                }
                self.drain();
                if let Some(path_mtu) = &mut self.path_mtu {
                    path_mtu.turn(now, &mut self.flows, &mut self.batch.events);
                }
            }
            self.drain();
            if now >= next.clock {
                next.clock = now + CLOCK_EVERY;
                self.read_clocks();
            }
            if now >= next.hand_over {
                next.hand_over = now + HAND_OVER;
                self.open_closed(now);
                self.opening.judge_sends(now);
                self.hand_over();
            }
            if stop.requested() {
                self.sender.stop(now);
                if now - *asked_to_end.get_or_insert(now) >= LONGEST_END {
                    self.sender.give_up();
                }
                if let Some(tracer) = &mut self.tracer {
                    tracer.stop();
                }
                if let Some(path_mtu) = &mut self.path_mtu {
                    path_mtu.stop();
                }
            }
        }
        self.drain();
        self.read_clocks();
        self.note_never_opened(Clock::now());
        self.hand_over_last();
    }

    /// Returns when traceroute or the search for the path MTU next has work.
    fn beside_due(&self) -> Option<Mono> {
        let tracer = self.tracer.as_ref().and_then(TraceShell::poll_timeout);
        let path_mtu = self.path_mtu.as_ref().and_then(PathMtuShell::poll_timeout);
        tracer.into_iter().chain(path_mtu).min()
    }

    /// Waits for the next deadline, at most until `latest`.
    fn sleep(&mut self, latest: Mono) {
        let deadline = [self.sender.poll_timeout(), self.beside_due()]
            .into_iter()
            .flatten()
            .fold(latest, Mono::min);
        let due = self.sender.next_due() == Some(deadline);
        if self.pace < LAZY_BELOW {
            sleep_until(deadline, self.precise && due);
            return;
        }
        let wake = if self.precise && due {
            deadline - SPIN
        } else {
            deadline
        };
        let sockets = self.flows.iter().filter_map(|f| f.socket.as_ref());
        let fds: Vec<BorrowedFd<'_>> = sockets.map(|socket| socket.as_fd()).collect();
        let mut ready = vec![Ready::NONE; fds.len()];
        if let Err(error) = wait(Some(wake), &fds, &mut ready) {
            warn!("session {}: waiting failed: {error}", self.name);
            sleep_until(wake, false);
        }
        if self.precise && due && !ready.iter().any(|r| *r != Ready::NONE) {
            sleep_until(deadline, true);
        }
    }

    /// Sends what is due, at most one packet of each flow. Otherwise, at a pace that is too fast
    /// for the processor, something would always be due and the sockets never be emptied.
    fn send_due(&mut self, packet: &mut Vec<u8>) {
        for _ in 0..self.flows.len() {
            if self.sender.next_due().is_none_or(|due| due > Clock::now()) {
                return;
            }
            let pair = Clock::pair_at_once();
            let Some(transmit) = self.sender.poll_transmit(pair.mono, pair.wall, packet) else {
                return;
            };
            let Some(flow) = self.flows.get_mut(usize::from(transmit.flow.0)) else {
                return;
            };
            let Some(socket) = &mut flow.socket else {
                return;
            };
            let at = Clock::now();
            let sent = socket.send_to(packet, self.destination);
            self.opening.tried_to_send(sent.as_ref().err());
            match sent {
                Ok(token) => {
                    self.sender.handle_sent(transmit.flow, transmit.seq, at);
                    flow.tokens.sent(token.0, transmit.seq, at);
                }
                Err(refusal) => {
                    self.sender
                        .handle_refused(transmit.flow, transmit.seq, at, refusal.errno);
                }
            }
        }
    }
}

impl Session {
    /// Reads stamps, ICMP errors and replies of every flow.
    fn empty_sockets(&mut self) {
        let Self {
            sender,
            flows,
            tracer,
            path_mtu,
            raw,
            clock,
            batch,
            name,
            destination,
            ..
        } = self;
        for (flow, i) in flows.iter_mut().zip(0..) {
            let index = FlowIndex(i);
            let Flow {
                socket: Some(socket),
                tokens,
                last_arrival,
            } = flow
            else {
                continue;
            };
            let mut stamps = Stamps::new(clock, &mut batch.events);
            let drained = socket.drain_errors(|message| match message {
                ErrorMessage::TxStamp {
                    token,
                    stamp,
                    kind: TxKind::Sent,
                } => {
                    if let Some(stamp) = stamps.mono_of(stamp)
                        && let Some(seq) = tokens.stamped(token.0, stamp.at)
                    {
                        sender.handle_tx_stamp(index, seq, stamp);
                    }
                }
                ErrorMessage::TxStamp {
                    kind: TxKind::Scheduled,
                    ..
                } => {}
                ErrorMessage::Icmp(icmp) => {
                    // The raw sockets deliver the same errors, with everything that they quote.
                    let (Some(from), None) = (icmp.offender, &raw) else {
                        return;
                    };
                    let at = stamps.of(icmp.stamp).at;
                    if let Some(path_mtu) = &mut *path_mtu
                        && path_mtu.icmp_from_probe_socket(index, &icmp, from, at)
                    {
                        return;
                    }
                    let error = IcmpError {
                        quoted_payload: icmp.payload,
                        from,
                        icmp_type: icmp.icmp_type,
                        code: icmp.code,
                        mtu: icmp.mtu,
                        at,
                    };
                    if let IcmpOwner::Trace(_) = sender.handle_icmp(index, &error)
                        && let Some(tracer) = &mut *tracer
                    {
                        tracer.icmp_from_probe_socket(index, &icmp, from, at);
                    }
                }
            });
            if let Err(error) = drained {
                warn!("session {name}: cannot read an error queue: {error}");
            }
            let mut take = |datagram: Received<'_>| {
                let received = stamps.of(datagram.stamp);
                let since = std::mem::replace(last_arrival, received.at);
                if datagram.overflowed > 0 {
                    stamps.events.push(Event {
                        at: received.at,
                        kind: EventKind::ReceiveOverflow {
                            flow: Some(index),
                            since,
                            count: datagram.overflowed,
                        },
                    });
                }
                let taken = sender.handle_datagram(index, datagram.bytes, received, datagram.ttl);
                let from = datagram.from.ip().to_canonical();
                if taken && from != destination.ip() {
                    sender.handle_translated(from, received.at);
                }
            };
            // Reads everything: a reply may be judged late only after looking for it.
            for _ in 0..MOST_BATCHES {
                match socket.recv_batch(&mut take) {
                    Ok(BATCH) => {}
                    Ok(_) => break,
                    Err(error) => {
                        warn!("session {name}: cannot receive: {error}");
                        break;
                    }
                }
            }
        }
    }
    /// Reads the session's ICMP errors from the raw sockets and passes them to the path MTU
    /// search, to the traceroute, and the rest to the sender of probes.
    fn take_icmp(&mut self) {
        let Self {
            sender,
            tracer,
            path_mtu,
            raw,
            clock,
            batch,
            source,
            ..
        } = self;
        let Some((_, listening)) = raw else { return };
        let mut stamps = Stamps::new(clock, &mut batch.events);
        let unread = listening.take(|from, stamp, error| {
            let at = stamps.of(stamp).at;
            if let Some(path_mtu) = &mut *path_mtu
                && path_mtu.icmp(from, error, at)
            {
                return;
            }
            if let Some(tracer) = &mut *tracer
                && tracer.icmp(from, error, at) != IcmpOutcome::Other
            {
                return;
            }
            let port = error.quoted.udp.map(|udp| udp.source_port);
            let flow = port.and_then(|port| port.checked_sub(source.port()));
            let Some(Ok(flow)) = flow.map(u8::try_from) else {
                return;
            };
            let mtu = match error.kind {
                IcmpErrorKind::PacketTooBig { mtu } => Some(mtu),
                _ => None,
            };
            let error = IcmpError {
                quoted_payload: error.quoted.payload,
                from,
                icmp_type: error.icmp_type,
                code: error.code,
                mtu,
                at,
            };
            sender.handle_icmp(FlowIndex(flow), &error);
        });
        if unread > 0
            && let Some(tracer) = tracer
        {
            tracer.unread(unread);
        }
    }
}

/// Returns the agent's raw sockets, and a listener for errors to the session's packets.
/// `None` where the agent has no right to them, or the session does not need or cannot use
/// them.
fn raw_sockets(setup: &SessionSetup, raw: &RawSockets) -> Option<(Arc<RawFamily>, Listening)> {
    let plan = &setup.plan;
    if plan.trace_interval <= Span::ZERO && plan.path_mtu_interval().is_none() {
        return None;
    }
    // Raw packets name no interface, which a link-local address needs.
    if matches!(setup.destination, SocketAddr::V6(to) if to.scope_id() != 0) {
        return None;
    }
    let family = raw.of(Family::from(setup.destination.ip()));
    let family = family
        .inspect_err(|error| info!("tracing through the probes' own sockets: {error}"))
        .ok()?;
    let listening = family.listen(QuotedFlows {
        source: SocketAddr::new(setup.source, plan.source_port),
        ports: plan.flows,
        target: Some(setup.destination),
    });
    Some((family, listening))
}

/// Makes a secret for unguessable identifiers, from the system's random keys for this process.
fn secret() -> Secret {
    let mut bytes = [0; 16];
    let half = || RandomState::new().build_hasher().finish().to_be_bytes();
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    Secret::new(bytes)
}
