//! Reads runs and blocks from the catalogue and checks the blocks against it.

use super::super::block::tally_of;
use super::super::reader::name;
use super::super::schema::keeps_checksums;
use super::super::{Kind, StoreError};
use hopgap_proto::record::{AgentName, Block, RunId, SessionName};
use hopgap_proto::time::{ClockPair, Mono, Wall};
use rusqlite::{OptionalExtension as _, Transaction, params};

/// A block of the catalogue.
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) number: u64,
    pub(super) kind: Option<Kind>,
    pub(super) session: Option<i64>,
    pub(super) closed: ClockPair,
    pub(super) tally: [i64; 6],
    pub(super) sealed: bool,
    pub(super) crc: Option<u32>,
    /// Whether its records overlap the time that is audited.
    pub(super) within: bool,
}

/// A run of the catalogue.
pub(super) struct RunEntry {
    pub(super) id: i64,
    pub(super) agent: i64,
    pub(super) name: AgentName,
    pub(super) run: RunId,
}

pub(super) fn runs(tx: &Transaction<'_>) -> Result<Vec<RunEntry>, StoreError> {
    let mut statement = tx.prepare(
        "SELECT run.id, agent.id, agent.name, run.started
         FROM run JOIN agent ON agent.id = run.agent ORDER BY agent.name, run.started",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(RunEntry {
            id: row.get(0)?,
            agent: row.get(1)?,
            name: name(row, 2)?,
            run: RunId(row.get::<_, i64>(3)?.cast_unsigned()),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn sessions(tx: &Transaction<'_>) -> Result<Vec<(i64, SessionName)>, StoreError> {
    let mut statement = tx.prepare("SELECT id, name FROM session ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, name(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn entries(
    tx: &Transaction<'_>,
    run: i64,
    from: Wall,
    to: Wall,
) -> Result<Vec<Entry>, StoreError> {
    let crc = if keeps_checksums(tx)? { "crc" } else { "NULL" };
    let mut statement = tx.prepare(&format!(
        "SELECT id, number, kind, session, closed_mono, closed_wall, records, answered,
                unanswered, refused, first, last, segment IS NOT NULL, {crc}
         FROM block WHERE run = ?1 ORDER BY number",
    ))?;
    let rows = statement.query_map([run], |row| {
        let mut tally = [0; 6];
        for (i, value) in tally.iter_mut().enumerate() {
            *value = row.get(6 + i)?;
        }
        Ok(Entry {
            id: row.get(0)?,
            number: row.get::<_, i64>(1)?.cast_unsigned(),
            kind: Kind::of(row.get(2)?),
            session: row.get(3)?,
            closed: ClockPair {
                mono: Mono::from_nanos(row.get(4)?),
                wall: Wall::from_nanos(row.get(5)?),
            },
            tally,
            sealed: row.get(12)?,
            crc: row.get(13)?,
            within: tally[5] >= from.as_nanos() && tally[4] <= to.as_nanos(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Numbers that were deleted because of their age, as ranges.
pub(super) fn expired(tx: &Transaction<'_>, run: i64) -> Result<Vec<(u64, u64)>, StoreError> {
    if !keeps_checksums(tx)? {
        return Ok(Vec::new());
    }
    let mut statement = tx.prepare("SELECT first, last FROM expired WHERE run = ?1")?;
    let rows = statement.query_map([run], |row| {
        Ok((
            row.get::<_, i64>(0)?.cast_unsigned(),
            row.get::<_, i64>(1)?.cast_unsigned(),
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns a stored block, `None` where it was sealed, or what is wrong with it.
pub(super) fn block(
    tx: &Transaction<'_>,
    run: &RunEntry,
    entry: &Entry,
) -> Result<Result<Option<Block>, String>, StoreError> {
    let data: Option<Vec<u8>> = tx
        .prepare_cached("SELECT data FROM payload WHERE block = ?1")?
        .query_row(params![entry.id], |row| row.get(0))
        .optional()?;
    let Some(data) = data else {
        return Ok(if entry.sealed {
            Ok(None)
        } else {
            Err("its bytes are not there".to_owned())
        });
    };
    Ok(check(run, entry, &data).map(Some))
}

fn check(run: &RunEntry, entry: &Entry, data: &[u8]) -> Result<Block, String> {
    let crc = crc32fast::hash(data);
    if entry.crc.is_some_and(|kept| kept != crc) {
        return Err("its checksum does not hold".to_owned());
    }
    let block = Block::decode(data).map_err(|error| error.to_string())?;
    // Does not compare the agent's name: the agent may have been renamed.
    let key = &block.header.key;
    if key.run != run.run || key.number != entry.number {
        return Err(format!(
            "its bytes are of block {} of run {}",
            key.number, key.run.0
        ));
    }
    let (kind, tally) = tally_of(&block);
    let counted = [
        i64::from(tally.records),
        i64::from(tally.answered),
        i64::from(tally.unanswered),
        i64::from(tally.refused),
        tally.first.as_nanos(),
        tally.last.as_nanos(),
    ];
    if Some(kind) != entry.kind || counted != entry.tally {
        return Err(format!(
            "the catalogue says {} records and another kind or other times, it holds {} {}",
            entry.tally[0],
            tally.records,
            kind.name()
        ));
    }
    Ok(block)
}
