//! One file of the spool.

use super::{SpoolError, failed};
use hopgap_proto::frame::{FrameError, FrameReader};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tracing::warn;

/// What is known of one segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Bytes in it.
    pub(super) length: u64,
    /// Whole blocks in it.
    pub(super) blocks: u32,
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.seg"))
}

/// The segments in `dir`, oldest first.
pub(super) fn segments_in(dir: &Path) -> Result<Vec<Segment>, SpoolError> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed("read", dir))? {
        let entry = entry.map_err(failed("read", dir))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_suffix(".seg")?.parse().ok());
        if let Some(number) = number {
            let length = entry.metadata().map_err(failed("read", dir))?.len();
            segments.push(Segment {
                number,
                length,
                blocks: 0,
            });
        }
    }
    segments.sort_by_key(|s| s.number);
    Ok(segments)
}

impl Segment {
    /// Counts the blocks, and moves what a crash left at the end aside.
    pub(super) fn cut_torn_end(&mut self, dir: &Path) -> Result<(), SpoolError> {
        let path = path(dir, self.number);
        let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
        let mut whole = bytes.len();
        for item in FrameReader::new(&bytes) {
            match item {
                Ok(_) => self.blocks += 1,
                Err(FrameError::Torn { offset, .. }) => whole = offset,
                // Read over, and counted, when its turn comes.
                Err(_) => {}
            }
        }
        let Some(torn) = bytes.get(whole..).filter(|t| !t.is_empty()) else {
            return Ok(());
        };
        warn!(
            "the spool's {} ends in {} bytes of a write that was cut off; they are set aside",
            path.display(),
            torn.len()
        );
        let aside = path.with_extension("torn");
        let keep = || -> io::Result<()> {
            let mut file = File::create(&aside)?;
            file.write_all(torn)?;
            let segment = OpenOptions::new().write(true).open(&path)?;
            segment.set_len(u64::try_from(whole).unwrap_or(0))?;
            segment.sync_all()
        };
        keep().map_err(failed("repair", &path))?;
        self.length = u64::try_from(whole).unwrap_or(0);
        Ok(())
    }
}
