//! Delivers batches, and handles what the collector acknowledges and refuses.

use super::batch::Batch;
use super::segment::{self, Piece, Segment};
use super::{Cursor, Lost, Spool, SpoolError, cursor, length, quarantine};
use hopgap_proto::time::Wall;
use std::io;
use std::ops::ControlFlow;
use tracing::warn;

/// A batch that was handed out and is not acknowledged yet.
#[derive(Debug)]
pub(super) struct UnderWay {
    segment: u64,
    /// Where each frame ends in the segment, and when its block was closed.
    frames: Vec<(u64, Option<Wall>)>,
    /// Set where its segment was dropped meanwhile: unacknowledged frames are then lost.
    dropped: Option<Dropped>,
}

/// The time range of a dropped segment, for blocks without a time of their own: they were
/// closed after the first and before the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped(pub(super) Option<Wall>, pub(super) Wall);

impl UnderWay {
    fn of(batch: &Batch) -> Self {
        Self {
            segment: batch.start().segment,
            frames: batch.closed().to_vec(),
            dropped: None,
        }
    }

    /// Whether it has the frame that ends at byte `end` of `segment`.
    pub(super) fn holds(&self, segment: u64, end: u64) -> bool {
        self.segment == segment && self.frames.iter().any(|f| f.0 == end)
    }

    /// Notes that its segment is dropped. Returns the loss if the collector takes nothing of it.
    pub(super) fn drop_with(&mut self, dropped: Dropped) -> Option<Lost> {
        self.dropped = Some(dropped);
        self.lost_after(Cursor::default())
    }

    /// Returns the frames of a dropped segment that do not come before `acknowledged`.
    fn lost_after(&self, acknowledged: Cursor) -> Option<Lost> {
        let Dropped(from, to) = self.dropped?;
        let is_lost = |end| {
            acknowledged
                < Cursor {
                    segment: self.segment,
                    offset: end,
                }
        };
        let lost = self.frames.iter().filter(|f| is_lost(f.0));
        let mut lost = lost.map(|&(_, closed)| Lost {
            blocks: 1,
            from: closed.or(from),
            to: closed.unwrap_or(to),
        });
        let first = lost.next()?;
        Some(lost.fold(first, Lost::and))
    }

    /// Returns when the last block before `acknowledged` was closed.
    fn closed_before(&self, acknowledged: Cursor) -> Option<Wall> {
        let frames = self.frames.iter().rev();
        let mut taken = frames.filter(|f| {
            acknowledged
                >= Cursor {
                    segment: self.segment,
                    offset: f.0,
                }
        });
        taken.find_map(|f| f.1)
    }
}

impl Spool {
    /// Returns the oldest unacknowledged frames, from one segment: at most `max` bytes, or one
    /// larger frame. `None` when everything is delivered.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn next_batch(&mut self, max: usize) -> Result<Option<Batch>, SpoolError> {
        // Nothing more of an earlier batch will be acknowledged.
        self.settle(Cursor::default());
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
                self.under_way = Some(UnderWay::of(&batch));
                return Ok(Some(batch));
            }
            // Skips a segment that has nothing, or only damage, up to its end.
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

    /// Notes that everything before `cursor` is durable at the collector. Where the disk
    /// refuses the cursor, that may be delivered again after a restart.
    pub fn acknowledge(&mut self, cursor: Cursor) {
        self.settle(cursor);
        if cursor <= self.cursor {
            return;
        }
        self.cursor = cursor;
        if !self.stale_cursor {
            match cursor::write(&*self.disk, cursor, self.delivered) {
                Ok(()) => self.trouble_beside = None,
                Err(error) => self.complain_beside("write", "cursor", error),
            }
        }
        self.drop_acknowledged();
    }

    /// Ends the delivery under way; the collector has everything before `acknowledged`.
    fn settle(&mut self, acknowledged: Cursor) {
        let Some(under_way) = self.under_way.take() else {
            return;
        };
        self.delivered = under_way.closed_before(acknowledged).or(self.delivered);
        if under_way.dropped.is_some() {
            self.lost.settle(under_way.lost_after(acknowledged));
            self.keep_lost();
        }
    }

    /// Keeps aside a frame that the collector cannot use, at byte `offset` of a batch, and
    /// counts it as lost.
    pub fn refused(&mut self, batch: &Batch, offset: u64) {
        let Some((place, raw)) = batch.frame_at(offset) else {
            return;
        };
        let name = Segment::in_memory(place.segment, Vec::new(), self.disk.now()).name();
        quarantine::keep_bytes(&*self.disk, &name, place.offset, raw);
        if segment::is_own_events(raw) {
            // Not counted: such a block reports losses, so a refused one would cause another.
            warn!("a block of this agent's own events was refused and is kept aside");
            return;
        }
        let now = segment::wall(self.disk.now());
        let closed = segment::closed(raw);
        self.lose(Lost {
            blocks: 1,
            from: closed,
            to: closed.unwrap_or(now),
        });
    }
}
