//! Holds the report against the truth.
//!
//! The truth is the test bed's: every probe that entered a wire and did not come
//! out at the other end. The report is read from `report.json`, as anybody would
//! read it; nothing of the analysis is used here.

mod delays;
mod paths;
mod question;
mod report;
mod routes;
mod sizes;

use super::Window;
use crate::fault::Fault;
use crate::truth::{Direction, FlowTruth, TrueOutage, Truth};
use crate::tunnel::Tunnel;
use anyhow::{Context, Result};
use hopgap_proto::time::{Mono, Span};
use report::{Flow, Outage, Report, Session};
use std::fmt;
use std::path::Path;

/// The wire sees a probe this much before or after the sender's kernel stamps it, at most.
const STAMP_SLACK: Span = Span::from_millis(5);
/// What happens this close to the edge of the drill may be in the report or not.
const EDGE: Span = Span::from_millis(500);

/// How a report stands against the truth.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// The report's own summary, for the reader.
    pub summary: String,
    /// Outages that truly happened within the drill.
    pub true_outages: usize,
    /// Directions of flows that were compared.
    pub compared: usize,
    /// Path changes that were compared, to the probe.
    pub changes: usize,
    /// One-way delays that were compared, each a median of a direction and path.
    pub delays: usize,
    /// Every point on which the report is wrong.
    pub faults: Vec<String>,
    /// Where everything lies.
    pub files: Vec<String>,
}

impl Judgement {
    /// Whether the report is right.
    pub fn agrees(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary.trim_end())?;
        writeln!(f)?;
        writeln!(
            f,
            "Against the truth: {} flow directions, {} true outages, {} path changes, {} one-way delays.",
            self.compared, self.true_outages, self.changes, self.delays
        )?;
        if self.agrees() {
            writeln!(
                f,
                "The report agrees: every true outage lies within its bounds, none is invented, \
                 every path change is dated to its probe, every one-way delay is within its bound, every path MTU is right, \
                 and so are the verdict and what was seen."
            )?;
        } else {
            writeln!(f, "The report is WRONG on {} points:", self.faults.len())?;
            for fault in &self.faults {
                writeln!(f, "  - {fault}")?;
            }
        }
        for file in &self.files {
            writeln!(f, "{file}")?;
        }
        Ok(())
    }
}

/// Judges the report in `out`.
///
/// # Errors
/// When the report or the truth cannot be read.
pub fn judge(
    (fault, tunnel): (Fault, Tunnel),
    truth: &Truth,
    window: Window,
    out: &Path,
) -> Result<Judgement> {
    let path = out.join("report.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Report =
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let summary = std::fs::read_to_string(out.join("report.txt")).unwrap_or_default();
    let files = ["report.html", "report.json", "report.txt", "truth.jsonl"]
        .iter()
        .map(|name| out.join(name).display().to_string())
        .collect();
    let mut judgement = Judgement {
        summary: head(&summary, out),
        files,
        ..Judgement::default()
    };
    if !truth.complete || truth.overflows > 0 {
        judgement.faults.push(format!(
            "the truth has holes ({} frames were dropped before a wire saw them): the machine was too slow for this drill",
            truth.overflows
        ));
    }
    for flow in truth.flows.values() {
        judgement.compare(&report, flow, window);
    }
    judgement.compare_question(&report, truth, window);
    judgement.compare_delays(&report, truth);
    judgement.compare_sizes(&report, fault, tunnel);
    judgement.expect_an_effect(fault, truth);
    judgement.expect_all_flows(&report);
    judgement.expect_routes(fault, &report, truth);
    judgement.expect_share(fault, &report, truth);
    Ok(judgement)
}

/// The report's first page, and where the rest of it is.
fn head(text: &str, out: &Path) -> String {
    use std::fmt::Write as _;
    const PAGE: usize = 60;
    let mut page = text.lines().take(PAGE).collect::<Vec<_>>().join("\n");
    let more = text.lines().count().saturating_sub(PAGE);
    if more > 0 {
        let lines = if more == 1 { "line" } else { "lines" };
        let file = out.join("report.txt");
        let _ = write!(page, "\n... {more} more {lines} in {}", file.display());
    }
    page
}

impl Judgement {
    fn compare(&mut self, report: &Report, truth: &FlowTruth, window: Window) {
        let sender = truth.flow.sender();
        let session = session_of(truth);
        let found = report
            .findings
            .sessions
            .iter()
            .find(|s| s.session == session)
            .and_then(|s| Some((s, s.flows.iter().find(|f| f.source_port == sender.port())?)));
        let Some((session, flow)) = found else {
            self.faults.push(format!(
                "{session}, port {}: not in the report",
                sender.port()
            ));
            return;
        };
        self.compared += 1;
        let label = format!(
            "{}, port {}, {:?}",
            session.session,
            sender.port(),
            truth.flow.direction()
        );
        self.compare_counts(&label, truth, flow, window);
        self.compare_outages(&label, truth, flow, window);
        self.compare_paths(&label, truth, flow, window);
    }

    /// How many were lost this way. What was lost on the edge of the drill may be counted.
    fn compare_counts(&mut self, label: &str, truth: &FlowTruth, flow: &Flow, window: Window) {
        let direction = truth.flow.direction();
        let said = match direction {
            Direction::Forward => flow.counts.lost_forward,
            Direction::Reverse => flow.counts.lost_reverse,
        };
        let lost = |margin: Span| {
            let within = |at: Mono| at >= window.0 + margin && at <= window.1 - margin;
            let packets = truth.packets.iter();
            packets
                .filter(|p| p.exit.is_none() && within(p.mark.enter))
                .count() as u64
        };
        let truly = lost(EDGE)..=lost(-EDGE);
        if !truly.contains(&said) {
            self.faults.push(format!(
                "{label}: {said} probes are counted as lost; truly {} to {} were",
                truly.start(),
                truly.end()
            ));
        }
        // Both agents are ours: one of them knows of each probe.
        if flow.counts.lost_unknown > 0 {
            self.faults.push(format!(
                "{label}: the direction of {} lost is not known",
                flow.counts.lost_unknown
            ));
        }
        let unknown = flow.outages.iter().filter(|o| o.direction == "unknown");
        for outage in unknown {
            self.faults.push(format!(
                "{label}: the direction of the outage of probes {} to {} is not known",
                outage.first_lost.seq, outage.last_lost.seq
            ));
        }
    }

    fn compare_outages(&mut self, label: &str, truth: &FlowTruth, flow: &Flow, window: Window) {
        let direction = truth.flow.direction();
        let reported: Vec<&Outage> = flow
            .outages
            .iter()
            .filter(|o| o.direction == direction_name(direction))
            .collect();
        let within: Vec<&TrueOutage> = truth
            .outages
            .iter()
            .filter(|o| {
                o.first_lost.enter >= window.0 + EDGE && o.last_lost.enter <= window.1 - EDGE
            })
            .collect();
        self.true_outages += within.len();
        for outage in &within {
            let (first, last) = (outage.first_lost.probe(), outage.last_lost.probe());
            let found = reported
                .iter()
                .find(|r| r.first_lost.seq <= first && r.last_lost.seq >= last);
            match found {
                None => self.faults.push(format!(
                    "{label}: the outage of probes {first} to {last} ({} lost) is not reported",
                    outage.lost
                )),
                Some(found) => self.compare_bounds(label, outage, found),
            }
        }
        for outage in reported {
            let (first, last) = (outage.first_lost.seq, outage.last_lost.seq);
            let lost = truth
                .packets
                .iter()
                .filter(|p| p.exit.is_none() && (first..=last).contains(&p.mark.probe()))
                .count();
            if lost as u64 != outage.lost {
                self.faults.push(format!(
                    "{label}: an outage of probes {first} to {last} is reported with {} lost; truly {lost} were",
                    outage.lost
                ));
            }
        }
    }

    /// The true duration, which lies between the truth's own two bounds, must be
    /// possible by the report's, and the edges must be the same probes.
    fn compare_bounds(&mut self, label: &str, truth: &TrueOutage, found: &Outage) {
        let (first, last) = (truth.first_lost.probe(), truth.last_lost.probe());
        let mut wrong = |what: String| {
            self.faults.push(format!(
                "{label}: outage of probes {first} to {last}: {what}"
            ));
        };
        let at_least = Span::from_nanos(found.at_least_ns);
        if let Some(most) = truth.at_most()
            && at_least > most + STAMP_SLACK
        {
            wrong(format!(
                "reported as at least {at_least}, but truly it was at most {most}"
            ));
        }
        match found.at_most_ns.map(Span::from_nanos) {
            Some(most) if most + STAMP_SLACK < truth.at_least() => {
                wrong(format!(
                    "reported as at most {most}, but truly it was at least {}",
                    truth.at_least()
                ));
            }
            None if truth.at_most().is_some() => {
                wrong("reported without an end or a beginning, but it had both".to_owned());
            }
            _ => {}
        }
        // Where the report merges several loss periods its edges are the outer ones.
        if found.loss_periods.len() == 1
            && (found.first_lost.seq != first || found.last_lost.seq != last)
        {
            wrong(format!(
                "reported as probes {} to {}",
                found.first_lost.seq, found.last_lost.seq
            ));
        }
    }

    /// A drill whose fault did not bite shows nothing. Where routers know of the fault at
    /// once, traffic may change its path without an outage.
    fn expect_an_effect(&mut self, fault: Fault, truth: &Truth) {
        let is_silent = matches!(fault, Fault::Blackhole | Fault::Grey);
        let moved = truth.flows.values().any(|flow| flow.paths.len() > 1);
        if self.true_outages == 0 && (is_silent || !moved) {
            self.faults.push(
                "there was no outage in this drill, nor a change of path that could go without: its fault did not bite"
                    .to_owned(),
            );
        }
    }

    fn expect_all_flows(&mut self, report: &Report) {
        let flows: usize = report.findings.sessions.iter().map(|s| s.flows.len()).sum();
        if self.compared != 2 * flows || flows == 0 {
            self.faults.push(format!(
                "{} directions of flows are in the truth, but the report has {flows} flows",
                self.compared
            ));
        }
    }

    /// With one MSEE gone, some flows have an outage and the others none.
    fn expect_share(&mut self, fault: Fault, report: &Report, truth: &Truth) {
        if fault != Fault::OneMsee {
            return;
        }
        let affected = |session: &Session| {
            session
                .flows
                .iter()
                .filter(|f| !f.outages.is_empty())
                .count()
        };
        let by_truth = |ip: &str| {
            let mut ports: Vec<u16> = truth
                .flows
                .values()
                .filter(|f| f.flow.sender().ip().to_string() == ip && !f.outages.is_empty())
                .map(|f| f.flow.sender().port())
                .collect();
            ports.sort_unstable();
            ports.dedup();
            ports.len()
        };
        for (name, ip) in [
            ("onprem-azure", "10.1.11.10"),
            ("azure-onprem", "10.17.11.132"),
        ] {
            let Some(session) = report.findings.sessions.iter().find(|s| s.session == name) else {
                continue;
            };
            let (found, truly, all) = (affected(session), by_truth(ip), session.flows.len());
            if found != truly {
                self.faults.push(format!(
                    "{name}: {found} of {all} flows are reported with an outage; truly {truly} had one"
                ));
            }
        }
        let said = report.findings.transitions.iter().any(|t| {
            t.remarks
                .iter()
                .any(|r| r.contains(" of ") && r.contains("flows"))
        });
        if !said {
            self.faults
                .push("the report does not say how many of the flows were affected".to_owned());
        }
    }
}

/// The session that a flow belongs to.
fn session_of(truth: &FlowTruth) -> &'static str {
    match truth.flow.sender().ip().octets() {
        [10, 1, 11, 10] => "onprem-azure",
        _ => "azure-onprem",
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
    }
}

#[cfg(test)]
mod tests;
