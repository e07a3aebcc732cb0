//! How far the records of an agent are in.

use super::{Kind, Reader, StoreError};
use hopgap_proto::record::{AgentName, SessionName};
use hopgap_proto::time::{Span, Wall};
use rusqlite::{OptionalExtension, params};

/// An agent that says nothing else keeps records for so long before it ships them: 10 s by
/// default, and some slack.
const HELD: Span = Span::from_secs(12);

/// An agent closes a block this much later than it is due.
const LATE: Span = Span::from_secs(1);

/// So many blocks show how long the agent keeps one open.
const ENOUGH: i64 = 8;

/// How far the records of one end of a session are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What was recorded until then, on the agent's wall clock, is in.
    pub until: Option<Wall>,
    /// When the agent was last heard of, on the collector's clock.
    pub heard: Option<Wall>,
}

impl Reader {
    /// How far an agent's records of one kind of a session are in.
    ///
    /// Blocks of one session and kind follow each other, and all blocks are delivered in
    /// the order in which they were closed: what was recorded before the newest block of
    /// this kind was closed is in, and so is what was recorded so long before the newest of
    /// any kind as the agent keeps a block open.
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
            .prepare_cached("SELECT id, last_seen, newest FROM agent WHERE name = ?1")?
            .query_row([agent.as_str()], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    Wall::from_nanos(row.get(1)?),
                    row.get::<_, Option<i64>>(2)?.map(Wall::from_nanos),
                ))
            })
            .optional()?;
        let Some((id, heard, newest)) = row else {
            return Ok(Reach::default());
        };
        let own: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT closed_wall FROM block JOIN run ON run.id = block.run
                 WHERE session = (SELECT id FROM session WHERE name = ?1) AND kind = ?2
                 AND run.agent = ?3 ORDER BY last DESC LIMIT 1",
            )?
            .query_row(params![session.as_str(), kind.code(), id], |row| row.get(0))
            .optional()?;
        let of_any = match newest {
            Some(newest) => Some(newest - self.held(id)?),
            None => None,
        };
        Ok(Reach {
            until: own.map(Wall::from_nanos).max(of_any),
            heard: Some(heard),
        })
    }

    /// How long the agent keeps a block open, as its newest blocks show.
    fn held(&self, agent: i64) -> Result<Span, StoreError> {
        let (blocks, longest): (i64, Option<i64>) = self
            .db
            .prepare_cached(
                "SELECT count(*), max(closed_wall - first) FROM (
                   SELECT closed_wall, first FROM block
                   WHERE run = (SELECT id FROM run WHERE agent = ?1 ORDER BY started DESC LIMIT 1)
                   ORDER BY closed_wall DESC LIMIT 50)",
            )?
            .query_row([agent], |row| Ok((row.get(0)?, row.get(1)?)))?;
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
