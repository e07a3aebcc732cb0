//! A signed length of time, on no clock in particular.

use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signed length of time in nanoseconds. Arithmetic saturates.
///
/// Read from text as a number with a unit: `250us`, `1ms`, `1.5s`, `10m`, `1h`.
/// In self-describing formats (TOML, JSON) a span that is *configured* is that
/// text; spans that are *measured* are exported as integer nanoseconds by the
/// types that hold them, in fields whose names end in `_ns`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span that can be expressed, about 292 years.
    pub const MAX: Self = Self(i64::MAX);

    /// A span of `n` nanoseconds.
    pub const fn from_nanos(n: i64) -> Self {
        Self(n)
    }
    /// A span of `n` microseconds.
    pub const fn from_micros(n: i64) -> Self {
        Self(n.saturating_mul(1_000))
    }
    /// A span of `n` milliseconds.
    pub const fn from_millis(n: i64) -> Self {
        Self(n.saturating_mul(1_000_000))
    }
    /// A span of `n` seconds.
    pub const fn from_secs(n: i64) -> Self {
        Self(n.saturating_mul(1_000_000_000))
    }
    /// Its length in nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
    /// Its length in seconds, for display and plots only.
    #[expect(
        clippy::cast_precision_loss,
        reason = "for display; 2^53 ns is 104 days"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// Its length in milliseconds, for display and plots only.
    pub fn as_millis_f64(self) -> f64 {
        self.as_secs_f64() * 1e3
    }
    /// The span without its sign.
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
    /// Whether it runs backwards.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
    /// As the standard library's duration; `None` where it runs backwards.
    pub fn to_std(self) -> Option<core::time::Duration> {
        u64::try_from(self.0)
            .ok()
            .map(core::time::Duration::from_nanos)
    }
}

impl From<core::time::Duration> for Span {
    fn from(d: core::time::Duration) -> Self {
        Self(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}
impl AddAssign for Span {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}
impl Sub for Span {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}
impl SubAssign for Span {
    fn sub_assign(&mut self, rhs: Self) {
        *self = *self - rhs;
    }
}
impl Neg for Span {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}
impl Mul<i64> for Span {
    type Output = Self;
    fn mul(self, rhs: i64) -> Self {
        Self(self.0.saturating_mul(rhs))
    }
}
impl Div<i64> for Span {
    type Output = Self;
    /// Division by zero gives zero.
    fn div(self, rhs: i64) -> Self {
        Self(self.0.checked_div(rhs).unwrap_or(0))
    }
}
impl Sum for Span {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// For people: three significant places in the unit that fits (`893 ms`, `1.25 s`, `7.2 µs`).
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = match self.0.unsigned_abs() {
            0..=999 => return write!(f, "{} ns", self.0),
            1_000..=999_999 => ("µs", 1e3),
            1_000_000..=999_999_999 => ("ms", 1e6),
            _ => ("s", 1e9),
        };
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let v = self.0 as f64 / size;
        let places = if v.abs() >= 100.0 || (v.fract() == 0.0) {
            0
        } else if v.abs() >= 10.0 {
            1
        } else {
            2
        };
        write!(f, "{v:.places$} {unit}")
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({} ns)", self.0)
    }
}

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSpanError {
    /// A number alone.
    #[error("`{0}` has no unit; write {0}ms, {0}s, {0}m or {0}h, whichever is meant")]
    NoUnit(String),
    /// Something else.
    #[error(
        "`{0}` is not a length of time; write a number with a unit, such as 250us, 1ms, 1.5s, 10m or 1h"
    )]
    NoSpan(String),
}

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let fail = || ParseSpanError::NoSpan(s.to_owned());
        let text = s.trim();
        if text.parse::<u64>().is_ok() {
            return Err(ParseSpanError::NoUnit(text.to_owned()));
        }
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(fail)?;
        let (number, unit) = text.split_at(split);
        let scale: i64 = match unit.trim() {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(fail()),
        };
        // Integer arithmetic throughout: 0.1s is exactly 100,000,000 ns.
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let mut nanos = whole
            .parse::<i64>()
            .ok()
            .and_then(|w| w.checked_mul(scale))
            .ok_or_else(fail)?;
        let mut place = scale;
        for digit in fraction.chars() {
            place /= 10;
            let digit = digit.to_digit(10).ok_or_else(fail)?;
            nanos = nanos
                .checked_add(i64::from(digit) * place)
                .ok_or_else(fail)?;
        }
        Ok(Self(nanos))
    }
}

impl Span {
    /// The exact text that reads back as this span: the largest unit that divides it.
    pub fn to_config_text(self) -> String {
        const UNITS: [(&str, i64); 6] = [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ];
        for (unit, size) in UNITS {
            if self.0 != 0 && self.0 % size == 0 {
                return format!("{}{unit}", self.0 / size);
            }
        }
        "0s".to_owned()
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&self.to_config_text())
        } else {
            s.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(d).map(Self)
        }
    }
}
