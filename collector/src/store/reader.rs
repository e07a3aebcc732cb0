//! Reads the store while another process may write to it.

use super::{DATABASE, StoreError, schema};
use hopgap_proto::plan::Plan;
use hopgap_proto::time::Wall;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};
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
        let hidden = |source| StoreError::Hidden {
            path: dir.to_owned(),
            source,
        };
        if !path.try_exists().map_err(hidden)? {
            return Err(StoreError::Missing {
                path: dir.to_owned(),
            });
        }
        let db = match beside_a_writer(&path, dir) {
            Err(StoreError::Open { source, .. }) if lacks_rights(&source) => at_rest(&path, dir)?,
            opened => opened?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            db,
        })
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the plan in force at `at`, or the first plan where `at` is before it; without
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

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

fn beside_a_writer(path: &Path, dir: &Path) -> Result<Connection, StoreError> {
    let db = Connection::open_with_flags(path, FLAGS)
        .map_err(|source| StoreError::opening(dir, source))?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    schema::check(&db, dir)?;
    Ok(db)
}

/// Whether the error means missing rights. Without the right to write beside the database,
/// `SQLite` opens one with a log of changes only while a writer has the log open.
fn lacks_rights(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

/// Opens, without changing it, a database that nobody writes to and whose log is empty.
fn at_rest(path: &Path, dir: &Path) -> Result<Connection, StoreError> {
    let unreadable = || StoreError::NeedsOwner {
        path: dir.to_owned(),
    };
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if std::fs::metadata(&log).is_ok_and(|m| m.len() > 0) || std::fs::File::open(path).is_err() {
        return Err(unreadable());
    }
    let absolute = std::path::absolute(path).map_err(|_| unreadable())?;
    let name = absolute.to_str().ok_or_else(unreadable)?;
    // https://sqlite.org/uri.html: these characters end the path or begin an escape.
    let name = name
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    let db = Connection::open_with_flags(
        format!("file:{name}?immutable=1"),
        FLAGS | OpenFlags::SQLITE_OPEN_URI,
    )
    .map_err(|source| StoreError::opening(dir, source))?;
    schema::check(&db, dir)?;
    Ok(db)
}

/// Reads a name; it was checked when it was written.
pub(super) fn name<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(index)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}
