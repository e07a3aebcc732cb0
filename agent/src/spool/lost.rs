//! Losses of the spool: how many blocks, and from which time. A file keeps them until the
//! block that reports them is in the spool, so that an agent that is killed before that
//! reports them after its restart.

use super::disk::Disk;
use hopgap_proto::time::Wall;
use std::io;

const NAME: &str = "lost";
const FRESH: &str = "lost.new";

/// Most separate losses; further ones are merged.
const MOST: usize = 64;

/// Blocks that the collector will not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Least number of blocks. Exact where the spool could still read them; one for each
    /// stretch of bytes or missing file that it could not.
    pub blocks: u32,
    /// They were closed at this time or later, by this host's wall clock; `None` where that
    /// is unknown.
    pub from: Option<Wall>,
    /// They were closed at this time or earlier.
    pub to: Wall,
}

impl Lost {
    /// Merges two losses.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_add(other.blocks),
            from: self.from.zip(other.from).map(|(a, b)| a.min(b)),
            to: self.to.max(other.to),
        }
    }
}

/// Losses that are not reported yet, in a bounded number of stretches.
#[derive(Debug, Default)]
pub(super) struct LostLog {
    waiting: Vec<Lost>,
    /// Losses that were handed out and are perhaps in no block yet.
    handed_out: Vec<Lost>,
    /// A batch whose segment was dropped during its delivery: lost if the collector does not
    /// take it. An agent that is killed before it knows reports it as lost.
    in_doubt: Option<Lost>,
}

impl LostLog {
    /// Reads the losses that an earlier process found and perhaps did not report.
    pub(super) fn read(disk: &dyn Disk) -> Self {
        let mut bytes = Vec::new();
        let mut log = Self::default();
        // Skips unreadable lines of a damaged file.
        if disk.read(NAME, 0, 1 << 16, &mut bytes).is_ok() {
            let text = String::from_utf8_lossy(&bytes);
            text.lines().filter_map(read).for_each(|lost| log.add(lost));
        }
        log
    }

    pub(super) fn add(&mut self, lost: Lost) {
        if lost.blocks == 0 {
            return;
        }
        // Where the wall clock was set back in between, the beginning is unknown.
        let from = lost.from.filter(|from| *from <= lost.to);
        let lost = Lost { from, ..lost };
        let full = self.waiting.len() >= MOST;
        match self.waiting.last_mut() {
            // Adjacent in time: merging loses nothing.
            Some(last) if lost.from.is_some_and(|from| from <= last.to) => *last = last.and(lost),
            Some(last) if full => *last = last.and(lost),
            _ => self.waiting.push(lost),
        }
    }

    /// Notes a possible loss, until [`LostLog::settle`] decides it.
    pub(super) fn doubt(&mut self, lost: Option<Lost>) {
        self.in_doubt = lost;
    }

    /// Decides the possible loss: `lost` is what was really lost of it.
    pub(super) fn settle(&mut self, lost: Option<Lost>) {
        self.in_doubt = None;
        if let Some(lost) = lost {
            self.add(lost);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Lost> {
        let taken = std::mem::take(&mut self.waiting);
        self.handed_out.extend(&taken);
        taken
    }

    /// Forgets the losses that were handed out; returns whether there were any.
    pub(super) fn told(&mut self) -> bool {
        !std::mem::take(&mut self.handed_out).is_empty()
    }

    /// Replaces the file as a whole, or removes it where everything is reported. Does not flush
    /// it: after a loss of power the numbers in the blocks' keys may have an unexplained gap.
    pub(super) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let all = self.handed_out.iter().chain(&self.waiting);
        let all = all.chain(&self.in_doubt);
        let text: String = all.map(line).collect();
        if text.is_empty() {
            return disk.remove(NAME);
        }
        disk.remove(FRESH)?;
        disk.create(FRESH)?.append(text.as_bytes())?;
        disk.rename(FRESH, NAME)
    }
}

/// Formats `blocks from to`, times in nanoseconds since 1970, `-` for an unknown `from`.
fn line(lost: &Lost) -> String {
    let from = lost
        .from
        .map_or_else(|| "-".to_owned(), |from| from.as_nanos().to_string());
    format!("{} {from} {}\n", lost.blocks, lost.to.as_nanos())
}

fn read(line: &str) -> Option<Lost> {
    let mut words = line.split(' ');
    let blocks = words.next()?.parse().ok()?;
    let from = match words.next()? {
        "-" => None,
        from => Some(Wall::from_nanos(from.parse().ok()?)),
    };
    let to = Wall::from_nanos(words.next()?.parse().ok()?);
    words.next().is_none().then_some(Lost { blocks, from, to })
}

#[cfg(test)]
mod tests {
    use super::{Lost, LostLog, MOST, line, read};
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

    #[test]
    fn a_clock_that_was_set_back_leaves_no_beginning_after_the_end() {
        let mut log = LostLog::default();
        log.add(lost(3_600, 60));
        let unknown = Lost {
            from: None,
            ..lost(0, 60)
        };
        assert_eq!(log.take(), [unknown]);
    }

    #[test]
    fn a_line_reads_as_it_was_written_and_others_say_nothing() {
        let unknown = Lost {
            from: None,
            ..lost(5, 1_790_000_000_000_000_000)
        };
        for lost in [lost(-3, 7), unknown] {
            assert_eq!(read(line(&lost).trim_end()), Some(lost));
        }
        for damaged in [
            "", "1", "1 2", "x 1 2", "1 x 2", "1 2 x", "1 2 3 4", "-1 2 3",
        ] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
    }
}
