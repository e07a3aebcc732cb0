//! How it came out against the objective.

use super::Missing;
use crate::schema::{Nanos, Utc};
use schemars::JsonSchema;
use serde::Serialize;

/// How it came out against the objective.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// The result.
    pub result: VerdictResult,
    /// The objective: no flow without connectivity for longer than this.
    pub objective_ns: Nanos,
    /// The longest outage: at least.
    pub worst_at_least_ns: Nanos,
    /// The longest outage: at most; `None` while one goes on or is cut by the data's end.
    pub worst_at_most_ns: Option<Nanos>,
    /// How many outages there were, over all flows.
    pub outages: u64,
    /// Why the result is what it is.
    pub reason: VerdictReason,
    /// One sentence that says it.
    pub sentence: String,
}

/// The result against the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictResult {
    /// Even the upper bounds of all outages are within the objective, and none that is
    /// longer could hide in what was not seen.
    Met,
    /// The lower bound of an outage exceeds the objective.
    Missed,
    /// The bounds straddle the objective, or data is missing.
    Undecided,
    /// A failover was marked, and no flow left the path that it was on.
    NotTested,
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum VerdictReason {
    /// Met: no outage was longer than the objective, and all was seen.
    AllSeen,
    /// Met: the same, and what was not seen is too short to hide a longer one.
    TooLittleMissing {
        /// The part of the question that was seen, of the direction of which the least
        /// was, in parts per million.
        seen_ppm: u32,
        /// The longest stretch that was not seen.
        missing: Missing,
    },
    /// Missed: an outage was longer than the objective.
    OutageTooLong,
    /// Undecided: an outage has no end, or no beginning, in the data.
    OutageCut,
    /// Undecided: an outage may have been longer than the objective.
    OutageMayBeTooLong,
    /// Undecided: an outage longer than the objective may hide in what was not seen of a
    /// direction.
    Unseen {
        /// The host that this direction leaves.
        from: String,
        /// The host that it reaches.
        to: String,
        /// The part of the question that was seen of it, in parts per million.
        seen_ppm: u32,
        /// What was seen last of it.
        seen_until: Option<Utc>,
        /// The longest stretch that was not seen.
        missing: Missing,
        /// Whether what was seen ends there: it is the end of the question.
        at_the_end: bool,
    },
    /// Undecided: the same of one flow, whose path other flows need not take.
    FlowUnseen {
        /// The session.
        session: String,
        /// The flow.
        flow: u8,
        /// The longest stretch of it without a probe that tells anything.
        missing: Missing,
    },
    /// Undecided: there is no data at all.
    NoData,
    /// Not tested: nothing changed its path after a failover was marked.
    NothingMoved {
        /// When it was marked.
        marked: Utc,
        /// The paths that the flows were on all the time.
        paths: Vec<String>,
    },
}
