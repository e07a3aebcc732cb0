//! Runs the committed corpus of the fuzz targets of the agent's own files.

#[path = "../../tests/fuzz/src/agent.rs"]
mod agent;
#[path = "../../tests/fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn agent_config() -> std::io::Result<()> {
    replay("agent_config", None, agent::agent_config)
}

#[test]
fn spool() -> std::io::Result<()> {
    replay("spool", Some(16), agent::spool)
}
