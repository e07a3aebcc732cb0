//! Who may deliver what: the parts that the plan gives each agent, now or lately.
//!
//! An agent records by the plan that it has and delivers when it can, so that a part
//! counts for [`LATELY`] after the plan took it away: as long as spools keep records by
//! default. What nobody gave an agent a part in is another's, and none of its business.

use hopgap_proto::plan::Plan;
use hopgap_proto::record::{AgentName, BlockKind, BlockSummary, SessionName, TargetName};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// How long a part counts after it was taken away.
pub const LATELY: Span = Span::from_secs(31 * 86_400);

/// What one agent may deliver a kind of record of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Sends the session: probes and traceroutes.
    Sends(SessionName),
    /// Reflects the session: receptions.
    Reflects(SessionName),
    /// Sends echoes to the target.
    Echoes(TargetName),
}

/// The parts of all agents.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Until when each counts; `None` for as long as it is in the plan.
    parts: BTreeMap<(AgentName, Part), Option<Wall>>,
}

/// Why records are not an agent's to deliver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPart {
    /// The session is not one that it sends.
    #[error("the plan does not let agent `{agent}` send session `{session}`, now or lately")]
    Sending {
        /// The agent.
        agent: AgentName,
        /// The session.
        session: SessionName,
    },
    /// The session is not one that it reflects.
    #[error("the plan does not let agent `{agent}` reflect session `{session}`, now or lately")]
    Reflecting {
        /// The agent.
        agent: AgentName,
        /// The session.
        session: SessionName,
    },
    /// The session is none of its own.
    #[error("the plan gives agent `{agent}` no part in session `{session}`, now or lately")]
    Session {
        /// The agent.
        agent: AgentName,
        /// The session.
        session: SessionName,
    },
    /// The target is none that it sends echoes to.
    #[error("the plan does not let agent `{agent}` send echoes to `{target}`, now or lately")]
    Echo {
        /// The agent.
        agent: AgentName,
        /// The target.
        target: TargetName,
    },
    /// Records that belong to a session, of none.
    #[error("records of probes, arrivals and traceroutes name a session, but these name none")]
    NoSession,
}

impl Roles {
    /// Takes up the plan that is in force from `now` on.
    pub fn adopt(&mut self, plan: &Plan, now: Wall) {
        let mut given = BTreeMap::new();
        for session in &plan.sessions {
            let name = || session.name.clone();
            given.insert((session.from.clone(), Part::Sends(name())), None);
            if let Some(to) = session.to.agent() {
                given.insert((to.clone(), Part::Reflects(name())), None);
            }
        }
        for echo in &plan.echoes {
            let part = Part::Echoes(echo.name.clone());
            given.insert((echo.from.clone(), part), None);
        }
        for (key, until) in std::mem::take(&mut self.parts) {
            let until = until.unwrap_or(now + LATELY);
            if until >= now {
                given.entry(key).or_insert(Some(until));
            }
        }
        self.parts = given;
    }

    /// Whether a block of this kind, session and target is one that an agent of these
    /// names (the present one first) may deliver.
    ///
    /// # Errors
    /// [`NoPart`], which says what the plan lacks.
    pub fn may_deliver(
        &self,
        names: &[&AgentName],
        block: &BlockSummary,
        now: Wall,
    ) -> Result<(), NoPart> {
        let agent = || {
            names
                .first()
                .map_or(&block.header.key.agent, |n| *n)
                .clone()
        };
        let has = |part: Part| {
            names.iter().any(|name| {
                let until = self.parts.get(&((*name).clone(), part.clone()));
                until.is_some_and(|until| until.is_none_or(|until| now <= until))
            })
        };
        let session = block.header.session.as_ref();
        match (&block.kind, session) {
            (BlockKind::Echoes(target), _) if has(Part::Echoes(target.clone())) => Ok(()),
            (BlockKind::Echoes(target), _) => Err(NoPart::Echo {
                agent: agent(),
                target: target.clone(),
            }),
            // What happened to the agent itself.
            (BlockKind::Events, None) => Ok(()),
            (_, None) => Err(NoPart::NoSession),
            (BlockKind::Events, Some(session)) => {
                if has(Part::Sends(session.clone())) || has(Part::Reflects(session.clone())) {
                    return Ok(());
                }
                Err(NoPart::Session {
                    agent: agent(),
                    session: session.clone(),
                })
            }
            (BlockKind::Receptions, Some(session)) => {
                if has(Part::Reflects(session.clone())) {
                    return Ok(());
                }
                Err(NoPart::Reflecting {
                    agent: agent(),
                    session: session.clone(),
                })
            }
            (BlockKind::Probes | BlockKind::Traces, Some(session)) => {
                if has(Part::Sends(session.clone())) {
                    return Ok(());
                }
                Err(NoPart::Sending {
                    agent: agent(),
                    session: session.clone(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
