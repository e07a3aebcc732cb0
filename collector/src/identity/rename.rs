//! Renames an agent. Its certificate stays valid because it does not contain the name.

use super::IdentityError;
use super::catalogue::{Catalogue, joined, name};
use super::token;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Wall;
use rusqlite::params;

/// An agent that was renamed, whose records still have the old name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    id: i64,
    /// The name that its records still have.
    pub old: AgentName,
    /// The name that they will get.
    pub new: AgentName,
}

impl Catalogue {
    /// Renames an agent. Its records follow by [`Self::renamings`]. The agent is let in where
    /// the plan has the new name; deliveries are let in also while its own configuration has
    /// the old name. Unused tokens for the old name are revoked: they were made for this
    /// agent.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoAgent`], [`IdentityError::NameTaken`], or when the database fails.
    pub fn rename(
        &mut self,
        old: &AgentName,
        new: &AgentName,
        now: Wall,
    ) -> Result<(), IdentityError> {
        let tx = self.begin()?;
        let taken: i64 = tx.query_row(
            "SELECT count(*) FROM agent WHERE name = ?1",
            [new.as_str()],
            |row| row.get(0),
        )?;
        if taken > 0 {
            return Err(IdentityError::NameTaken(new.clone()));
        }
        let id = joined(&tx, old)?.ok_or_else(|| IdentityError::NoAgent(old.clone()))?;
        // A name that the agent had before is its own again.
        tx.execute(
            "DELETE FROM former WHERE name = ?1 AND agent = ?2",
            params![new.as_str(), id.as_str()],
        )?;
        tx.execute(
            "INSERT OR REPLACE INTO former (name, agent, at) VALUES (?1, ?2, ?3)",
            params![old.as_str(), id.as_str(), now.as_nanos()],
        )?;
        tx.execute(
            "UPDATE agent SET name = ?2 WHERE id = ?1",
            params![id.as_str(), new.as_str()],
        )?;
        token::revoke_waiting(&tx, old, now)?;
        tx.execute(
            "INSERT INTO renaming (old, new) VALUES (?1, ?2)",
            params![old.as_str(), new.as_str()],
        )?;
        tx.commit()?;
        Ok(())
    }

    /// Returns the renamings that are not yet applied to the records, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn renamings(&self) -> Result<Vec<Renaming>, IdentityError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT id, old, new FROM renaming ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            Ok(Renaming {
                id: row.get(0)?,
                old: name(row, 1)?,
                new: name(row, 2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Marks a renaming as applied to the records.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn renamed(&mut self, renaming: &Renaming) -> Result<(), IdentityError> {
        self.db
            .execute("DELETE FROM renaming WHERE id = ?1", [renaming.id])?;
        Ok(())
    }
}
