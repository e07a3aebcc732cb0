//! Records which certificates were issued to which agents.

use super::folder::Folder;
use super::token;
use super::{IdentityError, Issued};
use crate::clock;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::Fingerprint;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::fmt;

const FILE: &str = "identity.db";

/// The newest version of the tables that this program knows.
const VERSION: i64 = 2;

/// Most valid certificates of one agent. A working agent has two: the one in use and the
/// one before.
const MOST_VALID: usize = 16;

/// All times are nanoseconds since 1970 UTC.
///
/// `former` holds an agent's earlier names: records that it made under them are still its
/// own, also where another agent has the name now. `token.hash` is the hash of the secret,
/// which is not stored. `renaming` holds the renamings that the store has still to apply.
const TABLES: &str = "
CREATE TABLE agent (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  joined INTEGER NOT NULL
);
CREATE TABLE former (
  name TEXT NOT NULL,
  agent TEXT NOT NULL REFERENCES agent,
  at INTEGER NOT NULL,
  PRIMARY KEY (name, agent)
);
CREATE TABLE certificate (
  fingerprint BLOB PRIMARY KEY,
  agent TEXT NOT NULL REFERENCES agent,
  serial TEXT NOT NULL,
  made INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  revoked INTEGER
);
CREATE INDEX certificate_by_agent ON certificate (agent, made);
CREATE TABLE token (
  id BLOB PRIMARY KEY,
  agent TEXT NOT NULL,
  hash BLOB NOT NULL,
  made INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  used INTEGER,
  revoked INTEGER
);
CREATE TABLE renaming (
  id INTEGER PRIMARY KEY,
  old TEXT NOT NULL,
  new TEXT NOT NULL
);
";

/// Upgrades from version 1, where a name could be the former name of only one agent.
const FROM_1: &str = "
ALTER TABLE former RENAME TO former_1;
CREATE TABLE former (
  name TEXT NOT NULL,
  agent TEXT NOT NULL REFERENCES agent,
  at INTEGER NOT NULL,
  PRIMARY KEY (name, agent)
);
INSERT INTO former SELECT name, agent, at FROM former_1;
DROP TABLE former_1;
";

/// Identifies an agent in its certificates: a number without meaning, so that an agent can
/// be renamed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentId(pub(super) String);

impl AgentId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The agent that a valid certificate belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAgent {
    /// The agent.
    pub id: AgentId,
    /// Its name now.
    pub name: AgentName,
    /// Its earlier names; other agents may have them now.
    pub former: Vec<AgentName>,
}

/// Why a certificate that the authority signed is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// It is not in the catalogue.
    #[error("the catalogue does not know the certificate")]
    Unknown,
    /// It was revoked.
    #[error("the certificate of agent `{0}` was revoked")]
    Revoked(AgentName),
    /// It has expired.
    #[error(
        "the certificate of agent `{0}` has expired; let its host join again, with a new token and `--again`"
    )]
    Expired(AgentName),
}

/// An agent that has joined, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Its name.
    pub name: AgentName,
    /// When it first joined.
    pub joined: Wall,
    /// Its newest certificate.
    pub certificate: CertificateRow,
    /// How many of its certificates are valid.
    pub valid: usize,
}

/// A certificate, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// When it expires.
    pub expires: Wall,
    /// When it was revoked.
    pub revoked: Option<Wall>,
}

/// Agents, certificates and tokens. Every write is on the disk when its method returns.
#[derive(Debug)]
pub struct Catalogue {
    pub(super) db: Connection,
}

impl Catalogue {
    pub(super) fn open(folder: &Folder) -> Result<Self, IdentityError> {
        let path = folder.touch(FILE)?;
        let db = Connection::open(&path)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        let mut catalogue = Self { db };
        let tx = catalogue.begin()?;
        let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > VERSION {
            return Err(IdentityError::Newer {
                path,
                found,
                known: VERSION,
            });
        }
        match found {
            0 => tx.execute_batch(TABLES)?,
            1 => tx.execute_batch(FROM_1)?,
            _ => {}
        }
        if found != VERSION {
            tx.pragma_update(None, "user_version", VERSION)?;
        }
        tx.commit()?;
        Ok(catalogue)
    }

    /// Runs `work` while no other process writes.
    pub(super) fn alone<T>(
        &mut self,
        work: impl FnOnce(Wall) -> Result<T, IdentityError>,
    ) -> Result<T, IdentityError> {
        let tx = self.begin()?;
        let done = work(clock::now())?;
        tx.commit()?;
        Ok(done)
    }

    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, IdentityError> {
        Ok(self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// Returns the agent that a certificate belongs to now, or why it is rejected.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn look_up(
        &self,
        certificate: Fingerprint,
        now: Wall,
    ) -> Result<Result<KnownAgent, Unwelcome>, IdentityError> {
        let mut statement = self.db.prepare_cached(
            "SELECT agent.id, agent.name, expires, revoked FROM certificate
             JOIN agent ON agent.id = certificate.agent WHERE fingerprint = ?1",
        )?;
        let found = statement
            .query_row([&certificate.0[..]], |row| {
                Ok((
                    AgentId(row.get(0)?),
                    name(row, 1)?,
                    wall(row, 2)?,
                    row.get::<_, Option<i64>>(3)?,
                ))
            })
            .optional()?;
        Ok(match found {
            None => Err(Unwelcome::Unknown),
            Some((_, name, _, Some(_))) => Err(Unwelcome::Revoked(name)),
            Some((_, name, expires, None)) if expires <= now => Err(Unwelcome::Expired(name)),
            Some((id, name, _, None)) => Ok(KnownAgent {
                former: self.former(&id)?,
                id,
                name,
            }),
        })
    }

    fn former(&self, id: &AgentId) -> Result<Vec<AgentName>, IdentityError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT name FROM former WHERE agent = ?1 ORDER BY at")?;
        let names = statement.query_map([id.as_str()], |row| name(row, 0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Checks that an agent may get another valid certificate.
    ///
    /// # Errors
    ///
    /// [`IdentityError::TooMany`], or when the database fails.
    pub fn may_renew(&self, known: &KnownAgent, now: Wall) -> Result<(), IdentityError> {
        let valid: i64 = self.db.query_row(
            "SELECT count(*) FROM certificate
             WHERE agent = ?1 AND revoked IS NULL AND expires > ?2",
            params![known.id.as_str(), now.as_nanos()],
            |row| row.get(0),
        )?;
        let certificates = usize::try_from(valid).unwrap_or(usize::MAX);
        if certificates >= MOST_VALID {
            return Err(IdentityError::TooMany {
                agent: known.name.clone(),
                certificates,
            });
        }
        Ok(())
    }

    /// Enters an agent's next certificate and deletes its expired ones. Returns false, and
    /// enters nothing, where `before`, the certificate of the request, is no longer valid.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn renew(
        &mut self,
        before: Fingerprint,
        issued: &Issued,
        now: Wall,
    ) -> Result<bool, IdentityError> {
        let tx = self.begin()?;
        let agent: Option<String> = tx
            .query_row(
                "SELECT agent FROM certificate
                 WHERE fingerprint = ?1 AND revoked IS NULL AND expires > ?2",
                params![&before.0[..], now.as_nanos()],
                |row| row.get(0),
            )
            .optional()?;
        let Some(agent) = agent.map(AgentId) else {
            return Ok(false);
        };
        // The agent still uses `before`, so it never received or never kept the certificates
        // issued after it. They must not count against its limit.
        tx.execute(
            "UPDATE certificate SET revoked = ?3 WHERE agent = ?1 AND revoked IS NULL
             AND rowid > (SELECT rowid FROM certificate WHERE fingerprint = ?2)",
            params![agent.as_str(), &before.0[..], now.as_nanos()],
        )?;
        forget_expired(&tx, &agent, now)?;
        enter(&tx, &agent, issued)?;
        tx.commit()?;
        Ok(true)
    }

    /// Revokes all certificates of an agent and its unused tokens, also where it has not joined
    /// yet. Returns how many certificates were valid until now.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoAgent`] where there is neither, or when the database fails.
    pub fn revoke_agent(&mut self, agent: &AgentName, now: Wall) -> Result<usize, IdentityError> {
        let tx = self.begin()?;
        let tokens = token::revoke_waiting(&tx, agent, now)?;
        let revoked = match joined(&tx, agent)? {
            Some(id) => revoke(&tx, &id, now)?,
            None if tokens > 0 => 0,
            None => return Err(IdentityError::NoAgent(agent.clone())),
        };
        tx.commit()?;
        Ok(revoked)
    }

    /// Returns all agents that have joined, ordered by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn agents(&self, now: Wall) -> Result<Vec<AgentRow>, IdentityError> {
        let mut statement = self.db.prepare(
            "SELECT name, joined, serial, expires, revoked,
               (SELECT count(*) FROM certificate AS c WHERE c.agent = agent.id
                AND c.revoked IS NULL AND c.expires > ?1)
             FROM agent JOIN certificate ON certificate.rowid =
               (SELECT rowid FROM certificate AS c WHERE c.agent = agent.id
                ORDER BY made DESC, rowid DESC LIMIT 1)
             ORDER BY name",
        )?;
        let rows = statement.query_map([now.as_nanos()], |row| {
            Ok(AgentRow {
                name: name(row, 0)?,
                joined: wall(row, 1)?,
                certificate: CertificateRow {
                    serial: row.get(2)?,
                    expires: wall(row, 3)?,
                    revoked: row.get::<_, Option<i64>>(4)?.map(Wall::from_nanos),
                },
                valid: usize::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(super) fn joined(
    tx: &Transaction<'_>,
    agent: &AgentName,
) -> Result<Option<AgentId>, IdentityError> {
    Ok(tx
        .query_row(
            "SELECT id FROM agent WHERE name = ?1",
            [agent.as_str()],
            |row| row.get(0),
        )
        .optional()?
        .map(AgentId))
}

/// Deletes an agent's expired certificates: the handshake already rejects them.
pub(super) fn forget_expired(
    tx: &Transaction<'_>,
    agent: &AgentId,
    now: Wall,
) -> Result<(), IdentityError> {
    tx.execute(
        "DELETE FROM certificate WHERE agent = ?1 AND expires <= ?2",
        params![agent.as_str(), now.as_nanos()],
    )?;
    Ok(())
}

pub(super) fn enter(
    tx: &Transaction<'_>,
    agent: &AgentId,
    issued: &Issued,
) -> Result<(), IdentityError> {
    tx.execute(
        "INSERT INTO certificate (fingerprint, agent, serial, made, expires)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            &issued.fingerprint.0[..],
            agent.as_str(),
            issued.serial,
            issued.not_before.as_nanos(),
            issued.not_after.as_nanos()
        ],
    )?;
    Ok(())
}

pub(super) fn revoke(
    tx: &Transaction<'_>,
    agent: &AgentId,
    now: Wall,
) -> Result<usize, IdentityError> {
    let valid: i64 = tx.query_row(
        "SELECT count(*) FROM certificate WHERE agent = ?1 AND revoked IS NULL AND expires > ?2",
        params![agent.as_str(), now.as_nanos()],
        |row| row.get(0),
    )?;
    tx.execute(
        "UPDATE certificate SET revoked = ?2 WHERE agent = ?1 AND revoked IS NULL",
        params![agent.as_str(), now.as_nanos()],
    )?;
    Ok(usize::try_from(valid).unwrap_or(0))
}

pub(super) fn wall(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<Wall> {
    row.get(index).map(Wall::from_nanos)
}

/// Reads a name; it was checked when it was written.
pub(super) fn name(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<AgentName> {
    let text: String = row.get(index)?;
    text.parse()
        .map_err(|error: hopgap_proto::record::NameError| {
            rusqlite::Error::FromSqlConversionFailure(
                index,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })
}
