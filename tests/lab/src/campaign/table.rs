//! What came out, one row for each scenario.

use super::judge::{Judgement, Share};
use super::peers::PeerTable;
use super::scenario::Scenario;
use serde::Serialize;
use std::fmt;

/// The median error of start and end must not be larger, in probe intervals.
const MEDIAN: f64 = 0.5;
/// Of fewer errors no median is judged.
const ENOUGH: usize = 8;

/// All rows.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Table {
    seed: u64,
    rows: Vec<Row>,
    peers: PeerTable,
}

/// All runs of one scenario.
#[derive(Clone, Debug, Default, Serialize)]
struct Row {
    scenario: String,
    about: String,
    /// Whether its runs must have outages.
    outages: bool,
    runs: u64,
    /// Runs of which the truth is not whole, and which were therefore not judged.
    void: u64,
    /// Judged runs in which there was no true outage.
    quiet: u64,
    found: Share,
    missed_long: u64,
    invented: u64,
    durations: Share,
    widths: Share,
    start_errors: Vec<f64>,
    end_errors: Vec<f64>,
    duration_errors: Vec<f64>,
    directions: Share,
    paths: Share,
    losses: Share,
    delays: Share,
    sizes: Share,
    disagreeing: Vec<Disagreement>,
    broken: Vec<Disagreement>,
}

/// A run that did not come out as it should.
#[derive(Clone, Debug, Serialize)]
struct Disagreement {
    seed: u64,
    what: Vec<String>,
}

impl Table {
    /// Without any run.
    pub(super) fn new(seed: u64, scenarios: &[Scenario]) -> Self {
        let row = |scenario: &Scenario| Row {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            outages: scenario.outages,
            ..Row::default()
        };
        Self {
            seed,
            rows: scenarios.iter().map(row).collect(),
            peers: PeerTable::default(),
        }
    }

    fn row(&mut self, scenario: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.scenario == scenario)
    }

    /// Adds a run.
    pub(super) fn take(&mut self, mut run: Judgement) {
        self.peers
            .take(&run.scenario, std::mem::take(&mut run.peers));
        let Some(row) = self.row(&run.scenario) else {
            return;
        };
        row.runs += 1;
        if run.hole.is_some() {
            row.void += 1;
            return;
        }
        row.quiet += u64::from(run.found.all == 0);
        row.missed_long += run.missed_long;
        row.invented += run.invented;
        for (sum, more) in [
            (&mut row.found, run.found),
            (&mut row.durations, run.durations),
            (&mut row.widths, run.widths),
            (&mut row.directions, run.directions),
            (&mut row.paths, run.paths),
            (&mut row.losses, run.losses),
            (&mut row.delays, run.delays),
            (&mut row.sizes, run.sizes),
        ] {
            sum.add(more);
        }
        for (sum, more) in [
            (&mut row.start_errors, run.start_errors),
            (&mut row.end_errors, run.end_errors),
            (&mut row.duration_errors, run.duration_errors),
        ] {
            sum.extend(more);
            sum.sort_by(f64::total_cmp);
        }
        if !run.faults.is_empty() {
            row.disagreeing.push(Disagreement {
                seed: run.seed,
                what: run.faults,
            });
        }
    }

    /// Adds a run that could not be carried out.
    pub(super) fn broken(&mut self, scenario: &str, seed: u64, why: &str) {
        if let Some(row) = self.row(scenario) {
            row.broken.push(Disagreement {
                seed,
                what: vec![why.to_owned()],
            });
        }
    }

    /// Whether what must hold held.
    pub(super) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.fails().is_empty())
    }
}

impl Row {
    /// What must hold and did not.
    fn fails(&self) -> Vec<&'static str> {
        let whole = |share: Share| share.right == share.all;
        // Of few the median is chance: all flows of a session see one event alike.
        let near = |errors: &[f64]| {
            errors.len() < ENOUGH || median(errors).is_none_or(|median| median <= MEDIAN)
        };
        [
            (self.broken.is_empty() && self.runs > 0, "runs"),
            (self.void == 0, "void"),
            (!self.outages || self.quiet == 0, "no true outage"),
            (whole(self.found), "found"),
            (self.missed_long == 0, "missed"),
            (self.invented == 0, "invented"),
            (whole(self.durations), "durations"),
            (whole(self.widths), "bounds"),
            (near(&self.start_errors), "start"),
            (near(&self.end_errors), "end"),
            (whole(self.directions), "direction"),
            (whole(self.paths), "path"),
            (whole(self.losses), "losses"),
            (whole(self.delays), "delay"),
            (whole(self.sizes), "path MTU"),
            (self.disagreeing.is_empty(), "runs disagree"),
        ]
        .into_iter()
        .filter_map(|(holds, what)| (!holds).then_some(what))
        .collect()
    }
}

/// Of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let lower = sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(*lower, *sorted.get(middle)?))
}

fn errors(sorted: &[f64]) -> String {
    match (median(sorted), sorted.last()) {
        (Some(median), Some(worst)) => format!("{median:.2} / {worst:.2}"),
        _ => "-".to_owned(),
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.right, self.all) {
            (_, 0) => f.pad("-"),
            (right, all) if right == all => f.pad(&format!("all {all}")),
            (right, all) => f.pad(&format!("{right} of {all}")),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Campaign, seed {}\n", self.seed)?;
        writeln!(
            f,
            "Errors are in probe intervals, median / worst. `FAILS` names what must hold and did not.\n"
        )?;
        writeln!(
            f,
            "| scenario | runs | true outages | found | missed | invented | durations in bounds | bounds tight | start | end | duration | direction | path | losses | delay | path MTU | verdict |"
        )?;
        writeln!(f, "|{}", "---|".repeat(17))?;
        for row in &self.rows {
            let fails = row.fails();
            let verdict = if fails.is_empty() {
                "holds".to_owned()
            } else {
                format!("FAILS: {}", fails.join(", "))
            };
            let runs = match row.void {
                0 => row.runs.to_string(),
                void => format!("{} ({void} void)", row.runs),
            };
            writeln!(
                f,
                "| {} | {runs} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {verdict} |",
                row.scenario,
                row.found.all,
                row.found.right,
                row.found.all - row.found.right,
                row.invented,
                row.durations,
                row.widths,
                errors(&row.start_errors),
                errors(&row.end_errors),
                errors(&row.duration_errors),
                row.directions,
                row.paths,
                row.losses,
                row.delays,
                row.sizes,
            )?;
        }
        for row in &self.rows {
            for run in row.disagreeing.iter().chain(&row.broken) {
                writeln!(f, "\n{}-{}:\n", row.scenario, run.seed)?;
                for what in run.what.iter().take(6) {
                    writeln!(f, "- {what}")?;
                }
                if let Some(more) = run.what.len().checked_sub(6).filter(|more| *more > 0) {
                    writeln!(f, "- and {more} more")?;
                }
            }
        }
        if !self.peers.is_empty() {
            write!(f, "{}", self.peers)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
