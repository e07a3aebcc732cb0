//! The place up to which the collector has the spool.

use super::disk::Disk;
use hopgap_proto::time::Wall;
use std::io;

const NAME: &str = "cursor";
const FRESH: &str = "cursor.new";

/// A place in the spool: everything before it was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    // The derived order of places follows the order of the fields.
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Cursor {
    pub(super) fn start_of(segment: u64) -> Self {
        Self { segment, offset: 0 }
    }
}

/// The content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) cursor: Cursor,
    /// When the last block before it was closed; `None` where that is not known.
    pub(super) closed: Option<Wall>,
}

/// Reads the stored cursor; `None` where it is missing or unreadable: everything is then
/// delivered again.
pub(super) fn read(disk: &dyn Disk) -> Option<Kept> {
    let mut bytes = Vec::new();
    disk.read(NAME, 0, 64, &mut bytes).ok()?;
    parse(std::str::from_utf8(&bytes).ok()?)
}

/// Parses `SEGMENT OFFSET CLOSED`, the last in nanoseconds since 1970; version 0.1 wrote
/// no `CLOSED`.
fn parse(text: &str) -> Option<Kept> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let cursor = Cursor {
        segment: words.next()?.parse().ok()?,
        offset: words.next()?.parse().ok()?,
    };
    let closed = match words.next() {
        None | Some("-") => None,
        Some(closed) => Some(Wall::from_nanos(closed.parse().ok()?)),
    };
    words.next().is_none().then_some(Kept { cursor, closed })
}

/// Replaces the stored cursor as a whole. Does not flush it: an old cursor costs only a
/// second delivery.
pub(super) fn write(disk: &dyn Disk, cursor: Cursor, closed: Option<Wall>) -> io::Result<()> {
    let closed = closed.map_or_else(|| "-".to_owned(), |at| at.as_nanos().to_string());
    let text = format!("{} {} {closed}\n", cursor.segment, cursor.offset);
    disk.remove(FRESH)?;
    disk.create(FRESH)?.append(text.as_bytes())?;
    disk.rename(FRESH, NAME)
}

/// Removes the stored cursor.
pub(super) fn forget(disk: &dyn Disk) -> io::Result<()> {
    disk.remove(NAME)?;
    disk.sync_names()
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Kept, parse};
    use hopgap_proto::time::Wall;

    #[test]
    fn cursors_with_and_without_a_time_are_read_and_others_are_none() {
        let cursor = Cursor {
            segment: 3,
            offset: 60,
        };
        let kept = |closed| Some(Kept { cursor, closed });
        assert_eq!(parse("3 60\n"), kept(None));
        assert_eq!(parse("3 60 -\n"), kept(None));
        assert_eq!(parse("3 60 -7\n"), kept(Some(Wall::from_nanos(-7))));
        for damaged in ["3 60", "3\n", "3 x\n", "3 60 x\n", "3 60 7 8\n", "\n"] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }
}
