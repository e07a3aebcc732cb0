//! Growing pauses with jitter, so that agents do not all come back at once.

use crate::jitter::spread;
use std::time::Duration;
use tracing::{info, warn};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// Pauses are slept in pieces of this length, so that a stop is noticed.
const PIECE: Duration = Duration::from_millis(50);

/// The state of the pauses after failures.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    state: u64,
    last: Option<String>,
}

impl Backoff {
    /// `seed` decides the jitter.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            state: spread(seed) | 1,
            last: None,
        }
    }

    /// Logs an error, once until it changes or a try succeeds.
    pub(super) fn failed(&mut self, why: &str) {
        if self.last.as_deref() != Some(why) {
            warn!("{why}");
            self.last = Some(why.to_owned());
        }
    }

    pub(super) fn succeeded(&mut self, what: &str) {
        if self.last.take().is_some() {
            info!("{what}");
        }
        self.next = FIRST;
    }

    /// Returns the pause before the next try: half to all of a span that doubles.
    pub(super) fn next_pause(&mut self) -> Duration {
        // xorshift64 is good enough for jitter.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let half = self.next / 2;
        let jitter = half.mul_f64((self.state >> 40) as f64 / f64::from(1 << 24));
        self.next = (self.next * 2).min(LONGEST);
        half + jitter
    }

    pub(super) fn pause(&mut self, stopped: impl Fn() -> bool) {
        let mut left = self.next_pause();
        while !left.is_zero() && !stopped() {
            let piece = left.min(PIECE);
            std::thread::sleep(piece);
            left -= piece;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// Whatever the seed: each pause is between half and all of a span that doubles
        /// up to a bound, never zero, and a success begins anew.
        #[test]
        fn every_pause_is_bounded_and_jittered(seed in any::<u64>(), failures in 1usize..60) {
            let mut backoff = Backoff::new(seed);
            let mut span = FIRST;
            for _ in 0..failures {
                let pause = backoff.next_pause();
                prop_assert!(pause >= span / 2 && pause <= span, "{pause:?} of {span:?}");
                prop_assert!(pause > Duration::ZERO && pause <= LONGEST);
                span = (span * 2).min(LONGEST);
            }
            backoff.succeeded("again");
            prop_assert!(backoff.next_pause() <= FIRST);
        }
    }

    #[test]
    fn agents_that_lost_the_collector_together_do_not_come_back_together() {
        let mut first: Vec<_> = (0..100)
            .map(|run| Backoff::new(1_790_000_000_000_000_000 + run).next_pause())
            .collect();
        first.sort();
        first.dedup();
        assert!(first.len() > 90, "{} different pauses", first.len());
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ_between_agents() {
        let (mut a, mut b) = (Backoff::new(1), Backoff::new(2));
        let pauses: Vec<_> = (0..20).map(|_| a.next_pause()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses.iter().all(|p| *p <= LONGEST));
        assert!(pauses[19] >= LONGEST / 2);
        assert_ne!(pauses[19], (0..20).map(|_| b.next_pause()).last().unwrap());
    }
}
