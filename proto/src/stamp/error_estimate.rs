//! How far a timestamp may be from true time (RFC 8762 section 4.2.1, RFC 4656
//! section 4.1.2, RFC 8186 section 2.3).

use super::TimestampFormat;
use crate::time::Span;
use core::num::NonZeroU8;

const SYNCHRONISED: u16 = 0x8000;
const PTP: u16 = 0x4000;
const MAX_SCALE: u8 = 63;
const NANOS: u128 = 1_000_000_000;

/// An Error Estimate: the error is Multiplier · 2^(Scale − 32) seconds.
///
/// A peer's claim is often untrue (most send 0x0001, a quarter of a nanosecond): it is shown,
/// but never used as a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorEstimate {
    synchronised: bool,
    format: TimestampFormat,
    scale: u8,
    multiplier: NonZeroU8,
}

/// An Error Estimate whose Multiplier is zero, which marks a corrupt packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Error Estimate with multiplier 0 marks a corrupt packet")]
pub struct ZeroMultiplier;

impl ErrorEstimate {
    /// The smallest estimate that is at least `error`, of a clock that is not
    /// synchronised to UTC. An error of nothing, or less, becomes 2^-32 s.
    pub fn from_error(error: Span, format: TimestampFormat) -> Self {
        // In units of 2^-32 s, rounded up. It fits: 2^63 ns · 2^32 < 2^95.
        let nanos = u128::from(error.as_nanos().max(0).unsigned_abs());
        let units = (nanos << 32).div_ceil(NANOS).max(1);
        let mut scale = 0;
        // The smallest scale has the finest steps, so its rounding up is least.
        while units.div_ceil(1 << scale) > 255 && scale < MAX_SCALE {
            scale += 1;
        }
        let multiplier = u8::try_from(units.div_ceil(1 << scale))
            .ok()
            .and_then(NonZeroU8::new)
            .unwrap_or(NonZeroU8::MAX);
        Self {
            synchronised: false,
            format,
            scale,
            multiplier,
        }
    }

    /// The same estimate with S set or cleared: whether the clock is
    /// synchronised to UTC by an external source, as the kernel knows.
    #[must_use]
    pub const fn with_synchronised(self, synchronised: bool) -> Self {
        Self {
            synchronised,
            ..self
        }
    }

    /// Reads the 16 bits S(1) Z(1) Scale(6) Multiplier(8).
    ///
    /// # Errors
    /// Where the Multiplier is zero: the packet is corrupt.
    pub const fn from_bits(bits: u16) -> Result<Self, ZeroMultiplier> {
        let [high, low] = bits.to_be_bytes();
        let Some(multiplier) = NonZeroU8::new(low) else {
            return Err(ZeroMultiplier);
        };
        Ok(Self {
            synchronised: bits & SYNCHRONISED != 0,
            format: if bits & PTP != 0 {
                TimestampFormat::Ptp
            } else {
                TimestampFormat::Ntp
            },
            scale: high & MAX_SCALE,
            multiplier,
        })
    }

    /// The 16 bits S(1) Z(1) Scale(6) Multiplier(8).
    pub const fn to_bits(self) -> u16 {
        let mut bits = u16::from_be_bytes([self.scale, self.multiplier.get()]);
        if self.synchronised {
            bits |= SYNCHRONISED;
        }
        if matches!(self.format, TimestampFormat::Ptp) {
            bits |= PTP;
        }
        bits
    }

    /// The error, rounded up to a nanosecond.
    pub fn as_span(self) -> Span {
        let units = u128::from(self.multiplier.get()) << self.scale;
        let nanos = (units * NANOS).div_ceil(1 << 32);
        i64::try_from(nanos).map_or(Span::MAX, Span::from_nanos)
    }

    /// S: whether the clock is said to be synchronised to UTC.
    pub const fn synchronised(self) -> bool {
        self.synchronised
    }

    /// Z: how the timestamps beside this estimate are written.
    pub const fn format(self) -> TimestampFormat {
        self.format
    }

    /// Scale, 0 to 63.
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// Multiplier, 1 to 255.
    pub const fn multiplier(self) -> u8 {
        self.multiplier.get()
    }
}
