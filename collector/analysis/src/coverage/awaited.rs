//! Whose records are in, and whose are still to come.
//!
//! An agent keeps records in a block until it closes it, and delivers blocks in order. What
//! it recorded of a session before it closed a block of that session and kind is in with
//! that block; what it recorded [`HELD`] before it closed any other block is in, too. A
//! probe is recorded at the latest when its timeout is over.

use super::Stretch;
use crate::align::Session;
use crate::findings::{Awaited, SessionEnd};
use crate::input::{End, Input};
use crate::schema::Utc;
use hopgap_proto::plan::Destination;
use hopgap_proto::record::EventKind;
use hopgap_proto::time::{Span, Wall};

/// An agent closes a block that is this old (10 s by default, and some slack).
const HELD: Span = Span::from_secs(12);

/// What arrives at all nearly always arrives within this time.
const ARRIVES_WITHIN: Span = Span::from_secs(1);

/// From the time that a block is closed at its latest until it is here.
const DELIVERED_WITHIN: Span = Span::from_secs(12);

/// An agent that was heard of so lately delivers, as far as is known.
const LATELY: Span = Span::from_secs(45);

/// An agent that ends delivers its last records for so long.
const STOPPING: Span = Span::from_secs(30);

/// An agent whose last sign is older than this before the question was not there.
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
    /// It ended in order then, by its own clock, and that is the last of its records.
    stopped: Option<Wall>,
    /// All of its records are here, as far as is known; a foreign reflector makes none.
    is_in: bool,
    known: Option<End>,
    /// Records are wanted up to here.
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

/// When the reflector ended in order, where nothing was heard of it later.
fn reflector_stopped(session: &Session<'_>) -> Option<Wall> {
    let stopped = session.log.events.iter();
    let stopped = stopped.filter(|e| e.kind == EventKind::ReflectorStopped);
    let stopped = stopped.map(|e| e.at).max()?;
    let (_, last) = session.log.heard?;
    // Both are on the log's own clock; others compare it with the reference.
    (stopped + ARRIVES_WITHIN >= last).then(|| session.log.shown(stopped))
}

impl EndState {
    /// Whether it ended in order: an agent that is heard of afterwards began anew.
    pub(super) fn has_stopped(&self) -> bool {
        let heard = self.known.as_ref().and_then(|k| k.heard);
        self.stopped
            .is_some_and(|at| heard.is_none_or(|heard| heard - at <= STOPPING))
    }

    /// Whether all of its records that concern the question are here, as far as is known.
    pub(super) fn is_in(&self) -> bool {
        self.is_in
    }

    /// Whether records are still to come: it was there, and is not known to have ended.
    pub(super) fn is_awaited(&self) -> bool {
        if self.has_stopped() || self.is_in() {
            return false;
        }
        let Some(known) = &self.known else {
            // Nobody says how far its records are in: they end, and that is all.
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
