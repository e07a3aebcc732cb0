//! Sealed files: are they there, and do they hold what the catalogue says?

use super::super::segment::{Origin, Segment};
use super::super::{Kind, Reader, StoreError};
use super::super::{digest, schema};
use super::catalogue::RunEntry;
use hopgap_proto::record::{Probe, Reception, RunId};
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

/// Reads the sealed files that overlap a time, whole, and gives their probes to `each`,
/// with the row ids of run and session; how many files, and what is wrong with them.
pub(super) fn check(
    reader: &Reader,
    tx: &Transaction<'_>,
    runs: &[RunEntry],
    (from, to): (Wall, Wall),
    mut each: impl FnMut(i64, i64, &Probe),
) -> Result<(u64, Vec<SegmentFault>), StoreError> {
    let mut of_run: BTreeMap<RunId, i64> = BTreeMap::new();
    let mut of_both = BTreeMap::new();
    for run in runs {
        of_run.insert(run.run, run.id);
        of_both.insert((run.name.clone(), run.run), run.id);
    }
    let run_of = |origin: &Origin| {
        let name = origin.agent()?;
        // A file keeps the name that the agent had then.
        of_both
            .get(&(name, origin.run))
            .or_else(|| of_run.get(&origin.run))
            .copied()
    };
    let kept = if schema::version(tx)? >= 3 {
        "digest"
    } else {
        "NULL"
    };
    let mut statement = tx.prepare(&format!(
        "SELECT path, kind, session, records, bytes,
                (SELECT coalesce(sum(records), 0) FROM block WHERE segment = segment.id), {kept}
         FROM segment WHERE last >= ?1 AND first <= ?2 ORDER BY path",
    ))?;
    let mut rows = statement.query(params![from.as_nanos(), to.as_nanos()])?;
    let (mut count, mut faults) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        count += 1;
        let path: String = row.get(0)?;
        let (kind, session): (i64, i64) = (row.get(1)?, row.get(2)?);
        let (records, bytes, of_blocks): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let kept: Option<Vec<u8>> = row.get(6)?;
        let file = reader.dir().join(&path);
        let what = if Kind::of(kind) == Some(Kind::Receptions) {
            read::<Reception>(&file, |_, _| {})
        } else {
            read::<Probe>(&file, |origin, probe| {
                if let Some(run) = run_of(origin) {
                    each(run, session, probe);
                }
            })
        };
        let what = match what {
            Err(error) => Some(error.to_string()),
            Ok((rows, _)) if rows != records.cast_unsigned() => {
                Some(format!("it has {rows} rows, the catalogue says {records}"))
            }
            Ok(_) if records != of_blocks => Some(format!(
                "it has {records} rows, the blocks that it replaced had {of_blocks}"
            )),
            Ok((_, length)) if length != bytes.cast_unsigned() => Some(format!(
                "it is {length} bytes long, the catalogue says {bytes}"
            )),
            Ok(_) => match kept.map(|kept| digest::of(&file).map(|now| now[..] == kept[..])) {
                Some(Ok(false)) => Some("its bytes are not those that were sealed".to_owned()),
                Some(Err(error)) => Some(error.to_string()),
                Some(Ok(true)) | None => None,
            },
        };
        faults.extend(what.map(|what| SegmentFault { path, what }));
    }
    Ok((count, faults))
}

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
