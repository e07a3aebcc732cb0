//! What one flow tells of a direction, and when.

use super::Stretch;
use super::cause::{Blind, Cause, Causes};
use crate::align::{FlowRun, Run, Sample, is_no_route};
use crate::findings::Direction;
use crate::loss::Fate;
use crate::outage::evidence;
use hopgap_proto::time::{Mono, Span, Wall};

/// Which probes count as telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// Those that tell of the way out.
    Forward,
    /// Those that tell of the way back.
    Reverse,
    /// Those that tell anything.
    Either,
}

impl Tells {
    /// Whether a probe of this fate tells. A loss of unknown direction does: it shows.
    fn by(self, sample: &Sample) -> bool {
        let fate = sample.fate;
        // A reply that was refused for want of a route tells that the way back was down.
        if self == Self::Reverse && sample.reply_refused.is_some_and(is_no_route) {
            return true;
        }
        let direction = match self {
            Self::Forward => Direction::Forward,
            Self::Reverse => Direction::Reverse,
            Self::Either => return fate.is_evidence(),
        };
        fate == Fate::LostUnknown || evidence(fate, direction).is_some()
    }

    /// Whether a send refused for this `errno` tells: without a route the way out is down.
    fn by_refusal(self, errno: i32) -> bool {
        self != Self::Reverse && is_no_route(errno)
    }
}

/// What was seen of a direction, and why the rest was not.
#[derive(Debug, Default)]
pub(super) struct View<'a> {
    /// The stretches that were seen.
    pub(super) seen: Vec<Stretch>,
    /// The stretches that were not.
    pub(super) blind: Vec<Blind<'a>>,
}

impl<'a> View<'a> {
    fn see(&mut self, from: Wall, to: Wall) {
        if from >= to {
            return;
        }
        match self.seen.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => self.seen.push((from, to)),
        }
    }

    fn miss(&mut self, from: Wall, to: Wall, cause: Cause<'a>) {
        if from >= to {
            return;
        }
        match self.blind.last_mut() {
            Some(last) if last.to == from && last.cause == cause => last.to = to,
            _ => self.blind.push(Blind { from, to, cause }),
        }
    }
}

/// A probe or a refused send.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    /// The run of the session.
    pub(super) run: usize,
    /// When, on the sender's clock.
    pub(super) sent: Mono,
    /// The same on UTC.
    pub(super) at: Wall,
    /// The number of the probe; `None` for a send that was refused.
    pub(super) order: Option<i64>,
    /// Why it tells nothing; `None` where it tells.
    pub(super) cause: Option<Cause<'a>>,
}

impl Point<'_> {
    /// The time to a later one: on the sender's own clock where it is the same run's.
    fn until(&self, later: &Self) -> Span {
        if self.run == later.run {
            later.sent - self.sent
        } else {
            later.at - self.at
        }
    }
}

/// What one flow tells, two probes at most `grain` apart.
pub(super) fn walk<'a>(causes: &Causes<'a, '_>, flow: u8, tells: Tells, grain: Span) -> View<'a> {
    let (from, to) = causes.question;
    let mut view = View::default();
    let mut previous: Option<Point<'a>> = None;
    let mut told: Option<Point<'a>> = None;
    for (index, run) in causes.session.runs.iter().enumerate() {
        let Some(records) = run.flows.get(&flow) else {
            continue;
        };
        for point in points(causes, index, run, records, tells) {
            match &previous {
                None if point.at - from > grain => {
                    view.miss(from, point.at, causes.before(run));
                }
                None => {}
                Some(before) if before.until(&point) > grain => {
                    view.miss(before.at, point.at, causes.between(before, &point, records));
                }
                Some(before) => {
                    if let Some(cause) = point.cause.or(before.cause) {
                        view.miss(before.at, point.at, cause);
                    }
                }
            }
            previous = Some(point);
            if point.cause.is_some() {
                continue;
            }
            match &told {
                None if point.at - from <= grain => view.see(from, point.at),
                Some(last) if last.until(&point) <= grain => view.see(last.at, point.at),
                _ => {}
            }
            told = Some(point);
        }
    }
    match &previous {
        None => view.miss(from, to, causes.never(flow)),
        Some(last) => match last.cause {
            Some(cause) if to - last.at <= grain => view.miss(last.at, to, cause),
            _ => view.miss(last.at, to, causes.after(last)),
        },
    }
    if let Some(last) = told
        && to - last.at <= grain
    {
        view.see(last.at, to);
    }
    view
}

/// The probes and the refused sends of a flow in one run, in the order of time.
fn points<'a, 'c>(
    causes: &'c Causes<'a, '_>,
    index: usize,
    run: &'c Run,
    records: &'c FlowRun,
    tells: Tells,
) -> impl Iterator<Item = Point<'a>> + use<'a, 'c> {
    let mut samples = records.samples.iter().peekable();
    let mut refused = records.refused.iter().peekable();
    let of_sample = move |s: &Sample| Point {
        run: index,
        sent: s.sent,
        at: run.timeline.utc(s.sent),
        order: Some(s.order),
        cause: (!tells.by(s)).then(|| causes.of_probe(index, run, s)),
    };
    core::iter::from_fn(move || match (samples.peek(), refused.peek()) {
        (Some(s), Some((at, _))) if s.sent <= *at => samples.next().map(of_sample),
        (_, Some(_)) => refused.next().map(|(at, errno)| Point {
            run: index,
            sent: *at,
            at: run.timeline.utc(*at),
            order: None,
            cause: (!tells.by_refusal(*errno)).then(|| causes.refused(*errno)),
        }),
        _ => samples.next().map(of_sample),
    })
}
