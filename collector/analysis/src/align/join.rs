//! Joins the reflector's log to the sender's account.
//!
//! Sequence numbers restart with each run of the sender, so a reception belongs to the probe of
//! its flow and number whose *expected* arrival is nearest. The expected arrival comes from the
//! reflector's wall clock in replies to other probes sent close by. Only a run without any reply
//! is placed by the two hosts' wall clocks, with a wider tolerance. The reflector's wall clock is
//! used without its steps throughout ([`Steady`]).
//!
//! A probe that is not in the log counts as lost on the way out only where the log is known to
//! exist: between the first and last evidence of the reflector's run. Blocks of receptions are
//! shipped when full, so after the last reception the log counts as complete only up to
//! [`UNSHIPPED`] before the agent's last clock reading.

use super::heard::SignsOfLife;
use super::steady::Steady;
use super::{Logged, Run, Sample, Stalls, Timeline, clocks, merged};
use crate::input::ReflectorRun;
use crate::stretches::Stretches;
use hopgap_proto::record::{
    AgentName, DropReason, Event, EventKind, Reception, RunId, Stamp, StampSource,
};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Longest time an agent holds a block of receptions before it ships it (10 s by default, plus
/// some slack).
const UNSHIPPED: Span = Span::from_secs(12);

/// How far a reception may be from its probe's expected arrival; beyond that it belongs to
/// another run. It may be as late as a queue can delay it, but not early: a probe of a killed run
/// whose records are lost must not be taken for one of the next run.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    early: Span,
    late: Span,
}

const TOLERANCE: Tolerance = Tolerance {
    early: Span::from_secs(1),
    late: Span::from_secs(10),
};

/// Tolerance for lateness if the reflecting program stamped the arrival: includes how long the
/// program stood still before it read the packet.
const LATE_PROGRAM: Span = Span::from_secs(3_600);

/// The tolerance if only the two hosts' wall clocks place a run.
const TOLERANCE_BY_WALL_CLOCKS: Tolerance = Tolerance {
    early: Span::from_secs(60),
    late: Span::from_secs(60),
};

impl Tolerance {
    fn admits(self, late_by: Span, source: StampSource) -> bool {
        let late = match source {
            StampSource::User => self.late.max(LATE_PROGRAM),
            StampSource::Kernel | StampSource::Hardware => self.late,
        };
        -self.early <= late_by && late_by <= late
    }
}

/// A reflector reports what it dropped once a second; it may wake late.
const REPORTED_WITHIN: Span = Span::from_millis(1_500);

/// How well an expected arrival is known while the path stays the same.
const NEAR: Span = Span::from_millis(20);

/// Longest time that a reflector still answers after the end that it records.
const ENDS_WITHIN: Span = Span::from_millis(200);

/// Least time between two replies used to date the other probes of a flow.
const ANCHOR_EVERY: Span = Span::from_millis(100);

/// What the reflector's log says of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// The log exists: a probe that is not in it did not arrive.
    Covered,
    /// The reflecting agent did not run.
    NotRunning,
    /// Before the first sign of the reflecting agent or after the last one: it did not
    /// run, or its records are still on their way.
    Unheard(Beyond),
    /// Nothing is known.
    Unknown,
}

/// Which end of the time between the agent's first and last sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Before the first sign of it.
    First,
    /// After the last sign of it.
    Last,
}

/// The reflector's log: what it recorded, and when it exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReflectorLog {
    /// Whether any run of the reflector is known.
    pub(crate) present: bool,
    /// Stretches of the reflector's wall clock in which its log exists.
    covered: Stretches<Wall>,
    /// Stretches in which records were lost.
    holes: Stretches<Wall>,
    /// The first and the last sign of the reflecting agent, on its wall clock.
    pub(crate) heard: Option<(Wall, Wall)>,
    /// Stretches between two runs of the agent, and after a run that ended in order.
    not_running: Stretches<Wall>,
    /// When probes arrived that belong to no probe on record, on its wall clock.
    pub(crate) strays: Vec<Wall>,
    /// What the reflector's events say.
    pub(crate) events: Vec<LogEvent>,
    /// When it held back how many packets, logged or not, for any reason.
    pub(crate) held_back: Vec<HeldBack>,
    /// Addresses, other than the plan's, that its packets came from.
    pub(crate) translated: Vec<Translated>,
    /// Steps of the reflector's wall clock: time before the step, and size.
    pub(crate) steps: Vec<(Wall, Span)>,
    /// When the reflecting host stood still.
    pub(crate) stalls: Stalls,
    /// The reflecting processes by the number in [`Sample::reflected`], each with its clocks.
    pub(crate) runs: Vec<(AgentName, RunId, Timeline)>,
    /// For each reflecting process its first evidence and its monotonic zero, both on the wall
    /// clock without steps, and its number.
    begun: Vec<(Wall, Wall, u32)>,
    /// For each sender run, how its clock relates to the reflector's wall clock.
    anchors: Vec<Anchors>,
}

/// A stretch in which packets of the session came from a translated address, on the
/// reflector's wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translated {
    pub(crate) address: IpAddr,
    pub(crate) first: Wall,
    pub(crate) last: Wall,
    pub(crate) packets: u32,
}

/// An event of the reflecting agent, on its wall clock.
#[derive(Clone, Debug)]
pub(crate) struct LogEvent {
    /// When the event's stretch began.
    pub(crate) since: Wall,
    /// When the event was recorded, or when its stretch ended.
    pub(crate) at: Wall,
    /// What happened.
    pub(crate) kind: EventKind,
}

/// A stretch in which the reflecting host held probes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldBack {
    /// From and to, on the reflector's wall clock.
    pub(crate) span: (Wall, Wall),
    /// How many.
    pub(crate) count: u64,
    /// Whose packets they were.
    pub(crate) whose: PacketOwner,
}

/// Whose packets were held back, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketOwner {
    /// The session's.
    Its,
    /// They came from the session's host, but lack the proof. They are the session's, if the two
    /// agents' keys differ or something on the way changes its packets; or else somebody else's.
    Perhaps,
}

impl PacketOwner {
    /// `None` where each is on record by itself, and for those of strangers.
    fn of(reason: DropReason) -> Option<Self> {
        match reason {
            DropReason::RateLimited => Some(Self::Its),
            DropReason::Malformed
            | DropReason::Unauthenticated
            | DropReason::Unprovisioned
            | DropReason::LoopGuard
            | DropReason::Replayed => Some(Self::Perhaps),
            DropReason::SendRefused | DropReason::Stranger => None,
        }
    }
}

/// When the reflecting agent's log exists, has holes, or the agent did not run.
#[derive(Debug, Default)]
struct LogStretches {
    covered: Vec<(Wall, Wall)>,
    holes: Vec<(Wall, Wall)>,
    not_running: Vec<(Wall, Wall)>,
}

/// What one run of the reflecting agent recorded.
struct Reflector<'a, 'p> {
    agent: &'a AgentName,
    run: RunId,
    parts: &'p [&'p ReflectorRun],
    events: Vec<Event>,
    timeline: Timeline,
}

impl<'a, 'p> Reflector<'a, 'p> {
    fn of(run: RunId, agent: &'a AgentName, parts: &'p [&'p ReflectorRun]) -> Self {
        let events = merged(parts.iter().flat_map(|p| &p.events));
        let clocks = clocks(parts.iter().flat_map(|p| &p.clocks), &events);
        Self {
            agent,
            run,
            parts,
            timeline: Timeline::new(clocks, &events),
            events,
        }
    }
}

/// One arrival: the sequence number, time on the wall clock and TTL; the number of the reply, if
/// any; the reflector's run and the time on its monotonic clock; when the reply left, or why it
/// was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    seq: u32,
    at: Wall,
    ttl: Option<u8>,
    number: Option<u32>,
    logged: (u32, Mono),
    source: StampSource,
    departed: Option<Stamp>,
    refused: Option<i32>,
}

impl ReflectorLog {
    /// Joins the reflector's runs to the sender's and notes what the log covers.
    pub(super) fn join<'a>(
        runs: &mut [Run],
        reflectors: &BTreeMap<(RunId, &'a AgentName), Vec<&ReflectorRun>>,
        heard: &SignsOfLife<'a>,
    ) -> Self {
        let reflectors: Vec<Reflector<'a, '_>> = reflectors
            .iter()
            .map(|((run, agent), parts)| Reflector::of(*run, agent, parts))
            .collect();
        let steady = Steady::of(reflectors.iter().map(|r| (r.agent, &r.timeline)));
        for run in &mut *runs {
            steady.correct(run);
        }
        let mut log = Self {
            anchors: runs.iter().map(Anchors::of).collect(),
            runs: reflectors
                .iter()
                .map(|r| (r.agent.clone(), r.run, r.timeline.clone()))
                .collect(),
            ..Self::default()
        };
        let mut arrivals: BTreeMap<u8, Vec<Arrival>> = BTreeMap::new();
        let mut previous_end: BTreeMap<&AgentName, Wall> = BTreeMap::new();
        let mut known = LogStretches::default();
        for (number, reflector) in reflectors.iter().enumerate() {
            let at = |at: Mono| steady.at(number, &reflector.timeline, at);
            if let Some((begin, end)) =
                log.add_run(number, reflector, at, &mut arrivals, &mut known)
            {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                log.begun.push((begin, at(Mono::ZERO), number));
                let before = previous_end.entry(reflector.agent).or_insert(end);
                if *before < begin {
                    known.not_running.push((*before, begin));
                }
                *before = (*before).max(end);
                log.hear(begin, end);
            }
        }
        log.covered = Stretches::of(known.covered);
        log.holes = Stretches::of(known.holes);
        log.not_running = Stretches::of(known.not_running);
        let samples = runs.iter().flat_map(|r| r.flows.values());
        for s in samples.flat_map(|f| &f.samples).filter(|s| s.replied) {
            log.hear(s.arrival, s.arrival);
            log.stalls.add(s.arrival, s.arrival + s.stayed);
        }
        if let (false, Some((_, last))) = (log.present, &mut log.heard) {
            // Without any records of the agent, its last sign is unknown.
            *last = Wall::MAX;
        }
        for (flow, arrivals) in &mut arrivals {
            arrivals.sort_unstable();
            let strays = assign(*flow, arrivals, runs, &log.anchors);
            log.strays.extend(strays);
        }
        if !log.stalls.is_empty() {
            let logged = arrivals.values().flatten().map(|a| a.at);
            let samples = runs.iter().flat_map(|r| r.flows.values());
            let replied = samples.flat_map(|f| &f.samples).filter(|s| s.replied);
            let mut heard_at: Vec<Wall> = logged.chain(replied.map(|s| s.arrival)).collect();
            let mut left_at: Vec<Wall> = Vec::new();
            for (number, reflector) in reflectors.iter().enumerate() {
                let at = |at: &Mono| steady.at(number, &reflector.timeline, *at);
                if let Some(signs) = heard.by(reflector.run, reflector.agent) {
                    heard_at.extend(signs.arrived.iter().map(at));
                    left_at.extend(signs.left.iter().map(at));
                }
            }
            heard_at.sort_unstable();
            left_at.sort_unstable();
            log.stalls.settle(&heard_at, &left_at);
        }
        log
    }

    fn hear(&mut self, first: Wall, last: Wall) {
        let (from, to) = self.heard.unwrap_or((first, last));
        self.heard = Some((from.min(first), to.max(last)));
    }

    /// Adds one run of the reflector and returns its first and last evidence. `utc` dates its
    /// records.
    fn add_run(
        &mut self,
        number: usize,
        reflector: &Reflector<'_, '_>,
        utc: impl Fn(Mono) -> Wall,
        arrivals: &mut BTreeMap<u8, Vec<Arrival>>,
        known: &mut LogStretches,
    ) -> Option<(Wall, Wall)> {
        let Reflector {
            parts,
            events,
            timeline,
            ..
        } = reflector;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.present = true;
        let (first_reading, last_reading) = (timeline.first_reading()?, timeline.last_reading()?);

        let mut receptions: Vec<&Reception> = parts.iter().flat_map(|p| &p.receptions).collect();
        receptions.sort_by_key(|r| (r.flow, r.received.at, r.seq));
        receptions.dedup();
        let mut begin = first_reading;
        let mut last_reception = None;
        for r in receptions {
            begin = begin.min(r.received.at);
            last_reception = last_reception.max(Some(r.received.at));
            arrivals.entry(r.flow.0).or_default().push(Arrival {
                seq: r.seq.0,
                at: utc(r.received.at),
                ttl: r.ttl,
                number: r.reflector_seq.map(|seq| seq.0),
                logged: (number, r.received.at),
                source: r.received.source,
                departed: r.departed,
                refused: r.refused,
            });
            if let Some(left) = r.departed {
                self.stalls.add(utc(r.received.at), utc(left.at));
            }
        }
        let mut last = last_reading.max(last_reception.unwrap_or(Mono::MIN));
        let mut complete = (last_reading - UNSHIPPED).max(last_reception.unwrap_or(Mono::MIN));
        let mut stopped = None;
        for event in events {
            begin = begin.min(event.at);
            last = last.max(event.at);
            let at = utc(event.at);
            match event.kind {
                EventKind::SessionStopped | EventKind::ReflectorStopped => {
                    complete = complete.max(event.at);
                    stopped = stopped.max(Some(event.at));
                }
                EventKind::RecordsLost { blocks } => {
                    let reach = UNSHIPPED * i64::from(blocks).saturating_add(1);
                    known.holes.push((at - reach, at + UNSHIPPED));
                }
                // Each block held what came up to `UNSHIPPED` before it was closed.
                EventKind::BlocksLost { from, to, .. } => {
                    // These are wall-clock times: correct them by the clock's error when this was
                    // recorded.
                    let behind = at - timeline.wall(event.at);
                    let from = from.map_or(Wall::MIN, |from| from + behind - UNSHIPPED);
                    known.holes.push((from, to + behind));
                }
                EventKind::ReflectorDropped { reason, count } => {
                    self.held_back
                        .extend(PacketOwner::of(reason).map(|whose| HeldBack {
                            span: (at - REPORTED_WITHIN, at),
                            count: u64::from(count),
                            whose,
                        }));
                }
                EventKind::ReceiveOverflow {
                    flow: None,
                    since,
                    count,
                } => self.held_back.push(HeldBack {
                    span: (utc(since) - NEAR, at + NEAR),
                    count: u64::from(count),
                    whose: PacketOwner::Its,
                }),
                EventKind::Stalled { since } => self.stalls.add(utc(since), at),
                EventKind::Suspended { since, .. } => self.stalls.add_sleep(utc(since), at),
                EventKind::AddressTranslated {
                    address,
                    since,
                    count,
                } => self.translated.push(Translated {
                    address,
                    first: utc(since),
                    last: at,
                    packets: count,
                }),
                _ => {}
            }
            let (since, at) = match event.kind {
                EventKind::ReceiveOverflow { since, .. } => (utc(since), at),
                EventKind::ReflectorDropped { .. } => (at - REPORTED_WITHIN, at),
                EventKind::BlocksLost { from, to, .. } => {
                    let behind = at - timeline.wall(event.at);
                    (from.map_or(Wall::MIN, |from| from + behind), to + behind)
                }
                EventKind::RecordsLost { .. } => (at - UNSHIPPED, at),
                _ => (at, at),
            };
            self.events.push(LogEvent {
                since,
                at,
                kind: event.kind.clone(),
            });
        }
        self.steps
            .extend(timeline.steps().map(|(at, by)| (timeline.utc(at), by)));
        let (begin, last) = (utc(begin), utc(last));
        known.covered.push((begin, utc(complete)));
        // The run ended in order, and its agent gave a last sign after it. Under a flood it still
        // answers for a moment after the recorded end.
        if stopped.is_some_and(|at| complete - at <= ENDS_WITHIN) {
            known.not_running.push((utc(complete), last));
        }
        Some((begin, last))
    }

    /// When a probe of sender run `run` was expected at the reflector, on its wall clock.
    pub(crate) fn expected(&self, run: usize, timeline: &Timeline, sent: Mono) -> Wall {
        self.anchors
            .get(run)
            .map_or_else(|| timeline.utc(sent), |a| a.expected(timeline, sent).0)
    }

    /// Converts an instant of this log for display, by the clock of the process that ran then:
    /// the reference clock, if the process was placed on it.
    pub(crate) fn shown(&self, at: Wall) -> Wall {
        let before = self.begun.iter().filter(|(begin, ..)| *begin <= at).max();
        let Some((_, zero, number)) = before.or(self.begun.iter().min()) else {
            return at;
        };
        let timeline = self.timeline(*number);
        timeline.map_or(at, |timeline| timeline.utc(Mono::ZERO + (at - *zero)))
    }

    /// When the reply to a probe left, on UTC, by the clock of the process that sent it; `None`
    /// if no departure is on record.
    pub(crate) fn left(&self, sample: &Sample) -> Option<Wall> {
        let ((number, _), left) = sample.reflected.zip(sample.departed)?;
        Some(self.timeline(number)?.utc(left.at))
    }

    /// The clocks of the reflecting process with this number; `None` without any reading.
    pub(crate) fn timeline(&self, number: u32) -> Option<&Timeline> {
        let (.., timeline) = self.runs.get(usize::try_from(number).ok()?)?;
        timeline.is_known().then_some(timeline)
    }

    /// Returns the index of the stretch of the log that holds an instant of the reflector's wall
    /// clock. Runs that touch are one stretch.
    pub(crate) fn stretch(&self, at: Wall) -> Option<usize> {
        self.covered.position(at)
    }

    /// The last instant for which the log exists.
    pub(crate) fn end(&self) -> Option<Wall> {
        self.covered.iter().map(|(_, to)| to).max()
    }

    /// Returns the end that `at` lies beyond, or too close to: the agent's first or last sign.
    /// `None` if it is well between the two.
    pub(crate) fn beyond(&self, at: Wall) -> Option<Beyond> {
        let edge = self.edge();
        let Some((first, last)) = self.heard else {
            return Some(Beyond::Last);
        };
        let within = first + edge <= at && at + edge <= last;
        match at - first < last - at {
            _ if within => None,
            true => Some(Beyond::First),
            false => Some(Beyond::Last),
        }
    }

    /// How far an expected arrival may be off; zero without a log.
    fn edge(&self) -> Span {
        if self.present { NEAR } else { Span::ZERO }
    }

    /// Returns what the log says of a probe that is not in it and was expected at `at`, on the
    /// reflector's wall clock. The probe may have come up to [`NEAR`] earlier or later, so its
    /// absence proves nothing near an end of the log or near a stretch without the agent.
    pub(crate) fn coverage(&self, at: Wall) -> Coverage {
        let edge = self.edge();
        if let Some(end) = self.beyond(at) {
            Coverage::Unheard(end)
        } else if self.holes.hold(at) {
            Coverage::Unknown
        } else if self.not_running.may_hold(at, edge) {
            Coverage::NotRunning
        } else if self.covered.surely_hold(at, edge) {
            Coverage::Covered
        } else {
            Coverage::Unknown
        }
    }
}

/// Replies that tell how a sender run's monotonic clock relates to the reflector's
/// wall clock, in the order of sending.
#[derive(Clone, Debug, Default)]
struct Anchors(Vec<(Mono, Wall)>);

impl Anchors {
    fn of(run: &Run) -> Self {
        let mut anchors = Vec::new();
        for flow in run.flows.values() {
            let mut last: Option<Mono> = None;
            for s in flow.samples.iter().filter(|s| s.replied) {
                if last.is_none_or(|last| s.sent - last >= ANCHOR_EVERY) {
                    anchors.push((s.sent, s.arrival));
                    last = Some(s.sent);
                }
            }
        }
        anchors.sort_unstable();
        Self(anchors)
    }

    /// Returns when a probe was expected, and the tolerance of that.
    fn expected(&self, timeline: &Timeline, sent: Mono) -> (Wall, Tolerance) {
        let after = self.0.partition_point(|(at, _)| *at < sent);
        let near = [after.checked_sub(1), Some(after)]
            .into_iter()
            .flatten()
            .filter_map(|i| self.0.get(i))
            .min_by_key(|(at, _)| (*at - sent).abs());
        match near {
            Some((at, arrival)) => (*arrival + (sent - *at), TOLERANCE),
            None => (timeline.utc(sent), TOLERANCE_BY_WALL_CLOCKS),
        }
    }
}

/// Gives each arrival to the nearest probe of its number. Returns when the others arrived.
fn assign(flow: u8, arrivals: &[Arrival], runs: &mut [Run], anchors: &[Anchors]) -> Vec<Wall> {
    // Positions sorted by number: the samples themselves are in the order of sending, in which a
    // number may come again.
    let index: Vec<Vec<(u32, usize)>> = runs
        .iter()
        .map(|run| {
            let samples = run.flows.get(&flow).map_or(&[][..], |f| &f.samples);
            let mut index: Vec<_> = samples
                .iter()
                .enumerate()
                .map(|(i, s)| (s.seq, i))
                .collect();
            index.sort_unstable();
            index
        })
        .collect();
    let mut cursors = vec![0_usize; index.len()];
    let mut strays = Vec::new();
    for arrival in arrivals {
        let mut best: Option<(Span, usize, usize)> = None;
        for (r, ((index, cursor), run)) in index.iter().zip(&mut cursors).zip(&*runs).enumerate() {
            // Both sides are sorted by number: walk them together.
            while index
                .get(*cursor)
                .is_some_and(|(seq, _)| *seq < arrival.seq)
            {
                *cursor += 1;
            }
            let Some(flow) = run.flows.get(&flow) else {
                continue;
            };
            for (_, i) in index
                .get(*cursor..)
                .unwrap_or_default()
                .iter()
                .take_while(|(seq, _)| *seq == arrival.seq)
            {
                let (Some(sample), Some(anchors)) = (flow.samples.get(*i), anchors.get(r)) else {
                    continue;
                };
                let (expected, tolerance) = anchors.expected(&run.timeline, sample.sent);
                let late_by = arrival.at - expected;
                let off = late_by.abs();
                if tolerance.admits(late_by, arrival.source)
                    && best.is_none_or(|(least, ..)| off < least)
                {
                    best = Some((off, r, *i));
                }
            }
        }
        let sample =
            best.and_then(|(_, r, i)| runs.get_mut(r)?.flows.get_mut(&flow)?.samples.get_mut(i));
        match sample {
            Some(sample) => note(sample, arrival),
            None => strays.push(arrival.at),
        }
    }
    strays
}

fn note(sample: &mut Sample, arrival: &Arrival) {
    // Arrivals of one number come in the order of time: the first is the probe, the
    // others are copies that the network made.
    let first = sample.logged == Logged::Absent;
    if first {
        sample.arrival = arrival.at;
        sample.reflected = Some(arrival.logged);
        sample.forward_ttl = sample.forward_ttl.or(arrival.ttl);
        sample.departed = arrival.departed;
        sample.reply_refused = arrival.refused;
    }
    // The reply that came has this number, even if a copy provoked it.
    let (clock, arrived) = arrival.logged;
    let of_reply = sample.replied && arrival.number == Some(sample.reflector_seq);
    if of_reply
        && let Some(left) = arrival.departed
        && sample.reflected.is_some_and(|(first, _)| first == clock)
    {
        sample.departed = Some(left);
        if left.source != StampSource::User {
            let total = sample.received - sample.sent;
            let stayed = sample.possible(left.at - arrived);
            sample.round_trip = total - stayed;
        }
    }
    sample.logged = match (sample.logged, arrival.number) {
        (Logged::Answered, _) | (_, Some(_)) => Logged::Answered,
        _ => Logged::Dropped,
    };
}
