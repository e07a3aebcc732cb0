//! The Session-Reflector of all sessions that an agent answers: stateful (RFC 8762
//! section 4.3.1), with its own log of what it received.
//!
//! It answers provisioned sessions, and whoever comes only in open mode. What it
//! does not answer it counts by reason, because a reflector's silence looks like
//! forward loss to everybody else. A reply is never larger than its request.
//!
//! A shell reads a batch, calls [`Reflector::handle`] for each datagram, sends the
//! replies, calls [`Reflector::handle_refused`] for those that the kernel refused,
//! and drains [`Reflector::poll_output`]. The way of a packet allocates nothing
//! but the growth of the output queue.

mod config;
mod drops;
mod limit;
mod session;

pub use config::{OpenMode, ReflectedSession, ReflectorConfig, UnusableKey};
use core::net::{IpAddr, SocketAddr};
use drops::Drops;
use hopgap_proto::record::{DropReason, Event, FlowIndex, Reception, SessionName, Stamp};
use hopgap_proto::stamp::{
    AuthKey, Compatibility, DscpSet, ErrorEstimate, Keys, Numbering, ParseError, ReplyContext,
    Request, Security, Seq,
};
use hopgap_proto::time::{Mono, Span, Wall};
use limit::Bucket;
pub use limit::Rate;
use session::{Counter, Open, Provisioned};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// STAMP's and TWAMP's port (RFC 8762 section 4.1): nobody measures from it.
const WELL_KNOWN_PORT: u16 = 862;
/// Below it no program measures, and much that answers listens (RFC 6335 section 6).
const FIRST_USER_PORT: u16 = 1024;
/// Sessions that the plan has no more are answered this long yet.
const LINGER: Span = Span::from_secs(30);
/// Drops are counted up over this long.
const REPORT_INTERVAL: Span = Span::from_secs(1);

/// A datagram that came to a reflector's port.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its payload.
    pub bytes: &'a [u8],
    /// Source address and port.
    pub from: SocketAddr,
    /// The address and port that it was sent to.
    pub to: SocketAddr,
    /// TTL or hop limit on arrival.
    pub ttl: Option<u8>,
    /// TOS or Traffic Class octet.
    pub tos: Option<u8>,
    /// When it arrived, on the monotonic clock.
    pub received: Stamp,
    /// T2: the same instant on the wall clock.
    pub received_wall: Wall,
}

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the reply, to where the datagram came from, from where it was sent to,
    /// with TTL 255.
    Reply {
        /// DSCP of the reply: by a Class of Service TLV, or that of the request; `None`
        /// where that is not known.
        dscp: Option<u8>,
        /// For [`Reflector::handle_refused`].
        ticket: Ticket,
    },
    /// Send nothing. It is counted.
    Drop(DropReason),
}

/// A reply that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Place of its reception among all receptions; `None` for traceroute packets and
    /// open mode, which are not recorded.
    reception: Option<u64>,
    /// Index of the provisioned session.
    session: Option<usize>,
}

/// What a [`Reflector`] has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A probe of a provisioned session arrived.
    Reception(Arc<SessionName>, Reception),
    /// Packets were dropped; of this session, or of none that is known.
    Event(Option<Arc<SessionName>>, Event),
}

/// Counts since the reflector began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Replies given out to probes.
    pub answered: u64,
    /// Replies given out to traceroute packets.
    pub traced: u64,
    /// Datagrams that were not answered.
    pub dropped: u64,
}

/// A stateful Session-Reflector.
#[derive(Debug)]
pub struct Reflector {
    config: Settings,
    sessions: Vec<Provisioned>,
    /// By address and first source port.
    index: BTreeMap<(IpAddr, u16), usize>,
    open: Option<Open>,
    /// Of datagrams of no known session.
    drops: Drops,
    reported: Mono,
    outputs: VecDeque<Output>,
    /// How many outputs were ever put into the queue before its first.
    drained: u64,
    totals: Totals,
}

#[derive(Debug)]
struct Settings {
    ports: Vec<u16>,
    idle_timeout: Span,
    error_estimate: ErrorEstimate,
}

impl Reflector {
    /// A reflector that answers by `config`.
    pub fn new(config: ReflectorConfig) -> Self {
        let mut reflector = Self {
            config: Settings {
                ports: config.ports,
                idle_timeout: config.idle_timeout,
                error_estimate: config.error_estimate,
            },
            sessions: Vec::new(),
            index: BTreeMap::new(),
            open: config.open.map(Open::new),
            drops: Drops::default(),
            reported: Mono::MIN,
            outputs: VecDeque::new(),
            drained: 0,
            totals: Totals::default(),
        };
        reflector.set_sessions(config.sessions, Mono::MIN);
        reflector
    }

    /// Answers these sessions from now on. Those that it answered before count on; those
    /// that are no more are answered for half a minute yet, because their sender learns
    /// of the new plan at another time than this host.
    pub fn set_sessions(&mut self, sessions: Vec<ReflectedSession>, now: Mono) {
        let mut before = core::mem::take(&mut self.sessions);
        for retired in before.iter_mut().filter(|b| b.retired_at.is_none()) {
            retired.retired_at = Some(now + LINGER);
        }
        self.sessions = sessions
            .into_iter()
            .map(|session| {
                let place = before.iter().position(|b| b.is_same(&session));
                match place.map(|i| before.swap_remove(i)) {
                    Some(same) => same.again(session),
                    None => Provisioned::new(session),
                }
            })
            .collect();
        // Present ones first: a retired one must not take their packets.
        self.sessions.append(&mut before);
        self.reindex();
    }

    /// Reports all drops that are not reported yet: the end.
    pub fn finish(&mut self, now: Mono) {
        self.report(now);
    }

    fn reindex(&mut self) {
        self.index = self
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, s)| s.retired_at.is_none())
            .map(|(i, s)| ((s.session.from, s.session.source_port), i))
            .collect();
    }

    /// What the kernel now says of the wall clock; written into replies from now on.
    pub fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.config.error_estimate = error_estimate;
    }

    /// Counts since the reflector began.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Judges a datagram. For [`Verdict::Reply`] the reply stands in `reply` (which is
    /// cleared first). `sending` is T3: the wall clock now.
    pub fn handle(
        &mut self,
        datagram: &Datagram<'_>,
        sending: Wall,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let (verdict, session) = self.judge(datagram, sending, reply);
        match verdict {
            Verdict::Reply { .. } => {}
            Verdict::Drop(reason) => {
                reply.clear();
                self.count_drop(session, reason);
            }
        }
        verdict
    }

    /// The kernel refused to send this reply. To be told before the outputs are drained.
    pub fn handle_refused(&mut self, ticket: Ticket) {
        self.count_drop(ticket.session, DropReason::SendRefused);
        let place = ticket
            .reception
            .and_then(|n| usize::try_from(n.checked_sub(self.drained)?).ok());
        if let Some(Output::Reception(_, reception)) =
            place.and_then(|place| self.outputs.get_mut(place))
        {
            reception.reflector_seq = None;
        }
    }

    /// When [`Self::handle_timeout`] has something to report; `None` when nothing was dropped.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let pending = !self.drops.is_empty() || self.sessions.iter().any(|s| !s.drops.is_empty());
        pending.then(|| self.reported + REPORT_INTERVAL)
    }

    /// Reports drops, at most once a second, and forgets sessions of open mode that
    /// have been silent for long.
    pub fn handle_timeout(&mut self, now: Mono) {
        if now < self.reported + REPORT_INTERVAL {
            return;
        }
        self.reported = now;
        self.report(now);
        let before = self.sessions.len();
        self.sessions
            .retain(|s| s.retired_at.is_none_or(|at| now < at));
        if self.sessions.len() < before {
            self.reindex();
        }
        if let Some(open) = &mut self.open {
            open.forget_idle(now, self.config.idle_timeout);
        }
    }

    fn report(&mut self, now: Mono) {
        let outputs = &mut self.outputs;
        self.drops
            .report(now, |event| outputs.push_back(Output::Event(None, event)));
        for session in &mut self.sessions {
            let name = &session.name;
            session.drops.report(now, |event| {
                outputs.push_back(Output::Event(Some(Arc::clone(name)), event));
            });
        }
    }

    /// The next thing to record.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        self.drained += 1;
        Some(output)
    }

    fn count_drop(&mut self, session: Option<usize>, reason: DropReason) {
        self.totals.dropped += 1;
        match session.and_then(|i| self.sessions.get_mut(i)) {
            Some(session) => session.drops.count(reason),
            None => self.drops.count(reason),
        }
    }

    /// The verdict, and whose session it was.
    fn judge(
        &mut self,
        datagram: &Datagram<'_>,
        sending: Wall,
        reply: &mut Vec<u8>,
    ) -> (Verdict, Option<usize>) {
        let port = datagram.from.port();
        if port == WELL_KNOWN_PORT || port == 0 || self.config.ports.contains(&port) {
            return (Verdict::Drop(DropReason::LoopGuard), None);
        }
        if let Some((i, flow)) = self
            .provisioned(datagram)
            .or_else(|| self.renumbered(datagram))
        {
            let verdict = self.judge_provisioned(i, flow, datagram, sending, reply);
            return (verdict, Some(i));
        }
        (self.judge_open(datagram, sending, reply), None)
    }

    /// The session and flow that the packet is of: by its address and port, and where a
    /// session that was there before the plan changed has them too, by its SSID.
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

    /// The session and flow that the packet is of by its address and SSID alone, where a
    /// NAT on the way has given it another port (RFC 8972 section 3: the SSID identifies
    /// a session).
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
        let security = security_of(provisioned.session.key.as_ref());
        let request = match Request::parse(datagram.bytes, security, Compatibility::Strict) {
            Ok(request) => request,
            Err(error) => return Verdict::Drop(reason_of(error)),
        };
        // Only what is authentic may use up the session's rate.
        let Some(traced) = provisioned.traced(flow, request.packet().ssid) else {
            return Verdict::Drop(DropReason::Unprovisioned);
        };
        let now = datagram.received.at;
        if !provisioned.bucket.admits(provisioned.session.rate, now) {
            let rate = provisioned.session.rate;
            if !traced && provisioned.unanswered.admits(rate, now) {
                let reception = reception_of(&request, flow, datagram, None);
                self.outputs
                    .push_back(Output::Reception(Arc::clone(&provisioned.name), reception));
            }
            return Verdict::Drop(DropReason::RateLimited);
        }
        let Some(counter) = provisioned.counters.of(flow, traced) else {
            return Verdict::Drop(DropReason::Unprovisioned);
        };
        let Some((dscp, seq)) = answer(&self.config, &request, counter, datagram, sending, reply)
        else {
            return Verdict::Drop(DropReason::Malformed);
        };
        if traced {
            self.totals.traced += 1;
            let ticket = Ticket {
                reception: None,
                session: Some(index),
            };
            return Verdict::Reply { dscp, ticket };
        }
        self.totals.answered += 1;
        let place = self.drained + self.outputs.len() as u64;
        let reception = reception_of(&request, flow, datagram, Some(seq));
        self.outputs
            .push_back(Output::Reception(Arc::clone(&provisioned.name), reception));
        let ticket = Ticket {
            reception: Some(place),
            session: Some(index),
        };
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
        // Whoever answers on another well-known port could be made to answer the reply.
        if datagram.from.port() < FIRST_USER_PORT {
            return Verdict::Drop(DropReason::LoopGuard);
        }
        let (now, idle_timeout) = (datagram.received.at, self.config.idle_timeout);
        let mode = &open.mode;
        let security = security_of(mode.key.as_ref());
        let request = match Request::parse(datagram.bytes, security, mode.compatibility) {
            Ok(request) => request,
            Err(error) => return Verdict::Drop(reason_of(error)),
        };
        let from = (datagram.from.ip().to_canonical(), datagram.from.port());
        let ssid = request.packet().ssid;
        let bucket = open.sources.entry(from.0).or_insert_with(Bucket::default);
        if !bucket.admits(mode.rate, now) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        let sessions = &mut open.sessions;
        let Some(counter) =
            sessions.of((from.0, from.1, ssid), mode.max_sessions, now, idle_timeout)
        else {
            return Verdict::Drop(DropReason::Unprovisioned);
        };
        match answer(&self.config, &request, counter, datagram, sending, reply) {
            Some((dscp, _)) => {
                if session::is_trace(ssid) {
                    self.totals.traced += 1;
                } else {
                    self.totals.answered += 1;
                }
                let ticket = Ticket {
                    reception: None,
                    session: None,
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
    }
}

/// Writes the reply. Returns the DSCP that it must have and the number that it got.
fn answer(
    config: &Settings,
    request: &Request<'_, '_>,
    counter: &mut Counter,
    datagram: &Datagram<'_>,
    sending: Wall,
    reply: &mut Vec<u8>,
) -> Option<(Option<u8>, Seq)> {
    let count = counter.count(datagram.received.at, config.idle_timeout);
    let context = ReplyContext {
        received_ttl: datagram.ttl,
        received_tos: datagram.tos,
        numbering: Numbering::Stateful {
            sequence: count.seq,
            follow_up: None,
        },
        counters: Some((count.packets, count.packets)),
        addresses: Some((datagram.from, datagram.to)),
        permitted_dscp: DscpSet::NONE,
        ..ReplyContext::stateless(datagram.received_wall, sending, config.error_estimate)
    };
    reply.clear();
    reply.resize(datagram.bytes.len(), 0);
    let written = request.reply(&context, reply).ok()?;
    reply.truncate(written.len);
    // Both ways in one class, unless a Class of Service TLV says otherwise (RFC 8972
    // section 4.4): else the way back would be measured in another queue.
    let dscp = written.dscp.or(datagram.tos.map(|tos| tos >> 2));
    Some((dscp, count.seq))
}

fn security_of(key: Option<&AuthKey>) -> Security<'_> {
    key.map_or(Security::OPEN, |key| {
        Security::Authenticated(Keys::shared(key))
    })
}

fn reason_of(error: ParseError) -> DropReason {
    match error {
        ParseError::WrongHmac => DropReason::Unauthenticated,
        ParseError::TooShort { .. } | ParseError::ZeroMultiplier(_) => DropReason::Malformed,
    }
}

#[cfg(test)]
mod tests;
