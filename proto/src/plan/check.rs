//! What a plan must satisfy beyond its syntax.

mod whole;

use super::{AgentPlan, Destination, EchoPlan, Plan, SessionPlan};
use crate::record::{AgentName, PathName, SessionName, TargetName};
use crate::stamp::{KeyError, Ssid};
use crate::time::Span;
use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeSet;

/// Why a plan cannot be carried out. Each sentence says where and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two things of one kind share a name.
    #[error("{kind} `{name}` is declared twice; give each {kind} a name of its own")]
    Duplicate {
        /// `agent`, `session`, `echo` or `path`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A reference to an agent that is not declared.
    #[error(
        "{user} names the agent `{agent}`, which is not declared; add an [[agent]] with that name or correct it"
    )]
    UnknownAgent {
        /// Who refers to it.
        user: String,
        /// The unknown name.
        agent: AgentName,
    },
    /// A value outside of its range.
    #[error("session `{session}`: {key} is {value}, but must be {range}")]
    Range {
        /// The session.
        session: SessionName,
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// A value of an agent or an echo that is not possible.
    #[error("{of}: {key} is {value}, but must be {range}")]
    Value {
        /// Which agent or echo.
        of: String,
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// A session would send from the port on which its own agent's reflector answers.
    #[error(
        "session `{session}` sends from UDP ports {first} to {last}, and {port} among them is the `reflector_port` of {whose}; move `source_port` away from it"
    )]
    SendsFromReflector {
        /// The session.
        session: SessionName,
        /// Its first source port.
        first: u16,
        /// Its last source port.
        last: u16,
        /// The reflector's port.
        port: u16,
        /// Which agent's.
        whose: String,
    },
    /// A session from an agent to itself.
    #[error("session `{0}` goes from an agent to itself; name another agent in `to`")]
    ToItself(SessionName),
    /// Two sessions of one agent would use the same source port or SSID.
    #[error(
        "sessions `{first}` and `{second}` of agent `{agent}` share {what}; give one of them another `{key}`"
    )]
    Overlap {
        /// The agent.
        agent: AgentName,
        /// One session.
        first: SessionName,
        /// The other.
        second: SessionName,
        /// What they share.
        what: String,
        /// The key to change.
        key: &'static str,
    },
    /// Two sessions have the same key: one would accept the other's packets.
    #[error(
        "sessions `{first}` and `{second}` have the same `key`, so packets of one pass for the other's; give each its own, or leave it out between agents: then the collector makes one"
    )]
    SameKey {
        /// One session.
        first: SessionName,
        /// The other.
        second: SessionName,
    },
    /// A path without conditions would fit every route.
    #[error("path `{0}` has no condition; give it `passes` or `target_at_hop`")]
    PathWithoutCondition(String),
    /// Nothing is to be measured.
    #[error("the plan has no session, so nothing would be measured; add a [[session]]")]
    NoSession,
    /// The ends of a session have addresses of different families.
    #[error(
        "session `{session}` goes from {from} to {to}, but no packet goes from an {} to an {} address; give both ends addresses of one family", family(*from), family(*to)
    )]
    MixedFamilies {
        /// The session.
        session: SessionName,
        /// The sending agent's address.
        from: IpAddr,
        /// The reflector's address.
        to: IpAddr,
    },
    /// An echo's target has an address of another family than its agent.
    #[error(
        "echo `{echo}` goes from {from} to {to}, but no packet goes from an {} to an {} address; name an address of the target of the agent's family", family(*from), family(*to)
    )]
    EchoFamilies {
        /// The echo.
        echo: TargetName,
        /// The agent's address.
        from: IpAddr,
        /// The target's.
        to: IpAddr,
    },
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// An entry of the plan, as messages name it.
#[derive(Clone, Copy, Debug)]
enum Where<'a> {
    Agent(&'a AgentName),
    Session(&'a SessionName),
    Echo(&'a TargetName),
    Path(&'a PathName),
}

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent `{name}`"),
            Self::Session(name) => write!(f, "session `{name}`"),
            Self::Echo(name) => write!(f, "echo `{name}`"),
            Self::Path(name) => write!(f, "path `{name}`"),
        }
    }
}

/// Why a session that must be authenticated cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// The plan gives none.
    #[error(
        "session `{session}` is to be authenticated, but this plan gives no key for it; upgrade the collector, which makes the keys, or write `authenticated = false` into its plan"
    )]
    Absent {
        /// The session.
        session: SessionName,
    },
    /// The plan's cannot be used.
    #[error("session `{session}`: {source}")]
    Unreadable {
        /// The session.
        session: SessionName,
        /// What is wrong with its key.
        source: KeyError,
    },
}

impl Plan {
    /// Checks what the syntax cannot, and gives every session its SSID.
    ///
    /// # Errors
    /// The first reason why the plan cannot be carried out.
    pub fn checked(mut self) -> Result<Self, PlanError> {
        unique("agent", self.agents.iter().map(|a| a.name.as_str()))?;
        unique("session", self.sessions.iter().map(|s| s.name.as_str()))?;
        unique("echo", self.echoes.iter().map(|e| e.name.as_str()))?;
        unique("path", self.paths.iter().map(|p| p.name.as_str()))?;
        for agent in &self.agents {
            agent.in_range()?;
        }
        for session in &self.sessions {
            self.known(format!("session `{}`", session.name), &session.from)?;
            if let Destination::Agent(to) = &session.to {
                self.known(format!("session `{}`", session.name), to)?;
                if to == &session.from {
                    return Err(PlanError::ToItself(session.name.clone()));
                }
            }
            session.in_range()?;
            self.sends_from_no_reflector(session)?;
        }
        for echo in &self.echoes {
            self.known(format!("echo `{}`", echo.name), &echo.from)?;
            echo.in_range()?;
        }
        for path in &self.paths {
            if path.passes.is_empty() && path.target_at_hop.is_none() {
                return Err(PlanError::PathWithoutCondition(path.name.to_string()));
            }
        }
        self.number_sessions();
        self.no_overlap()?;
        Ok(self)
    }

    fn known(&self, user: String, agent: &AgentName) -> Result<(), PlanError> {
        match self.agent(agent) {
            Some(_) => Ok(()),
            None => Err(PlanError::UnknownAgent {
                user,
                agent: agent.clone(),
            }),
        }
    }

    /// Checks that no source port is a reflector's: a reflector answers no packet from such a
    /// port, because it could loop.
    fn sends_from_no_reflector(&self, session: &SessionPlan) -> Result<(), PlanError> {
        let first = session.source_port;
        let last = first.saturating_add(u16::from(session.flows).saturating_sub(1));
        let ends = [Some(&session.from), session.to.agent()];
        for agent in ends.into_iter().flatten().filter_map(|a| self.agent(a)) {
            let port = agent.reflector_port;
            if (first..=last).contains(&port) {
                return Err(PlanError::SendsFromReflector {
                    session: session.name.clone(),
                    first,
                    last,
                    port,
                    whose: format!("agent `{}`", agent.name),
                });
            }
        }
        Ok(())
    }

    /// Gives sessions without an SSID one by their position, 64 apart.
    fn number_sessions(&mut self) {
        for (place, session) in self.sessions.iter_mut().enumerate() {
            let block = u16::try_from(place % 511).unwrap_or(0);
            session.ssid.get_or_insert(Ssid(1 + block * 64));
        }
    }

    fn no_overlap(&self) -> Result<(), PlanError> {
        for (i, a) in self.sessions.iter().enumerate() {
            for b in self.sessions.iter().skip(i + 1) {
                let same_key = |x: &str, y: &str| x.trim().eq_ignore_ascii_case(y.trim());
                // Foreign reflectors often have one key for all senders.
                let ours = a.to.agent().or(b.to.agent()).is_some();
                if let (Some(x), Some(y), true) = (&a.key, &b.key, ours)
                    && same_key(x, y)
                {
                    return Err(PlanError::SameKey {
                        first: a.name.clone(),
                        second: b.name.clone(),
                    });
                }
                let overlap = |what: String, key| PlanError::Overlap {
                    agent: a.from.clone(),
                    first: a.name.clone(),
                    second: b.name.clone(),
                    what,
                    key,
                };
                let apart = |x: u16, y: u16| {
                    x.saturating_add(u16::from(a.flows)) <= y
                        || y.saturating_add(u16::from(b.flows)) <= x
                };
                if a.from == b.from && !apart(a.source_port, b.source_port) {
                    return Err(overlap("source ports".to_owned(), "source_port"));
                }
                let (ssid_a, ssid_b) = (a.ssid.unwrap_or_default(), b.ssid.unwrap_or_default());
                if a.to == b.to && !apart(ssid_a.0, ssid_b.0) {
                    return Err(overlap("SSIDs at one reflector".to_owned(), "ssid"));
                }
            }
        }
        Ok(())
    }
}

fn unique<'a>(kind: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(PlanError::Duplicate {
                kind,
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

impl AgentPlan {
    fn in_range(&self) -> Result<(), PlanError> {
        let fail = |key, value: String, range| {
            Err(PlanError::Value {
                of: format!("agent `{}`", self.name),
                key,
                value,
                range,
            })
        };
        if self.address.is_unspecified() || self.address.is_multicast() {
            return fail(
                "address",
                self.address.to_string(),
                "an address of its host, to which the others send",
            );
        }
        if self.reflector_port == 0 {
            return fail("reflector_port", "0".to_owned(), "1 to 65535");
        }
        Ok(())
    }
}

impl EchoPlan {
    fn in_range(&self) -> Result<(), PlanError> {
        let (ms, s) = (Span::from_millis(1), Span::from_secs(1));
        let span = |key, value: Span, low: Span, high: Span, range| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(PlanError::Value {
                of: format!("echo `{}`", self.name),
                key,
                value: value.to_config_text(),
                range,
            })
        };
        span("interval", self.interval, ms * 10, s * 3600, "10ms to 1h")?;
        span("timeout", self.timeout, ms * 10, s * 60, "10ms to 60s")?;
        if self.target.is_unspecified() || self.target.is_multicast() {
            return Err(PlanError::Value {
                of: format!("echo `{}`", self.name),
                key: "target",
                value: self.target.to_string(),
                range: "the address of one host",
            });
        }
        Ok(())
    }
}

impl SessionPlan {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn in_range(&self) -> Result<(), PlanError> {
        let session = self;
        let fail = |key, value: String, range| {
            Err(PlanError::Range {
                session: session.name.clone(),
                key,
                value,
                range,
            })
        };
        let span = |key, value: Span, low: Span, high: Span, range| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                fail(key, value.to_config_text(), range)
            }
        };
        if let Destination::Foreign(to) = session.to
            && (to.port() == 0 || to.ip().is_unspecified() || to.ip().is_multicast())
        {
            return fail(
                "to",
                to.to_string(),
                "the address and port of one reflector",
            );
        }
        let (ms, s) = (Span::from_millis(1), Span::from_secs(1));
        span("interval", session.interval, ms, s * 10, "1ms to 10s")?;
        span("timeout", session.timeout, ms * 10, s * 60, "10ms to 60s")?;
        span(
            "time_unit",
            session.time_unit,
            Span::from_nanos(1),
            ms,
            "1ns to 1ms",
        )?;
        if session.trace_interval != Span::ZERO {
            span(
                "trace_interval",
                session.trace_interval,
                ms * 100,
                s * 3600,
                "0s (none) or 100ms to 1h",
            )?;
        }
        if let Some(interval) = session.path_mtu_interval.filter(|i| *i != Span::ZERO) {
            span(
                "path_mtu_interval",
                interval,
                s,
                s * 3600,
                "0s (none) or 1s to 1h",
            )?;
        }
        if !(1..=64).contains(&session.flows) {
            return fail("flows", session.flows.to_string(), "1 to 64");
        }
        if session.dscp > 63 {
            return fail("dscp", session.dscp.to_string(), "0 to 63");
        }
        let flows = u16::from(session.flows);
        if session.source_port < 1024 || session.source_port.checked_add(flows - 1).is_none() {
            return fail(
                "source_port",
                session.source_port.to_string(),
                "1024 to 65535 for every flow",
            );
        }
        // Azure reserves this port: probes from it would always be lost.
        if (session.source_port..=session.source_port + (flows - 1)).contains(&65_330) {
            return fail(
                "source_port",
                session.source_port.to_string(),
                "such that no flow uses 65330, which Azure reserves",
            );
        }
        if let Some(Ssid(ssid)) = session.ssid
            && (ssid == 0 || ssid.saturating_add(flows) > 0x8000)
        {
            return fail("ssid", ssid.to_string(), "1 to 32767 for every flow");
        }
        match (session.authenticated, &session.key, &session.to) {
            (Some(false), Some(_), _) => {
                return fail(
                    "authenticated",
                    "false".to_owned(),
                    "true or left out where there is a `key`",
                );
            }
            (Some(true), None, Destination::Foreign(_)) => {
                return fail(
                    "authenticated",
                    "true".to_owned(),
                    "accompanied by the `key` that the foreign reflector has",
                );
            }
            _ => {}
        }
        if let Some(key) = &session.key {
            let hex =
                key.len() >= 32 && key.len() % 2 == 0 && key.chars().all(|c| c.is_ascii_hexdigit());
            if !hex {
                return fail(
                    "key",
                    "not readable".to_owned(),
                    "at least 32 hexadecimal digits",
                );
            }
        }
        Ok(())
    }
}
