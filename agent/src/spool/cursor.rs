//! How far the collector has the spool.

use super::disk::Disk;
use std::io;

const NAME: &str = "cursor";
const FRESH: &str = "cursor.new";

/// A place in the spool: everything before it was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    // The order of the fields is the order of places.
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Cursor {
    pub(super) fn start_of(segment: u64) -> Self {
        Self { segment, offset: 0 }
    }
}

/// The kept cursor; `None` where there is none, or none that can be read: all is
/// delivered again.
pub(super) fn read(disk: &dyn Disk) -> Option<Cursor> {
    let mut bytes = Vec::new();
    disk.read(NAME, 0, 64, &mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (segment, offset) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Cursor {
        segment: segment.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

/// Replaces the kept cursor whole. It is not flushed: an old one costs a second
/// delivery at most.
pub(super) fn write(disk: &dyn Disk, cursor: Cursor) -> io::Result<()> {
    let text = format!("{} {}\n", cursor.segment, cursor.offset);
    disk.remove(FRESH)?;
    disk.create(FRESH)?.append(text.as_bytes())?;
    disk.rename(FRESH, NAME)
}

/// Removes the kept cursor.
pub(super) fn forget(disk: &dyn Disk) -> io::Result<()> {
    disk.remove(NAME)?;
    disk.sync_names()
}
