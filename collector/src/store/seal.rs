//! Sealing: whole hours of probes and receptions become Parquet files.
//!
//! Three steps, so that encoding never holds up the writer:
//! [`due`] finds an hour for which nothing came for a while, [`encode`] writes its file
//! (complete, flushed and under its final name), and [`Store::commit`] replaces the blobs
//! with the file in one transaction. A crash before the last step leaves a file that is not
//! in the catalogue; the next attempt uses the same name and replaces it. Blocks that come
//! for an hour after it was sealed become a further file of that hour.

use super::block::Kind;
use super::segment::{Origin, Row, write};
use super::{Reader, Store, StoreError, digest};
use hopgap_proto::record::{Block, BlockBody, Probe, Reception, RunId, SessionName};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use rusqlite::{OptionalExtension, Transaction, params};
use std::path::{Path, PathBuf};

/// Nanoseconds of an hour.
const HOUR: i64 = 3_600_000_000_000;

/// Returns the hour of UTC, counted from 1970.
pub(super) fn hour_of(at: Wall) -> i64 {
    at.as_nanos().div_euclid(HOUR)
}

/// An hour that can be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The session.
    pub session: SessionName,
    /// Probes or receptions.
    pub kind: Kind,
    /// Hours since 1970. A block belongs to the hour of its first record.
    pub hour: i64,
    /// Path that the file will have, from the store's directory.
    path: String,
    /// The blocks, in the order of their first records.
    blocks: Vec<i64>,
}

/// A file that is complete, flushed and under its name, but not yet in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    due: Due,
    /// How many rows it has.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    digest: [u8; 32],
    /// Blocks that could not be read; they stay as they are.
    pub damaged: Vec<i64>,
}

/// An hour in the future (from a clock that is ahead) is sealed after nothing came for it
/// for this long.
const OVER: Span = Span::from_secs(86_400);

/// Returns the oldest hour that is over and for which nothing came for `quiet`.
///
/// # Errors
///
/// When the database fails.
pub fn due(reader: &Reader, now: Wall, quiet: Span) -> Result<Option<Due>, StoreError> {
    let tx = reader.db.unchecked_transaction()?;
    let found: Option<(i64, i64, i64)> = tx
        .query_row(
            "SELECT kind, session, hour FROM block
             WHERE segment IS NULL AND damaged = 0 AND kind IN (1, 2) AND session IS NOT NULL
               AND (hour < ?1 OR hour > ?4)
             GROUP BY kind, session, hour
             HAVING max(received) < ?2 AND (hour < ?1 OR max(received) < ?3)
             ORDER BY hour, kind, session LIMIT 1",
            params![
                hour_of(now - quiet),
                (now - quiet).as_nanos(),
                (now - quiet.max(OVER)).as_nanos(),
                // Skips the current hours: they have many blocks, and none is due.
                hour_of(now) + 1
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((kind, session, hour)) = found else {
        return Ok(None);
    };
    let name = tx.query_row("SELECT name FROM session WHERE id = ?1", [session], |row| {
        super::reader::name(row, 0)
    })?;
    let kind_code = kind;
    let kind = if kind == Kind::Probes.code() {
        Kind::Probes
    } else {
        Kind::Receptions
    };
    let path = free_path(&tx, kind, &name, hour)?;
    let mut statement = tx.prepare(
        "SELECT id FROM block WHERE segment IS NULL AND damaged = 0
         AND kind = ?1 AND session = ?2 AND hour = ?3 ORDER BY first, id",
    )?;
    let blocks = statement
        .query_map(params![kind_code, session, hour], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some(Due {
        session: name,
        kind,
        hour,
        path,
        blocks,
    }))
}

/// Writes the file of an hour.
///
/// # Errors
///
/// When the disk or the database fails; the store is then as it was.
pub fn encode(reader: &Reader, due: Due) -> Result<Encoded, StoreError> {
    let target = reader.dir.join(&due.path);
    let dir = target.parent().unwrap_or(&reader.dir);
    std::fs::create_dir_all(dir).map_err(StoreError::file(dir))?;
    let beside = target.with_extension("parquet.tmp");
    let (rows, damaged) = match due.kind {
        Kind::Receptions => fill::<Reception>(reader, &due, &beside, |body| match body {
            BlockBody::Receptions(rows) => Some(rows),
            _ => None,
        })?,
        _ => fill::<Probe>(reader, &due, &beside, |body| match body {
            BlockBody::Probes(rows) => Some(rows),
            _ => None,
        })?,
    };
    let bytes = std::fs::metadata(&beside)
        .map_err(StoreError::file(&beside))?
        .len();
    let digest = digest::of(&beside)?;
    std::fs::rename(&beside, &target).map_err(StoreError::file(&target))?;
    // The rename itself is durable when the directories are flushed.
    for dir in dir.ancestors().take_while(|d| d.starts_with(&reader.dir)) {
        std::fs::File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(StoreError::file(dir))?;
    }
    Ok(Encoded {
        due,
        rows,
        bytes,
        digest,
        damaged,
    })
}

fn fill<R: Row>(
    reader: &Reader,
    due: &Due,
    path: &Path,
    rows_of: impl Fn(BlockBody) -> Option<Vec<R>>,
) -> Result<(u64, Vec<i64>), StoreError> {
    let mut damaged = Vec::new();
    let mut statement = reader.db.prepare(
        "SELECT agent.name, run.started, closed_mono, closed_wall, data, crc
         FROM block JOIN run ON run.id = block.run JOIN agent ON agent.id = run.agent
         JOIN payload ON payload.block = block.id WHERE block.id = ?1",
    )?;
    let rows = write::<R>(path, |sink| {
        for id in &due.blocks {
            let (agent, run, closed, data, crc) = statement.query_row([id], |row| {
                let closed = ClockPair {
                    mono: Mono::from_nanos(row.get(2)?),
                    wall: Wall::from_nanos(row.get(3)?),
                };
                let run = RunId(row.get::<_, i64>(1)?.cast_unsigned());
                Ok((
                    row.get::<_, String>(0)?,
                    run,
                    closed,
                    row.get::<_, Vec<u8>>(4)?,
                    row.get::<_, Option<u32>>(5)?,
                ))
            })?;
            // Sealing would hide that the bytes no longer match their checksum.
            let whole = crc.is_none_or(|crc| crc == crc32fast::hash(&data));
            let block = whole.then(|| Block::decode(&data).ok()).flatten();
            let Some(rows) = block.and_then(|b| rows_of(b.body)) else {
                tracing::error!("block {id} of the store is damaged and not sealed");
                damaged.push(*id);
                continue;
            };
            let origin = Origin {
                session: due.session.as_str().into(),
                agent: agent.as_str().into(),
                run,
                offset: closed.offset(),
            };
            for row in &rows {
                sink.push(&origin, row)?;
            }
        }
        Ok(())
    })?;
    Ok((rows, damaged))
}

/// Returns `sealed/KIND/SESSION/2026-11-23T02.parquet`, with a number for a further file of
/// the hour: the first such path that is neither in the catalogue nor listed for deletion.
fn free_path(
    tx: &Transaction<'_>,
    kind: Kind,
    session: &SessionName,
    hour: i64,
) -> Result<String, StoreError> {
    let at = jiff::Timestamp::from_second(hour.saturating_mul(3600)).unwrap_or_default();
    let stem = format!(
        "sealed/{}/{session}/{}",
        kind.name(),
        at.strftime("%Y-%m-%dT%H")
    );
    let mut path = format!("{stem}.parquet");
    let mut part = 0;
    let mut known = tx.prepare(
        "SELECT 1 FROM segment WHERE path = ?1 UNION ALL SELECT 1 FROM garbage WHERE path = ?1",
    )?;
    while known.exists([&path])? {
        part += 1;
        path = format!("{stem}.{part}.parquet");
    }
    Ok(path)
}

impl Encoded {
    /// Its path, from the store's directory.
    pub fn path(&self) -> &str {
        &self.due.path
    }
}

impl Store {
    /// Enters a sealed file into the catalogue and drops the blobs that it replaces.
    /// Doing so twice changes nothing.
    ///
    /// # Errors
    ///
    /// When the database fails; the blobs are then still there.
    pub fn commit(&mut self, encoded: &Encoded, now: Wall) -> Result<(), StoreError> {
        let due = &encoded.due;
        let tx = self.db.transaction()?;
        for id in &encoded.damaged {
            tx.execute("UPDATE block SET damaged = 1 WHERE id = ?1", [id])?;
        }
        if encoded.rows == 0 && encoded.damaged.len() == due.blocks.len() {
            // No block could be read: keeps only the blobs.
            tx.execute(
                "INSERT OR IGNORE INTO garbage (path) VALUES (?1)",
                [&due.path],
            )?;
            tx.commit()?;
            return self.sweep();
        }
        let known = tx
            .prepare("SELECT 1 FROM segment WHERE path = ?1")?
            .exists([&due.path])?;
        if known {
            return Ok(());
        }
        tx.execute(
            "INSERT INTO segment (kind, session, hour, path, first, last, records, bytes, sealed, digest)
             SELECT ?1, (SELECT id FROM session WHERE name = ?2), ?3, ?4,
                    min(first), max(last), ?5, ?6, ?7, ?8
             FROM block WHERE kind = ?1 AND hour = ?3 AND segment IS NULL AND damaged = 0
               AND session = (SELECT id FROM session WHERE name = ?2)",
            params![
                due.kind.code(),
                due.session.as_str(),
                due.hour,
                due.path,
                encoded.rows.cast_signed(),
                encoded.bytes.cast_signed(),
                now.as_nanos(),
                &encoded.digest[..]
            ],
        )?;
        let segment = tx.last_insert_rowid();
        {
            let mut mark = tx.prepare(
                "UPDATE block SET segment = ?2 WHERE id = ?1 AND segment IS NULL AND damaged = 0",
            )?;
            let mut drop = tx.prepare("DELETE FROM payload WHERE block = ?1")?;
            for id in &due.blocks {
                if mark.execute(params![id, segment])? == 1 {
                    drop.execute([id])?;
                }
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// Seals every hour that is due; returns the paths of the files.
    ///
    /// # Errors
    ///
    /// When the disk or the database fails; what was sealed before stays sealed.
    pub fn seal(&mut self, now: Wall, quiet: Span) -> Result<Vec<PathBuf>, StoreError> {
        let reader = Reader::open(&self.dir)?;
        let mut paths = Vec::new();
        while let Some(due) = due(&reader, now, quiet)? {
            let encoded = encode(&reader, due)?;
            self.commit(&encoded, now)?;
            paths.push(self.dir.join(encoded.path()));
        }
        Ok(paths)
    }
}
