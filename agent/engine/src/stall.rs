//! Noticing that this program itself stood still.
//!
//! A shell looks at its clock at least ten times a second. Where it did not for much longer,
//! its process was stopped (SIGSTOP), its host had no processor to spare, or the host as a
//! whole stood still (a suspended or migrating virtual machine). Nothing was sent and
//! nothing answered meanwhile, and that is no fault of any path.
//!
//! While a host is suspended its monotonic clock stands still with it, and no gap shows on
//! that. The clock that counts sleep, `CLOCK_BOOTTIME`, is then ahead by more than before.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{Mono, Span};

/// A shell that wakes late on a busy machine is late by tens of milliseconds.
const STALL: Span = Span::from_millis(500);

/// Readings of two clocks differ by microseconds, and no host sleeps for less.
const SLEEP: Span = Span::from_millis(100);

/// When a thread last looked at its clocks.
#[derive(Debug)]
pub struct Watch {
    last: Mono,
    /// For how long its host had slept since it was booted.
    asleep: Span,
}

impl Watch {
    /// Begins at `now`, when the host had slept for so long since it was booted.
    pub const fn new(now: Mono, asleep: Span) -> Self {
        Self { last: now, asleep }
    }

    /// To be called at every waking, ten times a second or more often; what is to be
    /// recorded where that was not so.
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
