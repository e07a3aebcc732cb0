//! The collector's clock, read while an agent asked.

use crate::record::RunId;
use crate::time::{ClockPair, Mono, Span, Wall};
use core::fmt;
use core::str::FromStr;

/// Header of a plan request: a [`ClockExchange`], sent once for each hello before it.
pub const EXCHANGE_HEADER: &str = "hopgap-clock";

/// One request of an agent and the collector's clock in the answer. The collector's clock
/// showed [`collector`](Self::collector) at some instant between the two on the agent's
/// monotonic clock, because neither way took negative time (RFC 5905 section 10).
///
/// The text form is five whole numbers: run, sent, collector's clock, received on the agent's
/// monotonic clock and on its wall clock, the times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockExchange {
    /// The run of the agent's process.
    pub run: RunId,
    /// When the request was sent.
    pub sent: Mono,
    /// The collector's clock in the answer.
    pub collector: Wall,
    /// When the answer had arrived, on both of the agent's clocks.
    pub received: ClockPair,
}

impl ClockExchange {
    /// Returns the earliest and the latest that the collector's clock may have shown when the
    /// answer had arrived.
    pub fn bounds(&self) -> (Wall, Wall) {
        let took = self.received.mono.saturating_since(self.sent);
        (self.collector, self.collector + took)
    }

    /// Returns how far the agent's wall clock is ahead of the collector's, at least and at most.
    pub fn ahead(&self) -> (Span, Span) {
        let (earliest, latest) = self.bounds();
        (self.received.wall - latest, self.received.wall - earliest)
    }
}

impl fmt::Display for ClockExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {}",
            self.run.0,
            self.sent.as_nanos(),
            self.collector.as_nanos(),
            self.received.mono.as_nanos(),
            self.received.wall.as_nanos()
        )
    }
}

/// A header that is no exchange of clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not five whole numbers, the fourth no less than the second")]
pub struct ClockExchangeError;

impl FromStr for ClockExchange {
    type Err = ClockExchangeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut numbers = s.split(' ');
        let mut next = || numbers.next().ok_or(ClockExchangeError);
        let run = next()?.parse().map_err(|_| ClockExchangeError)?;
        let mut nanos = || -> Result<i64, ClockExchangeError> {
            next()?.parse().map_err(|_| ClockExchangeError)
        };
        let exchange = Self {
            run: RunId(run),
            sent: Mono::from_nanos(nanos()?),
            collector: Wall::from_nanos(nanos()?),
            received: ClockPair {
                mono: Mono::from_nanos(nanos()?),
                wall: Wall::from_nanos(nanos()?),
            },
        };
        let ordered = exchange.sent <= exchange.received.mono;
        if numbers.next().is_some() || !ordered {
            return Err(ClockExchangeError);
        }
        Ok(exchange)
    }
}

#[cfg(test)]
mod tests;
