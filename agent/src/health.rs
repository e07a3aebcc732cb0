//! What of the plan runs, what does not, and why: for the agent's report to the collector.

use hopgap_net::NetError;
use hopgap_proto::record::{FlowIndex, RunFault, SessionName};
use hopgap_proto::uplink::{AgentFault, FlowFault, SessionReport};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of everything that the plan asks of this agent. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Counts changes, so that one is reported at once.
    changes: u64,
    sessions: BTreeMap<SessionName, SessionState>,
    faults: Vec<AgentFault>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SessionState {
    running: u8,
    closed: Vec<(FlowIndex, RunFault)>,
    /// Why the whole session does not run.
    whole: Option<RunFault>,
}

/// The part of [`Health`] that one session writes. The default writes into nothing.
#[derive(Clone, Debug, Default)]
pub struct SessionHealth(Option<(Health, SessionName)>);

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it has changed.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// For the session of this name.
    pub fn session(&self, name: &SessionName) -> SessionHealth {
        SessionHealth(Some((self.clone(), name.clone())))
    }

    /// These sessions do not run, and these parts beside sessions; a session that is
    /// neither here nor told by itself is forgotten.
    pub fn set(&self, failed: &BTreeMap<SessionName, RunFault>, faults: Vec<AgentFault>) {
        let mut state = self.state();
        let before = (state.sessions.clone(), state.faults.clone());
        state
            .sessions
            .retain(|name, s| failed.contains_key(name) || s.running > 0);
        for (name, why) in failed {
            let session = SessionState {
                whole: Some(*why),
                ..SessionState::default()
            };
            state.sessions.insert(name.clone(), session);
        }
        state.faults = faults;
        if before != (state.sessions.clone(), state.faults.clone()) {
            state.changes += 1;
        }
    }

    /// A session ended: it has nothing more to say.
    pub fn forget(&self, name: &SessionName) {
        if self.state().sessions.remove(name).is_some() {
            self.state().changes += 1;
        }
    }

    /// All of it, as the report has it.
    pub fn report(&self) -> (Vec<SessionReport>, Vec<AgentFault>) {
        let state = self.state();
        let sessions = state.sessions.iter().map(|(name, session)| {
            let whole = session.whole.map(|why| FlowFault { flow: None, why });
            let flows = session.closed.iter().map(|(flow, why)| FlowFault {
                flow: Some(*flow),
                why: *why,
            });
            SessionReport {
                name: name.clone(),
                running: session.running,
                faults: whole.into_iter().chain(flows).collect(),
            }
        });
        (sessions.collect(), state.faults.clone())
    }
}

impl SessionHealth {
    fn change(&self, change: impl FnOnce(&mut SessionState)) {
        let Some((health, name)) = &self.0 else {
            return;
        };
        let mut state = health.state();
        let session = state.sessions.entry(name.clone()).or_default();
        let before = session.clone();
        change(session);
        if *session != before {
            state.changes += 1;
        }
    }

    /// Of `flows` flows, all run but these.
    pub fn set_flows(&self, flows: u8, closed: Vec<(FlowIndex, RunFault)>) {
        let closed_flows = u8::try_from(closed.len()).unwrap_or(u8::MAX);
        self.change(|session| {
            session.running = flows.saturating_sub(closed_flows);
            session.closed = closed;
        });
    }

    /// Whether all sends are refused, and why.
    pub fn set_refusing(&self, why: Option<RunFault>) {
        self.change(|session| session.whole = why);
    }
}

/// Why a socket could not be had, for who reads it elsewhere.
pub fn fault_of(error: &NetError) -> RunFault {
    let errno = |source: &std::io::Error| source.raw_os_error().unwrap_or(0);
    match error {
        NetError::PortInUse { addr } => RunFault::PortInUse {
            address: addr.ip(),
            port: addr.port(),
        },
        NetError::AddressNotHere { addr } => RunFault::AddressNotHere { address: addr.ip() },
        NetError::PrivilegedPort { addr } => RunFault::NotPermitted {
            port: Some(addr.port()),
        },
        NetError::NeedsNetRaw { .. } => RunFault::NotPermitted { port: None },
        NetError::Option { source, .. } | NetError::Open { source, .. } => RunFault::Refused {
            errno: errno(source),
        },
        NetError::NoFamily { .. } | NetError::NoInterface { .. } => RunFault::Refused { errno: 97 },
    }
}

#[cfg(test)]
mod tests;
