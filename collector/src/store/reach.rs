//! Finds the time up to which an agent's records have arrived.

use super::{Kind, Reader, StoreError};
use hopgap_proto::record::{AgentName, RunId, SessionName};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use rusqlite::{OptionalExtension, params};

/// How long an agent is assumed to keep records before it ships them, until its blocks show
/// it: 10 s by default, and some slack.
const HELD: Span = Span::from_secs(12);

/// How much later than due an agent may close a block.
const LATE: Span = Span::from_secs(1);

/// How many of a run's newest blocks are searched for one of a session and kind.
const LOOKED_AT: i64 = 4_096;

/// How many blocks suffice to show how long the agent keeps one open.
const ENOUGH: i64 = 8;

/// The time up to which the records of one end of a session have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Everything recorded up to this time, on the clocks of this run of the agent, has arrived.
    pub until: Option<(RunId, ClockPair)>,
    /// When the agent was last heard of, on the collector's clock.
    pub heard: Option<Wall>,
}

impl Reader {
    /// Returns the time up to which an agent's records of one session and kind have arrived.
    ///
    /// Blocks of one session and kind follow each other, and an agent delivers all blocks in
    /// the order in which it closed them. So all records have arrived up to the closing of the
    /// newest block of this kind, and also up to the closing of the newest block of any kind
    /// less the time for which the agent keeps a block open. The later of the two counts.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn reach(
        &self,
        agent: &AgentName,
        session: &SessionName,
        kind: Kind,
    ) -> Result<Reach, StoreError> {
        let row = self
            .db
            .prepare_cached("SELECT id, last_seen FROM agent WHERE name = ?1")?
            .query_row([agent.as_str()], |row| {
                Ok((row.get::<_, i64>(0)?, Wall::from_nanos(row.get(1)?)))
            })
            .optional()?;
        let Some((id, heard)) = row else {
            return Ok(Reach::default());
        };
        let heard = Some(heard);
        let Some((run, number)) = self.newest_run(id)? else {
            return Ok(Reach { until: None, heard });
        };
        let newest = self.newest_block(run, None)?;
        let own = self.newest_block(run, Some((session, kind)))?;
        let held = self.held(run)?;
        let of_any = newest.map(|closed| ClockPair {
            mono: closed.mono - held,
            wall: closed.wall - held,
        });
        let until = own.into_iter().chain(of_any).max_by_key(|pair| pair.mono);
        Ok(Reach {
            until: until.map(|pair| (number, pair)),
            heard,
        })
    }

    /// Returns the run whose blocks came last. An agent delivers blocks in the order in which it
    /// closed them, whatever its wall clock said.
    fn newest_run(&self, agent: i64) -> Result<Option<(i64, RunId)>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT id, started FROM run WHERE agent = ?1 ORDER BY id DESC LIMIT 1",
            )?
            .query_row([agent], |row| {
                Ok((row.get(0)?, RunId(row.get::<_, i64>(1)?.cast_unsigned())))
            })
            .optional()?)
    }

    /// Returns the clocks when a run's newest block was closed, of a session and kind or of any.
    fn newest_block(
        &self,
        run: i64,
        of: Option<(&SessionName, Kind)>,
    ) -> Result<Option<ClockPair>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT closed_mono, closed_wall FROM (
               SELECT number, kind, session, closed_mono, closed_wall FROM block
               WHERE run = ?1 ORDER BY number DESC LIMIT ?2)
             WHERE ?3 IS NULL
                OR (kind = ?3 AND session = (SELECT id FROM session WHERE name = ?4))
             ORDER BY number DESC LIMIT 1",
        )?;
        let (session, kind) = (of.map(|of| of.0.as_str()), of.map(|of| of.1.code()));
        let closed = |row: &rusqlite::Row<'_>| {
            Ok(ClockPair {
                mono: Mono::from_nanos(row.get(0)?),
                wall: Wall::from_nanos(row.get(1)?),
            })
        };
        Ok(statement
            .query_row(params![run, LOOKED_AT, kind, session], closed)
            .optional()?)
    }

    /// Returns how long a run keeps a block open, judged by its newest blocks.
    fn held(&self, run: i64) -> Result<Span, StoreError> {
        let (blocks, longest): (i64, Option<i64>) = self
            .db
            .prepare_cached(
                "SELECT count(*), max(closed_wall - first) FROM (
                   SELECT closed_wall, first FROM block
                   WHERE run = ?1 ORDER BY number DESC LIMIT 50)",
            )?
            .query_row([run], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let longest = longest.map_or(Span::ZERO, Span::from_nanos) + LATE;
        Ok(if blocks < ENOUGH {
            longest.max(HELD)
        } else {
            longest
        })
    }
}

#[cfg(test)]
mod tests;
