//! What a collector's plan must satisfy, beyond what an agent needs to follow its part.
//!
//! An agent follows what it can of any plan, even an older collector's, and reports what it
//! cannot. A collector gives out no plan with a part that could never run.

use super::{PlanError, Where};
use crate::plan::{Destination, EchoPlan, Plan, SessionPlan};
use core::net::IpAddr;

impl Plan {
    /// As [`Plan::checked`], and also refuses plans that an agent could follow but that would
    /// never measure.
    ///
    /// # Errors
    /// The first reason why the plan cannot be carried out.
    pub fn checked_whole(self) -> Result<Self, PlanError> {
        let plan = self.checked()?;
        plan.names_single_hosts()?;
        for session in &plan.sessions {
            plan.is_of_one_family(session)?;
        }
        for echo in &plan.echoes {
            plan.asks_its_own_family(echo)?;
        }
        plan.shares_no_port()?;
        for path in &plan.paths {
            if path.target_at_hop == Some(0) {
                return Err(PlanError::Value {
                    of: format!("path `{}`", path.name),
                    key: "target_at_hop",
                    value: "0".to_owned(),
                    range: "1 to 255, the number that a traceroute shows for the target",
                });
            }
        }
        Ok(plan)
    }

    /// Checks that the plan measures something. A collector may wait for its first session,
    /// but whoever checks a plan wants to measure.
    ///
    /// # Errors
    /// [`PlanError::NoSession`].
    pub fn measures(&self) -> Result<(), PlanError> {
        match self.sessions.is_empty() {
            true => Err(PlanError::NoSession),
            false => Ok(()),
        }
    }

    /// Checks that every address is one that a host can have and others can send to.
    fn names_single_hosts(&self) -> Result<(), PlanError> {
        let one_host = |of: Where<'_>, key, address: IpAddr| match unusable(address) {
            Some(range) => Err(PlanError::Value {
                of: of.to_string(),
                key,
                value: address.to_string(),
                range,
            }),
            None => Ok(()),
        };
        for agent in &self.agents {
            one_host(Where::Agent(&agent.name), "address", agent.address)?;
        }
        for session in &self.sessions {
            let Destination::Foreign(to) = session.to else {
                continue;
            };
            // With a zone a link-local address names one host.
            let zoned = matches!(to, core::net::SocketAddr::V6(v6) if v6.scope_id() != 0);
            if !(zoned && is_link_local(to.ip())) {
                one_host(Where::Session(&session.name), "to", to.ip())?;
            }
        }
        for echo in &self.echoes {
            one_host(Where::Echo(&echo.name), "target", echo.target)?;
        }
        for path in &self.paths {
            for router in &path.passes {
                // Routers answer from link-local addresses as well.
                if !is_link_local(*router) {
                    one_host(Where::Path(&path.name), "passes", *router)?;
                }
            }
        }
        Ok(())
    }

    /// Checks that both ends of a session have addresses of one family.
    fn is_of_one_family(&self, session: &SessionPlan) -> Result<(), PlanError> {
        let from = self.agent(&session.from).map(|a| a.address);
        let to = self.destination(session).map(|to| to.ip());
        match (from, to) {
            (Some(from), Some(to)) if from.is_ipv4() != to.is_ipv4() => {
                Err(PlanError::MixedFamilies {
                    session: session.name.clone(),
                    from,
                    to,
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks that an echo's target is of the family of its agent's address, which it leaves from.
    fn asks_its_own_family(&self, echo: &EchoPlan) -> Result<(), PlanError> {
        match self.agent(&echo.from).map(|a| a.address) {
            Some(from) if from.is_ipv4() != echo.target.is_ipv4() => Err(PlanError::EchoFamilies {
                echo: echo.name.clone(),
                from,
                to: echo.target,
            }),
            _ => Ok(()),
        }
    }

    /// Checks that agents on one host do not use a port twice.
    fn shares_no_port(&self) -> Result<(), PlanError> {
        let at = |session: &SessionPlan| self.agent(&session.from).map(|a| a.address);
        for (i, first) in self.sessions.iter().enumerate() {
            let Some(address) = at(first) else { continue };
            let ports = ports(first);
            let neighbour = self
                .agents
                .iter()
                .find(|a| a.address == address && ports.contains(&a.reflector_port));
            if let Some(neighbour) = neighbour {
                return Err(PlanError::SendsFromReflector {
                    session: first.name.clone(),
                    first: *ports.start(),
                    last: *ports.end(),
                    port: neighbour.reflector_port,
                    whose: format!("agent `{}`", neighbour.name),
                });
            }
            let second = self.sessions.iter().skip(i + 1).find(|second| {
                let other = self::ports(second);
                at(second) == Some(address)
                    && ports.start() <= other.end()
                    && other.start() <= ports.end()
            });
            if let Some(second) = second {
                return Err(PlanError::Overlap {
                    agent: first.from.clone(),
                    first: first.name.clone(),
                    second: second.name.clone(),
                    what: format!("source ports at {address}"),
                    key: "source_port",
                });
            }
        }
        Ok(())
    }
}

fn ports(session: &SessionPlan) -> core::ops::RangeInclusive<u16> {
    let more = u16::from(session.flows).saturating_sub(1);
    session.source_port..=session.source_port.saturating_add(more)
}

/// Returns what an address must be, if others cannot send to this one; else `None`.
fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("written as an IPv4 address, without `::ffff:`")
        }
        address if is_link_local(address) => {
            Some("an address that is good beyond one link: a link-local one needs an interface")
        }
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the address of one host"),
        address if address.is_unspecified() || address.is_multicast() => {
            Some("the address of one host")
        }
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
