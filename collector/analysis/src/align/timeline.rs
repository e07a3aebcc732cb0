//! Converts a run's monotonic clock to UTC, respecting steps of the wall clock.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

/// Readings of the two clocks are not taken in one instant. Up to this much between
/// their offsets is noise of reading; more is a step of the wall clock. (Slewing moves
/// both clocks alike.)
const NOISE: Span = Span::from_millis(1);

/// A monotonic clock set on a wall clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    /// Empty only without any reading; the first segment also holds for all time before it.
    segments: Vec<Segment>,
    last: Option<Mono>,
    first: Option<Mono>,
    /// The reference clock, used instead if the wall clock contradicts it.
    reference: Option<Vec<Segment>>,
}

/// A stretch without a step.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: Mono,
    offset: Span,
}

impl Timeline {
    /// Builds the timeline from clock readings in any order and the run's events.
    pub(crate) fn new(mut pairs: Vec<ClockPair>, events: &[Event]) -> Self {
        pairs.sort_by_key(|p| (p.mono, p.wall));
        pairs.dedup();
        let last = pairs.last().map(|p| p.mono);
        let first = pairs.first().map(|p| p.mono);
        let all_steps = stepped(events);
        let mut segments = Vec::new();
        let mut group: Vec<Span> = Vec::new();
        let mut from = Mono::MIN;
        let mut previous = Mono::MIN;
        for pair in pairs {
            let begun = group.first().copied();
            // Events say when the clock was stepped between the two readings.
            let steps = within(&all_steps, previous, pair.mono);
            let difference = begun.map_or(Span::ZERO, |o| pair.offset() - o);
            let (between, last) = steps_to(difference, steps);
            // A step that was undone before the next reading shows in neither reading.
            let was_stepped =
                difference.abs() > NOISE || between.iter().any(|(_, by)| by.abs() > NOISE);
            if let Some(offset) = begun.filter(|_| was_stepped) {
                segments.push(segment(from, &mut group));
                let mut at = segments.last().map_or(offset, |s| s.offset);
                for (step, by) in between {
                    from = *step;
                    at += *by;
                    if last.is_some_and(|last| last != from) {
                        segments.push(Segment { from, offset: at });
                    }
                }
                from = last.unwrap_or(pair.mono);
            }
            group.push(pair.offset());
            previous = pair.mono;
        }
        if !group.is_empty() {
            segments.push(segment(from, &mut group));
        }
        Self {
            segments,
            last,
            first,
            reference: None,
        }
    }

    /// `at` on UTC, by the reference clock if it was set, else by the wall clock as it ran then.
    pub(crate) fn utc(&self, at: Mono) -> Wall {
        let segments = self.reference.as_ref().unwrap_or(&self.segments);
        Wall::from_nanos(at.as_nanos()) + offset_at(segments, at).unwrap_or_default()
    }

    /// `at` on UTC, by the host's own wall clock as it ran then.
    pub(crate) fn wall(&self, at: Mono) -> Wall {
        Wall::from_nanos(at.as_nanos()) + self.offset(at).unwrap_or_default()
    }

    /// How far the wall clock was ahead of the monotonic clock; `None` without a reading.
    pub(super) fn offset(&self, at: Mono) -> Option<Span> {
        offset_at(&self.segments, at)
    }

    /// Each instant at which that offset changed, with the new offset.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (Mono, Span)> {
        self.segments.iter().map(|s| (s.from, s.offset))
    }

    /// Shows UTC by another clock from now on; `offsets` says how far it is ahead of the
    /// monotonic clock, from each instant on.
    pub(super) fn set_on(&mut self, offsets: &[(Mono, Span)]) {
        let segments = offsets.iter().map(|(from, offset)| Segment {
            from: *from,
            offset: *offset,
        });
        self.reference = Some(segments.collect());
    }

    /// `at` on UTC, as if the clock had never been stepped after the first reading.
    pub(crate) fn unstepped(&self, at: Mono) -> Wall {
        let offset = self.segments.first().map_or(Span::ZERO, |s| s.offset);
        Wall::from_nanos(at.as_nanos()) + offset
    }

    /// Whether there was any reading: without one, UTC is not known.
    pub(crate) fn is_known(&self) -> bool {
        !self.segments.is_empty()
    }

    /// The last reading.
    pub(crate) fn last_reading(&self) -> Option<Mono> {
        self.last
    }

    /// The first reading.
    pub(crate) fn first_reading(&self) -> Option<Mono> {
        self.first
    }

    /// Steps of the wall clock: when, and by how much.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Mono, Span)> {
        self.segments.windows(2).filter_map(|pair| match pair {
            [a, b] => Some((b.from, b.offset - a.offset)),
            _ => None,
        })
    }
}

fn offset_at(segments: &[Segment], at: Mono) -> Option<Span> {
    let after = segments.partition_point(|s| s.from <= at);
    let segment = segments.get(after.saturating_sub(1))?;
    Some(segment.offset)
}

/// Returns the recorded steps in the order of time. Steps are few but events of months are many,
/// so the events are searched only once.
fn stepped(events: &[Event]) -> Vec<(Mono, Span)> {
    let steps = events.iter().filter_map(|e| match e.kind {
        EventKind::ClockStepped(by) => Some((e.at, by)),
        _ => None,
    });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// Returns the steps after `from` up to and including `to`.
fn within(steps: &[(Mono, Span)], from: Mono, to: Mono) -> &[(Mono, Span)] {
    let until = |end: Mono| steps.partition_point(|(at, _)| *at <= end);
    steps.get(until(from)..until(to)).unwrap_or_default()
}

/// Returns the steps between two readings, and when the last one was. If the steps do not add up
/// to the readings' difference, some were not recorded: then only the time of the last one is
/// used.
fn steps_to(difference: Span, steps: &[(Mono, Span)]) -> (&[(Mono, Span)], Option<Mono>) {
    let sum: Span = steps.iter().map(|(_, by)| *by).sum();
    let last = steps.last().map(|(at, _)| *at);
    if (sum - difference).abs() <= NOISE {
        (steps, last)
    } else {
        (&[], last)
    }
}

/// The median offset: one reading that was interrupted must not shift a segment.
fn segment(from: Mono, group: &mut Vec<Span>) -> Segment {
    group.sort_unstable();
    let offset = group.get(group.len() / 2).copied().unwrap_or(Span::ZERO);
    group.clear();
    Segment { from, offset }
}

#[cfg(test)]
mod tests;
