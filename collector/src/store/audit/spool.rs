//! Compares an agent's spool with the store.

use super::super::StoreError;
use super::super::schema::keeps_checksums;
use hopgap_proto::frame::{FrameError, FrameReader};
use hopgap_proto::record::{AgentName, Block, BlockKey, RunId};
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A spool that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the spool {}: {source}; name the directory `spool` of an agent's state directory, or one with copies of its segments", path.display())]
pub struct SpoolError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// A frame of a spool.
#[derive(Clone, Debug)]
struct SpoolFrame {
    /// `None`: this program cannot read it as a block.
    key: Option<BlockKey>,
    crc: u32,
    /// The whole frame, where it cannot be read as a block.
    raw: Option<Vec<u8>>,
    /// Whether the cursor says that the collector has it.
    acknowledged: bool,
}

/// What was read of a spool.
#[derive(Clone, Debug)]
pub struct SpoolFrames {
    dir: PathBuf,
    segments: u64,
    frames: Vec<SpoolFrame>,
    damaged: u64,
}

/// What became of a spool's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolAudit {
    /// The spool.
    pub dir: PathBuf,
    /// Its segments.
    pub segments: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Frames that the store has, with the same bytes.
    pub stored: u64,
    /// Frames that the collector could not use, and kept aside.
    pub kept_aside: u64,
    /// Frames that are still to be delivered.
    pub waiting: u64,
    /// Frames that the collector has acknowledged and the store does not have.
    pub missing: Vec<BlockKey>,
    /// Frames for which the store has a block with the same key and other bytes.
    pub different: Vec<BlockKey>,
    /// Stretches of bytes that are no frame. The agent finds and counts them when it comes
    /// to deliver them.
    pub damaged: u64,
}

impl SpoolAudit {
    pub(super) fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty()
    }
}

impl SpoolFrames {
    /// Reads the segments in `dir`, also while the agent runs: skips a frame that is being
    /// written and a segment that is removed meanwhile.
    ///
    /// # Errors
    ///
    /// When the directory or a file in it cannot be read.
    pub fn read(dir: &Path) -> Result<Self, SpoolError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError { path, source }
        };
        // Read before the segments: what it acknowledges stays acknowledged.
        let cursor = cursor(dir);
        let mut segments = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
            let path = entry.map_err(failed(dir))?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            let number = name.and_then(|n| n.strip_suffix(".seg")?.parse::<u64>().ok());
            if let Some(number) = number {
                segments.insert(number, path);
            }
        }
        let mut this = Self {
            dir: dir.to_owned(),
            segments: 0,
            frames: Vec::new(),
            damaged: 0,
        };
        for (number, path) in &segments {
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(path)(error)),
            };
            this.segments += 1;
            for item in FrameReader::new(&bytes) {
                let (end, key, crc, raw) = match item {
                    Ok(frame) => {
                        let key = key(frame.payload);
                        let raw = key.is_none().then(|| frame.raw.to_owned());
                        (frame.end(), key, crc32fast::hash(frame.payload), raw)
                    }
                    Err(
                        FrameError::NewerVersion { offset, length, .. }
                        | FrameError::UnknownKind { offset, length, .. },
                    ) => {
                        let end = offset + length;
                        let raw = bytes.get(offset..end).unwrap_or_default();
                        (end, None, 0, Some(raw.to_owned()))
                    }
                    // A frame that is being written, or was when the agent was killed.
                    Err(FrameError::Torn { .. }) => continue,
                    Err(FrameError::Corrupt { .. }) => {
                        this.damaged += 1;
                        continue;
                    }
                };
                let end = u64::try_from(end).unwrap_or(u64::MAX);
                this.frames.push(SpoolFrame {
                    key,
                    crc,
                    raw,
                    acknowledged: cursor.is_some_and(|cursor| (*number, end) <= cursor),
                });
            }
        }
        Ok(this)
    }
}

fn key(payload: &[u8]) -> Option<BlockKey> {
    Some(Block::peek(payload).ok()?.header.key)
}

/// Returns the segment and byte up to which everything is acknowledged.
fn cursor(dir: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(dir.join("cursor")).ok()?;
    // Later agents append when the last block before it was closed.
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Returns the block numbers found in spools, by agent and run: they are not missing.
pub(super) fn waiting(spools: &[SpoolFrames]) -> BTreeMap<(AgentName, RunId), BTreeSet<u64>> {
    let mut numbers: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    let frames = spools.iter().flat_map(|spool| &spool.frames);
    for key in frames
        .filter(|f| !f.acknowledged)
        .filter_map(|f| f.key.as_ref())
    {
        let run = numbers.entry((key.agent.clone(), key.run)).or_default();
        run.insert(key.number);
    }
    numbers
}

/// What became of a spool's frames.
pub(super) fn check(tx: &Transaction<'_>, spool: &SpoolFrames) -> Result<SpoolAudit, StoreError> {
    let mut audit = SpoolAudit {
        dir: spool.dir.clone(),
        segments: spool.segments,
        frames: u64::try_from(spool.frames.len()).unwrap_or(u64::MAX),
        stored: 0,
        kept_aside: 0,
        waiting: 0,
        missing: Vec::new(),
        different: Vec::new(),
        damaged: spool.damaged,
    };
    let expired = if keeps_checksums(tx)? {
        "EXISTS (SELECT 1 FROM expired WHERE expired.run = run.id AND ?3 BETWEEN first AND last)"
    } else {
        "0"
    };
    // By the run alone where an agent was renamed meanwhile: its old name is nobody's.
    let mut known = tx.prepare(&format!(
        "SELECT block.id IS NOT NULL, {crc}, data, {expired}
         FROM run JOIN agent ON agent.id = run.agent
         LEFT JOIN block ON block.run = run.id AND block.number = ?3
         LEFT JOIN payload ON payload.block = block.id
         WHERE run.started = ?2 AND (agent.name = ?1 OR NOT EXISTS (
           SELECT 1 FROM agent WHERE name = ?1))",
        crc = if keeps_checksums(tx)? { "crc" } else { "NULL" },
    ))?;
    let mut aside = tx.prepare("SELECT 1 FROM refused WHERE data = ?1")?;
    for frame in &spool.frames {
        let (Some(key), None) = (&frame.key, &frame.raw) else {
            let raw = frame.raw.as_deref().unwrap_or_default();
            if aside.exists([raw])? {
                audit.kept_aside += 1;
            } else {
                // Acknowledged or not: its agent keeps it, too.
                audit.waiting += 1;
            }
            continue;
        };
        let found = known
            .query_row(
                params![
                    key.agent.as_str(),
                    key.run.0.cast_signed(),
                    key.number.cast_signed()
                ],
                |row| {
                    Ok((
                        row.get::<_, bool>(0)?,
                        row.get::<_, Option<u32>>(1)?,
                        row.get::<_, Option<Vec<u8>>>(2)?,
                        row.get::<_, bool>(3)?,
                    ))
                },
            )
            .optional()?;
        match found {
            Some((true, crc, data, _)) => {
                let crc = data.map(|data| crc32fast::hash(&data)).or(crc);
                // Sealed before checksums were kept: the key has to do.
                if crc.is_none_or(|crc| crc == frame.crc) {
                    audit.stored += 1;
                } else {
                    audit.different.push(key.clone());
                }
            }
            Some((false, _, _, true)) => audit.stored += 1,
            _ if frame.acknowledged => audit.missing.push(key.clone()),
            _ => audit.waiting += 1,
        }
    }
    Ok(audit)
}
