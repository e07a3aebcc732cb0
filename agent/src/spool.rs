//! The spool: records on disk until the collector has them.
//!
//! # On disk
//! A directory of append-only *segments* and one *cursor*:
//!
//! ```text
//! 0000000000000001.seg   frames (proto::frame), one after the other
//! 0000000000000002.seg   the newest is being written
//! cursor                 "SEGMENT OFFSET": everything before it is acknowledged
//! 0000000000000001.torn  bytes that were cut off the end of a segment after a crash
//! ```
//!
//! Segments are numbered from 1 upwards and never reused. A new one is begun when
//! the present one has grown beyond [`SpoolOptions::segment_bytes`], and at every
//! start, so that nothing is ever written behind bytes of an earlier run.
//!
//! # What is promised
//! - A block is on the disk (`fdatasync`) at most [`SpoolOptions::sync_every`] after
//!   [`Spool::append`], and before its segment is left.
//! - A block is dropped when the collector has acknowledged it, or when the spool
//!   has outgrown [`SpoolOptions::max_bytes`]: then whole segments, the oldest
//!   first, and every dropped block is counted ([`Spool::take_lost`]).
//! - After a crash the torn end of the newest segment is moved aside and everything
//!   before it is kept. Damage inside of a segment costs the damaged frames only;
//!   they are counted as lost.
//! - A cursor that is lost or damaged costs a second delivery, which the collector
//!   recognises. It never costs a block.
//!
//! Only the segment at hand is in memory, and of it at most one batch.

mod segment;

use hopgap_proto::frame::{self, FrameError, FrameKind, FrameReader, PayloadTooLarge};
use hopgap_proto::time::{Mono, Span};
use segment::{Segment, segments_in};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use tracing::warn;

/// Bounds of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// A segment is left when it has grown to this.
    pub segment_bytes: u64,
    /// Longest time between a write and its flush to the disk.
    pub sync_every: Span,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
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
    /// A block that no frame can hold.
    #[error(transparent)]
    TooLarge(#[from] PayloadTooLarge),
}

/// A place in the spool: everything before it was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    segment: u64,
    offset: u64,
}

/// Frames for one delivery.
#[derive(Debug)]
pub struct Batch {
    /// Whole frames, one after the other.
    pub bytes: Vec<u8>,
    start: Cursor,
    /// Where in the segment each frame ends, with its end in `bytes`.
    ends: Vec<(usize, u64)>,
}

impl Batch {
    /// The place up to which the first `bytes` bytes of the body reach.
    pub fn cursor_after(&self, bytes: u64) -> Cursor {
        let offset = self
            .ends
            .iter()
            .rev()
            .find(|(end, _)| u64::try_from(*end).is_ok_and(|end| end <= bytes))
            .map_or(self.start.offset, |(_, offset)| *offset);
        Cursor {
            offset,
            ..self.start
        }
    }
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
    /// Blocks dropped since this was last asked.
    lost: u32,
}

impl Spool {
    /// Opens the spool in `dir`, which is created, and repairs what a crash left.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be used.
    pub fn open(dir: &Path, options: SpoolOptions) -> Result<Self, SpoolError> {
        std::fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let mut segments = segments_in(dir)?;
        for segment in &mut segments {
            segment.cut_torn_end(dir)?;
        }
        let newest = segments.last().map_or(0, |s| s.number);
        let cursor = read_cursor(dir)
            .filter(|c| c.segment <= newest)
            .unwrap_or_default();
        let (segment, writer) = create(dir, newest.max(cursor.segment) + 1)?;
        segments.push(segment);
        let mut spool = Self {
            dir: dir.to_owned(),
            options,
            segments,
            writer,
            unsynced_since: None,
            cursor,
            lost: 0,
        };
        spool.drop_acknowledged()?;
        Ok(spool)
    }

    /// Writes one encoded block at `now`.
    ///
    /// # Errors
    /// When it cannot be written; the spool is as before and can be tried again.
    pub fn append(&mut self, block: &[u8], now: Mono) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, FrameKind::Block, block)?;
        let path = self.newest_path();
        if let Err(source) = self.writer.write_all(&bytes) {
            // Half a frame must not stand before a whole one.
            let length = self.segments.last().map_or(0, |s| s.length);
            let undone = self
                .writer
                .set_len(length)
                .and_then(|()| self.writer.seek(SeekFrom::Start(length)).map(drop));
            if undone.is_err() {
                self.roll()?;
            }
            return Err(SpoolError::Io {
                what: "write to",
                path,
                source,
            });
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.length += u64::try_from(bytes.len()).unwrap_or(0);
            segment.blocks += 1;
        }
        self.unsynced_since.get_or_insert(now);
        if self
            .segments
            .last()
            .is_some_and(|s| s.length >= self.options.segment_bytes)
        {
            self.sync()?;
            self.roll()?;
        }
        self.drop_beyond_bound();
        Ok(())
    }

    /// Flushes to the disk what has waited long enough at `now`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync_due(&mut self, now: Mono) -> Result<(), SpoolError> {
        match self.unsynced_since {
            Some(since) if now - since >= self.options.sync_every => self.sync(),
            _ => Ok(()),
        }
    }

    /// Flushes everything to the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        let path = self.newest_path();
        self.writer.sync_data().map_err(failed("flush", &path))?;
        self.unsynced_since = None;
        Ok(())
    }

    /// The oldest frames that are not acknowledged, at most `max` bytes or one frame;
    /// `None` when all is delivered.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn next_batch(&mut self, max: usize) -> Result<Option<Batch>, SpoolError> {
        loop {
            let Some(place) = self
                .segments
                .iter()
                .position(|s| s.number >= self.cursor.segment)
            else {
                return Ok(None);
            };
            let is_newest = place + 1 == self.segments.len();
            let Some(segment) = self.segments.get(place) else {
                return Ok(None);
            };
            if segment.number > self.cursor.segment {
                self.cursor = Cursor {
                    segment: segment.number,
                    offset: 0,
                };
            }
            if self.cursor.offset >= segment.length {
                if is_newest {
                    return Ok(None);
                }
                self.cursor = Cursor {
                    segment: segment.number + 1,
                    offset: 0,
                };
                continue;
            }
            let length = segment.length;
            let batch = self.read_batch(self.cursor, length, max)?;
            if !batch.bytes.is_empty() {
                return Ok(Some(batch));
            }
            // Nothing but damage up to the segment's end: over it.
            self.cursor.offset = length;
        }
    }

    fn read_batch(&mut self, start: Cursor, length: u64, max: usize) -> Result<Batch, SpoolError> {
        let path = segment::path(&self.dir, start.segment);
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        file.seek(SeekFrom::Start(start.offset))
            .map_err(failed("read", &path))?;
        let left = length - start.offset;
        let mut want = u64::try_from(max).unwrap_or(u64::MAX).min(left);
        loop {
            let mut input = Vec::new();
            Read::by_ref(&mut file)
                .take(want)
                .read_to_end(&mut input)
                .map_err(failed("read", &path))?;
            let mut batch = Batch {
                bytes: Vec::new(),
                start,
                ends: Vec::new(),
            };
            let mut damaged = 0;
            for item in FrameReader::new(&input) {
                match item {
                    Ok(frame) => {
                        batch.bytes.extend_from_slice(frame.raw);
                        let end = start.offset + u64::try_from(frame.end()).unwrap_or(0);
                        batch.ends.push((batch.bytes.len(), end));
                    }
                    Err(FrameError::Torn { .. }) => break,
                    Err(error) => {
                        warn!("the spool's {}: {error}", path.display());
                        damaged += 1;
                    }
                }
            }
            // A frame larger than the wish is read whole; there is more to read then.
            if batch.bytes.is_empty() && want < left {
                want = left
                    .min(u64::try_from(frame::MAX_FRAME).unwrap_or(u64::MAX))
                    .max(want * 2);
                file.seek(SeekFrom::Start(start.offset))
                    .map_err(failed("read", &path))?;
                continue;
            }
            self.lost = self.lost.saturating_add(damaged);
            return Ok(batch);
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
        let path = self.dir.join("cursor");
        let fresh = self.dir.join("cursor.new");
        std::fs::write(&fresh, format!("{} {}\n", cursor.segment, cursor.offset))
            .map_err(failed("write", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(failed("replace", &path))?;
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

    fn newest_path(&self) -> PathBuf {
        segment::path(&self.dir, self.segments.last().map_or(0, |s| s.number))
    }

    fn roll(&mut self) -> Result<(), SpoolError> {
        let next = self.segments.last().map_or(1, |s| s.number + 1);
        let (segment, writer) = create(&self.dir, next)?;
        self.segments.push(segment);
        self.writer = writer;
        Ok(())
    }

    fn drop_acknowledged(&mut self) -> Result<(), SpoolError> {
        let newest = self.segments.last().map_or(0, |s| s.number);
        let (dir, cursor) = (&self.dir, self.cursor);
        let done = |s: &Segment| {
            s.number != newest
                && (s.number < cursor.segment
                    || (s.number == cursor.segment && cursor.offset >= s.length))
        };
        for segment in self.segments.iter().filter(|s| done(s)) {
            let path = segment::path(dir, segment.number);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        self.segments.retain(|s| !done(s));
        Ok(())
    }

    fn drop_beyond_bound(&mut self) {
        while self.bytes() > self.options.max_bytes && self.segments.len() > 1 {
            let oldest = self.segments.remove(0);
            // What of it was delivered is not lost; how many those were is not known
            // block by block, so the count errs on the side of saying too much.
            self.lost = self.lost.saturating_add(oldest.blocks);
            let path = segment::path(&self.dir, oldest.number);
            if let Err(error) = std::fs::remove_file(&path) {
                warn!("the spool cannot remove {}: {error}", path.display());
            }
        }
    }
}

fn create(dir: &Path, number: u64) -> Result<(Segment, File), SpoolError> {
    let path = segment::path(dir, number);
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&path)
        .map_err(failed("create", &path))?;
    // The name must be as durable as what is written under it.
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(failed("flush", dir))?;
    Ok((
        Segment {
            number,
            length: 0,
            blocks: 0,
        },
        file,
    ))
}

fn read_cursor(dir: &Path) -> Option<Cursor> {
    let text = std::fs::read_to_string(dir.join("cursor")).ok()?;
    let (segment, offset) = text.trim().split_once(' ')?;
    Some(Cursor {
        segment: segment.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SpoolError + 'a {
    move |source| SpoolError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
