//! The frames of one delivery.

use super::{Cursor, segment};
use hopgap_proto::time::Wall;

/// Frames for one delivery.
#[derive(Debug)]
pub struct Batch {
    /// Whole frames, one after the other.
    pub bytes: Vec<u8>,
    start: Cursor,
    /// Where each frame ends in `bytes`, and in the segment.
    ends: Vec<(u64, u64)>,
    /// Where each frame ends in the segment, and when its block was closed.
    closed: Vec<(u64, Option<Wall>)>,
}

impl Batch {
    pub(super) fn at(start: Cursor) -> Self {
        Self {
            bytes: Vec::new(),
            start,
            ends: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Adds a frame that ends at `end` in the segment.
    pub(super) fn push(&mut self, raw: &[u8], end: u64) {
        self.bytes.extend_from_slice(raw);
        self.ends.push((super::length(self.bytes.len()), end));
        self.closed.push((end, segment::closed(raw)));
    }

    /// Returns the place of its first frame.
    pub(super) fn start(&self) -> Cursor {
        self.start
    }

    /// Where each frame ends in the segment, and when its block was closed.
    pub(super) fn closed(&self) -> &[(u64, Option<Wall>)] {
        &self.closed
    }

    /// Returns the number of its frames.
    pub fn frames(&self) -> usize {
        self.ends.len()
    }

    /// Returns the frame that begins at byte `offset` of the body, and its place.
    pub(super) fn frame_at(&self, offset: u64) -> Option<(Cursor, &[u8])> {
        let index = self.ends.partition_point(|&(end, _)| end <= offset);
        let &(end, end_in_segment) = self.ends.get(index)?;
        let before = index.checked_sub(1).and_then(|i| self.ends.get(i));
        let start = before.map_or(0, |&(end, _)| end);
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        let place = Cursor {
            offset: end_in_segment.saturating_sub(end - start),
            ..self.start
        };
        Some((place, self.bytes.get(range)?))
    }

    /// Returns the place after the last frame that lies completely within the first `bytes`
    /// bytes of the body.
    pub fn cursor_after(&self, bytes: u64) -> Cursor {
        let whole = self.ends.partition_point(|&(end, _)| end <= bytes);
        match whole.checked_sub(1).and_then(|last| self.ends.get(last)) {
            Some(&(_, offset)) => Cursor {
                offset,
                ..self.start
            },
            None => self.start,
        }
    }
}
