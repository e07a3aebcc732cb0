//! Noticing that this program itself stood still.
//!
//! A shell looks at its clock at least ten times a second. Where it did not for much longer,
//! its process was stopped (SIGSTOP), its host had no processor to spare, or the host as a
//! whole stood still (a suspended or migrating virtual machine). Nothing was sent and
//! nothing answered meanwhile, and that is no fault of any path.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{Mono, Span};

/// A shell that wakes late on a busy machine is late by tens of milliseconds.
const STALL: Span = Span::from_millis(500);

/// When a thread last looked at its clock.
#[derive(Debug)]
pub struct Watch(Mono);

impl Watch {
    /// Begins at `now`.
    pub const fn new(now: Mono) -> Self {
        Self(now)
    }

    /// To be called at every waking, ten times a second or more often; what is to be
    /// recorded where that was not so.
    pub fn look(&mut self, now: Mono) -> Option<Event> {
        let since = core::mem::replace(&mut self.0, now);
        (now - since > STALL).then_some(Event {
            at: now,
            kind: EventKind::Stalled { since },
        })
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
        let mut watch = Watch::new(at(0));
        assert_eq!(watch.look(at(100)), None);
        assert_eq!(watch.look(at(350)), None);
        let stalled = Event {
            at: at(5_350),
            kind: EventKind::Stalled { since: at(350) },
        };
        assert_eq!(watch.look(at(5_350)), Some(stalled));
        assert_eq!(watch.look(at(5_450)), None);
    }
}
