//! Accounts for the work that each agent causes: for each second, and in total.

use super::judge::{Claim, FrameCause, MOST_DECODED, MOST_ROWS, RefusedFrame};
use crate::serve::reply::Failure;
use hopgap_proto::record::AgentName;
use hopgap_proto::uplink::{Ack, ErrorCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Most rows of one agent in a second. An agent's sessions make some thousand rows a second;
/// an agent that delivers a backlog may send a thousand times as many.
const ROWS: usize = 2 << 20;
/// Most memory of one agent's decoded blocks in a second, summed over the blocks, in bytes.
const DECODED: usize = 512 << 20;
/// Most frames of one agent in a second.
const FRAMES: usize = 5_000;
/// Most bytes of one agent's bodies in a second.
const BYTES: usize = 32 << 20;
/// How much work an agent may do ahead before it waits.
const SAVED: Duration = Duration::from_secs(1);
/// Longest wait for one request: an agent that waits longer would give up.
const LONGEST: Duration = Duration::from_secs(3);
/// Time for each note that an agent was heard of: each costs a transaction.
const NOTE: Duration = Duration::from_millis(500);
/// How many such notes may come at once.
const NOTES: u32 = 20;
/// Shortest time between two log lines about refused frames of one agent.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// The work that a body caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::serve) struct Work {
    pub(super) bytes: usize,
    pub(super) frames: usize,
    pub(super) rows: usize,
    pub(super) decoded: usize,
}

impl Work {
    /// Returns this work and that of one more block.
    pub(super) fn with(self, claim: Claim) -> Self {
        Self {
            rows: self.rows.saturating_add(claim.rows),
            decoded: self.decoded.saturating_add(claim.decoded),
            ..self
        }
    }

    /// Whether one body may cause this much work.
    pub(super) fn is_within_a_body(&self) -> bool {
        self.rows <= MOST_ROWS && self.decoded <= MOST_DECODED
    }

    /// Returns the time in which one agent may cause this much work.
    fn time(&self) -> Duration {
        let of = |n: usize, a_second: usize| {
            let nanos = n.saturating_mul(1_000_000).div_ceil(a_second / 1_000);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        of(self.rows, ROWS)
            .max(of(self.decoded, DECODED))
            .max(of(self.frames, FRAMES))
            .max(of(self.bytes, BYTES))
    }
}

/// What the collector took from one agent since the start, and what it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TakenBody {
    /// Bodies of frames.
    pub deliveries: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
    /// Rows, as its blocks' headers state.
    pub rows: u64,
    /// How long its deliveries were delayed because it exceeded the limit of one agent, in
    /// milliseconds.
    pub held_ms: u64,
    /// Requests refused because it exceeded the limit of one agent.
    pub too_much: u64,
    /// Frames that cannot be read, or are of a newer version.
    pub unreadable: u64,
    /// Frames of another agent.
    pub foreign: u64,
    /// Frames of sessions and targets in which it has no such part by the plan.
    pub no_part: u64,
    /// Frames with impossible times.
    pub time: u64,
    /// Frames with the key of another block.
    pub different: u64,
}

impl TakenBody {
    /// Frames that were not stored.
    pub fn refused(&self) -> u64 {
        self.by_cause().iter().map(|(_, n)| n).sum()
    }

    /// Returns the counts of frames that were not stored, each with its cause's field name.
    pub(in crate::serve) fn by_cause(&self) -> [(&'static str, u64); 5] {
        [
            ("unreadable", self.unreadable),
            ("foreign", self.foreign),
            ("no_part", self.no_part),
            ("time", self.time),
            ("different", self.different),
        ]
    }

    fn count(&mut self, cause: FrameCause) {
        *match cause {
            FrameCause::Unreadable => &mut self.unreadable,
            FrameCause::Foreign => &mut self.foreign,
            FrameCause::NoPart => &mut self.no_part,
            FrameCause::Time => &mut self.time,
            FrameCause::Different => &mut self.different,
        } += 1;
    }
}

impl fmt::Display for TakenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("unreadable", self.unreadable),
            ("of another agent", self.foreign),
            ("without a part in the plan", self.no_part),
            ("with impossible times", self.time),
            ("with another block's key", self.different),
        ];
        let mut first = true;
        for (what, n) in parts.into_iter().filter(|(_, n)| *n > 0) {
            let comma = if first { "" } else { ", " };
            write!(f, "{comma}{n} {what}")?;
            first = false;
        }
        Ok(())
    }
}

/// The accounts of all agents that were let in: no more than plans have had.
#[derive(Debug, Default)]
pub(in crate::serve) struct Accounts(Mutex<BTreeMap<AgentName, Account>>);

#[derive(Debug)]
struct Account {
    /// When the work so far is paid for (the generic cell rate algorithm of ITU-T I.371, as for
    /// requests).
    paid_at: Instant,
    /// The same for notes.
    noted_at: Instant,
    taken: TakenBody,
    /// When refused frames were last logged; `unsaid` counts those refused since.
    said: Option<Instant>,
    unsaid: u64,
}

impl Accounts {
    /// Waits until an agent may cause more work.
    ///
    /// # Errors
    /// When the wait would exceed [`LONGEST`]; the agent then sends the request again.
    pub(in crate::serve) async fn wait(&self, agent: &AgentName) -> Result<(), Failure> {
        let wait = {
            let mut accounts = self.accounts();
            let account = account(&mut accounts, agent);
            let ahead = account.paid_at.saturating_duration_since(Instant::now());
            let wait = ahead.saturating_sub(SAVED);
            if wait > LONGEST {
                account.taken.too_much += 1;
                return Err(too_much(agent));
            }
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            account.taken.held_ms = account.taken.held_ms.saturating_add(millis);
            wait
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Charges work to an agent's account.
    pub(in crate::serve) fn charge(&self, agent: &AgentName, work: &Work) {
        let mut accounts = self.accounts();
        let account = account(&mut accounts, agent);
        account.paid_at = account.paid_at.max(Instant::now()) + work.time();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        account.taken.deliveries += 1;
        account.taken.bytes += count(work.bytes);
        account.taken.frames += count(work.frames);
        account.taken.rows += count(work.rows);
    }

    /// Counts the refused frames of a body, and logs them in one line unless that was done a
    /// moment ago.
    pub(in crate::serve) fn took(&self, agent: &AgentName, ack: &Ack, refused: &[RefusedFrame]) {
        let Some(first) = refused.first() else { return };
        let mut accounts = self.accounts();
        let account = account(&mut accounts, agent);
        for frame in refused {
            account.taken.count(frame.cause);
        }
        account.unsaid += u64::try_from(refused.len()).unwrap_or(u64::MAX);
        let now = Instant::now();
        if account.said.is_some_and(|at| now - at < SAY_AGAIN) {
            return;
        }
        account.said = Some(now);
        let n = std::mem::take(&mut account.unsaid);
        tracing::warn!(
            "{n} frame{} of agent `{agent}` cannot be used; {} of the same body stored; the first: {} (said every {} s at most)",
            if n == 1 { "" } else { "s" },
            match ack.stored {
                1 => "1 block is".to_owned(),
                n => format!("{n} blocks are"),
            },
            first.error,
            SAY_AGAIN.as_secs()
        );
    }

    /// Whether the agent may cause one more note that it was heard of.
    pub(in crate::serve) fn may_note(&self, agent: &AgentName) -> bool {
        let mut accounts = self.accounts();
        let account = account(&mut accounts, agent);
        let now = Instant::now();
        let before = account.noted_at.max(now);
        if before - now > NOTE * (NOTES - 1) {
            account.taken.too_much += 1;
            return false;
        }
        account.noted_at = before + NOTE;
        true
    }

    /// Returns what was taken of an agent.
    pub(in crate::serve) fn taken(&self, agent: &str) -> TakenBody {
        let accounts = self.accounts();
        let known = accounts.iter().find(|(name, _)| name.as_str() == agent);
        known.map(|(_, account)| account.taken).unwrap_or_default()
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<AgentName, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn account<'a>(
    accounts: &'a mut BTreeMap<AgentName, Account>,
    agent: &AgentName,
) -> &'a mut Account {
    accounts.entry(agent.clone()).or_insert_with(|| {
        let now = Instant::now();
        Account {
            paid_at: now,
            noted_at: now,
            taken: TakenBody::default(),
            said: None,
            unsaid: 0,
        }
    })
}

/// Returns the error for an agent that exceeds its limit.
pub(in crate::serve) fn too_much(agent: &AgentName) -> Failure {
    Failure::new(
        ErrorCode::Busy,
        format!("agent `{agent}` asks for more than one agent may"),
        "wait some seconds and ask again; nothing was taken",
    )
}

#[cfg(test)]
mod tests;
