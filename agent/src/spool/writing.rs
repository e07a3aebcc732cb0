//! Writes blocks to the disk, and keeps them in memory while it refuses.

use super::segment::{self, Segment};
use super::{Lost, Spool, SpoolError, cursor, failed, length, quarantine};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::time::{Mono, Span};
use std::io;
use tracing::{info, warn};

/// How often to try a disk again that refused.
const TRY_AGAIN: Span = Span::from_secs(1);
/// Most unflushed bytes, however long a flush may wait: memory keeps a copy until then.
const MOST_UNFLUSHED: usize = 1 << 20;

impl Spool {
    /// Appends one encoded block at `now`. It is written to the disk when this returns, or kept
    /// in memory where the disk refuses.
    ///
    /// # Errors
    /// [`SpoolError::TooLarge`].
    pub fn append(&mut self, block: &[u8], now: Mono) -> Result<(), SpoolError> {
        self.now = now;
        let mut bytes = Vec::new();
        frame::append(&mut bytes, FrameKind::Block, block)?;
        self.try_disk_again();
        if self.newest_is_full() {
            self.leave();
        }
        let written = self.writer.as_mut().map(|writer| writer.append(&bytes));
        let at = self.disk.now();
        self.appended = self.appended.saturating_add(length(bytes.len()));
        match written {
            Some(Ok(())) => {
                if let Some(newest) = self.segments.last_mut() {
                    newest.length += length(bytes.len());
                    newest.written = at;
                }
                self.unflushed.extend_from_slice(&bytes);
                self.unflushed_since.get_or_insert(now);
                if self.options.sync_every <= Span::ZERO || self.unflushed.len() > MOST_UNFLUSHED {
                    self.sync();
                }
            }
            Some(Err(error)) => {
                self.write_failed(error);
                self.remember(&bytes);
            }
            None => self.remember(&bytes),
        }
        self.drop_beyond_max_bytes();
        Ok(())
    }

    /// Does the periodic work at `now`: flushes bytes that have waited long enough, tries a
    /// disk again that refused, and drops segments that are too old.
    pub fn sync_due(&mut self, now: Mono) {
        self.now = now;
        self.try_disk_again();
        let due = |since| now - since >= self.options.sync_every;
        if self.unflushed_since.is_some_and(due) {
            self.sync();
        }
        self.drop_old_now_and_then();
    }

    /// Flushes the newest segment's file. Returns false where the flush failed or the newest
    /// segment is in memory.
    pub fn sync(&mut self) -> bool {
        if let Some(writer) = &mut self.writer
            && self.unflushed_since.is_some()
        {
            match writer.sync() {
                Ok(()) => {
                    self.unflushed.clear();
                    self.unflushed_since = None;
                }
                Err(error) => self.flush_failed(error),
            }
        }
        self.writer.is_some()
    }

    /// Writes the segments in memory to the disk now, and flushes; returns false where some
    /// stay only in memory.
    pub fn sync_at_end(&mut self) -> bool {
        self.next_try = self.now;
        self.try_disk_again();
        self.sync()
    }

    /// Begins a segment on the disk, or in memory where the disk refuses.
    pub(super) fn begin(&mut self, number: u64) {
        self.segments
            .push(Segment::in_memory(number, Vec::new(), self.disk.now()));
        self.writer = None;
        self.next_try = self.now;
        self.try_disk_again();
    }

    /// Flushes the newest segment and begins the next.
    pub(super) fn leave(&mut self) {
        let number = self.newest_number();
        self.sync();
        // A failed flush has already begun the next.
        if self.newest_number() == number {
            if self.writer.is_some() {
                self.begin(number + 1);
            } else {
                self.segments
                    .push(Segment::in_memory(number + 1, Vec::new(), self.disk.now()));
            }
        }
        // The segment that was left may already be acknowledged.
        self.drop_acknowledged();
        self.drop_beyond_bounds();
    }

    pub(super) fn newest_number(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.number)
    }

    fn newest_is_full(&self) -> bool {
        self.segments.last().is_some_and(|s| {
            let most = match s.memory {
                None => self.options.segment_bytes,
                // Keeps several in memory, so that the oldest can be dropped without the newest.
                Some(_) => (self.options.max_memory / 4).clamp(1, self.options.segment_bytes),
            };
            s.length >= most
        })
    }

    /// Handles a failed write, which may have left a part of a frame: writes nothing more to
    /// that file.
    fn write_failed(&mut self, error: io::Error) {
        self.complain_newest("write to", error);
        let whole = self.segments.last().map_or(0, |s| s.length);
        let mut flushed = false;
        if let Some(writer) = &mut self.writer {
            // A part that cannot be cut off is found as damage when the file is read.
            let _ = writer.cut(whole);
            flushed = writer.sync().is_ok();
        }
        if flushed {
            self.unflushed.clear();
        }
        self.go_on_in_memory();
    }

    /// Handles a failed flush. The kernel may have discarded the unflushed bytes, and a later
    /// success would not show it. So the segment ends at its last flush, and the bytes after it
    /// are written again to another file.
    fn flush_failed(&mut self, error: io::Error) {
        self.complain_newest("flush", error);
        self.go_on_in_memory();
    }

    /// Ends the newest segment at its last flush and begins one in memory with the bytes after
    /// it, except those that the collector already has.
    fn go_on_in_memory(&mut self) {
        let mut tail = std::mem::take(&mut self.unflushed);
        self.unflushed_since = None;
        let at = self.disk.now();
        let number = self.newest_number();
        if let Some(newest) = self.segments.last_mut() {
            newest.length -= length(tail.len()).min(newest.length);
            let acknowledged = newest
                .start_at(self.cursor)
                .saturating_sub(newest.length)
                .min(length(tail.len()));
            tail.drain(..usize::try_from(acknowledged).unwrap_or(0));
            if let Some(writer) = &mut self.writer {
                let _ = writer.cut(newest.length);
            }
        }
        self.writer = None;
        self.segments.push(Segment::in_memory(number + 1, tail, at));
        self.next_try = self.now + TRY_AGAIN;
        self.drop_beyond_max_memory();
    }

    /// Adds a frame to the newest segment, which is in memory.
    fn remember(&mut self, frame: &[u8]) {
        let at = self.disk.now();
        if let Some(newest) = self.segments.last_mut()
            && let Some(bytes) = &mut newest.memory
        {
            bytes.extend_from_slice(frame);
            newest.length += length(frame.len());
            newest.written = at;
        }
        self.drop_beyond_max_memory();
    }

    /// Writes out the segments in memory, where it is time to try the disk again.
    fn try_disk_again(&mut self) {
        if self.writer.is_some() || self.now < self.next_try {
            return;
        }
        self.next_try = self.now + TRY_AGAIN;
        let refused = (0..self.segments.len()).find_map(|index| self.write_out(index).err());
        match refused {
            Some((name, error)) => self.complain("write", &name, error),
            None if self.trouble.take().is_some() => info!("the spool's disk takes records again"),
            None => {}
        }
        self.drop_acknowledged();
        self.drop_beyond_max_bytes();
    }

    /// Writes one segment to the disk, flushed and with a durable name, or not at all.
    fn write_out(&mut self, index: usize) -> Result<(), (String, io::Error)> {
        let newest = index + 1 == self.segments.len();
        let Some(segment) = self.segments.get_mut(index) else {
            return Ok(());
        };
        let Some(bytes) = &segment.memory else {
            return Ok(());
        };
        let name = segment.name();
        let disk = &*self.disk;
        let write = || -> io::Result<_> {
            if self.stale_cursor {
                cursor::forget(disk)?;
            }
            // Removes what an earlier try left.
            disk.remove(&name)?;
            let mut writer = disk.create(&name)?;
            if !bytes.is_empty() {
                writer.append(bytes)?;
                writer.sync()?;
            }
            disk.sync_names()?;
            Ok(writer)
        };
        match write() {
            Ok(writer) => {
                self.stale_cursor = false;
                segment.memory = None;
                if newest {
                    self.writer = Some(writer);
                }
                Ok(())
            }
            Err(error) => {
                // A partial file must not exist beside the whole segment.
                let _ = disk.remove(&name);
                Err((name, error))
            }
        }
    }

    /// Moves aside the torn frame that a crash left at the newest segment's end.
    pub(super) fn cut_torn_end(&mut self) {
        let before_it = self.written_before(self.segments.len().saturating_sub(1));
        let disk = &*self.disk;
        let Some(newest) = self.segments.last_mut() else {
            return;
        };
        // A segment that cannot be read now is handled when it is delivered.
        let Ok((whole, blocks)) = newest.whole_end(disk) else {
            return;
        };
        if whole >= newest.length {
            return;
        }
        let name = newest.name();
        let torn = newest.length - whole;
        warn!(
            "the spool's {} ends in {torn} bytes of a write that was cut off",
            disk.path(&name).display()
        );
        quarantine::keep(disk, &name, whole, torn);
        let cut = disk.cut(&name, whole);
        newest.length = whole;
        let mut lost = None;
        if self.cursor <= newest.end() {
            let last = newest.closed_times(disk).last().map(|t| t.1);
            lost = Some(Lost {
                blocks,
                from: last.or(before_it),
                to: segment::wall(disk.now()),
            });
        }
        if let Some(lost) = lost {
            self.lose(lost);
        }
        if let Err(error) = cut {
            self.complain_beside("repair", &name, error);
        }
    }

    fn complain_newest(&mut self, what: &'static str, error: io::Error) {
        let name = self.segments.last().map(Segment::name).unwrap_or_default();
        self.complain(what, &name, error);
    }

    /// Logs an error of the disk, once for each new reason.
    pub(super) fn complain(&mut self, what: &'static str, name: &str, error: io::Error) {
        let reason = error.to_string();
        if self.trouble.as_ref() != Some(&reason) {
            let error = failed(what, &self.disk.path(name))(error);
            warn!("{error}; until then the newest records are kept in memory");
            self.trouble = Some(reason);
        }
    }

    /// Logs an error of the disk that costs no record, once for each new reason.
    pub(super) fn complain_beside(&mut self, what: &'static str, name: &str, error: io::Error) {
        let reason = error.to_string();
        if self.trouble_beside.as_ref() != Some(&reason) {
            let error = failed(what, &self.disk.path(name))(error);
            warn!("{error}; records are kept as before");
            self.trouble_beside = Some(reason);
        }
    }
}
