//! Reading beside the writer.

use super::{DATABASE, StoreError, schema};
use hopgap_proto::plan::Plan;
use hopgap_proto::time::Wall;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The store, open for reading, while another process may write to it.
#[derive(Debug)]
pub struct Reader {
    pub(super) dir: PathBuf,
    pub(super) db: Connection,
}

impl Reader {
    /// Opens the store in `dir` for reading.
    ///
    /// # Errors
    ///
    /// When there is none, or a newer version made it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(DATABASE);
        if !path.exists() {
            return Err(StoreError::Missing {
                path: dir.to_owned(),
            });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags)
            .map_err(|source| StoreError::opening(dir, source))?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        schema::check(&db, dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            db,
        })
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The plan in force at `at`, or the first one where that is before it; without
    /// keys. `None` where there never was a plan.
    ///
    /// # Errors
    ///
    /// When the database fails or its plan cannot be read.
    pub fn plan_at(&self, at: Wall) -> Result<Option<Plan>, StoreError> {
        let json: Option<String> = self
            .db
            .query_row(
                "SELECT json FROM plan ORDER BY since <= ?1 DESC,
                        CASE WHEN since <= ?1 THEN -id ELSE id END LIMIT 1",
                [at.as_nanos()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    }
}

/// A name that was checked when it was written.
pub(super) fn name<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(index)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}
