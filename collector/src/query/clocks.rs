//! Where the records of a time are, whatever the agents' wall clocks showed then.
//!
//! Records are kept by their agent's own wall clock, which may be days off, and may be set
//! meanwhile. Its monotonic clock is not set by anybody: what an agent told of it in one
//! exchange dates all blocks of that run, and what each block says of both clocks tells how
//! far the wall clock was off when it was closed.

use crate::store::{ClockRow, Reader, Runs, StoreError};
use hopgap_analysis::input::ClockReading;
use hopgap_proto::record::{AgentName, ProbeFate, RunId};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

/// Blocks are closed so long after what they hold, at most, and exchanges so far beside a
/// time tell of it.
const AROUND: Span = Span::from_secs(900);
/// What differs by less is one level: clocks drift.
const NEAR: Span = Span::from_secs(1);
/// Of a clock that is set more often than this, all between the levels is read, too.
const MOST_LEVELS: usize = 16;

/// How far a wall clock is ahead, at least and at most: a range for each level that it had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels(Vec<(Span, Span)>);

impl Levels {
    fn of(mut ranges: Vec<(Span, Span)>) -> Self {
        ranges.sort_unstable();
        let mut levels: Vec<(Span, Span)> = Vec::new();
        for (low, high) in ranges {
            match levels.last_mut() {
                Some(last) if low <= last.1 + NEAR => last.1 = last.1.max(high),
                _ => levels.push((low, high)),
            }
        }
        if levels.len() > MOST_LEVELS
            && let (Some(&(low, _)), Some(high)) =
                (levels.first(), levels.iter().map(|l| l.1).max())
        {
            levels = vec![(low, high)];
        }
        Self(levels)
    }

    /// These and others.
    pub(super) fn and(self, others: Self) -> Self {
        Self::of(self.0.into_iter().chain(others.0).collect())
    }

    /// From and to by that wall clock, for each level, `around` beside it; what overlaps is
    /// one. A clock of which nothing is known is right.
    pub(super) fn stretches(&self, (from, to): (Wall, Wall), around: Span) -> Vec<(Wall, Wall)> {
        let right = [(Span::ZERO, Span::ZERO)];
        let levels = if self.0.is_empty() {
            &right[..]
        } else {
            &self.0
        };
        let mut stretches: Vec<(Wall, Wall)> = Vec::new();
        for (low, high) in levels {
            let (from, to) = (from + *low - around, to + *high + around);
            match stretches.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => stretches.push((from, to)),
            }
        }
        stretches
    }

    /// The most that it is ahead.
    pub(super) fn most(&self) -> Span {
        let most = self.0.iter().map(|level| level.1).max();
        most.unwrap_or_default()
    }
}

/// How the agents' clocks stood to the collector's at a time.
#[derive(Debug)]
pub(super) struct Clocks {
    rows: Vec<ClockRow>,
    /// How far the collector's clock was ahead of each run's monotonic one.
    told: BTreeMap<(AgentName, RunId), (Span, Span)>,
    levels: BTreeMap<AgentName, Levels>,
}

impl Clocks {
    /// All that is known of the clocks from `from` to `to`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) fn read(reader: &Reader, from: Wall, to: Wall) -> Result<Self, StoreError> {
        let rows = reader.clocks(from, to)?;
        let mut told: BTreeMap<(AgentName, RunId), (Span, Span)> = BTreeMap::new();
        for row in &rows {
            let since = Span::from_nanos(row.at.mono.as_nanos());
            let least = Span::from_nanos(row.earliest.as_nanos()) - since;
            let most = Span::from_nanos(row.latest.as_nanos()) - since;
            let range = told
                .entry((row.agent.clone(), row.run))
                .or_insert((least, most));
            *range = (range.0.min(least), range.1.max(most));
        }
        let mut ranges: BTreeMap<AgentName, Vec<(Span, Span)>> = BTreeMap::new();
        for ((agent, run), (least, most)) in &told {
            let at = |wall: Wall, ahead: Span| Mono::from_nanos(wall.as_nanos()) - ahead;
            let then = (at(from - AROUND, *most), at(to + AROUND, *least));
            let of_run = reader.clock_offsets(agent, *run, then)?;
            let ahead = of_run
                .iter()
                .map(|(low, high)| (*low - *most, *high - *least));
            ranges.entry(agent.clone()).or_default().extend(ahead);
        }
        let near = |row: &ClockRow| row.latest >= from - AROUND && row.earliest <= to + AROUND;
        let shown: Vec<bool> = rows
            .iter()
            // What was exchanged long before or after tells only where no block does.
            .map(|row| near(row) || ranges.get(&row.agent).is_none_or(Vec::is_empty))
            .collect();
        for (row, _) in rows.iter().zip(shown).filter(|(_, shown)| *shown) {
            let (ahead, bound) = row.ahead();
            let ranges = ranges.entry(row.agent.clone()).or_default();
            ranges.push((ahead - bound, ahead + bound));
        }
        let levels = ranges
            .into_iter()
            .map(|(a, r)| (a, Levels::of(r)))
            .collect();
        Ok(Self { rows, told, levels })
    }

    /// How far an agent's wall clock was ahead of the collector's.
    pub(super) fn levels(&self, agent: &AgentName) -> Levels {
        self.levels.get(agent).cloned().unwrap_or_default()
    }

    /// What the collector's clock showed at an instant of a run's monotonic clock, at least
    /// and at most; `None` where the run told nothing.
    pub(super) fn collectors(
        &self,
        agent: &AgentName,
        run: RunId,
        at: Mono,
    ) -> Option<(Wall, Wall)> {
        let (least, most) = self.told.get(&(agent.clone(), run))?;
        let at = Wall::from_nanos(at.as_nanos());
        Some((at + *least, at + *most))
    }

    /// For analysis.
    pub(super) fn readings(self) -> Vec<ClockReading> {
        let readings = self.rows.into_iter().map(|row| ClockReading {
            agent: row.agent,
            run: row.run,
            at: row.at.mono,
            earliest: row.earliest,
            latest: row.latest,
        });
        readings.collect()
    }

    /// How far a session's reflector's wall clock was ahead of the collector's, as the replies
    /// tell: of the collector's clock, or else of the sender's own, where nothing is known.
    pub(super) fn by_replies(&self, sent: &Runs) -> Levels {
        let mut ranges: BTreeMap<i64, (Span, Span)> = BTreeMap::new();
        for ((agent, run), rows) in sent {
            let Some(own) = rows.clocks.first() else {
                continue;
            };
            for probe in &rows.probes {
                let ProbeFate::Answered(reply) = probe.fate else {
                    continue;
                };
                let own = own.wall_of(probe.sent.at);
                let at = self.collectors(agent, *run, probe.sent.at);
                let (least, most) = at.unwrap_or((own, own));
                let low = reply.reflector_received - most;
                let high = reply.reflector_received - least;
                let second = low.as_nanos().div_euclid(NEAR.as_nanos());
                let range = ranges.entry(second).or_insert((low, high));
                *range = (range.0.min(low), range.1.max(high));
            }
        }
        Levels::of(ranges.into_values().collect())
    }

    /// When the newest probe was sent, at most, on the same clock as
    /// [`by_replies`](Self::by_replies).
    pub(super) fn newest_probe(&self, sent: &Runs) -> Option<Wall> {
        let newest = sent.iter().filter_map(|((agent, run), rows)| {
            let newest = rows.probes.iter().map(|p| p.sent.at).max()?;
            let own = rows.clocks.last().map(|clock| clock.wall_of(newest));
            let told = self.collectors(agent, *run, newest);
            told.map(|(_, most)| most).or(own)
        });
        newest.max()
    }
}
