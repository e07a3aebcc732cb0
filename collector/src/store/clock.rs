//! Stores the offsets of agents' clocks from the collector's.

use super::reader::name;
use super::status::agent_id;
use super::{Reader, Store, StoreError};
use hopgap_proto::record::{AgentName, RunId};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use hopgap_proto::uplink::ClockExchange;
use rusqlite::{Connection, params};

/// Created in stores of every version: older programs ignore it.
///
/// Holds one row for each agent, run and minute of the collector's clock, the one with the
/// narrowest bounds: when the agent's clocks showed `at_mono` and `at_wall`, the collector's
/// showed at least `earliest` and at most `latest`. The index covers both clocks as read when
/// a block was closed.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS clock (
  agent INTEGER NOT NULL REFERENCES agent ON DELETE CASCADE,
  minute INTEGER NOT NULL,
  run INTEGER NOT NULL,
  at_mono INTEGER NOT NULL,
  at_wall INTEGER NOT NULL,
  earliest INTEGER NOT NULL,
  latest INTEGER NOT NULL,
  PRIMARY KEY (agent, minute, run)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS block_by_clocks ON block (run, closed_mono, closed_wall);
";

const MINUTE: i64 = 60_000_000_000;

/// Rows kept for each agent: a year's worth at one row every ten minutes.
const KEPT: i64 = 52_560;

/// Most distinct clock offsets returned for a run.
const MOST_OFFSETS: i64 = 4_096;

/// How far before and after the requested time rows are read.
const AROUND: Span = Span::from_secs(900);

/// One comparison of an agent's clocks with the collector's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRow {
    /// The agent.
    pub agent: AgentName,
    /// Its run.
    pub run: RunId,
    /// The readings of its clocks.
    pub at: ClockPair,
    /// The earliest time that the collector's clock can have shown then.
    pub earliest: Wall,
    /// The latest time that the collector's clock can have shown then.
    pub latest: Wall,
}

impl ClockRow {
    /// Returns how far the agent's wall clock was ahead of the collector's, and the largest
    /// error of that, plus or minus.
    pub fn ahead(&self) -> (Span, Span) {
        let bound = (self.latest - self.earliest) / 2;
        (self.at.wall - self.earliest - bound, bound)
    }
}

pub(super) fn prepare(db: &Connection) -> Result<(), StoreError> {
    Ok(db.execute_batch(TABLE)?)
}

impl Store {
    /// Stores one comparison of an agent's clocks with the collector's.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn clock(
        &mut self,
        agent: &AgentName,
        exchange: &ClockExchange,
        now: Wall,
    ) -> Result<(), StoreError> {
        let (earliest, latest) = exchange.bounds();
        let tx = self.db.transaction()?;
        let id = agent_id(&tx, agent, now)?;
        tx.execute(
            "INSERT INTO clock (agent, minute, run, at_mono, at_wall, earliest, latest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET at_mono = excluded.at_mono, at_wall = excluded.at_wall,
               earliest = excluded.earliest, latest = excluded.latest
             WHERE excluded.latest - excluded.earliest <= latest - earliest",
            params![
                id,
                earliest.as_nanos().div_euclid(MINUTE),
                exchange.run.0.cast_signed(),
                exchange.received.mono.as_nanos(),
                exchange.received.wall.as_nanos(),
                earliest.as_nanos(),
                latest.as_nanos(),
            ],
        )?;
        tx.execute(
            "DELETE FROM clock WHERE agent = ?1 AND minute < (
               SELECT minute FROM clock WHERE agent = ?1 ORDER BY minute DESC LIMIT 1 OFFSET ?2)",
            params![id, KEPT],
        )?;
        tx.commit()?;
        Ok(())
    }
}

impl Reader {
    /// Returns the clock comparisons from `from` to `to`, with 15 minutes on both sides, and
    /// the nearest before and after. Empty where an older version made the store.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn clocks(&self, from: Wall, to: Wall) -> Result<Vec<ClockRow>, StoreError> {
        if !self.has_clocks()? {
            return Ok(Vec::new());
        }
        let mut statement = self.db.prepare_cached(
            "SELECT agent.name, run, at_mono, at_wall, earliest, latest
             FROM clock JOIN agent ON agent.id = clock.agent
             WHERE minute BETWEEN
               min(?1, coalesce((SELECT max(minute) FROM clock c
                 WHERE c.agent = clock.agent AND minute <= ?1), ?1))
               AND max(?2, coalesce((SELECT min(minute) FROM clock c
                 WHERE c.agent = clock.agent AND minute >= ?2), ?2))
             ORDER BY agent.name, minute, run",
        )?;
        let minute = |at: Wall| at.as_nanos().div_euclid(MINUTE);
        let rows =
            statement.query_map(params![minute(from - AROUND), minute(to + AROUND)], row_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns the distinct offsets of a run's wall clock from its monotonic clock, as read
    /// when it closed blocks between two instants of the monotonic clock. Each is a range
    /// (least, most) of two seconds; more than 4,096 become one range that covers them all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn clock_offsets(
        &self,
        agent: &AgentName,
        run: RunId,
        (from, to): (Mono, Mono),
    ) -> Result<Vec<(Span, Span)>, StoreError> {
        // Divides before subtracting: the difference of any two readings then fits.
        const OF_RUN: &str = "closed_wall / 1000000000 - closed_mono / 1000000000 AS seconds
             FROM block
             WHERE run = (SELECT run.id FROM run JOIN agent ON agent.id = run.agent
                          WHERE agent.name = ?1 AND run.started = ?2)
               AND closed_mono BETWEEN ?3 AND ?4";
        let (agent, run) = (agent.as_str(), run.0.cast_signed());
        let (from, to) = (from.as_nanos(), to.as_nanos());
        let range = |low: i64, high: i64| {
            let at = |seconds: i64| Span::from_nanos(seconds.saturating_mul(1_000_000_000));
            (at(low - 1), at(high + 1))
        };
        let each = format!("SELECT DISTINCT {OF_RUN} LIMIT ?5");
        let mut statement = self.db.prepare_cached(&each)?;
        let rows = statement.query_map(params![agent, run, from, to, MOST_OFFSETS + 1], |row| {
            let seconds = row.get(0)?;
            Ok(range(seconds, seconds))
        })?;
        let found: Vec<(Span, Span)> = rows.collect::<Result<_, _>>()?;
        if i64::try_from(found.len()).is_ok_and(|found| found <= MOST_OFFSETS) {
            return Ok(found);
        }
        let ends = format!("SELECT min(seconds), max(seconds) FROM (SELECT {OF_RUN})");
        let mut statement = self.db.prepare_cached(&ends)?;
        let all = statement.query_row(params![agent, run, from, to], |row| {
            Ok(range(row.get(0)?, row.get(1)?))
        })?;
        Ok(vec![all])
    }

    /// Returns the newest comparison of each agent, ordered by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn newest_clocks(&self) -> Result<Vec<ClockRow>, StoreError> {
        if !self.has_clocks()? {
            return Ok(Vec::new());
        }
        let mut statement = self.db.prepare_cached(
            "SELECT agent.name, run, at_mono, at_wall, earliest, latest
             FROM clock JOIN agent ON agent.id = clock.agent
             WHERE (minute, run) = (SELECT minute, run FROM clock c WHERE c.agent = clock.agent
               ORDER BY minute DESC, run DESC LIMIT 1)
             ORDER BY agent.name",
        )?;
        let rows = statement.query_map([], row_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn has_clocks(&self) -> Result<bool, StoreError> {
        let tables: i64 = self.db.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'clock'",
            [],
            |row| row.get(0),
        )?;
        Ok(tables > 0)
    }
}

fn row_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<ClockRow> {
    Ok(ClockRow {
        agent: name(row, 0)?,
        run: RunId(row.get::<_, i64>(1)?.cast_unsigned()),
        at: ClockPair {
            mono: Mono::from_nanos(row.get(2)?),
            wall: Wall::from_nanos(row.get(3)?),
        },
        earliest: Wall::from_nanos(row.get(4)?),
        latest: Wall::from_nanos(row.get(5)?),
    })
}

#[cfg(test)]
mod tests;
