//! Decides what is OK, stale, down or failing. Pure: times are arguments.

use hopgap_proto::time::Span;
use hopgap_proto::uplink::{REPORT_EVERY, SessionReport};
use serde::{Deserialize, Serialize};

/// How long an agent that does not report it collects records into one block: the default
/// of its configuration.
const USUAL_BLOCK: Span = Span::from_secs(10);
/// How much later than due a delivery may come.
const GRACE: Span = Span::from_secs(2);
/// How long an agent must be silent to count as down.
const DOWN: Span = Span::from_secs(60);

/// The state of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It is heard of, and delivers what it records.
    Ok,
    /// It was not heard of, or its data did not come, for longer than expected.
    Stale,
    /// It was not heard of for long, or never.
    Down,
    /// The plan does not have it.
    Unplanned,
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Its probes are answered.
    Ok,
    /// Its sender has no newer data here.
    Stale,
    /// There are no data of it.
    NoData,
    /// Nothing was answered in its newest blocks.
    NoReply,
    /// Its sender refused to send all of the newest minute, or reports a fault of the whole.
    Refused,
    /// Some of its flows do not run.
    Partly,
    /// It does not run.
    NotRunning,
}

/// An agent's signs of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AgentSigns {
    /// How long ago it was last heard of; `None` for never.
    pub(crate) silent: Option<Span>,
    /// Age of its newest block here, on the agent's clock; `None` where unknown.
    pub(crate) behind: Option<Span>,
    /// How long it collects records into one block; known where the agent sends reports.
    pub(crate) block: Option<Span>,
}

/// Returns the state of an agent of the plan.
pub(crate) fn agent(heard: AgentSigns) -> AgentState {
    let block = heard.block.unwrap_or(USUAL_BLOCK);
    // A report is due every five seconds; without reports, a block is due.
    let every = match heard.block {
        Some(_) => REPORT_EVERY,
        None => block,
    };
    let Some(silent) = heard.silent else {
        return AgentState::Down;
    };
    if silent >= DOWN.max(every * 6) {
        return AgentState::Down;
    }
    let late = heard
        .behind
        .is_some_and(|b| b > block * 2 + REPORT_EVERY * 2);
    if silent > every * 2 + GRACE || late {
        return AgentState::Stale;
    }
    AgentState::Ok
}

/// Counts of a session's newest minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) unanswered: u64,
    pub(crate) refused: u64,
    /// Unanswered probes since the last block with an answer.
    pub(crate) unanswered_since: u64,
}

/// How many unanswered probes in blocks without any answer are more than chance.
const NO_REPLY: u64 = 3;

/// Returns the state of a session whose sender is in the state `sender`.
pub(crate) fn session(
    sender: AgentState,
    flows: u8,
    told: Option<&SessionReport>,
    minute: Option<Tally>,
) -> SessionState {
    let alive = sender == AgentState::Ok || sender == AgentState::Stale;
    if let Some(told) = told.filter(|_| alive) {
        if told.running == 0 && !told.faults.is_empty() {
            return SessionState::NotRunning;
        }
        if told.faults.iter().any(|f| f.flow.is_none()) {
            return SessionState::Refused;
        }
        if told.running < flows && !told.faults.is_empty() {
            return SessionState::Partly;
        }
    }
    let Some(minute) = minute else {
        return SessionState::NoData;
    };
    if sender != AgentState::Ok {
        return SessionState::Stale;
    }
    match minute {
        Tally {
            answered: 0,
            unanswered: 0,
            refused,
            ..
        } if refused > 0 => SessionState::Refused,
        Tally {
            answered: 0,
            unanswered,
            ..
        } if unanswered > 0 => SessionState::NoReply,
        Tally {
            unanswered_since, ..
        } if unanswered_since >= NO_REPLY => SessionState::NoReply,
        _ => SessionState::Ok,
    }
}

#[cfg(test)]
mod tests;
