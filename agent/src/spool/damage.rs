//! Counts, keeps aside and skips what cannot be read.

use super::segment;
use super::{Cursor, Lost, Spool, SpoolError, disk, failed, quarantine};
use hopgap_proto::time::Wall;
use std::io;
use tracing::warn;

/// How many failed reads in a row set a segment aside: a bad sector must not hold back
/// everything behind it.
pub(super) const MOST_READ_FAILURES: u32 = 8;

impl Spool {
    /// Handles a segment that could not be read. A damaged one is tried again, and set aside
    /// when that does not help; a missing one is set aside at once. Other errors (rights, too
    /// many open files) may pass, and cost no record.
    pub(super) fn unreadable(&mut self, index: usize, error: io::Error) -> Result<(), SpoolError> {
        let gone = error.kind() == io::ErrorKind::NotFound && self.is_gone(index);
        let Some(segment) = self.segments.get(index) else {
            return Ok(());
        };
        let path = self.disk.path(&segment.name());
        let number = segment.number;
        if !gone && !disk::is_damage(&error) {
            return Err(failed("read", &path)(error));
        }
        self.read_failures += 1;
        if !gone && self.read_failures < MOST_READ_FAILURES {
            return Err(failed("read", &path)(error));
        }
        self.read_failures = 0;
        warn!(
            "{} cannot be read ({error}); how many blocks are lost with it is not known",
            path.display()
        );
        if number == self.newest_number() {
            // Writing goes on in another segment.
            self.leave();
        }
        self.set_aside(number);
        Ok(())
    }

    /// Whether the directory can be read and does not have the segment.
    fn is_gone(&self, index: usize) -> bool {
        let Some(segment) = self.segments.get(index) else {
            return false;
        };
        let name = segment.name();
        self.disk
            .list("")
            .is_ok_and(|entries| entries.iter().all(|entry| entry.name != name))
    }

    /// Counts damage and keeps it aside, unless it was read and counted before.
    pub(super) fn count_damage(&mut self, index: usize, damage: &[(u64, u64)]) {
        let Some(segment) = self.segments.get(index) else {
            return;
        };
        let place = |offset| Cursor {
            segment: segment.number,
            offset,
        };
        let fresh = damage
            .iter()
            .filter(|d| !self.counted.contains(&place(d.0)));
        let fresh: Vec<(u64, u64)> = fresh.copied().collect();
        if fresh.is_empty() {
            return;
        }
        // Forgets places that the cursor has passed: they are not read again.
        self.counted = self.counted.split_off(&self.cursor);
        let times = segment.closed_times(&*self.disk);
        let before_it = self.written_before(index);
        for (offset, length) in fresh {
            warn!(
                "{length} bytes at {offset} of the spool's {} are damaged and passed over",
                self.disk.path(&segment.name()).display()
            );
            quarantine::keep(&*self.disk, &segment.name(), offset, length);
            let next = times.partition_point(|t| t.0 < offset);
            let before = next.checked_sub(1).and_then(|i| times.get(i));
            self.lost.add(Lost {
                blocks: 1,
                from: before.map(|t| t.1).or(before_it),
                to: times
                    .get(next)
                    .map_or_else(|| segment::wall(segment.written), |t| t.1),
            });
            self.counted.insert(place(offset));
        }
        self.keep_lost();
    }

    /// Returns the earliest time at which an undelivered block of this segment can have been
    /// closed: the later of the last write to the segment before and the closing of the last
    /// block that the collector has.
    pub(super) fn written_before(&self, index: usize) -> Option<Wall> {
        let before = index.checked_sub(1).and_then(|i| self.segments.get(i));
        let before = before.map(|s| segment::wall(s.written));
        before.max(self.delivered)
    }
}
