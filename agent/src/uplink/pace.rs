//! Limits the rate at which a backlog is delivered.
//!
//! After an outage of the uplink the spool may hold hours of records, and the way to
//! the collector is often the very path that is measured: sent at once, they would fill
//! its queues and delay the probes. A bucket limits them to a rate. Bytes recorded
//! meanwhile are added to the bucket. So a backlog shrinks by the whole rate, however
//! much is recorded, and an agent without a backlog never waits.

use hopgap_proto::time::{Mono, Span};

/// A bucket of bytes that may be sent. Each call passes the time.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may be sent now; negative while a delivery is being paid off.
    credit: i64,
    /// Most credit after an idle time, in bytes.
    burst: i64,
    refilled: Mono,
    /// Bytes that the spool has taken so far.
    recorded: u64,
}

impl Pace {
    /// Makes a bucket of `rate` bytes a second; after an idle time `burst` bytes may go at once.
    pub(super) fn new(rate: u64, burst: usize, now: Mono) -> Self {
        let burst = i64::try_from(burst).unwrap_or(i64::MAX);
        Self {
            rate: rate.max(1),
            credit: burst,
            burst,
            refilled: now,
            recorded: 0,
        }
    }

    /// Returns how long to wait before the next delivery; `recorded` is how many bytes were
    /// recorded so far.
    pub(super) fn wait(&mut self, recorded: u64, now: Mono) -> Span {
        let since = now.saturating_since(self.refilled).as_nanos();
        let earned = i128::from(since) * i128::from(self.rate) / 1_000_000_000;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        if earned > 0 {
            self.refilled = now;
        }
        let own = recorded.saturating_sub(self.recorded);
        self.recorded = self.recorded.max(recorded);
        let own = i64::try_from(own).unwrap_or(i64::MAX);
        let full = self.credit.saturating_add(earned).saturating_add(own);
        self.credit = full.min(self.burst.max(self.credit));
        if self.credit >= 0 {
            return Span::ZERO;
        }
        let owed = u128::from(self.credit.unsigned_abs()) * 1_000_000_000;
        let wait = owed.div_ceil(u128::from(self.rate));
        Span::from_nanos(i64::try_from(wait).unwrap_or(i64::MAX))
    }

    /// Notes that bytes were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use hopgap_proto::time::{Mono, Span};
    use proptest::prelude::*;

    const RATE: u64 = 1_000_000;
    const BATCH: usize = 100_000;

    /// Sends without a pause for `span`, while `recorded` bytes a second come in; how
    /// many bytes went.
    fn flood(pace: &mut Pace, from: Mono, span: Span, recorded: u64) -> u64 {
        let (mut now, mut sent) = (from, 0);
        while now < from + span {
            let so_far = u64::try_from((now - Mono::ZERO).as_nanos()).unwrap() / 1_000_000;
            let wait = pace.wait(so_far * recorded / 1_000, now);
            if wait > Span::ZERO {
                now += wait;
                continue;
            }
            // Sending takes time, too.
            now += Span::from_micros(1);
            pace.sent(BATCH);
            sent += BATCH as u64;
        }
        sent
    }

    #[test]
    fn a_backlog_goes_at_the_rate() {
        let mut pace = Pace::new(RATE, BATCH, Mono::ZERO);
        let sent = flood(&mut pace, Mono::ZERO, Span::from_secs(100), 0);
        let most = 100 * RATE + 2 * BATCH as u64;
        assert!((100 * RATE..=most).contains(&sent), "{sent}");
    }

    #[test]
    fn what_is_recorded_meanwhile_goes_on_top() {
        // Room for what comes in while a delivery is paid off.
        let mut pace = Pace::new(RATE, 10 * BATCH, Mono::ZERO);
        let sent = flood(&mut pace, Mono::ZERO, Span::from_secs(100), 3 * RATE);
        assert!((399 * RATE..=401 * RATE).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_backlog_nothing_waits() {
        let mut pace = Pace::new(1_000, BATCH, Mono::ZERO);
        let mut now = Mono::ZERO;
        for i in 1..=1_000 {
            now += Span::from_millis(1);
            // Far more than the rate, and each sent as it comes.
            assert_eq!(pace.wait(i * 50_000, now), Span::ZERO, "{i}");
            pace.sent(50_000);
        }
    }

    #[test]
    fn an_idle_time_leaves_one_burst() {
        let mut pace = Pace::new(RATE, BATCH, Mono::ZERO);
        let later = Mono::ZERO + Span::from_secs(3_600);
        let sent = flood(&mut pace, later, Span::from_millis(1), 0);
        assert!(sent <= 2 * BATCH as u64 + 1_000, "{sent}");
    }

    proptest! {
        /// Whatever is sent and however often it is asked, no stretch of time sends more
        /// than the rate, a burst and one delivery; and what it says to wait is enough.
        #[test]
        fn no_stretch_exceeds_the_rate(
            rate in 1_000u64..100_000_000,
            steps in prop::collection::vec((1usize..2_000_000, 0i64..2_000_000_000), 1..60),
        ) {
            let mut pace = Pace::new(rate, BATCH, Mono::ZERO);
            let (mut now, mut sent, mut largest) = (Mono::ZERO, 0u128, 0u128);
            for (bytes, pause) in steps {
                now += Span::from_nanos(pause);
                let wait = pace.wait(0, now);
                if wait > Span::ZERO {
                    now += wait;
                    prop_assert_eq!(pace.wait(0, now), Span::ZERO);
                }
                pace.sent(bytes);
                sent += bytes as u128;
                largest = largest.max(bytes as u128);
                let nanos = u128::try_from((now - Mono::ZERO).as_nanos()).unwrap();
                let allowed = nanos * u128::from(rate) / 1_000_000_000;
                prop_assert!(sent <= allowed + BATCH as u128 + largest + 1);
            }
        }
    }
}
