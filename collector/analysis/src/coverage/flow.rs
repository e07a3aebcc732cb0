//! Finds what one flow tells of a direction, and for which instants.
//!
//! On the way out a probe tells of the instant at which it was sent. On the way back it tells of
//! the instant at which its *reply* left, by the reflector's clock: after a stall the replies to
//! minutes of probes leave within milliseconds and tell nothing of the way back during the stall.
//! If no departure is on record (a foreign reflector, no log), the time is the probe's sending
//! plus the residence that the reply states. A reply that took [`STALL`] longer than the flow's
//! others without saying why may have left at any time; it counts as if it had left at the end.

use super::Stretch;
use super::cause::{Blind, Cause, Causes};
use crate::align::{FlowRun, Run, STALL, Sample, is_no_route};
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
    /// Whether a probe of this fate tells something. A loss of unknown direction does: it shows.
    fn by(self, sample: &Sample) -> bool {
        let fate = sample.fate;
        // A reply refused for lack of a route tells that the way back was down.
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

    /// Whether a send refused with this `errno` tells something: without a route the way out is
    /// down.
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

/// Whose clock an instant is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockOf {
    /// The sender's run of this number.
    Sender(usize),
    /// The reflector's run of this number.
    Reflector(u32),
}

/// A probe or a refused send.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    /// The run of the session.
    pub(super) run: usize,
    /// When the probe was sent, on the sender's clock.
    pub(super) sent: Mono,
    /// When it, or its reply, left in the direction, and on whose clock.
    left: (ClockOf, Mono),
    /// The same on UTC.
    pub(super) at: Wall,
    /// How long it stayed at the reflector before it left; zero on the way out.
    stayed: Span,
    /// The number of the probe; `None` for a send that was refused.
    pub(super) order: Option<i64>,
    /// Why it tells nothing; `None` if it tells something.
    pub(super) cause: Option<Cause<'a>>,
}

impl Point<'_> {
    /// The time to a later point, on their common clock if they have one, else on UTC.
    fn until(&self, later: &Self) -> Span {
        let ((clock, left), (of_later, later_left)) = (self.left, later.left);
        if clock == of_later {
            later_left - left
        } else {
            later.at - self.at
        }
    }
}

/// Returns what one flow shows; two probes at most `grain` apart see the time between them.
pub(super) fn walk<'a>(causes: &Causes<'a, '_>, flow: u8, tells: Tells, grain: Span) -> View<'a> {
    let (from, to) = causes.question;
    let mut view = View::default();
    let mut previous: Option<Point<'a>> = None;
    let mut told: Option<Point<'a>> = None;
    for (index, run) in causes.session.runs.iter().enumerate() {
        let Some(records) = run.flows.get(&flow) else {
            continue;
        };
        // Time from the question's beginning to the first point. Earlier probes are not looked
        // at, so the travel time of the way out is no gap.
        let waited = |first: &Point<'a>| run.timeline.utc(first.sent) - from + first.stayed;
        for point in points(causes, index, run, records, tells, grain) {
            match &previous {
                None if waited(&point) > grain => {
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
                None if waited(&point) <= grain => view.see(from, point.at),
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

/// Returns the probes and refused sends of a flow in one run, in the order in which they, or
/// their replies, left.
fn points<'a, 'c>(
    causes: &'c Causes<'a, '_>,
    index: usize,
    run: &'c Run,
    records: &'c FlowRun,
    tells: Tells,
    grain: Span,
) -> Box<dyn Iterator<Item = Point<'a>> + 'c>
where
    'a: 'c,
{
    let points = as_sent(causes, index, run, records, tells);
    if tells != Tells::Reverse {
        return Box::new(points);
    }
    let usual = usual(records);
    let mut all: Vec<Point<'a>> = points.filter(|p| p.cause.is_some()).collect();
    for sample in records.samples.iter().filter(|s| tells.by(s)) {
        let reply = departed(causes, index, run, sample, usual);
        // A reply that left late tells nothing of the time before, although its probe was under
        // way. Half the grain already counts as late, so that no gap is left up to the first that
        // left.
        let stayed = reply.stayed > grain / 2;
        let sent = run.timeline.utc(sample.sent);
        if stayed || reply.at - sent > usual + grain / 2 {
            all.push(Point {
                left: (ClockOf::Sender(index), sample.sent),
                at: sent,
                cause: Some(causes.late(stayed)),
                ..reply
            });
        }
        all.push(reply);
    }
    all.sort_by_key(|p| (p.at, p.order));
    Box::new(all.into_iter())
}

/// Returns the points in the order of sending, dated by their sending.
fn as_sent<'a, 'c>(
    causes: &'c Causes<'a, '_>,
    index: usize,
    run: &'c Run,
    records: &'c FlowRun,
    tells: Tells,
) -> impl Iterator<Item = Point<'a>> + use<'a, 'c> {
    let mut samples = records.samples.iter().peekable();
    let mut refused = records.refused.iter().peekable();
    let sent = move |at: Mono, order: Option<i64>, cause: Option<Cause<'a>>| Point {
        run: index,
        sent: at,
        left: (ClockOf::Sender(index), at),
        at: run.timeline.utc(at),
        stayed: Span::ZERO,
        order,
        cause,
    };
    let of_sample = move |s: &Sample| {
        let cause = (!tells.by(s)).then(|| causes.of_probe(index, run, s, tells));
        sent(s.sent, Some(s.order), cause)
    };
    core::iter::from_fn(move || match (samples.peek(), refused.peek()) {
        (Some(s), Some((at, _))) if s.sent <= *at => samples.next().map(of_sample),
        (_, Some(_)) => refused.next().map(|(at, errno)| {
            let cause = (!tells.by_refusal(*errno)).then(|| causes.refused(*errno));
            sent(*at, None, cause)
        }),
        _ => samples.next().map(of_sample),
    })
}

/// When the reply to a probe that reached the reflector left it.
fn departed<'a>(
    causes: &Causes<'a, '_>,
    index: usize,
    run: &Run,
    sample: &Sample,
    usual: Span,
) -> Point<'a> {
    let logged = sample.reflected.zip(sample.departed);
    let known = logged.zip(causes.session.log.left(sample));
    let (left, at, stayed) = match known {
        Some((((number, arrived), left), at)) => {
            ((ClockOf::Reflector(number), left.at), at, left.at - arrived)
        }
        None => {
            let stayed = if sample.replied {
                may_have_stayed(sample, usual)
            } else {
                causes.held(index, run, sample)
            };
            let left = sample.sent + stayed;
            (
                (ClockOf::Sender(index), left),
                run.timeline.utc(left),
                stayed,
            )
        }
    };
    Point {
        run: index,
        sent: sample.sent,
        left,
        at,
        stayed,
        order: Some(sample.order),
        cause: None,
    }
}

/// How long a probe stayed at the reflector, or may have stayed, by its reply alone.
fn may_have_stayed(sample: &Sample, usual: Span) -> Span {
    let beyond = sample.round_trip - usual;
    if beyond < STALL {
        sample.stayed
    } else {
        sample.stayed + beyond
    }
}

/// The flow's median round trip.
fn usual(records: &FlowRun) -> Span {
    let replied = records.samples.iter().filter(|s| s.replied);
    let mut trips: Vec<Span> = replied.map(|s| s.round_trip).collect();
    let middle = trips.len() / 2;
    if trips.is_empty() {
        return Span::ZERO;
    }
    *trips.select_nth_unstable(middle).1
}
