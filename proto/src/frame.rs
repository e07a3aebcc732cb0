//! Frames: the one format of spool files and uplink bodies.
//!
//! A file or a body is frames, one after the other, with nothing before,
//! between or behind them. All integers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | magic, `hgap` |
//! | 4 | version of what follows, [`VERSION`] |
//! | 5 | kind, [`FrameKind`] |
//! | 6–7 | zero |
//! | 8–11 | length of the payload in bytes, at most [`MAX_PAYLOAD`] |
//! | 12–15 | CRC-32 (IEEE) of the payload |
//! | 16–19 | CRC-32 (IEEE) of bytes 0–15 |
//! | 20… | payload |
//!
//! The checksums are over the raw bytes, so that a program can store or pass on a frame
//! without understanding it. The header has a checksum of its own, because that limits
//! damage: with a good header and a bad payload the reader steps over this one frame; with a
//! bad header it looks for the next good header. Either way reading stays linear in the size
//! of any input, and everything behind the damage is found again.
//!
//! The header's layout is the same in every version, so that a reader can step
//! over frames of a newer version, say so, and go on.

use core::fmt;

/// The version that this build writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// The length of a frame's header in bytes.
pub const HEADER: usize = 20;
/// The largest payload in bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// The largest frame in bytes.
pub const MAX_FRAME: usize = HEADER + MAX_PAYLOAD;

const MAGIC: [u8; 4] = *b"hgap";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FrameKind {
    /// An encoded [`Block`](crate::record::Block).
    Block,
}

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            Self::Block => 1,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Block),
            _ => None,
        }
    }
}

/// A payload too large for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {length} bytes is too large for a frame of at most {MAX_PAYLOAD}")]
pub struct PayloadTooLarge {
    /// Its length in bytes.
    pub length: usize,
}

/// Appends one frame to `out`.
///
/// # Errors
/// When the payload is larger than [`MAX_PAYLOAD`]; `out` is then unchanged.
pub fn append(out: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) -> Result<(), PayloadTooLarge> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD => length,
        _ => {
            return Err(PayloadTooLarge {
                length: payload.len(),
            });
        }
    };
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5] = kind.code();
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    Ok(())
}

/// A whole frame whose checksums hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: FrameKind,
    /// What it holds, without the header.
    pub payload: &'a [u8],
    /// The whole frame, to be stored or passed on as it is.
    pub raw: &'a [u8],
    /// Where it begins in the input, in bytes.
    pub offset: usize,
}

impl Frame<'_> {
    /// Where it ends in the input, in bytes.
    pub fn end(&self) -> usize {
        self.offset + self.raw.len()
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind)
            .field("offset", &self.offset)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish()
    }
}

/// Why a stretch of the input is no frame that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The input ends inside a frame: a write that was cut off, or, in a stream, a frame
    /// whose rest has not come yet. Nothing follows it.
    #[error("the frame at byte {offset} is cut off: at least {missing} bytes are missing")]
    Torn {
        /// Where the frame begins.
        offset: usize,
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// Bytes that were damaged. Reading goes on behind them.
    #[error("{length} bytes at byte {offset} are damaged: {what}")]
    Corrupt {
        /// Where they begin.
        offset: usize,
        /// How many they are.
        length: usize,
        /// What is wrong with them.
        what: Corruption,
    },
    /// A whole frame of a version that this build does not know. Reading goes
    /// on behind it.
    #[error(
        "the frame at byte {offset} is of version {version}, but this program reads versions up to {VERSION}; use a newer program"
    )]
    NewerVersion {
        /// Where it begins.
        offset: usize,
        /// Its length in bytes.
        length: usize,
        /// Its version.
        version: u8,
    },
    /// A whole frame of a kind that this build does not know. Reading goes on
    /// behind it.
    #[error("the frame at byte {offset} is of the unknown kind {kind}; use a newer program")]
    UnknownKind {
        /// Where it begins.
        offset: usize,
        /// Its length in bytes.
        length: usize,
        /// Its kind.
        kind: u8,
    },
}

impl FrameError {
    /// Where the stretch begins in the input, in bytes.
    pub fn offset(&self) -> usize {
        match *self {
            Self::Torn { offset, .. }
            | Self::Corrupt { offset, .. }
            | Self::NewerVersion { offset, .. }
            | Self::UnknownKind { offset, .. } => offset,
        }
    }
}

/// What is wrong with damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Corruption {
    /// No header begins here: its magic or its checksum does not hold.
    #[error("no header")]
    Header,
    /// The header is whole and states a length beyond [`MAX_PAYLOAD`].
    #[error("a length out of range")]
    Length,
    /// The payload's checksum does not hold.
    #[error("a payload with a wrong checksum")]
    Payload,
}

/// Reads frames from bytes in memory, and goes on after damage.
///
/// An iterator over `Result<Frame, FrameError>`. It ends at the end of the
/// input or after [`FrameError::Torn`]; every other error covers a stretch of
/// the input, and the next item begins behind it.
///
/// In a stream, append what comes to a buffer, iterate, and drop the first
/// [`FrameReader::consumed`] bytes of the buffer.
#[derive(Clone, Debug)]
pub struct FrameReader<'a> {
    input: &'a [u8],
    at: usize,
    torn: bool,
}

/// A header whose checksum holds.
struct Header {
    version: u8,
    kind: u8,
    length: usize,
    payload_crc: u32,
}

impl<'a> FrameReader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            torn: false,
        }
    }

    /// How many bytes of the input were read: whole frames and damage that was stepped over,
    /// but never a torn frame.
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// The header at `at`, as far as there are bytes; `None` where there is none.
    fn header(&self, at: usize) -> Option<Header> {
        let bytes: &[u8; HEADER] = self.input.get(at..)?.first_chunk()?;
        let word =
            |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let good = bytes[..4] == MAGIC && crc32fast::hash(&bytes[..16]) == word(16);
        good.then(|| Header {
            version: bytes[4],
            kind: bytes[5],
            length: usize::try_from(word(8)).unwrap_or(usize::MAX),
            payload_crc: word(12),
        })
    }

    /// Whether the bytes from `at` to the end could be the beginning of a header.
    fn cut_header(&self, at: usize) -> bool {
        let rest = self.input.get(at..).unwrap_or_default();
        let n = rest.len().min(MAGIC.len());
        rest.len() < HEADER && rest[..n] == MAGIC[..n]
    }

    /// Steps over bytes without a header, to the next header or to the end.
    fn resynchronise(&mut self, what: Corruption) -> FrameError {
        let offset = self.at;
        self.at = (offset + 1..self.input.len())
            .find(|&at| {
                self.input[at] == MAGIC[0] && (self.cut_header(at) || self.header(at).is_some())
            })
            .unwrap_or(self.input.len());
        FrameError::Corrupt {
            offset,
            length: self.at - offset,
            what,
        }
    }

    fn torn(&mut self, missing: usize) -> FrameError {
        self.torn = true;
        FrameError::Torn {
            offset: self.at,
            missing,
        }
    }

    fn read(&mut self) -> Result<Frame<'a>, FrameError> {
        let offset = self.at;
        let left = self.input.len() - offset;
        let Some(header) = self.header(offset) else {
            return Err(if self.cut_header(offset) {
                self.torn(HEADER - left)
            } else {
                self.resynchronise(Corruption::Header)
            });
        };
        // The checksum holds, so this was written so and not damaged on the way. But no
        // reader may be asked to hold such a length in memory.
        if header.length > MAX_PAYLOAD {
            return Err(self.resynchronise(Corruption::Length));
        }
        let length = HEADER + header.length;
        let Some(raw) = self.input.get(offset..offset + length) else {
            return Err(self.torn(length - left));
        };
        let payload = &raw[HEADER..];
        self.at = offset + length;
        if crc32fast::hash(payload) != header.payload_crc {
            return Err(FrameError::Corrupt {
                offset,
                length,
                what: Corruption::Payload,
            });
        }
        if header.version > VERSION {
            return Err(FrameError::NewerVersion {
                offset,
                length,
                version: header.version,
            });
        }
        let Some(kind) = FrameKind::of(header.kind) else {
            return Err(FrameError::UnknownKind {
                offset,
                length,
                kind: header.kind,
            });
        };
        Ok(Frame {
            kind,
            payload,
            raw,
            offset,
        })
    }
}

impl<'a> Iterator for FrameReader<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.torn && self.at < self.input.len()).then(|| self.read())
    }
}

#[cfg(test)]
mod tests;
