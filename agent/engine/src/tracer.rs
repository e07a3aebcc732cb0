//! Continuous traceroute of every flow of a session, in the flow's own 5-tuple
//! so that routers hash it as they hash the probes (RFC 9198's member route).
//!
//! All TTLs are in flight at once: a snapshot takes about one round trip. TTLs that stay
//! silent although they answered lately are asked again, up to the configured attempts,
//! because routers limit the rate of their ICMP errors; the record calls a hop silent only if
//! every attempt was. A TTL that shows signs of such a limit is asked less often, down to
//! once a second over all flows; where a snapshot leaves it out, its hop says that no packet
//! was sent. TTLs reach one beyond the target's distance, and further as soon as it stops
//! answering there.
//!
//! An answer is taken if every field that it quotes matches a packet that was sent, and if it
//! came after that packet and within the wait. Others are counted (see [`crate::packet`] for
//! the unguessable fields).
//!
//! The packets are STAMP requests whose SSID has [`TRACE_SSID_BIT`], so that a stateful
//! reflector counts them apart. Its reply shows that the target is reached.
//!
//! A shell sends what [`Tracer::poll_transmit`] gives either through a raw socket
//! (the packet that [`Tracer::write_raw`] makes) or, without privilege, through the
//! flow's own UDP socket with the TTL or hop limit in a control message.

mod pace;
mod packet;
mod snapshot;

pub(crate) use packet::is_trace_seq;

use crate::packet::{Header, Identity, Marks, Quoted};
use crate::path_mtu::is_size_probe;
use crate::schedule::Grid;
use crate::secret::Secret;
use crate::sender::{TraceReply, quoted_ssid, request_mode, ssid_of};
use crate::unfit::UnfitCounts;
use core::net::{IpAddr, SocketAddr};
use hopgap_proto::plan::{SessionPlan, TRACE_SSID_BIT};
use hopgap_proto::record::{Event, FlowIndex, HopReply, HopReplyKind, Trace, UnfitIcmp};
use hopgap_proto::stamp::{ErrorEstimate, SenderPacket, Seq, SessionKeys, Ssid, Timestamp};
use hopgap_proto::time::{Mono, Span, Wall};
use pace::Pace;
use packet::{GREATEST_TTL, MOST_ATTEMPTS};
use snapshot::{Answer, FlowTracer, Limits, Shared};
use std::collections::VecDeque;

/// What a [`Tracer`] needs to know.
#[derive(Clone, Debug)]
pub struct TracerConfig {
    /// When flow 0 is traced first.
    pub origin: Mono,
    /// Time between two snapshots of one flow; the flows take turns evenly within it.
    pub interval: Span,
    /// Number of flows, at least one.
    pub flows: u8,
    /// Address and port of flow 0; flow `i` uses the port `i` above it. It must be the
    /// address that packets really leave from: it is part of their checksum.
    pub source: SocketAddr,
    /// The session's reflector.
    pub target: SocketAddr,
    /// SSID of flow 0's probes.
    pub ssid: Ssid,
    /// The session's key, where it is authenticated.
    pub keys: Option<SessionKeys>,
    /// Error estimate of this host's wall clock, as the kernel gives it.
    pub error_estimate: ErrorEstimate,
    /// Differentiated Services Code Point, as the probes have it.
    pub dscp: u8,
    /// The greatest TTL, 1 to 63; 30 by default.
    pub max_ttl: u8,
    /// Most packets to a silent TTL in one snapshot, 1 to 4; 3 by default.
    pub attempts: u8,
    /// The longest wait for the answers to one attempt; shorter once the path's round trip is
    /// known.
    pub wait: Span,
    /// Makes the packets' identifiers unguessable.
    pub secret: Secret,
}

impl TracerConfig {
    /// The configuration that a session's plan asks for; `None` where it wants no traces.
    pub fn from_plan(
        plan: &SessionPlan,
        origin: Mono,
        source: SocketAddr,
        target: SocketAddr,
        keys: Option<SessionKeys>,
        error_estimate: ErrorEstimate,
        secret: Secret,
    ) -> Option<Self> {
        (plan.trace_interval > Span::ZERO).then(|| Self {
            origin,
            interval: plan.trace_interval,
            flows: plan.flows,
            source,
            target,
            ssid: plan.ssid.unwrap_or(Ssid(1)),
            keys,
            error_estimate,
            dscp: plan.dscp,
            max_ttl: 30,
            attempts: 3,
            wait: Span::from_secs(1),
            secret,
        })
    }
}

/// A traceroute packet to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceTransmit {
    /// In this flow's 5-tuple.
    pub flow: FlowIndex,
    /// With this TTL or hop limit.
    pub ttl: u8,
    /// Its sequence number, by which the shell reports its send.
    pub seq: Seq,
    /// IPv4 Identification in the packet for a raw socket.
    pub ip_id: u16,
}

/// An ICMP error for a packet in a flow's 5-tuple.
#[derive(Clone, Copy, Debug)]
pub struct TraceError<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// ICMP (or ICMPv6) type.
    pub icmp_type: u8,
    /// ICMP (or ICMPv6) code.
    pub code: u8,
    /// When it arrived.
    pub at: Mono,
    /// What it quotes.
    pub quoted: Quoted<'a>,
}

/// What became of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpOutcome {
    /// It answers a traceroute packet of this flow.
    Answer(FlowIndex),
    /// It claims to answer a traceroute packet, but matches none; it is counted.
    Unfit,
    /// It is about something else: a probe, another session.
    Other,
}

/// Traces the flows of one session.
#[derive(Debug)]
pub struct Tracer {
    config: TracerConfig,
    grid: Grid,
    flows: Vec<FlowTracer>,
    shared: Shared,
    unfit: UnfitCounts,
    events: VecDeque<Event>,
    scratch: Vec<u8>,
    stopped: bool,
}

impl Tracer {
    /// A tracer whose first snapshot is due at the configured origin.
    pub fn new(mut config: TracerConfig) -> Self {
        config.max_ttl = config.max_ttl.clamp(1, GREATEST_TTL);
        config.attempts = config.attempts.clamp(1, MOST_ATTEMPTS);
        let limits = Limits {
            max_ttl: config.max_ttl,
            attempts: config.attempts,
            wait: config.wait,
        };
        Self {
            grid: Grid::new(config.origin, config.interval, config.flows),
            flows: (0..config.flows.max(1))
                .map(|i| FlowTracer::new(FlowIndex(i), config.target.ip(), limits, &config.secret))
                .collect(),
            shared: Shared {
                pace: Pace::new(
                    config.max_ttl,
                    config.interval / i64::from(config.flows.max(1)),
                ),
                traces: VecDeque::new(),
            },
            unfit: UnfitCounts::new(),
            events: VecDeque::new(),
            scratch: Vec::new(),
            stopped: false,
            config,
        }
    }

    /// Sets the wall clock's error estimate, which is written into packets from now on.
    pub fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.config.error_estimate = error_estimate;
    }

    /// Takes the target's distance in hops from a probe's TTL: one more than the number of
    /// routers that it passed. Later snapshots reach that far. A distance of 1 is ignored:
    /// peers that do not know the TTL say 255 too.
    pub fn hint_distance(&mut self, flow: FlowIndex, hops: u8) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.hint_distance(hops);
        }
    }

    /// When the shell must be awake next; `None` when all is done.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let due = (!self.stopped).then(|| self.grid.next_due());
        let flows = self.flows.iter().filter_map(FlowTracer::deadline);
        flows.chain(due).min()
    }

    /// The next packet to be sent at `now`, its UDP payload written to `payload`
    /// (cleared first); `None` when there is none. `wall` is the wall clock at `now`.
    pub fn poll_transmit(
        &mut self,
        now: Mono,
        wall: Wall,
        payload: &mut Vec<u8>,
    ) -> Option<TraceTransmit> {
        if !self.stopped {
            // A flow whose last snapshot is still under way lets its turn pass.
            while let Some(slot) = self.grid.take_due(now, |_| ()) {
                if let Some(flow) = self.flows.get_mut(usize::from(slot.flow.0)) {
                    flow.start(now);
                }
            }
        }
        let (index, id) = self.next_packet(now)?;
        let marks = id.marks(&self.config.secret, index);
        let transmit = TraceTransmit {
            flow: index,
            ttl: id.ttl,
            seq: id.seq(),
            ip_id: marks.ip_id,
        };
        self.write_payload(&transmit, marks, wall, payload)?;
        let header = self.header(&transmit);
        let identity = Identity::of(
            &header,
            payload,
            self.config.keys.is_some(),
            &mut self.scratch,
        );
        self.flows
            .get_mut(usize::from(index.0))?
            .packet_taken(id, now, identity);
        Some(transmit)
    }

    /// Writes the packet for a raw socket to `packet` (cleared first). IPv4: IP
    /// header, UDP header and payload, for `IP_HDRINCL`. IPv6: UDP header and
    /// payload; the kernel writes the IP header.
    pub fn write_raw(&self, transmit: &TraceTransmit, payload: &[u8], packet: &mut Vec<u8>) {
        crate::packet::write(&self.header(transmit), payload, packet);
    }

    /// Sets when a packet was actually sent, by the best stamp there is.
    pub fn handle_sent(&mut self, flow: FlowIndex, seq: Seq, at: Mono) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.sent(seq, at);
        }
    }

    /// The kernel refused to send a packet: it does not count as sent.
    pub fn handle_refused(&mut self, flow: FlowIndex, seq: Seq) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow.0)) {
            flow.refused(seq);
        }
    }

    /// Handles an ICMP error that quotes a packet with the addresses and ports of this flow.
    pub fn handle_icmp(&mut self, flow: FlowIndex, error: &TraceError<'_>) -> IcmpOutcome {
        let Some(kind) = reply_kind(error) else {
            return IcmpOutcome::Other;
        };
        let quoted = &error.quoted;
        let ssid = quoted_ssid(quoted.payload, self.config.keys.is_some());
        let own = ssid_of(self.config.ssid, flow).0 | TRACE_SSID_BIT;
        let seq = quoted.payload.first_chunk();
        let seq = seq.map(|bytes| Seq(u32::from_be_bytes(*bytes)));
        if ssid.is_some_and(|ssid| ssid.0 != own) || seq.is_some_and(is_size_probe) {
            return IcmpOutcome::Other;
        }
        let Some(tracer) = self.flows.get_mut(usize::from(flow.0)) else {
            return IcmpOutcome::Other;
        };
        let answer = Answer {
            from: error.from,
            at: error.at,
            kind,
        };
        let unfit = match tracer.quoted(quoted) {
            Some(id) => match tracer.answered(id, answer, &mut self.shared) {
                Ok(()) => return IcmpOutcome::Answer(flow),
                Err(unfit) => unfit,
            },
            // Without a quoted SSID it may be a probe's: those leave with TTL 255, which no
            // path uses up.
            None if ssid.is_none() && kind != HopReplyKind::TimeExceeded => {
                return IcmpOutcome::Other;
            }
            None => UnfitIcmp::Trace,
        };
        self.unfit.count(unfit);
        IcmpOutcome::Unfit
    }

    /// Handles an ICMP error as a raw socket gives it, sent by `from`, arrived at `at`.
    pub fn handle_raw_icmp(
        &mut self,
        from: IpAddr,
        error: &hopgap_proto::icmp::IcmpError<'_>,
        at: Mono,
    ) -> IcmpOutcome {
        let quoted = &error.quoted;
        let Some(udp) = quoted.udp else {
            return IcmpOutcome::Other;
        };
        let (source, target) = (self.config.source, self.config.target);
        let from_here = quoted.source == source.ip();
        let to_there = quoted.destination == target.ip() && udp.destination_port == target.port();
        let flow = udp.source_port.checked_sub(source.port());
        let (true, true, Some(Ok(flow))) = (from_here, to_there, flow.map(u8::try_from)) else {
            return IcmpOutcome::Other;
        };
        let error = TraceError {
            from,
            icmp_type: error.icmp_type,
            code: error.code,
            at,
            quoted: Quoted {
                ip_id: quoted.ip_id,
                udp_len: Some(udp.len),
                udp_checksum: Some(udp.checksum),
                payload: quoted.payload,
            },
        };
        self.handle_icmp(FlowIndex(flow), &error)
    }

    /// Handles the target's reply to a packet, as the session's
    /// [`Sender`](crate::sender::Sender) found it. Returns whether it matches a packet.
    pub fn handle_reply(&mut self, reply: &TraceReply) -> bool {
        let Some(flow) = self.flows.get_mut(usize::from(reply.flow.0)) else {
            return false;
        };
        let answer = Answer {
            from: self.config.target.ip(),
            at: reply.received.at,
            kind: HopReplyKind::Reflected,
        };
        let taken = flow
            .find(reply.seq, reply.t1)
            .ok_or(UnfitIcmp::Trace)
            .and_then(|id| flow.answered(id, answer, &mut self.shared));
        if let Err(unfit) = taken {
            self.unfit.count(unfit);
        }
        taken.is_ok()
    }

    /// Counts ICMP errors about the session that were not read, because too many came at once.
    pub fn handle_unread(&mut self, count: u32) {
        self.unfit.count_all(UnfitIcmp::Unread, count);
    }

    /// Ends waits that are over at `now`. Hand in everything that arrived before `now` first.
    pub fn handle_timeout(&mut self, now: Mono) {
        for flow in &mut self.flows {
            flow.expire(now, &mut self.shared);
        }
        let events = &mut self.events;
        self.unfit
            .report(now, self.stopped, |event| events.push_back(event));
    }

    /// Begins no new snapshots; those under way are finished.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The next snapshot to record.
    pub fn poll_trace(&mut self) -> Option<Trace> {
        self.shared.traces.pop_front()
    }

    /// The next event to record.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn next_packet(&mut self, now: Mono) -> Option<(FlowIndex, packet::PacketId)> {
        for (flow, i) in self.flows.iter_mut().zip(0..) {
            while let Some(id) = flow.next_packet() {
                if self.shared.pace.admits(id.ttl, now) || flow.is_needed(id) {
                    return Some((FlowIndex(i), id));
                }
                flow.packet_left_out();
            }
        }
        None
    }

    fn header(&self, transmit: &TraceTransmit) -> Header {
        let mut source = self.config.source;
        source.set_port(source.port().wrapping_add(u16::from(transmit.flow.0)));
        Header {
            source,
            target: self.config.target,
            ttl: transmit.ttl,
            dscp: self.config.dscp,
            ip_id: transmit.ip_id,
            dont_fragment: false,
        }
    }

    fn write_payload(
        &self,
        transmit: &TraceTransmit,
        marks: Marks,
        wall: Wall,
        payload: &mut Vec<u8>,
    ) -> Option<()> {
        let mode = request_mode(self.config.keys.as_ref());
        let error_estimate = self.config.error_estimate;
        payload.clear();
        payload.resize(mode.base_len(), 0);
        let request = SenderPacket {
            sequence: transmit.seq,
            timestamp: marks.blur(Timestamp::from_wall(wall, error_estimate.format())),
            error_estimate,
            ssid: Ssid(ssid_of(self.config.ssid, transmit.flow).0 | TRACE_SSID_BIT),
        };
        request.write(mode, payload).ok().map(drop)
    }
}

/// Returns what an ICMP error says about its packet; `None` where the packet's way does not
/// end there.
fn reply_kind(error: &TraceError<'_>) -> Option<HopReplyKind> {
    // RFC 792 and RFC 4443.
    match (error.from, error.icmp_type, error.code) {
        (IpAddr::V4(_), 11, 0) | (IpAddr::V6(_), 3, 0) => Some(HopReplyKind::TimeExceeded),
        // 'Fragmentation needed' is about a size.
        (IpAddr::V4(_), 3, 4) => None,
        (IpAddr::V4(_), 3, code) | (IpAddr::V6(_), 1, code) => {
            Some(HopReplyKind::Unreachable(code))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
