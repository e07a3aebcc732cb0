//! What a scenario leaves open: drawn anew for each run.

use hopgap_proto::time::Span;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::str::FromStr;

/// From this to that, both included; one value is written alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range<T> {
    /// The least.
    pub(crate) from: T,
    /// The most.
    pub(crate) to: T,
}

impl<T: Copy> Range<T> {
    pub(super) const fn only(value: T) -> Self {
        Self {
            from: value,
            to: value,
        }
    }
}

impl Range<Span> {
    /// One of them.
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> Span {
        Span::from_nanos(rng.i64(self.from.as_nanos()..=self.to.as_nanos()))
    }
}

impl Range<u32> {
    /// One of them.
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> u32 {
        rng.u32(self.from..=self.to)
    }
}

impl Range<f64> {
    /// One of them.
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> f64 {
        self.from + (self.to - self.from) * rng.f64()
    }
}

impl<T: FromStr + PartialOrd + Copy> FromStr for Range<T>
where
    T::Err: std::fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let text = text.trim();
            text.parse::<T>().map_err(|e| format!("`{text}`: {e}"))
        };
        let range = match text.split_once("..") {
            None => Self::only(one(text)?),
            Some((from, to)) => Self {
                from: one(from)?,
                to: one(to)?,
            },
        };
        if range.from <= range.to {
            Ok(range)
        } else {
            Err(format!("`{text}` ends before it begins"))
        }
    }
}

impl<'de, T: FromStr + PartialOrd + Copy> Deserialize<'de> for Range<T>
where
    T::Err: std::fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Quoted(String),
            Whole(i64),
            Number(f64),
        }
        let text = match Text::deserialize(d)? {
            Text::Quoted(text) => text,
            Text::Whole(number) => number.to_string(),
            Text::Number(number) => number.to_string(),
        };
        text.parse().map_err(D::Error::custom)
    }
}
