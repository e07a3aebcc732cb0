//! One flow's probes between their sending and the end of the late window.
//!
//! Slots lie in a ring by sequence number, so that finding a reply's probe costs
//! one subtraction. A probe's life:
//!
//! ```text
//! push ──> sent ──> answered   record Answered, once its transmit stamp is known
//!             │                or the grace has passed without one
//!             └───> Tmax       record Unanswered; a later reply: Answered (late)
//! push ──> refused             record Refused
//! ```
//!
//! After the late window a probe leaves the ring. An unanswered one moves to [`UnansweredProbes`], so
//! that a reply is still taken minutes later.

use super::Output;
use super::owed::UnansweredProbes;
use hopgap_proto::record::{FlowIndex, Probe, ProbeFate, Reply, Stamp, StampSource};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span};
use std::collections::VecDeque;

/// Most slots kept for the late window, however short the interval.
const MOST_LATE_SLOTS: i64 = 65_536;

/// Most replies recorded for one probe; more are strays, so that repeated packets cannot fill
/// the spool.
const MOST_REPLIES: u8 = 64;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// Tmax: unanswered after this.
    pub(super) timeout: Span,
    /// Every reply to a probe is recognised for this long after Tmax; later only the
    /// first.
    pub(super) late: Span,
    /// How long to wait for a kernel transmit stamp.
    pub(super) grace: Span,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sent: Stamp,
    /// T1 as it was written, to tell a reply to this probe from one to an earlier run's.
    t1: u64,
    /// A record of its fate was made, or is certain to be.
    settled: bool,
    /// The kernel refused it.
    refused: bool,
    /// Replies that came.
    replies: u8,
    /// How many of them are held for the transmit stamp.
    held: u8,
}

/// The reply matches no probe, or its probe has [`MOST_REPLIES`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stray;

#[derive(Debug)]
pub(super) struct Matcher {
    flow: FlowIndex,
    waits: Waits,
    most: usize,
    /// Sequence number of the first slot.
    base: u32,
    slots: VecDeque<Slot>,
    /// How many slots at the front are settled.
    settled: usize,
    /// Replies waiting for their probe's transmit stamp, in the order of arrival.
    held: VecDeque<(Seq, Reply)>,
    /// Unanswered probes that left the ring.
    owed: UnansweredProbes,
}

impl Matcher {
    pub(super) fn new(
        flow: FlowIndex,
        first: Seq,
        interval: Span,
        waits: Waits,
        owed: UnansweredProbes,
    ) -> Self {
        let interval = interval.as_nanos().max(1);
        let most = waits.timeout.as_nanos() / interval
            + (waits.late.as_nanos() / interval).min(MOST_LATE_SLOTS)
            + 16;
        Self {
            flow,
            waits,
            most: usize::try_from(most).unwrap_or(16),
            base: first.0,
            slots: VecDeque::new(),
            settled: 0,
            held: VecDeque::new(),
            owed,
        }
    }

    /// Adds a probe that is about to be sent. Returns its sequence number.
    pub(super) fn push(&mut self, at: Mono, t1: u64, out: &mut VecDeque<Output>) -> Seq {
        if self.slots.len() >= self.most {
            self.drop_front(out);
        }
        let seq = self.next_seq();
        self.slots.push_back(Slot {
            sent: Stamp {
                at,
                source: StampSource::User,
            },
            t1,
            settled: false,
            refused: false,
            replies: 0,
            held: 0,
        });
        seq
    }

    /// The number that the next probe gets.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the ring holds far fewer than 2^32 slots"
    )]
    pub(super) fn next_seq(&self) -> Seq {
        Seq(self.base.wrapping_add(self.slots.len() as u32))
    }

    pub(super) fn knows(&self, seq: Seq) -> bool {
        self.index(seq).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether every probe's fate is recorded.
    pub(super) fn is_settled(&self) -> bool {
        self.settled == self.slots.len() && self.held.is_empty()
    }

    /// T1 of a probe as it was written.
    pub(super) fn t1(&self, seq: Seq) -> Option<u64> {
        match self.index(seq).and_then(|i| self.slots.get(i)) {
            Some(slot) => Some(slot.t1),
            None => self.owed.t1(seq),
        }
    }

    /// Sets the program's own time of the send call.
    pub(super) fn sent(&mut self, seq: Seq, at: Mono) {
        if let Some(slot) = self.slot(seq)
            && slot.sent.source == StampSource::User
        {
            slot.sent.at = at;
        }
    }

    /// Sets the transmit stamp and records the replies that waited for it.
    pub(super) fn stamped(&mut self, seq: Seq, stamp: Stamp, out: &mut VecDeque<Output>) {
        let Some(slot) = self.slot(seq) else { return };
        slot.sent = stamp;
        if slot.held == 0 {
            return;
        }
        slot.held = 0;
        let flow = self.flow;
        // Nearly always the first: stamps and replies come in the order of sending.
        while let Some(place) = self.held.iter().position(|(s, _)| *s == seq) {
            if let Some((_, reply)) = self.held.remove(place) {
                out.push_back(answered(flow, seq, stamp, reply));
            }
        }
    }

    /// Records that the kernel refused the send.
    pub(super) fn refused(&mut self, seq: Seq, at: Mono, errno: i32, out: &mut VecDeque<Output>) {
        let flow = self.flow;
        let Some(slot) = self.slot(seq) else { return };
        if slot.settled {
            return;
        }
        (slot.settled, slot.refused) = (true, true);
        slot.sent.at = at;
        let probe = Probe {
            flow,
            seq,
            sent: slot.sent,
            fate: ProbeFate::Refused(errno),
        };
        out.push_back(Output::Probe(probe));
        self.advance();
    }

    /// Takes a reply: records it at once where the transmit stamp is known, else holds it.
    pub(super) fn replied(
        &mut self,
        seq: Seq,
        reply: Reply,
        out: &mut VecDeque<Output>,
    ) -> Result<(), Stray> {
        let flow = self.flow;
        if !self.knows(seq) {
            let sent = self.owed.take(seq).ok_or(Stray)?;
            out.push_back(answered(flow, seq, sent, reply));
            return Ok(());
        }
        let slot = self.slot(seq).ok_or(Stray)?;
        if slot.replies == MOST_REPLIES {
            return Err(Stray);
        }
        slot.replies += 1;
        slot.settled = true;
        if slot.sent.source == StampSource::User {
            slot.held += 1;
            self.held.push_back((seq, reply));
        } else {
            let sent = slot.sent;
            out.push_back(answered(flow, seq, sent, reply));
        }
        self.advance();
        Ok(())
    }

    /// Releases what waited long enough and forgets what is too old.
    pub(super) fn expire(&mut self, now: Mono, out: &mut VecDeque<Output>) {
        while let Some(&(seq, reply)) = self.held.front() {
            let Some(i) = self.index(seq) else {
                self.held.pop_front();
                continue;
            };
            let sent = self.slots[i].sent;
            if sent.source == StampSource::User && now < sent.at + self.waits.grace {
                break;
            }
            self.held.pop_front();
            self.slots[i].held = self.slots[i].held.saturating_sub(1);
            out.push_back(answered(self.flow, seq, sent, reply));
        }
        while let Some(slot) = self.slots.get_mut(self.settled) {
            let wait = if slot.sent.source == StampSource::User {
                self.waits.timeout.max(self.waits.grace)
            } else {
                self.waits.timeout
            };
            if now < slot.sent.at + wait {
                break;
            }
            slot.settled = true;
            let sent = slot.sent;
            out.push_back(self.unanswered(self.settled, sent));
            self.advance();
        }
        while self.settled > 0
            && let Some(front) = self.slots.front()
            && now >= front.sent.at + self.waits.timeout + self.waits.late
        {
            self.drop_front(out);
        }
    }

    /// Records what is still open as it stands: replies without their transmit stamp, and
    /// probes as unanswered so far.
    pub(super) fn give_up(&mut self, out: &mut VecDeque<Output>) {
        while let Some((seq, reply)) = self.held.pop_front() {
            if let Some(slot) = self.slot(seq) {
                slot.held = slot.held.saturating_sub(1);
                let sent = slot.sent;
                out.push_back(answered(self.flow, seq, sent, reply));
            }
        }
        while let Some(slot) = self.slots.get_mut(self.settled) {
            slot.settled = true;
            let sent = slot.sent;
            out.push_back(self.unanswered(self.settled, sent));
            self.advance();
        }
    }

    /// When [`Self::expire`] has something to record next.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let held = self
            .held
            .front()
            .and_then(|(seq, _)| self.index(*seq))
            .map(|i| self.slots[i].sent.at + self.waits.grace);
        let unsettled = self.slots.get(self.settled).map(|s| {
            if s.sent.source == StampSource::User {
                s.sent.at + self.waits.timeout.max(self.waits.grace)
            } else {
                s.sent.at + self.waits.timeout
            }
        });
        held.into_iter().chain(unsettled).min()
    }

    fn drop_front(&mut self, out: &mut VecDeque<Output>) {
        let seq = Seq(self.base);
        let Some(slot) = self.slots.pop_front() else {
            return;
        };
        if slot.held > 0 {
            let (flow, held) = (self.flow, &mut self.held);
            held.retain(|(s, reply)| {
                if *s == seq {
                    out.push_back(answered(flow, seq, slot.sent, *reply));
                }
                *s != seq
            });
        }
        if !slot.settled {
            out.push_back(Output::Probe(Probe {
                flow: self.flow,
                seq,
                sent: slot.sent,
                fate: ProbeFate::Unanswered,
            }));
        }
        if slot.replies == 0 && !slot.refused {
            self.owed.push(seq, slot.t1, slot.sent);
        }
        self.base = self.base.wrapping_add(1);
        self.settled = self.settled.saturating_sub(1);
        self.advance();
    }

    fn advance(&mut self) {
        while self.slots.get(self.settled).is_some_and(|s| s.settled) {
            self.settled += 1;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the ring holds far fewer than 2^32 slots"
    )]
    fn unanswered(&self, index: usize, sent: Stamp) -> Output {
        Output::Probe(Probe {
            flow: self.flow,
            seq: Seq(self.base.wrapping_add(index as u32)),
            sent,
            fate: ProbeFate::Unanswered,
        })
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        let index = usize::try_from(seq.0.wrapping_sub(self.base)).ok()?;
        (index < self.slots.len()).then_some(index)
    }

    fn slot(&mut self, seq: Seq) -> Option<&mut Slot> {
        let index = self.index(seq)?;
        self.slots.get_mut(index)
    }
}

fn answered(flow: FlowIndex, seq: Seq, sent: Stamp, reply: Reply) -> Output {
    Output::Probe(Probe {
        flow,
        seq,
        sent,
        fate: ProbeFate::Answered(reply),
    })
}
