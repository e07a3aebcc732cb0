//! Telling a probe from a copy of an earlier one, in authenticated sessions.
//!
//! The HMAC proves that the session's sender made a packet, but not when. Each flow keeps a
//! sliding window of the numbers that came, and the newest T1, the sender's own time in the
//! packet, which the HMAC covers:
//!
//! - A new number is a probe, if its T1 is at most [`DELAYED`] behind the newest.
//! - A number that came before is a copy made by the network, if its T1 is at most
//!   [`COPIED_WITHIN`] behind the newest, and else a replay.
//! - A number that came before, or is below the window, with a T1 after the newest is the
//!   first of a restarted sender.
//!
//! A sender whose clock was set back looks like a replay at first. Such packets are answered,
//! but not recorded. If they go on in step with time for [`CONVINCED`], and no packet of the
//! old time comes, they are taken for the session. So a stepped clock never turns a probe
//! into a loss. A replay never counts as an arrival, unless the attacker can hold up the
//! session's own packets as well.

use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span, Wall};

/// Numbers in the window: a minute of 1 kHz.
const WINDOW: i32 = 65_536;
const WORDS: usize = 65_536 / 64;
/// How far the T1 of a first arrival may be behind the newest: the longest timeout.
const DELAYED: Span = Span::from_secs(60);
/// How far the T1 of a copy may be behind the newest. Networks copy at once, but queues on
/// two paths may differ by this much.
const COPIED_WITHIN: Span = Span::from_secs(5);
/// An apparent replay that lasts this long, and this many packets, is the session.
const CONVINCED: Span = Span::from_secs(1);
const CONVINCING: u32 = 3;
/// How much the advance of the sender's clock and of this host's may differ while in step.
const IN_STEP: Span = Span::from_secs(1);

/// What an authentic packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// A probe.
    Fresh,
    /// A copy of a probe that came a moment ago.
    Copy,
    /// A replay of an earlier probe, or a packet of a sender whose clock was set back.
    Replayed,
}

/// The guard of one flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    seen: Option<Seen>,
    doubt: Option<SuspectRun>,
}

/// What has arrived.
#[derive(Clone, Debug)]
struct Seen {
    newest: Seq,
    /// The newest T1.
    sent: Wall,
    /// One bit for each of the last [`WINDOW`] numbers, by the number's low bits.
    came: Vec<u64>,
}

/// Apparent replays that may turn out to be the session.
#[derive(Clone, Copy, Debug)]
struct SuspectRun {
    since: Mono,
    seq: Seq,
    sent: Wall,
    at: Mono,
    packets: u32,
}

impl Guard {
    /// Classifies a packet that arrived at `at`, with this number and this T1 (`sent`).
    pub(super) fn judge(&mut self, seq: Seq, sent: Wall, at: Mono) -> Freshness {
        let Some(seen) = &mut self.seen else {
            self.seen = Some(Seen::begin(seq, sent));
            return Freshness::Fresh;
        };
        let ahead = seen.ahead(seq);
        let below = ahead <= -WINDOW;
        let age = seen.sent - sent;
        if below || seen.has(seq) {
            if age < Span::ZERO {
                *seen = Seen::begin(seq, sent);
            } else if !below && age <= COPIED_WITHIN {
                return Freshness::Copy;
            } else {
                return self.doubt(seq, sent, at);
            }
        } else if age <= DELAYED {
            seen.note(seq, sent);
        } else {
            return self.doubt(seq, sent, at);
        }
        self.doubt = None;
        Freshness::Fresh
    }

    fn doubt(&mut self, seq: Seq, sent: Wall, at: Mono) -> Freshness {
        let goes_on = self.doubt.filter(|d| {
            let further = seq.0.wrapping_sub(d.seq.0).cast_signed();
            (1..WINDOW).contains(&further) && ((sent - d.sent) - (at - d.at)).abs() <= IN_STEP
        });
        let doubt = SuspectRun {
            since: goes_on.map_or(at, |d| d.since),
            packets: goes_on.map_or(1, |d| d.packets.saturating_add(1)),
            seq,
            sent,
            at,
        };
        if doubt.packets >= CONVINCING && at - doubt.since >= CONVINCED {
            self.seen = Some(Seen::begin(seq, sent));
            self.doubt = None;
            return Freshness::Fresh;
        }
        self.doubt = Some(doubt);
        Freshness::Replayed
    }
}

impl Seen {
    fn begin(seq: Seq, sent: Wall) -> Self {
        let mut seen = Self {
            newest: seq,
            sent,
            came: vec![0; WORDS],
        };
        seen.mark(seq);
        seen
    }

    /// By how much a number is ahead of the newest, on the circle of 32 bits.
    fn ahead(&self, seq: Seq) -> i32 {
        seq.0.wrapping_sub(self.newest.0).cast_signed()
    }

    /// Whether a number of the window came.
    fn has(&self, seq: Seq) -> bool {
        let (word, bit) = place(seq);
        self.ahead(seq) <= 0 && self.came.get(word).is_some_and(|w| w & bit != 0)
    }

    fn mark(&mut self, seq: Seq) {
        let (word, bit) = place(seq);
        if let Some(w) = self.came.get_mut(word) {
            *w |= bit;
        }
    }

    /// Notes the arrival of a number within or ahead of the window.
    fn note(&mut self, seq: Seq, sent: Wall) {
        let ahead = self.ahead(seq);
        if ahead >= WINDOW {
            self.came.fill(0);
        } else {
            for skipped in 1..=ahead.max(0) {
                let passed = Seq(self.newest.0.wrapping_add(skipped.cast_unsigned()));
                let (word, bit) = place(passed);
                if let Some(w) = self.came.get_mut(word) {
                    *w &= !bit;
                }
            }
        }
        if ahead > 0 {
            self.newest = seq;
        }
        self.sent = self.sent.max(sent);
        self.mark(seq);
    }
}

fn place(seq: Seq) -> (usize, u64) {
    let [_, _, high, low] = seq.0.to_be_bytes();
    let index = u16::from_be_bytes([high, low]);
    (usize::from(index / 64), 1 << (index % 64))
}

#[cfg(test)]
mod tests;
