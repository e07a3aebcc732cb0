//! An agent's report on itself: what it runs, what it cannot run and why, and what waits to
//! be delivered.
//!
//! A report is for people who look now. It is never stored, and no finding rests on it:
//! measurements rest on the records alone.

use crate::record::{FlowIndex, RunFault, RunId, SessionName};
use crate::time::{Span, Wall};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// How often an agent reports; it also reports at once when what it runs changes.
pub const REPORT_EVERY: Span = Span::from_secs(5);

/// The body of `POST` [`REPORT_PATH`](super::REPORT_PATH).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The run of its process.
    pub run: RunId,
    /// Its wall clock, nanoseconds since 1970.
    pub at_ns: Wall,
    /// How long it collects records into one block.
    pub block: Span,
    /// What waits on its disk.
    pub spool: SpoolReport,
    /// The sessions that it is to send.
    #[serde(default)]
    pub sessions: Vec<SessionReport>,
    /// What else does not run.
    #[serde(default)]
    pub faults: Vec<AgentFault>,
}

/// What an agent has recorded and not yet delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolReport {
    /// Bytes that wait.
    pub waiting: u64,
    /// How many of those bytes are in memory only, because the disk takes nothing.
    pub in_memory: u64,
    /// Most bytes that may wait; beyond it the oldest are dropped.
    pub most: u64,
    /// Bytes free for it on the disk; `None` where that is not known.
    pub free: Option<u64>,
}

/// A session, and how much of it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Its name.
    pub name: SessionName,
    /// Flows that run.
    pub running: u8,
    /// What does not run, and why.
    #[serde(default)]
    pub faults: Vec<FlowFault>,
}

/// Why a flow, or a whole session, does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowFault {
    /// The flow; `None` for the session.
    #[serde(default)]
    pub flow: Option<FlowIndex>,
    /// Why.
    #[serde(deserialize_with = "known_or_other")]
    pub why: RunFault,
}

/// A part of an agent, other than a session, that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AgentFault {
    /// Which part.
    pub part: AgentPart,
    /// Why.
    #[serde(deserialize_with = "known_or_other")]
    pub why: RunFault,
}

/// A part of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentPart {
    /// Its reflector.
    Reflector,
    /// Its ICMP echoes.
    Echo,
    /// One that this build does not know.
    #[serde(other)]
    Other,
}

/// A reason of a newer agent must not make the report unreadable.
fn known_or_other<'de, D: Deserializer<'de>>(d: D) -> Result<RunFault, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Why {
        Known(RunFault),
        Other(IgnoredAny),
    }
    Ok(match Why::deserialize(d)? {
        Why::Known(why) => why,
        Why::Other(IgnoredAny) => RunFault::Other,
    })
}
