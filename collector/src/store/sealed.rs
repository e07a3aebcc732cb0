//! Reads sealed files back.
//!
//! A missing, damaged or foreign file does not stop a report. Nothing in it is used: each
//! run with blocks sealed in it gets an event that reports them lost, so that this time
//! counts as no data.

use super::records::{AgentFilter, RunNames, RunRows, Runs};
use super::schema::keeps_digests;
use super::segment::{Origin, Row, Segment};
use super::{Reader, StoreError, digest};
use hopgap_proto::record::{AgentName, Event, EventKind, RunId, SessionName};
use hopgap_proto::time::{ClockPair, Mono, Wall};
use rusqlite::{Transaction, params};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A sealed file, as the catalogue has it.
struct Entry {
    id: i64,
    path: PathBuf,
    records: u64,
    /// SHA-256; `None` where an older version sealed it.
    digest: Option<Vec<u8>>,
}

/// Why a sealed file is not used.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("is missing")]
    Missing,
    #[error("does not hold the bytes that were sealed")]
    OtherBytes,
    #[error("has records of another session")]
    OtherSession,
    #[error("has {found} records, but {sealed} were sealed")]
    OtherCount { found: u64, sealed: u64 },
    #[error("names no agent in a row")]
    NoAgent,
    #[error("makes the Parquet reader give up")]
    Unreadable,
    #[error("cannot be read: {0}")]
    Store(#[from] StoreError),
}

/// Most rows of one origin that are collected before they are passed to their run.
const MOST_GATHERED: usize = 1 << 16;

/// Passes the sealed rows of a session and a time to `put`, each with the run that
/// recorded it.
///
/// # Errors
///
/// When the database fails.
pub(super) fn read<R: Row>(
    reader: &Reader,
    tx: &Transaction<'_>,
    whose: &AgentFilter<'_>,
    session: &SessionName,
    time: (Wall, Wall),
    runs: &mut Runs,
    mut put: impl FnMut(&mut RunRows, R),
) -> Result<(), StoreError> {
    for entry in entries::<R>(reader.dir(), tx, session, time)? {
        let taken = checked::<R>(&entry, session)
            .and_then(|segment| give(&segment, &entry, whose, time, runs, &mut put));
        if let Err(fault) = taken {
            tracing::error!(
                "the sealed file {} {fault}; what it held is told as lost. Put the file of a backup in its place, and make the report anew",
                entry.path.display()
            );
            tell_lost(tx, whose, &entry, runs)?;
        }
    }
    Ok(())
}

/// Makes an event for lost blocks: the first was closed at `from`, the last at `last`.
pub(super) fn lost(blocks: u32, last: ClockPair, from: Wall) -> Event {
    Event {
        at: last.mono,
        kind: EventKind::BlocksLost {
            blocks,
            from: Some(from),
            to: last.wall,
        },
    }
}

fn entries<R: Row>(
    dir: &Path,
    tx: &Transaction<'_>,
    session: &SessionName,
    (from, to): (Wall, Wall),
) -> Result<Vec<Entry>, StoreError> {
    let digest = if keeps_digests(tx)? { "digest" } else { "NULL" };
    let mut statement = tx.prepare(&format!(
        "SELECT id, path, records, {digest} FROM segment
         WHERE kind = ?1 AND last >= ?3 AND first <= ?4
         AND session = (SELECT id FROM session WHERE name = ?2) ORDER BY first, id"
    ))?;
    let entries = statement.query_map(
        params![
            R::KIND.code(),
            session.as_str(),
            from.as_nanos(),
            to.as_nanos()
        ],
        |row| {
            Ok(Entry {
                id: row.get(0)?,
                path: dir.join(row.get::<_, String>(1)?),
                records: row.get::<_, i64>(2)?.cast_unsigned(),
                digest: row.get(3)?,
            })
        },
    )?;
    Ok(entries.collect::<Result<_, _>>()?)
}

/// Opens a file and checks that it is as it was sealed: by its digest or, where an older
/// version kept none, row by row.
fn checked<R: Row>(entry: &Entry, session: &SessionName) -> Result<Segment, Fault> {
    if !entry.path.exists() {
        return Err(Fault::Missing);
    }
    if let Some(sealed) = &entry.digest
        && digest::of(&entry.path)?[..] != sealed[..]
    {
        return Err(Fault::OtherBytes);
    }
    let segment = guarded(|| Segment::open(&entry.path))?;
    let found = segment.count();
    if found != entry.records {
        return Err(Fault::OtherCount {
            found,
            sealed: entry.records,
        });
    }
    if entry.digest.is_none() {
        let (mut other_session, mut no_agent) = (false, false);
        let all = (Wall::MIN, Wall::MAX);
        guarded(|| {
            segment.rows(&entry.path, all, |origin: Origin, _: R| {
                other_session |= origin.session.data() != session.as_str().as_bytes();
                no_agent |= origin.agent().is_none();
            })
        })?;
        if other_session {
            return Err(Fault::OtherSession);
        }
        if no_agent {
            return Err(Fault::NoAgent);
        }
    }
    Ok(segment)
}

/// Turns a panic of the Parquet reader, which some damage causes, into an error. The reader
/// holds no state of ours.
fn guarded<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Fault> {
    let read = catch_unwind(AssertUnwindSafe(read)).map_err(|_| Fault::Unreadable)?;
    Ok(read?)
}

/// Passes the rows to their runs. Rows of one block follow each other, so they are
/// collected until the origin changes.
fn give<R: Row>(
    segment: &Segment,
    entry: &Entry,
    whose: &AgentFilter<'_>,
    time: (Wall, Wall),
    runs: &mut Runs,
    put: &mut impl FnMut(&mut RunRows, R),
) -> Result<(), Fault> {
    let mut current: Option<Origin> = None;
    let mut gathered: Vec<R> = Vec::new();
    let mut flush = |origin: Option<Origin>, rows: &mut Vec<R>| {
        let Some(origin) = origin else { return };
        let agent = origin.agent();
        let agent = agent.map(|agent| owner(&whose.names, agent, origin.run));
        match agent.filter(|agent| whose.wants(agent)) {
            Some(agent) => {
                let run = runs.entry((agent, origin.run)).or_default();
                rows.drain(..).for_each(|row| put(run, row));
            }
            None => rows.clear(),
        }
    };
    guarded(|| {
        segment.rows(&entry.path, time, |origin: Origin, row: R| {
            if current.as_ref() != Some(&origin) {
                flush(current.replace(origin), &mut gathered);
            } else if gathered.len() >= MOST_GATHERED {
                flush(current.clone(), &mut gathered);
            }
            gathered.push(row);
        })
    })?;
    flush(current, &mut gathered);
    Ok(())
}

/// Adds an event that reports lost blocks to each run with blocks sealed in a file.
fn tell_lost(
    tx: &Transaction<'_>,
    whose: &AgentFilter<'_>,
    entry: &Entry,
    runs: &mut Runs,
) -> Result<(), StoreError> {
    let mut statement = tx.prepare(
        "SELECT run, count(*), min(closed_wall), max(closed_wall), max(closed_mono)
         FROM block WHERE segment = ?1 GROUP BY run",
    )?;
    let mut found = statement.query([entry.id])?;
    while let Some(row) = found.next()? {
        let Some((agent, run)) = whose.recorded(row.get(0)?) else {
            continue;
        };
        let blocks = u32::try_from(row.get::<_, i64>(1)?).unwrap_or(u32::MAX);
        let last = ClockPair {
            mono: Mono::from_nanos(row.get(4)?),
            wall: Wall::from_nanos(row.get(3)?),
        };
        let event = lost(blocks, last, Wall::from_nanos(row.get(2)?));
        let rows = runs.entry((agent.clone(), *run)).or_default();
        rows.events.push(event);
    }
    Ok(())
}

/// Returns the agent of a sealed row. The row keeps the agent's name from the time of
/// sealing; the run identifies an agent that was renamed since.
fn owner(names: &RunNames, sealed: AgentName, run: RunId) -> AgentName {
    let of_run = || names.values().filter(|(_, r)| *r == run).map(|(a, _)| a);
    let mut others = of_run();
    match (others.next(), others.next()) {
        (Some(only), None) => only.clone(),
        // No such run, or two agents that started in the same nanosecond.
        _ => sealed,
    }
}

#[cfg(test)]
mod tests;
