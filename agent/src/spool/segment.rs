//! One file of the spool.

use super::{Cursor, SpoolError, failed, length_of};
use hopgap_proto::frame::{Corruption, FrameError, FrameReader};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tracing::warn;

/// How many bytes are read at a time.
const WINDOW: u64 = 256 << 10;
/// How many torn ends are kept for whoever wants to know what happened.
const TORN_KEPT: usize = 8;

/// What is known of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Bytes in it.
    pub(super) length: u64,
    /// When it was written to for the last time, about.
    pub(super) written: SystemTime,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            number: 0,
            length: 0,
            written: SystemTime::UNIX_EPOCH,
        }
    }
}

/// A stretch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole frame, of whatever version and kind: the collector may know more.
    Whole(&'a [u8]),
    /// Bytes that are no frame.
    Damaged {
        /// How many.
        length: u64,
    },
}

/// The segments in `dir`, oldest first.
pub(super) fn all_in(dir: &Path) -> Result<Vec<Segment>, SpoolError> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed("read", dir))? {
        let entry = entry.map_err(failed("read", dir))?;
        let Some(number) = number_of(&entry.path(), "seg") else {
            continue;
        };
        let metadata = entry.metadata().map_err(failed("read", dir))?;
        segments.push(Segment {
            number,
            length: metadata.len(),
            written: metadata.modified().unwrap_or(SystemTime::now()),
        });
    }
    segments.sort_by_key(|s| s.number);
    Ok(segments)
}

/// The number in a file's name, where it is one of this kind.
fn number_of(path: &Path, extension: &str) -> Option<u64> {
    (path.extension()? == extension)
        .then(|| path.file_stem()?.to_str()?.parse().ok())
        .flatten()
}

/// Begins a segment.
pub(super) fn create(dir: &Path, number: u64) -> Result<(Segment, File), SpoolError> {
    let segment = Segment {
        number,
        length: 0,
        written: SystemTime::now(),
    };
    let path = segment.path(dir);
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&path)
        .map_err(failed("create", &path))?;
    // The name must be as durable as what is written under it.
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(failed("flush", dir))?;
    Ok((segment, file))
}

/// Removes all but the newest few torn ends, so that crashes do not fill the disk.
pub(super) fn forget_old_torn(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut torn: Vec<PathBuf> = entries
        .map(|e| e.path())
        .filter(|p| number_of(p, "torn").is_some())
        .collect();
    torn.sort();
    for path in torn.iter().rev().skip(TORN_KEPT) {
        if let Err(error) = std::fs::remove_file(path) {
            warn!("the spool cannot remove {}: {error}", path.display());
        }
    }
}

impl Segment {
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016}.seg", self.number))
    }

    /// The place behind its last byte.
    pub(super) fn end(&self) -> Cursor {
        Cursor {
            segment: self.number,
            offset: self.length,
        }
    }

    pub(super) fn remove(&self, dir: &Path) -> Result<(), SpoolError> {
        let path = self.path(dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Hands its pieces from byte `start` to `take`, each with its offset, until
    /// `take` has enough. Memory holds a window and one frame at most.
    pub(super) fn scan(
        &self,
        dir: &Path,
        start: u64,
        take: impl FnMut(u64, Piece<'_>) -> ControlFlow<()>,
    ) -> Result<(), SpoolError> {
        if start >= self.length {
            return Ok(());
        }
        let path = self.path(dir);
        let mut scan = Scan { take, damage: None };
        scan.run(&path, start, self.length)
            .map_err(failed("read", &path))
    }

    /// Moves aside what a crash left at the end; whether there was something.
    pub(super) fn cut_torn_end(&mut self, dir: &Path) -> Result<bool, SpoolError> {
        let path = self.path(dir);
        let mut whole = 0;
        self.scan(dir, 0, |offset, piece| {
            if let Piece::Whole(raw) = piece {
                whole = offset + length_of(raw);
            }
            ControlFlow::Continue(())
        })?;
        if whole == self.length {
            return Ok(false);
        }
        warn!(
            "the spool's {} ends in {} bytes of a write that was cut off; they are set aside",
            path.display(),
            self.length - whole
        );
        let keep = || -> io::Result<()> {
            let mut segment = OpenOptions::new().read(true).write(true).open(&path)?;
            segment.seek(SeekFrom::Start(whole))?;
            let mut aside = File::create(path.with_extension("torn"))?;
            io::copy(&mut segment, &mut aside)?;
            aside.flush()?;
            segment.set_len(whole)?;
            segment.sync_all()
        };
        keep().map_err(failed("repair", &path))?;
        self.length = whole;
        Ok(true)
    }
}

struct Scan<F> {
    take: F,
    /// Offset and length of bytes without a header, which may go on.
    damage: Option<(u64, u64)>,
}

impl<F: FnMut(u64, Piece<'_>) -> ControlFlow<()>> Scan<F> {
    fn run(&mut self, path: &Path, start: u64, end: u64) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let (mut buffer, mut base, mut read) = (Vec::new(), start, start);
        loop {
            let want = WINDOW.min(end - read);
            let got = io::Read::by_ref(&mut file)
                .take(want)
                .read_to_end(&mut buffer)?;
            read += u64::try_from(got).unwrap_or(0);
            // Shorter than it should be: what is missing is missing.
            let last = got == 0 || read >= end;
            match self.window(&buffer, base, last) {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(_) if last => {
                    let _ = self.flush();
                    return Ok(());
                }
                ControlFlow::Continue(consumed) => {
                    buffer.drain(..consumed);
                    base += u64::try_from(consumed).unwrap_or(0);
                }
            }
        }
    }

    /// Hands out the pieces of `buffer`, which begins at byte `base` of the file;
    /// how much of it they were.
    fn window(&mut self, buffer: &[u8], base: u64, last: bool) -> ControlFlow<(), usize> {
        let mut reader = FrameReader::new(buffer);
        for item in reader.by_ref() {
            let place = |offset: usize| base + u64::try_from(offset).unwrap_or(0);
            let long = |length: usize| u64::try_from(length).unwrap_or(0);
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
                }) => self.headless(place(offset), long(length))?,
                Err(FrameError::Corrupt { offset, length, .. }) => {
                    let length = long(length);
                    self.piece(place(offset), Piece::Damaged { length })?;
                }
                Err(FrameError::Torn { offset, .. }) if last => {
                    self.headless(place(offset), long(buffer.len() - offset))?;
                }
                Err(FrameError::Torn { .. }) => {}
            }
        }
        ControlFlow::Continue(reader.consumed())
    }

    /// Bytes without a header: one stretch, though a window's end may cut it.
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
