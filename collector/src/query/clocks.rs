//! Finds the records of a time, whatever the agents' wall clocks showed then.
//!
//! Records are stored by their agent's wall clock, which may be days off and may be set
//! meanwhile. Its monotonic clock is never set, but stands still while the host sleeps. So
//! an exchange about the monotonic clock dates the run's blocks until a later exchange
//! contradicts it. The two clock readings of each block then give the offset of the wall
//! clock when the block was closed.

use crate::store::{ClockRow, Reader, Runs, StoreError};
use hopgap_analysis::input::ClockReading;
use hopgap_proto::record::{AgentName, ProbeFate, RunId};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

/// Most that a block is closed after its records, and most that an exchange may lie outside
/// a time for which it counts.
const AROUND: Span = Span::from_secs(900);
/// Offsets that differ by less are one level: clocks drift.
const NEAR: Span = Span::from_secs(1);
/// Most levels of a clock. With more, the whole range between them is read.
const MOST_LEVELS: usize = 16;

/// How far a wall clock is ahead: a range (least, most) for each level that it had.
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

    /// Returns these levels merged with others.
    pub(super) fn and(self, others: Self) -> Self {
        Self::of(self.0.into_iter().chain(others.0).collect())
    }

    /// Returns the given time as that wall clock shows it, one stretch for each level, extended
    /// by `around` on both sides; overlapping stretches are merged. An unknown clock is taken
    /// to be right.
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

    /// Returns the most that the clock is ahead.
    pub(super) fn most(&self) -> Span {
        let most = self.0.iter().map(|level| level.1).max();
        most.unwrap_or_default()
    }
}

/// How far the collector's clock was ahead of a run's monotonic clock, from an instant on.
#[derive(Clone, Copy, Debug)]
struct MonoOffset {
    from: Mono,
    least: Span,
    most: Span,
}

impl MonoOffset {
    fn of(row: &ClockRow) -> Self {
        let since = Span::from_nanos(row.at.mono.as_nanos());
        Self {
            from: row.at.mono,
            least: Span::from_nanos(row.earliest.as_nanos()) - since,
            most: Span::from_nanos(row.latest.as_nanos()) - since,
        }
    }

    /// Merges a later exchange; returns false, and changes nothing, where it contradicts this.
    fn takes(&mut self, next: &Self) -> bool {
        let all = (self.least.min(next.least), self.most.max(next.most));
        let both = (self.least.max(next.least), self.most.min(next.most));
        // Clocks drift: takes the union of ranges that are near each other.
        let holds = if all.1 - all.0 <= NEAR { all } else { both };
        if holds.0 <= holds.1 {
            (self.least, self.most) = holds;
        }
        holds.0 <= holds.1
    }

    /// Merges exchanges that agree into one; begins a new one where the clock stood still.
    fn stretches(mut told: Vec<Self>) -> Vec<Self> {
        told.sort_by_key(|t| (t.from, t.least, t.most));
        let mut stretches: Vec<Self> = Vec::new();
        for next in told {
            if !stretches.last_mut().is_some_and(|last| last.takes(&next)) {
                stretches.push(next);
            }
        }
        stretches
    }
}

/// The offsets of the agents' clocks from the collector's at a time.
#[derive(Debug)]
pub(super) struct Clocks {
    rows: Vec<ClockRow>,
    /// How far the collector's clock was ahead of each run's monotonic clock, ordered by time.
    /// The first also holds for all time before it.
    told: BTreeMap<(AgentName, RunId), Vec<MonoOffset>>,
    levels: BTreeMap<AgentName, Levels>,
}

impl Clocks {
    /// Reads all that is known of the clocks from `from` to `to`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) fn read(reader: &Reader, from: Wall, to: Wall) -> Result<Self, StoreError> {
        let rows = reader.clocks(from, to)?;
        let mut told: BTreeMap<(AgentName, RunId), Vec<MonoOffset>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.earliest <= row.latest) {
            let of_run = told.entry((row.agent.clone(), row.run)).or_default();
            of_run.push(MonoOffset::of(row));
        }
        for of_run in told.values_mut() {
            *of_run = MonoOffset::stretches(std::mem::take(of_run));
        }
        let mut ranges: BTreeMap<AgentName, Vec<(Span, Span)>> = BTreeMap::new();
        for ((agent, run), stretches) in &told {
            for (i, MonoOffset { least, most, .. }) in stretches.iter().enumerate() {
                let at = |wall: Wall, ahead: Span| Mono::from_nanos(wall.as_nanos()) - ahead;
                let mut then = (at(from - AROUND, *most), at(to + AROUND, *least));
                if let Some(this) = stretches.get(i).filter(|_| i > 0) {
                    then.0 = then.0.max(this.from);
                }
                if let Some(next) = stretches.get(i + 1) {
                    then.1 = then.1.min(next.from - Span::from_nanos(1));
                }
                if then.0 > then.1 {
                    continue;
                }
                let of_run = reader.clock_offsets(agent, *run, then)?;
                let ahead = of_run
                    .iter()
                    .map(|(low, high)| (*low - *most, *high - *least));
                ranges.entry(agent.clone()).or_default().extend(ahead);
            }
        }
        let near = |row: &ClockRow| row.latest >= from - AROUND && row.earliest <= to + AROUND;
        let shown: Vec<bool> = rows
            .iter()
            // A much earlier or later exchange counts only where no block does.
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

    /// Returns how far an agent's wall clock was ahead of the collector's.
    pub(super) fn levels(&self, agent: &AgentName) -> Levels {
        self.levels.get(agent).cloned().unwrap_or_default()
    }

    /// Returns the collector's time (least, most) at an instant of a run's monotonic clock;
    /// `None` where the run had no exchange.
    pub(super) fn collectors(
        &self,
        agent: &AgentName,
        run: RunId,
        at: Mono,
    ) -> Option<(Wall, Wall)> {
        let told = self.told.get(&(agent.clone(), run))?;
        let after = told.partition_point(|told| told.from <= at);
        let told = told.get(after.saturating_sub(1))?;
        let at = Wall::from_nanos(at.as_nanos());
        Some((at + told.least, at + told.most))
    }

    /// Returns the clock readings for analysis.
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

    /// Returns how far the reflector's wall clock was ahead, by the replies of a session: ahead
    /// of the collector's clock or, where that is unknown, of the sender's own.
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

    /// Returns the latest time at which the newest probe can have been sent, on the same clock
    /// as [`by_replies`](Self::by_replies).
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
