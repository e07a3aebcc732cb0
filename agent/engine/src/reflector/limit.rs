//! How much a source may send.

use hopgap_proto::time::{Mono, Span};

const SECOND: i64 = 1_000_000_000;

/// A rate with the burst that it allows: one second's worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Packets a second, at least 1.
    pub per_second: u32,
}

impl Rate {
    /// Returns four times what a session sends, so that a queue's backlog may arrive at once,
    /// and room for its traceroutes.
    pub fn of_session(interval: Span, flows: u8) -> Self {
        let probes = SECOND * i64::from(flows) / interval.as_nanos().max(1);
        let traces = 200 * i64::from(flows);
        Self {
            per_second: u32::try_from(probes.saturating_mul(4) + traces).unwrap_or(u32::MAX),
        }
    }
}

/// A token bucket, kept as the time until which its tokens are spoken for
/// (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket(Mono);

impl Default for Bucket {
    fn default() -> Self {
        Self(Mono::MIN)
    }
}

impl Bucket {
    /// Whether one more packet at `now` is within `rate`.
    pub(super) fn admits(&mut self, rate: Rate, now: Mono) -> bool {
        let spoken_for = self.0.max(now);
        if spoken_for - now >= Span::from_nanos(SECOND) {
            return false;
        }
        self.0 = spoken_for + Span::from_nanos(SECOND / i64::from(rate.per_second.max(1)));
        true
    }

    /// Whether it is full again at `now`.
    pub(super) fn is_full(&self, now: Mono) -> bool {
        self.0 <= now
    }
}
