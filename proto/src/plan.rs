//! The plan: agents, sessions, echo targets, named paths and the objective.
//!
//! One TOML file at the collector. Agents fetch it, cache it, and keep probing by it while
//! the collector is unreachable. Unknown keys are errors.

mod check;

pub use check::{PlanError, UnusableKey};

use crate::record::{AgentName, PathName, SessionName, TargetName};
use crate::stamp::{AuthKey, SessionKeys, Ssid};
use crate::time::Span;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};

/// What is measured, and the objective that it is judged against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The hosts that run an agent.
    #[serde(default, rename = "agent")]
    pub agents: Vec<AgentPlan>,
    /// The probe sessions.
    #[serde(default, rename = "session")]
    pub sessions: Vec<SessionPlan>,
    /// Targets without an agent, to be watched by ICMP echo.
    #[serde(default, rename = "echo")]
    pub echoes: Vec<EchoPlan>,
    /// The named paths, most specific first: a route gets the name of the first that fits.
    #[serde(default, rename = "path")]
    pub paths: Vec<PathPlan>,
    /// What a failover is judged against.
    #[serde(default)]
    pub objective: Objective,
}

/// A host that runs an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPlan {
    /// Its name.
    pub name: AgentName,
    /// The address that its probes come from and that its reflector answers on.
    pub address: IpAddr,
    /// Its reflector's UDP port, 862 by default (RFC 8762 section 4.1).
    #[serde(default = "default_reflector_port")]
    pub reflector_port: u16,
}

/// A session of STAMP probes from one agent to another agent or to a foreign reflector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionPlan {
    /// Its name, unique in the plan.
    pub name: SessionName,
    /// The agent that sends.
    pub from: AgentName,
    /// Where to: another agent, or the address and port of a foreign reflector.
    pub to: Destination,
    /// Time between two probes of one flow, 1 ms to 10 s.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How many flows (source ports), 1 to 64.
    #[serde(default = "default_flows")]
    pub flows: u8,
    /// Source port of flow 0; flow `i` uses the port `i` above it.
    #[serde(default = "default_source_port")]
    pub source_port: u16,
    /// SSID of flow 0, 1 to 0x7fff; flow `i` uses the SSID `i` above it. Absent: given
    /// by the session's place in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssid: Option<Ssid>,
    /// Tmax: a probe without reply for this long is unanswered (RFC 7680), later replies are late.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Time between two traceroutes of one flow; `0s` for none.
    #[serde(default = "default_trace_interval")]
    pub trace_interval: Span,
    /// Time between two searches of the path MTU; `0s` for none. Absent: 10 s where an agent
    /// reflects, none with a foreign reflector, which may count these packets among the
    /// probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu_interval: Option<Span>,
    /// Differentiated Services Code Point of the probes, 0 to 63.
    #[serde(default)]
    pub dscp: u8,
    /// Spin just before each send: exact times for a share of a core.
    #[serde(default)]
    pub precise: bool,
    /// Resolution of the recorded times, 1 ns to 1 ms: nanosecond jitter is what costs room.
    #[serde(default = "default_time_unit")]
    pub time_unit: Span,
    /// Whether packets are authenticated (RFC 8762 section 4.4). Absent: true where an agent
    /// reflects, or where there is a `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<bool>,
    /// Hexadecimal key of authenticated mode, at least 16 bytes: that of a foreign
    /// reflector. Absent: the collector gives each session between agents a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl SessionPlan {
    /// Whether its packets are to be authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
            .unwrap_or(self.key.is_some() || self.to.agent().is_some())
    }

    /// Returns the keys that authenticate its packets; `None` where they are not
    /// authenticated. Two agents have a key for each direction, see
    /// [`SessionKeys::per_direction`]; a foreign reflector knows one for both.
    ///
    /// # Errors
    /// Where the key is absent or unusable: such a session must not run, or leaving out the
    /// key would be enough to switch authentication off.
    pub fn keys(&self) -> Result<Option<SessionKeys>, UnusableKey> {
        if !self.is_authenticated() {
            return Ok(None);
        }
        let session = || self.name.clone();
        let Some(key) = &self.key else {
            return Err(UnusableKey::Absent { session: session() });
        };
        let key: AuthKey = key.parse().map_err(|source| UnusableKey::Unreadable {
            session: session(),
            source,
        })?;
        Ok(Some(match &self.to {
            Destination::Agent(_) => SessionKeys::per_direction(&key),
            Destination::Foreign(_) => SessionKeys::shared(key),
        }))
    }

    /// Time between two searches of the path MTU; `None` for none.
    pub fn path_mtu_interval(&self) -> Option<Span> {
        let interval = match (self.path_mtu_interval, &self.to) {
            (Some(interval), _) => interval,
            (None, Destination::Agent(_)) => Span::from_secs(10),
            (None, Destination::Foreign(_)) => Span::ZERO,
        };
        (interval > Span::ZERO).then_some(interval)
    }
}

/// Where a session goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Destination {
    /// The reflector of this address and port, not one of ours.
    Foreign(SocketAddr),
    /// The reflector of this agent.
    Agent(AgentName),
}

impl Destination {
    /// The agent; `None` for a foreign reflector.
    pub fn agent(&self) -> Option<&AgentName> {
        match self {
            Self::Agent(name) => Some(name),
            Self::Foreign(_) => None,
        }
    }
}

/// ICMP echo of a target that runs no agent, such as a CE, an MSEE or a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EchoPlan {
    /// The target's name, unique in the plan.
    pub name: TargetName,
    /// The agent that sends.
    pub from: AgentName,
    /// The target's address.
    pub target: IpAddr,
    /// Time between two requests.
    #[serde(default = "default_echo_interval")]
    pub interval: Span,
    /// How long to wait for a reply.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// How to recognise a path. A route fits when every condition that is given holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathPlan {
    /// Its name.
    pub name: PathName,
    /// What it is for.
    pub role: PathRole,
    /// One of these addresses answers at some hop.
    #[serde(default)]
    pub passes: Vec<IpAddr>,
    /// The target is the hop with this number, in either direction (one more than the
    /// number of routers, as a traceroute shows it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_at_hop: Option<u8>,
}

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathRole {
    /// Carries the traffic when all is well.
    Primary,
    /// Carries it when the primary cannot.
    Backup,
}

/// What a failover and a failback are judged against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// No flow may be without connectivity for longer than this. The article's: 10 s.
    pub outage: Span,
    /// Losses of at least this many probes in a row count as an outage; fewer are background loss.
    pub min_lost: u32,
    /// Outages with fewer good probes than this between them are one (RFC 6412: 5 packets).
    pub min_good: u32,
    /// Traffic is stable when unimpaired for this long (RFC 6412: Convergence Recovery, 5 s).
    pub stable: Span,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            outage: Span::from_secs(10),
            min_lost: 3,
            min_good: 5,
            stable: Span::from_secs(5),
        }
    }
}

/// The bit that marks a flow's traceroute packets: their SSID is the flow's SSID with this
/// bit, so that a stateful reflector counts them apart from its probes.
pub const TRACE_SSID_BIT: u16 = 0x8000;

fn default_reflector_port() -> u16 {
    862
}
fn default_interval() -> Span {
    Span::from_millis(10)
}
fn default_flows() -> u8 {
    8
}
fn default_source_port() -> u16 {
    50_000
}
fn default_timeout() -> Span {
    Span::from_secs(2)
}
fn default_trace_interval() -> Span {
    Span::from_secs(1)
}
fn default_time_unit() -> Span {
    Span::from_nanos(100)
}
fn default_echo_interval() -> Span {
    Span::from_secs(1)
}

impl Plan {
    /// The agent of this name.
    pub fn agent(&self, name: &AgentName) -> Option<&AgentPlan> {
        self.agents.iter().find(|a| &a.name == name)
    }

    /// The session of this name.
    pub fn session(&self, name: &SessionName) -> Option<&SessionPlan> {
        self.sessions.iter().find(|s| &s.name == name)
    }

    /// Address and port of a session's reflector; `None` where it names an agent
    /// that the plan lacks.
    pub fn destination(&self, session: &SessionPlan) -> Option<SocketAddr> {
        match &session.to {
            Destination::Foreign(address) => Some(*address),
            Destination::Agent(name) => self
                .agent(name)
                .map(|a| SocketAddr::new(a.address, a.reflector_port)),
        }
    }

    /// Returns the part of the plan that concerns one agent: the sessions and echoes that it
    /// sends and the sessions that it reflects. It holds no secrets of others.
    #[must_use]
    pub fn for_agent(&self, name: &AgentName) -> Self {
        Self {
            agents: self.agents.clone(),
            sessions: self
                .sessions
                .iter()
                .filter(|s| {
                    &s.from == name || matches!(&s.to, Destination::Agent(to) if to == name)
                })
                .cloned()
                .collect(),
            echoes: self
                .echoes
                .iter()
                .filter(|e| &e.from == name)
                .cloned()
                .collect(),
            paths: self.paths.clone(),
            objective: self.objective.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
