//! Why a stretch was not seen.

use super::flow::{Point, Tells};
use super::{Ends, Stretch};
use crate::align::{Beyond, Coverage, FlowRun, Placed, Run, Sample, Session, Stall};
use crate::findings::{Missing, MissingCause, SessionEnd};
use crate::input::Input;
use crate::loss::Fate;
use crate::schema::{Nanos, Utc};
use crate::stretches::Stretches;
use hopgap_proto::record::{AgentName, Event, EventKind};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// A cause that is cheap to copy; shown as [`MissingCause`], with the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause<'a> {
    SendsRefused(&'a str, i32),
    HostStalled(&'a str),
    RecordsLost(&'a str),
    Clock(&'a str),
    AgentNotRunning(&'a str),
    NotDelivered(&'a str),
    AgentNotHeard(&'a str),
    NotAnswered(&'a str),
    LostOnTheWayOut,
    HeldOnTheWayOut,
}

impl Cause<'_> {
    fn shown(self) -> MissingCause {
        let agent = |name: &str| name.to_owned();
        match self {
            Self::SendsRefused(name, errno) => MissingCause::SendsRefused {
                agent: agent(name),
                errno,
            },
            Self::HostStalled(name) => MissingCause::HostStalled { agent: agent(name) },
            Self::RecordsLost(name) => MissingCause::RecordsLost { agent: agent(name) },
            Self::Clock(name) => MissingCause::Clock { agent: agent(name) },
            Self::AgentNotRunning(name) => MissingCause::AgentNotRunning { agent: agent(name) },
            Self::NotDelivered(name) => MissingCause::NotDelivered { agent: agent(name) },
            Self::AgentNotHeard(name) => MissingCause::AgentNotHeard { agent: agent(name) },
            Self::NotAnswered(name) => MissingCause::NotAnswered { agent: agent(name) },
            Self::LostOnTheWayOut => MissingCause::LostOnTheWayOut,
            Self::HeldOnTheWayOut => MissingCause::HeldOnTheWayOut,
        }
    }
}

/// A stretch in which a flow tells nothing of a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blind<'a> {
    pub(super) from: Wall,
    pub(super) to: Wall,
    pub(super) cause: Cause<'a>,
}

/// When agents lost records, by their own account.
#[derive(Debug, Default)]
pub(super) struct LostRecords(BTreeMap<String, Stretches<Wall>>);

impl LostRecords {
    /// Collects losses from all events, as losses are reported after the fact.
    pub(super) fn of(input: &Input, placed: &Placed) -> Self {
        let mut lost = BTreeMap::new();
        for session in &input.sessions {
            for run in &session.sender {
                take_lost(&mut lost, placed, &run.agent, &run.events);
            }
            for run in &session.reflector {
                take_lost(&mut lost, placed, &run.agent, &run.events);
            }
        }
        let lost = lost.into_iter();
        Self(lost.map(|(name, all)| (name, Stretches::of(all))).collect())
    }

    fn overlap(&self, agent: &str, (from, to): Stretch) -> bool {
        self.0.get(agent).is_some_and(|of| of.overlap(from, to))
    }
}

fn take_lost(
    lost: &mut BTreeMap<String, Vec<Stretch>>,
    placed: &Placed,
    agent: &AgentName,
    events: &[Event],
) {
    for event in events {
        if let EventKind::BlocksLost { from, to, .. } = event.kind {
            let (begin, to) = placed.on_reference(agent, (from.unwrap_or(to), to));
            // The beginning may be unknown.
            let from = from.map_or(Wall::MIN, |_| begin);
            lost.entry(agent.to_string()).or_default().push((from, to));
        }
    }
}

/// What is needed to find the causes of one session.
pub(super) struct Causes<'a, 's> {
    pub(super) session: &'a Session<'s>,
    pub(super) question: Stretch,
    ends: &'a Ends,
    lost: &'a LostRecords,
}

impl<'a, 's> Causes<'a, 's> {
    pub(super) fn new(
        session: &'a Session<'s>,
        ends: &'a Ends,
        lost: &'a LostRecords,
        question: Stretch,
    ) -> Self {
        Self {
            session,
            question,
            ends,
            lost,
        }
    }

    fn sender(&self) -> &'a str {
        self.ends.sender.agent.as_str()
    }

    fn reflector(&self) -> &'a str {
        self.ends.reflector.agent.as_str()
    }

    /// Cause of sends that the kernel refused.
    pub(super) fn refused(&self, errno: i32) -> Cause<'a> {
        Cause::SendsRefused(self.sender(), errno)
    }

    /// Cause of a probe that left but tells nothing of the direction.
    pub(super) fn of_probe(
        &self,
        index: usize,
        run: &Run,
        sample: &Sample,
        tells: Tells,
    ) -> Cause<'a> {
        match sample.fate {
            Fate::Pending => Cause::NotDelivered(self.sender()),
            Fate::NoData => self.unheard(index, run, sample),
            // Whatever became of the probe, nothing left a host that stood still.
            _ if tells == Tells::Reverse && self.stall_at(index, run, sample).is_some() => {
                Cause::HostStalled(self.reflector())
            }
            Fate::Dropped => Cause::NotAnswered(self.reflector()),
            Fate::Answered
            | Fate::Late
            | Fate::LostForward
            | Fate::LostReverse
            | Fate::LostUnknown => Cause::LostOnTheWayOut,
        }
    }

    /// Cause of a reply that left long after its probe was sent: it tells of that instant only.
    pub(super) fn late(&self, stayed: bool) -> Cause<'a> {
        if stayed {
            Cause::HostStalled(self.reflector())
        } else {
            Cause::HeldOnTheWayOut
        }
    }

    /// Returns the stall of the reflecting host in which a probe arrived or was expected.
    fn stall_at(&self, index: usize, run: &Run, sample: &Sample) -> Option<(Wall, &Stall)> {
        let log = &self.session.log;
        let at = log.expected(index, &run.timeline, sample.sent);
        Some((at, log.stalls.at(at)?))
    }

    /// How long a stall held a reply whose departure is not on record.
    pub(super) fn held(&self, index: usize, run: &Run, sample: &Sample) -> Span {
        let stall = self.stall_at(index, run, sample);
        stall.map_or(Span::ZERO, |(at, stall)| stall.to - at)
    }

    /// Cause of a probe whose fate is unknown because its reflector did not report it.
    fn unheard(&self, index: usize, run: &Run, sample: &Sample) -> Cause<'a> {
        let log = &self.session.log;
        let at = log.expected(index, &run.timeline, sample.sent);
        // The host stood still, or answered only when nobody waited any more.
        if log.stalls.at(at).is_some() || sample.departed.is_some() {
            return Cause::HostStalled(self.reflector());
        }
        match log.coverage(at) {
            Coverage::Unheard(Beyond::First) => Cause::AgentNotHeard(self.reflector()),
            Coverage::Unheard(Beyond::Last) => self.silent(SessionEnd::Reflector),
            Coverage::NotRunning => Cause::AgentNotRunning(self.reflector()),
            // The remaining replies were dropped by the sender's own host.
            _ => Cause::HostStalled(self.sender()),
        }
    }

    /// Cause of the time after the last sign of one end.
    fn silent(&self, end: SessionEnd) -> Cause<'a> {
        let end = self.ends.of_end(end);
        let agent = end.agent.as_str();
        if end.has_stopped() || end.is_in() {
            Cause::AgentNotRunning(agent)
        } else if end.is_awaited() {
            Cause::NotDelivered(agent)
        } else {
            Cause::AgentNotHeard(agent)
        }
    }

    /// Cause of the time before the first point of a flow.
    pub(super) fn before(&self, run: &Run) -> Cause<'a> {
        let agent = self.sender();
        let at = run.started.map(|at| run.timeline.utc(at));
        if at.is_some_and(|at| at > self.question.0) {
            Cause::AgentNotRunning(agent)
        } else if self.lost.overlap(agent, self.question) {
            Cause::RecordsLost(agent)
        } else {
            Cause::AgentNotHeard(agent)
        }
    }

    /// Cause of the time between two neighbouring points of a flow.
    pub(super) fn between(&self, a: &Point<'a>, b: &Point<'a>, records: &FlowRun) -> Cause<'a> {
        let agent = self.sender();
        if a.run != b.run {
            return if self.lost.overlap(agent, (a.at, b.at)) {
                Cause::RecordsLost(agent)
            } else {
                Cause::AgentNotRunning(agent)
            };
        }
        if let (None, Some(cause), None) = (a.order, b.cause, b.order) {
            return cause;
        }
        // Numbers without a record: the probes were sent but the records were lost.
        let numbers = a.order.zip(b.order).map_or(0, |(a, b)| b.saturating_sub(a));
        let interval = self.session.plan.interval.as_nanos().max(1);
        let slots = (b.sent - a.sent).as_nanos() / interval;
        let skipped = records.skipped.iter();
        let skipped = skipped.filter(|(at, _)| a.sent <= *at && *at <= b.sent);
        let skipped: i64 = skipped.map(|(_, n)| i64::from(*n)).sum();
        if numbers > 1 && numbers.saturating_mul(2) > slots.saturating_sub(skipped) {
            Cause::RecordsLost(agent)
        } else {
            Cause::HostStalled(agent)
        }
    }

    /// Cause of the time after the last point of a flow.
    pub(super) fn after(&self, last: &Point<'a>) -> Cause<'a> {
        let run = self.session.runs.get(last.run);
        let stopped = run
            .and_then(|r| r.stopped)
            .is_some_and(|at| at >= last.sent);
        if stopped {
            Cause::AgentNotRunning(self.sender())
        } else if self.lost.overlap(self.sender(), (last.at, self.question.1)) {
            Cause::RecordsLost(self.sender())
        } else {
            self.silent(SessionEnd::Sender)
        }
    }

    /// Cause for a flow without any point.
    pub(super) fn never(&self, flow: u8) -> Cause<'a> {
        let agent = self.sender();
        let runs = &self.session.runs;
        let others = runs.iter().flat_map(|r| &r.flows);
        if runs.iter().any(|r| !r.timeline.is_known()) {
            Cause::Clock(agent)
        } else if others
            .into_iter()
            .any(|(other, f)| *other != flow && !f.samples.is_empty())
        {
            Cause::AgentNotRunning(agent)
        } else if self.lost.overlap(agent, self.question) {
            Cause::RecordsLost(agent)
        } else {
            self.silent(SessionEnd::Sender)
        }
    }
}

/// Returns the gaps with their causes, cut where the cause changes.
pub(super) fn told<'a>(gaps: &[Stretch], blind: Vec<Blind<'a>>, grain: Span) -> Vec<Missing> {
    // Edges of the blind stretches, in the order of time: at each, a cause begins or ends.
    let mut edges: Vec<(Wall, bool, Cause<'a>)> = Vec::with_capacity(blind.len() * 2);
    for piece in &blind {
        edges.push((piece.from, true, piece.cause));
        edges.push((piece.to, false, piece.cause));
    }
    edges.sort_unstable();
    let mut edges = edges.into_iter().peekable();
    let mut open: BTreeMap<Cause<'a>, u64> = BTreeMap::new();
    let mut missing = Vec::new();
    for &(from, to) in gaps {
        let mut parts: Vec<Blind<'a>> = Vec::new();
        let mut at = from;
        let mut part = |from: Wall, to: Wall, open: &BTreeMap<Cause<'a>, u64>| {
            if let Some(cause) = open.keys().next() {
                push(&mut parts, from, to, *cause, grain);
            }
        };
        while let Some((edge, begins, cause)) = edges.next_if(|(edge, ..)| *edge < to) {
            if edge > at {
                part(at, edge, &open);
                at = edge;
            }
            if begins {
                *open.entry(cause).or_default() += 1;
            } else if let Some(n) = open.get_mut(&cause) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    open.remove(&cause);
                }
            }
        }
        part(at, to, &open);
        missing.extend(parts.into_iter().map(|p| Missing {
            from: Utc(p.from),
            to: Utc(p.to),
            lasted_ns: Nanos(p.to - p.from),
            cause: p.cause.shown(),
        }));
    }
    missing
}

/// Adds a part. A part shorter than the grain, or with the same cause, extends the one before.
fn push<'a>(parts: &mut Vec<Blind<'a>>, from: Wall, to: Wall, cause: Cause<'a>, grain: Span) {
    if from >= to {
        return;
    }
    match parts.last_mut() {
        Some(last) if last.cause == cause || to - from <= grain => last.to = to,
        Some(last) if last.to - last.from <= grain => {
            last.to = to;
            last.cause = cause;
        }
        _ => parts.push(Blind { from, to, cause }),
    }
}
