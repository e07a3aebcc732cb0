//! Blocks: the unit of storing, shipping and acknowledging records.
//!
//! # Encoding
//! A block is one byte of version (at most [`BLOCK_VERSION`]), a postcard prelude (header,
//! time unit, kind, number of rows) and a body. Traces, events and echoes are postcard.
//! Probes and receptions, which are nearly all of the data, are laid out by column, so that
//! each column holds numbers of one kind:
//!
//! 1. Rows are sorted by flow and sequence number. Each flow's run states its length and its
//!    first sequence number once; only the gaps in the sequence are stored.
//! 2. Times are rounded to the time unit, each by at most half of it, and only differences
//!    are stored. A send time is stored as its distance from the grid of its flow, which
//!    leaves only the jitter. A reply's times are stored as three legs (out, in the
//!    reflector, back), because each has less noise than any sum of them. The reflector's
//!    wall clock is first shifted by the pair in [`BlockHeader::closed`], so that the legs
//!    are small numbers.
//! 3. Each column takes the smallest of a few codes (see `column`): a column
//!    that never changes costs a byte or two, noise costs its entropy (pco).
//!
//! A decoded block is sorted and rounded, and otherwise equal.
//!
//! # Robustness
//! [`Block::decode`] takes any bytes: it checks counts before it believes them, makes at most
//! [`MAX_ROWS`] rows, and returns an error for leftover bytes. A few bytes can stand for many
//! rows (that is the point of a constant column), so the bound on rows is the bound on
//! memory: about 50 MB.

mod column;
mod columns;
mod grid;
mod probes;
mod receptions;
#[doc(hidden)]
pub mod synthetic;
mod unit;

pub use columns::{FateKind, ProbeColumns};

use self::column::Reader;
use self::unit::Unit;
use super::{AgentName, Echo, Event, Hop, Probe, Reception, RunId, SessionName, TargetName, Trace};
use crate::time::{ClockPair, Span};
use serde::{Deserialize, Serialize};

/// What makes a block unique, so that delivering it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockKey {
    /// The agent that recorded it.
    pub agent: AgentName,
    /// The run of the agent's process.
    pub run: RunId,
    /// Counts the run's blocks from 0, over all sessions.
    pub number: u64,
}

/// What a block is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHeader {
    /// Its identity.
    pub key: BlockKey,
    /// The session that its records belong to; `None` for the agent itself.
    pub session: Option<SessionName>,
    /// Both clocks of the agent when the block was closed.
    pub closed: ClockPair,
}

/// Records of one kind, one session and one stretch of time (10 s by default).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is about.
    pub header: BlockHeader,
    /// The records.
    pub body: BlockBody,
}

/// The records of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockBody {
    /// The Session-Sender's account.
    Probes(Vec<Probe>),
    /// The Session-Reflector's account.
    Receptions(Vec<Reception>),
    /// Traceroutes.
    Traces(Vec<Trace>),
    /// Events.
    Events(Vec<Event>),
    /// ICMP echo of one target.
    Echoes(TargetName, Vec<Echo>),
}

/// The newest version of the encoding that this build reads. It writes receptions in this
/// version and all other kinds in the oldest, so that a collector that is older than its
/// agents reads what it can.
///
/// | version | since then |
/// |---|---|
/// | 1 | all kinds |
/// | 2 | receptions: when the reply left, and why the kernel refused it |
pub const BLOCK_VERSION: u8 = 2;

/// The version without departures.
const FIRST_VERSION: u8 = 1;

/// The most rows of one block.
pub const MAX_ROWS: usize = 1 << 18;

/// Why a block cannot be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It was written by a newer program.
    #[error(
        "the block is of version {version}, but this program reads versions up to {BLOCK_VERSION}; use a newer program"
    )]
    NewerVersion {
        /// Its version.
        version: u8,
    },
    /// The bytes are no block.
    #[error("the block is malformed: {0}")]
    Malformed(&'static str),
    /// More rows than a block may have.
    #[error("the block has {rows} rows, but at most {MAX_ROWS} are possible; split it")]
    TooManyRows {
        /// How many it has.
        rows: usize,
    },
    /// A time unit that cannot be used.
    #[error("the time unit is {}, but must be 1 ns to 1 s", .0.to_config_text())]
    Unit(Span),
    /// Columns of probes were requested from a block of another kind.
    #[error("the block holds no probes")]
    NoProbes,
}

/// What the prelude of an encoded block says, without its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    /// What the block is about.
    pub header: BlockHeader,
    /// The resolution of the times of its probes or receptions.
    pub unit: Span,
    /// What its rows are.
    pub kind: BlockKind,
    /// How many rows it has.
    pub rows: usize,
}

impl BlockSummary {
    /// Returns the most memory, in bytes, that decoding takes for a block whose encoding has
    /// `encoded` bytes. It allocates nothing itself: call it before [`Block::decode`].
    pub fn decoded_bytes(&self, encoded: usize) -> usize {
        /// Columns that are held in memory while the rows are put together.
        const PROBES: usize = 16 * size_of::<i64>();
        const RECEPTIONS: usize = 10 * size_of::<i64>();
        // A vector that grows has up to twice its length.
        let row = match self.kind {
            BlockKind::Probes => size_of::<Probe>() + PROBES,
            BlockKind::Receptions => size_of::<Reception>() + RECEPTIONS,
            BlockKind::Traces => 2 * size_of::<Trace>(),
            BlockKind::Events => 2 * size_of::<Event>(),
            BlockKind::Echoes(_) => 2 * size_of::<Echo>(),
        };
        // A hop takes three bytes at least.
        let nested = match self.kind {
            BlockKind::Traces => encoded.saturating_mul(2 * size_of::<Hop>() / 3),
            _ => 0,
        };
        self.rows.saturating_mul(row).saturating_add(nested)
    }
}

/// What the rows of a block are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockKind {
    /// [`BlockBody::Probes`].
    Probes,
    /// [`BlockBody::Receptions`].
    Receptions,
    /// [`BlockBody::Traces`].
    Traces,
    /// [`BlockBody::Events`].
    Events,
    /// [`BlockBody::Echoes`] of this target.
    Echoes(TargetName),
}

#[derive(Serialize, Deserialize)]
struct Prelude {
    header: BlockHeader,
    unit_ns: u32,
    kind: BlockKind,
    rows: u32,
}

impl BlockBody {
    /// What its rows are.
    pub fn kind(&self) -> BlockKind {
        match self {
            Self::Probes(_) => BlockKind::Probes,
            Self::Receptions(_) => BlockKind::Receptions,
            Self::Traces(_) => BlockKind::Traces,
            Self::Events(_) => BlockKind::Events,
            Self::Echoes(target, _) => BlockKind::Echoes(target.clone()),
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        match self {
            Self::Probes(rows) => rows.len(),
            Self::Receptions(rows) => rows.len(),
            Self::Traces(rows) => rows.len(),
            Self::Events(rows) => rows.len(),
            Self::Echoes(_, rows) => rows.len(),
        }
    }
}

impl Block {
    /// Encodes the block. Times of probes and receptions are rounded to `unit`,
    /// the session's `time_unit`; other kinds keep every nanosecond.
    ///
    /// # Errors
    /// [`BlockError::TooManyRows`] and [`BlockError::Unit`].
    pub fn encode(&self, unit: Span) -> Result<Vec<u8>, BlockError> {
        let unit = Unit::new(unit)?;
        let count = self.body.rows();
        let rows = match u32::try_from(count) {
            Ok(rows) if count <= MAX_ROWS => rows,
            _ => return Err(BlockError::TooManyRows { rows: count }),
        };
        let prelude = Prelude {
            header: self.header.clone(),
            unit_ns: unit.nanos_u32(),
            kind: self.body.kind(),
            rows,
        };
        let mut out = vec![match &self.body {
            BlockBody::Receptions(_) => BLOCK_VERSION,
            _ => FIRST_VERSION,
        }];
        append(&mut out, &prelude)?;
        let clocks = self.header.closed;
        match &self.body {
            BlockBody::Probes(rows) => probes::encode(&mut out, rows, unit, clocks),
            BlockBody::Receptions(rows) => receptions::encode(&mut out, rows, unit),
            BlockBody::Traces(rows) => append(&mut out, rows)?,
            BlockBody::Events(rows) => append(&mut out, rows)?,
            BlockBody::Echoes(_, rows) => append(&mut out, rows)?,
        }
        Ok(out)
    }

    /// Decodes a block from the bytes that [`Block::encode`] made. Any bytes may be given.
    ///
    /// # Errors
    /// When they are no block, or one of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let (version, summary, rest) = open(bytes)?;
        let (rows, clocks) = (summary.rows, summary.header.closed);
        let unit = Unit::new(summary.unit)?;
        let body = match summary.kind {
            BlockKind::Probes => {
                BlockBody::Probes(probes::decode(Reader::new(rest), rows, unit, clocks)?)
            }
            BlockKind::Receptions => {
                let departures = version > FIRST_VERSION;
                let reader = Reader::new(rest);
                BlockBody::Receptions(receptions::decode(reader, rows, unit, departures)?)
            }
            BlockKind::Traces => BlockBody::Traces(plain(rest, rows)?),
            BlockKind::Events => BlockBody::Events(plain(rest, rows)?),
            BlockKind::Echoes(target) => BlockBody::Echoes(target, plain(rest, rows)?),
        };
        Ok(Self {
            header: summary.header,
            body,
        })
    }

    /// Reads what an encoded block is about, without its rows.
    ///
    /// # Errors
    /// When the bytes begin like no block, or like one of a newer version.
    pub fn peek(bytes: &[u8]) -> Result<BlockSummary, BlockError> {
        open(bytes).map(|(_, summary, _)| summary)
    }
}

fn append(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), BlockError> {
    let bytes = postcard::to_allocvec(value)
        .map_err(|_| BlockError::Malformed("a value that postcard cannot write"))?;
    out.extend_from_slice(&bytes);
    Ok(())
}

/// The version, the prelude, and the body's bytes.
fn open(bytes: &[u8]) -> Result<(u8, BlockSummary, &[u8]), BlockError> {
    let (&version, rest) = bytes
        .split_first()
        .ok_or(BlockError::Malformed("it is empty"))?;
    if version > BLOCK_VERSION {
        return Err(BlockError::NewerVersion { version });
    }
    if version < FIRST_VERSION {
        return Err(BlockError::Malformed("version 0 does not exist"));
    }
    let (prelude, rest): (Prelude, _) = postcard::take_from_bytes(rest)
        .map_err(|_| BlockError::Malformed("its header cannot be read"))?;
    let rows = usize::try_from(prelude.rows).unwrap_or(usize::MAX);
    if rows > MAX_ROWS {
        return Err(BlockError::TooManyRows { rows });
    }
    let summary = BlockSummary {
        header: prelude.header,
        unit: Span::from_nanos(i64::from(prelude.unit_ns)),
        kind: prelude.kind,
        rows,
    };
    Ok((version, summary, rest))
}

/// Reads rows in postcard. Every row takes at least a byte, so that the input bounds what is
/// allocated.
fn plain<'a, T: Deserialize<'a>>(bytes: &'a [u8], rows: usize) -> Result<Vec<T>, BlockError> {
    // Compare the count first, so that no more rows are made than the prelude states.
    let (announced, _): (u64, _) = postcard::take_from_bytes(bytes)
        .map_err(|_| BlockError::Malformed("its rows cannot be read"))?;
    if u64::try_from(rows) != Ok(announced) {
        return Err(BlockError::Malformed(
            "it has another number of rows than it states",
        ));
    }
    let (got, rest): (Vec<T>, _) = postcard::take_from_bytes(bytes)
        .map_err(|_| BlockError::Malformed("its rows cannot be read"))?;
    if got.len() != rows {
        return Err(BlockError::Malformed(
            "it has another number of rows than it states",
        ));
    }
    if !rest.is_empty() {
        return Err(BlockError::Malformed("something follows its last row"));
    }
    Ok(got)
}

#[cfg(test)]
mod tests;
