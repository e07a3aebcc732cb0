//! The two clocks of a host, and the difference between them.
//!
//! Packets are scheduled by `CLOCK_MONOTONIC` and stamped by the kernel with
//! `CLOCK_REALTIME`. Slewing acts on both alike, so that their difference changes only when
//! the wall clock is *stepped* (`settimeofday`, a leap second, a resume from suspend).
//! [`ClockTracker`] keeps the difference before and after a step and uses it to convert the
//! kernel's stamps to the monotonic clock.

use crate::sys;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use std::io;

/// Readings of this host's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock;

impl Clock {
    /// The monotonic clock.
    pub fn now() -> Mono {
        sys::clock::mono()
    }

    /// The wall clock.
    pub fn wall() -> Wall {
        sys::clock::wall()
    }

    /// Returns how long this host has slept (was suspended) since it was booted: a lower
    /// bound, which never grows by more than the host slept.
    pub fn asleep() -> Span {
        let once = || asleep_between(sys::clock::boot(), sys::clock::mono());
        // An interrupted reading is too low, never too high.
        once().max(once())
    }

    /// Reads both clocks, and how closely together: the narrowest of three readings.
    pub fn read() -> Reading {
        let mut best = Reading::once();
        for _ in 0..2 {
            let next = Reading::once();
            if next.width() < best.width() {
                best = next;
            }
        }
        best
    }

    /// Both clocks at one instant, to within a fraction of a microsecond.
    pub fn pair() -> ClockPair {
        Self::read().pair()
    }

    /// Reads both clocks once: as close as [`pair`](Self::pair) unless the thread was
    /// preempted in between. For the time that a packet carries of itself, where reading
    /// thrice would cost more than the packet.
    pub fn pair_at_once() -> ClockPair {
        Reading::once().pair()
    }
}

/// Returns how far the clock that counts sleep is ahead of the other, which was read after
/// it. The result is too low by the time between the two readings.
fn asleep_between(boot: Mono, mono: Mono) -> Span {
    boot - mono
}

/// The wall clock read between two readings of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Before.
    pub before: Mono,
    /// Between.
    pub wall: Wall,
    /// After; never less than `before`.
    pub after: Mono,
}

impl Reading {
    fn once() -> Self {
        Self {
            before: sys::clock::mono(),
            wall: sys::clock::wall(),
            after: sys::clock::mono(),
        }
    }

    /// The uncertainty of the instant of the wall clock's reading.
    pub fn width(&self) -> Span {
        self.after - self.before
    }

    /// The reading as a pair, placed in the middle: wrong by at most half the width.
    pub fn pair(&self) -> ClockPair {
        let half = Span::from_nanos(self.width().as_nanos() / 2);
        ClockPair {
            mono: self.before + half,
            wall: self.wall,
        }
    }

    /// Returns the range of the wall clock minus the monotonic clock.
    fn offset(&self) -> Offset {
        let minus = |mono: Mono| self.wall.as_nanos().saturating_sub(mono.as_nanos());
        Offset {
            low: minus(self.after),
            high: minus(self.before),
        }
    }
}

/// Wall minus monotonic in nanoseconds, as a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    low: i64,
    high: i64,
}

impl Offset {
    fn middle(self) -> i64 {
        self.low.midpoint(self.high)
    }

    /// Returns what both ranges have in common.
    fn intersection(self, other: Self) -> Option<Self> {
        let both = Self {
            low: self.low.max(other.low),
            high: self.high.min(other.high),
        };
        (both.low <= both.high).then_some(both)
    }

    /// Returns the distance between two ranges that do not meet.
    fn gap(self, other: Self) -> i64 {
        other
            .low
            .saturating_sub(self.high)
            .max(self.low.saturating_sub(other.high))
    }

    fn mono_of(self, wall: Wall) -> Mono {
        Mono::from_nanos(wall.as_nanos().saturating_sub(self.middle()))
    }
}

/// The wall clock was stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// The last instant at which it was seen unstepped.
    pub after: Mono,
    /// The first instant at which it was seen stepped.
    pub at: Mono,
    /// By how much: positive where the wall clock was set forward.
    pub by: Span,
}

/// Follows the difference between the wall clock and the monotonic clock.
///
/// On every wake: fetch the packets and stamps that are there, *then* give
/// [`observe`](Self::observe) a reading, then convert the stamps with
/// [`mono_of`](Self::mono_of). So every stamp is older than the last reading, and was taken
/// either before or after the last step.
#[derive(Clone, Debug)]
pub struct ClockTracker {
    offset: Offset,
    last: Mono,
    step: Option<Before>,
}

/// The offset before the last step, and that step.
#[derive(Clone, Copy, Debug)]
struct Before {
    offset: Offset,
    step: ClockStep,
}

impl ClockTracker {
    /// A change of the offset up to this much beyond the readings' widths is taken for a
    /// disturbed reading, not for a step.
    pub const STEP_MIN: Span = Span::from_nanos(5_000);

    /// How much later than the following reading a stamp may seem.
    const SLACK: Span = Span::from_nanos(5_000);

    /// Starts from a first reading.
    pub fn new(reading: Reading) -> Self {
        Self {
            offset: reading.offset(),
            last: reading.after,
            step: None,
        }
    }

    /// Takes a new reading. Returns the step if the wall clock was stepped since the last one.
    pub fn observe(&mut self, reading: Reading) -> Option<ClockStep> {
        let seen = reading.offset();
        let after = std::mem::replace(&mut self.last, reading.after);
        if let Some(both) = self.offset.intersection(seen) {
            self.offset = both;
            return None;
        }
        let before = std::mem::replace(&mut self.offset, seen);
        if before.gap(seen) <= Self::STEP_MIN.as_nanos() {
            return None;
        }
        let by = Span::from_nanos(seen.middle().saturating_sub(before.middle()));
        let step = ClockStep {
            after,
            at: reading.after,
            by,
        };
        self.step = Some(Before {
            offset: before,
            step,
        });
        Some(step)
    }

    /// Returns when `stamp` was taken, on the monotonic clock; `None` where no known offset
    /// puts the stamp before the last reading.
    ///
    /// `last_wake` is when the caller last fetched stamps. Around a step, a stamp is expected
    /// to be newer than that, which decides between the offsets. A stamp left over from
    /// before is taken as well.
    pub fn mono_of(&self, stamp: Wall, last_wake: Mono) -> Option<Mono> {
        let latest = self.last + Self::SLACK;
        let now = self.offset.mono_of(stamp);
        let Some(Before { offset, step }) = self.step else {
            return (now <= latest).then_some(now);
        };
        let then = offset.mono_of(stamp);
        // With the right offset a stamp falls on its own side of the step.
        let now_fits = now + Self::SLACK >= step.after && now <= latest;
        let then_fits = then <= step.at + Self::SLACK;
        match (now_fits, then_fits) {
            (true, true) => Some(if now < last_wake && then >= last_wake {
                then
            } else {
                now
            }),
            (true, false) => Some(now),
            (false, true) => Some(then),
            (false, false) => None,
        }
    }

    /// Both clocks as of the last reading.
    pub fn pair(&self) -> ClockPair {
        let wall = self.last.as_nanos().saturating_add(self.offset.middle());
        ClockPair {
            mono: self.last,
            wall: Wall::from_nanos(wall),
        }
    }

    /// How far [`pair`](Self::pair) can be wrong.
    pub fn uncertainty(&self) -> Span {
        let width = self.offset.high.saturating_sub(self.offset.low);
        Span::from_nanos(width.saturating_add(1) / 2)
    }
}

/// What the kernel knows of the wall clock's synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncState {
    /// A synchronisation daemon has vouched for the clock. An STAMP packet's S bit
    /// (RFC 8762, section 4.2.1) may be set only then.
    pub synchronised: bool,
    /// Bound of the clock's error. It grows while nothing corrects the clock and is
    /// meaningless while `synchronised` is false.
    pub max_error: Span,
    /// Estimate of the error, as the daemon set it. Some never set it and leave it 0.
    pub est_error: Span,
}

/// Asks the kernel for the clock's state (`adjtimex`), and changes nothing.
///
/// # Errors
/// The kernel's, where a sandbox forbids the question.
pub fn kernel_sync_state() -> io::Result<SyncState> {
    let sys::clock::Discipline {
        synchronised,
        max_error,
        est_error,
    } = sys::clock::discipline()?;
    Ok(SyncState {
        synchronised,
        max_error,
        est_error,
    })
}

#[cfg(test)]
mod tests;
