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
mod cursor;
mod segment;

pub use batch::Batch;
pub use cursor::Cursor;

use cursor::CursorFile;
use hopgap_proto::frame::{self, FrameKind, PayloadTooLarge};
use hopgap_proto::time::{Mono, Span};
use segment::{Piece, Segment};
use std::fs::{File, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tracing::warn;

/// Bounds of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Longest time that a segment is kept after its last write.
    pub max_age: Span,
    /// A segment is left when it has grown to this; a quarter of `max_bytes` at most.
    pub segment_bytes: u64,
    /// Longest time between a write and its flush to the disk.
    pub sync_every: Span,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_age: Span::from_secs(30 * 86_400),
            segment_bytes: 8 << 20,
            sync_every: Span::from_secs(1),
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
    dir: PathBuf,
    options: SpoolOptions,
    /// Oldest first; the last is being written.
    segments: Vec<Segment>,
    writer: File,
    /// When the oldest unflushed byte was written.
    unsynced_since: Option<Mono>,
    cursor: Cursor,
    cursor_file: CursorFile,
    /// Damage before this place was counted already.
    damage_counted: Cursor,
    /// Blocks lost since this was last asked.
    lost: u32,
    /// Holds the lock.
    _lock: File,
}

impl Spool {
    /// Opens the spool in `dir`, which is created, and repairs what a crash left.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be used, or another process uses it.
    pub fn open(dir: &Path, mut options: SpoolOptions) -> Result<Self, SpoolError> {
        std::fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let lock = exclusive(dir)?;
        let mut segments = segment::all_in(dir)?;
        let cursor_file = CursorFile::new(dir);
        let newest = segments.last().map_or(0, |s| s.number);
        // A cursor from beyond the newest segment is of another spool.
        let cursor = cursor_file.read().filter(|c| c.segment <= newest);
        let cursor = cursor.unwrap_or_default();
        let mut lost = 0;
        if let Some(newest) = segments.last_mut()
            && newest.cut_torn_end(dir)?
            && cursor <= newest.end()
        {
            lost = 1;
        }
        segment::forget_old_torn(dir);
        let (segment, writer) = segment::create(dir, newest + 1)?;
        segments.push(segment);
        options.segment_bytes = options.segment_bytes.min(options.max_bytes / 4).max(1);
        let mut spool = Self {
            dir: dir.to_owned(),
            options,
            segments,
            writer,
            unsynced_since: None,
            cursor,
            cursor_file,
            damage_counted: Cursor::default(),
            lost,
            _lock: lock,
        };
        spool.drop_acknowledged()?;
        spool.drop_beyond_bounds(SystemTime::now());
        Ok(spool)
    }

    /// Writes one encoded block at `now`.
    ///
    /// # Errors
    /// When it cannot be written; the spool is as before and can be tried again.
    pub fn append(&mut self, block: &[u8], now: Mono) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, FrameKind::Block, block)?;
        if self.newest().length >= self.options.segment_bytes {
            // Where no new segment can be had, the old one grows on.
            if let Err(error) = self.sync().and_then(|()| self.roll()) {
                warn!("{error}");
            }
        }
        if let Err(source) = self.writer.write_all(&bytes) {
            let path = self.newest().path(&self.dir);
            self.undo_write()?;
            return Err(failed("write to", &path)(source));
        }
        if let Some(newest) = self.segments.last_mut() {
            newest.length += length_of(&bytes);
        }
        self.unsynced_since.get_or_insert(now);
        self.drop_beyond_max_bytes();
        Ok(())
    }

    /// Flushes to the disk what has waited long enough at `now`.
    ///
    /// # Errors
    /// When the disk refuses; it is tried again after [`SpoolOptions::sync_every`].
    pub fn sync_due(&mut self, now: Mono) -> Result<(), SpoolError> {
        match self.unsynced_since {
            Some(since) if now - since >= self.options.sync_every => {
                self.unsynced_since = Some(now);
                self.sync()
            }
            _ => Ok(()),
        }
    }

    /// Flushes everything to the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        if self.unsynced_since.is_some() {
            let flushed = self.writer.sync_data();
            flushed.map_err(failed("flush", &self.newest().path(&self.dir)))?;
            self.unsynced_since = None;
        }
        Ok(())
    }

    /// The oldest frames that are not acknowledged, from one segment: at most `max`
    /// bytes, or one frame that is larger. `None` when all is delivered.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn next_batch(&mut self, max: usize) -> Result<Option<Batch>, SpoolError> {
        loop {
            let from_cursor = |s: &&Segment| s.number >= self.cursor.segment;
            let Some(&segment) = self.segments.iter().find(from_cursor) else {
                return Ok(None);
            };
            let start = self.cursor.max(Cursor::start_of(segment.number));
            let batch = self.read_batch(&segment, start, max)?;
            if !batch.bytes.is_empty() {
                return Ok(Some(batch));
            }
            // Nothing, or nothing but damage, up to the segment's end: over it.
            if segment.number == self.newest().number {
                self.cursor = segment.end();
                return Ok(None);
            }
            self.cursor = Cursor::start_of(segment.number + 1);
        }
    }

    fn read_batch(
        &mut self,
        segment: &Segment,
        start: Cursor,
        max: usize,
    ) -> Result<Batch, SpoolError> {
        let mut batch = Batch::at(start);
        let mut damage = Vec::new();
        segment.scan(&self.dir, start.offset, |offset, piece| {
            match piece {
                Piece::Whole(raw) => {
                    if !batch.bytes.is_empty() && batch.bytes.len() + raw.len() > max {
                        return ControlFlow::Break(());
                    }
                    batch.push(raw, offset + length_of(raw));
                }
                Piece::Damaged { length } => damage.push((offset, length)),
            }
            ControlFlow::Continue(())
        })?;
        self.count_damage(segment, &damage);
        Ok(batch)
    }

    /// Counts damage, unless it was read and counted before.
    fn count_damage(&mut self, segment: &Segment, damage: &[(u64, u64)]) {
        for &(offset, length) in damage {
            let place = Cursor {
                segment: segment.number,
                offset,
            };
            if place >= self.damage_counted {
                warn!(
                    "{length} bytes at {offset} of the spool's {} are damaged and passed over",
                    segment.path(&self.dir).display()
                );
                self.lost = self.lost.saturating_add(1);
                self.damage_counted = Cursor {
                    offset: offset + length,
                    ..place
                };
            }
        }
    }

    /// Everything before `cursor` is durable at the collector.
    ///
    /// # Errors
    /// When the cursor cannot be written or a segment not removed; what is
    /// acknowledged may then be delivered again.
    pub fn acknowledge(&mut self, cursor: Cursor) -> Result<(), SpoolError> {
        if cursor <= self.cursor {
            return Ok(());
        }
        self.cursor = cursor;
        self.cursor_file.write(cursor)?;
        self.drop_acknowledged()
    }

    /// Blocks that were dropped or damaged since this was last asked.
    pub fn take_lost(&mut self) -> u32 {
        std::mem::take(&mut self.lost)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.length).sum()
    }

    /// The segment that is being written; there is always one.
    fn newest(&self) -> Segment {
        self.segments.last().copied().unwrap_or_default()
    }

    /// Half a frame must not stand before a whole one.
    fn undo_write(&mut self) -> Result<(), SpoolError> {
        let length = self.newest().length;
        let undone = self
            .writer
            .set_len(length)
            .and_then(|()| self.writer.seek(SeekFrom::Start(length)));
        match undone {
            Ok(_) => Ok(()),
            Err(_) => self.sync().and_then(|()| self.roll()),
        }
    }

    fn roll(&mut self) -> Result<(), SpoolError> {
        let (segment, writer) = segment::create(&self.dir, self.newest().number + 1)?;
        let now = SystemTime::now();
        if let Some(left) = self.segments.last_mut() {
            left.written = now;
        }
        self.segments.push(segment);
        self.writer = writer;
        self.unsynced_since = None;
        // The one that was left may have been acknowledged already.
        self.drop_acknowledged()?;
        self.drop_beyond_bounds(now);
        Ok(())
    }

    fn drop_acknowledged(&mut self) -> Result<(), SpoolError> {
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.first().copied() else {
                break;
            };
            if self.cursor < oldest.end() && oldest.length > 0 {
                break;
            }
            oldest.remove(&self.dir)?;
            self.segments.remove(0);
        }
        Ok(())
    }

    fn drop_beyond_bounds(&mut self, now: SystemTime) {
        self.drop_beyond_max_bytes();
        let max_age = self.options.max_age.to_std().unwrap_or_default();
        let too_old = |s: &Segment| now.duration_since(s.written).is_ok_and(|age| age > max_age);
        while self.segments.len() > 1 && self.segments.first().is_some_and(too_old) {
            self.drop_oldest("old");
        }
    }

    fn drop_beyond_max_bytes(&mut self) {
        while self.segments.len() > 1 && self.bytes() > self.options.max_bytes {
            self.drop_oldest("full");
        }
    }

    /// Drops the oldest segment and counts what of it was not delivered.
    fn drop_oldest(&mut self, why: &str) {
        let oldest = self.segments.remove(0);
        let start = self.cursor.max(Cursor::start_of(oldest.number));
        let mut blocks = 0_u32;
        if start.segment == oldest.number {
            let mut damage = Vec::new();
            let counted = oldest.scan(&self.dir, start.offset, |offset, piece| {
                match piece {
                    Piece::Whole(_) => blocks += 1,
                    Piece::Damaged { length } => damage.push((offset, length)),
                }
                ControlFlow::Continue(())
            });
            self.count_damage(&oldest, &damage);
            if let Err(error) = counted {
                warn!("{error}");
                // How many they were is not known; that there were some is.
                blocks += 1;
            }
            self.cursor = Cursor::start_of(oldest.number + 1);
        }
        warn!(
            "the spool is {why}: {blocks} blocks that the collector does not have are dropped with {}",
            oldest.path(&self.dir).display()
        );
        self.lost = self.lost.saturating_add(blocks);
        if let Err(error) = oldest.remove(&self.dir) {
            warn!("{error}");
        }
    }
}

/// The lock of a spool's directory, for as long as the file is open.
fn exclusive(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(failed("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
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
