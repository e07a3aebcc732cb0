//! Counts unanswered packets by reason.

use hopgap_proto::record::{DropReason, Event, EventKind};
use hopgap_proto::time::Mono;

const REASONS: [DropReason; 8] = [
    DropReason::Malformed,
    DropReason::Unauthenticated,
    DropReason::Unprovisioned,
    DropReason::LoopGuard,
    DropReason::RateLimited,
    DropReason::SendRefused,
    DropReason::Replayed,
    DropReason::Stranger,
];

/// Drops since the last report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drops([u32; REASONS.len()]);

impl Drops {
    pub(super) fn count(&mut self, reason: DropReason) {
        self.count_all(reason, 1);
    }

    pub(super) fn count_all(&mut self, reason: DropReason, more: u32) {
        for (count, of) in self.0.iter_mut().zip(REASONS) {
            if of == reason {
                *count = count.saturating_add(more);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Reports each reason's count and begins anew.
    pub(super) fn report(&mut self, at: Mono, mut record: impl FnMut(Event)) {
        for (count, reason) in self.0.iter_mut().zip(REASONS) {
            if *count > 0 {
                record(Event {
                    at,
                    kind: EventKind::ReflectorDropped {
                        reason,
                        count: *count,
                    },
                });
                *count = 0;
            }
        }
    }
}
