//! Time as integer nanoseconds, with the clock in the type.
//!
//! Two readings can only be subtracted when they come from the same clock:
//!
//! ```compile_fail
//! use hopgap_proto::time::{Mono, Wall};
//! let _ = Mono::from_nanos(2) - Wall::from_nanos(1);
//! ```
//!
//! Conversions to the on-wire formats of STAMP (NTP 32.32 and truncated PTPv2,
//! RFC 8762 section 4.2.1) live in [`wire`].

mod span;
pub mod wire;

pub use span::{ParseSpanError, Span};

use core::fmt;
use core::ops::{Add, AddAssign, Sub, SubAssign};
use serde::{Deserialize, Serialize};

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// The clock's zero.
            pub const ZERO: Self = Self(0);
            /// The earliest instant that can be expressed.
            pub const MIN: Self = Self(i64::MIN);
            /// The latest instant that can be expressed.
            pub const MAX: Self = Self(i64::MAX);

            /// An instant `nanos` nanoseconds after the clock's zero.
            pub const fn from_nanos(nanos: i64) -> Self {
                Self(nanos)
            }

            /// Nanoseconds since the clock's zero.
            pub const fn as_nanos(self) -> i64 {
                self.0
            }

            /// The time from `earlier` to `self`, zero where `earlier` is later.
            pub fn saturating_since(self, earlier: Self) -> Span {
                Span::from_nanos(self.0.saturating_sub(earlier.0).max(0))
            }
        }

        // Instants saturate: a reading from the network must not be able to panic.
        impl Add<Span> for $name {
            type Output = Self;
            fn add(self, rhs: Span) -> Self {
                Self(self.0.saturating_add(rhs.as_nanos()))
            }
        }
        impl AddAssign<Span> for $name {
            fn add_assign(&mut self, rhs: Span) {
                *self = *self + rhs;
            }
        }
        impl Sub<Span> for $name {
            type Output = Self;
            fn sub(self, rhs: Span) -> Self {
                Self(self.0.saturating_sub(rhs.as_nanos()))
            }
        }
        impl SubAssign<Span> for $name {
            fn sub_assign(&mut self, rhs: Span) {
                *self = *self - rhs;
            }
        }
        impl Sub for $name {
            type Output = Span;
            fn sub(self, rhs: Self) -> Span {
                Span::from_nanos(self.0.saturating_sub(rhs.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

instant! {
    /// A reading of one host's `CLOCK_MONOTONIC`, in nanoseconds since that
    /// host's boot. Never stepped; not comparable between hosts or boots.
    Mono
}

instant! {
    /// A reading of one host's `CLOCK_REALTIME`, in nanoseconds since
    /// 1970-01-01T00:00:00 UTC. May be stepped; comparable between hosts only
    /// as far as both clocks are synchronised.
    Wall
}

/// The same instant read from both clocks of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClockPair {
    /// The monotonic reading.
    pub mono: Mono,
    /// The wall-clock reading taken at the same instant.
    pub wall: Wall,
}

impl ClockPair {
    /// `mono` on this host's wall clock, valid while the wall clock is not stepped.
    pub fn wall_of(self, mono: Mono) -> Wall {
        self.wall + (mono - self.mono)
    }

    /// `wall` on this host's monotonic clock, valid while the wall clock is not stepped.
    pub fn mono_of(self, wall: Wall) -> Mono {
        self.mono + (wall - self.wall)
    }

    /// Wall minus monotonic. It changes only when the wall clock is stepped
    /// (slewing acts on both clocks alike).
    pub fn offset(self) -> Span {
        Span::from_nanos(self.wall.as_nanos().saturating_sub(self.mono.as_nanos()))
    }
}

#[cfg(test)]
mod tests;
