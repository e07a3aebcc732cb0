//! The shell of a session's search for the path MTU: its packets go through the
//! probes' own sockets, which forbid fragmentation and remember no MTU.

use super::Flow;
use hopgap_engine::path_mtu::{PathMtuConfig, PathMtuProber, is_size_probe};
use hopgap_engine::sender::TraceReply;
use hopgap_net::clock::Clock;
use hopgap_net::probe::IcmpMessage;
use hopgap_proto::plan::SessionPlan;
use hopgap_proto::record::{Event, FlowIndex};
use hopgap_proto::stamp::{ErrorEstimate, Seq, SessionKeys, Ssid};
use hopgap_proto::time::{Mono, Span};
use std::net::{IpAddr, SocketAddr};

/// Replies to one attempt are waited for so long.
const WAIT: Span = Span::from_secs(1);
/// UDP header and IPv4 header without options (RFC 768, RFC 791), or IPv6 header (RFC 8200).
const HEADERS: (u16, u16) = (28, 48);

pub(super) struct PathMtuShell {
    prober: PathMtuProber,
    destination: SocketAddr,
    payload: Vec<u8>,
}

impl PathMtuShell {
    /// `None` where the plan wants no search.
    pub(super) fn from_plan(
        plan: &SessionPlan,
        origin: Mono,
        destination: SocketAddr,
        keys: Option<SessionKeys>,
        error_estimate: ErrorEstimate,
    ) -> Option<Self> {
        let interval = plan.path_mtu_interval()?;
        let config = PathMtuConfig {
            // Once the first probes and traceroutes are through.
            origin: origin + Span::from_secs(1),
            interval,
            flows: plan.flows,
            headers: match destination.ip() {
                IpAddr::V4(_) => HEADERS.0,
                IpAddr::V6(_) => HEADERS.1,
            },
            ssid: plan.ssid.unwrap_or(Ssid(1)),
            keys,
            error_estimate,
            wait: WAIT,
        };
        Some(Self {
            prober: PathMtuProber::new(config),
            destination,
            payload: Vec::new(),
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.prober.poll_timeout()
    }

    pub(super) fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.prober.set_error_estimate(error_estimate);
    }

    pub(super) fn stop(&mut self) {
        self.prober.stop();
    }

    /// Whether the reply was to one of its packets.
    pub(super) fn reply(&mut self, reply: &TraceReply) -> bool {
        let own = is_size_probe(reply.seq);
        if own {
            self.prober.handle_reply(reply, reply.received.at);
        }
        own
    }

    /// Whether the error was to one of its packets.
    pub(super) fn icmp(
        &mut self,
        flow: FlowIndex,
        seq: Seq,
        icmp: &IcmpMessage<'_>,
        from: IpAddr,
        at: Mono,
    ) -> bool {
        let own = is_size_probe(seq);
        // RFC 792 'fragmentation needed', RFC 4443 'packet too big'.
        let too_big = match from {
            IpAddr::V4(_) => (icmp.icmp_type, icmp.code) == (3, 4),
            IpAddr::V6(_) => icmp.icmp_type == 2,
        };
        if own && too_big {
            self.prober.handle_too_big(flow, seq, from, icmp.mtu, at);
        }
        own
    }

    /// Sends what is due and hands over what was found.
    pub(super) fn turn(&mut self, now: Mono, flows: &mut [Flow], events: &mut Vec<Event>) {
        self.prober.handle_timeout(now);
        loop {
            let pair = Clock::pair_at_once();
            let Some(probe) = self
                .prober
                .poll_transmit(pair.mono, pair.wall, &mut self.payload)
            else {
                break;
            };
            let Some(flow) = flows.get_mut(usize::from(probe.flow.0)) else {
                break;
            };
            let Some(socket) = &mut flow.socket else {
                self.prober.handle_refused(&probe, false, pair.mono);
                continue;
            };
            if let Err(refusal) = socket.send_to(&self.payload, self.destination) {
                let too_long = refusal.symbol() == Some("EMSGSIZE");
                self.prober.handle_refused(&probe, too_long, pair.mono);
            }
        }
        while let Some(event) = self.prober.poll_event() {
            events.push(event);
        }
    }
}
