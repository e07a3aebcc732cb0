//! What the spool lost: how much, and of which time.

use hopgap_proto::time::Wall;

/// More stretches than this are told as one.
const MOST: usize = 64;

/// Blocks that the collector will not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many blocks at least; exact where the spool could still read them, and
    /// one for each stretch of bytes or missing file that it could not.
    pub blocks: u32,
    /// They were closed at this time or later, by this host's wall clock; `None`
    /// where nothing is left that says so.
    pub from: Option<Wall>,
    /// They were closed at this time or earlier.
    pub to: Wall,
}

impl Lost {
    fn join(&mut self, other: Self) {
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.from = self.from.zip(other.from).map(|(a, b)| a.min(b));
        self.to = self.to.max(other.to);
    }
}

/// What was lost and not told yet, in a bounded number of stretches.
#[derive(Debug, Default)]
pub(super) struct LostLog(Vec<Lost>);

impl LostLog {
    pub(super) fn add(&mut self, lost: Lost) {
        if lost.blocks == 0 {
            return;
        }
        let full = self.0.len() >= MOST;
        match self.0.last_mut() {
            // One after the other in time: one stretch says as much.
            Some(last) if lost.from.is_some_and(|from| from <= last.to) => last.join(lost),
            Some(last) if full => last.join(lost),
            _ => self.0.push(lost),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Lost, LostLog, MOST};
    use hopgap_proto::time::{Span, Wall};

    fn at(seconds: i64) -> Wall {
        Wall::ZERO + Span::from_secs(seconds)
    }

    fn lost(from: i64, to: i64) -> Lost {
        Lost {
            blocks: 1,
            from: Some(at(from)),
            to: at(to),
        }
    }

    #[test]
    fn stretches_that_touch_are_one_and_others_keep_apart() {
        let mut log = LostLog::default();
        for (from, to) in [(0, 10), (10, 20), (100, 110)] {
            log.add(lost(from, to));
        }
        let two = Lost {
            blocks: 2,
            ..lost(0, 20)
        };
        assert_eq!(log.take(), [two, lost(100, 110)]);
        assert_eq!(log.take(), []);
    }

    #[test]
    fn however_many_there_are_every_block_is_told_in_bounded_room() {
        let mut log = LostLog::default();
        for i in 0..1_000 {
            log.add(lost(100 * i, 100 * i + 1));
        }
        let told = log.take();
        assert_eq!(told.len(), MOST);
        assert_eq!(told.iter().map(|l| l.blocks).sum::<u32>(), 1_000);
        assert_eq!(told.last().map(|l| l.to), Some(at(99_901)));
    }
}
