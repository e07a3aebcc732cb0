//! Decides what became of each probe, and in which direction it was lost.
//!
//! - Answered later than the session's timeout: late, not lost (RFC 7680).
//! - Unanswered, and sent less than a timeout before the run's last evidence: pending, unless the
//!   session was stopped in order after it. A stopped sender waits out the timeout of its last
//!   probes before it records them as unanswered.
//! - Unanswered and in the reflector's log: lost on the way back. If the reflector sent no reply,
//!   its policy dropped the probe, which is not loss.
//! - Unanswered and not in the log: lost on the way out, but only where the log is known to
//!   exist. An answered probe that the log lacks shows a hole in the log; losses beside it get no
//!   direction from the log. While the reflecting agent is known not to have run, there is no
//!   data, which is not loss either. The same holds before its first sign and after its last: an
//!   absent agent answers on no path, and records still under way will tell.
//! - A reflector under flood logs only some of the probes that its rate limit holds back and
//!   counts the rest. Probes missing from the log while it limited its rate were held back, not
//!   lost, if they are no more than it counted.
//! - The same holds for packets rejected for another reason, if that many can have been the
//!   session's own: two agents with different keys are no outage.
//! - The same holds for packets that a host's own kernel dropped after arrival, because the agent
//!   did not fetch them in time: their count and time are known. Dropped replies to the sender
//!   are no data.
//! - Packets that came while the reflecting host stood still, by its own records, are no data
//!   unless something shows that it received them. What it answered when it went on is late.
//! - Replies that came while the sender's host was suspended, by its clocks, are no data either:
//!   it received nothing.
//! - The reflector's counter decides what the log leaves open: between two consecutive answered
//!   probes (s1, r1) and (s2, r2), (r2 − r1) − 1 were lost on the way back and (s2 − s1) − (r2 −
//!   r1) on the way out. If all losses of a gap have one direction, each probe gets that
//!   direction; a mixed gap gives counts and no positions. A counter that went back, a negative
//!   term or a stateless reflector gives nothing.

use crate::align::{
    Coverage, FlowRun, HeldBack, Logged, PacketOwner, ReflectorLog, Run, STALL, Sample, Session,
    Timeline,
};
use crate::findings::{Counts, DirectionSource};
use crate::stretches::{FirstOf, Stretches};
use hopgap_proto::record::EventKind;
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

/// What became of a probe that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered in time.
    Answered,
    /// Answered after the timeout.
    Late,
    /// Lost on the way out.
    LostForward,
    /// Lost on the way back.
    LostReverse,
    /// Lost, direction unknown.
    LostUnknown,
    /// It arrived, but the reflector's policy left it unanswered.
    Dropped,
    /// Sent while the reflecting agent did not run, or beyond what is known of it.
    NoData,
    /// Too recent to be judged.
    Pending,
}

impl Fate {
    /// Whether it was lost, in any or an unknown direction.
    pub(crate) fn is_lost(self) -> bool {
        matches!(
            self,
            Self::LostForward | Self::LostReverse | Self::LostUnknown
        )
    }

    /// Whether it tells anything of the path.
    pub(crate) fn is_evidence(self) -> bool {
        !matches!(self, Self::NoData | Self::Pending)
    }
}

/// Gaps in which both directions lost probes: how many in each, not which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mixed(Vec<MixedGap>);

#[derive(Clone, Copy, Debug)]
struct MixedGap {
    at: Mono,
    forward: u64,
    reverse: u64,
}

impl Mixed {
    /// Keeps the gaps that begin at an instant of which `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl Fn(Mono) -> bool) {
        self.0.retain(|gap| keep(gap.at));
    }
}

/// A reply that is earlier by this much than that of an earlier probe is not reordered: a clock
/// was stepped.
const STEPPED: Span = Span::from_secs(1);

/// A reply that comes at all nearly always comes within this time.
const REPLY_WITHIN: Span = Span::from_secs(1);

/// Decides what became of every probe of a session.
pub(crate) fn judge(session: &mut Session<'_>) {
    let timeout = session.plan.timeout;
    let agent = session.reflector_is_agent();
    let log = &session.log;
    for (index, run) in session.runs.iter_mut().enumerate() {
        let stateful = agent || counts(run);
        let stopped = run
            .events
            .iter()
            .filter(|e| e.kind == EventKind::SessionStopped)
            .map(|e| e.at)
            .max();
        for flow in run.flows.values_mut() {
            for sample in &mut flow.samples {
                let waited =
                    stopped.is_some_and(|at| sample.sent <= at) || run.end - sample.sent >= timeout;
                sample.fate = by_the_sender(sample, timeout, waited);
            }
            if agent {
                by_the_log(&mut flow.samples, log, index, &run.timeline);
            }
            not_waited_for(
                &mut flow.samples,
                stopped.map_or(run.end, |at| at + timeout),
            );
        }
        held_back(run, index, log);
        overflowed(run);
        slept(run);
        for flow in run.flows.values_mut() {
            if stateful {
                by_the_counter(flow);
            }
        }
        stood_still(run, index, log);
        for flow in run.flows.values_mut() {
            mark_reordered(&mut flow.samples);
        }
    }
}

/// How long a probe stayed at the reflector, by its log.
fn residence(sample: &Sample) -> Option<Span> {
    let ((_, arrived), left) = sample.reflected.zip(sample.departed)?;
    Some(left.at - arrived)
}

/// Marks probes whose replies left only when the sender no longer listened, because the reflector
/// stood still: their fate is unknown.
fn not_waited_for(samples: &mut [Sample], until: Mono) {
    for s in samples.iter_mut().filter(|s| s.fate == Fate::LostReverse) {
        if residence(s).is_some_and(|stayed| stayed >= STALL && s.sent + stayed >= until) {
            s.fate = Fate::NoData;
        }
    }
}

/// Marks probes that came while the reflecting host stood still and are not known to have
/// arrived. If its log exists and something arrived meanwhile, for any session, the missing
/// probes were lost on the way (or in its queue, which is counted). If nothing arrived or left
/// between the edges of the stall, the whole host may have stood still. Without a log, nobody
/// counted the packets for which its queue had no room.
fn stood_still(run: &mut Run, index: usize, log: &ReflectorLog) {
    let timeline = &run.timeline;
    for s in run.flows.values_mut().flat_map(|f| &mut f.samples) {
        if !matches!(s.fate, Fate::LostForward | Fate::LostUnknown) {
            continue;
        }
        let at = log.expected(index, timeline, s.sent);
        let deaf = |(from, to): (Wall, Wall)| from <= at && at <= to;
        let stall = log.stalls.at(at);
        if stall.is_some_and(|stall| stall.deaf.is_some_and(deaf) || !log.present) {
            s.fate = Fate::NoData;
        }
    }
}

/// Marks probes whose replies would have come while the sender's host slept and received nothing.
fn slept(run: &mut Run) {
    let told = run.events.iter().filter_map(|event| match event.kind {
        EventKind::Suspended { since, .. } => Some((since - REPLY_WITHIN, event.at)),
        _ => None,
    });
    let asleep = Stretches::of(told.collect());
    if asleep.is_empty() {
        return;
    }
    for s in run.flows.values_mut().flat_map(|f| &mut f.samples) {
        let lost = matches!(s.fate, Fate::LostReverse | Fate::LostUnknown);
        if lost && asleep.hold(s.sent) {
            s.fate = Fate::NoData;
        }
    }
}

/// Marks probes whose replies the sender's own kernel dropped.
fn overflowed(run: &mut Run) {
    let mut told: BTreeMap<u8, Vec<Overflow>> = BTreeMap::new();
    for event in &run.events {
        if let EventKind::ReceiveOverflow {
            flow: Some(flow),
            since,
            count,
        } = event.kind
        {
            told.entry(flow.0).or_default().push(Overflow {
                since,
                to: event.at,
                count: u64::from(count),
            });
        }
    }
    for (flow, told) in told {
        if let Some(flow) = run.flows.get_mut(&flow) {
            overflowed_in(flow, Overflow::merged(told));
        }
    }
}

/// The same for one flow.
fn overflowed_in(flow: &mut FlowRun, overflows: Vec<Overflow>) {
    // When the reply to each lost probe left: after a stall, the replies to minutes of probes
    // leave at once.
    let lost = flow
        .samples
        .iter()
        .enumerate()
        .filter(|(_, s)| matches!(s.fate, Fate::LostReverse | Fate::LostUnknown));
    let mut left: Vec<(Mono, usize)> = lost
        .map(|(i, s)| (s.sent + residence(s).unwrap_or_default(), i))
        .collect();
    left.sort_unstable();
    // Both indices only move forward, so each reply is looked at once.
    let (mut first, mut end) = (0, 0);
    for overflow in overflows {
        let from = overflow.since - REPLY_WITHIN;
        while left.get(first).is_some_and(|(at, _)| *at < from) {
            first += 1;
        }
        while left.get(end).is_some_and(|(at, _)| *at <= overflow.to) {
            end += 1;
        }
        let unheard = left.get(first..end).unwrap_or_default();
        if len(unheard.len()) > overflow.count {
            continue;
        }
        for (_, i) in unheard {
            if let Some(sample) = flow.samples.get_mut(*i) {
                sample.fate = Fate::NoData;
            }
        }
        first = first.max(end);
    }
}

/// Packets for which a socket of the sender had no room.
#[derive(Clone, Copy, Debug)]
struct Overflow {
    /// The last arrival before the overflow.
    since: Mono,
    /// When it was reported.
    to: Mono,
    /// How many there were.
    count: u64,
}

impl Overflow {
    /// Sorts overflows by time and merges those that overlap, as overflows of one socket never
    /// do.
    fn merged(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_unstable_by_key(|o| (o.since, o.to));
        let mut merged: Vec<Self> = Vec::new();
        for overflow in all {
            match merged.last_mut() {
                Some(last) if overflow.since < last.to => {
                    last.to = last.to.max(overflow.to);
                    last.count = last.count.saturating_add(overflow.count);
                }
                _ => merged.push(overflow),
            }
        }
        merged
    }
}

/// Marks probes that the reflecting host held back without logging each.
fn held_back(run: &mut Run, index: usize, log: &ReflectorLog) {
    for whose in [PacketOwner::Its, PacketOwner::Perhaps] {
        let stretches: Vec<&HeldBack> = log.held_back.iter().filter(|h| h.whose == whose).collect();
        if !stretches.is_empty() {
            held_back_in(run, index, log, &stretches);
        }
    }
}

/// The same for stretches of one kind.
fn held_back_in(run: &mut Run, index: usize, log: &ReflectorLog, stretches: &[&HeldBack]) {
    let timeline = &run.timeline;
    let first = FirstOf::of(stretches.iter().map(|held| held.span));
    let stretch = |s: &Sample| first.holding(log.expected(index, timeline, s.sent));
    // For each stretch: how many probes were sent, and how many of them are in no log.
    let mut sums = vec![(0_u64, 0_u64); stretches.len()];
    let mut unlogged: Vec<(u8, usize, usize)> = Vec::new();
    for (flow, records) in &run.flows {
        for (i, s) in records.samples.iter().enumerate() {
            let Some(stretch) = stretch(s) else { continue };
            let silent = matches!(s.fate, Fate::Dropped | Fate::LostForward);
            if let Some((sent, unheard)) = sums.get_mut(stretch) {
                *sent += 1;
                *unheard += u64::from(silent);
            }
            if s.fate == Fate::LostForward {
                unlogged.push((*flow, i, stretch));
            }
        }
    }
    let was_held: Vec<bool> = stretches
        .iter()
        .zip(&sums)
        .map(|(held, (sent, silent))| held.accounts_for(*sent, *silent))
        .collect();
    for (flow, i, stretch) in unlogged {
        let sample = run.flows.get_mut(&flow).and_then(|f| f.samples.get_mut(i));
        if let Some(sample) = sample
            && was_held.get(stretch) == Some(&true)
        {
            // Drops of a host that stood still are nobody's decision.
            let at = log.expected(index, &run.timeline, sample.sent);
            sample.fate = match log.stalls.at(at) {
                Some(_) => Fate::NoData,
                None => Fate::Dropped,
            };
        }
    }
}

impl HeldBack {
    /// Whether the counted packets are the `silent` ones of `sent` probes. Packets that may be
    /// somebody else's count only if they are no more than the session can have sent, with
    /// allowance for its traceroutes and the edges of the stretch: a flood of forged packets must
    /// not excuse an outage.
    fn accounts_for(&self, sent: u64, silent: u64) -> bool {
        let edges = self.count.div_ceil(20);
        match self.whose {
            PacketOwner::Its => silent <= self.count,
            PacketOwner::Perhaps => silent <= self.count + edges && self.count <= 2 * sent + edges,
        }
    }
}

/// Judges a probe by its sender and the log's entry alone; leaves losses unknown.
fn by_the_sender(sample: &Sample, timeout: Span, waited: bool) -> Fate {
    if sample.replied {
        if sample.received - sample.sent > timeout {
            Fate::Late
        } else {
            Fate::Answered
        }
    } else if sample.logged == Logged::Dropped {
        Fate::Dropped
    } else if !waited {
        Fate::Pending
    } else if sample.logged == Logged::Answered {
        Fate::LostReverse
    } else {
        Fate::LostUnknown
    }
}

/// Finds losses on the way out where the log is known to exist.
fn by_the_log(samples: &mut [Sample], log: &ReflectorLog, run: usize, timeline: &Timeline) {
    if !samples.iter().any(|s| s.fate == Fate::LostUnknown) {
        return;
    }
    // Look from both sides whether the log has the nearest probe that certainly arrived. What one
    // run of the reflecting agent did not deliver says nothing of the next run's log.
    let stretches: Vec<Option<usize>> = samples
        .iter()
        .map(|s| log.stretch(log.expected(run, timeline, s.sent)))
        .collect();
    let mut hole_before = Vec::with_capacity(samples.len());
    let (mut hole, mut within) = (false, None);
    for (s, stretch) in samples.iter().zip(&stretches) {
        if *stretch != within {
            (hole, within) = (false, *stretch);
        }
        hole = hole_beside(s, hole);
        hole_before.push(hole);
    }
    let (mut hole_after, mut within) = (false, None);
    for ((s, hole_before), stretch) in samples.iter_mut().zip(hole_before).zip(stretches).rev() {
        if stretch != within {
            (hole_after, within) = (false, stretch);
        }
        hole_after = hole_beside(s, hole_after);
        if s.fate != Fate::LostUnknown {
            continue;
        }
        match log.coverage(log.expected(run, timeline, s.sent)) {
            Coverage::Covered if !hole_before && !hole_after => s.fate = Fate::LostForward,
            Coverage::NotRunning | Coverage::Unheard(_) => s.fate = Fate::NoData,
            Coverage::Covered | Coverage::Unknown => {}
        }
    }
}

fn hole_beside(s: &Sample, so_far: bool) -> bool {
    match (s.replied, s.logged) {
        (_, Logged::Answered | Logged::Dropped) => false,
        (true, Logged::Absent) => true,
        (false, Logged::Absent) => so_far,
    }
}

/// Gives directions to the remaining losses by the reflector's counter.
fn by_the_counter(flow: &mut FlowRun) {
    let mut before: Option<usize> = None;
    for i in 0..flow.samples.len() {
        if !flow.samples.get(i).is_some_and(|s| s.replied) {
            continue;
        }
        if let Some(before) = before
            && before + 1 < i
        {
            settle_gap(flow, before, i);
        }
        before = Some(i);
    }
}

fn settle_gap(flow: &mut FlowRun, a: usize, b: usize) {
    let (Some(first), Some(second)) = (flow.samples.get(a), flow.samples.get(b)) else {
        return;
    };
    let between = flow.samples.get(a + 1..b).unwrap_or_default();
    let count = |fate: Fate| -> i64 {
        between
            .iter()
            .map(|s| i64::from(s.fate == fate))
            .sum::<i64>()
    };
    let unknown = count(Fate::LostUnknown);
    if unknown == 0 || count(Fate::Dropped) + count(Fate::NoData) + count(Fate::Pending) > 0 {
        return;
    }
    let refused = flow
        .refused_orders
        .partition_point(|o| *o < second.order)
        .saturating_sub(flow.refused_orders.partition_point(|o| *o <= first.order));
    let refused = i64::try_from(refused).unwrap_or(i64::MAX);
    let sent = second
        .order
        .saturating_sub(first.order)
        .saturating_sub(refused);
    let counted = i64::from(
        second
            .reflector_seq
            .wrapping_sub(first.reflector_seq)
            .cast_signed(),
    );
    if counted <= 0 {
        return;
    }
    let forward = sent - counted - count(Fate::LostForward);
    let reverse = counted - 1 - count(Fate::LostReverse);
    // Probes without any record make the sum larger than the recorded losses. Then only a gap of
    // one direction tells something about the recorded ones.
    let direction = match (forward, reverse) {
        (1.., 0) => Some(Fate::LostForward),
        (0, 1..) => Some(Fate::LostReverse),
        _ => None,
    };
    let at = first.sent;
    if let Some(fate) = direction {
        for s in flow.samples.get_mut(a + 1..b).unwrap_or_default() {
            if s.fate == Fate::LostUnknown {
                s.fate = fate;
            }
        }
    } else if forward > 0 && reverse > 0 && forward + reverse == unknown {
        flow.mixed.0.push(MixedGap {
            at,
            forward: forward.unsigned_abs(),
            reverse: reverse.unsigned_abs(),
        });
    }
}

/// RFC 4737: a packet is reordered where one sent after it arrived before it.
fn mark_reordered(samples: &mut [Sample]) {
    let mut earliest: Option<hopgap_proto::time::Wall> = None;
    for s in samples.iter_mut().rev() {
        if !s.replied && s.logged == Logged::Absent {
            continue;
        }
        match earliest {
            Some(e) if s.arrival - e > STEPPED => earliest = Some(s.arrival),
            Some(e) if s.arrival > e => s.reordered_forward = true,
            _ => earliest = Some(s.arrival),
        }
    }
    let mut replies: Vec<(hopgap_proto::time::Wall, i64, Mono, usize)> = samples
        .iter()
        .enumerate()
        .filter(|(_, s)| s.replied)
        .map(|(i, s)| (s.arrival, s.order, s.received, i))
        .collect();
    replies.sort_unstable();
    let mut earliest: Option<Mono> = None;
    for (_, _, received, i) in replies.into_iter().rev() {
        match earliest {
            Some(e) if received - e > STEPPED => earliest = Some(received),
            Some(e) if received > e => {
                if let Some(s) = samples.get_mut(i) {
                    s.reordered_reverse = true;
                }
            }
            _ => earliest = Some(received),
        }
    }
}

/// Counts one flow of one run.
pub(crate) fn count(flow: &FlowRun) -> Counts {
    let mut c = Counts::default();
    for s in &flow.samples {
        c.sent += 1;
        *match s.fate {
            Fate::Answered => &mut c.answered,
            Fate::Late => &mut c.late,
            Fate::LostForward => &mut c.lost_forward,
            Fate::LostReverse => &mut c.lost_reverse,
            Fate::LostUnknown => &mut c.lost_unknown,
            Fate::Dropped => &mut c.dropped_by_policy,
            Fate::NoData => &mut c.no_data,
            Fate::Pending => &mut c.pending,
        } += 1;
        c.duplicated += u64::from(s.extra_replies);
        c.reordered_forward += u64::from(s.reordered_forward);
        c.reordered_reverse += u64::from(s.reordered_reverse);
    }
    for gap in &flow.mixed.0 {
        // A window may have cut the gap: count at most what it left.
        let forward = gap.forward.min(c.lost_unknown);
        let reverse = gap.reverse.min(c.lost_unknown - forward);
        c.lost_unknown -= forward + reverse;
        c.lost_forward += forward;
        c.lost_reverse += reverse;
    }
    c.refused = len(flow.refused.len());
    c.skipped = flow.skipped.iter().map(|(_, n)| u64::from(*n)).sum();
    c
}

/// Adds `more` to `sum`.
pub(crate) fn add(sum: &mut Counts, more: &Counts) {
    sum.sent += more.sent;
    sum.answered += more.answered;
    sum.late += more.late;
    sum.lost_forward += more.lost_forward;
    sum.lost_reverse += more.lost_reverse;
    sum.lost_unknown += more.lost_unknown;
    sum.dropped_by_policy += more.dropped_by_policy;
    sum.no_data += more.no_data;
    sum.pending += more.pending;
    sum.refused += more.refused;
    sum.skipped += more.skipped;
    sum.duplicated += more.duplicated;
    sum.reordered_forward += more.reordered_forward;
    sum.reordered_reverse += more.reordered_reverse;
}

/// How the direction of a loss is known in a session.
pub(crate) fn direction_source(session: &Session<'_>) -> DirectionSource {
    if session.log.present {
        DirectionSource::ReflectorLog
    } else if session.reflector_is_agent() || session.runs.iter().any(counts) {
        DirectionSource::ReflectorCounter
    } else {
        DirectionSource::None
    }
}

/// Whether a reply has shown that the reflector numbers its replies itself.
fn counts(run: &Run) -> bool {
    let mut samples = run.flows.values().flat_map(|f| &f.samples);
    run.events
        .iter()
        .any(|e| e.kind == EventKind::ReflectorCounts)
        || samples.any(|s| s.replied && s.reflector_seq != s.seq)
}

/// A length as the counts have it.
pub(crate) fn len(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
