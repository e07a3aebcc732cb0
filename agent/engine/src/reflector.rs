//! The Session-Reflector of all sessions that an agent answers: stateful (RFC 8762
//! section 4.3.1), with its own log of what it received.
//!
//! It answers provisioned sessions, and in open mode also unknown senders. It counts what it
//! does not answer by reason, because a reflector's silence looks like forward loss to
//! everybody else. A reply is never larger than its request.
//!
//! A shell reads a batch, calls [`Reflector::handle`] for each datagram, sends the replies,
//! calls [`Reflector::handle_sent`] or [`Reflector::handle_refused`] for each,
//! [`Reflector::handle_departed`] for every transmit stamp that the kernel then gives, and
//! drains [`Reflector::poll_output`]. The reflector holds a reception for a moment, until the
//! departure of its reply is known. Handling a probe allocates only when the output queue
//! grows.

mod config;
mod departures;
mod drops;
mod judge;
mod limit;
mod open;
mod replay;
mod sampling;
mod session;
mod sizes;
mod translated;

pub use config::{OpenMode, ReflectedSession, ReflectorConfig};
use core::net::{IpAddr, SocketAddr};
use departures::Outputs;
pub use departures::Ticket;
use drops::Drops;
use hopgap_proto::record::{DropReason, Event, Reception, SessionName, Stamp};
use hopgap_proto::stamp::ErrorEstimate;
use hopgap_proto::time::{Mono, Span, Wall};
pub use limit::Rate;
use open::Open;
use sampling::Sampling;
use session::Provisioned;
use sizes::Sizes;
use std::collections::BTreeMap;
use std::sync::Arc;
use translated::Translated;

/// The first user port (RFC 6335 section 6). No program measures from a lower one, and much
/// that would answer a reply listens there.
const FIRST_USER_PORT: u16 = 1024;
/// How long a session removed from the plan is still answered.
const LINGER: Span = Span::from_secs(30);
/// How often drops are reported.
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
    /// Send the reply with TTL 255 to the datagram's source, from the address and port that
    /// it was sent to.
    Reply {
        /// DSCP of the reply: that of a Class of Service TLV, or else that of the request;
        /// `None` where that is not known.
        dscp: Option<u8>,
        /// For [`Reflector::handle_sent`] and [`Reflector::handle_refused`].
        ticket: Ticket,
    },
    /// Send nothing; the drop is counted.
    Drop(DropReason),
}

/// What a [`Reflector`] emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A probe of a provisioned session arrived.
    Reception(Arc<SessionName>, Reception),
    /// An event, such as dropped packets, of this session, or of none that is known.
    Event(Option<Arc<SessionName>>, Event),
}

/// Counts since the reflector began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Replies given out to probes.
    pub answered: u64,
    /// Replies given out to traceroute packets and to the packets of path MTU searches.
    pub traced: u64,
    /// How many of both were replies of open mode without a count, because no place was free.
    pub uncounted: u64,
    /// Datagrams that were not answered.
    pub dropped: u64,
}

/// A stateful Session-Reflector.
#[derive(Debug)]
pub struct Reflector {
    config: Settings,
    sessions: Vec<Provisioned>,
    /// Index into `sessions` by address and first source port.
    index: BTreeMap<(IpAddr, u16), usize>,
    open: Option<Open>,
    translated: Translated,
    /// Drops of datagrams of no known session.
    drops: Drops,
    reported: Mono,
    outputs: Outputs,
    sampling: Sampling,
    /// Changes when the indices of sessions do: an older ticket's index may mean another session.
    generation: u32,
    totals: Totals,
    sizes: Sizes,
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
            translated: Translated::default(),
            drops: Drops::default(),
            reported: Mono::MIN,
            outputs: Outputs::default(),
            sampling: Sampling::default(),
            generation: 0,
            totals: Totals::default(),
            sizes: Sizes::default(),
        };
        reflector.set_sessions(config.sessions, Mono::MIN);
        reflector
    }

    /// Answers these sessions from now on. Sessions that stay keep their counters. Removed
    /// ones are still answered for half a minute, because their sender learns of the new plan
    /// at another time than this host.
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
                    Some(same) => same.again(session, now),
                    None => Provisioned::new(session),
                }
            })
            .collect();
        // Present ones first: a retired one must not take their packets.
        self.sessions.append(&mut before);
        self.reindex();
    }

    /// Ends the reflector: reports everything that is not reported yet and releases held
    /// receptions.
    pub fn finish(&mut self, now: Mono) {
        self.report(now);
        self.tell_translated(now, true);
        self.sizes.report(now, true);
        self.outputs.release();
    }

    fn reindex(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.index = self
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, s)| s.retired_at.is_none())
            .map(|(i, s)| ((s.session.from, s.session.source_port), i))
            .collect();
    }

    /// Sets the wall clock's error estimate, which is written into replies from now on.
    pub fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.config.error_estimate = error_estimate;
    }

    /// Counts since the reflector began.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Decides whether to answer a datagram. For [`Verdict::Reply`] it writes the reply to
    /// `reply` (cleared first). `sending` is T3: the wall clock now.
    pub fn handle(
        &mut self,
        datagram: &Datagram<'_>,
        sending: Wall,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let (verdict, session) = self.judge(datagram, sending, reply);
        match verdict {
            Verdict::Reply { .. } => {
                if let Some(session) = session {
                    self.note_size(session, datagram, reply);
                }
            }
            Verdict::Drop(reason) => {
                reply.clear();
                self.count_drop(session, reason);
            }
        }
        verdict
    }

    /// Returns the addresses of the sessions that are answered, including those removed
    /// lately, then the addresses that their packets are translated to. Each address comes
    /// once.
    pub fn sources(&self) -> Vec<IpAddr> {
        let mut sources = Vec::new();
        let planned = self.sessions.iter().map(|s| s.session.from);
        let translated = self.sessions.iter().flat_map(|s| s.aliases.addresses());
        for source in planned.chain(translated) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources
    }

    /// Counts packets of unknown senders that the kernel dropped unread.
    pub fn handle_unread(&mut self, count: u32) {
        self.totals.dropped += u64::from(count);
        self.drops.count_all(DropReason::Stranger, count);
    }

    /// When [`Self::handle_timeout`] has something to report; `None` when there is nothing.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let pending = !self.drops.is_empty()
            || self.sampling.is_sampling()
            || self.sessions.iter().any(|s| !s.drops.is_empty());
        pending.then(|| self.reported + REPORT_INTERVAL)
    }

    /// Reports drops, at most once a second. Forgets removed sessions, and sessions of open
    /// mode that have been silent for long.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.outputs.at(now);
        if now < self.reported + REPORT_INTERVAL {
            return;
        }
        self.reported = now;
        self.report(now);
        self.tell_translated(now, false);
        self.sizes.report(now, false);
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
            .report(now, |event| outputs.push(Output::Event(None, event)));
        if let Some(event) = self.sampling.report(now) {
            outputs.push(Output::Event(None, event));
        }
        for session in &mut self.sessions {
            let name = &session.name;
            session.drops.report(now, |event| {
                outputs.push(Output::Event(Some(Arc::clone(name)), event));
            });
        }
    }

    /// Returns the next output to record. `None` when there is none, and while the next is a
    /// reception whose reply's transmit stamp may still come.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop()
    }

    fn count_drop(&mut self, session: Option<usize>, reason: DropReason) {
        self.totals.dropped += 1;
        match session.and_then(|i| self.sessions.get_mut(i)) {
            Some(session) => session.drops.count(reason),
            None => self.drops.count(reason),
        }
    }
}

#[cfg(test)]
mod tests;
