//! The two clocks of a session: converts stamps from one to the other, and records readings.

use super::Session;
use hopgap_net::clock::{Clock, ClockStep, ClockTracker, kernel_sync_state};
use hopgap_proto::record::{ClockReading, Event, EventKind, Stamp, StampSource};
use hopgap_proto::stamp::{ErrorEstimate, TimestampFormat};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

impl Session {
    /// Records both clocks, and tells the engine how far the wall clock can be trusted.
    pub(super) fn read_clocks(&mut self) {
        if let Some(step) = self.clock.observe(Clock::read()) {
            self.batch.events.push(step_event(step));
        }
        let reading = clock_reading(self.clock.pair());
        self.batch.events.push(Event {
            at: reading.pair.mono,
            kind: EventKind::Clock(reading),
        });
        let error_estimate = error_estimate();
        self.sender.set_error_estimate(error_estimate);
        if let Some(tracer) = &mut self.tracer {
            tracer.set_error_estimate(error_estimate);
        }
        if let Some(path_mtu) = &mut self.path_mtu {
            path_mtu.set_error_estimate(error_estimate);
        }
    }
}

/// Converts the kernel's stamps to the monotonic clock. Made after a fetch and before its
/// messages are read, so that every stamp is older than the clock reading.
pub(crate) struct Stamps<'a> {
    clock: &'a mut ClockTracker,
    pub(crate) events: &'a mut Vec<Event>,
    fetched: bool,
    last_wake: Mono,
}

impl<'a> Stamps<'a> {
    pub(crate) fn new(clock: &'a mut ClockTracker, events: &'a mut Vec<Event>) -> Self {
        let last_wake = clock.pair().mono;
        Self {
            clock,
            events,
            fetched: false,
            last_wake,
        }
    }

    pub(crate) fn mono_of(&mut self, stamp: Wall) -> Option<Stamp> {
        if !self.fetched {
            self.fetched = true;
            if let Some(step) = self.clock.observe(Clock::read()) {
                self.events.push(step_event(step));
            }
        }
        let mono = self.clock.mono_of(stamp, self.last_wake).or_else(|| {
            // A later message of the same fetch, stamped after the reading.
            if let Some(step) = self.clock.observe(Clock::read()) {
                self.events.push(step_event(step));
            }
            self.clock.mono_of(stamp, self.last_wake)
        })?;
        Some(Stamp {
            at: mono,
            source: StampSource::Kernel,
        })
    }

    /// Returns the kernel's stamp on the monotonic clock. Without one, or where a step of the
    /// wall clock makes it useless, returns the program's own time, marked as such.
    pub(crate) fn of(&mut self, stamp: Option<Wall>) -> Stamp {
        stamp
            .and_then(|stamp| self.mono_of(stamp))
            .unwrap_or_else(|| Stamp {
                at: Clock::now(),
                source: StampSource::User,
            })
    }
}

fn step_event(step: ClockStep) -> Event {
    Event {
        at: step.at,
        kind: EventKind::ClockStepped(step.by),
    }
}

/// Returns both clocks and the kernel's synchronisation state; not synchronised where that
/// is unknown.
pub fn clock_reading(pair: ClockPair) -> ClockReading {
    let (synchronised, max_error) = match kernel_sync_state() {
        Ok(state) => (state.synchronised, state.max_error),
        Err(_) => (false, Span::ZERO),
    };
    ClockReading {
        pair,
        synchronised,
        max_error,
    }
}

/// Returns the STAMP Error Estimate that follows from the kernel's state of the wall clock.
pub fn error_estimate() -> ErrorEstimate {
    let format = TimestampFormat::Ntp;
    match kernel_sync_state() {
        Ok(state) if state.synchronised => {
            ErrorEstimate::from_error(state.max_error, format).with_synchronised(true)
        }
        // The clock may be arbitrarily wrong: uses the largest error, and S=0.
        _ => ErrorEstimate::from_error(Span::MAX, format),
    }
}
