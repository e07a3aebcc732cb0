//! Builds one account of each run, from records in any order and delivered any number of times.
//!
//! The rules:
//! - Records with the same flow and sequence number are one probe. Where some say
//!   'unanswered' and one says 'answered', the reply came late: answered wins. Several
//!   answered records with different arrival times are duplicated replies (RFC 5560):
//!   the earliest counts. Identical records are one record delivered again.
//! - A refused send is no probe: it is kept apart, whether or not its sequence number
//!   was used again.
//! - Sequence numbers and monotonic times of different runs are not comparable, so
//!   every run is judged on its own and only its instants on UTC are set side by side.
//! - An agent starts a session anew when the plan changes it, and its sequence numbers
//!   with it: each start within an agent's run begins a run of the session.

mod heard;
mod join;
mod reference;
mod stalls;
mod steady;
mod timeline;

use heard::SignsOfLife;
pub(crate) use join::{Beyond, Coverage, HeldBack, LogEvent, PacketOwner, ReflectorLog};
pub(crate) use reference::Placed;
pub(crate) use stalls::{STALL, Stall, Stalls};
pub(crate) use timeline::Timeline;

use crate::input::{Input, ReflectorRun, SenderRun, SessionRecords};
use crate::loss::Fate;
use crate::path::PathId;
use hopgap_proto::plan::{Destination, SessionPlan};
use hopgap_proto::record::{
    AgentName, Event, EventKind, Probe, ProbeFate, Reply, RunId, Stamp, StampSource, Trace,
};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use std::collections::BTreeMap;

/// What is known of one probe that left its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Its sequence number.
    pub(crate) seq: u32,
    /// The reflector's sequence number in the earliest reply; meaningless without reply.
    pub(crate) reflector_seq: u32,
    /// Place in the order of sending: the sequence number without its wrapping.
    pub(crate) order: i64,
    /// When it was sent.
    pub(crate) sent: Mono,
    /// When the earliest reply came; meaningless without reply.
    pub(crate) received: Mono,
    /// Round trip without the reflector's residence, by the kernel's departure where that
    /// is known; meaningless without reply.
    pub(crate) round_trip: Span,
    /// The reflector's residence by the reply's own stamps (T3 − T2): until the program
    /// answered. Zero where they cannot be true; meaningless without reply.
    pub(crate) stayed: Span,
    /// When it reached the reflector, on the reflector's wall clock without its steps;
    /// meaningless unless it is known to have reached it.
    pub(crate) arrival: Wall,
    /// Number of the reflector's run that logged it, and when, on that run's monotonic clock;
    /// `None` if no log has it.
    pub(crate) reflected: Option<(u32, Mono)>,
    /// When its reply left, or was refused, on the same clock as `reflected`; `None` if not on
    /// record.
    pub(crate) departed: Option<Stamp>,
    /// Why the reflector's kernel refused the reply.
    pub(crate) reply_refused: Option<i32>,
    /// Whether a reply came, in time or late.
    pub(crate) replied: bool,
    /// What the reflector's own log says of it.
    pub(crate) logged: Logged,
    /// What became of it.
    pub(crate) fate: Fate,
    /// Replies beyond the first.
    pub(crate) extra_replies: u16,
    /// IP TTL at the reflector.
    pub(crate) forward_ttl: Option<u8>,
    /// IP TTL of the reply at the sender.
    pub(crate) reverse_ttl: Option<u8>,
    /// The named path that it took out.
    pub(crate) forward_path: Option<PathId>,
    /// The named path that its reply took back.
    pub(crate) reverse_path: Option<PathId>,
    /// Whether a probe sent later overtook it on the way out (RFC 4737).
    pub(crate) reordered_forward: bool,
    /// Whether a reply sent later overtook its reply (RFC 4737).
    pub(crate) reordered_reverse: bool,
}

/// What the reflector's own log says of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// Nothing.
    Absent,
    /// It arrived and was answered.
    Answered,
    /// It arrived and was not answered, by the reflector's policy.
    Dropped,
}

/// A send that the kernel refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsent {
    /// Its sequence number.
    pub(crate) seq: u32,
    /// When the kernel refused it.
    pub(crate) at: Mono,
    /// Why.
    pub(crate) errno: i32,
}

/// Whether an `errno` says that the host had no route to the destination: ENETDOWN, ENETUNREACH
/// and EHOSTUNREACH of Linux. Others (ENOBUFS, EPERM) concern the host itself and tell nothing of
/// the direction.
pub(crate) fn is_no_route(errno: i32) -> bool {
    matches!(errno, 100 | 101 | 113)
}

/// One flow in one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlowRun {
    /// Its probes that left, in the order of sending.
    pub(crate) samples: Vec<Sample>,
    /// Sends that the kernel refused: when, and with which `errno`.
    pub(crate) refused: Vec<(Mono, i32)>,
    /// The sends among them that were refused for lack of a route, in the order of time.
    pub(crate) no_route: Vec<Unsent>,
    /// Refused sequence numbers that no other probe used, in increasing order.
    pub(crate) refused_orders: Vec<i64>,
    /// Slots left out: when the first was due, and how many.
    pub(crate) skipped: Vec<(Mono, u32)>,
    /// Losses whose number in each direction is known, but not which probes they were.
    pub(crate) mixed: crate::loss::Mixed,
}

/// One run of a session's sender.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The sending agent.
    pub(crate) agent: AgentName,
    /// The run of the agent's process.
    pub(crate) id: RunId,
    /// Its monotonic clock on UTC.
    pub(crate) timeline: Timeline,
    /// Its flows.
    pub(crate) flows: BTreeMap<u8, FlowRun>,
    /// Its traceroutes, in the order of time.
    pub(crate) traces: Vec<Trace>,
    /// Its events, in the order of time.
    pub(crate) events: Vec<Event>,
    /// The latest instant in any of its records.
    pub(crate) end: Mono,
    /// When the session was started, if on record.
    pub(crate) started: Option<Mono>,
    /// When the session was stopped in order, if on record.
    pub(crate) stopped: Option<Mono>,
}

/// One session, with both ends' records of it put together.
#[derive(Clone, Debug)]
pub(crate) struct Session<'a> {
    /// Its plan.
    pub(crate) plan: &'a SessionPlan,
    /// Its sender's runs, in the order of their starts.
    pub(crate) runs: Vec<Run>,
    /// What the reflector's own log covers.
    pub(crate) log: ReflectorLog,
    /// The requested stretch of UTC; `None` for everything.
    pub(crate) window: Option<(Wall, Wall)>,
}

impl Session<'_> {
    /// Whether the reflector is one of ours: stateful, with an initial TTL of 255.
    pub(crate) fn reflector_is_agent(&self) -> bool {
        matches!(self.plan.to, Destination::Agent(_))
    }

    /// The flows of the plan and those that sent within the window, in order. Flows that the plan
    /// had only before the window are left out.
    pub(crate) fn flow_indices(&self) -> Vec<u8> {
        let mut flows: Vec<u8> = (0..self.plan.flows).collect();
        let sent = |flow: &FlowRun| !flow.samples.is_empty() || !flow.refused.is_empty();
        let of_runs = self.runs.iter().flat_map(|r| &r.flows);
        flows.extend(of_runs.filter(|(_, f)| sent(f)).map(|(flow, _)| *flow));
        flows.sort_unstable();
        flows.dedup();
        flows
    }

    /// Returns the stretch for which a flow is judged: a flow that the plan no longer has ends
    /// with its last probe.
    pub(crate) fn asked_of(&self, flow: u8, (from, to): (Wall, Wall)) -> (Wall, Wall) {
        if flow < self.plan.flows {
            return (from, to);
        }
        let last = self.runs.iter().filter_map(|run| {
            let sample = run.flows.get(&flow)?.samples.last()?;
            Some(run.timeline.utc(sample.sent))
        });
        (from, last.max().map_or(from, |last| last.clamp(from, to)))
    }

    /// Source port of a flow.
    pub(crate) fn source_port(&self, flow: u8) -> u16 {
        self.plan.source_port.saturating_add(u16::from(flow))
    }

    /// The far end's name, or its address if it is not an agent.
    pub(crate) fn to_name(&self) -> String {
        match &self.plan.to {
            Destination::Agent(name) => name.to_string(),
            Destination::Foreign(address) => address.to_string(),
        }
    }
}

/// Puts the records of every session of the plan together, on one clock.
pub(crate) fn sessions(input: &Input) -> (Vec<Session<'_>>, Placed) {
    let heard = SignsOfLife::of(input);
    let mut sessions: Vec<Session<'_>> = input
        .plan
        .sessions
        .iter()
        .map(|plan| {
            let records: Vec<&SessionRecords> = input
                .sessions
                .iter()
                .filter(|r| r.session == plan.name)
                .collect();
            session(plan, &records, &heard, input.window)
        })
        .collect();
    let placed = reference::place(&mut sessions, input);
    if let Some((from, to)) = input.window {
        for session in &mut sessions {
            for run in &mut session.runs {
                keep_window(run, session.plan.interval, from, to);
            }
        }
    }
    (sessions, placed)
}

fn session<'a>(
    plan: &'a SessionPlan,
    records: &[&'a SessionRecords],
    heard: &SignsOfLife<'a>,
    window: Option<(Wall, Wall)>,
) -> Session<'a> {
    let mut by_run: BTreeMap<(RunId, &AgentName), Vec<&SenderRun>> = BTreeMap::new();
    for run in records.iter().flat_map(|r| &r.sender) {
        by_run.entry((run.run, &run.agent)).or_default().push(run);
    }
    let mut runs: Vec<Run> = by_run
        .into_iter()
        .flat_map(|((id, agent), parts)| sender_runs(id, agent, &parts))
        .collect();

    let mut reflectors: BTreeMap<(RunId, &'a AgentName), Vec<&ReflectorRun>> = BTreeMap::new();
    for run in records.iter().flat_map(|r| &r.reflector) {
        reflectors
            .entry((run.run, &run.agent))
            .or_default()
            .push(run);
    }
    let log = ReflectorLog::join(&mut runs, &reflectors, heard);

    let mut session = Session {
        plan,
        runs,
        log,
        window,
    };
    crate::loss::judge(&mut session);
    session
}

/// Restricts a run to what was sent within the window. Fates are judged before,
/// with all that is known.
fn keep_window(run: &mut Run, interval: Span, from: Wall, to: Wall) {
    let timeline = &run.timeline;
    let within = |at: Mono| {
        let at = timeline.utc(at);
        from <= at && at <= to
    };
    for flow in run.flows.values_mut() {
        flow.samples.retain(|s| within(s.sent));
        flow.refused.retain(|(at, _)| within(*at));
        flow.no_route.retain(|u| within(u.at));
        for skipped in &mut flow.skipped {
            let begun = (timeline.utc(skipped.0), skipped.1);
            let (before, slots) = slots_within(begun, interval, (from, to));
            *skipped = (skipped.0 + before, slots);
        }
        flow.skipped.retain(|(_, slots)| *slots > 0);
        flow.mixed.retain(within);
    }
    run.traces.retain(|t| within(t.started));
    // An event about a stretch may be recorded after its end, outside the window.
    run.events.retain(|e| {
        let (since, at) = stretch_of(e, timeline);
        within(e.at) || (since <= to && from <= at && since < at)
    });
}

/// Returns the stretch that a sender's event is about.
pub(crate) fn stretch_of(event: &Event, timeline: &Timeline) -> (Wall, Wall) {
    let at = timeline.utc(event.at);
    match event.kind {
        EventKind::ReceiveOverflow { since, .. }
        | EventKind::NotRunning { since, .. }
        | EventKind::AddressTranslated { since, .. } => (timeline.utc(since), at),
        EventKind::StrayReplies { .. } => (at - TOLD_WITHIN, at),
        EventKind::BlocksLost { from, to, .. } => {
            // These are wall-clock times: correct them by the clock's error when this was
            // recorded.
            let behind = at - timeline.wall(event.at);
            (from.map_or(Wall::MIN, |from| from + behind), to + behind)
        }
        _ => (at, at),
    }
}

/// A sender reports stray replies once a second.
const TOLD_WITHIN: Span = Span::from_secs(1);

/// Returns which of the skipped slots were due within a window: how long after `first` the first
/// of these was due, and how many there were.
fn slots_within(
    (first, slots): (Wall, u32),
    interval: Span,
    (from, to): (Wall, Wall),
) -> (Span, u32) {
    let interval = interval.as_nanos().max(1);
    let place = |at: Wall, round_up: i64| {
        let after = (at - first).as_nanos();
        let place = after.saturating_add(round_up).div_euclid(interval);
        u32::try_from(place.clamp(0, i64::from(slots))).unwrap_or(slots)
    };
    let begin = place(from, interval - 1);
    let end = if to < first {
        0
    } else {
        place(to, 0).saturating_add(1).min(slots)
    };
    let before = Span::from_nanos(interval) * i64::from(begin);
    (before, end.saturating_sub(begin))
}

/// The runs of a session within one run of its agent, in the order of time.
fn sender_runs(id: RunId, agent: &AgentName, parts: &[&SenderRun]) -> Vec<Run> {
    let events = merged(parts.iter().flat_map(|p| &p.events));
    let timeline = Timeline::new(
        clocks(parts.iter().flat_map(|p| &p.clocks), &events),
        &events,
    );
    let mut starts: Vec<Mono> = events
        .iter()
        .filter(|e| e.kind == EventKind::SessionStarted)
        .map(|e| e.at)
        .collect();
    starts.dedup();
    // One more than there are starts: the records may begin in the middle of a run, and an agent
    // may record events before its first start.
    let mut runs: Vec<Records> = (0..=starts.len()).map(|_| Records::default()).collect();
    let place = |at: Mono| starts.partition_point(|start| *start <= at);
    for probe in parts.iter().flat_map(|p| &p.probes) {
        if let Some(run) = runs.get_mut(place(probe.sent.at)) {
            run.probes.entry(probe.flow.0).or_default().push(*probe);
        }
    }
    for trace in merged(parts.iter().flat_map(|p| &p.traces)) {
        if let Some(run) = runs.get_mut(place(trace.started)) {
            run.traces.push(trace);
        }
    }
    for event in events {
        if let Some(run) = runs.get_mut(place(event.at)) {
            run.events.push(event);
        }
    }
    if let [before, first, ..] = runs.as_mut_slice()
        && before.probes.is_empty()
        && before.traces.is_empty()
    {
        before.events.append(&mut first.events);
        first.events = core::mem::take(&mut before.events);
        runs.remove(0);
    }
    let ends = starts
        .split_off(starts.len() + 1 - runs.len())
        .into_iter()
        .chain([timeline.last_reading().unwrap_or(Mono::MIN)]);
    runs.into_iter()
        .zip(ends)
        .map(|(records, known_to)| sender_run((id, agent), timeline.clone(), known_to, records))
        .collect()
}

/// What one run of a session recorded.
#[derive(Default)]
struct Records {
    probes: BTreeMap<u8, Vec<Probe>>,
    traces: Vec<Trace>,
    events: Vec<Event>,
}

/// `known_to` is an instant at which the run is known to go on, or to be over.
fn sender_run(
    (id, agent): (RunId, &AgentName),
    timeline: Timeline,
    known_to: Mono,
    records: Records,
) -> Run {
    let Records {
        probes: by_flow,
        traces,
        events,
    } = records;
    let mut end = known_to;
    let mut flows: BTreeMap<u8, FlowRun> = BTreeMap::new();
    for (flow, probes) in by_flow {
        for probe in &probes {
            end = end.max(probe.sent.at);
            if let ProbeFate::Answered(reply) = probe.fate {
                end = end.max(reply.received.at);
            }
        }
        flows.insert(flow, flow_run(probes));
    }
    for event in &events {
        end = end.max(event.at);
        if let EventKind::SlotsSkipped { flow, first, count } = event.kind {
            flows
                .entry(flow.0)
                .or_default()
                .skipped
                .push((first, count));
        }
    }
    end = traces.iter().fold(end, |end, t| end.max(t.finished));
    let of = |kind: EventKind| events.iter().filter(move |e| e.kind == kind).map(|e| e.at);
    let started = of(EventKind::SessionStarted).min();
    let stopped = of(EventKind::SessionStopped).max();
    Run {
        agent: agent.clone(),
        id,
        timeline,
        flows,
        traces,
        events,
        end,
        started,
        stopped,
    }
}

/// All clock readings of a run: those of its blocks and those of its events.
fn clocks<'a>(pairs: impl Iterator<Item = &'a ClockPair>, events: &[Event]) -> Vec<ClockPair> {
    pairs
        .copied()
        .chain(events.iter().filter_map(|e| match e.kind {
            EventKind::Clock(reading) => Some(reading.pair),
            _ => None,
        }))
        .collect()
}

/// Sorts records by time and removes duplicates.
fn merged<'a, T>(records: impl Iterator<Item = &'a T>) -> Vec<T>
where
    T: WhenOf + Ord + Clone + 'a,
{
    let mut all: Vec<T> = records.cloned().collect();
    all.sort_by(|a, b| a.when().cmp(&b.when()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

/// Records with a time of their own.
trait WhenOf {
    /// When it was made.
    fn when(&self) -> Mono;
}
impl WhenOf for Event {
    fn when(&self) -> Mono {
        self.at
    }
}
impl WhenOf for Trace {
    fn when(&self) -> Mono {
        self.started
    }
}

/// Sends of one sequence number at least this far apart are two probes: the number wrapped. At 1
/// kHz it wraps after 49 days, and no reply is a day late.
const WRAPPED: Span = Span::from_secs(86_400);

fn flow_run(mut probes: Vec<Probe>) -> FlowRun {
    let key = |p: &Probe| (p.seq, p.sent.at);
    probes.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.cmp(b)));
    probes.dedup();

    let mut flow = FlowRun {
        samples: Vec::with_capacity(probes.len()),
        ..FlowRun::default()
    };
    let mut refused: Vec<(u32, Mono)> = Vec::new();
    let mut by_kernel = false;
    for probe in &probes {
        if let ProbeFate::Refused(errno) = probe.fate {
            if is_no_route(errno) {
                flow.no_route.push(Unsent {
                    seq: probe.seq.0,
                    at: probe.sent.at,
                    errno,
                });
            }
            flow.refused.push((probe.sent.at, errno));
            refused.push((probe.seq.0, probe.sent.at));
            continue;
        }
        let reply = match probe.fate {
            ProbeFate::Answered(reply) => Some(reply),
            ProbeFate::Unanswered | ProbeFate::Refused(_) => None,
        };
        match flow.samples.last_mut() {
            Some(last) if last.seq == probe.seq.0 && probe.sent.at - last.sent < WRAPPED => {
                // A program's stamp of the send must not replace the kernel's.
                let kernels = probe.sent.source != StampSource::User;
                if kernels || !by_kernel {
                    (last.sent, by_kernel) = (probe.sent.at, kernels);
                    last.round_trip = last.received - last.sent - last.stayed;
                }
                if let Some(reply) = reply {
                    add_reply(last, &reply);
                }
            }
            _ => {
                by_kernel = probe.sent.source != StampSource::User;
                flow.samples.push(sample(probe, reply.as_ref()));
            }
        }
    }
    flow.refused.sort_unstable();
    flow.no_route.sort_unstable_by_key(|u| (u.at, u.seq));
    unwrap_sequence(&mut flow, &mut refused);
    flow
}

fn sample(probe: &Probe, reply: Option<&Reply>) -> Sample {
    let mut sample = Sample {
        seq: probe.seq.0,
        reflector_seq: 0,
        order: 0,
        sent: probe.sent.at,
        received: Mono::ZERO,
        round_trip: Span::ZERO,
        stayed: Span::ZERO,
        arrival: Wall::ZERO,
        reflected: None,
        departed: None,
        reply_refused: None,
        replied: false,
        logged: Logged::Absent,
        fate: Fate::Pending,
        extra_replies: 0,
        forward_ttl: None,
        reverse_ttl: None,
        forward_path: None,
        reverse_path: None,
        reordered_forward: false,
        reordered_reverse: false,
    };
    if let Some(reply) = reply {
        add_reply(&mut sample, reply);
    }
    sample
}

fn add_reply(sample: &mut Sample, reply: &Reply) {
    if sample.replied {
        if reply.received.at == sample.received {
            return;
        }
        sample.extra_replies = sample.extra_replies.saturating_add(1);
        if reply.received.at > sample.received {
            return;
        }
    }
    sample.replied = true;
    sample.received = reply.received.at;
    sample.stayed = sample.possible(reply.reflector_sent - reply.reflector_received);
    sample.round_trip = sample.received - sample.sent - sample.stayed;
    sample.arrival = reply.reflector_received;
    sample.reflector_seq = reply.reflector_seq.0;
    sample.forward_ttl = reply.forward_ttl;
    sample.reverse_ttl = reply.reverse_ttl;
}

impl Sample {
    /// Returns the residence if it is possible, else zero: a reflector that lies, or whose clock
    /// was stepped between its two stamps, must not make a round trip negative.
    fn possible(&self, residence: Span) -> Span {
        let total = self.received - self.sent;
        if residence.is_negative() || residence > total {
            Span::ZERO
        } else {
            residence
        }
    }
}

/// Puts samples in the order of sending and counts their wraps.
fn unwrap_sequence(flow: &mut FlowRun, refused: &mut [(u32, Mono)]) {
    flow.samples.sort_by_key(|s| (s.sent, s.seq));
    let mut order = flow.samples.first().map_or(0, |s| i64::from(s.seq));
    let mut previous = flow.samples.first().map_or(0, |s| s.seq);
    for sample in &mut flow.samples {
        order = order.saturating_add(distance(previous, sample.seq));
        previous = sample.seq;
        sample.order = order;
    }
    // Place a refused number by its neighbour in time.
    refused.sort_unstable_by_key(|(seq, at)| (*at, *seq));
    for &(seq, at) in refused.iter() {
        let next = flow.samples.partition_point(|s| s.sent <= at);
        let order = match flow.samples.get(next.saturating_sub(1)) {
            Some(near) => near.order.saturating_add(distance(near.seq, seq)),
            None => i64::from(seq),
        };
        flow.refused_orders.push(order);
    }
    // Kernel and program stamps may invert two close sends; numbers do not.
    flow.samples.sort_by_key(|s| (s.order, s.sent));
    let samples = &flow.samples;
    flow.refused_orders
        .retain(|order| samples.binary_search_by_key(order, |s| s.order).is_err());
    flow.refused_orders.sort_unstable();
    flow.refused_orders.dedup();
}

/// How far `to` lies after `from` on the circle of sequence numbers.
fn distance(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

#[cfg(test)]
mod tests;
