//! How much of what was asked was seen, and where it was not.

use super::Window;
use crate::schema::{Nanos, Utc};
use schemars::JsonSchema;
use serde::Serialize;

/// How much of the question was seen, and what records are still to come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Coverage {
    /// The stretch that was asked about; without a question that of the data. `None`
    /// where there is neither.
    pub asked: Option<Window>,
    /// One entry for each direction of each pair of hosts, in the plan's order.
    pub directions: Vec<DirectionCoverage>,
    /// Whether records are still to come that may change these findings.
    pub preliminary: bool,
    /// Whose records these are. Empty unless `preliminary`.
    pub awaited: Vec<Awaited>,
}

/// How much was seen of one direction between two hosts, by all sessions and flows that
/// tell of it.
///
/// An instant was seen where any outage of more than `grain_ns` around it would have been
/// noticed: it lies between two probes that tell of this direction, of one flow, that left
/// the host `from` at most that far apart. On the way back it is the replies that leave it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DirectionCoverage {
    /// The host that this direction leaves.
    pub from: String,
    /// The host that it reaches.
    pub to: String,
    /// The sessions that tell of it.
    pub sessions: Vec<String>,
    /// Shorter stretches without evidence are not told apart from seen ones.
    pub grain_ns: Nanos,
    /// Length of the question.
    pub asked_ns: Nanos,
    /// How much of it was seen.
    pub seen_ns: Nanos,
    /// The same in parts per million, rounded down: 1,000,000 where all of it was seen,
    /// and only there.
    pub seen_ppm: u32,
    /// The longest stretch of it that was not seen.
    pub longest_missing_ns: Nanos,
    /// The last instant that was seen; `None` where nothing was.
    pub seen_until: Option<Utc>,
    /// The stretches that were not seen, in the order of time.
    pub missing: Vec<Missing>,
}

/// A stretch in which one direction was not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Missing {
    /// Its beginning.
    pub from: Utc,
    /// Its end.
    pub to: Utc,
    /// Its length.
    pub lasted_ns: Nanos,
    /// Why.
    pub cause: MissingCause,
}

/// Why a direction was not seen. Where several causes hold, the first in this order is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum MissingCause {
    /// The sending host's kernel refused every send.
    SendsRefused {
        /// The agent that could not send.
        agent: String,
        /// What the kernel said, as Linux numbers it.
        errno: i32,
    },
    /// The host, or the agent on it, stood still.
    HostStalled {
        /// The agent.
        agent: String,
    },
    /// Records were made and lost before they were delivered.
    RecordsLost {
        /// The agent.
        agent: String,
    },
    /// The wall clock was set over this stretch, or was never read: nothing lies in it.
    Clock {
        /// The agent.
        agent: String,
    },
    /// The agent (or its part in the session) did not run: it was stopped, or had not been
    /// started.
    AgentNotRunning {
        /// The agent.
        agent: String,
    },
    /// The records end before the question does, and the agent is not known to have stopped.
    NotDelivered {
        /// The agent.
        agent: String,
    },
    /// There is no sign of the agent at that time.
    AgentNotHeard {
        /// The agent.
        agent: String,
    },
    /// What arrived was not answered, by the reflector's policy.
    NotAnswered {
        /// The agent (or address) that did not answer.
        agent: String,
    },
    /// All probes were lost on the way out, so that none could tell of the way back.
    LostOnTheWayOut,
    /// Probes were held up on the way out and came all at once, so that none could tell of the
    /// way back meanwhile.
    HeldOnTheWayOut,
}

/// Records that are still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Awaited {
    /// Whose.
    pub agent: String,
    /// Of which session.
    pub session: String,
    /// Which of its ends.
    pub end: SessionEnd,
    /// They are here up to this instant of that agent's clock; `None` where there are none.
    pub until: Option<Utc>,
    /// They are expected by then, on the collector's clock; `None` where the agent has not
    /// been heard of lately.
    pub expected: Option<Utc>,
    /// When the agent was last heard of, on the collector's clock.
    pub heard: Option<Utc>,
}

/// An end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The Session-Sender.
    Sender,
    /// The Session-Reflector.
    Reflector,
}
