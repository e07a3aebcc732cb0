//! Keeps bytes that cannot be delivered, for people who want to know what happened.

use super::disk::{Disk, Entry};
use std::io;
use tracing::warn;

/// The folder, in the spool's directory.
pub(super) const FOLDER: &str = "quarantine";
/// Most bytes kept of one stretch: a whole frame always fits.
const MOST_EACH: u64 = 5 << 20;
/// Most bytes and most files kept in total; the oldest go first.
const MOST_BYTES: u64 = 16 << 20;
const MOST_FILES: usize = 64;
/// Bytes copied at a time.
const WINDOW: u64 = 256 << 10;

/// Keeps `length` bytes of the file `from`, beginning at `offset`.
pub(super) fn keep(disk: &dyn Disk, from: &str, offset: u64, length: u64) {
    let stem = from.split('.').next().unwrap_or_default();
    let name = format!("{FOLDER}/{stem}-{offset:012}.bad");
    let copy = || -> io::Result<()> {
        disk.remove(&name)?;
        let mut writer = disk.create(&name)?;
        let (mut at, end) = (offset, offset + length.min(MOST_EACH));
        let mut window = Vec::new();
        while at < end {
            window.clear();
            let got = disk.read(from, at, WINDOW.min(end - at), &mut window)?;
            if got == 0 {
                break;
            }
            writer.append(&window)?;
            at += got;
        }
        Ok(())
    };
    told(disk, &name, copy());
}

/// Keeps bytes that were at `offset` of the file `from`.
pub(super) fn keep_bytes(disk: &dyn Disk, from: &str, offset: u64, bytes: &[u8]) {
    let stem = from.split('.').next().unwrap_or_default();
    let name = format!("{FOLDER}/{stem}-{offset:012}.bad");
    let copy = || {
        disk.remove(&name)?;
        disk.create(&name)?.append(bytes)
    };
    told(disk, &name, copy());
}

/// Keeps a whole file by renaming it.
pub(super) fn move_whole(disk: &dyn Disk, from: &str) -> io::Result<()> {
    let name = format!("{FOLDER}/{from}");
    disk.rename(from, &name)?;
    warn!("it is kept as {}", disk.path(&name).display());
    prune(disk);
    Ok(())
}

/// Logs the outcome. An error stops nothing: the copies are for people only.
fn told(disk: &dyn Disk, name: &str, kept: io::Result<()>) {
    let path = disk.path(name);
    match kept {
        Ok(()) => warn!("they are kept as {}", path.display()),
        Err(error) => warn!("they cannot be kept as {}: {error}", path.display()),
    }
    prune(disk);
}

/// Removes the oldest files beyond the bounds.
fn prune(disk: &dyn Disk) {
    let mut kept = disk.list(FOLDER).unwrap_or_default();
    kept.sort_by(|a, b| (a.written, &a.name).cmp(&(b.written, &b.name)));
    let mut bytes: u64 = kept.iter().map(|e| e.length).sum();
    let mut files = kept.len();
    for Entry { name, length, .. } in kept {
        // The newest stays, however large it is.
        if files <= 1 || (bytes <= MOST_BYTES && files <= MOST_FILES) {
            return;
        }
        if let Err(error) = disk.remove(&format!("{FOLDER}/{name}")) {
            warn!("the spool cannot remove {FOLDER}/{name}: {error}");
            return;
        }
        bytes -= length;
        files -= 1;
    }
}
