//! The file system as the spool uses it.
//!
//! The spool calls only these operations, so that tests can replace them by a simulated
//! disk: one that loses unflushed bytes, tears writes, is full, fails to flush or returns
//! other bytes than were written.

use super::{SpoolError, failed};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name, without the folder.
    pub(crate) name: String,
    /// Bytes in it.
    pub(crate) length: u64,
    /// When it was written to for the last time.
    pub(crate) written: SystemTime,
}

/// A directory. Names are relative to it; `""` is the directory itself.
pub(crate) trait Disk: fmt::Debug + Send {
    /// Returns the clock by which files are dated.
    fn now(&self) -> SystemTime;

    /// Lists the files in a folder, in no order; empty where the folder is absent.
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>>;

    /// Creates a file, which must not exist.
    fn create(&self, name: &str) -> io::Result<Box<dyn Writer>>;

    /// Appends at most `most` bytes of a file, from `offset` on, to `into`; returns how many.
    fn read(&self, name: &str, offset: u64, most: u64, into: &mut Vec<u8>) -> io::Result<u64>;

    /// Cuts a file to `length`.
    fn cut(&self, name: &str, length: u64) -> io::Result<()>;

    /// Renames a file, replacing any file of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; a missing file is no error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable: flushing a file is useless when its name is not flushed.
    fn sync_names(&self) -> io::Result<()>;

    /// The path of a file, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file that is being written.
pub(crate) trait Writer: fmt::Debug + Send {
    /// Appends to the file. After an error any part may be written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written durable (`fdatasync`). After an error, the state of the bytes
    /// written since the last success is unknown. A later success does not cover them either:
    /// the kernel may have discarded those pages.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `length`; later appends continue there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// Whether a read error means damaged bytes: other errors may pass.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let damage = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    Errno::from_io_error(error).is_some_and(|errno| damage.contains(&errno))
}

/// A directory of the file system, locked while this exists.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the directory and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, SpoolError> {
        std::fs::create_dir_all(path).map_err(failed("create", path))?;
        let lock = path.join("lock");
        // Also works on a disk that refuses writes: locking writes nothing.
        let file = File::create(&lock)
            .or_else(|refused| {
                let there = File::open(&lock).or_else(|_| File::open(path));
                there.map_err(|_| refused)
            })
            .map_err(failed("create", &lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: file,
            }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock)(source)),
        }
    }
}

impl Disk for Folder {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let entries = match std::fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // Skips a file that was removed meanwhile.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_file() {
                found.push(Entry {
                    name,
                    length: metadata.len(),
                    written: metadata.modified().unwrap_or_else(|_| self.now()),
                });
            }
        }
        Ok(found)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Writer>> {
        let path = self.path(name);
        if let Some((folder, _)) = name.rsplit_once('/') {
            std::fs::create_dir_all(self.path(folder))?;
        }
        // Opened for appending: after a cut the next write goes to the new end.
        let mut options = OpenOptions::new();
        Ok(Box::new(options.create_new(true).append(true).open(path)?))
    }

    fn read(&self, name: &str, offset: u64, most: u64, into: &mut Vec<u8>) -> io::Result<u64> {
        let mut file = File::open(self.path(name))?;
        file.seek(SeekFrom::Start(offset))?;
        let got = file.take(most).read_to_end(into)?;
        Ok(super::length(got))
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if let Some((folder, _)) = to.rsplit_once('/') {
            std::fs::create_dir_all(self.path(folder))?;
        }
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Writer for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
