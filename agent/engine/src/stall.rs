//! Noticing that this program itself stood still.
//!
//! A shell looks at its clock at least ten times a second. If it did not for much longer, its
//! process was stopped (SIGSTOP), its host had no processor to spare, or the host as a whole
//! stood still (a suspended or migrating virtual machine). Meanwhile it sent and answered
//! nothing, which is no fault of any path.
//!
//! The monotonic clock stops while the host is suspended, so it shows no gap.
//! `CLOCK_BOOTTIME`, which counts sleep, is then further ahead of it than before.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{Mono, Span};

/// A longer time between two looks is a stall: on a busy machine a shell wakes tens of
/// milliseconds late, not more.
const STALL: Span = Span::from_millis(500);

/// A longer sleep is a suspension: readings of two clocks differ by microseconds, and no host
/// sleeps for less.
const SLEEP: Span = Span::from_millis(100);

/// When a thread last looked at its clocks.
#[derive(Debug)]
pub struct Watch {
    last: Mono,
    /// How long its host had slept since it was booted.
    asleep: Span,
}

impl Watch {
    /// Begins at `now`, when the host had slept for `asleep` since it was booted.
    pub const fn new(now: Mono, asleep: Span) -> Self {
        Self { last: now, asleep }
    }

    /// Call it at every waking, at least ten times a second. Returns the event to record if
    /// the program stalled or the host slept.
    pub fn look(&mut self, now: Mono, asleep: Span) -> Option<Event> {
        let since = core::mem::replace(&mut self.last, now);
        let lasted = asleep - self.asleep;
        self.asleep = self.asleep.max(asleep);
        let kind = if lasted > SLEEP {
            EventKind::Suspended { since, lasted }
        } else if now - since > STALL {
            EventKind::Stalled { since }
        } else {
            return None;
        };
        Some(Event { at: now, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::Watch;
    use hopgap_proto::record::{Event, EventKind};
    use hopgap_proto::time::{Mono, Span};

    #[test]
    fn a_late_waking_is_no_stall_and_a_stop_is_one() {
        let at = |ms| Mono::from_nanos(7_000_000_000) + Span::from_millis(ms);
        let mut watch = Watch::new(at(0), Span::ZERO);
        assert_eq!(watch.look(at(100), Span::ZERO), None);
        assert_eq!(watch.look(at(350), Span::ZERO), None);
        let stalled = Event {
            at: at(5_350),
            kind: EventKind::Stalled { since: at(350) },
        };
        assert_eq!(watch.look(at(5_350), Span::ZERO), Some(stalled));
        assert_eq!(watch.look(at(5_450), Span::ZERO), None);
    }

    #[test]
    fn a_sleep_is_told_once_although_the_clock_stood_still() {
        let at = |ms| Mono::from_nanos(7_000_000_000) + Span::from_millis(ms);
        // The host had slept before the agent began.
        let (before, slept) = (Span::from_secs(3_600), Span::from_secs(3_630));
        let mut watch = Watch::new(at(0), before);
        assert_eq!(watch.look(at(100), before), None);
        // A reading that was interrupted says less.
        assert_eq!(watch.look(at(150), before - Span::from_millis(700)), None);
        assert_eq!(watch.look(at(160), before + Span::from_micros(3)), None);
        let suspended = Event {
            at: at(170),
            kind: EventKind::Suspended {
                since: at(160),
                lasted: Span::from_secs(30) - Span::from_micros(3),
            },
        };
        assert_eq!(watch.look(at(170), slept), Some(suspended));
        assert_eq!(watch.look(at(180), slept), None);
    }
}
