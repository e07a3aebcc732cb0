//! What can go wrong with the store.

use hopgap_analysis::schema::Utc;
use hopgap_proto::time::Wall;
use std::path::{Path, PathBuf};

/// Why the store cannot be used. Each sentence says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory or a file in it cannot be made, read or written.
    #[error("cannot use the store at {}: {source}; create it for this user or name another with `store`", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing was ever stored there.
    #[error("there is no store at {}; name its directory with --store", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// This user may not see whether there is a store.
    #[error("cannot read the store at {}: {source}; run this as root or as the user whose store it is, such as with `sudo`", path.display())]
    Hidden {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process writes to it.
    #[error("another collector writes to the store at {}; stop it or name another directory with `store`", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version made it.
    #[error("the store at {} has the schema version {found}, but this program knows up to {known}; use the newer hopgap-collector that wrote it", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The file is some other program's database.
    #[error("{} is not a hopgap store; name another directory with `store`", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The database cannot be opened.
    #[error("cannot open the store at {}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database cannot be read without the right to write in its directory.
    #[error("cannot read the store at {} as this user; run this as the user that the collector runs as, such as with `sudo -u`, or while the collector runs", path.display())]
    NeedsOwner {
        /// The directory.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the store's database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A sealed file failed.
    #[error("the sealed file {} failed: {source}", path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A sealed file lacks a column or holds a value that was never written.
    #[error("the sealed file {} is not as it was written: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A plan or a note cannot be written as JSON or read back.
    #[error("the store holds JSON that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A command came after its deadline.
    #[error(
        "the command came too late: it was to be carried out until {}, and it is {} here; nothing was done, and nothing will be",
        Utc(*until),
        Utc(*now)
    )]
    TooLate {
        /// Its deadline.
        until: Wall,
        /// When it would have been executed.
        now: Wall,
    },
    /// A drill cannot be started, or stopped, or found.
    #[error("{0}")]
    Drill(String),
}

impl StoreError {
    pub(super) fn opening(dir: &Path, source: rusqlite::Error) -> Self {
        Self::Open {
            path: dir.to_owned(),
            source,
        }
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Directory { path, source }
    }

    pub(super) fn sealed(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Sealed { path, source }
    }
}
