//! Reports refused agents in the log and in the status, so that the cause can also be found
//! at the collector.
//!
//! Anybody who reaches the port can use any name, so both reports are bounded.

use super::api::TimeText;
use super::reply::Failure;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Span, Wall};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most refusals remembered; the oldest is dropped.
const REMEMBERED: usize = 16;
/// Shortest time between two log lines about the same agent and address.
const SAY_AGAIN: Span = Span::from_secs(60);
/// Most log lines within [`SAY_AGAIN`], for all agents and addresses.
const LINES: usize = 10;

/// An agent that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody {
    /// The name that it gave.
    pub agent: String,
    /// The address that it came from.
    pub peer: IpAddr,
    /// When it was last refused.
    pub at: TimeText,
    /// How often it was refused since the collector was started.
    pub count: u64,
    /// Why, and what to do.
    pub error: String,
}

/// Agents that were refused since the start and not let in after that.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Ordered by the time of the last refusal.
    known: VecDeque<Remembered>,
    /// When lines were logged, the newest last.
    said: VecDeque<Wall>,
}

#[derive(Debug)]
struct Remembered {
    body: RefusalBody,
    said: Option<Wall>,
}

impl Refusals {
    /// Remembers a refusal, and logs it unless that was done a moment ago.
    pub(super) fn note(&self, agent: &AgentName, peer: IpAddr, why: &Failure, now: Wall) {
        if let Some(line) = self.take(agent, peer, why, now) {
            tracing::warn!("{line}");
        }
    }

    /// Remembers a refusal and returns the line to log, where one is due.
    fn take(&self, agent: &AgentName, peer: IpAddr, why: &Failure, now: Wall) -> Option<String> {
        let mut inner = self.inner();
        let at = inner.known.iter().position(|k| k.is(agent, peer));
        let before = at.and_then(|at| inner.known.remove(at));
        let (count, said) = before.map_or((0, None), |k| (k.body.count, k.said));
        // A clock that was set back must not silence the log.
        let fresh = |then: &Wall| (now - *then).abs() < SAY_AGAIN;
        inner.said.retain(fresh);
        let due = !said.as_ref().is_some_and(fresh) && inner.said.len() < LINES;
        let error = why.sentence();
        let line = due.then(|| {
            format!("refused agent `{agent}` from {peer}: {error} (said once a minute at most)")
        });
        if due {
            inner.said.push_back(now);
        }
        if inner.known.len() >= REMEMBERED {
            inner.known.pop_front();
        }
        inner.known.push_back(Remembered {
            body: RefusalBody {
                agent: agent.to_string(),
                peer,
                at: TimeText(now),
                count: count + 1,
                error,
            },
            said: if due { Some(now) } else { said },
        });
        line
    }

    /// Forgets the refusals of an agent that was let in from that address.
    pub(super) fn forget(&self, agent: &AgentName, peer: IpAddr) {
        self.inner().known.retain(|k| !k.is(agent, peer));
    }

    /// Returns all remembered refusals, the newest first.
    pub(super) fn list(&self) -> Vec<RefusalBody> {
        let inner = self.inner();
        inner.known.iter().rev().map(|k| k.body.clone()).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn is(&self, agent: &AgentName, peer: IpAddr) -> bool {
        self.body.agent == agent.as_str() && self.body.peer == peer
    }
}

#[cfg(test)]
mod tests;
