//! Outages: loss of connectivity in one direction of one flow.
//!
//! **Evidence.** Each direction is judged by the probes that tell something of it.
//! Forward: a probe that is known to have reached the reflector is good (answered, or
//! logged there although the reply was lost or held back by policy), one lost on the way
//! out is lost. Reverse: only probes that reached the reflector count; answered is good,
//! lost on the way back is lost; one lost on the way out tells nothing of the way back.
//! Losses of unknown direction are judged on their own, against the answered probes.
//!
//! **Which losses are an outage.** A loss period (RFC 3357) is a run of lost probes
//! without a good one between. Only loss periods of at least `min_lost` probes make an
//! outage, and two of them are one outage when fewer than `min_good` good probes lie
//! between them; shorter loss periods between the two belong to it. Shorter loss periods
//! beside an outage never do, however close: with 1 % of random loss one outage in ten
//! has such a loss within five probes of one of its ends, and if those were merged,
//! background loss would silently stretch every tenth outage. They stay listed as
//! background loss, and a transition's remarks name those that lie close.
//!
//! **Bounds.** From the actual send times S of the lost probes a..b, the outage lasted
//! at least S_b − S_a and at most S of the next good probe − S of the last good one. Where
//! no probe tells anything of the direction for more than `min_good` intervals (the
//! sender slept, or the other direction had failed too) the time is left out of the
//! lower bound: nobody knows whether this direction was up meanwhile.

use crate::align::{FlowRun, Run, Sample};
use crate::findings::{Direction, LossPeriod, Outage, ProbePoint};
use crate::loss::{Fate, len};
use crate::schema::{Nanos, Utc};
use hopgap_proto::plan::Objective;
use hopgap_proto::time::{Mono, Span};

/// What one flow of one run lost in one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// Its outages, in the order of time.
    pub(crate) outages: Vec<Outage>,
    /// Loss periods that belong to no outage, in the order of time.
    pub(crate) background: Vec<LossPeriod>,
}

/// What a probe says of a direction: `Some(true)` where it made it, `None` where it
/// says nothing.
pub(crate) fn evidence(fate: Fate, direction: Direction) -> Option<bool> {
    match (direction, fate) {
        (_, Fate::Answered | Fate::Late) => Some(true),
        (Direction::Forward, Fate::LostReverse | Fate::Dropped) => Some(true),
        (Direction::Forward, Fate::LostForward)
        | (Direction::Reverse, Fate::LostReverse)
        | (Direction::Unknown, Fate::LostUnknown) => Some(false),
        _ => None,
    }
}

/// A loss period, by positions among the samples.
#[derive(Clone, Copy, Debug)]
struct Period {
    first: usize,
    last: usize,
    lost: u64,
    /// Last good probe before.
    good_before: Option<usize>,
    /// First good probe after.
    good_after: Option<usize>,
    /// Good probes since the beginning, to count those between two periods.
    goods: u64,
}

/// Finds the outages and the background loss of one flow in one direction.
pub(crate) fn find(
    run: &Run,
    flow: &FlowRun,
    direction: Direction,
    objective: &Objective,
    interval: Span,
) -> Losses {
    let samples = &flow.samples;
    let periods = periods(samples, direction);
    let min_lost = u64::from(objective.min_lost.max(1));
    let min_good = u64::from(objective.min_good);

    // Groups of period indices: first and last are long, those between may be short.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (i, period) in periods.iter().enumerate() {
        if period.lost < min_lost {
            continue;
        }
        match groups.last_mut() {
            Some((_, last))
                if periods
                    .get(*last)
                    .is_some_and(|l| period.goods - l.goods < min_good) =>
            {
                *last = i;
            }
            _ => groups.push((i, i)),
        }
    }

    let unseen = interval * i64::from(objective.min_good).saturating_add(1);
    let point = |i: usize| samples.get(i).map(|s| point(run, s));
    let mut losses = Losses::default();
    let mut next = 0;
    let loss_period = |p: &Period| {
        Some(LossPeriod {
            direction,
            first: point(p.first)?,
            last: point(p.last)?,
            lost: p.lost,
        })
    };
    for (a, b) in groups {
        let before = periods.get(next..a).unwrap_or_default();
        losses
            .background
            .extend(before.iter().filter_map(loss_period));
        next = b + 1;
        let members = periods.get(a..=b).unwrap_or_default();
        if let Some(outage) = outage(run, flow, direction, members, unseen, loss_period) {
            losses.outages.push(outage);
        }
    }
    let rest = periods.get(next..).unwrap_or_default();
    losses
        .background
        .extend(rest.iter().filter_map(loss_period));
    losses
}

fn outage(
    run: &Run,
    flow: &FlowRun,
    direction: Direction,
    members: &[Period],
    unseen: Span,
    loss_period: impl Fn(&Period) -> Option<LossPeriod>,
) -> Option<Outage> {
    let samples = &flow.samples;
    let (first, last) = (members.first()?, members.last()?);
    let good_before = first.good_before.and_then(|i| samples.get(i));
    let good_after = last.good_after.and_then(|i| samples.get(i));
    let (first_lost, last_lost) = (samples.get(first.first)?, samples.get(last.last)?);

    let mut at_least = Span::ZERO;
    let mut previous: Option<Mono> = None;
    for s in samples.get(first.first..=last.last)? {
        if evidence(s.fate, direction).is_none() {
            continue;
        }
        if let Some(previous) = previous
            && s.sent - previous <= unseen
        {
            at_least += s.sent - previous;
        }
        previous = Some(s.sent);
    }

    let from = good_before.map_or(first_lost.sent, |s| s.sent);
    let to = good_after.map_or(last_lost.sent, |s| s.sent);
    let within = |at: Mono| from <= at && at <= to;
    let refused = flow.refused.iter().filter(|(at, _)| within(*at)).count();
    let skipped: u64 = flow
        .skipped
        .iter()
        .filter(|(at, _)| within(*at))
        .map(|(_, n)| u64::from(*n))
        .sum();
    Some(Outage {
        direction,
        last_good: good_before.map(|s| point(run, s)),
        first_lost: point(run, first_lost),
        last_lost: point(run, last_lost),
        first_good: good_after.map(|s| point(run, s)),
        at_least_ns: Nanos(at_least),
        at_most_ns: good_before
            .zip(good_after)
            .map(|(a, b)| Nanos(b.sent - a.sent)),
        lost: members.iter().map(|p| p.lost).sum(),
        passed: last.goods - first.goods,
        loss_periods: members.iter().filter_map(loss_period).collect(),
        unsent: len(refused) + skipped,
    })
}

fn periods(samples: &[Sample], direction: Direction) -> Vec<Period> {
    let mut periods: Vec<Period> = Vec::new();
    let mut open = false;
    let mut good_before = None;
    let mut goods = 0;
    for (i, s) in samples.iter().enumerate() {
        match evidence(s.fate, direction) {
            Some(true) => {
                if open && let Some(period) = periods.last_mut() {
                    period.good_after = Some(i);
                }
                open = false;
                good_before = Some(i);
                goods += 1;
            }
            Some(false) => match periods.last_mut() {
                Some(period) if open => {
                    period.last = i;
                    period.lost += 1;
                }
                _ => {
                    open = true;
                    periods.push(Period {
                        first: i,
                        last: i,
                        lost: 1,
                        good_before,
                        good_after: None,
                        goods,
                    });
                }
            },
            None => {}
        }
    }
    periods
}

/// A probe as a point in time.
pub(crate) fn point(run: &Run, sample: &Sample) -> ProbePoint {
    ProbePoint {
        seq: sample.seq,
        sent: Utc(run.timeline.utc(sample.sent)),
    }
}

#[cfg(test)]
mod tests;
