//! Decides which part of a count belongs to the question.
//!
//! Events count over stretches of time and are recorded after their end. An event whose stretch
//! lies outside the question says nothing of it. If a stretch crosses an edge of the question, it
//! is not known how much of the count lies inside.

use super::counted;
use crate::align::{Sample, Session};
use hopgap_proto::time::{Span, Wall};

/// The stretch that was asked for; `None` for all there is.
pub(super) struct Question(pub(super) Option<(Wall, Wall)>);

impl Question {
    /// The same on the wall clock of a session's reflector, as its replies tell it.
    pub(super) fn of_reflector(session: &Session<'_>) -> Self {
        let ahead = |pick: fn(&[Sample]) -> Option<&Sample>, last: bool| {
            let at = session.runs.iter().enumerate().flat_map(|(i, run)| {
                let samples = run.flows.values().filter_map(move |f| pick(&f.samples));
                samples.map(move |s| {
                    let sent = run.timeline.utc(s.sent);
                    let there = session.log.expected(i, &run.timeline, s.sent);
                    (sent, there - sent)
                })
            });
            let at = if last { at.max() } else { at.min() };
            at.map_or(Span::ZERO, |(_, ahead)| ahead)
        };
        Self(session.window.map(|(from, to)| {
            let early = ahead(|s| s.first(), false);
            (from + early, to + ahead(|s| s.last(), true))
        }))
    }

    /// Whether an instant lies in it.
    pub(super) fn holds(&self, at: Wall) -> bool {
        self.0.is_none_or(|(from, to)| from <= at && at <= to)
    }
}

/// A count over stretches of time.
#[derive(Default)]
pub(super) struct Tally {
    /// Count of stretches that lie wholly in the question.
    inside: u64,
    /// Count of stretches that cross an edge of the question.
    across: u64,
}

impl Tally {
    /// Adds what was counted over a stretch, where that touches the question.
    pub(super) fn add(&mut self, asked: &Question, (from, to): (Wall, Wall), count: u64) {
        if asked.holds(from) && asked.holds(to) {
            self.inside = self.inside.saturating_add(count);
        } else if asked
            .0
            .is_none_or(|(begin, end)| from <= end && begin <= to)
        {
            self.across = self.across.saturating_add(count);
        }
    }

    /// `3 packets`, `up to 5 packets`, `3 packets, and up to 5 more across …`; `None` if there is
    /// nothing to tell.
    pub(super) fn said(&self, one: &str, many: &str) -> Option<String> {
        match (self.inside, self.across) {
            (0, 0) => None,
            (inside, 0) => Some(counted(inside, one, many)),
            (0, across) => Some(format!(
                "up to {} (counted over an edge of this stretch of time)",
                counted(across, one, many)
            )),
            (inside, across) => Some(format!(
                "{} (and up to {across} more, counted over an edge of this stretch of time)",
                counted(inside, one, many)
            )),
        }
    }
}
