//! A timestamp as it stands in a packet.

use crate::time::Wall;
use crate::time::wire::{NtpTimestamp, PtpTimestamp};

/// How a timestamp is written: the Z bit of the Error Estimate beside it
/// (RFC 8762 section 4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimestampFormat {
    /// Z = 0: NTP's 32.32 seconds since 1900. What every peer understands.
    #[default]
    Ntp,
    /// Z = 1: PTPv2's seconds and nanoseconds, truncated to 64 bits.
    Ptp,
}

/// A timestamp as it stands in a packet, with the format that gives it meaning.
/// The two ends of a session may use different formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// The 64 bits, as an integer.
    pub raw: u64,
    /// How to read them.
    pub format: TimestampFormat,
}

impl Timestamp {
    /// The timestamp of `wall`: to the nanosecond in both formats.
    pub fn from_wall(wall: Wall, format: TimestampFormat) -> Self {
        let raw = match format {
            TimestampFormat::Ntp => NtpTimestamp::from_wall(wall).0,
            TimestampFormat::Ptp => PtpTimestamp::from_wall(wall).0,
        };
        Self { raw, format }
    }

    /// Returns the instant meant. The formats repeat every 136 years: of the possible
    /// instants it is the one nearest to `near`.
    pub fn to_wall(self, near: Wall) -> Wall {
        match self.format {
            TimestampFormat::Ntp => NtpTimestamp(self.raw).to_wall(near),
            TimestampFormat::Ptp => PtpTimestamp(self.raw).to_wall(near),
        }
    }
}
