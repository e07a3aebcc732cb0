//! Bounds how much a query reads, before it runs.

use super::super::{Kind, Reader, StoreError};
use hopgap_proto::record::{AgentName, SessionName};
use hopgap_proto::time::Wall;
use rusqlite::params;

/// Memory of one probe, reception or trace with its analysis, in bytes.
const ROW: u64 = 270;
/// Memory of an event, in bytes.
const EVENT: u64 = 200;
/// Memory of an echo, in bytes.
const ECHO: u64 = 100;
/// Memory of a block's clock readings, in bytes.
const BLOCK: u64 = 100;
/// Memory for each encoded byte of traceroutes, in bytes: a hop is encoded in three or more.
const TRACE_BYTE: u64 = 24;

/// Upper bound of what a query reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of records, of all kinds.
    pub records: u64,
    /// Most memory that they and their analysis take, in bytes.
    pub bytes: u64,
}

impl Size {
    /// Returns the size of this many probes.
    pub const fn of_probes(records: u64) -> Self {
        Self {
            records,
            bytes: records.saturating_mul(ROW),
        }
    }
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Reader {
    /// Returns the most that [`Reader::records_by`] reads with the same arguments.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn size_by(
        &self,
        session: &SessionName,
        agent: &AgentName,
        kinds: &[Kind],
        (from, to): (Wall, Wall),
    ) -> Result<Size, StoreError> {
        // An agent's own events come with those of each of its sessions.
        let mut statement = self.db.prepare_cached(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(data)), 0)
             FROM block LEFT JOIN payload ON payload.block = block.id AND ?5
             WHERE (session = (SELECT id FROM session WHERE name = ?1)
                    OR (?6 AND session IS NULL))
               AND kind = ?2 AND last >= ?3 AND first <= ?4
               AND run IN (SELECT run.id FROM run JOIN agent ON agent.id = run.agent
                           WHERE agent.name = ?7)",
        )?;
        let mut size = Size::default();
        for kind in kinds {
            let row = params![
                session.as_str(),
                kind.code(),
                from.as_nanos(),
                to.as_nanos(),
                *kind == Kind::Traces,
                *kind == Kind::Events,
                agent.as_str()
            ];
            let [blocks, records, bytes] = statement.query_row(row, |row| {
                let number = |i| Ok::<_, rusqlite::Error>(row.get::<_, i64>(i)?.cast_unsigned());
                Ok([number(0)?, number(1)?, number(2)?])
            })?;
            size = size + of(*kind, records, bytes);
            size.bytes = size.bytes.saturating_add(blocks.saturating_mul(BLOCK));
        }
        Ok(size)
    }

    /// Returns the most that [`Reader::echoes_by`] reads with the same arguments.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn echoes_size(&self, agent: &AgentName, from: Wall, to: Wall) -> Result<Size, StoreError> {
        let records: i64 = self.db.query_row(
            "SELECT coalesce(sum(records), 0) FROM block
             WHERE kind = ?1 AND last >= ?2 AND first <= ?3
               AND run IN (SELECT run.id FROM run JOIN agent ON agent.id = run.agent
                           WHERE agent.name = ?4)",
            params![
                Kind::Echoes.code(),
                from.as_nanos(),
                to.as_nanos(),
                agent.as_str()
            ],
            |row| row.get(0),
        )?;
        Ok(of(Kind::Echoes, records.cast_unsigned(), 0))
    }
}

fn of(kind: Kind, records: u64, payload: u64) -> Size {
    let each = match kind {
        Kind::Probes | Kind::Receptions | Kind::Traces => ROW,
        Kind::Events => EVENT,
        Kind::Echoes => ECHO,
    };
    let nested = match kind {
        Kind::Traces => payload.saturating_mul(TRACE_BYTE),
        _ => 0,
    };
    Size {
        records,
        bytes: records.saturating_mul(each).saturating_add(nested),
    }
}
