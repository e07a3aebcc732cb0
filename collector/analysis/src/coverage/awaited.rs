//! Finds whose records have arrived and whose are still to come.
//!
//! An agent keeps records in a block until it closes it, and delivers blocks in order. When a
//! block of a session and kind arrives, all earlier records of that session and kind have
//! arrived. When any other block arrives, so have all records made [`HELD`] before it was closed.
//! A probe is recorded when its timeout is over, at the latest.

use super::Stretch;
use crate::align::Session;
use crate::findings::{Awaited, SessionEnd};
use crate::input::{End, Input};
use crate::schema::Utc;
use hopgap_proto::plan::Destination;
use hopgap_proto::record::EventKind;
use hopgap_proto::time::{Span, Wall};

/// Age at which an agent closes a block (10 s by default, plus some slack).
const HELD: Span = Span::from_secs(12);

/// A packet that arrives at all nearly always arrives within this time.
const ARRIVES_WITHIN: Span = Span::from_secs(1);

/// Longest expected time from closing a block to its arrival.
const DELIVERED_WITHIN: Span = Span::from_secs(12);

/// An agent last heard of within this time is taken to be delivering.
const LATELY: Span = Span::from_secs(45);

/// How long an ending agent delivers its last records.
const STOPPING: Span = Span::from_secs(30);

/// An agent whose last sign is this long before the question was not there.
const BESIDE: Span = Span::from_secs(120);

/// Both ends of a session.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(super) sender: EndState,
    pub(super) reflector: EndState,
}

/// What is known of the records of one end.
#[derive(Debug)]
pub(super) struct EndState {
    pub(super) agent: String,
    session: String,
    end: SessionEnd,
    /// When it ended in order, by its own clock, if that is the last of its records.
    stopped: Option<Wall>,
    /// Whether all of its records have arrived, as far as is known; a foreign reflector makes
    /// none.
    is_in: bool,
    known: Option<End>,
    /// Records are needed up to here.
    wanted: Wall,
    question: Stretch,
    asked_at: Option<Wall>,
}

impl Ends {
    pub(super) fn of(input: &Input, session: &Session<'_>, question: Stretch) -> Self {
        let state = |end, agent, stopped, records: bool| {
            let mut known = input.ends.iter();
            let known = known.find(|e| e.session == session.plan.name && e.end == end);
            EndState {
                is_in: !records || known.is_some_and(|k| k.is_in(&input.plan, question.1)),
                wanted: known.map_or(question.1, |k| k.wanted(&input.plan, question.1)),
                known: known.cloned(),
                session: session.plan.name.to_string(),
                agent,
                end,
                stopped,
                question,
                asked_at: input.asked_at,
            }
        };
        Self {
            sender: state(
                SessionEnd::Sender,
                session.plan.from.to_string(),
                sender_stopped(session),
                true,
            ),
            reflector: state(
                SessionEnd::Reflector,
                session.to_name(),
                reflector_stopped(session),
                matches!(session.plan.to, Destination::Agent(_)),
            ),
        }
    }

    pub(super) fn of_end(&self, end: SessionEnd) -> &EndState {
        match end {
            SessionEnd::Sender => &self.sender,
            SessionEnd::Reflector => &self.reflector,
        }
    }
}

/// When the last run of the session was stopped in order.
fn sender_stopped(session: &Session<'_>) -> Option<Wall> {
    let last = session.runs.last()?;
    Some(last.timeline.utc(last.stopped?))
}

/// When the reflector ended in order, if nothing was heard of it later.
fn reflector_stopped(session: &Session<'_>) -> Option<Wall> {
    let stopped = session.log.events.iter();
    let stopped = stopped.filter(|e| e.kind == EventKind::ReflectorStopped);
    let stopped = stopped.map(|e| e.at).max()?;
    let (_, last) = session.log.heard?;
    // Both are on the log's own clock; callers compare the result with the reference.
    (stopped + ARRIVES_WITHIN >= last).then(|| session.log.shown(stopped))
}

impl EndState {
    /// Whether it ended in order. An agent heard of afterwards has started again.
    pub(super) fn has_stopped(&self) -> bool {
        let heard = self.known.as_ref().and_then(|k| k.heard);
        self.stopped
            .is_some_and(|at| heard.is_none_or(|heard| heard - at <= STOPPING))
    }

    /// Whether all of its records for the question have arrived, as far as is known.
    pub(super) fn is_in(&self) -> bool {
        self.is_in
    }

    /// Whether records are still to come: the agent was there and is not known to have ended.
    pub(super) fn is_awaited(&self) -> bool {
        if self.has_stopped() || self.is_in() {
            return false;
        }
        let Some(known) = &self.known else {
            // It is not known how far its records have arrived.
            return true;
        };
        let last = known.until.max(known.heard);
        last.is_some_and(|last| last >= self.question.0 - BESIDE)
    }

    fn awaited(&self) -> Option<Awaited> {
        let known = self.known.as_ref().filter(|_| self.is_awaited())?;
        let due = self.wanted + HELD + DELIVERED_WITHIN;
        let lately = known
            .heard
            .zip(self.asked_at)
            .is_some_and(|(heard, now)| now - heard <= LATELY && now <= due);
        Some(Awaited {
            agent: self.agent.clone(),
            session: self.session.clone(),
            end: self.end,
            until: known.until.map(Utc),
            expected: lately.then_some(Utc(due)),
            heard: known.heard.map(Utc),
        })
    }
}

/// All records that are still to come, in the plan's order of sessions.
pub(super) fn all(ends: &[Ends]) -> Vec<Awaited> {
    ends.iter()
        .flat_map(|e| [&e.sender, &e.reflector])
        .filter_map(EndState::awaited)
        .collect()
}
