//! What cannot be read: it is counted, kept aside, and passed over.

use super::segment;
use super::{Cursor, Lost, Spool, SpoolError, disk, failed, quarantine};
use hopgap_proto::time::Wall;
use std::io;
use tracing::warn;

/// A segment that cannot be read so many times in a row is set aside: a bad sector
/// must not hold back everything behind it.
pub(super) const MOST_READ_FAILURES: u32 = 8;

impl Spool {
    /// A segment could not be read. One that is damaged is tried again, and set aside when
    /// that does not help; one that is gone is set aside at once. Whatever else stands in the
    /// way (rights, too many open files) may pass, and costs no record.
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
            // It is being written: that goes on elsewhere.
            self.leave();
        }
        self.set_aside(number);
        Ok(())
    }

    /// Whether the directory can be read and a segment is not in it.
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
        // What the cursor has passed is not read again.
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

    /// The earliest that a block in this segment that is not delivered can have been closed:
    /// when the segment before it was written to for the last time, or when the last block
    /// that the collector has was closed.
    pub(super) fn written_before(&self, index: usize) -> Option<Wall> {
        let before = index.checked_sub(1).and_then(|i| self.segments.get(i));
        let before = before.map(|s| segment::wall(s.written));
        before.max(self.delivered)
    }
}
