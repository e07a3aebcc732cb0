//! The status of agents and of their newest probes.

use super::{Kind, Reader, Store, StoreError};
use hopgap_proto::record::{AgentName, SessionName};
use hopgap_proto::time::Wall;
use rusqlite::{Connection, params};

/// Most that a block may be dated after its arrival, in nanoseconds: a century.
const AHEAD: i64 = 36_525 * 86_400_000_000_000;
/// Most that a record may be stamped after its block was closed, in nanoseconds.
const AFTER_CLOSING: i64 = 60_000_000_000;
/// Blocks that came this much before the newest, in nanoseconds, do not count: they were
/// recorded before a wall clock was set back.
const TOGETHER: i64 = 120_000_000_000;
/// Most blocks that are read for a session's newest minute.
const BLOCKS: i64 = 4_096;

/// What is known of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// Its name.
    pub agent: AgentName,
    /// When it was first heard of, on the collector's clock.
    pub first_seen: Wall,
    /// When it was last heard of, on the collector's clock.
    pub last_seen: Wall,
    /// The version of its program, as it said.
    pub version: Option<String>,
    /// When the block that came last was closed, on the agent's own clock. Later records are
    /// still on their way.
    pub newest: Option<Wall>,
    /// Blocks stored.
    pub blocks: u64,
    /// Blocks that came more than once.
    pub duplicates: u64,
    /// Records in the blocks stored.
    pub records: u64,
    /// Frames that were whole but could not be used.
    pub refused: u64,
}

impl Store {
    /// Returns the names of all agents that were ever let in.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn known_agents(&self) -> Result<Vec<AgentName>, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT name FROM agent")?;
        let mut rows = statement.query([])?;
        let mut names = Vec::new();
        while let Some(row) = rows.next()? {
            names.push(super::reader::name(row, 0)?);
        }
        Ok(names)
    }

    /// Records that an agent was heard of, and its program's version where it gave one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn seen(
        &mut self,
        agent: &AgentName,
        version: Option<&str>,
        now: Wall,
    ) -> Result<(), StoreError> {
        let tx = self.db.transaction()?;
        let id = agent_id(&tx, agent, now)?;
        tx.execute(
            "UPDATE agent SET last_seen = ?2, version = coalesce(?3, version) WHERE id = ?1",
            params![id, now.as_nanos(), version],
        )?;
        tx.commit()?;
        Ok(())
    }
}

/// The newest minute of a session's probes, summed from the tallies of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute {
    /// The newest probe, on the sender's wall clock.
    pub last: Wall,
    /// Probes answered in blocks that end in that minute.
    pub answered: u64,
    /// Probes not answered.
    pub unanswered: u64,
    /// Probes that the sender's kernel refused.
    pub refused: u64,
    /// The newest probe of the newest block with an answer; `None` where none has one.
    pub last_answered: Option<Wall>,
    /// Probes not answered in the blocks after that.
    pub unanswered_since: u64,
}

impl Reader {
    /// Returns the newest minute of the probes that `sender` sent in a session; `None` where
    /// there are none. Ignores blocks of other agents, and blocks dated more than a minute after
    /// the block of `sender` that came last: its wall clock was set back since.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn newest_minute(
        &self,
        session: &SessionName,
        sender: &AgentName,
    ) -> Result<Option<Minute>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "WITH newest AS (
               SELECT last, answered, unanswered, refused, received FROM block
               WHERE session = (SELECT id FROM session WHERE name = ?1) AND kind = ?2
                 AND run IN (SELECT run.id FROM run JOIN agent ON agent.id = run.agent
                             WHERE agent.name = ?3)
                 AND last <= (SELECT newest FROM agent WHERE name = ?3) + ?4
                 AND last <= received + ?7
               ORDER BY last DESC LIMIT ?5),
             together AS (
               SELECT * FROM newest WHERE received > (SELECT max(received) FROM newest) - ?6),
             minute AS (
               SELECT * FROM together
               WHERE last > (SELECT max(last) FROM together) - 60000000000)
             SELECT max(last), sum(answered), sum(unanswered), sum(refused),
               max(CASE WHEN answered > 0 THEN last END),
               (SELECT coalesce(sum(unanswered), 0) FROM minute WHERE last >
                 (SELECT coalesce(max(last), -9223372036854775808) FROM minute
                  WHERE answered > 0))
             FROM minute",
        )?;
        let minute = statement.query_row(
            params![
                session.as_str(),
                Kind::Probes.code(),
                sender.as_str(),
                AFTER_CLOSING,
                BLOCKS,
                TOGETHER,
                AHEAD
            ],
            |row| {
                let Some(last) = row.get::<_, Option<i64>>(0)? else {
                    return Ok(None);
                };
                Ok(Some(Minute {
                    last: Wall::from_nanos(last),
                    answered: row.get::<_, i64>(1)?.cast_unsigned(),
                    unanswered: row.get::<_, i64>(2)?.cast_unsigned(),
                    refused: row.get::<_, i64>(3)?.cast_unsigned(),
                    last_answered: row.get::<_, Option<i64>>(4)?.map(Wall::from_nanos),
                    unanswered_since: row.get::<_, i64>(5)?.cast_unsigned(),
                }))
            },
        )?;
        Ok(minute)
    }

    /// Returns all agents that were ever heard of, ordered by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn agents(&self) -> Result<Vec<AgentStatus>, StoreError> {
        let mut statement = self.db.prepare(
            "SELECT name, first_seen, last_seen, version, newest, blocks, duplicates, records, refused
             FROM agent ORDER BY name",
        )?;
        let mut rows = statement.query([])?;
        let mut agents = Vec::new();
        while let Some(row) = rows.next()? {
            agents.push(AgentStatus {
                agent: super::reader::name(row, 0)?,
                first_seen: Wall::from_nanos(row.get(1)?),
                last_seen: Wall::from_nanos(row.get(2)?),
                version: row.get(3)?,
                newest: row.get::<_, Option<i64>>(4)?.map(Wall::from_nanos),
                blocks: row.get::<_, i64>(5)?.cast_unsigned(),
                duplicates: row.get::<_, i64>(6)?.cast_unsigned(),
                records: row.get::<_, i64>(7)?.cast_unsigned(),
                refused: row.get::<_, i64>(8)?.cast_unsigned(),
            });
        }
        Ok(agents)
    }
}

/// Returns the row id of an agent, creating the row where it is missing.
pub(super) fn agent_id(db: &Connection, agent: &AgentName, now: Wall) -> Result<i64, StoreError> {
    db.prepare_cached(
        "INSERT INTO agent (name, first_seen, last_seen) VALUES (?1, ?2, ?2) ON CONFLICT DO NOTHING",
    )?
    .execute(params![agent.as_str(), now.as_nanos()])?;
    Ok(db
        .prepare_cached("SELECT id FROM agent WHERE name = ?1")?
        .query_row([agent.as_str()], |row| row.get(0))?)
}
