//! Blocks as the store takes them: the agent's bytes and what the catalogue records
//! about them.

use hopgap_proto::record::{Block, BlockBody, BlockError, BlockHeader, Probe, ProbeFate};
use hopgap_proto::time::{Mono, Wall};

/// Which kind of records a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The Session-Sender's account.
    Probes,
    /// The Session-Reflector's account.
    Receptions,
    /// Traceroutes.
    Traces,
    /// Events.
    Events,
    /// ICMP echo of a target without an agent.
    Echoes,
}

impl Kind {
    /// Its number in the catalogue.
    pub(super) const fn code(self) -> i64 {
        match self {
            Self::Probes => 1,
            Self::Receptions => 2,
            Self::Traces => 3,
            Self::Events => 4,
            Self::Echoes => 5,
        }
    }

    /// The kind of that number; `None` where there is none.
    pub(super) const fn of(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::Probes),
            2 => Some(Self::Receptions),
            3 => Some(Self::Traces),
            4 => Some(Self::Events),
            5 => Some(Self::Echoes),
            _ => None,
        }
    }

    /// Its name, in paths and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Receptions => "receptions",
            Self::Traces => "traces",
            Self::Events => "events",
            Self::Echoes => "echoes",
        }
    }
}

/// What a block holds, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many records.
    pub records: u32,
    /// Of its probes, how many were answered; 0 for other kinds.
    pub answered: u32,
    /// Of its probes, how many were not answered; 0 for other kinds.
    pub unanswered: u32,
    /// Of its probes, how many the sender's kernel refused; 0 for other kinds.
    pub refused: u32,
    /// The earliest record, on the agent's wall clock.
    pub first: Wall,
    /// The latest record, on the agent's wall clock.
    pub last: Wall,
}

/// A block that was read and found good, with the bytes that it came in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What it is about.
    pub header: BlockHeader,
    /// Which kind of records it holds.
    pub kind: Kind,
    /// What it holds, in short.
    pub tally: Tally,
    /// Its encoding, as it came.
    pub payload: Vec<u8>,
    /// CRC-32 (IEEE) of the encoding, as in the header of its frame.
    pub crc: u32,
}

impl Incoming {
    /// Reads a frame's payload. All of it is decoded: a block that cannot be read is
    /// refused now, while its agent can be told, not when a report needs it.
    ///
    /// # Errors
    ///
    /// When it is no block.
    pub fn read(payload: &[u8]) -> Result<Self, BlockError> {
        let block = Block::decode(payload)?;
        Ok(Self::of(&block, payload.to_owned()))
    }

    /// A block with its encoding.
    fn of(block: &Block, payload: Vec<u8>) -> Self {
        let (kind, tally) = tally_of(block);
        Self {
            header: block.header.clone(),
            kind,
            tally,
            crc: crc32fast::hash(&payload),
            payload,
        }
    }
}

/// What a block holds, in short.
pub(super) fn tally_of(block: &Block) -> (Kind, Tally) {
    let range = Range::default();
    let mut fates = [0_u32; 3];
    let (kind, count, range) = match &block.body {
        BlockBody::Probes(probes) => {
            for probe in probes {
                fates[fate_index(probe)] += 1;
            }
            let range = probes.iter().fold(range, |r, p| r.with(p.sent.at));
            (Kind::Probes, probes.len(), range)
        }
        BlockBody::Receptions(receptions) => {
            let range = receptions.iter().fold(range, |r, p| r.with(p.received.at));
            (Kind::Receptions, receptions.len(), range)
        }
        BlockBody::Traces(traces) => {
            let range = traces
                .iter()
                .fold(range, |r, t| r.with(t.started).with(t.finished));
            (Kind::Traces, traces.len(), range)
        }
        BlockBody::Events(events) => {
            let range = events.iter().fold(range, |r, e| r.with(e.at));
            (Kind::Events, events.len(), range)
        }
        BlockBody::Echoes(_, echoes) => {
            let range = echoes.iter().fold(range, |r, e| r.with(e.sent.at));
            (Kind::Echoes, echoes.len(), range)
        }
    };
    let closed = block.header.closed;
    let (first, last) = range.0.unwrap_or((closed.mono, closed.mono));
    let tally = Tally {
        records: u32::try_from(count).unwrap_or(u32::MAX),
        answered: fates[0],
        unanswered: fates[1],
        refused: fates[2],
        first: closed.wall_of(first),
        last: closed.wall_of(last),
    };
    (kind, tally)
}

fn fate_index(probe: &Probe) -> usize {
    match probe.fate {
        ProbeFate::Answered(_) => 0,
        ProbeFate::Unanswered => 1,
        ProbeFate::Refused(_) => 2,
    }
}

/// The earliest and the latest of some instants.
#[derive(Clone, Copy, Default)]
struct Range(Option<(Mono, Mono)>);

impl Range {
    fn with(self, at: Mono) -> Self {
        match self.0 {
            Some((first, last)) => Self(Some((first.min(at), last.max(at)))),
            None => Self(Some((at, at))),
        }
    }
}
