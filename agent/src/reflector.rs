//! The shell of the reflector: one port, one thread, replies in batches.
//!
//! Where a plan names the hosts to answer, the port has several sockets ([`lanes`]).
//! Strangers share one and the sessions' hosts have the others, so that strangers cannot
//! fill the queues of those hosts. The lanes take turns, a batch at a time.

use crate::cli::ReflectArgs;
use crate::icmp::{Listening, QuotedFlows, RawFamily, RawSockets};
use crate::output::{self, Stream};
use crate::privilege::{self, PrivilegeError};
use crate::recorder::Batch;
use crate::secret::{self, SecretError};
use crate::session::clocks::Stamps;
use crate::session::stamps::SentTokens;
use crate::session::{CLOCK_EVERY, HAND_OVER, MOST_HELD, Stop, clock_reading, error_estimate};
use crate::signals::{self, AlsoEnds};
use hopgap_analysis::text;
use hopgap_engine::reflector::{
    Datagram, OpenMode, Output, Rate, ReflectedSession, Reflector, ReflectorConfig, Ticket, Totals,
    Verdict,
};
use hopgap_engine::stall::Watch;
use hopgap_net::NetError;
use hopgap_net::clock::{Clock, ClockStep, ClockTracker};
use hopgap_net::lanes;
use hopgap_net::probe::{ErrorMessage, Outgoing, ProbeOptions, ProbeSocket, TxKind};
use hopgap_net::raw::Family;
use hopgap_net::timer::{Ready, wait};
use hopgap_proto::record::{Event, EventKind, SessionName, Stamp, StampSource};
use hopgap_proto::stamp::Compatibility;
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use tracing::{error, info, warn};

/// Most sessions of open mode at a time.
const MOST_OPEN_SESSIONS: usize = 4_096;
/// Longest wait, so that a stop is noticed.
const IDLE: Span = Span::from_millis(100);
/// How long an ending reflector answers probes that already wait.
const LAST_ANSWERS: Span = Span::from_millis(100);
/// How often to read the sockets when waiting for them fails.
const BLIND: std::time::Duration = std::time::Duration::from_millis(1);
/// Bytes that the kernel accounts for a small datagram in a socket's buffer.
const KERNEL_TAKES: usize = 768;
/// Lanes of a port with known senders: one for strangers, three for the senders.
const LANES: usize = 4;
/// Largest reply that need not forbid fragmentation, in bytes: every link of IPv4 carries it
/// (RFC 791 requires 576 of every host).
const MAY_BE_FRAGMENTED: usize = 512;
/// Buffer for the replies of one batch, by their average size.
const REPLY_ROOM: usize = 64 * 128;

/// Why there is no reflector.
#[derive(Debug, thiserror::Error)]
pub enum ReflectError {
    /// The socket.
    #[error(transparent)]
    Net(#[from] NetError),
    /// An address to listen on is of the excluded family.
    #[error("{listen} is no {family} address; leave out {option} or --listen")]
    Family {
        /// As it was written.
        listen: SocketAddr,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The option.
        option: &'static str,
    },
    /// The key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The privileges could not be dropped.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// A signal handler could not be installed.
    #[error("cannot catch Ctrl-C: {0}")]
    Signals(std::io::Error),
}

/// `hopgap-agent reflect`: answers probes until Ctrl-C.
///
/// # Errors
/// When it cannot begin.
pub fn run(args: &ReflectArgs) -> Result<(), ReflectError> {
    let key = args.key_file.as_deref().map(secret::key).transpose()?;
    let config = ReflectorConfig {
        open: Some(OpenMode {
            max_sessions: MOST_OPEN_SESSIONS,
            rate: Rate {
                per_second: args.rate,
            },
            key,
            compatibility: Compatibility::TwampLight,
        }),
        ..ReflectorConfig::new(args.listen.port(), error_estimate())
    };
    let addresses = listening(args)?;
    let mut shell = open_all(&addresses, args, config)?;
    shell.only_from = args.peers.iter().map(|p| p.to_canonical()).collect();
    privilege::give_up_all()?;
    let stop = Stop::default();
    // It writes only there, and a dying ssh session without a terminal sends no signal.
    signals::end_in_order(&stop, AlsoEnds::ReaderGone(Stream::Error))
        .map_err(ReflectError::Signals)?;
    let open: Vec<String> = shell.lanes.iter().map(|l| l.address.to_string()).collect();
    output::note(&format!(
        "answering STAMP probes on UDP {}; Ctrl-C ends it",
        open.join(" and ")
    ));
    let totals = shell.run(&stop, args.duration.map(|d| Clock::now() + d));
    if totals.uncounted > 0 {
        output::note(&format!(
            "answered {} without a count, because too many sessions came at once: their senders cannot tell the direction of a loss",
            text::plural(totals.uncounted, "packet", "packets")
        ));
    }
    output::note(&format!(
        "answered {}, and {} of traceroutes; did not answer {}",
        text::plural(totals.answered, "probe", "probes"),
        text::plural(totals.traced, "packet", "packets"),
        text::plural(totals.dropped, "packet", "packets")
    ));
    Ok(())
}

/// Returns the addresses that the command line means. `[::]` includes IPv4, which gets its
/// own socket so that no IPv4 address looks like one of IPv6.
fn listening(args: &ReflectArgs) -> Result<Vec<SocketAddr>, ReflectError> {
    let (listen, family) = (args.listen, args.family);
    let ip = listen.ip().to_canonical();
    let mut addresses = vec![match listen {
        // Keeps its zone, where it has one.
        SocketAddr::V6(_) if ip.is_ipv6() => listen,
        _ => SocketAddr::new(ip, listen.port()),
    }];
    if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // First, because by far the most probes come to it.
        addresses.insert(
            0,
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port()),
        );
    }
    addresses.retain(|a| family.allows(a.ip()));
    if addresses.is_empty() {
        let (family, option) = match family.v4 {
            true => ("IPv4", "-4"),
            false => ("IPv6", "-6"),
        };
        return Err(ReflectError::Family {
            listen,
            family,
            option,
        });
    }
    Ok(addresses)
}

/// Opens a socket for each address. Of two families, the kernel may lack one; then only the
/// other is used.
fn open_all(
    addresses: &[SocketAddr],
    args: &ReflectArgs,
    config: ReflectorConfig,
) -> Result<ReflectorShell, NetError> {
    let mut lanes = Vec::new();
    let mut missing = None;
    for address in addresses {
        match ProbeSocket::open(&ProbeOptions::reflector(*address)) {
            Ok(socket) => lanes.push(Lane::new(*address, socket)),
            Err(error @ NetError::NoFamily { .. }) if addresses.len() > 1 => {
                output::note(&error.to_string());
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match (lanes.is_empty(), missing) {
        (true, Some(error)) => Err(error),
        _ => Ok(ReflectorShell::of(lanes, args.listen, config)),
    }
}

/// The shell of a reflector, ready to run on a thread of its own.
pub struct ReflectorShell {
    lanes: Vec<Lane>,
    /// Whether the first lane has strangers only.
    sorted: bool,
    address: SocketAddr,
    reflector: Reflector,
    clock: ClockTracker,
    /// The only sources that are answered; empty for all.
    only_from: Vec<IpAddr>,
    link: Option<Link>,
    /// Source of ICMP errors to its replies; `None` without the right to raw sockets.
    errors: Option<(Arc<RawFamily>, Listening)>,
    batches: BTreeMap<Option<SessionName>, Batch>,
    /// Datagrams that were dropped without reading them.
    unasked: u64,
}

/// One of the port's sockets.
struct Lane {
    address: SocketAddr,
    socket: ProbeSocket,
    /// When its last datagram arrived.
    last_arrival: Mono,
    /// Replies whose departure stamp has not come yet.
    awaited: SentTokens<Ticket>,
}

impl Lane {
    fn new(address: SocketAddr, socket: ProbeSocket) -> Self {
        Self {
            address,
            socket,
            last_arrival: Clock::now(),
            awaited: SentTokens::default(),
        }
    }
}

/// A reflector's channels to the rest of the agent.
pub struct Link {
    /// Sessions to answer, as the plan changes.
    pub changes: Receiver<Vec<ReflectedSession>>,
    /// Where records go.
    pub records: SyncSender<Batch>,
}

/// A reply of the present batch, by its place in the buffer.
struct Pending {
    start: usize,
    end: usize,
    to: SocketAddr,
    from: Option<IpAddr>,
    dscp: Option<u8>,
    ticket: Ticket,
}

impl ReflectorShell {
    /// Opens the sockets.
    ///
    /// # Errors
    /// When the address or port cannot be used; the message says what to do.
    pub fn open(address: SocketAddr, config: ReflectorConfig) -> Result<Self, NetError> {
        let count = if config.open.is_some() { 1 } else { LANES };
        let lanes = lanes::open(&ProbeOptions::reflector(address), count)?;
        let lanes = lanes.into_iter().map(|s| Lane::new(address, s)).collect();
        let mut shell = Self::of(lanes, address, config);
        shell.sort();
        Ok(shell)
    }

    fn of(lanes: Vec<Lane>, address: SocketAddr, config: ReflectorConfig) -> Self {
        Self {
            lanes,
            sorted: false,
            address,
            reflector: Reflector::new(config),
            clock: ClockTracker::new(Clock::read()),
            only_from: Vec::new(),
            link: None,
            errors: None,
            batches: BTreeMap::new(),
            unasked: 0,
        }
    }

    /// Steers the sessions' hosts to their own lanes.
    fn sort(&mut self) {
        let sockets = self.lanes.iter().map(|lane| &lane.socket);
        match lanes::steer(sockets, self.address, &self.reflector.sources()) {
            Ok(sorted) => self.sorted = sorted,
            Err(error) => {
                self.sorted = false;
                warn!("strangers may fill the reflector's queues: {error}");
            }
        }
    }

    /// Connects it to a plan and a recorder.
    #[must_use]
    pub fn linked(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// Listens for ICMP errors to its replies, where the agent has the right to.
    #[must_use]
    pub fn hearing(mut self, raw: &RawSockets) -> Self {
        let family = raw
            .of(Family::from(self.address.ip()))
            .inspect_err(|error| {
                info!("the reflector does not hear what routers say of its replies: {error}");
            });
        self.errors = family.ok().map(|family| {
            let listening = family.listen(QuotedFlows {
                source: self.address,
                ports: 1,
                target: None,
            });
            (family, listening)
        });
        self
    }

    /// Reads the ICMP errors to its replies.
    fn take_icmp(&mut self) {
        let Some((_, listening)) = &self.errors else {
            return;
        };
        let (reflector, clock, batches) = (&mut self.reflector, &mut self.clock, &mut self.batches);
        let last_wake = clock.pair().mono;
        let mut fetched = false;
        listening.take(|from, stamp, error| {
            if !fetched {
                fetched = true;
                if let Some(step) = clock.observe(Clock::read()) {
                    note_step(step, batches);
                }
            }
            let at = stamp.and_then(|wall| clock.mono_of(wall, last_wake));
            reflector.handle_icmp(from, error, at.unwrap_or_else(Clock::now));
        });
    }

    /// Returns about how many probes may wait in a socket; `None` where that is unknown.
    pub fn room(&self) -> Option<usize> {
        let lane = self.lanes.first()?;
        Some(lane.socket.receive_buffer().ok()? / KERNEL_TAKES)
    }

    /// Answers until `stop` is requested or `end` has come.
    pub fn run(mut self, stop: &Stop, end: Option<Mono>) -> Totals {
        if let Some((raw, _)) = &self.errors {
            raw.read();
        }
        let mut next_clock = Clock::now();
        let mut next_hand_over = next_clock + HAND_OVER;
        let mut ready = vec![Ready::NONE; self.lanes.len()];
        let mut complained = false;
        let mut replies = Vec::with_capacity(REPLY_ROOM);
        let mut pending = Vec::with_capacity(64);
        let mut watch = Watch::new(next_clock, Clock::asleep());
        loop {
            let now = Clock::now();
            if let Some(stalled) = watch.look(now, Clock::asleep()) {
                batch_of(&mut self.batches, None).events.push(stalled);
            }
            if stop.requested() || end.is_some_and(|end| now >= end) {
                break;
            }
            let fds: Vec<_> = self.lanes.iter().map(|l| l.socket.as_fd()).collect();
            if let Err(error) = wait(Some(now + IDLE), &fds, &mut ready) {
                if !complained {
                    error!("the reflector on {} cannot wait: {error}", self.address);
                }
                complained = true;
                std::thread::sleep(BLIND);
            }
            // Answers batch after batch while datagrams wait, until the next hand-over.
            while self.answer_batches(&mut replies, &mut pending) {
                if Clock::now() >= next_hand_over {
                    break;
                }
            }
            self.take_icmp();
            let now = Clock::now();
            self.reflector.handle_timeout(now);
            if now >= next_clock {
                next_clock = now + CLOCK_EVERY;
                self.read_clocks();
            }
            if now >= next_hand_over {
                next_hand_over = now + HAND_OVER;
                self.hand_over();
            }
            self.take_changes();
        }
        let ended = self.answer_the_rest(&mut replies, &mut pending);
        self.read_clocks();
        self.reflector.finish(Clock::now());
        let stopped = Event {
            at: ended,
            kind: EventKind::ReflectorStopped,
        };
        batch_of(&mut self.batches, None).events.push(stopped);
        self.hand_over_last();
        let totals = self.reflector.totals();
        Totals {
            dropped: totals.dropped + self.unasked,
            ..totals
        }
    }

    /// Answers what waits in the sockets, and returns the end of the log: all that came before
    /// was read. A probe that came and was not read would look lost on its way.
    fn answer_the_rest(&mut self, replies: &mut Vec<u8>, pending: &mut Vec<Pending>) -> Mono {
        let first = Clock::now();
        loop {
            let before = Clock::now();
            if !self.answer_batches(replies, pending) {
                return before;
            }
            // Under a flood the queues are never empty: what came before the first try was read,
            // unless the queue was longer than this time.
            if before - first >= LAST_ANSWERS {
                return first;
            }
        }
    }

    /// Answers up to 64 datagrams of each lane; returns false when there were none.
    fn answer_batches(&mut self, replies: &mut Vec<u8>, pending: &mut Vec<Pending>) -> bool {
        let mut any = false;
        // Strangers last.
        for lane in (0..self.lanes.len()).rev() {
            any |= self.answer_batch(lane, replies, pending);
        }
        any
    }

    /// Answers up to 64 datagrams of a lane; returns false when there were none.
    fn answer_batch(
        &mut self,
        lane: usize,
        replies: &mut Vec<u8>,
        pending: &mut Vec<Pending>,
    ) -> bool {
        let Self {
            lanes,
            sorted,
            reflector,
            clock,
            only_from,
            batches,
            unasked,
            ..
        } = self;
        let strangers = *sorted && lane == lanes::STRANGERS;
        let Some(Lane {
            address,
            socket,
            last_arrival,
            awaited,
        }) = lanes.get_mut(lane)
        else {
            return false;
        };
        // Reads stamps of earlier replies: unread ones make waiting for the socket useless.
        note_departures(socket, awaited, reflector, clock, batches);
        replies.clear();
        pending.clear();
        let mut reply = Vec::new();
        let mut fetched: Option<Mono> = None;
        let last_wake = clock.pair().mono;
        let received = socket.recv_batch(|datagram| {
            if !only_from.is_empty() && !only_from.contains(&datagram.from.ip().to_canonical()) {
                *unasked += 1;
                return;
            }
            // Truncated: no probe is that long.
            if datagram.truncated {
                *unasked += 1;
                return;
            }
            if fetched.is_none() {
                fetched = Some(Clock::now());
                if let Some(step) = clock.observe(Clock::read()) {
                    note_step(step, batches);
                }
            }
            let pair = Clock::pair();
            let (received, received_wall) = match datagram.stamp {
                Some(wall) if let Some(at) = clock.mono_of(wall, last_wake) => (
                    Stamp {
                        at,
                        source: StampSource::Kernel,
                    },
                    wall,
                ),
                _ => (
                    Stamp {
                        at: pair.mono,
                        source: StampSource::User,
                    },
                    pair.wall,
                ),
            };
            let since = std::mem::replace(last_arrival, received.at);
            if strangers {
                reflector.handle_unread(datagram.overflowed);
            } else if datagram.overflowed > 0 {
                let event = Event {
                    at: received.at,
                    kind: EventKind::ReceiveOverflow {
                        flow: None,
                        since,
                        count: datagram.overflowed,
                    },
                };
                batch_of(batches, None).events.push(event);
            }
            let heard = Datagram {
                bytes: datagram.bytes,
                from: datagram.from,
                to: SocketAddr::new(datagram.to.unwrap_or(address.ip()), address.port()),
                ttl: datagram.ttl,
                tos: datagram.tos,
                received,
                received_wall,
            };
            if let Verdict::Reply { dscp, ticket } = reflector.handle(&heard, pair.wall, &mut reply)
            {
                let start = replies.len();
                replies.extend_from_slice(&reply);
                pending.push(Pending {
                    start,
                    end: replies.len(),
                    to: datagram.from,
                    from: datagram.to,
                    dscp,
                    ticket,
                });
            }
        });
        let count = match received {
            Ok(count) => count,
            Err(error) => {
                warn!("the reflector on {address} cannot receive: {error}");
                return false;
            }
        };
        if !pending.is_empty() {
            let wanted = pending
                .iter()
                .filter(|p| p.ticket.wants_departure())
                .count();
            let now = Clock::now();
            let stamped = wanted > 0
                && reflector.takes_departures(wanted, now)
                && socket.take_departures(true).is_ok();
            if !stamped {
                // Where this fails, the stamps still come, and are drained.
                let _ = socket.take_departures(false);
            }
            let packets = pending.iter().map(|p| Outgoing {
                from: p.from,
                tos: p.dscp.map(|dscp| dscp << 2),
                ..Outgoing::new(replies.get(p.start..p.end).unwrap_or_default(), p.to)
            });
            // A long reply shows what size the path carries, so it must not be fragmented.
            let whole = pending.iter().any(|p| p.end - p.start > MAY_BE_FRAGMENTED);
            if whole {
                hold(socket, true);
            }
            // Read just before the send call, once for all its packets.
            let at = Clock::now();
            let mut outcomes = pending.iter();
            socket.send_batch(packets, |outcome| match (outcomes.next(), outcome) {
                (Some(p), Ok(token)) => {
                    reflector.handle_sent(p.ticket, at, stamped);
                    if stamped {
                        awaited.sent(token.0, p.ticket, at);
                    }
                }
                (Some(p), Err(refusal)) => {
                    reflector.handle_refused(p.ticket, at, refusal.errno);
                }
                _ => {}
            });
            if whole {
                hold(socket, false);
            }
            if stamped {
                note_departures(socket, awaited, reflector, clock, batches);
            }
        }
        self.drain();
        count > 0
    }

    fn drain(&mut self) {
        while let Some((session, event)) = self.reflector.poll_size_event() {
            if self.link.is_some() {
                let session = Some((*session).clone());
                batch_of(&mut self.batches, session).events.push(event);
            }
        }
        while let Some(output) = self.reflector.poll_output() {
            if self.link.is_none() {
                continue;
            }
            match output {
                Output::Reception(session, reception) => {
                    batch_of(&mut self.batches, Some((*session).clone()))
                        .receptions
                        .push(reception);
                }
                Output::Event(session, event) => {
                    let session = session.map(|s| (*s).clone());
                    batch_of(&mut self.batches, session).events.push(event);
                }
            }
        }
    }

    fn take_changes(&mut self) {
        let Some(link) = &self.link else { return };
        let mut changed = false;
        while let Ok(sessions) = link.changes.try_recv() {
            self.reflector.set_sessions(sessions, Clock::now());
            changed = true;
        }
        changed |= self.reflector.take_sources_changed();
        if changed {
            self.sort();
        }
    }

    fn read_clocks(&mut self) {
        if let Some(step) = self.clock.observe(Clock::read()) {
            note_step(step, &mut self.batches);
        }
        let reading = clock_reading(self.clock.pair());
        let event = Event {
            at: reading.pair.mono,
            kind: EventKind::Clock(reading),
        };
        batch_of(&mut self.batches, None).events.push(event);
        self.reflector.set_error_estimate(error_estimate());
    }

    /// Does the same as [`Self::hand_over`], but waits until the recorder has room.
    fn hand_over_last(&mut self) {
        self.drain();
        if let Some(link) = &self.link {
            for batch in std::mem::take(&mut self.batches).into_values() {
                // Fails only where the recorder has gone.
                let _ = link.records.send(batch);
            }
        }
    }

    fn hand_over(&mut self) {
        self.drain();
        let Some(link) = &self.link else {
            self.batches.clear();
            return;
        };
        for (session, batch) in std::mem::take(&mut self.batches) {
            match link.records.try_send(batch) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                // Kept for the next time; one batch of each session at the most.
                Err(TrySendError::Full(batch)) if batch.rows() < MOST_HELD => {
                    self.batches.insert(session, batch);
                }
                Err(TrySendError::Full(dropped)) => {
                    error!("the reflector's records were dropped, the recorder is behind");
                    let before = dropped.events.iter().map(lost_blocks);
                    let lost = before.fold(1, u32::saturating_add);
                    let event = Event {
                        at: Clock::now(),
                        kind: EventKind::RecordsLost { blocks: lost },
                    };
                    batch_of(&mut self.batches, session).events.push(event);
                }
            }
        }
    }
}

/// Forbids or allows routers to fragment replies.
fn hold(socket: &ProbeSocket, whole: bool) {
    if let Err(error) = socket.forbid_fragments(whole) {
        warn!("the reflector's replies may be fragmented, or not: {error}");
    }
}

fn lost_blocks(event: &Event) -> u32 {
    match event.kind {
        EventKind::RecordsLost { blocks } => blocks,
        _ => 0,
    }
}

fn batch_of(
    batches: &mut BTreeMap<Option<SessionName>, Batch>,
    session: Option<SessionName>,
) -> &mut Batch {
    batches.entry(session.clone()).or_insert_with(|| Batch {
        session,
        ..Batch::default()
    })
}

/// Reads the kernel's stamps of when replies left.
fn note_departures(
    socket: &mut ProbeSocket,
    awaited: &mut SentTokens<Ticket>,
    reflector: &mut Reflector,
    clock: &mut ClockTracker,
    batches: &mut BTreeMap<Option<SessionName>, Batch>,
) {
    if awaited.is_empty() {
        return;
    }
    let mut events = Vec::new();
    let mut stamps = Stamps::new(clock, &mut events);
    let drained = socket.drain_errors(|message| {
        let ErrorMessage::TxStamp {
            token,
            stamp: wall,
            kind: TxKind::Sent,
        } = message
        else {
            return;
        };
        if let Some(stamp) = stamps.mono_of(wall)
            && let Some(ticket) = awaited.stamped(token.0, stamp.at)
        {
            reflector.handle_departed(ticket, stamp, wall);
        }
    });
    if let Err(error) = drained {
        warn!("the reflector cannot read when its replies left: {error}");
    }
    if !events.is_empty() {
        batch_of(batches, None).events.append(&mut events);
    }
}

fn note_step(step: ClockStep, batches: &mut BTreeMap<Option<SessionName>, Batch>) {
    let event = Event {
        at: step.at,
        kind: EventKind::ClockStepped(step.by),
    };
    batch_of(batches, None).events.push(event);
}
