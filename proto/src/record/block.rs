//! Blocks: the unit of storing, shipping and acknowledging records.

use super::{AgentName, Echo, Event, Probe, Reception, RunId, SessionName, TargetName, Trace};
use crate::time::ClockPair;
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
