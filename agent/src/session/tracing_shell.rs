//! The shell of a session's traceroute: raw sockets where the agent has them, else the
//! flows' own sockets.

use super::Flow;
use crate::icmp::RawFamily;
use hopgap_engine::packet::Quoted;
use hopgap_engine::sender::TraceReply;
use hopgap_engine::tracer::{IcmpOutcome, TraceError, TraceTransmit, Tracer, TracerConfig};
use hopgap_net::clock::Clock;
use hopgap_net::probe::{IcmpMessage, Outgoing};
use hopgap_net::raw::RawPacket;
use hopgap_proto::hops::{self, Distance, Reflector};
use hopgap_proto::icmp::IcmpError;
use hopgap_proto::record::{Event, FlowIndex, Trace};
use hopgap_proto::stamp::ErrorEstimate;
use hopgap_proto::time::Mono;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub(super) struct TraceShell {
    tracer: Tracer,
    raw: Option<Arc<RawFamily>>,
    source: SocketAddr,
    destination: SocketAddr,
    tos: u8,
    payload: Vec<u8>,
    packet: Vec<u8>,
}

impl TraceShell {
    pub(super) fn new(config: TracerConfig, raw: Option<Arc<RawFamily>>) -> Self {
        Self {
            raw,
            source: config.source,
            destination: config.target,
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

    /// Passes on how far the target is, as a probe's forward TTL shows.
    pub(super) fn hint(&mut self, flow: FlowIndex, forward_ttl: u8) {
        // The kind of reflector matters only where no router is in between.
        let distance = hops::forward(forward_ttl, Reflector::Foreign);
        if let Some(hop) = distance.and_then(Distance::hop) {
            self.tracer.hint_distance(flow, hop);
        }
    }

    pub(super) fn reply(&mut self, reply: &TraceReply) {
        self.tracer.handle_reply(reply);
    }

    pub(super) fn drain(&mut self, traces: &mut Vec<Trace>, events: &mut Vec<Event>) {
        while let Some(trace) = self.tracer.poll_trace() {
            traces.push(trace);
        }
        while let Some(event) = self.tracer.poll_event() {
            events.push(event);
        }
    }

    /// Ends traceroutes that are over at `now`, then sends what is due. Everything that arrived
    /// before must have been passed in.
    pub(super) fn turn(&mut self, now: Mono, flows: &mut [Flow]) {
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

    /// Sends a packet; returns whether the kernel took it.
    fn send(&mut self, transmit: &TraceTransmit, flows: &mut [Flow]) -> bool {
        // Without the flow's socket, another program could get the answers.
        let flow = flows.get_mut(usize::from(transmit.flow.0));
        let Some(socket) = flow.and_then(|f| f.socket.as_mut()) else {
            return false;
        };
        let Some(raw) = &self.raw else {
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
        raw.send(&packet).is_ok()
    }

    /// Takes an error from the raw sockets.
    pub(super) fn icmp(&mut self, from: IpAddr, error: &IcmpError<'_>, at: Mono) -> IcmpOutcome {
        self.tracer.handle_raw_icmp(from, error, at)
    }

    /// Notes that `count` errors were not read because too many came at once.
    pub(super) fn unread(&mut self, count: u32) {
        self.tracer.handle_unread(count);
    }

    /// Takes an error for a traceroute packet from a probe socket's error queue.
    pub(super) fn icmp_from_probe_socket(
        &mut self,
        flow: FlowIndex,
        icmp: &IcmpMessage<'_>,
        from: IpAddr,
        at: Mono,
    ) {
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
