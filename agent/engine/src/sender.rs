//! The Session-Sender of one session: several flows, each a STAMP session of its
//! own (RFC 8762 section 4.2) with its own source port, SSID and sequence numbers.
//!
//! How a shell drives it, at every waking:
//!
//! 1. [`Sender::poll_transmit`] until `None`; send each packet at once, then call
//!    [`Sender::handle_sent`] or [`Sender::handle_refused`].
//! 2. Read `now`, then empty the sockets' error and receive queues into
//!    [`Sender::handle_tx_stamp`], [`Sender::handle_icmp`] and
//!    [`Sender::handle_datagram`].
//! 3. [`Sender::handle_timeout`] with the `now` from before the emptying. Replies that the
//!    kernel had stamped by then have been handed in, so a probe that is now called
//!    unanswered had no reply in time, however late the shell woke.
//! 4. [`Sender::poll_output`] until `None`.
//! 5. Sleep until [`Sender::poll_timeout`], or until a socket can be read.

mod evidence;
mod matcher;
mod owed;

use crate::schedule::{Grid, Slot};
use crate::tracer::is_trace_seq;
use crate::translated::Aliases;
use crate::unfit::UnfitCounts;
use core::net::IpAddr;
use evidence::Evidence;
use hopgap_proto::plan::{SessionPlan, TRACE_SSID_BIT};
use hopgap_proto::record::{
    Event, EventKind, FlowIndex, IcmpEvidence, Probe, Reply, Stamp, UnfitIcmp,
};
use hopgap_proto::stamp::{
    Compatibility, ErrorEstimate, Mode, ReflectorPacket, SenderPacket, Seq, SessionKeys, Ssid,
    Timestamp,
};
use hopgap_proto::time::{Mono, Span, Wall};
use matcher::{Matcher, Waits};
use owed::UnansweredProbes;
use std::collections::VecDeque;

/// A deadline at most this long before the next send waits for that send's waking.
const COALESCE: Span = Span::from_millis(50);
/// How often stray replies are reported.
const STRAY_INTERVAL: Span = Span::from_secs(1);

/// What a [`Sender`] needs to know.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// When slot 0 of flow 0 is due.
    pub origin: Mono,
    /// Time between two probes of one flow.
    pub interval: Span,
    /// Number of flows, at least one.
    pub flows: u8,
    /// SSID of flow 0; flow `i` uses the SSID `i` above it.
    pub ssid: Ssid,
    /// Tmax: a probe without a reply for this long is unanswered.
    pub timeout: Span,
    /// How long after Tmax every reply to a probe is still matched. Later only a first reply
    /// is: the newest million unanswered probes are kept.
    pub late_window: Span,
    /// How long to wait for a probe's kernel transmit stamp before recording the program's
    /// own time. Zero where the kernel gives none.
    pub stamp_grace: Span,
    /// Keys of authenticated mode (RFC 8762 section 4.4); absent: unauthenticated.
    pub keys: Option<SessionKeys>,
    /// Error estimate of this host's wall clock, as the kernel gives it.
    pub error_estimate: ErrorEstimate,
    /// Sequence number of each flow's first probe; other than 0 only in tests of the wrap.
    pub first_seq: Seq,
}

impl SenderConfig {
    /// Returns the configuration that a session's plan asks for, beginning at `origin`.
    /// `keys` are the plan's keys, already read.
    pub fn from_plan(
        plan: &SessionPlan,
        origin: Mono,
        keys: Option<SessionKeys>,
        error_estimate: ErrorEstimate,
    ) -> Self {
        Self {
            origin,
            interval: plan.interval,
            flows: plan.flows,
            ssid: plan.ssid.unwrap_or(Ssid(1)),
            timeout: plan.timeout,
            late_window: Span::from_secs(10).max(plan.timeout * 5),
            stamp_grace: Span::from_millis(50),
            keys,
            error_estimate,
            first_seq: Seq(0),
        }
    }
}

/// A probe to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From this flow's source port.
    pub flow: FlowIndex,
    /// Its sequence number, by which the shell reports what became of the send.
    pub seq: Seq,
    /// When its slot was due.
    pub due: Mono,
}

/// What a [`Sender`] emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// For the record.
    Probe(Probe),
    /// For the record.
    Event(Event),
    /// For the session's [`Tracer`](crate::tracer::Tracer): its packet reached the target.
    TraceReply(TraceReply),
}

/// The reflector's reply to a traceroute packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceReply {
    /// The flow.
    pub flow: FlowIndex,
    /// The sequence number that the tracer gave it.
    pub seq: Seq,
    /// T1 as the reply repeats it.
    pub t1: u64,
    /// When it arrived.
    pub received: Stamp,
    /// TTL with which the packet reached the target, where the reflector says it.
    pub forward_ttl: Option<u8>,
}

/// An ICMP error as read from a socket's error queue, or from a raw socket.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError<'a> {
    /// The quoted UDP payload, as much of it as there is; may be empty.
    pub quoted_payload: &'a [u8],
    /// Who sent it.
    pub from: IpAddr,
    /// ICMP (or ICMPv6) type.
    pub icmp_type: u8,
    /// ICMP (or ICMPv6) code.
    pub code: u8,
    /// The next hop's MTU in bytes, for 'too big' errors.
    pub mtu: Option<u32>,
    /// When it arrived.
    pub at: Mono,
}

/// Whose packet provoked an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpOwner {
    /// A probe, or an unknown packet; the error is recorded as evidence.
    Probe,
    /// The traceroute packet of this sequence number: for the tracer.
    Trace(Seq),
    /// A probe that was never sent; the error is counted, but is no evidence.
    Nobody,
}

/// The Session-Sender of one session.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    grid: Grid,
    flows: Vec<Flow>,
    evidence: Evidence,
    unfit: UnfitCounts,
    outputs: VecDeque<Output>,
    strays: u32,
    strays_since: Mono,
    /// Addresses other than the reflector's from which replies come.
    translated: Aliases,
    /// The wall clock as last given, which tells the era of an NTP timestamp.
    wall: Wall,
    stopped: bool,
    /// Whether a reply has shown that the reflector numbers its replies itself.
    reflector_counts: bool,
}

#[derive(Debug)]
struct Flow {
    /// It has no socket yet: nothing is sent in its slots.
    closed: bool,
    matcher: Matcher,
    /// The reflector's counter and receive time, of the probe that it received last.
    newest: Option<(Seq, Wall)>,
}

impl Sender {
    /// A sender whose session begins at the configured origin.
    pub fn new(config: SenderConfig) -> Self {
        let waits = Waits {
            timeout: config.timeout,
            late: config.late_window,
            grace: config.stamp_grace,
        };
        let (first, interval) = (config.first_seq, config.interval);
        let flows = (0..config.flows.max(1))
            .map(|i| Flow {
                closed: false,
                matcher: Matcher::new(
                    FlowIndex(i),
                    first,
                    interval,
                    waits,
                    UnansweredProbes::of(config.flows),
                ),
                newest: None,
            })
            .collect();
        let started = Event {
            at: config.origin,
            kind: EventKind::SessionStarted,
        };
        Self {
            grid: Grid::new(config.origin, config.interval, config.flows),
            flows,
            evidence: Evidence::default(),
            unfit: UnfitCounts::new(),
            outputs: VecDeque::from([Output::Event(started)]),
            strays: 0,
            strays_since: config.origin,
            translated: Aliases::default(),
            wall: Wall::ZERO,
            stopped: false,
            reflector_counts: false,
            config,
        }
    }

    /// Sets the wall clock's error estimate, which is written into probes from now on.
    pub fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.config.error_estimate = error_estimate;
    }

    /// Sets whether a flow is closed, that is, has no socket. A closed flow sends nothing,
    /// and its slots are not recorded as skipped. Its sequence numbers begin when it opens.
    pub fn set_closed(&mut self, flow: FlowIndex, closed: bool) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.closed = closed;
        }
    }

    /// Returns when the next slot is due, for callers that spin until then; `None` after
    /// [`Sender::stop`].
    pub fn next_due(&self) -> Option<Mono> {
        (!self.stopped).then(|| self.grid.next_due())
    }

    /// When the shell must be awake next; `None` when all is done.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let deadline = self.flows.iter().filter_map(|f| f.matcher.deadline()).min();
        match (self.next_due(), deadline) {
            (Some(due), Some(deadline)) if deadline + COALESCE < due => Some(deadline),
            (Some(due), _) => Some(due),
            (None, deadline) => deadline,
        }
    }

    /// Writes the next probe that is due at `now` to `packet` (cleared first); `None` when
    /// none is. `wall` is the wall clock at `now`. Send the packet at once, then report it by
    /// [`Self::handle_sent`] or [`Self::handle_refused`]; until then it counts as sent at
    /// `now`.
    pub fn poll_transmit(
        &mut self,
        now: Mono,
        wall: Wall,
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if self.stopped {
            return None;
        }
        let slot = self.next_slot(now)?;
        self.wall = wall;
        let flow = self.flows.get_mut(usize::from(slot.flow.0))?;
        let seq = flow.matcher.next_seq();
        let mode = request_mode(self.config.keys.as_ref());
        let error_estimate = self.config.error_estimate;
        let timestamp = Timestamp::from_wall(wall, error_estimate.format());
        packet.clear();
        packet.resize(mode.base_len(), 0);
        let request = SenderPacket {
            sequence: seq,
            timestamp,
            error_estimate,
            ssid: ssid_of(self.config.ssid, slot.flow),
        };
        // The buffer has the base packet's length.
        request.write(mode, packet).ok()?;
        flow.matcher.push(now, timestamp.raw, &mut self.outputs);
        Some(Transmit {
            flow: slot.flow,
            seq,
            due: slot.due,
        })
    }

    /// The next slot of an open flow that is due at `now`.
    fn next_slot(&mut self, now: Mono) -> Option<Slot> {
        let (outputs, flows) = (&mut self.outputs, &self.flows);
        let is_closed = |flow: FlowIndex| flows.get(usize::from(flow.0)).is_none_or(|f| f.closed);
        loop {
            let slot = self.grid.take_due(now, |skipped| {
                if is_closed(skipped.flow) {
                    return;
                }
                outputs.push_back(Output::Event(Event {
                    at: now,
                    kind: EventKind::SlotsSkipped {
                        flow: skipped.flow,
                        first: skipped.first,
                        count: skipped.count,
                    },
                }));
            })?;
            if !is_closed(slot.flow) {
                return Some(slot);
            }
        }
    }

    /// Notes that a probe was handed to the kernel at `at`, the program's own clock reading
    /// before the send call.
    pub fn handle_sent(&mut self, flow: FlowIndex, seq: Seq, at: Mono) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.matcher.sent(seq, at);
        }
    }

    /// Takes a probe's transmit stamp, from the kernel or the interface.
    pub fn handle_tx_stamp(&mut self, flow: FlowIndex, seq: Seq, stamp: Stamp) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.matcher.stamped(seq, stamp, &mut self.outputs);
        }
    }

    /// Records that the kernel refused to send a probe at `at`, with `errno`.
    pub fn handle_refused(&mut self, flow: FlowIndex, seq: Seq, at: Mono, errno: i32) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.matcher.refused(seq, at, errno, &mut self.outputs);
        }
    }

    /// Handles a datagram that arrived on a flow's socket at `received` with this TTL or hop
    /// limit. Returns whether it is a reply to this session.
    pub fn handle_datagram(
        &mut self,
        flow: FlowIndex,
        bytes: &[u8],
        received: Stamp,
        ttl: Option<u8>,
    ) -> bool {
        let keys = self.config.keys.as_ref();
        let mode = keys.map_or(Mode::Open, |k| Mode::Authenticated(k.keys().reply));
        let reply = ReflectorPacket::parse(bytes, mode, Compatibility::TwampLight);
        let taken = reply.is_ok_and(|(reply, _)| self.take_reply(flow, &reply, received, ttl));
        if !taken {
            self.strays = self.strays.saturating_add(1);
        }
        taken
    }

    /// Notes that a reply of this session, by [`Self::handle_datagram`], came from an address
    /// other than the reflector's.
    pub fn handle_translated(&mut self, address: IpAddr, at: Mono) {
        // Without keys a reply proves nothing: its times may have been guessed.
        if self.config.keys.is_some() {
            self.translated.came_from(address, at);
        }
    }

    /// Handles an ICMP error for a packet of this flow; returns whose packet it was.
    pub fn handle_icmp(&mut self, flow: FlowIndex, error: &IcmpError<'_>) -> IcmpOwner {
        let quoted = error.quoted_payload;
        let seq = quoted
            .first_chunk()
            .map(|bytes| Seq(u32::from_be_bytes(*bytes)));
        let ssid = quoted_ssid(quoted, self.config.keys.is_some());
        let known = |seq| {
            self.flows
                .get(usize::from(flow.0))
                .is_some_and(|f| f.matcher.knows(seq))
        };
        let own = ssid_of(self.config.ssid, flow);
        if let Some(seq) = seq {
            let traced = match ssid {
                Some(ssid) => ssid.0 == own.0 | TRACE_SSID_BIT,
                None => is_trace_seq(seq) && !known(seq),
            };
            if traced {
                return IcmpOwner::Trace(seq);
            }
        }
        if let (Some(seq), Some(t1)) = (seq, quoted_t1(quoted, self.config.keys.is_some())) {
            let sent = self.flows.get(usize::from(flow.0));
            if sent.and_then(|f| f.matcher.t1(seq)) != Some(t1) {
                self.unfit.count(UnfitIcmp::Probe);
                return IcmpOwner::Nobody;
            }
        }
        let evidence = IcmpEvidence {
            flow,
            seq: seq.filter(|s| known(*s)),
            from: error.from,
            icmp_type: error.icmp_type,
            code: error.code,
            mtu: error.mtu,
        };
        let events = self.evidence.take(error.at, evidence);
        self.outputs
            .extend(events.into_iter().flatten().map(Output::Event));
        IcmpOwner::Probe
    }

    /// Records what is certain at `now`: probes unanswered after Tmax, probes whose transmit
    /// stamp did not come, counts. Hand in everything that arrived before `now` first.
    pub fn handle_timeout(&mut self, now: Mono) {
        for flow in &mut self.flows {
            flow.matcher.expire(now, &mut self.outputs);
        }
        let outputs = &mut self.outputs;
        self.evidence
            .expire(now, |event| outputs.push_back(Output::Event(event)));
        self.unfit.report(now, self.stopped, |event| {
            outputs.push_back(Output::Event(event));
        });
        if self.stopped || now - self.strays_since >= STRAY_INTERVAL {
            self.report_strays(now);
            let events = self.translated.told(now, self.stopped);
            self.outputs.extend(events.map(Output::Event));
        }
    }

    /// Stops sending and ends the session. Keep driving it until [`Self::is_drained`], so
    /// that the last probes get their full timeout.
    pub fn stop(&mut self, now: Mono) {
        if !self.stopped {
            self.stopped = true;
            self.outputs.push_back(Output::Event(Event {
                at: now,
                kind: EventKind::SessionStopped,
            }));
        }
    }

    /// Stops waiting: records the probes still in flight as unanswered. They were sent less than
    /// a timeout before the session's last evidence, so the analysis treats them as pending and
    /// not as lost.
    pub fn give_up(&mut self) {
        for flow in &mut self.flows {
            flow.matcher.give_up(&mut self.outputs);
        }
    }

    /// Whether the session was stopped and every probe's fate is recorded.
    pub fn is_drained(&self) -> bool {
        self.stopped && self.flows.iter().all(|f| f.matcher.is_settled())
    }

    /// The next thing to record or to pass on.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether the reply was to one of our packets.
    fn take_reply(
        &mut self,
        index: FlowIndex,
        packet: &ReflectorPacket,
        received: Stamp,
        ttl: Option<u8>,
    ) -> bool {
        let own = ssid_of(self.config.ssid, index);
        let seq = packet.sender_sequence;
        // Absent or zero: the peer does not know RFC 8972 (its section 3).
        let ssid = packet.ssid.filter(|s| s.0 != 0);
        let forward_ttl = packet.sender_ttl.filter(|ttl| *ttl != 0);
        let Some(flow) = self.flows.get_mut(usize::from(index.0)) else {
            return false;
        };
        let traced = match ssid {
            Some(ssid) => ssid.0 == own.0 | TRACE_SSID_BIT,
            None => is_trace_seq(seq) && !flow.matcher.knows(seq),
        };
        if traced {
            // A counter never gets to a traceroute packet's own number.
            if packet.sequence != seq && !self.reflector_counts {
                self.reflector_counts = true;
                self.outputs.push_back(Output::Event(Event {
                    at: received.at,
                    kind: EventKind::ReflectorCounts,
                }));
            }
            self.outputs.push_back(Output::TraceReply(TraceReply {
                flow: index,
                seq,
                t1: packet.sender_timestamp.raw,
                received,
                forward_ttl,
            }));
            return true;
        }
        if ssid.is_some_and(|ssid| ssid != own) {
            return false;
        }
        // A different T1: a reply to an earlier run's probe of the same number.
        if flow.matcher.t1(seq) != Some(packet.sender_timestamp.raw) {
            return false;
        }
        let reply = Reply {
            received,
            reflector_received: packet.receive_timestamp.to_wall(self.wall),
            reflector_sent: packet.timestamp.to_wall(self.wall),
            reflector_seq: packet.sequence,
            forward_ttl,
            reverse_ttl: ttl,
        };
        if flow.matcher.replied(seq, reply, &mut self.outputs).is_err() {
            return false;
        }
        let copied = packet.sequence == seq;
        if flow.went_back(reply.reflector_seq, reply.reflector_received, copied) {
            self.outputs.push_back(Output::Event(Event {
                at: received.at,
                kind: EventKind::ReflectorRestarted { flow: index },
            }));
        }
        true
    }

    fn report_strays(&mut self, now: Mono) {
        self.strays_since = now;
        if self.strays > 0 {
            self.outputs.push_back(Output::Event(Event {
                at: now,
                kind: EventKind::StrayReplies { count: self.strays },
            }));
            self.strays = 0;
        }
    }
}

impl Flow {
    /// Whether the reflector's counter went back. Replies overtake each other, so
    /// they are put in order by the reflector's own receive time: what it received
    /// later must carry a higher number, unless it began to count anew.
    ///
    /// A stateless reflector copies our number: probes that overtook each other on the way
    /// out then look like going back, which means nothing.
    fn went_back(&mut self, seq: Seq, received: Wall, copied: bool) -> bool {
        if self.newest.is_some_and(|(_, at)| received <= at) {
            return false;
        }
        let behind = self
            .newest
            .map_or(0, |(newest, _)| newest.0.wrapping_sub(seq.0));
        self.newest = Some((seq, received));
        !copied && behind != 0 && behind < 1 << 31
    }
}

/// How a session's requests are protected.
pub(crate) fn request_mode(keys: Option<&SessionKeys>) -> Mode<'_> {
    keys.map_or(Mode::Open, |k| Mode::Authenticated(k.keys().request))
}

/// Returns a packet of no session, to test whether a reflector answers. The reflector counts
/// it apart from probes, as it does traceroute packets.
pub fn trace_request(
    wall: Wall,
    error_estimate: ErrorEstimate,
    keys: Option<&SessionKeys>,
) -> Vec<u8> {
    let mode = request_mode(keys);
    let mut packet = vec![0; mode.base_len()];
    let request = SenderPacket {
        sequence: Seq(0),
        timestamp: Timestamp::from_wall(wall, error_estimate.format()),
        error_estimate,
        ssid: Ssid(1 | TRACE_SSID_BIT),
    };
    match request.write(mode, &mut packet) {
        Ok(_) => packet,
        // It fits: it is as long as the mode says.
        Err(_) => Vec::new(),
    }
}

/// The SSID in what an ICMP error quotes, which may end anywhere in the packet.
pub(crate) fn quoted_ssid(quoted: &[u8], authenticated: bool) -> Option<Ssid> {
    // RFC 8972 section 3: after the Error Estimate.
    let at = if authenticated { 26 } else { 14 };
    let bytes = quoted.get(at..)?.first_chunk()?;
    Some(Ssid(u16::from_be_bytes(*bytes)))
}

/// T1 in what an ICMP error quotes, which may end anywhere in the packet.
fn quoted_t1(quoted: &[u8], authenticated: bool) -> Option<u64> {
    // RFC 8762 sections 4.2.1 and 4.2.2.
    let at = if authenticated { 16 } else { 4 };
    let bytes = quoted.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}

/// The SSID of a flow's probes.
pub(crate) fn ssid_of(first: Ssid, flow: FlowIndex) -> Ssid {
    Ssid(first.0.wrapping_add(u16::from(flow.0)))
}

#[cfg(test)]
mod tests;
