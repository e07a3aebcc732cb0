//! The verdict against the objective.
//!
//! A proven outage over the objective misses it, whatever data are missing. The objective is met
//! only if no such outage could hide: neither in the unseen time of a direction between two
//! hosts, nor in that of a single flow, whose path other flows need not take. A drill in which a
//! failover was marked but nothing left its path has tested nothing.

use crate::align::Session;
use crate::coverage::Seen;
use crate::findings::{
    DirectionCoverage, Marker, MarkerKind, Missing, Outage, SessionFindings, Verdict,
    VerdictReason, VerdictResult,
};
use crate::loss::len;
use crate::path::{Epoch, Paths, SessionEpochs};
use crate::schema::{Nanos, Utc};
use crate::text;
use hopgap_proto::plan::Objective;
use hopgap_proto::time::Span;
use std::collections::BTreeSet;

/// How long before its marker a change may lie: people press keys late, and hosts' clocks differ.
const MARKED_LATE: Span = Span::from_secs(60);

/// What a verdict is based on. Sessions, epochs and findings are parallel.
pub(crate) struct Case<'a> {
    pub(crate) sessions: &'a [Session<'a>],
    pub(crate) epochs: &'a [SessionEpochs],
    pub(crate) found: &'a [SessionFindings],
    pub(crate) markers: &'a [Marker],
    pub(crate) paths: Paths<'a>,
    pub(crate) objective: &'a Objective,
    pub(crate) seen: &'a Seen,
}

/// Judges all outages of all sessions and the unseen time.
pub(crate) fn judge(case: &Case<'_>) -> Verdict {
    let outages = case.found.iter().flat_map(|s| &s.flows);
    let worst = worst(outages.flat_map(|f| &f.outages));
    let (result, reason) = decide(case, &worst);
    let mut verdict = Verdict {
        result,
        objective_ns: Nanos(case.objective.outage),
        worst_at_least_ns: Nanos(worst.at_least),
        worst_at_most_ns: worst.at_most.map(Nanos),
        outages: len(worst.count),
        reason,
        sentence: String::new(),
    };
    verdict.sentence = text::verdict_sentence(&verdict);
    verdict
}

/// The extremes over some outages.
pub(crate) struct Worst {
    /// How many there were.
    pub(crate) count: usize,
    /// The largest lower bound.
    pub(crate) at_least: Span,
    /// The largest upper bound; `None` if one outage has none.
    pub(crate) at_most: Option<Span>,
}

/// The extremes over some outages.
pub(crate) fn worst<'a>(outages: impl Iterator<Item = &'a Outage>) -> Worst {
    outages.fold(
        Worst {
            count: 0,
            at_least: Span::ZERO,
            at_most: Some(Span::ZERO),
        },
        |worst, outage| Worst {
            count: worst.count + 1,
            at_least: worst.at_least.max(outage.at_least_ns.0),
            at_most: worst
                .at_most
                .zip(outage.at_most_ns)
                .map(|(a, b)| a.max(b.0)),
        },
    )
}

fn decide(case: &Case<'_>, worst: &Worst) -> (VerdictResult, VerdictReason) {
    use VerdictResult::{Met, Missed, NotTested, Undecided};
    let limit = case.objective.outage;
    if worst.at_least > limit {
        return (Missed, VerdictReason::OutageTooLong);
    }
    let coverage = &case.seen.coverage;
    if coverage.directions.is_empty() {
        return (Undecided, VerdictReason::NoData);
    }
    if let Some(reason) = unseen(case) {
        return (Undecided, reason);
    }
    match worst.at_most {
        None => return (Undecided, VerdictReason::OutageCut),
        Some(at_most) if at_most > limit => {
            return (Undecided, VerdictReason::OutageMayBeTooLong);
        }
        Some(_) => {}
    }
    if let Some(reason) = nothing_moved(case) {
        return (NotTested, reason);
    }
    let least = coverage.directions.iter().map(|d| d.seen_ppm).min();
    let longest = coverage.directions.iter().filter_map(longest_missing);
    let reason = match longest.max_by_key(|m| m.lasted_ns) {
        Some(missing) => VerdictReason::TooLittleMissing {
            seen_ppm: least.unwrap_or_default(),
            missing,
        },
        None => VerdictReason::AllSeen,
    };
    (Met, reason)
}

/// Where an outage longer than the objective could hide.
fn unseen(case: &Case<'_>) -> Option<VerdictReason> {
    let interval = case.sessions.iter().map(|s| s.plan.interval).max();
    let slack = interval.unwrap_or_default() * 2;
    let hides = |d: &&DirectionCoverage| d.longest_missing_ns.0 > case.objective.outage + slack;
    let directions = case.seen.coverage.directions.iter().filter(hides);
    if let Some(worst) = directions.max_by_key(|d| (d.longest_missing_ns, d.seen_ppm == 0)) {
        let missing = longest_missing(worst)?;
        return Some(VerdictReason::Unseen {
            from: worst.from.clone(),
            to: worst.to.clone(),
            seen_ppm: worst.seen_ppm,
            seen_until: worst.seen_until,
            at_the_end: case.seen.coverage.asked.is_some_and(|a| a.to <= missing.to),
            missing,
        });
    }
    let flow = case.seen.unseen_flow.as_ref()?;
    Some(VerdictReason::FlowUnseen {
        session: flow.session.clone(),
        flow: flow.flow,
        missing: flow.missing.clone(),
    })
}

/// Returns the longest unseen stretch, whatever its causes, with the cause of its longest part.
fn longest_missing(direction: &DirectionCoverage) -> Option<Missing> {
    let mut stretches: Vec<(Missing, Nanos)> = Vec::new();
    for part in &direction.missing {
        match stretches.last_mut() {
            Some((whole, longest)) if whole.to == part.from => {
                whole.to = part.to;
                whole.lasted_ns = Nanos(whole.lasted_ns.0 + part.lasted_ns.0);
                if part.lasted_ns > *longest {
                    *longest = part.lasted_ns;
                    whole.cause = part.cause.clone();
                }
            }
            _ => stretches.push((part.clone(), part.lasted_ns)),
        }
    }
    let stretches = stretches.into_iter().map(|(whole, _)| whole);
    stretches.max_by_key(|m| m.lasted_ns)
}

/// Returns a marked failover after which no flow left its path; `None` if nobody could see a
/// path.
fn nothing_moved(case: &Case<'_>) -> Option<VerdictReason> {
    let marked = case
        .markers
        .iter()
        .filter(|m| m.kind == MarkerKind::Failover);
    let marked = marked.map(|m| m.at).min()?;
    let mut paths: BTreeSet<String> = BTreeSet::new();
    let mut known = false;
    for epochs in case.epochs {
        for flow in epochs.forward.values().chain(epochs.reverse.values()) {
            if moved(flow, marked) {
                return None;
            }
            for epoch in flow {
                known |= epoch.hop.is_some() || epoch.path.is_some();
                paths.extend(case.paths.name_of(epoch));
            }
        }
    }
    known.then(|| VerdictReason::NothingMoved {
        marked,
        paths: paths.into_iter().collect(),
    })
}

/// Whether a flow changed its path at a time that fits the marker.
fn moved(epochs: &[Epoch], marked: Utc) -> bool {
    epochs.windows(2).any(|pair| match pair {
        [old, new] => old.differs(new) && new.span.0 >= marked.0 - MARKED_LATE,
        _ => false,
    })
}
