//! Of how many replies the kernel is asked when they left.
//!
//! A transmit stamp costs the kernel about as much as a small packet. Up to some 20,000
//! packets a second nobody notices; beyond, every n-th batch is asked for, so that the
//! reflector keeps its rate. Replies leave in batches, one right after the other: those
//! in between lie between two that are stamped.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{Mono, Span};

/// Replies a second of which every departure is taken.
const EVERY_ONE: u32 = 20_000;
/// The rate is that of the last such stretch.
const WINDOW: Span = Span::from_millis(100);
/// Windows in a second.
const WINDOWS: u32 = 10;

/// Which batches are asked for.
#[derive(Debug)]
pub(super) struct Sampling {
    began: Mono,
    /// Replies of this window.
    replies: u32,
    /// One batch in so many; at least 1.
    of: u32,
    batch: u32,
    /// Sampled since then, by at most one batch in so many; not told yet.
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
    /// Whether to ask for the departures of a batch of so many replies.
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

    /// What is to be told of the time up to `now`.
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
