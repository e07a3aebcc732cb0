//! When to send: an absolute grid that is never caught up in a burst.
//!
//! Slot `k` of flow `i` of `n` is due at `origin + interval·k + interval·i/n`, so
//! that the flows take turns evenly. A slot that is still unsent when the same
//! flow's next one is due is left out and reported: at most one packet of each
//! flow goes out at one waking, however late it comes.

use hopgap_proto::record::FlowIndex;
use hopgap_proto::time::{Mono, Span};

/// The grid of one session.
#[derive(Clone, Debug)]
pub struct Grid {
    origin: Mono,
    interval: Span,
    flows: u8,
    /// Slots in the order of their time, over all flows: tick `t` is slot `t / n` of flow `t mod n`.
    tick: i128,
}

/// A slot that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Whose turn it is.
    pub flow: FlowIndex,
    /// The flow's slot number, from 0, counting those that were left out.
    pub number: i64,
    /// When it was due.
    pub due: Mono,
}

/// Slots of one flow that were left out, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The flow.
    pub flow: FlowIndex,
    /// When the first of them was due.
    pub first: Mono,
    /// How many.
    pub count: u32,
}

impl Grid {
    /// A grid that begins at `origin`. An interval below 1 ns counts as 1 ns, no flows as one.
    pub fn new(origin: Mono, interval: Span, flows: u8) -> Self {
        Self {
            origin,
            interval: interval.max(Span::from_nanos(1)),
            flows: flows.max(1),
            tick: 0,
        }
    }

    /// Time between two slots of one flow.
    pub fn interval(&self) -> Span {
        self.interval
    }

    /// When the next slot of any flow is due.
    pub fn next_due(&self) -> Mono {
        self.due_of(self.tick)
    }

    /// Takes the earliest slot that is due at `now` and not missed; `None` when
    /// there is none. Missed slots are handed to `skipped` first, oldest first.
    pub fn take_due(&mut self, now: Mono, mut skipped: impl FnMut(Skipped)) -> Option<Slot> {
        let newest = self.newest_due(now)?;
        let flows = i128::from(self.flows);
        let keep_from = newest - flows + 1;
        if self.tick < keep_from {
            for first in self.tick..keep_from.min(self.tick + flows) {
                let count = (keep_from - first + flows - 1) / flows;
                skipped(Skipped {
                    flow: self.flow_of(first),
                    first: self.due_of(first),
                    count: u32::try_from(count).unwrap_or(u32::MAX),
                });
            }
            self.tick = keep_from;
        }
        let slot = Slot {
            flow: self.flow_of(self.tick),
            number: i64::try_from(self.tick / flows).unwrap_or(i64::MAX),
            due: self.next_due(),
        };
        self.tick += 1;
        Some(slot)
    }

    /// Returns the newest tick due at `now`; `None` if it is already taken.
    fn newest_due(&self, now: Mono) -> Option<i128> {
        if now < self.next_due() {
            return None;
        }
        // Due times are rounded down to the nanosecond: tick t is due where
        // t·interval/n < elapsed + 1.
        let elapsed = i128::from((now - self.origin).as_nanos());
        let (flows, interval) = (i128::from(self.flows), i128::from(self.interval.as_nanos()));
        Some(((elapsed + 1) * flows - 1) / interval)
    }

    fn due_of(&self, tick: i128) -> Mono {
        let nanos = tick * i128::from(self.interval.as_nanos()) / i128::from(self.flows);
        self.origin + Span::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn flow_of(&self, tick: i128) -> FlowIndex {
        FlowIndex(u8::try_from(tick % i128::from(self.flows)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
