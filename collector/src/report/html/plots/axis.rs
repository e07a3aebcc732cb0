//! A time axis whose ticks stand at whole seconds, minutes, hours or days of UTC.

use hopgap_analysis::schema::Utc;
use hopgap_analysis::text;
use hopgap_proto::time::Wall;
use plotters::coord::ranged1d::{KeyPointHint, Ranged, ValueFormatter};
use std::ops::Range;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
const STEPS: [i64; 18] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400,
    604_800,
];

/// Nanoseconds of UTC since 1970.
#[derive(Clone)]
pub(super) struct TimeAxis {
    range: Range<i64>,
}

impl TimeAxis {
    pub(super) fn new(from: i64, to: i64) -> Self {
        let to = to.max(from.saturating_add(1));
        Self { range: from..to }
    }

    pub(super) fn end(&self) -> i64 {
        self.range.end
    }

    fn length(&self) -> i64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

impl Ranged for TimeAxis {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = i64;

    fn map(&self, value: &i64, limit: (i32, i32)) -> i32 {
        let width = i64::from(limit.1) - i64::from(limit.0);
        let share = i128::from(value.saturating_sub(self.range.start)) * i128::from(width)
            / i128::from(self.length().max(1));
        limit
            .0
            .saturating_add(i32::try_from(share).unwrap_or(i32::MAX))
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<i64> {
        let most = i64::try_from(hint.max_num_points()).unwrap_or(10).max(1);
        let step = STEPS
            .into_iter()
            .map(|s| s * SECOND)
            .find(|s| self.length() / s <= most)
            .unwrap_or(30 * DAY);
        let first = self.range.start.div_euclid(step);
        (first..)
            .map(|n| n.saturating_mul(step))
            .skip_while(|&at| at < self.range.start)
            .take_while(|&at| at <= self.range.end)
            .take(100)
            .collect()
    }

    fn range(&self) -> Range<i64> {
        self.range.clone()
    }
}

impl ValueFormatter<i64> for TimeAxis {
    fn format_ext(&self, value: &i64) -> String {
        let at = Utc(Wall::from_nanos(*value));
        if self.length() > 3 * DAY {
            text::strftime(at, "%m-%d")
        } else {
            text::strftime(at, "%H:%M:%S")
        }
    }
}
