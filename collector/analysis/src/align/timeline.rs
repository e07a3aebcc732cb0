//! A run's monotonic clock set on UTC, steps of the wall clock respected.

use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

/// Readings of the two clocks are not taken in one instant. Up to this much between
/// their offsets is noise of reading; more is a step of the wall clock. (Slewing moves
/// both clocks alike.)
const NOISE: Span = Span::from_millis(1);

/// A monotonic clock set on a wall clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    /// Never empty unless there was no reading; the first reaches back for ever.
    segments: Vec<Segment>,
    last: Option<Mono>,
    first: Option<Mono>,
}

/// A stretch without a step.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: Mono,
    offset: Span,
}

impl Timeline {
    /// From clock readings in any order and the run's events.
    pub(crate) fn new(mut pairs: Vec<ClockPair>, events: &[Event]) -> Self {
        pairs.sort_by_key(|p| (p.mono, p.wall));
        pairs.dedup();
        let last = pairs.last().map(|p| p.mono);
        let first = pairs.first().map(|p| p.mono);
        let mut segments = Vec::new();
        let mut group: Vec<Span> = Vec::new();
        let mut from = Mono::MIN;
        let mut previous = Mono::MIN;
        for pair in pairs {
            let begun = group.first().copied();
            if begun.is_some_and(|offset| (pair.offset() - offset).abs() > NOISE) {
                segments.push(segment(from, &mut group));
                // Between the two readings the step's own event says when it was.
                from = events
                    .iter()
                    .rev()
                    .find(|e| {
                        matches!(e.kind, EventKind::ClockStepped(_))
                            && previous < e.at
                            && e.at <= pair.mono
                    })
                    .map_or(pair.mono, |e| e.at);
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
        }
    }

    /// `at` on UTC, by the wall clock as it ran then.
    pub(crate) fn utc(&self, at: Mono) -> Wall {
        let after = self.segments.partition_point(|s| s.from <= at);
        let offset = self
            .segments
            .get(after.saturating_sub(1))
            .map_or(Span::ZERO, |s| s.offset);
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

/// The median offset: one reading that was interrupted must not shift a segment.
fn segment(from: Mono, group: &mut Vec<Span>) -> Segment {
    group.sort_unstable();
    let offset = group.get(group.len() / 2).copied().unwrap_or(Span::ZERO);
    group.clear();
    Segment { from, offset }
}
