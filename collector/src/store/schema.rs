//! The database's tables and their version.

use super::StoreError;
use rusqlite::Connection;
use std::path::Path;

/// The newest version of the tables that this program knows.
///
/// | version | what it added |
/// |---|---|
/// | 1 | everything |
/// | 2 | `block.crc`, so that a block is known by its bytes when it is sealed, too; `expired` |
/// | 3 | `segment.digest`, so that a sealed file is known by its bytes |
pub(super) const VERSION: i64 = 3;

/// Marks a database as hopgap's own: "hgap".
const APPLICATION: i64 = 0x6867_6170;

/// All times are nanoseconds: `*_wall`, `first`, `last`, `received`, `at`, `since` and
/// `started` since 1970 UTC, `*_mono` since the agent's boot.
///
/// `agent.newest` is when the block that came last was closed, on the agent's own clock.
/// `refused` keeps whole frames that cannot be used.
/// `block.crc` is the CRC-32 (IEEE) of the payload as it came, null where version 1 stored it.
/// `segment.digest` is the SHA-256 of the sealed file, null where an older version sealed it.
/// `expired` holds the numbers of blocks deleted because of their age: they are not missing.
/// `payload` is separate from `block` so that listing blocks reads no blobs. Both are rowid
/// tables because blobs in a WITHOUT ROWID table cost double.
const TABLES: &str = "
CREATE TABLE agent (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  version TEXT,
  newest INTEGER,
  blocks INTEGER NOT NULL DEFAULT 0,
  duplicates INTEGER NOT NULL DEFAULT 0,
  records INTEGER NOT NULL DEFAULT 0,
  refused INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE refused (
  id INTEGER PRIMARY KEY,
  agent INTEGER NOT NULL REFERENCES agent,
  at INTEGER NOT NULL,
  error TEXT NOT NULL,
  data BLOB NOT NULL
);
CREATE TABLE run (
  id INTEGER PRIMARY KEY,
  agent INTEGER NOT NULL REFERENCES agent,
  started INTEGER NOT NULL,
  UNIQUE (agent, started)
);
CREATE TABLE session (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE segment (
  id INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  session INTEGER NOT NULL REFERENCES session,
  hour INTEGER NOT NULL,
  path TEXT NOT NULL UNIQUE,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  records INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sealed INTEGER NOT NULL,
  digest BLOB
);
CREATE INDEX segment_by_time ON segment (session, kind, first);
CREATE TABLE block (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES run,
  number INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  session INTEGER REFERENCES session,
  closed_mono INTEGER NOT NULL,
  closed_wall INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  hour INTEGER NOT NULL,
  records INTEGER NOT NULL,
  answered INTEGER NOT NULL,
  unanswered INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  received INTEGER NOT NULL,
  segment INTEGER REFERENCES segment,
  damaged INTEGER NOT NULL DEFAULT 0,
  crc INTEGER,
  UNIQUE (run, number)
);
CREATE INDEX block_by_time ON block (session, kind, last);
CREATE INDEX block_by_closing ON block (run, closed_wall);
CREATE INDEX block_to_seal ON block (kind, session, hour) WHERE segment IS NULL;
CREATE TABLE payload (
  block INTEGER PRIMARY KEY REFERENCES block,
  data BLOB NOT NULL
);
CREATE TABLE garbage (
  path TEXT NOT NULL PRIMARY KEY
);
CREATE TABLE plan (
  id INTEGER PRIMARY KEY,
  since INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL,
  json TEXT NOT NULL
);
CREATE TABLE marker (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  text TEXT NOT NULL
);
CREATE INDEX marker_by_time ON marker (at);
CREATE TABLE drill (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  started INTEGER NOT NULL,
  stopped INTEGER
);
";

/// What version 2 added.
const EXPIRED: &str = "
CREATE TABLE expired (
  run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL
);
CREATE INDEX expired_by_run ON expired (run);
";

/// Sets up the writer's connection, creates missing tables and upgrades those of an older
/// version.
pub(super) fn prepare(db: &mut Connection, dir: &Path) -> Result<(), StoreError> {
    check(db, dir)?;
    // Set before the first table, which fixes the page size. Blocks are tens of KiB.
    db.pragma_update(None, "page_size", 16_384)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "cache_size", -16_384)?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    let found = version(db)?;
    if found < VERSION {
        let tx = db.transaction()?;
        if found == 0 {
            tx.execute_batch(TABLES)?;
            tx.pragma_update(None, "application_id", APPLICATION)?;
        } else {
            tx.execute_batch("ALTER TABLE segment ADD COLUMN digest BLOB")?;
        }
        if found == 1 {
            tx.execute_batch("ALTER TABLE block ADD COLUMN crc INTEGER")?;
        }
        if found < 2 {
            tx.execute_batch(EXPIRED)?;
        }
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.commit()?;
    }
    db.execute_batch(super::command::TABLE)?;
    Ok(())
}

/// Refuses a database that this program does not know.
pub(super) fn check(db: &Connection, dir: &Path) -> Result<(), StoreError> {
    let opening = |source| StoreError::opening(dir, source);
    let found = version(db).map_err(opening)?;
    let application: i64 = db
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(opening)?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(opening)?;
    if tables > 0 && application != APPLICATION {
        return Err(StoreError::Foreign {
            path: dir.join(super::DATABASE),
        });
    }
    if found > VERSION {
        return Err(StoreError::Newer {
            path: dir.to_owned(),
            found,
            known: VERSION,
        });
    }
    Ok(())
}

pub(super) fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Whether the tables are of a version that keeps checksums and what expired.
pub(super) fn keeps_checksums(db: &Connection) -> Result<bool, StoreError> {
    Ok(version(db)? >= 2)
}

/// Whether the tables are of a version that keeps the digests of sealed files.
pub(super) fn keeps_digests(db: &Connection) -> Result<bool, StoreError> {
    Ok(version(db)? >= 3)
}
