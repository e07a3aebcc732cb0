//! The shell of a session's search for the path MTU. Its packets forbid fragmentation, and
//! go through raw sockets where the agent has them, else through the probes' own sockets.
//! Neither kind of socket remembers an MTU.

use super::Flow;
use crate::icmp::RawFamily;
use hopgap_engine::packet::Quoted;
use hopgap_engine::path_mtu::{PathMtuConfig, PathMtuProber, SizeProbe, TooBig, is_size_probe};
use hopgap_engine::secret::Secret;
use hopgap_engine::sender::TraceReply;
use hopgap_net::clock::Clock;
use hopgap_net::probe::{IcmpMessage, ProbeSocket};
use hopgap_net::raw::RawPacket;
use hopgap_proto::icmp::IcmpError;
use hopgap_proto::plan::SessionPlan;
use hopgap_proto::record::{Event, FlowIndex};
use hopgap_proto::stamp::{ErrorEstimate, SessionKeys, Ssid};
use hopgap_proto::time::{Mono, Span};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tracing::warn;

/// How long to wait for the replies to one attempt.
const WAIT: Span = Span::from_secs(1);
/// TTL or hop limit, the same as for probes.
const TTL: u8 = 255;

pub(super) struct PathMtuShell {
    prober: PathMtuProber,
    raw: Option<Arc<RawFamily>>,
    source: SocketAddr,
    destination: SocketAddr,
    tos: u8,
    payload: Vec<u8>,
    packet: Vec<u8>,
}

impl PathMtuShell {
    /// Makes the shell; `None` where the plan wants no search.
    pub(super) fn from_plan(
        plan: &SessionPlan,
        origin: Mono,
        [source, destination]: [SocketAddr; 2],
        keys: Option<SessionKeys>,
        error_estimate: ErrorEstimate,
        secret: Secret,
        raw: Option<Arc<RawFamily>>,
    ) -> Option<Self> {
        let interval = plan.path_mtu_interval()?;
        let config = PathMtuConfig {
            // Begins after the first probes and traceroutes.
            origin: origin + Span::from_secs(1),
            interval,
            flows: plan.flows,
            source,
            target: destination,
            dscp: plan.dscp,
            ssid: plan.ssid.unwrap_or(Ssid(1)),
            keys,
            error_estimate,
            wait: WAIT,
            secret,
        };
        Some(Self {
            prober: PathMtuProber::new(config),
            raw,
            source,
            destination,
            tos: plan.dscp << 2,
            payload: Vec::new(),
            packet: Vec::new(),
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

    /// Takes a reply; returns whether it was to one of the search's packets.
    pub(super) fn reply(&mut self, reply: &TraceReply) -> bool {
        let own = is_size_probe(reply.seq);
        if own {
            self.prober.handle_reply(reply, reply.received.at);
        }
        own
    }

    /// Takes an error from the raw sockets; returns whether it concerns the search.
    pub(super) fn icmp(&mut self, from: IpAddr, error: &IcmpError<'_>, at: Mono) -> bool {
        self.prober.handle_raw_icmp(from, error, at)
    }

    /// Takes an error from a probe socket's error queue; returns whether it is about a size.
    pub(super) fn icmp_from_probe_socket(
        &mut self,
        flow: FlowIndex,
        icmp: &IcmpMessage<'_>,
        from: IpAddr,
        at: Mono,
    ) -> bool {
        // RFC 792 'fragmentation needed', RFC 4443 'packet too big'.
        let too_big = match from {
            IpAddr::V4(_) => (icmp.icmp_type, icmp.code) == (3, 4),
            IpAddr::V6(_) => icmp.icmp_type == 2,
        };
        if too_big {
            let error = TooBig {
                from,
                mtu: icmp.mtu,
                quoted: Quoted {
                    payload: icmp.payload,
                    ..Quoted::default()
                },
            };
            self.prober.handle_too_big(flow, &error, at);
        }
        too_big
    }

    /// Sends what is due and hands over the findings.
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
            if let Err(refused) = self.send(&probe, flows) {
                self.prober
                    .handle_refused(&probe, refused.too_long, pair.mono);
            }
        }
        while let Some(event) = self.prober.poll_event() {
            events.push(event);
        }
    }

    fn send(&mut self, probe: &SizeProbe, flows: &mut [Flow]) -> Result<(), Refused> {
        let flow = flows.get_mut(usize::from(probe.flow.0));
        // Without the flow's socket, another program could get the answers.
        let Some(socket) = flow.and_then(|f| f.socket.as_mut()) else {
            return Err(Refused { too_long: false });
        };
        let sent = if let Some(raw) = &self.raw {
            self.prober
                .write_raw(probe, &self.payload, &mut self.packet);
            raw.send(&RawPacket {
                bytes: &self.packet,
                from: self.source.ip(),
                to: self.destination.ip(),
                ttl: TTL,
                tos: self.tos,
            })
        } else {
            whole(socket, true);
            let sent = socket.send_to(&self.payload, self.destination);
            whole(socket, false);
            sent.map(drop)
        };
        sent.map_err(|refusal| Refused {
            too_long: refusal.symbol() == Some("EMSGSIZE"),
        })
    }
}

/// A packet that was not sent.
struct Refused {
    /// Whether it is larger than this host's own interface sends.
    too_long: bool,
}

fn whole(socket: &ProbeSocket, forbid: bool) {
    if let Err(error) = socket.forbid_fragments(forbid) {
        warn!("packets of a size may be fragmented, or probes not: {error}");
    }
}
