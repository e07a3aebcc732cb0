//! Packets of searches for the path MTU: which sizes arrived, and what routers say of the
//! replies. Both show in which direction a size does not pass; the sender knows only that no
//! reply came.

use super::{Datagram, Reflector};
use crate::packet::{Header, Identity, Quoted};
use crate::path_mtu::is_size_probe;
use crate::sender::quoted_ssid;
use crate::unfit::UnfitCounts;
use core::net::IpAddr;
use hopgap_proto::icmp::{IcmpError, IcmpErrorKind};
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::record::{Event, EventKind, FlowIndex, IcmpEvidence, SessionName, UnfitIcmp};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most replies remembered, over all sessions: those of their last searches.
const MOST_REPLIES: usize = 256;
/// Most arrivals recorded in a second: searches need a few, and a flood must not fill the spool.
const MOST_A_SECOND: u32 = 128;
const SECOND: Span = Span::from_secs(1);

/// The size probes of all sessions.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    replies: VecDeque<SizeReply>,
    unfit: BTreeMap<Arc<SessionName>, UnfitCounts>,
    events: VecDeque<(Arc<SessionName>, Event)>,
    /// When the current second began, and how many arrivals it had.
    recorded: Option<(Mono, u32)>,
    scratch: Vec<u8>,
}

/// A reply that was given out.
#[derive(Debug)]
struct SizeReply {
    session: Arc<SessionName>,
    flow: FlowIndex,
    seq: Seq,
    header: Header,
    identity: Identity,
}

impl Reflector {
    /// Records a session's packet, answered by `reply`, if it is a size probe.
    pub(super) fn note_size(&mut self, session: usize, datagram: &Datagram<'_>, reply: &[u8]) {
        let Some(provisioned) = self.sessions.get(session) else {
            return;
        };
        let authenticated = provisioned.session.keys.is_some();
        let Some(seq) = datagram.bytes.first_chunk() else {
            return;
        };
        let seq = Seq(u32::from_be_bytes(*seq));
        let ssid = quoted_ssid(datagram.bytes, authenticated).map_or(0, |ssid| ssid.0);
        if !is_size_probe(seq) || ssid & TRACE_SSID_BIT == 0 {
            return;
        }
        let Some(flow) = provisioned.claimed_flow(datagram.bytes) else {
            return;
        };
        let name = Arc::clone(&provisioned.name);
        let at = datagram.received.at;
        if !self.sizes.admits(at) {
            return;
        }
        let headers = if datagram.from.ip().to_canonical().is_ipv4() {
            28
        } else {
            48
        };
        let bytes = u16::try_from(datagram.bytes.len() + headers).unwrap_or(u16::MAX);
        let kind = EventKind::SizeProbeArrived { flow, seq, bytes };
        self.sizes
            .events
            .push_back((Arc::clone(&name), Event { at, kind }));
        if self.sizes.replies.len() == MOST_REPLIES {
            self.sizes.replies.pop_front();
        }
        // Fields that the kernel chooses are not compared.
        let header = Header {
            source: datagram.to,
            target: datagram.from,
            ttl: 255,
            dscp: 0,
            ip_id: 0,
            dont_fragment: true,
        };
        let identity = Identity::of(&header, reply, authenticated, &mut self.sizes.scratch);
        self.sizes.replies.push_back(SizeReply {
            session: name,
            flow,
            seq,
            header,
            identity,
        });
    }

    /// Handles an ICMP error as a raw socket gives it, sent by `from`, arrived at `at`. A
    /// 'too big' of a reply to a size probe is recorded as evidence; one that matches no
    /// reply is counted.
    pub fn handle_icmp(&mut self, from: IpAddr, error: &IcmpError<'_>, at: Mono) {
        let quoted = &error.quoted;
        let (IcmpErrorKind::PacketTooBig { mtu }, Some(udp)) = (error.kind, quoted.udp) else {
            return;
        };
        if !self.config.ports.contains(&udp.source_port) {
            return;
        }
        // The kernel chose the identification, and may have left the checksum to an interface
        // that never made it (a veth): only the payload identifies the reply.
        let as_sent = Quoted {
            ip_id: None,
            udp_len: Some(udp.len),
            udp_checksum: None,
            payload: quoted.payload,
        };
        let reply = self.sizes.replies.iter().find(|reply| {
            let (source, target) = (reply.header.source, reply.header.target);
            (source.ip(), source.port()) == (quoted.source, udp.source_port)
                && (target.ip(), target.port()) == (quoted.destination, udp.destination_port)
                && as_sent.fits(&reply.identity)
                && (mtu == 0 || u64::from(mtu) < u64::from(udp.len) + 48)
        });
        if let Some(reply) = reply {
            let kind = EventKind::Icmp(IcmpEvidence {
                flow: reply.flow,
                seq: Some(reply.seq),
                from,
                icmp_type: error.icmp_type,
                code: error.code,
                mtu: (mtu != 0).then_some(mtu),
            });
            let name = Arc::clone(&reply.session);
            self.sizes.events.push_back((name, Event { at, kind }));
            return;
        }
        let (ip, port) = (quoted.destination, udp.destination_port);
        let of = self
            .sessions
            .iter()
            .find(|s| s.flow_of(ip, port).is_some())
            .map(|s| Arc::clone(&s.name));
        if let Some(name) = of {
            let unfit = self.sizes.unfit.entry(name);
            unfit
                .or_insert_with(UnfitCounts::new)
                .count(UnfitIcmp::TooBig);
        }
    }

    /// The next event of a session's size probes to record.
    pub fn poll_size_event(&mut self) -> Option<(Arc<SessionName>, Event)> {
        self.sizes.events.pop_front()
    }
}

impl Sizes {
    fn admits(&mut self, at: Mono) -> bool {
        let (since, count) = self
            .recorded
            .filter(|(since, _)| at.saturating_since(*since) < SECOND)
            .unwrap_or((at, 0));
        self.recorded = Some((since, count.saturating_add(1)));
        count < MOST_A_SECOND
    }

    /// Reports errors that matched no reply, at most once a second, or at the `end`.
    pub(super) fn report(&mut self, now: Mono, end: bool) {
        let events = &mut self.events;
        for (name, unfit) in &mut self.unfit {
            unfit.report(now, end, |event| {
                events.push_back((Arc::clone(name), event));
            });
        }
    }
}

#[cfg(test)]
mod tests;
