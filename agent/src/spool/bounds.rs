//! Drops segments beyond the spool's bounds, and counts the lost blocks.

use super::delivery::Dropped;
use super::segment::{self, Piece};
use super::{Cursor, Lost, Spool, quarantine};
use hopgap_proto::time::{Span, Wall};
use std::ops::ControlFlow;
use tracing::warn;

/// How often ages are checked.
const AGED_EVERY: Span = Span::from_secs(60);

impl Spool {
    /// Removes the segments that the collector has completely.
    pub(super) fn drop_acknowledged(&mut self) {
        let (cursor, newest) = (self.cursor, self.newest_number());
        let disk = &*self.disk;
        self.leftover.retain(|name| disk.remove(name).is_err());
        let mut refused = None;
        let mut passed = true;
        // Only from the front: numbers without a gap show that nothing is missing.
        self.segments.retain(|s| {
            passed &= s.number != newest && (s.length == 0 || cursor >= s.end());
            if passed && s.memory.is_none() {
                // A segment that stays is tried again with the next acknowledgement.
                if refused.is_some() {
                    return true;
                }
                if let Err(error) = disk.remove(&s.name()) {
                    refused = Some((s.name(), error));
                    return true;
                }
            }
            !passed
        });
        if let Some((name, error)) = refused {
            self.complain_beside("remove", &name, error);
        }
    }

    pub(super) fn drop_beyond_bounds(&mut self) {
        self.drop_beyond_max_bytes();
        self.drop_old();
    }

    pub(super) fn drop_old_now_and_then(&mut self) {
        if self.now - self.aged >= AGED_EVERY {
            self.aged = self.now;
            self.drop_old();
        }
    }

    fn drop_old(&mut self) {
        let now = self.disk.now();
        let max_age = self.options.max_age.to_std().unwrap_or_default();
        while self.segments.len() > 1
            && self.segments.first().is_some_and(|s| {
                let age = now.duration_since(s.written);
                age.is_ok_and(|age| age > max_age)
            })
        {
            self.drop_segment(0, "holds what is too old");
        }
    }

    pub(super) fn drop_beyond_max_bytes(&mut self) {
        while self.segments.len() > 1 && self.bytes() > self.options.max_bytes {
            self.drop_segment(0, "is full");
        }
    }

    /// Drops segments that are in memory, the oldest first, but never the newest.
    pub(super) fn drop_beyond_max_memory(&mut self) {
        loop {
            let in_memory = self.segments.iter().enumerate();
            let in_memory: Vec<_> = in_memory
                .filter_map(|(i, s)| s.memory.as_ref().map(|m| (i, super::length(m.len()))))
                .collect();
            let bytes: u64 = in_memory.iter().map(|m| m.1).sum();
            match in_memory.first() {
                Some(&(oldest, _)) if in_memory.len() > 1 && bytes > self.options.max_memory => {
                    self.drop_segment(oldest, "has no disk and is full");
                }
                _ => return,
            }
        }
    }

    /// Drops a segment and counts its undelivered blocks.
    fn drop_segment(&mut self, index: usize, why: &str) {
        let (mut blocks, mut known) = (0_u32, Vec::new());
        let mut damage = Vec::new();
        let Some(dropped) = self.segments.get(index) else {
            return;
        };
        let start = dropped.start_at(self.cursor);
        let number = dropped.number;
        let under_way = self.under_way.as_ref();
        let is_under_way = |end| under_way.is_some_and(|batch| batch.holds(number, end));
        let mut in_doubt = false;
        let counted = dropped.scan(&*self.disk, start, |offset, piece| {
            match piece {
                Piece::Whole(raw) if is_under_way(offset + super::length(raw.len())) => {
                    in_doubt = true;
                }
                Piece::Whole(raw) => {
                    blocks = blocks.saturating_add(1);
                    known.extend(segment::closed(raw));
                }
                Piece::Damaged { length } => damage.push((offset, length)),
            }
            ControlFlow::Continue(())
        });
        let name = dropped.name();
        let in_memory = dropped.memory.is_some();
        let written = segment::wall(dropped.written);
        if let Err(error) = counted {
            warn!("the spool cannot read {name}: {error}");
            // There were more, but their number is unknown.
            blocks = blocks.saturating_add(1);
            known.clear();
        }
        self.count_damage(index, &damage);
        let before = self.written_before(index);
        if in_doubt && let Some(batch) = &mut self.under_way {
            self.lost.doubt(batch.drop_with(Dropped(before, written)));
            self.keep_lost();
        }
        if blocks > 0 {
            warn!(
                "the spool {why}: {blocks} blocks that the collector does not have are dropped with {}",
                self.disk.path(&name).display()
            );
        }
        let complete = known.len() == usize::try_from(blocks).unwrap_or(usize::MAX);
        self.lose(Lost {
            blocks,
            from: match known.iter().min() {
                Some(&first) if complete => Some(first),
                _ => before,
            },
            to: match known.iter().max() {
                Some(&last) if complete => last,
                _ => written,
            },
        });
        if !in_memory && let Err(error) = self.disk.remove(&name) {
            self.complain_beside("remove", &name, error);
            self.leftover.push(name);
        }
        self.forget(index);
    }

    /// Sets aside a segment that cannot be read. It counts as one block, because the number
    /// of its blocks is unknown.
    pub(super) fn set_aside(&mut self, number: u64) {
        let Some(index) = self.segments.iter().position(|s| s.number == number) else {
            return;
        };
        let Some(segment) = self.segments.get(index) else {
            return;
        };
        let lost = Lost {
            blocks: 1,
            from: self.written_before(index),
            to: segment::wall(segment.written),
        };
        let name = segment.name();
        self.lose(lost);
        if let Err(error) = quarantine::move_whole(&*self.disk, &name) {
            warn!("{name} cannot be set aside: {error}");
        }
        self.forget(index);
    }

    /// Removes a segment from the list and moves the cursor over it where it was the oldest.
    fn forget(&mut self, index: usize) {
        let gone = self.segments.remove(index);
        if index == 0 {
            self.cursor = self.cursor.max(Cursor::start_of(gone.number + 1));
        }
    }

    /// Counts one loss for each stretch of missing segments that the collector does not have:
    /// the number of their blocks is unknown.
    pub(super) fn count_gaps(&mut self) {
        let mut gaps: Vec<(Wall, Wall)> = Vec::new();
        for pair in self.segments.windows(2) {
            if let [a, b] = pair
                && b.number - a.number > 1
                && b.number > self.cursor.segment
            {
                warn!(
                    "the spool's segments {} to {} are missing; how many blocks were in them is not known",
                    a.number + 1,
                    b.number - 1
                );
                gaps.push((segment::wall(a.written), segment::wall(b.written)));
            }
        }
        for (from, to) in gaps {
            self.lose(Lost {
                blocks: 1,
                from: Some(from),
                to,
            });
        }
    }
}
