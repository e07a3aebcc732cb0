//! Decides of which replies to ask the kernel when they left.
//!
//! A transmit stamp costs the kernel about as much as a small packet. Up to some 20,000
//! packets a second nobody notices. Beyond, only every n-th batch is asked for, so that the
//! reflector keeps its rate. Batches leave one right after the other, so the departure of an
//! unstamped one lies between those of two stamped ones.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{Mono, Span};

/// Up to this many replies a second every departure is taken.
const EVERY_ONE: u32 = 20_000;
/// The rate is measured over a window of this length.
const WINDOW: Span = Span::from_millis(100);
/// Windows in a second.
const WINDOWS: u32 = 10;

/// Which batches are asked for.
#[derive(Debug)]
pub(super) struct Sampling {
    began: Mono,
    /// Replies of this window.
    replies: u32,
    /// One batch in this many is asked for; at least 1.
    of: u32,
    batch: u32,
    /// Since when batches are sampled, and the largest `of` since then; not reported yet.
    untold: Option<(Mono, u32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            began: Mono::MIN,
            replies: 0,
            of: 1,
            batch: 0,
            untold: None,
        }
    }
}

impl Sampling {
    /// Whether to ask for the departures of a batch of this many replies.
    pub(super) fn takes(&mut self, replies: usize, now: Mono) -> bool {
        if now - self.began >= WINDOW {
            // After a pause nothing is known of the rate.
            let is_next = now - self.began < WINDOW * 2;
            let rate = self.replies.saturating_mul(WINDOWS);
            self.of = if is_next {
                rate.div_ceil(EVERY_ONE).max(1)
            } else {
                1
            };
            (self.began, self.replies) = (now, 0);
        }
        let replies = u32::try_from(replies).unwrap_or(u32::MAX);
        self.replies = self.replies.saturating_add(replies);
        self.batch = self.batch.wrapping_add(1);
        if self.of > 1 {
            let (_, of) = self.untold.get_or_insert((now, self.of));
            *of = self.of.max(*of);
        }
        self.batch.is_multiple_of(self.of)
    }

    pub(super) fn is_sampling(&self) -> bool {
        self.untold.is_some()
    }

    /// Returns the event that reports the sampling up to `now`.
    pub(super) fn report(&mut self, now: Mono) -> Option<Event> {
        let (since, of) = self.untold.take()?;
        Some(Event {
            at: now,
            kind: EventKind::DeparturesSampled { since, of },
        })
    }
}

#[cfg(test)]
mod tests;
