//! The shell of a session's tracer.
//!
//! With the right to raw sockets, packets go out and ICMP errors come in through
//! sockets of their own, whole. Without it, packets go through the probes' own
//! sockets and errors come by those sockets' error queues: all that is lost is
//! what routers quote of the IP header.

use super::{Flow, Stamps};
use hopgap_engine::sender::TraceReply;
use hopgap_engine::tracer::{Quoted, TraceError, TraceTransmit, Tracer, TracerConfig};
use hopgap_net::NetError;
use hopgap_net::clock::{Clock, ClockTracker};
use hopgap_net::probe::{IcmpMessage, Outgoing, TxStamps};
use hopgap_net::raw::{Family, IcmpSocket, RawPacket, RawSender};
use hopgap_proto::icmp::{self, IcmpError, Version};
use hopgap_proto::record::{Event, FlowIndex, Trace};
use hopgap_proto::stamp::ErrorEstimate;
use hopgap_proto::time::Mono;
use std::net::{IpAddr, SocketAddr};
use tracing::{info, warn};

pub(super) struct TraceShell {
    tracer: Tracer,
    raw: Option<Raw>,
    source: SocketAddr,
    destination: SocketAddr,
    flows: u8,
    tos: u8,
    payload: Vec<u8>,
    packet: Vec<u8>,
}

struct Raw {
    sender: RawSender,
    errors: IcmpSocket,
}

impl Raw {
    fn open(family: Family) -> Result<Self, NetError> {
        Ok(Self {
            sender: RawSender::open(family, TxStamps::Off)?,
            errors: IcmpSocket::open(family)?,
        })
    }
}

impl TraceShell {
    pub(super) fn new(config: TracerConfig) -> Self {
        let (source, destination) = (config.source, config.target);
        // Raw packets say no interface, which a link-local address needs.
        let zoned = matches!(destination, SocketAddr::V6(v6) if v6.scope_id() != 0);
        let raw = match Raw::open(Family::from(destination.ip())) {
            Ok(_) if zoned => None,
            Ok(raw) => Some(raw),
            Err(error) => {
                info!("tracing through the probes' own sockets: {error}");
                None
            }
        };
        Self {
            raw,
            source,
            destination,
            flows: config.flows,
            tos: config.dscp << 2,
            tracer: Tracer::new(config),
            payload: Vec::new(),
            packet: Vec::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.tracer.poll_timeout()
    }

    pub(super) fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.tracer.set_error_estimate(error_estimate);
    }

    pub(super) fn stop(&mut self) {
        self.tracer.stop();
    }

    /// The probes' forward TTL shows how far the target is.
    pub(super) fn hint(&mut self, flow: FlowIndex, forward_ttl: u8) {
        self.tracer
            .hint_distance(flow, (255 - forward_ttl).saturating_add(1));
    }

    pub(super) fn reply(&mut self, reply: &TraceReply) {
        self.tracer.handle_reply(reply);
    }

    pub(super) fn drain(&mut self, traces: &mut Vec<Trace>) {
        while let Some(trace) = self.tracer.poll_trace() {
            traces.push(trace);
        }
    }

    /// Reads what came, then sends what is due.
    pub(super) fn turn(
        &mut self,
        now: Mono,
        clock: &mut ClockTracker,
        events: &mut Vec<Event>,
        flows: &mut [Flow],
    ) {
        self.read_errors(clock, events);
        self.tracer.handle_timeout(now);
        loop {
            let pair = Clock::pair();
            let Some(transmit) = self
                .tracer
                .poll_transmit(pair.mono, pair.wall, &mut self.payload)
            else {
                return;
            };
            let at = Clock::now();
            if self.send(&transmit, flows) {
                self.tracer.handle_sent(transmit.flow, transmit.seq, at);
            } else {
                self.tracer.handle_refused(transmit.flow, transmit.seq);
            }
        }
    }

    /// Whether the kernel took the packet.
    fn send(&mut self, transmit: &TraceTransmit, flows: &mut [Flow]) -> bool {
        // Another program would get the answers of a flow that has no socket.
        let flow = flows.get_mut(usize::from(transmit.flow.0));
        let Some(socket) = flow.and_then(|f| f.socket.as_mut()) else {
            return false;
        };
        let Some(raw) = &mut self.raw else {
            let packet = Outgoing {
                ttl: Some(transmit.ttl),
                ..Outgoing::new(&self.payload, self.destination)
            };
            return socket.send(&packet).is_ok();
        };
        self.tracer
            .write_raw(transmit, &self.payload, &mut self.packet);
        let packet = RawPacket {
            bytes: &self.packet,
            from: self.source.ip(),
            to: self.destination.ip(),
            ttl: transmit.ttl,
            tos: self.tos,
        };
        raw.sender.send(&packet).is_ok()
    }

    fn read_errors(&mut self, clock: &mut ClockTracker, events: &mut Vec<Event>) {
        let Self {
            raw,
            tracer,
            source,
            destination,
            flows,
            ..
        } = self;
        let Some(raw) = raw else { return };
        let version = Version::of(destination.ip());
        let mut stamps = Stamps::new(clock, events);
        let read = raw.errors.recv_batch(|received| {
            let message = match version {
                Version::V4 => icmp::ipv4_payload(received.packet).map(|(_, payload)| payload),
                Version::V6 => Some(received.packet),
            };
            let Some(Ok(error)) = message.map(|m| IcmpError::parse(version, m)) else {
                return;
            };
            let (quoted, Some(udp)) = (error.quoted, error.quoted.udp) else {
                return;
            };
            let ours = quoted.source == source.ip()
                && quoted.destination == destination.ip()
                && udp.destination_port == destination.port();
            let flow = udp.source_port.checked_sub(source.port()).map(u8::try_from);
            let (true, Some(Ok(flow))) = (ours, flow) else {
                return;
            };
            if flow >= *flows {
                return;
            }
            let at = stamps.of(received.stamp);
            tracer.handle_icmp(
                FlowIndex(flow),
                &TraceError {
                    from: received.from,
                    icmp_type: error.icmp_type,
                    code: error.code,
                    at: at.at,
                    quoted: Quoted {
                        ip_id: quoted.ip_id,
                        udp_checksum: Some(udp.checksum),
                        payload: quoted.payload,
                    },
                },
            );
        });
        if let Err(error) = read {
            warn!("cannot read ICMP errors: {error}");
        }
    }

    /// An error for a traceroute packet, from a probe socket's error queue. With raw
    /// sockets the same error came there, with more of the quote.
    pub(super) fn icmp_from_probe_socket(
        &mut self,
        flow: FlowIndex,
        icmp: &IcmpMessage<'_>,
        from: IpAddr,
        at: Mono,
    ) {
        if self.raw.is_some() {
            return;
        }
        self.tracer.handle_icmp(
            flow,
            &TraceError {
                from,
                icmp_type: icmp.icmp_type,
                code: icmp.code,
                at,
                quoted: Quoted {
                    payload: icmp.payload,
                    ..Quoted::default()
                },
            },
        );
    }
}
