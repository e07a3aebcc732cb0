//! Finds how much of the question was seen in each direction, and why the rest was not.
//!
//! **The question** is a stretch of UTC: a drill, or the period that a report covers. It is
//! judged from beginning to end, however far the data reach.
//!
//! **Seen.** An instant of a direction was seen if it lies between two probes of one flow that
//! tell of this direction and left the direction's first host at most the *grain* apart: any
//! longer outage would have lost one of them. On the way out that is when the probes were sent;
//! on the way back it is when their *replies* departed, by the kernel's stamps in the reflector's
//! log. All flows of all sessions between two hosts, in either probing direction, are combined:
//! one of them may know what another cannot. A loss of unknown direction counts as seen, too: it
//! shows as an outage of unknown direction.
//!
//! **A host that stands still** (stopped, starved, frozen) is not a network fault, and nobody
//! sees what it would have sent. Three things follow from the rule above:
//! - *Towards it*, nothing is missing where its kernel received packets meanwhile and the log has
//!   them: they left their sender at that time and arrived. If nothing shows that the kernel
//!   received any, either the path or the host may be at fault, and the time is not seen.
//! - *From it*, nothing was seen. Replies to all waiting probes leave at once when it goes on, so
//!   they say nothing of the time before, and it sends no probes of its own. Late replies,
//!   however late, are no loss, but also no evidence for a time before they left.
//! - Only packets that still left this host prove the direction meanwhile: probes of a session
//!   whose thread went on, of another process or of another flow.
//!
//! So a stall longer than the objective leaves the verdict undecided, because an outage of that
//! length could have hidden in it.
//!
//! **The grain** is one interval more than the number of good probes that an outage may contain,
//! and at least 100 ms (or the objective, if that is less): shorter gaps come from the scheduler
//! and hide nothing that matters.
//!
//! **Why not.** `cause` gives the reason for each pair of points of a flow (a probe, a refused
//! send, an edge of the question) that are further apart, and for probes that tell nothing. If
//! several flows give different causes, the first in the order of [`MissingCause`] is shown.

mod awaited;
mod cause;
mod flow;

pub(crate) use awaited::Ends;

use crate::align::{Placed, Session};
use crate::findings::{Coverage, DirectionCoverage, Missing, Window};
use crate::input::Input;
use crate::schema::{Nanos, Utc};
use crate::stretches::Stretches;
use cause::{Causes, LostRecords};
use flow::{Tells, View};
use hopgap_proto::plan::Objective;
use hopgap_proto::time::{Span, Wall};

/// Gaps up to this long are the scheduler's.
const LEAST_GRAIN: Span = Span::from_millis(100);

/// A stretch of UTC.
type Stretch = (Wall, Wall);

/// What a verdict needs to know beyond what findings show.
pub(crate) struct Seen {
    /// What the findings show.
    pub(crate) coverage: Coverage,
    /// The longest stretch of a flow that could hide an outage longer than the objective.
    pub(crate) unseen_flow: Option<UnseenFlow>,
}

/// A stretch of a flow that could hide an outage longer than the objective.
pub(crate) struct UnseenFlow {
    pub(crate) session: String,
    pub(crate) flow: u8,
    pub(crate) missing: Missing,
}

/// Finds how much of `question` was seen.
pub(crate) fn find(
    input: &Input,
    placed: &Placed,
    sessions: &[Session<'_>],
    question: Option<Stretch>,
) -> Seen {
    let Some(question) = question else {
        return Seen {
            coverage: Coverage::default(),
            unseen_flow: None,
        };
    };
    let objective = &input.plan.objective;
    let ends: Vec<Ends> = sessions
        .iter()
        .map(|s| Ends::of(input, s, question))
        .collect();
    let lost = LostRecords::of(input, placed);
    let mut directions: Vec<Building<'_>> = Vec::new();
    let mut unseen_flow: Option<UnseenFlow> = None;
    for (session, ends) in sessions.iter().zip(&ends) {
        let causes = Causes::new(session, ends, &lost, question);
        let grain = grain(session, objective);
        for flow in session.flow_indices() {
            for tells in [Tells::Forward, Tells::Reverse] {
                let view = flow::walk(&causes, flow, tells, grain);
                Building::take(&mut directions, session, tells, grain, view);
            }
            let limit = objective.outage + session.plan.interval * 2;
            let view = flow::walk(&causes, flow, Tells::Either, limit);
            let asked = session.asked_of(flow, question);
            let found = unseen_in(session, flow, view, asked, limit);
            let longest = |u: &UnseenFlow| u.missing.lasted_ns;
            if let Some(found) = found
                && unseen_flow
                    .as_ref()
                    .is_none_or(|u| longest(u) < longest(&found))
            {
                unseen_flow = Some(found);
            }
        }
    }
    let awaited = awaited::all(&ends);
    Seen {
        coverage: Coverage {
            asked: Some(window(question)),
            directions: directions.into_iter().map(|d| d.finish(question)).collect(),
            preliminary: !awaited.is_empty(),
            awaited,
        },
        unseen_flow,
    }
}

fn window((from, to): Stretch) -> Window {
    Window {
        from: Utc(from),
        to: Utc(to),
    }
}

/// Returns how far apart two probes may be so that the time between them counts as seen.
fn grain(session: &Session<'_>, objective: &Objective) -> Span {
    let probing = session.plan.interval * i64::from(objective.min_good).saturating_add(1);
    probing.max(LEAST_GRAIN.min(objective.outage))
}

/// Finds the longest stretch of one flow without a probe that tells anything.
fn unseen_in(
    session: &Session<'_>,
    flow: u8,
    view: View<'_>,
    question: Stretch,
    limit: Span,
) -> Option<UnseenFlow> {
    let gaps = complement(&Stretches::of(view.seen), question, limit);
    let (from, to) = gaps.into_iter().max_by_key(|(from, to)| *to - *from)?;
    let parts = cause::told(&[(from, to)], view.blind, limit);
    let part = parts.into_iter().max_by_key(|m| m.lasted_ns)?;
    Some(UnseenFlow {
        session: session.plan.name.to_string(),
        flow,
        missing: Missing {
            from: Utc(from),
            to: Utc(to),
            lasted_ns: Nanos(to - from),
            cause: part.cause,
        },
    })
}

/// The coverage of one direction between two hosts, while it is built.
struct Building<'a> {
    from: String,
    to: String,
    sessions: Vec<String>,
    grain: Span,
    view: View<'a>,
}

impl<'a> Building<'a> {
    /// Adds what one flow of a session tells to its direction.
    fn take(all: &mut Vec<Self>, session: &Session<'_>, tells: Tells, grain: Span, view: View<'a>) {
        let (mut from, mut to) = (session.plan.from.to_string(), session.to_name());
        if tells == Tells::Reverse {
            core::mem::swap(&mut from, &mut to);
        }
        let place = all.iter().position(|d| d.from == from && d.to == to);
        let place = place.unwrap_or_else(|| {
            all.push(Self {
                from,
                to,
                sessions: Vec::new(),
                grain,
                view: View::default(),
            });
            all.len() - 1
        });
        let Some(building) = all.get_mut(place) else {
            return;
        };
        let name = session.plan.name.to_string();
        if !building.sessions.contains(&name) {
            building.sessions.push(name);
        }
        building.grain = building.grain.max(grain);
        building.view.seen.extend(view.seen);
        building.view.blind.extend(view.blind);
    }

    fn finish(self, question: Stretch) -> DirectionCoverage {
        let seen = Stretches::of(self.view.seen);
        // Replies that left after the question's end tell of the time before.
        let seen_until = seen.last().map(|(_, to)| Utc(to.min(question.1)));
        let gaps = complement(&seen, question, self.grain);
        let asked = (question.1 - question.0).max(Span::ZERO);
        let missing: Span = gaps.iter().map(|(from, to)| *to - *from).sum();
        let seen = asked - missing;
        let longest = gaps.iter().map(|(from, to)| *to - *from).max();
        DirectionCoverage {
            from: self.from,
            to: self.to,
            sessions: self.sessions,
            grain_ns: Nanos(self.grain),
            asked_ns: Nanos(asked),
            seen_ns: Nanos(seen),
            seen_ppm: ppm(seen, asked, gaps.is_empty()),
            longest_missing_ns: Nanos(longest.unwrap_or_default()),
            seen_until,
            missing: cause::told(&gaps, self.view.blind, self.grain),
        }
    }
}

/// Parts per million, rounded down; a million only where it is `all`.
fn ppm(part: Span, whole: Span, all: bool) -> u32 {
    const MILLION: u32 = 1_000_000;
    if all {
        return MILLION;
    }
    let scaled = i128::from(part.as_nanos()) * i128::from(MILLION);
    let ppm = scaled
        .checked_div(i128::from(whole.as_nanos()))
        .unwrap_or_default();
    u32::try_from(ppm).unwrap_or_default().min(MILLION - 1)
}

/// Returns the parts of the question outside all stretches that are longer than `grain`. Without
/// any stretch, returns the whole question, however short.
fn complement(seen: &Stretches<Wall>, (from, to): Stretch, grain: Span) -> Vec<Stretch> {
    if seen.is_empty() {
        return vec![(from, to.max(from))];
    }
    let mut gaps = Vec::new();
    let mut end = from;
    for (a, b) in seen.iter().chain([(to, to)]) {
        let a = a.min(to);
        if a - end > grain {
            gaps.push((end, a));
        }
        end = end.max(b);
    }
    gaps
}

#[cfg(test)]
mod tests;
