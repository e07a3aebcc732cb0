//! Whom a reflector answers.

use super::Rate;
use core::net::IpAddr;
use hopgap_proto::plan::{Destination, Plan, UnusableKey};
use hopgap_proto::record::{AgentName, SessionName};
use hopgap_proto::stamp::{AuthKey, Compatibility, ErrorEstimate, SessionKeys, Ssid};
use hopgap_proto::time::Span;

/// What a [`Reflector`](super::Reflector) needs to know.
#[derive(Clone, Debug)]
pub struct ReflectorConfig {
    /// The UDP ports that it answers on; packets *from* them could loop.
    pub ports: Vec<u16>,
    /// The sessions that it answers and records.
    pub sessions: Vec<ReflectedSession>,
    /// Whether, and how, it answers others too.
    pub open: Option<OpenMode>,
    /// The counters of a flow silent for longer begin again at 0. At least 600 s, so that it
    /// outlives a BGP hold time of 180 s.
    pub idle_timeout: Span,
    /// Error estimate of this host's wall clock, as the kernel gives it.
    pub error_estimate: ErrorEstimate,
}

impl ReflectorConfig {
    /// Returns a configuration without sessions on `port`, with an idle timeout of 600 s.
    pub fn new(port: u16, error_estimate: ErrorEstimate) -> Self {
        Self {
            ports: vec![port],
            sessions: Vec::new(),
            open: None,
            idle_timeout: Span::from_secs(600),
            error_estimate,
        }
    }
}

/// A session that a reflector answers, as the plan provisions it.
#[derive(Clone, Debug)]
pub struct ReflectedSession {
    /// Its name in the plan.
    pub name: SessionName,
    /// The sending agent's address.
    pub from: IpAddr,
    /// The port on which the sending agent's own reflector answers: packets from it could
    /// loop.
    pub reflector_port: u16,
    /// Source port of flow 0; flow `i` uses the port `i` above it. Packets from other ports
    /// are recognised by their SSID, as a NAT may change ports.
    pub source_port: u16,
    /// SSID of flow 0; flow `i` uses the SSID `i` above it.
    pub ssid: Ssid,
    /// Number of flows.
    pub flows: u8,
    /// Keys of requests and replies; absent: unauthenticated.
    pub keys: Option<SessionKeys>,
    /// Most packets answered; probes, traceroutes, copies and replays each have this rate.
    pub rate: Rate,
}

impl ReflectedSession {
    /// Returns the sessions of a checked plan that the agent `name` reflects, and the
    /// unusable keys of those that it cannot reflect. The latter are not answered; the others
    /// are unaffected.
    pub fn from_plan(plan: &Plan, name: &AgentName) -> (Vec<Self>, Vec<UnusableKey>) {
        let mut sessions = Vec::new();
        let mut unusable = Vec::new();
        for session in &plan.sessions {
            let Some(from) = plan.agent(&session.from) else {
                continue;
            };
            if !matches!(&session.to, Destination::Agent(to) if to == name) {
                continue;
            }
            let keys = match session.keys() {
                Ok(keys) => keys,
                Err(error) => {
                    unusable.push(error);
                    continue;
                }
            };
            sessions.push(Self {
                name: session.name.clone(),
                from: from.address,
                reflector_port: from.reflector_port,
                source_port: session.source_port,
                ssid: session.ssid.unwrap_or(Ssid(1)),
                flows: session.flows,
                keys,
                rate: Rate::of_session(session.interval, session.flows),
            });
        }
        (sessions, unusable)
    }
}

/// How unknown senders are answered.
#[derive(Clone, Debug)]
pub struct OpenMode {
    /// At most this many sessions (address, port and SSID) at a time.
    pub max_sessions: usize,
    /// Each source address may send this much.
    pub rate: Rate,
    /// Key of requests and replies; absent: unauthenticated.
    pub key: Option<AuthKey>,
    /// Whether requests below STAMP's size are answered, as TWAMP Light sends them.
    pub compatibility: Compatibility,
}
