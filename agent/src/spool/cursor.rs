//! How far the collector has the spool.

use super::{SpoolError, failed};
use std::path::{Path, PathBuf};

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

/// The file that keeps the cursor.
#[derive(Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
    fresh: PathBuf,
}

impl CursorFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("cursor"),
            fresh: dir.join("cursor.new"),
        }
    }

    /// `None` where there is none, or none that can be read: all is delivered again.
    pub(super) fn read(&self) -> Option<Cursor> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (segment, offset) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Cursor {
            segment: segment.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }

    /// Replaces the file whole. It is not flushed: an old cursor costs a second
    /// delivery at most.
    pub(super) fn write(&self, cursor: Cursor) -> Result<(), SpoolError> {
        let text = format!("{} {}\n", cursor.segment, cursor.offset);
        std::fs::write(&self.fresh, text).map_err(failed("write", &self.fresh))?;
        std::fs::rename(&self.fresh, &self.path).map_err(failed("replace", &self.path))
    }
}
