//! Dates when each probe or reply left the direction's first host.
//!
//! All instants of one line are on one clock, so that their differences are durations. Probes are
//! on the sender's clock. Departures of replies are on the clock of the reflector's run, moved by
//! one constant for each run, which does not change differences.
//!
//! A departure stamped by the kernel is exact. A program reads its clock just before the send
//! call: the reply left then or up to [`PREEMPTED`] later, and before the flow's next reply that
//! the kernel stamped.

use super::evidence;
use crate::align::{FlowRun, ReflectorLog, Run, Sample, is_no_route};
use crate::findings::Direction;
use hopgap_proto::record::StampSource;
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;

/// Longest time that a program may wait for the processor between reading its clock and the send
/// call (seen on machines with all cores busy).
const PREEMPTED: Span = Span::from_millis(20);

/// What a probe or reply says of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It made it.
    Good,
    /// It was lost.
    Lost,
    /// The host's own kernel had no route for it; the value is the `errno`.
    Refused(i32),
}

/// One probe, or its reply, that tells of a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The probe's number.
    pub(super) seq: u32,
    /// When the probe was sent.
    pub(super) sent: Mono,
    /// The earliest time that it left in this direction.
    pub(super) at: Mono,
    /// The latest time that it left.
    pub(super) latest: Mono,
    pub(super) said: Delivery,
    /// How much later than the probe it left, on UTC.
    pub(super) later: Span,
    /// Set if `at` is only the probe's send time: the residence to add, as far as a reply tells
    /// it.
    pub(super) undated: Option<Span>,
}

/// Returns all evidence for a direction of a flow, in the order in which it left.
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
    /// Moves an instant of a reflector's run to the line's clock. `arrival` is when the first of
    /// its probes, sent at `sent`, reached it.
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

/// Returns how long after its probe's sending a reply left.
fn later(run: &Run, sample: &Sample, log: &ReflectorLog) -> Span {
    match log.left(sample) {
        Some(left) => left - run.timeline.utc(sample.sent),
        None if sample.replied => sample.stayed,
        None => Span::ZERO,
    }
}

/// Limits `latest` by that of the next dated reply, as replies leave one after the other.
fn before_the_next(line: &mut [Seen]) {
    let mut next: Option<Mono> = None;
    for seen in line.iter_mut().rev().filter(|s| s.undated.is_none()) {
        if let Some(next) = next {
            seen.latest = seen.latest.min(next.max(seen.at));
        }
        next = Some(seen.latest);
    }
}

/// Returns by how much the lost ones may have been bunched together when they left, if only the
/// probes' send times are known: how much the residence of the good ones beside them varies.
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
