//! When each probe or reply left the host that a direction leaves.
//!
//! All instants of one line are on one clock, so that their differences are lengths of
//! time: the sender's, on which probes were sent. Departures of replies are on the clock of
//! the reflector's run; they are moved by one constant for each run, which no difference
//! feels.
//!
//! A departure by the kernel is exact. One by the program was read just before its send
//! call: the reply left then or later, by [`PREEMPTED`] at most, and before the next reply
//! of the flow that the kernel stamped.

use super::evidence;
use crate::align::{FlowRun, ReflectorLog, Run, Sample, is_no_route};
use crate::findings::Direction;
use hopgap_proto::record::StampSource;
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;

/// A program that has read its clock may wait so long for the processor before its send
/// call is made (seen on machines with all cores busy).
const PREEMPTED: Span = Span::from_millis(20);

/// What is said of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It made it.
    Good,
    /// It was lost.
    Lost,
    /// The host's own kernel had no route for it, by this `errno`.
    Refused(i32),
}

/// One probe, or its reply, that tells of a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The probe's number.
    pub(super) seq: u32,
    /// When the probe was sent.
    pub(super) sent: Mono,
    /// When it left in this direction, at the earliest.
    pub(super) at: Mono,
    /// And at the latest.
    pub(super) latest: Mono,
    pub(super) said: Delivery,
    /// How much later than the probe it left, on UTC.
    pub(super) later: Span,
    /// `at` is only the probe's send time; the reflector's residence comes on top, where
    /// a reply tells it.
    pub(super) undated: Option<Span>,
}

/// Everything that tells of a direction of a flow, in the order in which it left.
pub(super) fn line(
    run: &Run,
    flow: &FlowRun,
    direction: Direction,
    log: &ReflectorLog,
) -> Vec<Seen> {
    let mut line: Vec<Seen> = Vec::with_capacity(flow.samples.len());
    let mut clocks = Clocks::default();
    for sample in &flow.samples {
        let Some(said) = said(sample, direction) else {
            continue;
        };
        line.push(match direction {
            Direction::Forward | Direction::Unknown => sent(sample, said),
            Direction::Reverse => Seen {
                later: later(run, sample, log),
                ..departed(sample, said, &mut clocks)
            },
        });
    }
    if direction == Direction::Forward && !flow.no_route.is_empty() {
        line.extend(flow.no_route.iter().map(|unsent| Seen {
            seq: unsent.seq,
            sent: unsent.at,
            at: unsent.at,
            latest: unsent.at,
            said: Delivery::Refused(unsent.errno),
            later: Span::ZERO,
            undated: None,
        }));
        line.sort_by_key(|s| s.at);
    }
    if direction == Direction::Reverse {
        line.sort_by_key(|s| s.at);
        before_the_next(&mut line);
    }
    line
}

fn said(sample: &Sample, direction: Direction) -> Option<Delivery> {
    if direction == Direction::Reverse
        && let Some(errno) = sample.reply_refused
        && is_no_route(errno)
        && !sample.replied
    {
        return Some(Delivery::Refused(errno));
    }
    evidence(sample.fate, direction).map(|good| if good { Delivery::Good } else { Delivery::Lost })
}

fn sent(sample: &Sample, said: Delivery) -> Seen {
    Seen {
        seq: sample.seq,
        sent: sample.sent,
        at: sample.sent,
        latest: sample.sent,
        said,
        later: Span::ZERO,
        undated: None,
    }
}

/// How far the clock of each run of the reflector is moved.
#[derive(Debug, Default)]
struct Clocks(BTreeMap<u32, Span>);

impl Clocks {
    /// An instant of a reflector's run; `arrival` is when the first of its probes reached
    /// it, which was sent at `sent`.
    fn moved(&mut self, run: u32, at: Mono, arrival: Mono, sent: Mono) -> Mono {
        at - *self.0.entry(run).or_insert(arrival - sent)
    }
}

fn departed(sample: &Sample, said: Delivery, clocks: &mut Clocks) -> Seen {
    let (Some((run, arrival)), Some(left)) = (sample.reflected, sample.departed) else {
        return Seen {
            undated: Some(if sample.replied {
                sample.stayed
            } else {
                Span::ZERO
            }),
            ..sent(sample, said)
        };
    };
    let at = clocks.moved(run, left.at, arrival, sample.sent);
    let late = match left.source {
        StampSource::User => PREEMPTED,
        StampSource::Kernel | StampSource::Hardware => Span::ZERO,
    };
    Seen {
        seq: sample.seq,
        sent: sample.sent,
        at,
        latest: at + late,
        said,
        later: Span::ZERO,
        undated: None,
    }
}

/// How much later than its probe was sent a reply left.
fn later(run: &Run, sample: &Sample, log: &ReflectorLog) -> Span {
    match log.left(sample) {
        Some(left) => left - run.timeline.utc(sample.sent),
        None if sample.replied => sample.stayed,
        None => Span::ZERO,
    }
}

/// Replies leave one after the other: none later than the next one that is dated better.
fn before_the_next(line: &mut [Seen]) {
    let mut next: Option<Mono> = None;
    for seen in line.iter_mut().rev().filter(|s| s.undated.is_none()) {
        if let Some(next) = next {
            seen.latest = seen.latest.min(next.max(seen.at));
        }
        next = Some(seen.latest);
    }
}

/// By how much the lost ones may have been bunched before they left again, where only the
/// probes' send times are known: as far as the residence of the good ones beside them tells.
pub(super) fn bunched(lost: &[Seen], before: Option<&Seen>, after: Option<&Seen>) -> Span {
    if lost.iter().all(|s| s.undated.is_none()) {
        return Span::ZERO;
    }
    let beside = before.into_iter().chain(after);
    let stays: Vec<Span> = beside.filter_map(|s| s.undated).collect();
    let least = stays.iter().min().copied().unwrap_or_default();
    let most = stays.iter().max().copied().unwrap_or_default();
    most - least
}
