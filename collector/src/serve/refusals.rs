//! Agents that were turned away: said in the log and in the status, so that the cause is
//! found where the collector is, too.
//!
//! Anybody who reaches the port can ask under any name, so both are bounded.

use super::api::TimeText;
use super::reply::Failure;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Span, Wall};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most that are remembered; the oldest gives way.
const REMEMBERED: usize = 16;
/// The same agent from the same address is logged this often at most.
const SAY_AGAIN: Span = Span::from_secs(60);
/// Most lines within [`SAY_AGAIN`], of all agents and addresses.
const LINES: usize = 10;

/// An agent that was turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody {
    /// The name that it gave.
    pub agent: String,
    /// Where it asked from.
    pub peer: IpAddr,
    /// When it was last turned away.
    pub at: TimeText,
    /// How often it was, since the collector was started.
    pub count: u64,
    /// Why, and what to do.
    pub error: String,
}

/// Who was turned away since the start, and not let in since.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The one turned away last is last.
    known: VecDeque<Known>,
    /// When lines were logged, the newest last.
    said: VecDeque<Wall>,
}

#[derive(Debug)]
struct Known {
    body: RefusalBody,
    said: Option<Wall>,
}

impl Refusals {
    /// Remembers one, and logs it unless that was done a moment ago.
    pub(super) fn note(&self, agent: &AgentName, peer: IpAddr, why: &Failure, now: Wall) {
        if let Some(line) = self.take(agent, peer, why, now) {
            tracing::warn!("{line}");
        }
    }

    /// The line to log, where it is time for one.
    fn take(&self, agent: &AgentName, peer: IpAddr, why: &Failure, now: Wall) -> Option<String> {
        let mut inner = self.inner();
        let at = inner.known.iter().position(|k| k.is(agent, peer));
        let before = at.and_then(|at| inner.known.remove(at));
        let (count, said) = before.map_or((0, None), |k| (k.body.count, k.said));
        // A clock that was set back must not silence it.
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
        inner.known.push_back(Known {
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

    /// Forgets an agent that was let in from there.
    pub(super) fn forget(&self, agent: &AgentName, peer: IpAddr) {
        self.inner().known.retain(|k| !k.is(agent, peer));
    }

    /// All that are remembered, the newest first.
    pub(super) fn list(&self) -> Vec<RefusalBody> {
        let inner = self.inner();
        inner.known.iter().rev().map(|k| k.body.clone()).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is(&self, agent: &AgentName, peer: IpAddr) -> bool {
        self.body.agent == agent.as_str() && self.body.peer == peer
    }
}

#[cfg(test)]
mod tests;
