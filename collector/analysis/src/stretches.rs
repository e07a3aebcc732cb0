//! Merges stretches of time that touch or overlap, so that a query stays cheap however many
//! records there are.

use hopgap_proto::time::Span;
use std::collections::BTreeSet;
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
    /// Merges stretches given in any order and ignores those that end before they begin.
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

    /// The index of the stretch that holds an instant.
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
    /// Whether an instant known to within `by` may lie in one of them.
    pub(crate) fn may_hold(&self, at: T, by: Span) -> bool {
        self.overlap(at - by, at + by)
    }

    /// Whether an instant known to within `by` certainly lies in one of them.
    pub(crate) fn surely_hold(&self, at: T, by: Span) -> bool {
        let begin = self.position(at - by);
        begin.is_some() && begin == self.position(at + by)
    }
}

/// Finds which stretch that holds an instant comes first in the given order, not in time.
/// Stretches may overlap; both ends belong to a stretch.
#[derive(Clone, Debug)]
pub(crate) struct FirstOf<T> {
    /// Instants after which another stretch is the first, in the order of time. `true` stands
    /// for just after the instant.
    steps: Vec<((T, bool), Option<usize>)>,
}

impl<T: Ord + Copy> FirstOf<T> {
    /// Takes the stretches in their order.
    pub(crate) fn of(stretches: impl Iterator<Item = (T, T)>) -> Self {
        let mut edges = Vec::new();
        for (place, (from, to)) in stretches.enumerate().filter(|(_, (a, b))| a <= b) {
            edges.push(((from, false), place, true));
            edges.push(((to, true), place, false));
        }
        edges.sort_unstable();
        let mut open = BTreeSet::new();
        let mut steps = Vec::with_capacity(edges.len());
        for (at, place, opens) in edges {
            if opens {
                open.insert(place);
            } else {
                open.remove(&place);
            }
            steps.push((at, open.first().copied()));
        }
        Self { steps }
    }

    /// The index of the first stretch that holds an instant.
    pub(crate) fn holding(&self, at: T) -> Option<usize> {
        let after = self.steps.partition_point(|(step, _)| *step < (at, true));
        self.steps.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::{FirstOf, Stretches};
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
        assert!(stretches.surely_hold(at(120), Span::from_millis(20)));
        assert!(!stretches.surely_hold(at(119), Span::from_millis(20)));
        assert!(!stretches.surely_hold(at(181), Span::from_millis(20)));
    }

    #[test]
    fn the_first_of_overlapping_stretches_is_found_by_their_order() {
        let all = [(5, 9), (1, 6), (6, 6), (8, 20), (30, 29)];
        let first = FirstOf::of(all.into_iter());
        for at in 0..40 {
            let naive = all.iter().position(|(from, to)| *from <= at && at <= *to);
            assert_eq!(first.holding(at), naive, "{at}");
        }
        assert_eq!(first.holding(7), Some(0));
        assert_eq!(first.holding(2), Some(1));
    }
}
