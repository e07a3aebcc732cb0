//! When replies left.
//!
//! A reply leaves later than the program reads its clock: the processor may be busy before
//! the send call, and the reply waits in the interface's queue after it. The kernel reports
//! the departure a moment after the send. Until then the reception is held back, so that it
//! is recorded once, with its departure.

use super::session::Counter;
use super::{Output, Reflector};
use core::net::IpAddr;
use hopgap_proto::record::{DropReason, FlowIndex, Reception, Stamp, StampSource};
use hopgap_proto::stamp::{Seq, Ssid};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::VecDeque;

/// How long to wait for a transmit stamp before recording the program's own time.
const GRACE: Span = Span::from_millis(50);

/// A reply that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Place of its reception among all outputs; `None` for traceroute packets and open mode,
    /// which are not recorded.
    pub(super) reception: Option<u64>,
    /// Index of the provisioned session.
    pub(super) session: Option<usize>,
    /// Which counter numbered it.
    pub(super) counted: Counted,
    /// Its sequence number.
    pub(super) seq: Seq,
    /// Whether its sender asks for departures (RFC 8972 section 4.7).
    pub(super) follow_up: bool,
    pub(super) generation: u32,
}

impl Ticket {
    /// Whether anybody wants to know when the reply leaves.
    pub fn wants_departure(&self) -> bool {
        self.reception.is_some() || self.follow_up
    }
}

/// Which counter numbered a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The counter of a provisioned session's flow: of its traceroutes if true, else of its probes.
    Flow(FlowIndex, bool),
    /// The counter of a provisioned session's replayed packets.
    Replays,
    /// The counter of a session of open mode.
    Open(IpAddr, u16, Ssid),
}

impl Reflector {
    /// Whether to ask the kernel for the departures of a batch of replies that goes out at
    /// `now`: of all batches, or beyond some 20,000 replies a second of every n-th. An event
    /// reports that.
    pub fn takes_departures(&mut self, replies: usize, now: Mono) -> bool {
        self.sampling.takes(replies, now)
    }

    /// Notes that the reply was given to the kernel. `at` is the program's own clock reading
    /// just before the send call; `stamped`: a transmit stamp was asked for. Call it before
    /// draining the outputs.
    pub fn handle_sent(&mut self, ticket: Ticket, at: Mono, stamped: bool) {
        let Some((reception, until)) = self.outputs.reception(ticket) else {
            return;
        };
        reception.departed = Some(Stamp {
            at,
            source: StampSource::User,
        });
        *until = stamped.then_some(at + GRACE);
    }

    /// Sets when the reply left, by the kernel or by the interface; `wall` is the same
    /// instant on the wall clock.
    pub fn handle_departed(&mut self, ticket: Ticket, departed: Stamp, wall: Wall) {
        if let Some((reception, until)) = self.outputs.reception(ticket) {
            reception.departed = Some(departed);
            *until = None;
        }
        if ticket.follow_up
            && let Some(counter) = self.counter_of(ticket)
        {
            counter.left(ticket.seq, wall);
        }
    }

    /// Records that the kernel refused to send this reply at `at`, with `errno`. Call it
    /// before draining the outputs.
    pub fn handle_refused(&mut self, ticket: Ticket, at: Mono, errno: i32) {
        self.count_drop(ticket.session, DropReason::SendRefused);
        if let Some((reception, until)) = self.outputs.reception(ticket) {
            reception.reflector_seq = None;
            reception.refused = Some(errno);
            reception.departed = Some(Stamp {
                at,
                source: StampSource::User,
            });
            *until = None;
        }
    }

    fn counter_of(&mut self, ticket: Ticket) -> Option<&mut Counter> {
        match ticket.counted {
            Counted::Open(ip, port, ssid) => self.open.as_mut()?.sessions.known(ip, port, ssid),
            _ if ticket.generation != self.generation => None,
            Counted::Flow(flow, traced) => {
                let session = self.sessions.get_mut(ticket.session?)?;
                session.counters.of(flow, traced)
            }
            Counted::Replays => {
                let session = self.sessions.get_mut(ticket.session?)?;
                Some(&mut session.counters.replays)
            }
        }
    }
}

/// Outputs to record, in order; receptions wait at the front for their departure.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Each with the instant until which it is held.
    queue: VecDeque<(Output, Option<Mono>)>,
    /// How many outputs were ever taken from the queue.
    drained: u64,
    now: Option<Mono>,
}

impl Outputs {
    /// The place among all outputs that the next one gets.
    pub(super) fn next_place(&self) -> u64 {
        self.drained + self.queue.len() as u64
    }

    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back((output, None));
    }

    /// Sets the time; it never goes back.
    pub(super) fn at(&mut self, now: Mono) {
        self.now = self.now.max(Some(now));
    }

    /// Releases everything that is held.
    pub(super) fn release(&mut self) {
        for (_, until) in &mut self.queue {
            *until = None;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        let (_, until) = self.queue.front()?;
        if until.is_some_and(|until| self.now.is_none_or(|now| now < until)) {
            return None;
        }
        self.drained += 1;
        self.queue.pop_front().map(|(output, _)| output)
    }

    /// The ticket's reception, if it is not drained yet, and until when it is held.
    fn reception(&mut self, ticket: Ticket) -> Option<(&mut Reception, &mut Option<Mono>)> {
        let place = ticket.reception?.checked_sub(self.drained)?;
        match self.queue.get_mut(usize::try_from(place).ok()?)? {
            (Output::Reception(_, reception), until) => Some((reception, until)),
            (Output::Event(..), _) => None,
        }
    }
}
