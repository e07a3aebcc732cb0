//! Writes a report's files, also as root into a directory that others may write to.
//!
//! The directory is opened once and all work uses that handle. A new file is made under a
//! name that did not exist (`O_EXCL`, `O_NOFOLLOW`) and then renamed. So a planted symbolic
//! link is replaced and never followed, and a reader sees either the old file or the new.

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How many names are tried for a new file. A name that is taken was left by an earlier run
/// that was killed, or planted.
const ATTEMPTS: u32 = 64;
/// As for `std::fs::write`; the process's umask clears bits of it.
const MODE: Mode = Mode::from_bits_truncate(0o666);

/// A directory that files are written to.
#[derive(Debug)]
pub(crate) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens `path`, and makes it where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made or opened, and where it is a symbolic link of another user.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Self::open(path)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = |more| nix::fcntl::open(path, flags | more, Mode::empty());
        let handle = match open(OFlag::O_NOFOLLOW) {
            // Linux says either where the last part is a symbolic link.
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                refuse_links_of_others(path)?;
                open(OFlag::empty())?
            }
            other => other?,
        };
        Ok(Self {
            handle,
            path: path.to_owned(),
        })
    }

    /// Writes a file, or replaces one, as a whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written; nothing new is left behind.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let (new, file) = self.new_file(name)?;
        let written = write_whole(file, content).and_then(|()| {
            renameat(&self.handle, new.as_str(), &self.handle, name).map_err(io::Error::from)
        });
        if let Err(error) = written {
            let _ = unlinkat(&self.handle, new.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        Ok(self.path.join(name))
    }

    /// Makes a file under an unused name, in the same directory as `name`.
    fn new_file(&self, name: &str) -> io::Result<(String, OwnedFd)> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for attempt in 0..ATTEMPTS {
            let new = format!(".{name}.{}-{attempt}.new", std::process::id());
            match openat(&self.handle, new.as_str(), flags, MODE) {
                Err(Errno::EEXIST) => {}
                opened => return Ok((new, opened?)),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "the directory is full of files named like .{name}.{}-0.new; remove them, or name another directory",
                std::process::id()
            ),
        ))
    }
}

fn write_whole(file: OwnedFd, content: &[u8]) -> io::Result<()> {
    let mut file = File::from(file);
    file.write_all(content)?;
    file.flush()
}

/// Writes one file, or replaces it, as a whole or not at all. Writes directly to what is
/// neither a regular file nor a symbolic link, such as a pipe, and to files below `/dev`,
/// such as `/dev/stdout`.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let is_special = std::fs::symlink_metadata(path)
        .is_ok_and(|m| !m.file_type().is_file() && !m.file_type().is_symlink());
    if is_special || path.starts_with("/dev") {
        return std::fs::write(path, content);
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidFilename, "it names no file"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Directory::open(parent)?.write(name, content).map(drop)
}

/// Refuses a symbolic link of another user than root: whoever may write in the parent
/// directory could replace the directory by one.
fn refuse_links_of_others(path: &Path) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let link = nix::fcntl::open(path, flags, Mode::empty())?;
    let owner = Uid::from_raw(fstat(&link)?.st_uid);
    if owner == Uid::effective() || owner.is_root() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "it is a symbolic link of the user with the id {owner}; name the directory that is meant"
        ),
    ))
}

#[cfg(test)]
mod tests;
