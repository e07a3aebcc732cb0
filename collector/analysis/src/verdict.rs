//! The verdict against the objective.
//!
//! Met only where every flow was watched all the time: an outage longer than the
//! objective could hide where nothing was sent, where the reflecting agent did not run
//! or where a session has no data, and then nobody can say 'met'.

use crate::align::Session;
use crate::findings::{Outage, SessionFindings, Verdict, VerdictResult};
use crate::schema::{Nanos, Utc};
use crate::text;
use hopgap_proto::plan::Objective;
use hopgap_proto::time::{Span, Wall};

/// Judges all outages of all sessions.
pub(crate) fn judge(
    sessions: &[Session<'_>],
    found: &[SessionFindings],
    objective: &Objective,
) -> Verdict {
    let limit = objective.outage;
    let worst = worst(found.iter().flat_map(|s| &s.flows).flat_map(|f| &f.outages));
    let unwatched = sessions.iter().find_map(|s| unwatched(s, limit));
    let (result, sentence) = sentence(&worst, limit, unwatched);
    Verdict {
        result,
        objective_ns: Nanos(limit),
        worst_at_least_ns: Nanos(worst.at_least),
        worst_at_most_ns: worst.at_most.map(Nanos),
        sentence,
    }
}

/// The extremes over some outages.
pub(crate) struct Worst {
    /// How many there were.
    pub(crate) count: usize,
    /// The largest lower bound.
    pub(crate) at_least: Span,
    /// The largest upper bound; `None` where one outage has none.
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

fn sentence(worst: &Worst, limit: Span, unwatched: Option<String>) -> (VerdictResult, String) {
    use VerdictResult::{Met, Missed, Undecided};
    // Rounded outwards, as everywhere: two bounds do not read as one.
    let at_least = text::lower(Nanos(worst.at_least));
    if worst.at_least > limit {
        let bounds = match worst.at_most {
            Some(at_most) if at_most > worst.at_least => {
                format!("between {at_least} and {}", text::upper(Nanos(at_most)))
            }
            Some(_) => at_least,
            None => format!("at least {at_least}"),
        };
        return (
            Missed,
            format!(
                "Missed: the longest outage lasted {bounds}, more than the objective of {limit}."
            ),
        );
    }
    let Some(at_most) = worst.at_most else {
        return (
            Undecided,
            format!(
                "Undecided: an outage of at least {at_least} has no end (or no beginning) in the data, so it cannot be held against the objective of {limit}."
            ),
        );
    };
    let beyond = at_most > limit;
    let at_most = text::upper(Nanos(at_most));
    if beyond {
        return (
            Undecided,
            format!(
                "Undecided: the longest outage lasted at least {at_least}, but an outage may have lasted up to {at_most}, which is more than the objective of {limit}."
            ),
        );
    }
    if let Some(why) = unwatched {
        return (
            Undecided,
            format!(
                "Undecided: an outage longer than the objective of {limit} could have gone unseen: {why}."
            ),
        );
    }
    if worst.count == 0 {
        (
            Met,
            format!("Met: there was no outage (objective: {limit})."),
        )
    } else {
        (
            Met,
            format!(
                "Met: the longest outage lasted at least {at_least}, and none lasted longer than {at_most}, within the objective of {limit}."
            ),
        )
    }
}

/// Why a session was not watched closely enough to exclude an outage longer than `limit`.
fn unwatched(session: &Session<'_>, limit: Span) -> Option<String> {
    let name = &session.plan.name;
    let slack = limit + session.plan.interval * 2;
    for flow in session.flow_indices() {
        // From the first probe to the last, whatever became of them: what is beyond was
        // not to be watched.
        let mut previous: Option<Wall> = None;
        let mut watched = false;
        for run in &session.runs {
            let samples = run.flows.get(&flow).map_or(&[][..], |f| &f.samples);
            let last = samples.last().map(|s| (s.order, s.sent));
            for s in samples {
                let at = run.timeline.utc(s.sent);
                let begun = *previous.get_or_insert(at);
                let evidence = s.fate.is_evidence();
                if (evidence || last == Some((s.order, s.sent))) && at - begun > slack {
                    return Some(format!(
                        "flow {flow} of session `{name}` has no usable probe for {} from {}",
                        at - begun,
                        text::date_time(Utc(begun))
                    ));
                }
                if evidence {
                    previous = Some(at);
                    watched = true;
                }
            }
        }
        if !watched {
            return Some(format!("session `{name}` has no data for flow {flow}"));
        }
    }
    None
}
