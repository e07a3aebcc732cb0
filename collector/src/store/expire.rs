//! Deletes what is older than the retention time.

use super::{Store, StoreError};
use hopgap_proto::time::Wall;
use rusqlite::params;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Blocks, sealed or not.
    pub blocks: u64,
    /// Sealed files.
    pub files: u64,
}

impl Store {
    /// Deletes the blocks received, and the files sealed, before `before`. Their records were
    /// recorded before it, whatever their agent's clock said. Drills and markers stay.
    ///
    /// # Errors
    ///
    /// When the database or the disk fails; what was deleted before stays deleted.
    pub fn expire(&mut self, before: Wall) -> Result<Expired, StoreError> {
        let before = before.as_nanos();
        let tx = self.db.transaction()?;
        // Lists the files as garbage first, so that a crash leaves no unlisted file.
        tx.execute(
            "INSERT OR IGNORE INTO garbage (path) SELECT path FROM segment WHERE sealed < ?1",
            [before],
        )?;
        // Records the deleted numbers, one row a range: they do not count as missing.
        tx.execute(
            "INSERT INTO expired (run, first, last)
             SELECT run, min(number), max(number) FROM (
               SELECT run, number, number - row_number() OVER (PARTITION BY run ORDER BY number) AS island
               FROM block WHERE received < ?1 AND
               (segment IS NULL OR segment IN
                 (SELECT id FROM segment WHERE sealed < ?1)))
             GROUP BY run, island",
            [before],
        )?;
        tx.execute(
            "DELETE FROM payload WHERE block IN (SELECT id FROM block WHERE received < ?1 AND
               (segment IS NULL OR segment IN
                 (SELECT id FROM segment WHERE sealed < ?1)))",
            [before],
        )?;
        let blocks = tx.execute(
            "DELETE FROM block WHERE received < ?1 AND
               (segment IS NULL OR segment IN
                 (SELECT id FROM segment WHERE sealed < ?1))",
            [before],
        )?;
        let files = tx.execute("DELETE FROM segment WHERE sealed < ?1", params![before])?;
        tx.commit()?;
        self.sweep()?;
        let count = |n| u64::try_from(n).unwrap_or(u64::MAX);
        Ok(Expired {
            blocks: count(blocks),
            files: count(files),
        })
    }

    /// Removes the files listed as garbage. A file that cannot be removed only takes room: it
    /// stays in the list and is tried again.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        let paths: Vec<String> = self
            .db
            .prepare("SELECT path FROM garbage")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for path in paths {
            let file = self.dir.join(&path);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(
                        "cannot remove {}, which is not needed any more: {error}",
                        file.display()
                    );
                }
                _ => {
                    self.db
                        .execute("DELETE FROM garbage WHERE path = ?1", [&path])?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
