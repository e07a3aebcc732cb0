//! The spool: records on disk until the collector has them.
//!
//! # Why
//! The agent often reaches the collector through the very path under test, so the
//! collector is away just when there is most to report. Records wait here, for hours if
//! need be, in bounded space on disk and almost none in memory.
//!
//! # Constraints
//! - A block that was flushed to the disk is handed out, in order, until it is
//!   acknowledged. After a crash it may come once more; the collector recognises it by
//!   the block's key. A frame with a wrong checksum is never delivered.
//! - A block that is not handed out is counted, with the time that it covers.
//! - A failing disk never stops the measurement. While it refuses writes, the newest
//!   blocks wait in memory and are delivered from there.
//! - Disk and memory are bounded. Reading, writing and repairing are linear.
//! - One process uses a spool, and in it one lock: the recorder appends, the uplink
//!   takes batches and acknowledges them.
//!
//! # On disk
//! A directory of append-only *segments* and one *cursor*:
//!
//! ```text
//! 0000000000000001.seg   frames (proto::frame), one after the other
//! 0000000000000002.seg   the newest is being written
//! cursor                 "SEGMENT OFFSET CLOSED": everything before it is acknowledged;
//!                        when the last such block was closed, or "-"
//! lost                   "BLOCKS FROM TO" lines: losses that no block in the spool tells yet
//! cursor.new, lost.new   new versions that are about to replace these
//! lock                   held while a process uses the spool
//! quarantine/            what cannot be delivered, for people:
//!   0000000000000001-000000000060.bad   bytes of segment 1 from byte 60 on
//!   0000000000000002.seg                a segment that could not be read
//! ```
//!
//! Segments are numbered from 1 upwards. A number is never reused, not even one that only
//! the cursor remembers. A new segment begins when the present one has grown to
//! [`SpoolOptions::segment_bytes`], at every start, and after every failed write or
//! flush, so that nothing is written after bytes that are in doubt. A segment is removed
//! as a whole.
//!
//! Segments hold the uplink's own bytes: delivery copies them from the disk and never
//! decodes them. Length and checksums of a frame are in its header, little-endian, the
//! same on any host; a frame never spans two segments. Frames carry a version and a
//! kind. Frames of a newer program, left by a downgrade, are delivered as well, because
//! the collector may know them. Where it does not, it keeps them and says so, and they
//! are kept and counted here too ([`Spool::refused`]).
//!
//! # The life of a block
//! 1. [`Spool::append`] writes it as one frame, by one `write`. From then on it
//!    survives the end of the process.
//! 2. It is flushed (`fdatasync`) at most [`SpoolOptions::sync_every`] later, when
//!    [`Spool::sync_due`] is called, and at the latest before its segment is left.
//!    From then on it survives a loss of power: the segment's name was flushed when it
//!    was created. With a `sync_every` of zero it is flushed before `append` returns.
//!    The default of one second spares flash memory; a loss of power then costs one
//!    second of blocks, in addition to the block that the recorder has open.
//! 3. [`Spool::next_batch`] hands it out repeatedly until [`Spool::acknowledge`] moves
//!    the cursor over it. That may happen before the flush: a block that the collector
//!    has need not survive here.
//! 4. Its segment is removed.
//!
//! # When the disk refuses
//! A failed `fdatasync` does not tell which pages reached the disk, and Linux marks them
//! clean: the next `fdatasync` of the file succeeds without writing them. So no later
//! flush of that file is trusted. The bytes written since the last good flush are still
//! in memory (a copy is kept until each flush, 1 MiB at most). They become a new segment
//! in a new file. The old file ends where the last good flush ended.
//!
//! A failed write (`ENOSPC`, `EROFS`, `EIO`) may have left a part of a frame. The part is
//! cut off where that is possible, the bytes before it are flushed, and the frame goes
//! to a new segment as well.
//!
//! The new segment is in memory first. Once a second the spool tries to write out the
//! segments in memory, oldest first, each as a whole: create, write, flush, flush the
//! name. Until that succeeds, [`Spool::next_batch`] serves them from memory. Beyond
//! [`SpoolOptions::max_memory`] the oldest quarter of the memory is dropped and counted.
//! Nothing on the disk is removed to make room: it is older, and nobody knows whether
//! removing it would help. Blocks that are only in memory at the end of the process are
//! lost, and logged; the uplink still tries to deliver them.
//!
//! # What a crash can do
//! | it leaves | the next [`Spool::open`] |
//! |---|---|
//! | half a frame at the end of the newest segment | keeps the half in `quarantine/` and cuts it off; one block is counted |
//! | zeros or garbage at the end, where the file had grown but its data was not written | the same |
//! | an old cursor, or none (it is replaced whole, and not flushed) | delivers again what was acknowledged since |
//! | a cursor beyond the end of a segment that lost its unflushed end | goes on with the next segment |
//! | a cursor beyond the newest segment, whose files are gone | delivers all that is there, removes that cursor, and numbers on from it |
//! | a gap in the numbers | counts one block for each gap |
//! | an empty newest segment | removes it once it is passed |
//!
//! # Damage
//! Segments other than the newest were flushed before they were left. Damage in them (a
//! failing disk) is found when they are delivered. It costs only the frames that it hits:
//! with a good header the reader skips the frame, without one it searches for the next.
//! The bytes are kept in `quarantine/` (at most 64 files and 16 MiB, the oldest go),
//! logged and counted. A segment whose file is gone, or that cannot be read eight times
//! in a row, counts as one block and is skipped.
//!
//! # Bounds
//! Acknowledged segments are removed at once. Beyond [`SpoolOptions::max_bytes`], or when
//! they were last written more than [`SpoolOptions::max_age`] ago, the oldest segments are
//! dropped whole, although they are not delivered. Ages are checked once a minute and
//! whenever a segment is begun. A batch that is being delivered just then counts as lost
//! only where it is not acknowledged. Memory holds a few numbers for each segment, the
//! unflushed bytes, and one batch while it is handed out.
//!
//! # What the counts say
//! [`Spool::take_lost`] reports every block that was dropped, damaged or of no use, once
//! while the spool is open, with the times between which these blocks were closed. The
//! times come from their own headers where those can be read, else from their
//! neighbours', else from the files, and are never before the last acknowledged block,
//! whose time is stored with the cursor. The recorder makes an event of each loss, so that
//! the collector takes that time for 'no data' and not for loss. The number is exact for
//! dropped blocks. It is a minimum for what cannot be read: a stretch of damage, a missing
//! file and a gap each count as one. A counted loss stays in the file `lost` until the
//! block that reports it is appended. So a kill before that hides nothing; a kill right
//! after it makes the loss reported twice. Damage that was counted but not passed before
//! the end of the process is counted again by the next. Blocks that were never flushed
//! and went with the power are not counted; the numbers in the blocks' keys have a gap
//! there.
//!
//! # Not defended against
//! Somebody who gives a segment a number below the cursor's: it counts as delivered. A
//! wall clock that jumps by more than `max_age`: it dates the files.
//!
//! # How it is tested
//! All file access goes through the trait `Disk`, a dozen operations on one directory. The
//! tests replace it by a simulated disk, which separates what a reader sees from what
//! survives a loss of power, for bytes and for names. A reference model checks the results
//! of random sequences of all operations and faults.

mod batch;
mod bounds;
mod cursor;
mod damage;
mod delivery;
mod disk;
mod lost;
mod quarantine;
mod segment;
mod writing;

pub use batch::Batch;
pub use cursor::Cursor;
pub use lost::Lost;

use delivery::UnderWay;
use disk::{Disk, Folder, Writer};
use hopgap_proto::frame::PayloadTooLarge;
use hopgap_proto::time::{Mono, Span, Wall};
use lost::LostLog;
use segment::Segment;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

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
    /// Most bytes in memory while the disk refuses writes (and one block more).
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
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
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

/// Records on disk that wait for delivery.
#[derive(Debug)]
pub struct Spool {
    disk: Box<dyn Disk>,
    options: SpoolOptions,
    /// Oldest first; the last is being written.
    segments: Vec<Segment>,
    /// The newest segment's file; `None` while the newest is in memory.
    writer: Option<Box<dyn Writer>>,
    /// Bytes written to that file since its last flush.
    unflushed: Vec<u8>,
    /// When the oldest unflushed byte was written.
    unflushed_since: Option<Mono>,
    /// The time given by the last call that had one.
    now: Mono,
    /// When to try the disk again after a failure.
    next_try: Mono,
    /// The present error of the disk, if any.
    trouble: Option<String>,
    /// The present error of files other than segments, which costs no record.
    trouble_beside: Option<String>,
    /// Files of dropped segments that the disk would not remove.
    leftover: Vec<String>,
    cursor: Cursor,
    /// When the last acknowledged block was closed.
    delivered: Option<Wall>,
    /// The batch that was handed out last, until it is acknowledged.
    under_way: Option<UnderWay>,
    /// Whether the cursor's file is of another spool and must be removed before any write.
    stale_cursor: bool,
    /// How often in a row the segment at the cursor could not be read.
    read_failures: u32,
    /// Places of counted damage that the cursor has not passed yet.
    counted: BTreeSet<Cursor>,
    /// When ages were last checked.
    aged: Mono,
    /// Bytes appended since it was opened.
    appended: u64,
    lost: LostLog,
}

impl Spool {
    /// Opens the spool in `dir`, which is created, and repairs what a crash left.
    ///
    /// # Errors
    /// When the directory cannot be read or locked, or another process uses it. A readable
    /// disk that refuses writes is no error: see [the module](self).
    pub fn open(dir: &Path, options: SpoolOptions) -> Result<Self, SpoolError> {
        Self::open_on(Box::new(Folder::open(dir)?), options)
    }

    /// Opens the spool on any disk.
    pub(crate) fn open_on(
        disk: Box<dyn Disk>,
        mut options: SpoolOptions,
    ) -> Result<Self, SpoolError> {
        let segments = segment::all_on(&*disk).map_err(failed("read", &disk.path("")))?;
        let newest = segments.last().map_or(0, |s| s.number);
        let kept = cursor::read(&*disk);
        // A cursor beyond the newest segment is of another spool, or of segments that are
        // gone. Its number is not reused, because it would name other records.
        let closed = kept.and_then(|kept| kept.closed);
        let kept = kept.map(|kept| kept.cursor);
        let cursor = kept.filter(|c| c.segment <= newest);
        let beyond = kept.filter(|c| cursor.is_none() && segment::is_number(c.segment));
        let number = beyond.map_or(newest, |c| c.segment) + 1;
        options.segment_bytes = options.segment_bytes.min(options.max_bytes / 4).max(1);
        let lost = LostLog::read(&*disk);
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
            trouble_beside: None,
            leftover: Vec::new(),
            cursor: cursor.unwrap_or_default(),
            delivered: closed.filter(|_| cursor.is_some()),
            under_way: None,
            stale_cursor: kept.is_some() && cursor.is_none(),
            read_failures: 0,
            counted: BTreeSet::new(),
            aged: Mono::ZERO,
            appended: 0,
            lost,
        };
        spool.cut_torn_end();
        spool.count_gaps();
        spool.begin(number);
        spool.drop_acknowledged();
        spool.drop_beyond_bounds();
        Ok(spool)
    }

    /// Records a loss, also for the next process, before the evidence of it is removed.
    fn lose(&mut self, lost: Lost) {
        if lost.blocks > 0 {
            self.lost.add(lost);
            self.keep_lost();
        }
    }

    fn keep_lost(&mut self) {
        match self.lost.write(&*self.disk) {
            Ok(()) => self.trouble_beside = None,
            Err(error) => self.complain_beside("write", "lost", error),
        }
    }

    /// Returns the losses since the last call: blocks that were dropped, damaged or of no use,
    /// with their times. Until [`Spool::lost_is_told`] the next process would report them
    /// again.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.lost.take()
    }

    /// Notes that appended blocks report the losses that [`Spool::take_lost`] returned.
    pub fn lost_is_told(&mut self) {
        if self.lost.told() {
            self.keep_lost();
        }
    }

    /// Returns the bytes on disk.
    pub fn bytes(&self) -> u64 {
        let on_disk = self.segments.iter().filter(|s| s.memory.is_none());
        on_disk.map(|s| s.length).sum()
    }

    /// Returns the bytes appended since the spool was opened.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Returns the bytes that the collector does not have yet, on disk and in memory.
    pub fn waiting(&self) -> u64 {
        let undelivered = |s: &Segment| s.length.saturating_sub(s.start_at(self.cursor));
        self.segments.iter().map(undelivered).sum()
    }

    /// Returns the bytes that are only in memory, because the disk refuses writes, and that
    /// the collector does not have.
    pub fn only_in_memory(&self) -> u64 {
        let unwritten = self.segments.iter().filter(|s| s.memory.is_some());
        unwritten
            .map(|s| s.length.saturating_sub(s.start_at(self.cursor)))
            .sum()
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
