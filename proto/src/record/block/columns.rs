//! Probes by column for analysis: only the values that loss and latency need.

use super::column::Reader;
use super::grid;
use super::unit::Unit;
use super::{BlockError, BlockKind, BlockSummary, open};
use crate::record::{FlowIndex, ProbeFate};
use crate::stamp::Seq;
use crate::time::{Mono, Span};

/// What became of a probe, without the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FateKind {
    /// [`ProbeFate::Unanswered`].
    Unanswered,
    /// [`ProbeFate::Answered`].
    Answered,
    /// [`ProbeFate::Refused`].
    Refused,
}

impl FateKind {
    /// The kind of a fate.
    pub fn of(fate: ProbeFate) -> Self {
        match fate {
            ProbeFate::Unanswered => Self::Unanswered,
            ProbeFate::Answered(_) => Self::Answered,
            ProbeFate::Refused(_) => Self::Refused,
        }
    }

    pub(super) fn code(self) -> i64 {
        match self {
            Self::Unanswered => 0,
            Self::Answered => 1,
            Self::Refused => 2,
        }
    }

    pub(super) fn from_code(code: i64) -> Result<Self, BlockError> {
        match code {
            0 => Ok(Self::Unanswered),
            1 => Ok(Self::Answered),
            2 => Ok(Self::Refused),
            _ => Err(BlockError::Malformed("a probe's fate is unknown")),
        }
    }
}

/// The probes of one block, one vector for each column, in the block's order
/// (by flow, then by sequence number). Several times faster than rows; use
/// [`Block::decode`](super::Block::decode) for everything that is known of each probe.
///
/// All vectors are of one length. Keep the value and call
/// [`ProbeColumns::read`] for block after block: the vectors are used again.
#[derive(Debug, Default)]
pub struct ProbeColumns {
    flow: Vec<FlowIndex>,
    seq: Vec<Seq>,
    sent: Vec<Mono>,
    fate: Vec<FateKind>,
    round_trip: Vec<Span>,
    waited: Vec<Span>,
    /// Of the answered rows only, in units.
    legs: Vec<i64>,
}

impl ProbeColumns {
    /// Reads an encoded block of probes in place of what was held. Any bytes may
    /// be given; after an error the columns are empty.
    ///
    /// # Errors
    /// When the bytes are no block of probes, or one of a newer version.
    pub fn read(&mut self, bytes: &[u8]) -> Result<BlockSummary, BlockError> {
        let summary = self.fill(bytes);
        if summary.is_err() {
            *self = Self::default();
        }
        summary
    }

    fn fill(&mut self, bytes: &[u8]) -> Result<BlockSummary, BlockError> {
        let (_, summary, rest) = open(bytes)?;
        if summary.kind != BlockKind::Probes {
            return Err(BlockError::NoProbes);
        }
        let unit = Unit::new(summary.unit)?;
        let rows = summary.rows;
        let mut reader = Reader::new(rest);
        let sent = &mut self.sent;
        sent.clear();
        sent.reserve(rows);
        grid::decode(&mut reader, rows, &mut self.flow, &mut self.seq, |at| {
            sent.push(Mono::from_nanos(unit.nanos(at)));
        })?;

        reader.skip()?;
        let (fate, mut unknown) = (&mut self.fate, None);
        fate.clear();
        fate.reserve(rows);
        reader.column_each(rows, |codes| {
            for &code in codes {
                match FateKind::from_code(code) {
                    Ok(kind) => fate.push(kind),
                    Err(error) => unknown = Some(error),
                }
            }
        })?;
        if let Some(error) = unknown {
            return Err(error);
        }

        // Out and back make the round trip; with the stay added it is what the sender waited.
        let is_answered = |&&fate: &&FateKind| fate == FateKind::Answered;
        let answered = fate.iter().filter(is_answered).count();
        reader.column_into(answered, &mut self.legs)?;
        add(&mut self.legs, &mut reader)?;
        spread(&mut self.round_trip, fate, &self.legs, unit);
        add(&mut self.legs, &mut reader)?;
        spread(&mut self.waited, fate, &self.legs, unit);
        Ok(summary)
    }

    /// How many probes there are.
    pub fn len(&self) -> usize {
        self.fate.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fate.is_empty()
    }

    /// Which flow each belongs to.
    pub fn flow(&self) -> &[FlowIndex] {
        &self.flow
    }

    /// Its Session-Sender Sequence Number.
    pub fn seq(&self) -> &[Seq] {
        &self.seq
    }

    /// When it was actually sent, or refused.
    pub fn sent(&self) -> &[Mono] {
        &self.sent
    }

    /// What became of it.
    pub fn fate(&self) -> &[FateKind] {
        &self.fate
    }

    /// As [`Probe::round_trip`](crate::record::Probe::round_trip); zero unless answered.
    pub fn round_trip(&self) -> &[Span] {
        &self.round_trip
    }

    /// T4 − T1, the time that the sender waited for the reply; zero unless answered.
    pub fn waited(&self) -> &[Span] {
        &self.waited
    }
}

/// Adds the next column to `to`.
fn add(to: &mut [i64], reader: &mut Reader<'_>) -> Result<(), BlockError> {
    let rows = to.len();
    let mut sums = to.iter_mut();
    reader.column_each(rows, |piece| {
        for (&cell, sum) in piece.iter().zip(sums.by_ref()) {
            *sum = sum.wrapping_add(cell);
        }
    })
}

/// Assigns the cells to the answered rows; the others get zero.
fn spread(to: &mut Vec<Span>, fates: &[FateKind], cells: &[i64], unit: Unit) {
    let span = |&cell: &i64| Span::from_nanos(unit.nanos(cell));
    to.clear();
    if cells.len() == fates.len() {
        to.extend(cells.iter().map(span));
        return;
    }
    let mut cells = cells.iter();
    to.extend(fates.iter().map(|&fate| match fate {
        FateKind::Answered => cells.next().map_or(Span::ZERO, span),
        FateKind::Unanswered | FateKind::Refused => Span::ZERO,
    }));
}
