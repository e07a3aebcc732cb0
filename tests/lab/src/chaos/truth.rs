//! What was recorded, without asking who recorded it.

use super::world::{AGENTS, kept, spool};
use anyhow::{Context, Result};
use hopgap_proto::frame::FrameReader;
use hopgap_proto::record::{Block, BlockKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often spools are looked at for new segments.
const EVERY: Duration = Duration::from_millis(2);

/// Frames that were seen, by what they hold.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The payload of every block.
    pub(super) blocks: BTreeMap<BlockKey, Vec<u8>>,
    /// Blocks that were seen with other bytes before.
    pub(super) changed: BTreeSet<BlockKey>,
    /// Blocks that passed the proxy, and how often.
    pub(super) passes: BTreeMap<BlockKey, u64>,
    /// Blocks that were on their agent's disk.
    pub(super) on_disk: BTreeSet<BlockKey>,
    /// Blocks of which a bit was flipped before they were delivered.
    pub(super) flipped: BTreeSet<BlockKey>,
    /// Frames whose payload is no block.
    pub(super) unreadable: u64,
}

impl Frames {
    fn saw(&mut self, payload: &[u8]) -> Option<BlockKey> {
        let Ok(summary) = Block::peek(payload) else {
            self.unreadable += 1;
            return None;
        };
        let key = summary.header.key;
        match self.blocks.get(&key) {
            Some(known) if known != payload => {
                self.changed.insert(key.clone());
            }
            Some(_) => {}
            None => {
                self.blocks.insert(key.clone(), payload.to_owned());
            }
        }
        Some(key)
    }

    /// A frame passed on its way to the collector.
    pub(super) fn passed(&mut self, payload: &[u8]) {
        if let Some(key) = self.saw(payload) {
            *self.passes.entry(key).or_default() += 1;
        }
    }

    /// Takes a segment's frames in; the keys of those that were there.
    fn segment(&mut self, bytes: &[u8]) {
        for frame in FrameReader::new(bytes).flatten() {
            if let Some(key) = self.saw(frame.payload) {
                self.on_disk.insert(key);
            }
        }
    }
}

/// What was recorded.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    dir: PathBuf,
    frames: Arc<Mutex<Frames>>,
}

impl Truth {
    /// Begins to give segments second names.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let truth = Self {
            dir: dir.to_owned(),
            frames: Arc::default(),
        };
        for side in 0..AGENTS.len() {
            let (from, to) = (spool(dir, side), kept(dir, side));
            std::thread::Builder::new()
                .name("truth".to_owned())
                .spawn(move || {
                    loop {
                        link_new(&from, &to);
                        std::thread::sleep(EVERY);
                    }
                })
                .context("cannot start a thread")?;
        }
        Ok(truth)
    }

    pub(super) fn frames(&self) -> Arc<Mutex<Frames>> {
        Arc::clone(&self.frames)
    }

    fn locked(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flips a bit of a frame that waits in a spool, in a segment that is not being
    /// written; false where there is none.
    pub(super) fn flip(&self, side: usize, rng: &mut fastrand::Rng) -> Result<bool> {
        use std::os::unix::fs::FileExt as _;
        let dir = spool(&self.dir, side);
        let Some((at, _)) = cursor(&dir) else {
            return Ok(false);
        };
        let mut segments = numbers(&dir);
        // The newest may be cut at its first damage by the next start, as a torn end.
        segments.pop_last();
        let waiting: Vec<u64> = segments.into_iter().filter(|n| *n > at).collect();
        let Some(number) = rng.choice(&waiting) else {
            return Ok(false);
        };
        // By its second name, which stays.
        let path = kept(&self.dir, side).join(file_name(*number));
        let Ok(bytes) = std::fs::read(&path) else {
            return Ok(false);
        };
        let mut frames = self.locked();
        frames.segment(&bytes);
        let there: Vec<_> = FrameReader::new(&bytes).flatten().collect();
        let Some(victim) = rng.choice(&there) else {
            return Ok(false);
        };
        let Ok(summary) = Block::peek(victim.payload) else {
            return Ok(false);
        };
        frames.flipped.insert(summary.header.key);
        let place = rng.usize(victim.offset..victim.end());
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let byte = bytes[place] ^ (1 << rng.u8(0..8));
        file.write_all_at(&[byte], u64::try_from(place)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(true)
    }

    /// Everything that was seen, when all programs have ended.
    pub(super) fn gather(&self) -> Result<MutexGuard<'_, Frames>> {
        let mut frames = self.locked();
        for side in 0..AGENTS.len() {
            for dir in [spool(&self.dir, side), kept(&self.dir, side)] {
                for number in numbers(&dir) {
                    let path = dir.join(file_name(number));
                    let bytes = std::fs::read(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    frames.segment(&bytes);
                }
            }
        }
        Ok(frames)
    }

    /// Bytes that wait in an agent's spool.
    pub(super) fn waiting(&self, side: usize) -> u64 {
        let dir = spool(&self.dir, side);
        let (at, offset) = cursor(&dir).unwrap_or((0, 0));
        let bytes = numbers(&dir).into_iter().filter_map(|number| {
            let length = std::fs::metadata(dir.join(file_name(number))).ok()?.len();
            match number.cmp(&at) {
                std::cmp::Ordering::Less => None,
                std::cmp::Ordering::Equal => length.checked_sub(offset),
                std::cmp::Ordering::Greater => Some(length),
            }
        });
        bytes.sum()
    }
}

fn file_name(number: u64) -> String {
    format!("{number:016}.seg")
}

/// The numbers of the segments in a directory.
fn numbers(dir: &Path) -> BTreeSet<u64> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return BTreeSet::new();
    };
    let names = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok())
        .collect()
}

/// Up to where the collector has an agent's spool: segment and byte.
fn cursor(dir: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(dir.join("cursor")).ok()?;
    // Agents of later releases add when the last block before it was closed.
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn link_new(from: &Path, to: &Path) {
    for number in numbers(from) {
        let name = file_name(number);
        let new = to.join(&name);
        if !new.exists() {
            // Where it is gone again, its blocks passed the proxy, or their numbers show it.
            let _ = std::fs::hard_link(from.join(&name), new);
        }
    }
}
