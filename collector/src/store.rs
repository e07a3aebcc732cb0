//! The store: a directory with one SQLite database and the Parquet files that
//! it has been sealed into.
//!
//! ```text
//! hopgap.db                                   catalogue, newest blocks, drills, markers
//! hopgap.lock                                 held by the one process that writes
//! sealed/probes/SESSION/2026-11-23T02.parquet one file per kind, session and hour of UTC
//! ```
//!
//! [`Store`] is the one writer. A block is durable when [`Store::append`] returns
//! (WAL, `synchronous=FULL`); its key (agent, run, number) makes a second delivery change
//! nothing. [`Reader`] reads beside it, from any process, and sees one consistent state.
//! [`seal`] moves whole hours of probes and receptions into Parquet: the file is complete
//! and flushed under its name before one transaction swaps it for the blobs.

mod aside;
pub mod audit;
mod block;
mod clock;
mod command;
mod digest;
mod drill;
mod error;
mod expire;
mod reach;
mod reader;
mod records;
mod rename;
mod schema;
pub mod seal;
mod sealed;
mod segment;
mod status;

pub(crate) use aside::is_different;
pub use aside::{Aside, Delivered};
pub use block::{Incoming, Kind, Tally};
pub use clock::ClockRow;
pub use command::{CommandId, CommandIdError, CommandTicket};
pub use drill::{Drill, Marker, MarkerKind};
pub use error::StoreError;
pub use expire::Expired;
pub use reach::Reach;
pub use reader::Reader;
pub use records::{EchoRows, RunRows, Runs, Size};
pub use status::{AgentStatus, Minute};

use crate::plan::{LATELY, Roles};
use hopgap_proto::plan::Plan;
use hopgap_proto::record::{AgentName, RunId, SessionName};
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::Revision;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The store, open for writing. There is one at a time for a directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    db: Connection,
    ids: Ids,
    /// Held for as long as this lives.
    _lock: File,
}

/// Caches row ids by name, so that names seen before need no look-up.
#[derive(Debug, Default)]
struct Ids {
    agents: BTreeMap<AgentName, i64>,
    runs: BTreeMap<(i64, RunId), i64>,
    sessions: BTreeMap<SessionName, i64>,
}

/// Counts the blocks of one [`Store::append`] by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Blocks that were new.
    pub new: u64,
    /// Blocks that were here already.
    pub duplicate: u64,
    /// Records in the new blocks.
    pub records: u64,
    /// Indices of the blocks that were not stored because the store holds a block with the
    /// same key and other bytes.
    pub different: Vec<usize>,
}

/// Name of the database within the store's directory.
const DATABASE: &str = "hopgap.db";

/// Name of the lock within the store's directory.
const LOCK: &str = "hopgap.lock";

impl Store {
    /// Opens the store in `dir` for writing and creates it where it is missing.
    ///
    /// # Errors
    ///
    /// When another process writes to it, when a newer version made it, or when the
    /// directory cannot be written.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        })?;
        let lock = lock(dir)?;
        let mut db = Connection::open(dir.join(DATABASE))
            .map_err(|source| StoreError::opening(dir, source))?;
        schema::prepare(&mut db, dir)?;
        clock::prepare(&db)?;
        let mut store = Self {
            dir: dir.to_owned(),
            db,
            ids: Ids::default(),
            _lock: lock,
        };
        store.sweep()?;
        Ok(store)
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stores blocks; they are durable when this returns. Blocks that are already stored
    /// change nothing.
    ///
    /// # Errors
    ///
    /// When the database fails; then none of the blocks was written.
    pub fn append(&mut self, blocks: &[Incoming], now: Wall) -> Result<Appended, StoreError> {
        let tx = self.db.transaction()?;
        // A rolled-back transaction must not leave its ids in the cache.
        let mut ids = std::mem::take(&mut self.ids);
        let appended = append(&tx, &mut ids, blocks, now)?;
        tx.commit()?;
        self.ids = ids;
        Ok(appended)
    }

    /// Records the plan in force from `now` on, without its keys. Recording the same plan
    /// again changes nothing.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn adopt_plan(&mut self, plan: &Plan, now: Wall) -> Result<(), StoreError> {
        // Includes the keys: a new key makes a new plan.
        let fingerprint = Revision::of(plan).0.cast_signed();
        let mut bare = plan.clone();
        for session in &mut bare.sessions {
            session.key = None;
        }
        let json = serde_json::to_string(&bare)?;
        let tx = self.db.transaction()?;
        let newest: Option<i64> = tx
            .query_row(
                "SELECT fingerprint FROM plan ORDER BY id DESC LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()?;
        if newest != Some(fingerprint) {
            tx.execute(
                "INSERT INTO plan (since, fingerprint, json) VALUES (?1, ?2, ?3)",
                params![now.as_nanos(), fingerprint, json],
            )?;
        }
        tx.commit()?;
        Ok(())
    }
}

impl Store {
    /// Returns who may deliver what at `now`, by the plans that were in force recently.
    ///
    /// # Errors
    ///
    /// When the database fails or a plan in it cannot be read.
    pub fn roles(&self, now: Wall) -> Result<Roles, StoreError> {
        let mut statement = self.db.prepare(
            "SELECT since, json FROM plan
             WHERE id >= coalesce((SELECT max(id) FROM plan WHERE since <= ?1), 0) ORDER BY id",
        )?;
        let mut rows = statement.query([(now - LATELY).as_nanos()])?;
        let mut roles = Roles::default();
        while let Some(row) = rows.next()? {
            let plan: Plan = serde_json::from_str(&row.get::<_, String>(1)?)?;
            roles.adopt(&plan, Wall::from_nanos(row.get(0)?));
        }
        Ok(roles)
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let failed = |source| StoreError::Directory {
        path: path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse {
            path: dir.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn append(
    tx: &Transaction<'_>,
    ids: &mut Ids,
    blocks: &[Incoming],
    now: Wall,
) -> Result<Appended, StoreError> {
    let mut appended = Appended::default();
    let mut by_agent: BTreeMap<i64, (Appended, Option<Wall>)> = BTreeMap::new();
    let mut catalogue = tx.prepare_cached(
        "INSERT INTO block (run, number, kind, session, closed_mono, closed_wall,
                            first, last, hour, records, answered, unanswered, refused, received,
                            crc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (run, number) DO NOTHING",
    )?;
    let mut payload = tx.prepare_cached("INSERT INTO payload (block, data) VALUES (?1, ?2)")?;
    // Blocks of earlier versions have no checksum and count as the same.
    let mut other = tx.prepare_cached(
        "SELECT 1 FROM block WHERE run = ?1 AND number = ?2 AND crc IS NOT NULL AND crc != ?3",
    )?;
    for (index, block) in blocks.iter().enumerate() {
        let key = &block.header.key;
        let agent = agent_id(tx, ids, &key.agent, now)?;
        let run = run_id(tx, ids, agent, key.run)?;
        let session = match &block.header.session {
            Some(session) => Some(session_id(tx, ids, session)?),
            None => None,
        };
        let tally = &block.tally;
        let inserted = catalogue.execute(params![
            run,
            key.number.cast_signed(),
            block.kind.code(),
            session,
            block.header.closed.mono.as_nanos(),
            block.header.closed.wall.as_nanos(),
            tally.first.as_nanos(),
            tally.last.as_nanos(),
            seal::hour_of(tally.first),
            tally.records,
            tally.answered,
            tally.unanswered,
            tally.refused,
            now.as_nanos(),
            block.crc,
        ])?;
        let (sum, newest) = by_agent.entry(agent).or_insert((Appended::default(), None));
        if inserted == 0 {
            if other.exists(params![run, key.number.cast_signed(), block.crc])? {
                appended.different.push(index);
            } else {
                sum.duplicate += 1;
            }
            continue;
        }
        payload.execute(params![tx.last_insert_rowid(), &block.payload[..]])?;
        sum.new += 1;
        sum.records += u64::from(tally.records);
        // The block that came last, not the latest time: the agent's clock may have been set back.
        *newest = Some(block.header.closed.wall);
    }
    for (agent, (sum, newest)) in by_agent {
        tx.prepare_cached(
            "UPDATE agent SET last_seen = ?2, blocks = blocks + ?3, duplicates = duplicates + ?4,
                    records = records + ?5, newest = coalesce(?6, newest) WHERE id = ?1",
        )?
        .execute(params![
            agent,
            now.as_nanos(),
            sum.new.cast_signed(),
            sum.duplicate.cast_signed(),
            sum.records.cast_signed(),
            newest.map(Wall::as_nanos)
        ])?;
        appended.new += sum.new;
        appended.duplicate += sum.duplicate;
        appended.records += sum.records;
    }
    Ok(appended)
}

fn agent_id(
    tx: &Transaction<'_>,
    ids: &mut Ids,
    agent: &AgentName,
    now: Wall,
) -> Result<i64, StoreError> {
    if let Some(id) = ids.agents.get(agent) {
        return Ok(*id);
    }
    let id = status::agent_id(tx, agent, now)?;
    ids.agents.insert(agent.clone(), id);
    Ok(id)
}

fn run_id(tx: &Transaction<'_>, ids: &mut Ids, agent: i64, run: RunId) -> Result<i64, StoreError> {
    if let Some(id) = ids.runs.get(&(agent, run)) {
        return Ok(*id);
    }
    let at = run.0.cast_signed();
    tx.execute(
        "INSERT INTO run (agent, started) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![agent, at],
    )?;
    let id = tx.query_row(
        "SELECT id FROM run WHERE agent = ?1 AND started = ?2",
        params![agent, at],
        |row| row.get(0),
    )?;
    ids.runs.insert((agent, run), id);
    Ok(id)
}

fn session_id(
    tx: &Transaction<'_>,
    ids: &mut Ids,
    session: &SessionName,
) -> Result<i64, StoreError> {
    if let Some(id) = ids.sessions.get(session) {
        return Ok(*id);
    }
    tx.execute(
        "INSERT INTO session (name) VALUES (?1) ON CONFLICT DO NOTHING",
        [session.as_str()],
    )?;
    let id = tx.query_row(
        "SELECT id FROM session WHERE name = ?1",
        [session.as_str()],
        |row| row.get(0),
    )?;
    ids.sessions.insert(session.clone(), id);
    Ok(id)
}

#[cfg(test)]
pub(crate) mod tests;
