//! Stretches of time that are put together where they touch or overlap, so that however many
//! records tell of them, asking about an instant stays cheap.

use hopgap_proto::time::Span;
use std::ops::{Add, Sub};

/// Stretches on one clock, in the order of time; none touches another. Both ends belong to a
/// stretch.
#[derive(Clone, Debug)]
pub(crate) struct Stretches<T>(Vec<(T, T)>);

impl<T> Default for Stretches<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord + Copy> Stretches<T> {
    /// Puts stretches together, in whatever order they come; one that ends before it begins
    /// is none.
    pub(crate) fn of(mut all: Vec<(T, T)>) -> Self {
        all.retain(|(from, to)| from <= to);
        all.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::new();
        for (from, to) in all {
            match merged.last_mut() {
                Some((_, end)) if from <= *end => *end = (*end).max(to),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an instant lies in one of them.
    pub(crate) fn hold(&self, at: T) -> bool {
        self.position(at).is_some()
    }

    /// The place of the stretch that an instant lies in.
    pub(crate) fn position(&self, at: T) -> Option<usize> {
        let after = self.0.partition_point(|(from, _)| *from <= at);
        let last = after.checked_sub(1)?;
        self.0.get(last).filter(|(_, to)| at <= *to).map(|_| last)
    }

    /// Whether one of them overlaps or touches this stretch.
    pub(crate) fn overlap(&self, from: T, to: T) -> bool {
        let next = self.0.partition_point(|(_, end)| *end < from);
        self.0.get(next).is_some_and(|(begin, _)| *begin <= to)
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Option<(T, T)> {
        self.0.last().copied()
    }

    /// Each, in the order of time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (T, T)> {
        self.0.iter().copied()
    }
}

impl<T> Stretches<T>
where
    T: Ord + Copy + Add<Span, Output = T> + Sub<Span, Output = T>,
{
    /// Whether an instant that is known to `by` may lie in one of them.
    pub(crate) fn may_hold(&self, at: T, by: Span) -> bool {
        self.overlap(at - by, at + by)
    }
}

#[cfg(test)]
mod tests {
    use super::Stretches;
    use hopgap_proto::time::{Span, Wall};

    #[test]
    fn what_touches_is_one() {
        let stretches = Stretches::of(vec![(5, 7), (1, 2), (2, 3), (6, 9), (12, 11)]);
        assert_eq!(stretches.iter().collect::<Vec<_>>(), [(1, 3), (5, 9)]);
        assert!(Stretches::<u8>::of(Vec::new()).is_empty());
    }

    #[test]
    fn both_ends_belong_to_it() {
        let stretches = Stretches::of(vec![(1, 3), (5, 9)]);
        let held: Vec<i32> = (0..12).filter(|at| stretches.hold(*at)).collect();
        assert_eq!(held, [1, 2, 3, 5, 6, 7, 8, 9]);
        assert_eq!(stretches.position(6), Some(1));
        assert_eq!(stretches.position(4), None);
    }

    #[test]
    fn what_overlaps_is_found_wherever_it_lies() {
        let stretches = Stretches::of(vec![(2, 3), (6, 9)]);
        assert!(!stretches.overlap(0, 1));
        assert!(stretches.overlap(0, 2));
        assert!(!stretches.overlap(4, 5));
        assert!(stretches.overlap(7, 7));
        assert!(stretches.overlap(0, 20));
        assert!(!stretches.overlap(10, 20));
    }

    #[test]
    fn an_instant_that_is_not_known_well_may_lie_within() {
        let at = |ms| Wall::from_nanos(0) + Span::from_millis(ms);
        let stretches = Stretches::of(vec![(at(100), at(200))]);
        assert!(stretches.may_hold(at(80), Span::from_millis(20)));
        assert!(!stretches.may_hold(at(79), Span::from_millis(20)));
        assert!(stretches.may_hold(at(220), Span::from_millis(20)));
    }
}
