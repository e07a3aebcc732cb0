//! The spool: records on disk until the collector has them.
//!
//! # Why
//! The collector is often reached through the very path under test, so that it
//! is away just when there is most to tell. What was measured waits here, for
//! hours if need be, in bounded room on disk and next to none in memory.
//!
//! # Constraints
//! - A block that the disk took and flushed comes out, in order, until it is
//!   acknowledged; after a crash perhaps once more, which the collector recognises by
//!   the block's key. Nothing is ever delivered whose checksum does not hold.
//! - What does not come out is counted, with the time that it was of.
//! - The disk is never a reason to stop measuring. While it refuses, the newest blocks
//!   wait in memory, and are delivered from there.
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
//! cursor.new, lost.new   what is about to take the place of these
//! lock                   held while a process uses the spool
//! quarantine/            what cannot be delivered, for people:
//!   0000000000000001-000000000060.bad   bytes of segment 1 from byte 60 on
//!   0000000000000002.seg                a segment that could not be read
//! ```
//!
//! Segments are numbered from 1 upwards and never reused, not even where the cursor
//! alone remembers a number. A new one is begun when the present one has grown to
//! [`SpoolOptions::segment_bytes`], at every start, and whenever a write or a flush
//! failed: nothing is ever written behind bytes that are in doubt. A segment is removed
//! as a whole.
//!
//! Segments hold the uplink's own bytes: what is shipped is copied from the disk and
//! never decoded. Length and checksums of a frame are in its header, little-endian, the
//! same on any host; a frame never spans two segments. Frames carry a version and a
//! kind: those of a newer program, left by a downgrade, are whole frames here and go to
//! the collector, which may know them. Where it does not, it keeps them and says so, and
//! they are kept and counted here too ([`Spool::refused`]).
//!
//! # The life of a block
//! 1. [`Spool::append`] writes it as one frame, by one `write`. From here it
//!    survives the end of the process.
//! 2. It is flushed (`fdatasync`) at most [`SpoolOptions::sync_every`] later, when
//!    [`Spool::sync_due`] is called, and at the latest before its segment is left.
//!    From here it survives the loss of power: the segment's name was flushed when it
//!    was created. With a `sync_every` of zero this comes before `append` returns. The
//!    default of a second spares flash memory, and costs a second of blocks at a loss
//!    of power, beside the block that the recorder has open in any case.
//! 3. [`Spool::next_batch`] hands it out, again and again until
//!    [`Spool::acknowledge`] moves the cursor over it. That may come before the
//!    flush: what the collector has need not survive here.
//! 4. Its segment is removed.
//!
//! # When the disk refuses
//! A failed `fdatasync` says nothing of which pages reached the disk, and Linux marks
//! them clean: the next `fdatasync` of the file succeeds without writing them. So no
//! later flush of that file is trusted. What was written since the last good one is
//! still in memory (a copy is kept until each flush, 1 MiB at most), becomes a new
//! segment, and is written to a new file. The old one ends where the last good flush
//! ended.
//!
//! A failed write (`ENOSPC`, `EROFS`, `EIO`) may have left a part of a frame. The part is
//! cut off where that is possible, what came before it is flushed, and the frame goes
//! to a new segment as well.
//!
//! That new segment is in memory first. Once a second it is tried to write out what is
//! in memory, oldest first, each segment whole: created, written, flushed, its name
//! flushed. Until that succeeds, [`Spool::next_batch`] serves it from memory. Beyond
//! [`SpoolOptions::max_memory`] the oldest quarter of what is in memory is dropped and
//! counted. What the disk has is not touched to make room: it is older, and nobody knows
//! whether removing it would help. What is in memory only at the end of the process is
//! lost, and said in the log; the uplink still tries to deliver it.
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
//! failing disk) is met when its turn comes. It costs the frames that it hits and
//! nothing behind them: with a good header the reader steps over the frame, without one
//! it looks for the next. The bytes are kept in `quarantine/` (at most 64 files and
//! 16 MiB, the oldest go), said in the log, and counted. A segment whose file is gone, or
//! that cannot be read eight times in a row, counts as one block and is passed over.
//!
//! # Bounds
//! Acknowledged segments go first, at once. Beyond [`SpoolOptions::max_bytes`], and when
//! they were last written more than [`SpoolOptions::max_age`] ago, the oldest go whole,
//! though they wait to be delivered; ages are looked at once a minute and whenever a
//! segment is begun. What is being delivered just then counts as lost only when it is not
//! acknowledged. In memory are a few numbers for each segment, what is not flushed,
//! and one batch while it is handed out.
//!
//! # What the counts say
//! [`Spool::take_lost`] tells every block that is dropped, damaged or of no use, once
//! while the spool is open, with the time between which such blocks were closed: by their
//! own headers where those can be read, else by their neighbours', else by the times of
//! the files, and never before the last block that was acknowledged, whose time stands
//! beside the cursor. The recorder makes an event of it, so that the collector takes that time
//! for 'no data' and not for loss. The number is exact for blocks that were dropped. It
//! is the least for what cannot be read: a stretch of damage, a missing file and a gap
//! each count as one. What was counted stands in the file `lost` until the block that
//! tells it is appended, so that no kill between the two hides it; one right after makes it
//! told twice. Damage that was counted and not passed over before the end of the process is
//! counted again by the next. Not counted is what was never flushed and went
//! with the power; the numbers in the blocks' keys have a gap there.
//!
//! # Not defended against
//! Somebody who gives a segment a number below the cursor's: it is taken for delivered. A
//! wall clock that jumps by more than `max_age`: files are dated by it.
//!
//! # How it is tested
//! All of this goes through the trait `Disk`, a dozen operations on one directory. In
//! the tests a simulated disk takes its place, which keeps what a reader sees apart from
//! what survives a loss of power, for bytes and for names, and a reference model holds
//! random sequences of all operations and faults against what comes out.

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
    /// The same of files beside the segments, without which no record is lost.
    trouble_beside: Option<String>,
    /// Files of dropped segments that the disk would not remove.
    leftover: Vec<String>,
    cursor: Cursor,
    /// When the last block that was acknowledged had been closed.
    delivered: Option<Wall>,
    /// The batch that was handed out last, until it is acknowledged.
    under_way: Option<UnderWay>,
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

    /// Notes a loss, also for the next process, before what says so is gone.
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

    /// Blocks that were dropped, damaged or of no use since this was last asked, and
    /// of which time they were. Until [`Spool::lost_is_told`] the next process would tell
    /// them again.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.lost.take()
    }

    /// What [`Spool::take_lost`] gave is in blocks that were appended.
    pub fn lost_is_told(&mut self) {
        if self.lost.told() {
            self.keep_lost();
        }
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

    /// Bytes of blocks that the collector does not have yet, on disk and in memory.
    pub fn waiting(&self) -> u64 {
        let undelivered = |s: &Segment| s.length.saturating_sub(s.start_at(self.cursor));
        self.segments.iter().map(undelivered).sum()
    }

    /// Bytes of blocks that are in memory only, because the disk takes nothing, and
    /// that the collector does not have.
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
