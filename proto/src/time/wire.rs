//! The two timestamp formats of STAMP (RFC 8762 section 4.2.1): NTP 32.32
//! (RFC 5905 section 6) and truncated PTPv2 (IEEE 1588-2008, RFC 8186).

use super::Wall;

/// Seconds from the NTP epoch (1900-01-01) to the Unix epoch.
const NTP_UNIX_OFFSET: i64 = 2_208_988_800;
const NANOS: i64 = 1_000_000_000;

/// NTP's 64-bit timestamp: seconds since 1900 modulo 2^32 and a binary fraction.
/// Its unit is 2^-32 s, about 0.23 ns; it wraps in 2036 and every 136 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTimestamp(pub u64);

/// PTPv2's timestamp truncated to 64 bits: seconds modulo 2^32 and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PtpTimestamp(pub u64);

impl NtpTimestamp {
    /// The first timestamp not before `wall`, so at most 2^-32 s after it.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the seconds are taken modulo 2^32 by definition; the fraction is below 2^32"
    )]
    pub fn from_wall(wall: Wall) -> Self {
        let seconds = wall
            .as_nanos()
            .div_euclid(NANOS)
            .wrapping_add(NTP_UNIX_OFFSET) as u32;
        let nanos = wall.as_nanos().rem_euclid(NANOS) as u64;
        // Rounded up, so that truncation on the way back returns the same nanosecond.
        let fraction = ((nanos << 32).div_ceil(1_000_000_000)) as u32;
        Self((u64::from(seconds) << 32) | u64::from(fraction))
    }

    /// The instant meant, in the era (136 years) whose middle is nearest to `near`.
    #[expect(clippy::cast_possible_wrap, reason = "both halves are below 2^32")]
    pub fn to_wall(self, near: Wall) -> Wall {
        let seconds = (self.0 >> 32) as i64 - NTP_UNIX_OFFSET;
        let nanos = ((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        unwrap_era(seconds, nanos as i64, near)
    }
}

impl PtpTimestamp {
    /// The timestamp of `wall`, exact to the nanosecond, modulo 2^32 s.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the seconds are taken modulo 2^32 by definition; the nanoseconds are below 10^9"
    )]
    pub fn from_wall(wall: Wall) -> Self {
        let seconds = wall.as_nanos().div_euclid(NANOS) as u32;
        let nanos = wall.as_nanos().rem_euclid(NANOS) as u32;
        Self((u64::from(seconds) << 32) | u64::from(nanos))
    }

    /// The instant meant, in the 2^32 s whose middle is nearest to `near`.
    /// Nanoseconds beyond 10^9, which no sender should write, carry over.
    #[expect(clippy::cast_possible_wrap, reason = "both halves are below 2^32")]
    pub fn to_wall(self, near: Wall) -> Wall {
        unwrap_era((self.0 >> 32) as i64, (self.0 & 0xffff_ffff) as i64, near)
    }
}

fn unwrap_era(seconds: i64, nanos: i64, near: Wall) -> Wall {
    const ERA: i64 = 1 << 32;
    let near_seconds = near.as_nanos().div_euclid(NANOS);
    let behind = near_seconds - seconds;
    // Round to the nearest whole number of eras.
    let eras = (behind + ERA / 2).div_euclid(ERA);
    Wall::from_nanos(
        (seconds + eras * ERA)
            .saturating_mul(NANOS)
            .saturating_add(nanos),
    )
}
