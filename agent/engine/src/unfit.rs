//! Counts of ICMP errors, and of replies to traceroute packets, that match nothing that was
//! sent. They are reported, but nothing is concluded from them.

use hopgap_proto::record::{Event, EventKind, UnfitIcmp};
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;

/// How often the counts are reported.
const EVERY: Span = Span::from_secs(1);

/// Counts that are not reported yet, and when the last report was.
#[derive(Debug)]
pub(crate) struct UnfitCounts {
    counts: BTreeMap<UnfitIcmp, u32>,
    told: Mono,
}

impl UnfitCounts {
    pub(crate) const fn new() -> Self {
        Self {
            counts: BTreeMap::new(),
            told: Mono::MIN,
        }
    }

    pub(crate) fn count(&mut self, what: UnfitIcmp) {
        self.count_all(what, 1);
    }

    pub(crate) fn count_all(&mut self, what: UnfitIcmp, number: u32) {
        let count = self.counts.entry(what).or_default();
        *count = count.saturating_add(number);
    }

    /// Reports the counts, at most once a second, or at the `end`.
    pub(crate) fn report(&mut self, now: Mono, end: bool, mut record: impl FnMut(Event)) {
        if self.counts.is_empty() || (!end && now.saturating_since(self.told) < EVERY) {
            return;
        }
        self.told = now;
        for (what, count) in core::mem::take(&mut self.counts) {
            record(Event {
                at: now,
                kind: EventKind::UnfitIcmp { what, count },
            });
        }
    }
}
