//! Sealed files: are they there, and do they hold what the catalogue says?

use super::super::digest;
use super::super::schema::keeps_digests;
use super::super::segment::{Origin, Segment};
use super::super::{Kind, Reader, StoreError};
use super::catalogue::RunEntry;
use hopgap_proto::record::{AgentName, Probe, Reception, RunId};
use hopgap_proto::time::Wall;
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;
use std::path::Path;

/// What is wrong with a sealed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFault {
    /// Its path, from the store's directory.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

/// A sealed file of the catalogue.
struct Entry {
    path: String,
    kind: Option<Kind>,
    session: i64,
    records: i64,
    bytes: i64,
    /// Number of records in the blocks that it replaced.
    of_blocks: i64,
    digest: Option<Vec<u8>>,
}

/// The sealed files that overlap a time.
fn entries(tx: &Transaction<'_>, (from, to): (Wall, Wall)) -> Result<Vec<Entry>, StoreError> {
    let digest = if keeps_digests(tx)? { "digest" } else { "NULL" };
    let mut statement = tx.prepare(&format!(
        "SELECT path, kind, session, records, bytes,
                (SELECT coalesce(sum(records), 0) FROM block WHERE segment = segment.id), {digest}
         FROM segment WHERE last >= ?1 AND first <= ?2 ORDER BY path",
    ))?;
    let rows = statement.query_map(params![from.as_nanos(), to.as_nanos()], |row| {
        Ok(Entry {
            path: row.get(0)?,
            kind: Kind::of(row.get(1)?),
            session: row.get(2)?,
            records: row.get(3)?,
            bytes: row.get(4)?,
            of_blocks: row.get(5)?,
            digest: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Row ids of runs, by the agent and run that sealed rows name.
struct RunsByOrigin {
    of_run: BTreeMap<RunId, i64>,
    of_both: BTreeMap<(AgentName, RunId), i64>,
}

impl RunsByOrigin {
    fn new(runs: &[RunEntry]) -> Self {
        Self {
            of_run: runs.iter().map(|run| (run.run, run.id)).collect(),
            of_both: runs
                .iter()
                .map(|run| ((run.name.clone(), run.run), run.id))
                .collect(),
        }
    }

    fn get(&self, origin: &Origin) -> Option<i64> {
        let name = origin.agent()?;
        // A sealed file keeps the name that the agent had when it was sealed.
        self.of_both
            .get(&(name, origin.run))
            .or_else(|| self.of_run.get(&origin.run))
            .copied()
    }
}

/// Reads every sealed file that overlaps a time completely. Passes their probes to `each`
/// with the row ids of run and session. Returns the number of files and their faults.
pub(super) fn check(
    reader: &Reader,
    tx: &Transaction<'_>,
    runs: &[RunEntry],
    time: (Wall, Wall),
    mut each: impl FnMut(i64, i64, &Probe),
) -> Result<(u64, Vec<SegmentFault>), StoreError> {
    let runs = RunsByOrigin::new(runs);
    let (mut count, mut faults) = (0, Vec::new());
    for entry in entries(tx, time)? {
        count += 1;
        let file = reader.dir().join(&entry.path);
        let found = if entry.kind == Some(Kind::Receptions) {
            read::<Reception>(&file, |_, _| {})
        } else {
            read_probes(&file, &runs, entry.session, &mut each)
        };
        let what = found.map_or_else(
            |error| Some(error.to_string()),
            |found| what_is_wrong(&file, &entry, found),
        );
        let path = entry.path;
        faults.extend(what.map(|what| SegmentFault { path, what }));
    }
    Ok((count, faults))
}

/// Passes the probes of these files to `each` again; [`check`] has reported the faults.
pub(super) fn read_again(
    reader: &Reader,
    tx: &Transaction<'_>,
    runs: &[RunEntry],
    time: (Wall, Wall),
    mut each: impl FnMut(i64, i64, &Probe),
) -> Result<(), StoreError> {
    let runs = RunsByOrigin::new(runs);
    for entry in entries(tx, time)? {
        if entry.kind != Some(Kind::Receptions) {
            let file = reader.dir().join(&entry.path);
            let _ = read_probes(&file, &runs, entry.session, &mut each);
        }
    }
    Ok(())
}

/// Returns what is wrong with a readable file that has this many rows and bytes.
fn what_is_wrong(file: &Path, entry: &Entry, (rows, length): (u64, u64)) -> Option<String> {
    let Entry {
        records,
        bytes,
        of_blocks,
        ..
    } = entry;
    if rows != records.cast_unsigned() {
        return Some(format!("it has {rows} rows, the catalogue says {records}"));
    }
    if records != of_blocks {
        return Some(format!(
            "it has {records} rows, the blocks that it replaced had {of_blocks}"
        ));
    }
    if length != bytes.cast_unsigned() {
        return Some(format!(
            "it is {length} bytes long, the catalogue says {bytes}"
        ));
    }
    let kept = entry.digest.as_deref()?;
    match digest::of(file) {
        Ok(now) if now[..] == *kept => None,
        Ok(_) => Some("its bytes are not those that were sealed".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn read_probes(
    file: &Path,
    runs: &RunsByOrigin,
    session: i64,
    each: &mut impl FnMut(i64, i64, &Probe),
) -> Result<(u64, u64), StoreError> {
    read::<Probe>(file, |origin, probe| {
        if let Some(run) = runs.get(origin) {
            each(run, session, probe);
        }
    })
}

/// Returns how many rows and bytes the file has.
fn read<R: super::super::segment::Row>(
    file: &Path,
    mut each: impl FnMut(&Origin, &R),
) -> Result<(u64, u64), StoreError> {
    let length = std::fs::metadata(file)
        .map_err(StoreError::file(file))?
        .len();
    let mut rows = 0;
    Segment::open(file)?.rows(file, (Wall::MIN, Wall::MAX), |origin: Origin, row: R| {
        rows += 1;
        each(&origin, &row);
    })?;
    Ok((rows, length))
}
