//! Lets an agent join, completely or not at all.

use super::catalogue::{AgentId, Catalogue, enter, forget_expired, revoke};
use super::token::{self, TokenRefusal};
use super::{IdentityError, Issued, random};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::JoinToken;
use rusqlite::{Transaction, params};

impl Catalogue {
    /// Lets the token's agent join: `certify` makes its certificate. Revokes its earlier
    /// certificates, because the token's maker decided which host is this agent.
    ///
    /// Runs as one transaction, during which no other process writes: a revocation or a renaming
    /// comes either before it and is obeyed, or after it and finds the certificate. When it
    /// fails, the token can still be used.
    ///
    /// # Errors
    ///
    /// When the database, the source of random numbers or `certify` fails.
    pub fn join(
        &mut self,
        token: &JoinToken,
        now: Wall,
        planned: impl FnOnce(&AgentName) -> bool,
        certify: impl FnOnce(&AgentId) -> Result<Issued, IdentityError>,
    ) -> Result<Result<(AgentName, Issued), TokenRefusal>, IdentityError> {
        let tx = self.begin()?;
        let agent = match token::check(&tx, token, now)? {
            Ok(agent) => agent,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !planned(&agent) {
            return Ok(Err(TokenRefusal::NotPlanned(agent)));
        }
        if is_being_renamed(&tx, &agent)? {
            return Ok(Err(TokenRefusal::Renaming(agent)));
        }
        let id = agent_id(&tx, &agent, now)?;
        let issued = certify(&id)?;
        revoke(&tx, &id, now)?;
        forget_expired(&tx, &id, now)?;
        enter(&tx, &id, &issued)?;
        token::spend(&tx, token, now)?;
        tx.commit()?;
        Ok(Ok((agent, issued)))
    }
}

/// Whether records under this name still belong to the agent that had it before.
fn is_being_renamed(tx: &Transaction<'_>, agent: &AgentName) -> Result<bool, IdentityError> {
    Ok(tx
        .prepare("SELECT 1 FROM renaming WHERE old = ?1")?
        .exists([agent.as_str()])?)
}

/// Returns the id of the agent of this name; makes one where it has none.
fn agent_id(tx: &Transaction<'_>, agent: &AgentName, now: Wall) -> Result<AgentId, IdentityError> {
    let fresh: [u8; 16] = random()?;
    let fresh: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
    tx.execute(
        "INSERT INTO agent (id, name, joined) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![fresh, agent.as_str(), now.as_nanos()],
    )?;
    let id = tx.query_row(
        "SELECT id FROM agent WHERE name = ?1",
        [agent.as_str()],
        |row| row.get(0),
    )?;
    Ok(AgentId(id))
}
