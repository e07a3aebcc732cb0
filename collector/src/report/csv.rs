//! The report as CSV (RFC 4180): outages, seconds and path epochs. Instants are
//! RFC 3339 text with nanoseconds, lengths of time integer nanoseconds.

use hopgap_analysis::findings::{
    Direction, Findings, Missing, NamedBy, Outage, PathEpoch, ProbePoint, SessionFindings,
    TransitionKind,
};
use hopgap_analysis::schema::Nanos;
use hopgap_analysis::text;
use hopgap_proto::printable::one_line;

/// One row for each outage.
pub(super) fn outages(findings: &Findings) -> String {
    let mut out = Csv::new(&[
        "session",
        "direction",
        "from",
        "to",
        "flow",
        "source_port",
        "transition",
        "transition_kind",
        "last_good_seq",
        "last_good",
        "first_lost_seq",
        "first_lost",
        "last_lost_seq",
        "last_lost",
        "first_good_seq",
        "first_good",
        "at_least_ns",
        "at_most_ns",
        "lost",
        "passed",
        "loss_periods",
        "unsent",
    ]);
    for session in &findings.sessions {
        for flow in &session.flows {
            for outage in &flow.outages {
                let (from, to) = ends(session, outage.direction);
                let transition = transition_of(findings, &session.session, flow.flow, outage);
                let [last_good_seq, last_good] = point(outage.last_good.as_ref());
                let [first_lost_seq, first_lost] = point(Some(&outage.first_lost));
                let [last_lost_seq, last_lost] = point(Some(&outage.last_lost));
                let [first_good_seq, first_good] = point(outage.first_good.as_ref());
                out.row([
                    session.session.clone(),
                    direction(outage.direction).to_owned(),
                    from.to_owned(),
                    to.to_owned(),
                    flow.flow.to_string(),
                    flow.source_port.to_string(),
                    transition.map_or(String::new(), |(n, _)| n.to_string()),
                    transition.map_or(String::new(), |(_, k)| text::transition(k).to_owned()),
                    last_good_seq,
                    last_good,
                    first_lost_seq,
                    first_lost,
                    last_lost_seq,
                    last_lost,
                    first_good_seq,
                    first_good,
                    nanos(Some(outage.at_least_ns)),
                    nanos(outage.at_most_ns),
                    outage.lost.to_string(),
                    outage.passed.to_string(),
                    outage.loss_periods.len().to_string(),
                    outage.unsent.to_string(),
                ]);
            }
        }
    }
    out.text
}

/// One row for each session and whole second.
pub(super) fn seconds(findings: &Findings) -> String {
    let mut out = Csv::new(&[
        "session",
        "at",
        "sent",
        "lost_forward",
        "lost_reverse",
        "lost_unknown",
        "p50_ns",
        "p99_ns",
        "path",
    ]);
    for session in &findings.sessions {
        for second in &session.seconds {
            out.row([
                session.session.clone(),
                second.at.to_string(),
                second.sent.to_string(),
                second.lost_forward.to_string(),
                second.lost_reverse.to_string(),
                second.lost_unknown.to_string(),
                nanos(second.p50_ns),
                nanos(second.p99_ns),
                second.path.clone().unwrap_or_default(),
            ]);
        }
    }
    out.text
}

/// One row for each path epoch. Hops are divided by spaces, a silent one is `*`.
pub(super) fn paths(findings: &Findings) -> String {
    let mut out = Csv::new(&[
        "session",
        "direction",
        "from",
        "to",
        "flow",
        "source_port",
        "path",
        "named_by",
        "target_at_hop",
        "first_seq",
        "first",
        "last_seq",
        "last",
        "probes",
        "hops",
    ]);
    for session in &findings.sessions {
        for flow in &session.flows {
            let epochs = [
                (Direction::Forward, &flow.forward_paths),
                (Direction::Reverse, &flow.reverse_paths),
            ];
            for (way, epoch) in epochs
                .into_iter()
                .flat_map(|(way, epochs)| epochs.iter().map(move |e| (way, e)))
            {
                let (from, to) = ends(session, way);
                let [first_seq, first] = point(Some(&epoch.first));
                let [last_seq, last] = point(Some(&epoch.last));
                out.row([
                    session.session.clone(),
                    direction(way).to_owned(),
                    from.to_owned(),
                    to.to_owned(),
                    flow.flow.to_string(),
                    flow.source_port.to_string(),
                    epoch.path.clone().unwrap_or_default(),
                    named_by(epoch.named_by).to_owned(),
                    epoch.target_at_hop.map_or(String::new(), |h| h.to_string()),
                    first_seq,
                    first,
                    last_seq,
                    last,
                    epoch.probes.to_string(),
                    hops(epoch),
                ]);
            }
        }
    }
    out.text
}

/// Writes one row for each direction between two hosts, and one for each stretch of it that
/// was not seen; only the latter has a cause.
pub(super) fn coverage(findings: &Findings) -> String {
    let mut out = Csv::new(&[
        "from",
        "to",
        "sessions",
        "asked_ns",
        "seen_ns",
        "seen_ppm",
        "missing_from",
        "missing_to",
        "missing_ns",
        "cause",
    ]);
    for direction in &findings.coverage.directions {
        let row = |stretch: Option<&Missing>| {
            [
                direction.from.clone(),
                direction.to.clone(),
                direction.sessions.join(" "),
                nanos(Some(direction.asked_ns)),
                nanos(Some(direction.seen_ns)),
                direction.seen_ppm.to_string(),
                stretch.map_or(String::new(), |m| m.from.to_string()),
                stretch.map_or(String::new(), |m| m.to.to_string()),
                nanos(stretch.map(|m| m.lasted_ns)),
                stretch.map_or(String::new(), |m| text::missing_cause(&m.cause)),
            ]
        };
        out.row(row(None));
        for stretch in &direction.missing {
            out.row(row(Some(stretch)));
        }
    }
    out.text
}

fn hops(epoch: &PathEpoch) -> String {
    let hops: Vec<&str> = epoch
        .hops
        .iter()
        .map(|h| h.as_deref().unwrap_or("*"))
        .collect();
    hops.join(" ")
}

/// As in the JSON report.
fn direction(way: Direction) -> &'static str {
    match way {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Unknown => "unknown",
    }
}

/// As in the JSON report.
fn named_by(how: NamedBy) -> &'static str {
    match how {
        NamedBy::Trace => "trace",
        NamedBy::HopCount => "hop_count",
        NamedBy::Nothing => "nothing",
    }
}

fn ends(session: &SessionFindings, way: Direction) -> (&str, &str) {
    match way {
        Direction::Forward | Direction::Unknown => (&session.from, &session.to),
        Direction::Reverse => (&session.to, &session.from),
    }
}

/// Number (from 1) and kind of the transition that this outage belongs to.
fn transition_of(
    findings: &Findings,
    session: &str,
    flow: u8,
    outage: &Outage,
) -> Option<(usize, TransitionKind)> {
    findings.transitions.iter().enumerate().find_map(|(i, t)| {
        t.directions
            .iter()
            .filter(|d| d.session == session && d.direction == outage.direction)
            .flat_map(|d| &d.rows)
            .filter(|row| row.flow == flow)
            .flat_map(|row| &row.outages)
            .any(|o| o.first_lost == outage.first_lost)
            .then_some((i + 1, t.kind))
    })
}

fn point(point: Option<&ProbePoint>) -> [String; 2] {
    point.map_or([String::new(), String::new()], |p| {
        [p.seq.to_string(), p.sent.to_string()]
    })
}

fn nanos(value: Option<Nanos>) -> String {
    value.map_or(String::new(), |n| n.0.as_nanos().to_string())
}

/// Makes a cell: keeps its line breaks, which CSV quotes, and replaces other special
/// characters by their numbers.
fn shown(cell: &str) -> String {
    let lines = cell.split_inclusive(['\r', '\n']).map(|line| {
        let text = line.trim_end_matches(['\r', '\n']);
        let end = line.get(text.len()..).unwrap_or_default();
        one_line(text) + end
    });
    lines.collect()
}

/// Makes a cell that a spreadsheet takes for text: it would execute one that begins like a
/// formula. Numbers are not changed.
fn no_formula(cell: String) -> String {
    let begins = cell.starts_with(['=', '+', '-', '@', '|', '%', '\u{ff1d}', '\u{ff0b}']);
    if begins && cell.parse::<f64>().is_err() {
        format!("'{cell}")
    } else {
        cell
    }
}

struct Csv {
    text: String,
}

impl Csv {
    fn new(header: &[&str]) -> Self {
        let mut csv = Self {
            text: String::new(),
        };
        csv.row(header.iter().map(|&h| h.to_owned()));
        csv
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        for (i, cell) in cells.into_iter().enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            let cell = no_formula(shown(&cell));
            if cell.contains(['"', ',', '\n', '\r']) {
                self.text.push('"');
                self.text.push_str(&cell.replace('"', "\"\""));
                self.text.push('"');
            } else {
                self.text.push_str(&cell);
            }
        }
        self.text.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::Csv;

    #[test]
    fn a_spreadsheet_carries_out_no_cell() {
        let mut csv = Csv::new(&["a"]);
        let cells = [
            "=cmd|' /C calc'!A0",
            "@SUM(1)",
            "-2",
            "-2e3",
            "-x",
            "+1",
            "a=b",
            "\u{1b}[1m\u{202e}\t",
        ];
        csv.row(cells.map(str::to_owned));
        assert_eq!(
            csv.text,
            "a\r\n'=cmd|' /C calc'!A0,'@SUM(1),-2,-2e3,'-x,+1,a=b,\\u001b[1m\\u202e\\u0009\r\n"
        );
    }
}
