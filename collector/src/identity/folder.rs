//! The directory of the authority and the catalogue, closed to other users.

use super::IdentityError;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

/// A directory that no other user can enter.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens the directory; creates it where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, IdentityError> {
        let store = path.parent().unwrap_or(path);
        std::fs::create_dir_all(store).map_err(IdentityError::file(store))?;
        let owner = std::fs::metadata(store)
            .map_err(IdentityError::file(store))?
            .uid();
        // The service could not read files that root made here.
        if owner != nix::unistd::geteuid().as_raw() {
            return Err(IdentityError::NotOwner {
                path: store.to_owned(),
            });
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(IdentityError::file(path)(source)),
        }
        closed(path, 0o700)?;
        Ok(Self(path.to_owned()))
    }

    /// Returns the path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file that only its owner may read; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let path = self.file(name);
        if !path.exists() {
            return Ok(None);
        }
        closed(&path, 0o600)?;
        std::fs::read_to_string(&path)
            .map(Some)
            .map_err(IdentityError::file(&path))
    }

    /// Writes a file durably under its name, or not at all.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), IdentityError> {
        let path = self.file(name);
        let fresh = path.with_extension("new");
        let write = || {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(IdentityError::file(&path))
    }

    /// Creates a missing file so that only its owner may read it; refuses a file that others may
    /// read.
    pub(super) fn touch(&self, name: &str) -> Result<PathBuf, IdentityError> {
        let path = self.file(name);
        File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(IdentityError::file(&path))?;
        closed(&path, 0o600)?;
        Ok(path)
    }
}

fn closed(path: &Path, wanted: u32) -> Result<(), IdentityError> {
    let mode = std::fs::metadata(path)
        .map_err(IdentityError::file(path))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Wide {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    Ok(())
}
