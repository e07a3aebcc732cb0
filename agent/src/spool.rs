//! The spool: records on disk until the collector has them.
//!
//! # Why
//! The collector is often reached through the very path under test, so that it
//! is away just when there is most to tell. What was measured waits here, for
//! hours if need be, in bounded room on disk and next to none in memory.
//!
//! # On disk
//! A directory of append-only *segments* and one *cursor*:
//!
//! ```text
//! 0000000000000001.seg   frames (proto::frame), one after the other
//! 0000000000000002.seg   the newest is being written
//! 0000000000000001.torn  bytes that were cut off the end of a segment after a crash
//! cursor                 "SEGMENT OFFSET": everything before it is acknowledged
//! lock                   held while a process uses the spool
//! ```
//!
//! Segments are numbered from 1 upwards and never reused. A new one is begun when
//! the present one has grown to [`SpoolOptions::segment_bytes`], and at every
//! start, so that nothing is ever written behind bytes of an earlier run. A
//! segment is removed as a whole, when everything in it is acknowledged or the
//! spool has outgrown its bounds.
//!
//! Segments hold the uplink's own bytes: what is shipped is copied from the disk
//! and never decoded.
//!
//! # The life of a block
//! 1. [`Spool::append`] writes it as one frame, by one `write`. From here it
//!    survives the end of the process.
//! 2. It is flushed (`fdatasync`) at most [`SpoolOptions::sync_every`] later, when
//!    [`Spool::sync_due`] is called, and at the latest before its segment is left.
//!    From here it survives the loss of power. A block for each flush would wear
//!    out flash memory and gain a second of records.
//! 3. [`Spool::next_batch`] hands it out, again and again until
//!    [`Spool::acknowledge`] moves the cursor over it. That may come before the
//!    flush: what the collector has need not survive here.
//! 4. Its segment is removed.
//!
//! # What a crash can do
//! | it leaves | the next [`Spool::open`] |
//! |---|---|
//! | half a frame at the end of the newest segment | sets the half aside as `.torn` and cuts it off |
//! | zeros or garbage at the end, where the file had grown but its data was not written | the same |
//! | an old cursor, or none (it is replaced whole, and not flushed) | delivers again what was acknowledged since; the collector recognises it by its key |
//! | a cursor beyond the end of a segment that lost its unflushed end | goes on with the next segment |
//! | an empty newest segment | removes it once it is passed |
//!
//! Segments other than the newest were flushed before they were left. Damage in
//! them (a failing disk) costs the frames that it hits, which are counted when
//! their turn comes, and nothing behind them.
//!
//! # Bounds
//! The spool drops whole segments, the oldest first, when it holds more than
//! [`SpoolOptions::max_bytes`], and, whenever a segment is begun, those that were
//! last written more than [`SpoolOptions::max_age`] ago. Every block that goes
//! undelivered, dropped or damaged, is counted once ([`Spool::take_lost`]), so
//! that the record says of itself what it lacks. In memory are a few numbers for
//! each segment, and one batch while it is handed out.

mod batch;
mod bounds;
mod cursor;
mod disk;
mod lost;
mod quarantine;
mod segment;
mod writing;

pub use batch::Batch;
pub use cursor::Cursor;
pub use lost::Lost;

use disk::{Disk, Folder, Writer};
use hopgap_proto::frame::PayloadTooLarge;
use hopgap_proto::time::{Mono, Span, Wall};
use lost::LostLog;
use segment::{Piece, Segment};
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tracing::warn;

/// A segment that cannot be read so many times in a row is set aside: a bad sector
/// must not hold back everything behind it.
const MOST_READ_FAILURES: u32 = 8;

/// Bounds of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Longest time that a segment is kept after its last write.
    pub max_age: Span,
    /// A segment is left when it has grown to this; a quarter of `max_bytes` at most.
    pub segment_bytes: u64,
    /// Longest time between a write and its flush to the disk; zero: a block is
    /// flushed before [`Spool::append`] returns.
    pub sync_every: Span,
    /// Most bytes in memory while the disk takes nothing (and one block more).
    pub max_memory: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_age: Span::from_secs(30 * 86_400),
            segment_bytes: 8 << 20,
            sync_every: Span::from_secs(1),
            max_memory: 4 << 20,
        }
    }
}

/// What went wrong with the spool's files.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error(
        "the spool cannot {what} {path}: {source}; check that the disk has room and that this user may write there"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "the spool {path} is in use by another process; stop the other agent or give this one another `state_dir`"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A block that no frame can hold.
    #[error(transparent)]
    TooLarge(#[from] PayloadTooLarge),
}

/// Records on their way, on disk.
#[derive(Debug)]
pub struct Spool {
    disk: Box<dyn Disk>,
    options: SpoolOptions,
    /// Oldest first; the last is being written.
    segments: Vec<Segment>,
    /// The newest segment's file; `None` while the newest is in memory.
    writer: Option<Box<dyn Writer>>,
    /// What was written to that file since its last flush.
    unflushed: Vec<u8>,
    /// When the oldest unflushed byte was written.
    unflushed_since: Option<Mono>,
    /// The time of the last call that said one.
    now: Mono,
    /// When a disk that refused is tried again.
    next_try: Mono,
    /// What the disk refused, while it does.
    trouble: Option<String>,
    /// Files of dropped segments that the disk would not remove.
    leftover: Vec<String>,
    cursor: Cursor,
    /// The kept cursor is of another spool and must go before anything is written.
    stale_cursor: bool,
    /// How often in a row the segment at the cursor could not be read.
    read_failures: u32,
    /// Where damage was counted that is still to be passed over.
    counted: BTreeSet<Cursor>,
    /// When bounds on age were last looked at.
    aged: Mono,
    /// Bytes that were appended since it was opened.
    appended: u64,
    lost: LostLog,
}

impl Spool {
    /// Opens the spool in `dir`, which is created, and repairs what a crash left.
    ///
    /// # Errors
    /// When the directory cannot be read or locked, or another process uses it. A disk
    /// that can be read and takes nothing is no error: see [the module](self).
    pub fn open(dir: &Path, options: SpoolOptions) -> Result<Self, SpoolError> {
        Self::open_on(Box::new(Folder::open(dir)?), options)
    }

    /// The same on any disk.
    pub(crate) fn open_on(
        disk: Box<dyn Disk>,
        mut options: SpoolOptions,
    ) -> Result<Self, SpoolError> {
        let segments = segment::all_on(&*disk).map_err(failed("read", &disk.path("")))?;
        let newest = segments.last().map_or(0, |s| s.number);
        let kept = cursor::read(&*disk);
        // A cursor from beyond the newest segment is of another spool, or of segments
        // that are gone. Its number is not used again: it would name other records.
        let cursor = kept.filter(|c| c.segment <= newest);
        let beyond = kept.filter(|c| cursor.is_none() && segment::is_number(c.segment));
        let number = beyond.map_or(newest, |c| c.segment) + 1;
        options.segment_bytes = options.segment_bytes.min(options.max_bytes / 4).max(1);
        let mut spool = Self {
            disk,
            options,
            segments,
            writer: None,
            unflushed: Vec::new(),
            unflushed_since: None,
            now: Mono::ZERO,
            next_try: Mono::ZERO,
            trouble: None,
            leftover: Vec::new(),
            cursor: cursor.unwrap_or_default(),
            stale_cursor: kept.is_some() && cursor.is_none(),
            read_failures: 0,
            counted: BTreeSet::new(),
            aged: Mono::ZERO,
            appended: 0,
            lost: LostLog::default(),
        };
        spool.cut_torn_end();
        spool.count_gaps();
        spool.begin(number);
        spool.drop_acknowledged();
        spool.drop_beyond_bounds();
        Ok(spool)
    }

    /// The oldest frames that are not acknowledged, from one segment: at most `max`
    /// bytes, or one frame that is larger. `None` when all is delivered.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn next_batch(&mut self, max: usize) -> Result<Option<Batch>, SpoolError> {
        loop {
            let from_cursor = |s: &Segment| s.number >= self.cursor.segment;
            let Some(index) = self.segments.iter().position(from_cursor) else {
                return Ok(None);
            };
            let batch = match self.read_batch(index, max) {
                Ok(batch) => batch,
                Err(error) => {
                    self.unreadable(index, error)?;
                    continue;
                }
            };
            self.read_failures = 0;
            if !batch.bytes.is_empty() {
                return Ok(Some(batch));
            }
            // Nothing, or nothing but damage, up to the segment's end: over it.
            let Some(segment) = self.segments.get(index) else {
                return Ok(None);
            };
            if index + 1 == self.segments.len() {
                self.cursor = self.cursor.max(segment.end());
                return Ok(None);
            }
            self.cursor = Cursor::start_of(segment.number + 1);
        }
    }

    fn read_batch(&mut self, index: usize, max: usize) -> io::Result<Batch> {
        let Some(segment) = self.segments.get(index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let start = segment.start_at(self.cursor);
        let mut batch = Batch::at(Cursor {
            segment: segment.number,
            offset: start,
        });
        let mut damage = Vec::new();
        segment.scan(&*self.disk, start, |offset, piece| {
            match piece {
                Piece::Whole(raw) => {
                    if !batch.bytes.is_empty() && batch.bytes.len() + raw.len() > max {
                        return ControlFlow::Break(());
                    }
                    batch.push(raw, offset + length(raw.len()));
                }
                Piece::Damaged { length } => damage.push((offset, length)),
            }
            ControlFlow::Continue(())
        })?;
        self.count_damage(index, &damage);
        Ok(batch)
    }

    /// A segment could not be read: tried again, and set aside when that does not help
    /// or it is not there.
    fn unreadable(&mut self, index: usize, error: io::Error) -> Result<(), SpoolError> {
        self.read_failures += 1;
        let gone = error.kind() == io::ErrorKind::NotFound;
        let Some(segment) = self.segments.get(index) else {
            return Ok(());
        };
        let path = self.disk.path(&segment.name());
        let number = segment.number;
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

    /// Counts damage and keeps it aside, unless it was read and counted before.
    fn count_damage(&mut self, index: usize, damage: &[(u64, u64)]) {
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
    }

    /// Everything before `cursor` is durable at the collector. Where the disk does not
    /// take that, it may be delivered again after a restart.
    pub fn acknowledge(&mut self, cursor: Cursor) {
        if cursor <= self.cursor {
            return;
        }
        self.cursor = cursor;
        if !self.stale_cursor
            && let Err(error) = cursor::write(&*self.disk, cursor)
        {
            self.complain("write", "cursor", error);
        }
        self.drop_acknowledged();
    }

    /// A whole frame of a batch, at byte `offset` of it, is of no use to the collector:
    /// it is kept aside and counted as lost.
    pub fn refused(&mut self, batch: &Batch, offset: u64) {
        let Some((place, raw)) = batch.frame_at(offset) else {
            return;
        };
        let name = Segment::in_memory(place.segment, Vec::new(), self.disk.now()).name();
        quarantine::keep_bytes(&*self.disk, &name, place.offset, raw);
        let now = segment::wall(self.disk.now());
        let closed = segment::closed(raw);
        self.lost.add(Lost {
            blocks: 1,
            from: closed,
            to: closed.unwrap_or(now),
        });
    }

    /// Blocks that were dropped, damaged or of no use since this was last asked, and
    /// of which time they were.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.lost.take()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        let on_disk = self.segments.iter().filter(|s| s.memory.is_none());
        on_disk.map(|s| s.length).sum()
    }

    /// Bytes that were appended since the spool was opened.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Bytes of blocks that are in memory only, because the disk takes nothing, and
    /// that the collector does not have.
    pub fn only_in_memory(&self) -> u64 {
        let unwritten = self.segments.iter().filter(|s| s.memory.is_some());
        unwritten
            .map(|s| s.length.saturating_sub(s.start_at(self.cursor)))
            .sum()
    }

    /// When the segment before this one was written to for the last time, as the
    /// earliest that a block in this one can have been closed.
    fn written_before(&self, index: usize) -> Option<Wall> {
        let before = self.segments.get(index.checked_sub(1)?)?;
        Some(segment::wall(before.written))
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> SpoolError + use<> {
    let path = path.to_owned();
    move |source| SpoolError::Io {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
