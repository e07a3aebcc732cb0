//! Outages: loss of connectivity in one direction of one flow.
//!
//! **Evidence.** Each direction is judged by the probes that tell something of it. Forward: a
//! probe that is known to have reached the reflector is good (answered, or logged there although
//! the reply was lost or held back by policy); one lost on the way out is lost. Reverse: only
//! probes that reached the reflector count; answered is good, lost on the way back is lost, and
//! one lost on the way out tells nothing. Losses of unknown direction are judged separately,
//! against the answered probes.
//!
//! **Which losses are an outage.** A loss period (RFC 3357) is a run of lost probes without a
//! good one between, in the order of sending. Only loss periods of at least `min_lost` probes
//! make an outage. Two of them are one outage if fewer than `min_good` good probes lie between
//! them; shorter loss periods between the two belong to it. Shorter loss periods beside an outage
//! never belong to it, however close: with 1 % of random loss, one outage in ten has such a loss
//! within five probes of one of its ends, and merging those would silently stretch every tenth
//! outage. They stay listed as background loss, and a transition's remarks name those that lie
//! close.
//!
//! **Bounds.** S is the instant at which a probe or reply left the direction's first host. If the
//! probes a..b were lost, the outage lasted at least S_b − S_a and at most S of the next good one
//! − S of the last good one. On the way out S is when the *probe* was sent, by the sender's
//! clock. On the way back it is when the *reply* departed, by the reflector's clock: after a
//! queue on the way out, or a stall of the reflector, seconds of probes leave again within
//! milliseconds. If the reflector's log does not say when replies departed (a foreign reflector,
//! records of old versions), the probes' send times are used, and the lower bound is reduced by
//! as much as the residence varies between the good ones beside the outage. See [`timed`].
//! Replies may leave in another order than their probes: the last good one is the last that left
//! before any of the lost ones, the next good one the first that left after all of them.
//!
//! If nothing tells of the direction for more than `min_good` intervals (the sender slept, or the
//! other direction failed, too), that time is left out of the lower bound: nobody knows whether
//! this direction was up.
//!
//! **Refused sends.** A send that the host's own kernel refuses for lack of a route is not a lost
//! packet, but proves that the direction had no path at that instant. It counts as evidence like
//! a loss, both for the bounds and for what is an outage, and is counted separately.

mod timed;

use crate::align::{FlowRun, ReflectorLog, Run, Sample};
use crate::findings::{Direction, LossPeriod, Outage, OutageCause, ProbePoint};
use crate::loss::{Fate, len};
use crate::schema::{Nanos, Utc};
use hopgap_proto::plan::Objective;
use hopgap_proto::time::{Mono, Span};
use timed::{Delivery, Seen};

/// A reply that leaves within this time of its probe's sending is reported with the send time.
/// Later ones (after a queue on the way out, or a stall of the reflector) are reported with their
/// own departure.
const SOON: Span = Span::from_millis(100);

/// What one flow of one run lost in one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// Its outages, in the order of time.
    pub(crate) outages: Vec<Outage>,
    /// Loss periods that belong to no outage, in the order of time.
    pub(crate) background: Vec<LossPeriod>,
}

/// Returns what a probe says of a direction: `Some(true)` if it got through, `Some(false)` if
/// not, `None` if it says nothing.
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

/// A loss period, by positions in the evidence for the direction. Its probes are given in the
/// order of sending (RFC 3357); replies may leave in another.
#[derive(Clone, Copy, Debug)]
struct Period {
    /// The first and the last to leave among those that were lost or refused.
    first: usize,
    last: usize,
    /// The lost ones whose probes were sent first and last; `None` if all were refused.
    lost_between: Option<(usize, usize)>,
    lost: u64,
    refused: u64,
    /// Good ones since the beginning; used to count those between two periods.
    goods: u64,
}

/// Finds the outages and the background loss of one flow in one direction.
pub(crate) fn find(
    (run, flow): (&Run, &FlowRun),
    log: &ReflectorLog,
    direction: Direction,
    objective: &Objective,
    interval: Span,
) -> Losses {
    let seen = timed::line(run, flow, direction, log);
    let periods = periods(&seen, &as_sent(&seen));
    let min_lost = u64::from(objective.min_lost.max(1));
    let min_good = u64::from(objective.min_good);

    // Groups of period indices: the first and last are long, those between may be short.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (i, period) in periods.iter().enumerate() {
        if period.lost + period.refused < min_lost {
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

    let line = Line {
        run,
        flow,
        direction,
        seen: &seen,
        unseen: interval * i64::from(objective.min_good).saturating_add(1),
    };
    let mut losses = Losses::default();
    let mut next = 0;
    for (a, b) in groups {
        let before = periods.get(next..a).unwrap_or_default();
        losses
            .background
            .extend(before.iter().filter_map(|p| line.loss_period(p)));
        next = b + 1;
        let members = periods.get(a..=b).unwrap_or_default();
        losses.outages.extend(line.outage(members));
    }
    let rest = periods.get(next..).unwrap_or_default();
    losses
        .background
        .extend(rest.iter().filter_map(|p| line.loss_period(p)));
    losses
}

/// The evidence for one direction of one flow.
struct Line<'a> {
    run: &'a Run,
    flow: &'a FlowRun,
    direction: Direction,
    seen: &'a [Seen],
    /// A longer gap is time of which nothing is known.
    unseen: Span,
}

impl Line<'_> {
    fn point(&self, place: usize) -> Option<ProbePoint> {
        self.seen.get(place).map(|s| ProbePoint {
            seq: s.seq,
            sent: Utc(self.run.timeline.utc(s.sent)),
        })
    }

    /// When a probe, or its reply, left the host that the direction leaves.
    fn left(&self, seen: &Seen) -> Utc {
        let later = if seen.later > SOON {
            seen.later
        } else {
            Span::ZERO
        };
        Utc(self.run.timeline.utc(seen.sent) + later)
    }

    /// Returns the loss period of RFC 3357, which has lost probes only.
    fn loss_period(&self, period: &Period) -> Option<LossPeriod> {
        let (first, last) = period.lost_between?;
        Some(LossPeriod {
            direction: self.direction,
            first: self.point(first)?,
            last: self.point(last)?,
            lost: period.lost,
        })
    }

    fn outage(&self, members: &[Period]) -> Option<Outage> {
        let passed = members.last()?.goods - members.first()?.goods;
        let first = members.iter().map(|p| p.first).min()?;
        let last = members.iter().map(|p| p.last).max()?;
        let is_good = |i: &usize| self.seen.get(*i).is_some_and(|s| s.said == Delivery::Good);
        let before = (0..first).rev().find(is_good);
        let after = (last + 1..self.seen.len()).find(is_good);
        let good_before = before.and_then(|i| self.seen.get(i));
        let good_after = after.and_then(|i| self.seen.get(i));
        let (first_bad, last_bad) = (self.seen.get(first)?, self.seen.get(last)?);
        let lost_places = || members.iter().filter_map(|p| p.lost_between);
        let sent = |place: &usize| self.seen.get(*place).map(|s| (s.sent, s.seq));
        let (first_lost, last_lost) = (
            lost_places().map(|(a, _)| a).min_by_key(sent),
            lost_places().map(|(_, b)| b).max_by_key(sent),
        );
        let (first_lost, last_lost) = (first_lost.unwrap_or(first), last_lost.unwrap_or(last));

        let from = good_before.map_or(first_bad.sent, |s| s.sent);
        let to = good_after.map_or(last_bad.sent, |s| s.sent);
        let within = |at: Mono| from <= at && at <= to;
        let flow = self.flow;
        let unsent = flow.refused.iter().filter(|(at, _)| within(*at)).count();
        let skipped: u64 = flow
            .skipped
            .iter()
            .filter(|(at, _)| within(*at))
            .map(|(_, n)| u64::from(*n))
            .sum();
        Some(Outage {
            direction: self.direction,
            last_good: before.and_then(|i| self.point(i)),
            first_lost: self.point(first_lost)?,
            last_lost: self.point(last_lost)?,
            first_good: after.and_then(|i| self.point(i)),
            began: self.left(first_bad),
            ended: good_after.map(|good| self.left(good)),
            at_least_ns: Nanos(self.at_least(first, last, good_before, good_after)),
            at_most_ns: good_before
                .zip(good_after)
                .map(|(a, b)| Nanos((b.latest - a.at).max(Span::ZERO))),
            lost: members.iter().map(|p| p.lost).sum(),
            refused: members.iter().map(|p| p.refused).sum(),
            cause: self.cause(first, last),
            passed,
            loss_periods: members.iter().filter_map(|p| self.loss_period(p)).collect(),
            unsent: len(unsent) + skipped,
        })
    }

    fn at_least(
        &self,
        first: usize,
        last: usize,
        before: Option<&Seen>,
        after: Option<&Seen>,
    ) -> Span {
        let inner = self.seen.get(first..=last).unwrap_or_default();
        let mut at_least = Span::ZERO;
        for pair in inner.windows(2) {
            if let [a, b] = pair
                && b.at - a.at <= self.unseen
            {
                at_least += b.at - a.at;
            }
        }
        // The first may have left a little after it was ready.
        let late = inner.first().map_or(Span::ZERO, |s| s.latest - s.at);
        (at_least - late - timed::bunched(inner, before, after)).max(Span::ZERO)
    }

    /// Returns why the direction failed, as far as is known.
    fn cause(&self, first: usize, last: usize) -> Option<OutageCause> {
        let refusals = self.seen.get(first..=last)?.iter();
        let mut refusals = refusals.filter(|s| matches!(s.said, Delivery::Refused(_)));
        let first = refusals.next()?;
        let last = refusals.next_back().unwrap_or(first);
        let Delivery::Refused(errno) = first.said else {
            return None;
        };
        let at = |s: &Seen| Utc(self.run.timeline.utc(s.at));
        Some(OutageCause::NoRoute {
            errno,
            first: at(first),
            last: at(last),
        })
    }
}

/// Returns the positions in the evidence in the order in which the probes were sent.
fn as_sent(seen: &[Seen]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..seen.len()).collect();
    order.sort_by_key(|i| seen.get(*i).map(|s| (s.sent, s.seq)));
    order
}

fn periods(seen: &[Seen], order: &[usize]) -> Vec<Period> {
    let mut periods: Vec<Period> = Vec::new();
    let mut open = false;
    let mut goods = 0;
    for &i in order {
        let Some(s) = seen.get(i) else {
            continue;
        };
        if s.said == Delivery::Good {
            open = false;
            goods += 1;
            continue;
        }
        if !open {
            open = true;
            periods.push(Period {
                first: i,
                last: i,
                lost_between: None,
                lost: 0,
                refused: 0,
                goods,
            });
        }
        let Some(period) = periods.last_mut() else {
            continue;
        };
        period.first = period.first.min(i);
        period.last = period.last.max(i);
        if s.said == Delivery::Lost {
            let first = period.lost_between.map_or(i, |(first, _)| first);
            period.lost_between = Some((first, i));
            period.lost += 1;
        } else {
            period.refused += 1;
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
