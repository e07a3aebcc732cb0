//! One segment of the spool: a file, or bytes in memory until the disk takes them.

use super::Cursor;
use super::disk::Disk;
use hopgap_proto::frame::{Corruption, FrameError, FrameReader, HEADER};
use hopgap_proto::record::{Block, BlockKind};
use hopgap_proto::time::Wall;
use std::io;
use std::ops::ControlFlow;
use std::time::SystemTime;

/// How many bytes are read at a time.
const WINDOW: u64 = 256 << 10;
/// Largest number: it has sixteen digits; a file with more digits is not ours.
const LAST_NUMBER: u64 = 9_999_999_999_999_999;

/// What is known of one segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Bytes in it.
    pub(super) length: u64,
    /// About when it was last written to.
    pub(super) written: SystemTime,
    /// Its bytes, where it is not on the disk.
    pub(super) memory: Option<Vec<u8>>,
}

/// A stretch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole frame of any version and kind: the collector may know more of them.
    Whole(&'a [u8]),
    /// Bytes that are no frame.
    Damaged {
        /// How many.
        length: u64,
    },
}

/// Lists the segments on the disk, oldest first.
pub(super) fn all_on(disk: &dyn Disk) -> io::Result<Vec<Segment>> {
    let entries = disk.list("")?.into_iter();
    let mut segments: Vec<Segment> = entries
        .filter_map(|entry| {
            Some(Segment {
                number: number_of(&entry.name)?,
                length: entry.length,
                written: entry.written,
                memory: None,
            })
        })
        .collect();
    segments.sort_by_key(|s| s.number);
    Ok(segments)
}

/// Returns the number in the name of a segment's file; `None` for other files.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number = (digits.len() == 16).then(|| digits.parse().ok())??;
    is_number(number).then_some(number)
}

/// Whether a segment can have this number.
pub(super) fn is_number(number: u64) -> bool {
    number < LAST_NUMBER
}

/// Returns when the block in a frame was closed, where its header can be read.
pub(super) fn closed(frame: &[u8]) -> Option<Wall> {
    let block = Block::peek(frame.get(HEADER..)?).ok()?;
    Some(block.header.closed.wall)
}

/// Whether the block in a frame holds events of the agent itself.
pub(super) fn is_own_events(frame: &[u8]) -> bool {
    let Some(block) = frame.get(HEADER..).and_then(|b| Block::peek(b).ok()) else {
        return false;
    };
    block.header.session.is_none() && block.kind == BlockKind::Events
}

/// Converts a file's time to a record's.
pub(super) fn wall(time: SystemTime) -> Wall {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Wall::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl Segment {
    /// Makes a segment in memory with these bytes.
    pub(super) fn in_memory(number: u64, bytes: Vec<u8>, written: SystemTime) -> Self {
        Self {
            number,
            length: super::length(bytes.len()),
            written,
            memory: Some(bytes),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{:016}.seg", self.number)
    }

    /// Returns the place after its last byte.
    pub(super) fn end(&self) -> Cursor {
        Cursor {
            segment: self.number,
            offset: self.length,
        }
    }

    /// Returns the offset of its first unacknowledged byte.
    pub(super) fn start_at(&self, cursor: Cursor) -> u64 {
        match cursor.segment.cmp(&self.number) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => cursor.offset,
            std::cmp::Ordering::Greater => self.length,
        }
    }

    fn read(&self, disk: &dyn Disk, at: u64, most: u64, into: &mut Vec<u8>) -> io::Result<u64> {
        match &self.memory {
            None => disk.read(&self.name(), at, most, into),
            Some(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let rest = bytes.get(at..).unwrap_or_default();
                let most = usize::try_from(most).unwrap_or(usize::MAX).min(rest.len());
                into.extend_from_slice(rest.get(..most).unwrap_or_default());
                Ok(super::length(most))
            }
        }
    }

    /// Passes its pieces from byte `start` on to `take`, each with its offset, until `take`
    /// stops it. Memory holds at most one window and one frame.
    pub(super) fn scan(
        &self,
        disk: &dyn Disk,
        start: u64,
        take: impl FnMut(u64, Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if start >= self.length {
            return Ok(());
        }
        Scan { take, damage: None }.run(self, disk, start)
    }

    /// Returns where its whole frames end, and how many stretches of damage follow them.
    pub(super) fn whole_end(&self, disk: &dyn Disk) -> io::Result<(u64, u32)> {
        let (mut whole, mut damaged) = (0, 0_u32);
        self.scan(disk, 0, |offset, piece| {
            match piece {
                Piece::Whole(raw) => (whole, damaged) = (offset + super::length(raw.len()), 0),
                Piece::Damaged { .. } => damaged = damaged.saturating_add(1),
            }
            ControlFlow::Continue(())
        })?;
        Ok((whole, damaged))
    }

    /// Returns when each of its blocks was closed, with the frame's offset. Used in the rare
    /// case that something between them is lost.
    pub(super) fn closed_times(&self, disk: &dyn Disk) -> Vec<(u64, Wall)> {
        let mut times = Vec::new();
        // Ignores an error: the blocks read before it still count.
        let _ = self.scan(disk, 0, |offset, piece| {
            if let Piece::Whole(raw) = piece {
                times.extend(closed(raw).map(|at| (offset, at)));
            }
            ControlFlow::Continue(())
        });
        times
    }
}

struct Scan<F> {
    take: F,
    /// Offset and length of bytes without a header so far; more may follow.
    damage: Option<(u64, u64)>,
}

impl<F: FnMut(u64, Piece<'_>) -> ControlFlow<()>> Scan<F> {
    fn run(&mut self, segment: &Segment, disk: &dyn Disk, start: u64) -> io::Result<()> {
        let end = segment.length;
        let (mut buffer, mut base, mut read) = (Vec::new(), start, start);
        loop {
            let got = segment.read(disk, read, WINDOW.min(end - read), &mut buffer)?;
            read += got;
            // Also ends where the file is shorter than expected.
            let last = got == 0 || read >= end;
            match self.window(&buffer, base, last) {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(_) if last => {
                    if read < end && self.headless(read, end - read).is_break() {
                        return Ok(());
                    }
                    let _ = self.flush();
                    return Ok(());
                }
                ControlFlow::Continue(consumed) => {
                    buffer.drain(..consumed);
                    base += super::length(consumed);
                }
            }
        }
    }

    /// Passes on the pieces of `buffer`, which begins at byte `base` of the file; returns how
    /// many of its bytes were used.
    fn window(&mut self, buffer: &[u8], base: u64, last: bool) -> ControlFlow<(), usize> {
        let mut reader = FrameReader::new(buffer);
        for item in reader.by_ref() {
            let place = |offset: usize| base + super::length(offset);
            match item {
                Ok(frame) => self.piece(place(frame.offset), Piece::Whole(frame.raw))?,
                Err(
                    FrameError::NewerVersion { offset, length, .. }
                    | FrameError::UnknownKind { offset, length, .. },
                ) => {
                    let raw = buffer.get(offset..offset + length).unwrap_or_default();
                    self.piece(place(offset), Piece::Whole(raw))?;
                }
                Err(FrameError::Corrupt {
                    offset,
                    length,
                    what: Corruption::Header | Corruption::Length,
                }) => self.headless(place(offset), super::length(length))?,
                Err(FrameError::Corrupt { offset, length, .. }) => {
                    let length = super::length(length);
                    self.piece(place(offset), Piece::Damaged { length })?;
                }
                Err(FrameError::Torn { offset, .. }) if last => {
                    self.headless(place(offset), super::length(buffer.len() - offset))?;
                }
                Err(FrameError::Torn { .. }) => {}
            }
        }
        ControlFlow::Continue(reader.consumed())
    }

    /// Adds bytes without a header, as one stretch also across windows.
    fn headless(&mut self, offset: u64, length: u64) -> ControlFlow<()> {
        match &mut self.damage {
            Some((start, so_far)) if *start + *so_far == offset => *so_far += length,
            _ => {
                self.flush()?;
                self.damage = Some((offset, length));
            }
        }
        ControlFlow::Continue(())
    }

    fn piece(&mut self, offset: u64, piece: Piece<'_>) -> ControlFlow<()> {
        self.flush()?;
        (self.take)(offset, piece)
    }

    fn flush(&mut self) -> ControlFlow<()> {
        match self.damage.take() {
            Some((offset, length)) => (self.take)(offset, Piece::Damaged { length }),
            None => ControlFlow::Continue(()),
        }
    }
}
