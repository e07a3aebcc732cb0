//! Continuous traceroute of every flow of a session, in the flow's own 5-tuple
//! so that routers hash it as they hash the probes (RFC 9198's member route).
//!
//! All TTLs are in flight at once: a snapshot takes about one round trip. TTLs
//! that stay silent although they answered lately are asked again, up to the
//! configured attempts, because routers limit the rate of their ICMP errors; a
//! hop is silent in the record only where every attempt was. A TTL that shows signs
//! of such a limit is asked less often, down to once a second over all flows; where
//! a snapshot leaves it out, its hop says that no packet was sent. TTLs reach one
//! beyond the target's distance, and further as soon as it stops answering there.
//!
//! The packets are STAMP requests whose SSID has
//! [`TRACE_SSID_BIT`], so that a stateful
//! reflector counts them apart and its reply says that the target is reached.
//!
//! A shell sends what [`Tracer::poll_transmit`] gives either through a raw socket
//! (the packet that [`Tracer::write_raw`] makes) or, without privilege, through the
//! flow's own UDP socket with the TTL or hop limit in a control message.

mod pace;
mod packet;
mod snapshot;

pub(crate) use packet::is_trace_seq;

use crate::schedule::Grid;
use crate::sender::{TraceReply, request_mode, ssid_of};
use core::net::{IpAddr, SocketAddr};
use hopgap_proto::plan::{SessionPlan, TRACE_SSID_BIT};
use hopgap_proto::record::{FlowIndex, HopReply, HopReplyKind, Trace};
use hopgap_proto::stamp::{ErrorEstimate, SenderPacket, Seq, SessionKeys, Ssid, Timestamp};
use hopgap_proto::time::{Mono, Span, Wall};
use pace::Pace;
use packet::{GREATEST_TTL, Header, MOST_ATTEMPTS};
use snapshot::{FlowTracer, Limits, Shared};
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
    /// Address and port of flow 0; flow `i` uses the port `i` above it. The address
    /// that packets truly leave from: it is part of their checksum.
    pub source: SocketAddr,
    /// The session's reflector.
    pub target: SocketAddr,
    /// SSID of flow 0's probes.
    pub ssid: Ssid,
    /// The session's key, where it is authenticated.
    pub keys: Option<SessionKeys>,
    /// What the kernel says of this host's wall clock.
    pub error_estimate: ErrorEstimate,
    /// Differentiated Services Code Point, as the probes have it.
    pub dscp: u8,
    /// The greatest TTL, 1 to 63; 30 by default.
    pub max_ttl: u8,
    /// How often a silent TTL is asked in one snapshot, 1 to 4; 3 by default.
    pub attempts: u8,
    /// The longest wait for the answers to one asking; shorter once the path's
    /// round trip is known.
    pub wait: Span,
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

/// What an ICMP error quotes of the packet that provoked it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quoted<'a> {
    /// IPv4 Identification, where it was sent through a raw socket and is quoted.
    pub ip_id: Option<u16>,
    /// UDP checksum, where the UDP header is quoted whole.
    pub udp_checksum: Option<u16>,
    /// The UDP payload, as much of it as there is.
    pub payload: &'a [u8],
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

/// Traces the flows of one session.
#[derive(Debug)]
pub struct Tracer {
    config: TracerConfig,
    grid: Grid,
    flows: Vec<FlowTracer>,
    shared: Shared,
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
                .map(|i| FlowTracer::new(FlowIndex(i), config.target.ip(), limits))
                .collect(),
            shared: Shared {
                pace: Pace::new(
                    config.max_ttl,
                    config.interval / i64::from(config.flows.max(1)),
                ),
                traces: VecDeque::new(),
            },
            scratch: Vec::new(),
            stopped: false,
            config,
        }
    }

    /// What the kernel now says of the wall clock; written into packets from now on.
    pub fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.config.error_estimate = error_estimate;
    }

    /// The target's distance in hops as a probe's TTL showed it: one more than the
    /// number of routers that it passed. Snapshots that begin later reach for it.
    /// A distance of 1 is no news: peers that do not know the TTL say 255 too.
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
        let transmit = TraceTransmit {
            flow: index,
            ttl: id.ttl,
            seq: id.seq(),
            ip_id: id.ip_id(),
        };
        self.write_payload(&transmit, wall, payload)?;
        let header = self.header(&transmit);
        let checksum = packet::udp_checksum(&header, payload, &mut self.scratch);
        self.flows
            .get_mut(usize::from(index.0))?
            .packet_taken(id, now, checksum);
        Some(transmit)
    }

    /// Writes the packet for a raw socket to `packet` (cleared first). IPv4: IP
    /// header, UDP header and payload, for `IP_HDRINCL`. IPv6: UDP header and
    /// payload; the kernel writes the IP header.
    pub fn write_raw(&self, transmit: &TraceTransmit, payload: &[u8], packet: &mut Vec<u8>) {
        packet::write(&self.header(transmit), payload, packet);
    }

    /// When a packet was actually sent, by the best stamp there is.
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

    /// An ICMP error that quotes a packet of this flow. Returns whether it was to a
    /// traceroute packet that is known.
    pub fn handle_icmp(&mut self, flow: FlowIndex, error: &TraceError<'_>) -> bool {
        let Some(kind) = reply_kind(error) else {
            return false;
        };
        let seq = error
            .quoted
            .payload
            .first_chunk()
            .map(|bytes| Seq(u32::from_be_bytes(*bytes)));
        let Some(flow) = self.flows.get_mut(usize::from(flow.0)) else {
            return false;
        };
        let known = flow.find(seq, error.quoted.ip_id, error.quoted.udp_checksum);
        known.is_some_and(|id| {
            flow.answered(id, error.from, error.at, kind, &mut self.shared);
            true
        })
    }

    /// An ICMP error as a raw socket gives it, sent by `from`, arrived at `at`.
    /// Returns the flow whose traceroute packet provoked it; `None` where it was
    /// something else: a probe, another session, an unknown packet.
    pub fn handle_raw_icmp(
        &mut self,
        from: IpAddr,
        error: &hopgap_proto::icmp::IcmpError<'_>,
        at: Mono,
    ) -> Option<FlowIndex> {
        let quoted = &error.quoted;
        let udp = quoted.udp?;
        let target = self.config.target;
        if quoted.destination != target.ip() || udp.destination_port != target.port() {
            return None;
        }
        let flow = udp.source_port.checked_sub(self.config.source.port())?;
        let flow = FlowIndex(u8::try_from(flow).ok()?);
        let error = TraceError {
            from,
            icmp_type: error.icmp_type,
            code: error.code,
            at,
            quoted: Quoted {
                ip_id: quoted.ip_id,
                udp_checksum: Some(udp.checksum),
                payload: quoted.payload,
            },
        };
        self.handle_icmp(flow, &error).then_some(flow)
    }

    /// The target's reply to a packet, as the session's
    /// [`Sender`](crate::sender::Sender) found it. Returns whether the packet is known.
    pub fn handle_reply(&mut self, reply: &TraceReply) -> bool {
        let target = self.config.target.ip();
        let Some(flow) = self.flows.get_mut(usize::from(reply.flow.0)) else {
            return false;
        };
        flow.find(Some(reply.seq), None, None).is_some_and(|id| {
            let kind = HopReplyKind::Reflected;
            flow.answered(id, target, reply.received.at, kind, &mut self.shared);
            true
        })
    }

    /// Ends waits that are over at `now`. All that arrived before `now` must have
    /// been handed in.
    pub fn handle_timeout(&mut self, now: Mono) {
        for flow in &mut self.flows {
            flow.expire(now, &mut self.shared);
        }
    }

    /// Begins no new snapshots; those under way are finished.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The next snapshot to record.
    pub fn poll_trace(&mut self) -> Option<Trace> {
        self.shared.traces.pop_front()
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
        }
    }

    fn write_payload(
        &self,
        transmit: &TraceTransmit,
        wall: Wall,
        payload: &mut Vec<u8>,
    ) -> Option<()> {
        let mode = request_mode(self.config.keys.as_ref());
        let error_estimate = self.config.error_estimate;
        payload.clear();
        payload.resize(mode.base_len(), 0);
        let request = SenderPacket {
            sequence: transmit.seq,
            timestamp: Timestamp::from_wall(wall, error_estimate.format()),
            error_estimate,
            ssid: Ssid(ssid_of(self.config.ssid, transmit.flow).0 | TRACE_SSID_BIT),
        };
        request.write(mode, payload).ok().map(drop)
    }
}

/// What an ICMP error says about its packet; `None` where it does not end its way.
fn reply_kind(error: &TraceError<'_>) -> Option<HopReplyKind> {
    // RFC 792 and RFC 4443.
    match (error.from, error.icmp_type, error.code) {
        (IpAddr::V4(_), 11, 0) | (IpAddr::V6(_), 3, 0) => Some(HopReplyKind::TimeExceeded),
        // 'Fragmentation needed' speaks of a size.
        (IpAddr::V4(_), 3, 4) => None,
        (IpAddr::V4(_), 3, code) | (IpAddr::V6(_), 1, code) => {
            Some(HopReplyKind::Unreachable(code))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
