//! Stores the last plan on disk, for a start while the collector is away.

use hopgap_proto::uplink::PlanResponse;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The file of the cached plan.
#[derive(Debug)]
pub struct PlanCache {
    path: PathBuf,
}

/// Why the cached plan could not be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file system refused.
    #[error("cannot use the cached plan {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no plan that this version can read.
    #[error(
        "cannot read the cached plan {path}: {source}; it is replaced when the collector answers"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl PlanCache {
    /// Returns the cache in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("plan.json"),
        }
    }

    /// Reads the cached plan; `None` where none was ever written.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub fn load(&self) -> Result<Option<PlanResponse>, CacheError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        self.close_to_others();
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| CacheError::Unreadable {
                path: self.path.clone(),
                source,
            })
    }

    /// Replaces the cached plan; a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, plan: &PlanResponse) -> Result<(), CacheError> {
        let bytes = serde_json::to_vec(plan).map_err(|source| CacheError::Unreadable {
            path: self.path.clone(),
            source,
        })?;
        let fresh = self.path.with_extension("new");
        let write = || -> io::Result<()> {
            // The plan holds keys.
            let mut options = File::options();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            // A leftover file may be readable by others.
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = options.write(true).create_new(true).open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &self.path)
        };
        write().map_err(|source| self.io(source))
    }

    /// Closes the file to other users, because the plan holds keys. Ignores an error, as of a
    /// disk that refuses writes.
    fn close_to_others(&self) {
        let Ok(metadata) = std::fs::metadata(&self.path) else {
            return;
        };
        let mut permissions = metadata.permissions();
        if permissions.mode() & 0o077 == 0 {
            return;
        }
        let path = self.path.display();
        permissions.set_mode(0o600);
        match std::fs::set_permissions(&self.path, permissions) {
            Ok(()) => warn!("{path} holds keys and was open to other users; now it is not"),
            Err(error) => warn!("{path} holds keys and is open to other users: {error}"),
        }
    }

    fn io(&self, source: io::Error) -> CacheError {
        CacheError::Io {
            path: self.path.clone(),
            source,
        }
    }
}
