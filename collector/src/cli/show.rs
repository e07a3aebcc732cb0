//! Tables for the terminal.

use crate::plan::{CollectorPlan, Transport};
use crate::serve::{AgentBody, DrillBody, SessionBody, Status, TimeText};
use hopgap_proto::plan::Destination;
use hopgap_proto::time::Wall;
use jiff::Timestamp;
use std::fmt::Write;
use std::path::Path;

/// An instant of UTC to the millisecond.
pub(super) fn time(at: TimeText) -> String {
    wall(at.0)
}

/// The same.
pub(super) fn wall(at: Wall) -> String {
    match Timestamp::from_nanosecond(i128::from(at.as_nanos())) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string(),
        Err(_) => "out of range".to_owned(),
    }
}

fn maybe(at: Option<TimeText>, otherwise: &str) -> String {
    at.map_or_else(|| otherwise.to_owned(), time)
}

/// `1 agent`, `2 agents`.
fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// Columns as wide as their widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(|t| t.chars().count())
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What a checked plan asks for.
pub(super) fn plan(file: &Path, it: &CollectorPlan, transport: Transport) -> String {
    let plan = &it.plan;
    let mut out = format!(
        "{} is good: {}, {}, {}, {}; objective: no outage above {}\n",
        file.display(),
        count(plan.agents.len(), "agent"),
        count(plan.sessions.len(), "session"),
        count(plan.echoes.len(), "echo target"),
        count(plan.paths.len(), "path"),
        plan.objective.outage
    );
    let mut rows = Vec::new();
    for session in &plan.sessions {
        let to = match &session.to {
            Destination::Agent(name) => name.to_string(),
            Destination::Foreign(address) => address.to_string(),
        };
        rows.push(vec![
            format!("  {}", session.name),
            format!("{} -> {to}", session.from),
            count(usize::from(session.flows), "flow"),
            format!("every {}", session.interval.to_config_text()),
            how_authentic(session.is_authenticated()),
        ]);
    }
    out.push_str(&table(&rows));
    let listen = it.settings.listen;
    let _ = match transport {
        Transport::Tls => writeln!(
            out,
            "agents come by TLS to {listen}, each with a certificate of its own"
        ),
        Transport::Plain if listen.ip().is_loopback() => {
            writeln!(
                out,
                "agents come without TLS to {listen}, from this host only"
            )
        }
        Transport::Plain => writeln!(
            out,
            "agents come without TLS to {listen} (`plain_http`): plan, secrets and records cross the network for all to read; for labs only"
        ),
    };
    out
}

fn how_authentic(authenticated: bool) -> String {
    let not = if authenticated { "" } else { "not " };
    format!("{not}authenticated")
}

/// All drills.
pub(super) fn drills(drills: &[DrillBody]) -> String {
    if drills.is_empty() {
        return "no drill yet; start one with: hopgap-collector drill start NAME\n".to_owned();
    }
    let head = ["NAME", "STARTED", "STOPPED"].map(str::to_owned).to_vec();
    let rows = drills
        .iter()
        .map(|d| vec![d.name.clone(), time(d.started), maybe(d.stopped, "running")]);
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// How the collector is.
pub(super) fn status(status: &Status) -> String {
    let mut out = format!(
        "hopgap-collector {}, since {}, store {}\nplan {}, {}\n",
        status.version,
        time(status.started),
        status.store,
        status.plan.file,
        count(status.plan.sessions, "session")
    );
    if let Some(error) = &status.plan.error {
        let _ = writeln!(out, "the plan file as it is now is not in force: {error}");
    }
    if let Some(drill) = &status.drill {
        let _ = writeln!(
            out,
            "drill `{}` runs since {}",
            drill.name,
            time(drill.started)
        );
    }
    let head = [
        "SESSION",
        "NEWEST PROBE",
        "ANSWERED",
        "UNANSWERED",
        "REFUSED",
    ];
    let rows = status.sessions.iter().map(session);
    out.push_str("the newest minute of each session:\n");
    out.push_str(&table(
        &std::iter::once(head.map(str::to_owned).to_vec())
            .chain(rows)
            .collect::<Vec<_>>(),
    ));
    let head = [
        "AGENT",
        "LAST SEEN",
        "DATA UP TO",
        "RECORDS",
        "BLOCKS",
        "AGAIN",
        "REFUSED",
        "PLAN",
        "VERSION",
    ];
    let rows = status.agents.iter().map(agent);
    out.push_str(&table(
        &std::iter::once(head.map(str::to_owned).to_vec())
            .chain(rows)
            .collect::<Vec<_>>(),
    ));
    if let Some(tls) = &status.tls {
        let _ = writeln!(
            out,
            "TLS: {} connections, {} handshakes failed, {} took too long, {} connections over the limit, {} unknown tokens",
            tls.accepted, tls.failed, tls.timed_out, tls.over_limit, tls.unknown_tokens
        );
    }
    let _ = writeln!(out, "refused requests: {}", status.refused);
    for refusal in &status.refusals {
        let _ = writeln!(
            out,
            "refused `{}` from {}, {}, last at {}: {}",
            refusal.agent,
            refusal.peer,
            if refusal.count == 1 {
                "once".to_owned()
            } else {
                format!("{} times", refusal.count)
            },
            time(refusal.at),
            refusal.error
        );
    }
    out
}

fn session(session: &SessionBody) -> Vec<String> {
    vec![
        session.name.clone(),
        maybe(session.newest, "none"),
        session.answered.to_string(),
        session.unanswered.to_string(),
        session.refused.to_string(),
    ]
}

fn agent(agent: &AgentBody) -> Vec<String> {
    let name = if agent.planned {
        agent.name.clone()
    } else {
        format!("{} (not in the plan)", agent.name)
    };
    vec![
        name,
        maybe(agent.last_seen, "never"),
        maybe(agent.newest, "-"),
        agent.records.to_string(),
        agent.blocks.to_string(),
        agent.duplicates.to_string(),
        agent.refused.to_string(),
        agent
            .plan
            .map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
        agent.version.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
