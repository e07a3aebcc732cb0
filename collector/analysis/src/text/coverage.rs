//! What was seen and what was not, in words.

use super::{ascii, clock, date_time, errno_name, percent_of_million, span, upper};
use crate::findings::{
    Awaited, Coverage, DirectionCoverage, Missing, MissingCause, SessionEnd, Verdict,
    VerdictReason, VerdictResult, Window,
};
use crate::schema::Utc;
use hopgap_proto::time::Span;

/// The share of the question that was seen: `all`, `97.2 %`, `nothing`.
pub fn share_seen(direction: &DirectionCoverage) -> String {
    match direction.seen_ppm {
        1_000_000 => "all".to_owned(),
        0 if direction.seen_until.is_none() => "nothing".to_owned(),
        ppm => percent_of_million(ppm),
    }
}

/// A stretch that was not seen, and why, as a clause.
pub fn missing(missing: &Missing) -> String {
    let lasted = span(missing.lasted_ns);
    let at = date_time(missing.from);
    match &missing.cause {
        MissingCause::SendsRefused { agent, errno } => format!(
            "nothing could be sent for {lasted} from {at} (the kernel of `{}` refused it, {})",
            ascii(agent),
            errno_name(*errno)
        ),
        cause => format!(
            "no usable probe for {lasted} from {at}: {}",
            missing_cause(cause)
        ),
    }
}

/// Why something was not seen, as a clause.
pub fn missing_cause(cause: &MissingCause) -> String {
    let (agent, what) = match cause {
        MissingCause::SendsRefused { agent, errno } => {
            let errno = errno_name(*errno);
            return format!("the kernel of `{}` refused to send ({errno})", ascii(agent));
        }
        MissingCause::LostOnTheWayOut => {
            return "all probes were lost on the way out, and none tells of the way back"
                .to_owned();
        }
        MissingCause::HeldOnTheWayOut => {
            return "probes were held up on the way out, and none told of the way back meanwhile"
                .to_owned();
        }
        MissingCause::HostStalled { agent } => (agent, "or the host that it runs on stood still"),
        MissingCause::RecordsLost { agent } => (agent, "made records that were lost"),
        MissingCause::Clock { agent } => (agent, "told no reading of its clock with its records"),
        MissingCause::AgentNotRunning { agent } => (agent, "did not run"),
        MissingCause::NotDelivered { agent } => {
            (agent, "has not delivered its records of that time yet")
        }
        MissingCause::AgentNotHeard { agent } => (agent, "gave no sign"),
        MissingCause::NotAnswered { agent } => (agent, "did not answer, by its policy"),
    };
    format!("`{}` {what}", ascii(agent))
}

/// The records still to come, one sentence for each agent; empty if all have arrived.
pub fn awaited(coverage: &Coverage) -> Vec<String> {
    let mut agents: Vec<&str> = Vec::new();
    for of in &coverage.awaited {
        if !agents.contains(&of.agent.as_str()) {
            agents.push(&of.agent);
        }
    }
    let of = |agent| coverage.awaited.iter().filter(move |a| a.agent == agent);
    agents
        .into_iter()
        .map(|agent| awaited_of(agent, &of(agent).collect::<Vec<_>>(), coverage.asked))
        .collect()
}

fn awaited_of(agent: &str, all: &[&Awaited], asked: Option<Window>) -> String {
    let parts: Vec<String> = all
        .iter()
        .map(|a| {
            let what = match a.end {
                SessionEnd::Sender => "",
                SessionEnd::Reflector => "the log of ",
            };
            let session = ascii(&a.session);
            match a.until {
                Some(until) => format!("{what}{session} up to {}", clock(until)),
                None => format!("nothing of {what}{session}"),
            }
        })
        .collect();
    let rest = asked.map_or_else(String::new, |w| format!(" to {}", clock(w.to)));
    let expected = all.iter().map(|a| a.expected).max().flatten();
    let heard = all.iter().filter_map(|a| a.heard).max();
    let when = match (expected, heard) {
        (Some(at), _) => format!("by {}", clock(at)),
        (None, Some(heard)) => format!(
            "when it reaches the collector again; it was last heard of at {}",
            date_time(heard)
        ),
        (None, None) => "when it reaches the collector".to_owned(),
    };
    format!(
        "of `{}` there is {}; the rest{rest} is expected {when}.",
        ascii(agent),
        parts.join(", ")
    )
}

/// The verdict in one sentence.
pub fn verdict_sentence(verdict: &Verdict) -> String {
    let limit = verdict.objective_ns.0;
    let word = match verdict.result {
        VerdictResult::Met => "Met",
        VerdictResult::Missed => "Missed",
        VerdictResult::Undecided => "Undecided",
        VerdictResult::NotTested => "Not tested",
    };
    let rest = match &verdict.reason {
        VerdictReason::AllSeen if verdict.outages == 0 => {
            format!("there was no outage (objective: {limit})")
        }
        VerdictReason::AllSeen => within(verdict),
        VerdictReason::TooLittleMissing {
            seen_ppm,
            missing: stretch,
        } => {
            let seen = percent_of_million(*seen_ppm);
            let outages = if verdict.outages == 0 {
                format!("none seen in {seen} of the stretch (objective: {limit})")
            } else {
                format!("{}; {seen} of the stretch was seen", within(verdict))
            };
            format!(
                "{outages}; what was not is too short to hide a longer outage: {}",
                missing(stretch)
            )
        }
        VerdictReason::OutageTooLong => format!(
            "the longest outage lasted {}, more than the objective of {limit}",
            lasted(verdict)
        ),
        VerdictReason::OutageCut => format!(
            "an outage of at least {} has no end (or no beginning) in the data, so it cannot be held against the objective of {limit}",
            super::lower(verdict.worst_at_least_ns)
        ),
        VerdictReason::OutageMayBeTooLong => format!(
            "the longest outage lasted at least {}, but an outage may have lasted up to {}, which is more than the objective of {limit}",
            super::lower(verdict.worst_at_least_ns),
            upper(verdict.worst_at_most_ns.unwrap_or_default())
        ),
        VerdictReason::Unseen {
            from,
            to,
            seen_ppm,
            seen_until,
            missing: stretch,
            at_the_end,
        } => unseen(
            limit,
            (from, to),
            *seen_ppm,
            seen_until.filter(|_| *at_the_end),
            stretch,
        ),
        VerdictReason::FlowUnseen {
            session,
            flow,
            missing: stretch,
        } => format!(
            "an outage longer than the objective of {limit} could have gone unseen: in flow {flow} of session `{}` there is {}",
            ascii(session),
            missing(stretch)
        ),
        VerdictReason::NoData => "there is no data to judge".to_owned(),
        VerdictReason::NothingMoved { marked, paths } => nothing_moved(verdict, *marked, paths),
    };
    format!("{word}: {rest}.")
}

/// Bounds, rounded outwards as everywhere: two bounds do not read as one.
fn lasted(verdict: &Verdict) -> String {
    let at_least = super::lower(verdict.worst_at_least_ns);
    match verdict.worst_at_most_ns {
        Some(at_most) if at_most > verdict.worst_at_least_ns => {
            format!("between {at_least} and {}", upper(at_most))
        }
        Some(_) => at_least,
        None => format!("at least {at_least}"),
    }
}

fn within(verdict: &Verdict) -> String {
    format!(
        "the longest outage lasted at least {}, and none lasted longer than {}, within the objective of {}",
        super::lower(verdict.worst_at_least_ns),
        upper(verdict.worst_at_most_ns.unwrap_or_default()),
        verdict.objective_ns
    )
}

fn unseen(
    limit: Span,
    (from, to): (&str, &str),
    seen_ppm: u32,
    until: Option<Utc>,
    stretch: &Missing,
) -> String {
    let reach = until.map_or_else(String::new, |at| format!("data up to {}, ", date_time(at)));
    let seen = match seen_ppm {
        0 => "nothing of the stretch was seen".to_owned(),
        ppm => format!("{} of the stretch was seen", percent_of_million(ppm)),
    };
    format!(
        "an outage longer than the objective of {limit} could have gone unseen from {} to {}: {reach}{seen}; {}",
        ascii(from),
        ascii(to),
        missing(stretch)
    )
}

fn nothing_moved(verdict: &Verdict, marked: Utc, paths: &[String]) -> String {
    let paths = match paths {
        [] => String::new(),
        paths => format!(" ({})", ascii(&paths.join(", "))),
    };
    let outage = if verdict.outages == 0 {
        String::new()
    } else {
        format!(
            "; the longest outage lasted {}",
            super::bounds(verdict.worst_at_least_ns, verdict.worst_at_most_ns)
        )
    };
    format!(
        "a failover was marked at {}, but no flow was seen to leave its path{paths}, so no failover was measured{outage}",
        clock(marked)
    )
}

/// Text for no outage found: `no outage` only if all was seen, else `none seen in 97.2 %`.
pub fn no_outage(coverage: &Coverage) -> String {
    let least = coverage.directions.iter().min_by_key(|d| d.seen_ppm);
    match least {
        Some(d) if d.seen_ppm == 1_000_000 => "no outage".to_owned(),
        Some(d) if d.seen_ppm > 0 => format!("outages: none seen in {}", share_seen(d)),
        _ => "outages: not known, nothing was seen".to_owned(),
    }
}

/// Text for no transition found, by how much was seen.
pub fn no_transition(coverage: &Coverage) -> String {
    let least = coverage.directions.iter().min_by_key(|d| d.seen_ppm);
    match least {
        Some(d) if d.seen_ppm == 1_000_000 => {
            "No failover, no failback and no interruption in this stretch of time.".to_owned()
        }
        Some(d) if d.seen_ppm > 0 => format!(
            "No change was seen in {} of this stretch of time. Whether there was a failover, a failback or an interruption in the rest is not known.",
            share_seen(d)
        ),
        _ => "Nothing was seen: whether there was a failover, a failback or an interruption is not known.".to_owned(),
    }
}
