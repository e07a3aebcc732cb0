//! Judges the health of agents, sessions and the store for the status.

mod disk;
mod judge;
mod paths;
mod reports;

pub(super) use disk::DiskTrouble;
pub use disk::{DiskBody, WriteErrorBody};
pub use judge::{AgentState, SessionState};
pub(super) use judge::{Heard, Tally, agent as judge_agent, session as judge_session};
pub use paths::InUseBody;
pub(super) use paths::PathsInUse;
pub(super) use reports::Reports;
