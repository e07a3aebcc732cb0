//! A host whose agent is stopped: what leaves it is not seen, what it took in is.
//!
//! What left it is told by the wire: between the last packet of the host before the stop and
//! the first after it nothing can have told anybody of the direction that leaves it. What
//! reached it meanwhile and was answered later was on its way in time, and proves the other.

use super::Judgement;
use super::report::{DirectionCoverage, Missing, Report};
use crate::campaign::program::Act;
use crate::campaign::record::Record;
use crate::campaign::truth::{Probe, Truth};
use crate::campaign::world::{NAMES, side_of};
use hopgap_proto::time::{Mono, Span};

/// A host that is stopped for this long must be told to have stood still.
const STOPPED: Span = Span::from_secs(1);
/// What was seen begins and ends this close to what left the host, at the latest.
const NEAR: Span = Span::from_millis(150);
/// Gaps up to this long are the scheduler's, and no more is promised.
const GRAIN: Span = Span::from_millis(100);

/// One stop of an agent.
struct Stop {
    side: usize,
    from: Mono,
    until: Mono,
}

impl Stop {
    fn name(&self) -> &'static str {
        NAMES.get(self.side).copied().unwrap_or_default()
    }

    fn middle(&self) -> Mono {
        self.from + Span::from_nanos((self.until - self.from).as_nanos() / 2)
    }
}

/// All stops that ended.
fn stops(record: &Record) -> impl Iterator<Item = Stop> {
    record.program.steps.iter().filter_map(|step| {
        let (Act::Stop(host), Some(until)) = (&step.act, step.until) else {
            return None;
        };
        Some(Stop {
            side: side_of(*host),
            from: record.begin() + step.from,
            until: record.begin() + until,
        })
    })
}

impl Judgement {
    /// A host that stood still is told as such, for all of that time, and as nothing else.
    pub(super) fn compare_stalls(
        &mut self,
        record: &Record,
        truth: &Truth,
        report: &Report,
        window: (Mono, Mono),
    ) {
        let offset = Span::from_nanos(record.wall_minus_mono_ns);
        for stop in stops(record) {
            let long = stop.until - stop.from >= STOPPED;
            if !long || stop.from < window.0 || stop.until > window.1 {
                continue;
            }
            let label = format!(
                "agent {}, stopped for {}",
                stop.name(),
                stop.until - stop.from
            );
            let Some(coverage) = &report.findings.coverage else {
                self.wrong(&label, "the report does not say what was seen");
                continue;
            };
            for direction in &coverage.directions {
                if direction.from == stop.name() {
                    self.compare_leaving(&label, &stop, truth, direction, offset);
                } else {
                    self.compare_arriving(&label, &stop, truth, direction, offset);
                }
            }
            if !coverage.directions.iter().any(|d| d.from == stop.name()) {
                self.wrong(&label, "the report says that all was seen meanwhile");
            }
        }
    }

    fn compare_leaving(
        &mut self,
        label: &str,
        stop: &Stop,
        truth: &Truth,
        direction: &DirectionCoverage,
        offset: Span,
    ) {
        let middle = stop.middle();
        let told = at(direction, middle, offset);
        let Some(told) = told else {
            self.wrong(label, "the report says that all was seen meanwhile");
            return;
        };
        if told.cause.code != "host_stalled" {
            self.wrong(label, format!("told as `{}`", told.cause.code));
        }
        // From the last that left it before to the first that left it after.
        let (from, to) = silence(truth, stop.side, middle);
        for edge in [from + NEAR, to - NEAR] {
            if edge <= from || edge >= to {
                continue;
            }
            match at(direction, edge, offset) {
                None => {
                    let what = format!(
                        "nothing left it from {} before its middle to {} after; told as seen {} after its middle",
                        middle - from,
                        to - middle,
                        edge - middle
                    );
                    self.wrong(label, what);
                }
                Some(missing) if missing.cause.code != "host_stalled" => {
                    let code = &missing.cause.code;
                    self.wrong(
                        label,
                        format!("told as `{code}` {} after its middle", edge - middle),
                    );
                }
                Some(_) => {}
            }
        }
    }

    /// What its kernel took in and its agent answered later proves the way there.
    fn compare_arriving(
        &mut self,
        label: &str,
        stop: &Stop,
        truth: &Truth,
        direction: &DirectionCoverage,
        offset: Span,
    ) {
        let middle = stop.middle();
        let proven = truth.flows.iter().filter(|flow| flow.side != stop.side);
        let mut proven = proven.map(|flow| {
            let answered = |p: &&Probe| p.back.is_some();
            let mut before = flow.probes.iter().filter(answered);
            let before = before.rfind(|p| p.out.enter <= middle);
            let after = flow
                .probes
                .iter()
                .filter(answered)
                .find(|p| p.out.enter > middle);
            before.zip(after).map(|(a, b)| b.out.enter - a.out.enter)
        });
        let proven = proven.any(|gap| gap.is_some_and(|gap| gap < GRAIN));
        if let Some(missing) = at(direction, middle, offset).filter(|_| proven) {
            let code = &missing.cause.code;
            let what = format!("what its kernel took in meanwhile is told as missing, `{code}`");
            self.wrong(label, what);
        }
    }
}

/// A program that is stopped for less need not notice.
const NOTICED: Span = Span::from_millis(450);
/// What arrived this close to the edges of a stop may have been taken in beside it.
const BESIDE: Span = Span::from_millis(60);
/// A packet is under way for this long, at the most.
const UNDER_WAY: Span = Span::from_millis(20);

/// When nobody can tell whether this side's host was stopped or frozen as a whole, its kernel
/// with it: no packet came out of the network to it between the edges of the stop, and the
/// report says that the direction towards it was not seen because it stood still. Of what was
/// lost on the way there meanwhile the report may then claim nothing; what it claims must be
/// true.
pub(super) fn deaf(
    record: &Record,
    truth: &Truth,
    report: &Report,
    side: usize,
) -> Vec<(Mono, Mono)> {
    let offset = Span::from_nanos(record.wall_minus_mono_ns);
    let towards = NAMES.get(1 - side).copied().unwrap_or_default();
    let coverage = report.findings.coverage.iter();
    let directions = coverage.flat_map(|c| &c.directions);
    let missing: Vec<(Mono, Mono)> = directions
        .filter(|d| d.from == towards)
        .flat_map(|d| &d.missing)
        .filter(|m| m.cause.code == "host_stalled")
        .map(|m| (m.from.mono(offset), m.to.mono(offset)))
        .collect();
    let arrived = |from: Mono, to: Mono| {
        let mut flows = truth.flows.iter();
        flows.any(|flow| {
            let direction = flow.side ^ side ^ 1;
            let mut ways = flow.probes.iter().filter_map(|p| p.way(direction)?.exit);
            ways.any(|at| at > from && at < to)
        })
    };
    stops(record)
        .filter(|stop| stop.side == side && stop.until - stop.from >= NOTICED)
        .filter(|stop| !arrived(stop.from + BESIDE, stop.until - BESIDE))
        .flat_map(|stop| {
            // With what was under way when it stopped, and when the last was seen.
            let (from, until) = (stop.from - UNDER_WAY, stop.until);
            let parts = missing.iter();
            parts.map(move |(a, b)| ((*a - UNDER_WAY).max(from), (*b).min(until)))
        })
        .filter(|(from, to)| from < to)
        .collect()
}

/// What the report says to be missing at an instant.
fn at(direction: &DirectionCoverage, at: Mono, offset: Span) -> Option<&Missing> {
    let mut missing = direction.missing.iter();
    missing.find(|m| m.from.mono(offset) <= at && at <= m.to.mono(offset))
}

/// From the last packet before an instant that left this side's host to the first after it.
fn silence(truth: &Truth, side: usize, around: Mono) -> (Mono, Mono) {
    let left = || {
        truth.flows.iter().flat_map(move |flow| {
            let direction = flow.side ^ side;
            let ways = flow.probes.iter();
            ways.filter_map(move |p| p.way(direction)).map(|p| p.enter)
        })
    };
    let before = left().filter(|at| *at <= around).max();
    let after = left().filter(|at| *at > around).min();
    (before.unwrap_or(around), after.unwrap_or(around))
}
