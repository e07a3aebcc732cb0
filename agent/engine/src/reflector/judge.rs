//! Decides which packets are answered.
//!
//! The cheapest checks come first, so that a flood is turned away early: source port, session
//! by address, size, SSID, HMAC, rate. Only authentic packets use up a session's rate.
//! Probes, traceroutes, copies and replays each have a rate of their own.

use super::config::ReflectedSession;
use super::departures::{Counted, Ticket};
use super::open::OpenKey;
use super::replay::Freshness;
use super::session::{self, Count, Provisioned};
use super::{Datagram, FIRST_USER_PORT, Output, Reflector, Settings, Verdict};
use crate::path_mtu::is_size_probe;
use crate::sender::ssid_of;
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::record::{DropReason, FlowIndex, Reception};
use hopgap_proto::stamp::tlv::TlvType;
use hopgap_proto::stamp::{
    Compatibility, DscpSet, Keys, Numbering, ParseError, ReplyContext, Request, Security,
    SenderPacket, Seq, SessionKeys,
};
use hopgap_proto::time::Wall;
use std::sync::Arc;

/// STAMP's and TWAMP's port (RFC 8762 section 4.1): nobody measures from it.
const WELL_KNOWN_PORT: u16 = 862;

impl Reflector {
    /// Returns the verdict and the index of the datagram's session, where it has one.
    pub(super) fn judge(
        &mut self,
        datagram: &Datagram<'_>,
        sending: Wall,
        reply: &mut Vec<u8>,
    ) -> (Verdict, Option<usize>) {
        let port = datagram.from.port();
        let loops = port == WELL_KNOWN_PORT || port == 0 || self.config.ports.contains(&port);
        if !loops && let Some((i, flow)) = self.session_of(datagram) {
            let verdict = self.judge_provisioned(i, flow, datagram, sending, reply);
            return (verdict, Some(i));
        }
        if loops && self.open.is_some() {
            return (Verdict::Drop(DropReason::LoopGuard), None);
        }
        if self.open.is_some() {
            return (self.judge_open(datagram, sending, reply), None);
        }
        match (self.nearest(datagram), loops) {
            (None, _) => (Verdict::Drop(DropReason::Stranger), None),
            (host, true) => (Verdict::Drop(DropReason::LoopGuard), host),
            (host, false) => (Verdict::Drop(DropReason::Unprovisioned), host),
        }
    }

    /// Finds a packet's session and flow: by its address and port, by its address and SSID,
    /// or by its SSID and HMAC.
    fn session_of(&mut self, datagram: &Datagram<'_>) -> Option<(usize, FlowIndex)> {
        let Some((i, flow)) = self.provisioned(datagram) else {
            let renumbered = self.renumbered(datagram);
            return renumbered.or_else(|| self.translated(datagram));
        };
        let session = self.sessions.get(i);
        let claimed = session.and_then(|s| s.claimed_flow(datagram.bytes));
        if claimed != Some(flow)
            // A packet of another session, translated to this session's address on the way.
            && let Some(other) = self.translated(datagram)
        {
            return Some(other);
        }
        Some((i, flow))
    }

    /// Guesses the session of a packet that was changed on the way: one with its source
    /// address, by its SSID if any has it.
    fn nearest(&self, datagram: &Datagram<'_>) -> Option<usize> {
        let ip = datagram.from.ip().to_canonical();
        let of_host = |s: &Provisioned| s.session.from == ip;
        let claimed = |s: &Provisioned| of_host(s) && s.claimed_flow(datagram.bytes).is_some();
        let sessions = &self.sessions;
        let by_ssid = sessions.iter().position(claimed);
        by_ssid.or_else(|| sessions.iter().position(of_host))
    }

    /// Finds a packet's session and flow by its address and port. Where a removed session has
    /// them too, the SSID decides.
    fn provisioned(&self, datagram: &Datagram<'_>) -> Option<(usize, FlowIndex)> {
        let (ip, port) = (datagram.from.ip().to_canonical(), datagram.from.port());
        let flow_of = |i: usize| self.sessions.get(i)?.flow_of(ip, port);
        let present = self
            .index
            .range((ip, 0)..=(ip, port))
            .next_back()
            .and_then(|(_, i)| Some((*i, flow_of(*i)?)));
        if self.index.len() == self.sessions.len() {
            return present;
        }
        let is_of = |(i, flow): &(usize, FlowIndex)| {
            let session = self.sessions.get(*i);
            session.and_then(|s| s.claimed_flow(datagram.bytes)) == Some(*flow)
        };
        let retired = || {
            let sessions = self.sessions.iter().enumerate();
            sessions
                .filter(|(_, s)| s.retired_at.is_some())
                .filter_map(|(i, s)| Some((i, s.flow_of(ip, port)?)))
                .find(is_of)
        };
        present.filter(is_of).or_else(retired).or(present)
    }

    /// Finds a packet's session and flow by its address and SSID alone, where a NAT on the
    /// way has given it another port (RFC 8972 section 3: the SSID identifies a session).
    fn renumbered(&self, datagram: &Datagram<'_>) -> Option<(usize, FlowIndex)> {
        let (ip, port) = (datagram.from.ip().to_canonical(), datagram.from.port());
        if port < FIRST_USER_PORT {
            return None;
        }
        self.sessions.iter().enumerate().find_map(|(i, session)| {
            if session.session.from != ip || session.session.reflector_port == port {
                return None;
            }
            Some((i, session.claimed_flow(datagram.bytes)?))
        })
    }

    fn judge_provisioned(
        &mut self,
        index: usize,
        flow: FlowIndex,
        datagram: &Datagram<'_>,
        sending: Wall,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let Some(provisioned) = self.sessions.get_mut(index) else {
            return Verdict::Drop(DropReason::Unprovisioned);
        };
        let source = datagram.from.ip().to_canonical();
        let known = provisioned.comes_from(source);
        let Provisioned {
            name,
            session,
            aliases,
            previous,
            buckets,
            counters,
            guards,
            trace_guards,
            size_guards,
            drops,
            ..
        } = provisioned;
        let now = datagram.received.at;
        let previous = previous.as_ref().filter(|p| now < p.until);
        let keys = previous.map(|p| p.keys.as_ref());
        let request = match read(session, flow, session.keys.as_ref(), datagram.bytes) {
            Ok(request) => request,
            // A sender that does not know the new plan yet uses the old keys.
            Err(reason) => match keys.map(|keys| read(session, flow, keys, datagram.bytes)) {
                Some(Ok(request)) => request,
                _ => return Verdict::Drop(reason),
            },
        };
        let packet = *request.packet();
        let traced = session::is_trace(packet.ssid);
        let guards = match traced {
            true if is_size_probe(packet.sequence) => size_guards,
            true => trace_guards,
            false => guards,
        };
        let freshness = match guards.get_mut(usize::from(flow.0)) {
            Some(guard) if request.is_authenticated() => {
                let sent = packet.timestamp.to_wall(datagram.received_wall);
                guard.judge(packet.sequence, sent, now)
            }
            _ => Freshness::Fresh,
        };
        let is_arrival = !traced && freshness != Freshness::Replayed;
        // Do not answer a replayed packet to any address that somebody sends it from.
        if !known && freshness != Freshness::Fresh {
            return Verdict::Drop(DropReason::Replayed);
        }
        if source != session.from {
            self.translated.changed |= aliases.came_from(source, now);
        }
        let bucket = match (traced, freshness) {
            (true, Freshness::Fresh) => &mut buckets.traces,
            (false, Freshness::Fresh) => &mut buckets.probes,
            (_, Freshness::Copy) => &mut buckets.copies,
            (_, Freshness::Replayed) => &mut buckets.replays,
        };
        let rate = session.rate;
        if !bucket.admits(rate, now) {
            if is_arrival && buckets.unanswered.admits(rate, now) {
                let reception = reception_of(&request, flow, datagram, None);
                self.outputs
                    .push(Output::Reception(Arc::clone(name), reception));
            }
            return Verdict::Drop(match freshness {
                Freshness::Replayed => DropReason::Replayed,
                Freshness::Fresh | Freshness::Copy => DropReason::RateLimited,
            });
        }
        let (counter, counted) = match freshness {
            Freshness::Replayed => {
                drops.count(DropReason::Replayed);
                (Some(&mut counters.replays), Counted::Replays)
            }
            Freshness::Fresh | Freshness::Copy => {
                (counters.of(flow, traced), Counted::Flow(flow, traced))
            }
        };
        let Some(counter) = counter else {
            return Verdict::Drop(DropReason::Unprovisioned);
        };
        let count = counter.count(now, sending, self.config.idle_timeout);
        let Some((dscp, seq)) = answer(
            &self.config,
            &request,
            Some(count),
            datagram,
            sending,
            reply,
        ) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let mut ticket = Ticket {
            reception: None,
            session: Some(index),
            counted,
            seq,
            follow_up: asks_follow_up(&request),
            generation: self.generation,
        };
        if traced {
            self.totals.traced += 1;
        } else {
            self.totals.answered += 1;
        }
        if is_arrival {
            ticket.reception = Some(self.outputs.next_place());
            let reception = reception_of(&request, flow, datagram, Some(seq));
            self.outputs
                .push(Output::Reception(Arc::clone(name), reception));
        }
        Verdict::Reply { dscp, ticket }
    }

    fn judge_open(
        &mut self,
        datagram: &Datagram<'_>,
        sending: Wall,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let Some(open) = &mut self.open else {
            return Verdict::Drop(DropReason::Unprovisioned);
        };
        // A service on another well-known port could answer the reply.
        if datagram.from.port() < FIRST_USER_PORT {
            return Verdict::Drop(DropReason::LoopGuard);
        }
        let (now, idle_timeout) = (datagram.received.at, self.config.idle_timeout);
        let mode = &open.mode;
        let keys = mode.key.as_ref().map(Keys::shared);
        if SenderPacket::is_reply(datagram.bytes, keys.is_some()) {
            return Verdict::Drop(DropReason::LoopGuard);
        }
        let security = security_of(keys);
        let request = match Request::parse(datagram.bytes, security, mode.compatibility) {
            Ok(request) => request,
            Err(error) => return Verdict::Drop(reason_of(error)),
        };
        let from = (datagram.from.ip().to_canonical(), datagram.from.port());
        let ssid = request.packet().ssid;
        if !open.sources.admits(from.0, mode.rate, now) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        let key = OpenKey::new(from.0, from.1, ssid);
        let number = request.packet().sequence;
        let count = open
            .sessions
            .counter(key, ssid, number, now, idle_timeout)
            .map(|counter| counter.count(now, sending, idle_timeout));
        match answer(&self.config, &request, count, datagram, sending, reply) {
            Some((dscp, seq)) => {
                if session::is_trace(ssid) {
                    self.totals.traced += 1;
                } else {
                    self.totals.answered += 1;
                }
                self.totals.uncounted += u64::from(count.is_none());
                let ticket = Ticket {
                    reception: None,
                    session: None,
                    counted: Counted::Open(from.0, from.1, ssid),
                    seq,
                    follow_up: asks_follow_up(&request),
                    generation: self.generation,
                };
                Verdict::Reply { dscp, ticket }
            }
            None => Verdict::Drop(DropReason::Malformed),
        }
    }
}

fn reception_of(
    request: &Request<'_, '_>,
    flow: FlowIndex,
    datagram: &Datagram<'_>,
    reflector_seq: Option<Seq>,
) -> Reception {
    Reception {
        flow,
        seq: request.packet().sequence,
        received: datagram.received,
        ttl: datagram.ttl,
        reflector_seq,
        departed: None,
        refused: None,
    }
}

/// Whether the request has a Follow-Up Telemetry TLV (RFC 8972 section 4.7).
fn asks_follow_up(request: &Request<'_, '_>) -> bool {
    let mut tlvs = request.tlvs().iter().map_while(Result::ok);
    tlvs.any(|tlv| tlv.kind == TlvType::FOLLOW_UP_TELEMETRY)
}

/// Writes the reply, with its count, or like a stateless reflector without one. Returns the
/// reply's DSCP and sequence number.
fn answer(
    config: &Settings,
    request: &Request<'_, '_>,
    count: Option<Count>,
    datagram: &Datagram<'_>,
    sending: Wall,
    reply: &mut Vec<u8>,
) -> Option<(Option<u8>, Seq)> {
    let numbering = count.map_or(Numbering::Stateless, |count| Numbering::Stateful {
        sequence: count.seq,
        follow_up: count.previous,
    });
    let context = ReplyContext {
        received_ttl: datagram.ttl,
        received_tos: datagram.tos,
        numbering,
        counters: count.map(|count| (count.packets, count.packets)),
        addresses: Some((datagram.from, datagram.to)),
        permitted_dscp: DscpSet::NONE,
        ..ReplyContext::stateless(datagram.received_wall, sending, config.error_estimate)
    };
    reply.clear();
    reply.resize(datagram.bytes.len(), 0);
    let written = request.reply(&context, reply).ok()?;
    reply.truncate(written.len);
    // Keep both ways in one class, unless a Class of Service TLV says otherwise (RFC 8972
    // section 4.4): else the way back would be measured in another queue.
    let dscp = written.dscp.or(datagram.tos.map(|tos| tos >> 2));
    let seq = count.map_or(request.packet().sequence, |count| count.seq);
    Some((dscp, seq))
}

impl Provisioned {
    /// Whether the HMAC shows that this session's sender made a packet.
    pub(super) fn is_authentic(&self, flow: FlowIndex, datagram: &Datagram<'_>) -> bool {
        let now = datagram.received.at;
        let previous = self.previous.as_ref().filter(|p| now < p.until);
        let keys = [
            self.session.keys.as_ref(),
            previous.and_then(|p| p.keys.as_ref()),
        ];
        keys.into_iter()
            .flatten()
            .any(|keys| read(&self.session, flow, Some(keys), datagram.bytes).is_ok())
    }
}

/// Parses a packet of this session: checks its SSID, that it is no reply, and its HMAC.
fn read<'a, 'k>(
    session: &ReflectedSession,
    flow: FlowIndex,
    keys: Option<&'k SessionKeys>,
    bytes: &'a [u8],
) -> Result<Request<'a, 'k>, DropReason> {
    let authenticated = keys.is_some();
    let ssid = SenderPacket::peek_ssid(bytes, authenticated).ok_or(DropReason::Malformed)?;
    if ssid.0 & !TRACE_SSID_BIT != ssid_of(session.ssid, flow).0 {
        return Err(DropReason::Unprovisioned);
    }
    if SenderPacket::is_reply(bytes, authenticated) {
        return Err(DropReason::LoopGuard);
    }
    let security = security_of(keys.map(SessionKeys::keys));
    Request::parse(bytes, security, Compatibility::Strict).map_err(reason_of)
}

fn security_of(keys: Option<Keys<'_>>) -> Security<'_> {
    keys.map_or(Security::OPEN, Security::Authenticated)
}

fn reason_of(error: ParseError) -> DropReason {
    match error {
        ParseError::WrongHmac => DropReason::Unauthenticated,
        ParseError::TooShort { .. } | ParseError::ZeroMultiplier(_) => DropReason::Malformed,
    }
}
