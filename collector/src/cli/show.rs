//! Tables for the terminal.

use crate::plan::{CollectorPlan, Transport};
use crate::serve::{DrillBody, TimeText};
use hopgap_proto::plan::Destination;
use hopgap_proto::printable::one_line;
use hopgap_proto::time::Wall;
use jiff::Timestamp;
use std::fmt::Write;
use std::path::Path;

/// An instant of UTC to the millisecond.
pub(super) fn time(at: TimeText) -> String {
    wall(at.0)
}

/// Does the same for a [`Wall`].
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

/// Formats a table with columns as wide as their widest cell. Every cell becomes one line.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
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
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Describes a checked plan.
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

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_cell_is_one_line_whatever_it_holds() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let told = table(&[
            row(["AGENT", "VERSION"]),
            row(["m", "0.1\u{1b}[2J\nb  OK\u{202e}"]),
        ]);
        assert_eq!(
            told,
            "AGENT  VERSION\nm      0.1\\u001b[2J\\u000ab  OK\\u202e\n"
        );
    }
}
