//! Judges the health of agents, sessions and the store for the status.

mod disk;
mod judge;
mod paths;
mod reports;

pub(super) use disk::DiskTrouble;
pub use disk::{DiskBody, WriteErrorBody};
pub(super) use judge::{AgentSigns, Tally, agent as judge_agent, session as judge_session};
pub use judge::{AgentState, SessionState};
pub use paths::InUseBody;
pub(super) use paths::PathsInUse;
pub(super) use reports::Reports;
