//! Times as whole numbers of a session's time unit.

use super::BlockError;
use crate::time::Span;

/// A time unit, 1 ns to 1 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit(u32);

impl Unit {
    pub(super) fn new(span: Span) -> Result<Self, BlockError> {
        match u32::try_from(span.as_nanos()) {
            Ok(nanos @ 1..=1_000_000_000) => Ok(Self(nanos)),
            _ => Err(BlockError::Unit(span)),
        }
    }

    pub(super) fn nanos_u32(self) -> u32 {
        self.0
    }

    /// The nearest whole number of units; a half goes up.
    pub(super) fn count(self, nanos: i64) -> i64 {
        let unit = i64::from(self.0);
        // For one nanosecond, division would be wasted on every row.
        if unit == 1 {
            return nanos;
        }
        let (whole, rest) = (nanos.div_euclid(unit), nanos.rem_euclid(unit));
        whole + i64::from(rest * 2 >= unit)
    }

    /// Converts units to nanoseconds; saturates beyond 292 years.
    pub(super) fn nanos(self, count: i64) -> i64 {
        count.saturating_mul(i64::from(self.0))
    }
}
