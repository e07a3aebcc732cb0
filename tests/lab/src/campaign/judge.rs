//! Holds a run's report against its truth.
//!
//! The truth is the wire's logs and the program that the wire carried out; the report
//! is read from `report.json`, as anybody would read it. Nothing of the analysis is
//! used here.

mod beside;
mod delays;
mod losses;
mod outages;
mod paths;
mod question;
mod report;
mod sizes;
mod stalls;

use super::clock::HostClock;
use super::peers::Compared;
use super::program::Program;
use super::record::{Down, Record};
use super::scenario::Scenario;
use super::truth::{FlowTruth, Probe, Truth};
use anyhow::{Context, Result};
use hopgap_proto::time::{Mono, Span};
use report::{Flow, Point, Report};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An agent that is killed takes the records with it that it has not yet flushed.
const FORGETS: Span = Span::from_millis(2_200);
/// An agent that is started reflects after this long, at the latest.
const STARTS: Span = Span::from_millis(1_000);
/// The names of the directions: out and back.
const DIRECTIONS: [&str; 2] = ["forward", "reverse"];
/// Between the agent's kernel's stamp and the wire's, on a busy machine.
const SLACK: Span = Span::from_micros(500);
/// What happens this close to the edges of the drill may be in the report or not.
const EDGE: Span = Span::from_millis(300);

/// How many of how many were right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Share {
    /// Those that were right.
    pub(super) right: u64,
    /// All.
    pub(super) all: u64,
}

impl Share {
    /// One more.
    pub(super) fn count(&mut self, right: bool) {
        self.all += 1;
        self.right += u64::from(right);
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.all += other.all;
        self.right += other.right;
    }
}

/// How a report stands against the truth.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Judgement {
    /// The scenario.
    pub(super) scenario: String,
    /// The run's seed.
    pub(super) seed: u64,
    /// True outages, and those of them that were found.
    pub(super) found: Share,
    /// Outages longer than two intervals that were missed.
    pub(super) missed_long: u64,
    /// Outages that there were not.
    pub(super) invented: u64,
    /// True durations within the stated bounds.
    pub(super) durations: Share,
    /// Stated bounds no wider than two intervals and what the record shows.
    pub(super) widths: Share,
    /// Errors in probe intervals, without sign.
    pub(super) start_errors: Vec<f64>,
    /// The same.
    pub(super) end_errors: Vec<f64>,
    /// The same.
    pub(super) duration_errors: Vec<f64>,
    /// Outages in the right direction.
    pub(super) directions: Share,
    /// Probes, each way, on the path that is named.
    pub(super) paths: Share,
    /// Lost probes that are reported as lost in their direction.
    pub(super) losses: Share,
    /// Median one-way delays within their bound.
    pub(super) delays: Share,
    /// Path MTUs.
    #[serde(default)]
    pub(super) sizes: Share,
    /// What hopgap and its peers say of each outage, where they measured.
    #[serde(default)]
    pub(super) peers: Vec<Compared>,
    /// Every point on which the report is wrong, in one sentence each.
    pub(super) faults: Vec<String>,
    /// Why the truth is not the whole truth, if it is not.
    pub(super) hole: Option<String>,
}

impl Judgement {
    /// Whether the report is right, as far as the truth is known.
    pub(super) fn agrees(&self) -> bool {
        self.faults.is_empty()
    }

    fn wrong(&mut self, label: &str, what: impl std::fmt::Display) {
        self.faults.push(format!("{label}: {what}"));
    }
}

/// Judges `report.json` in `dir`.
///
/// # Errors
/// When it cannot be read.
pub(super) fn judge(
    scenario: &Scenario,
    record: &Record,
    truth: &Truth,
    dir: &Path,
) -> Result<Judgement> {
    let path = dir.join("report.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Report =
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let mut judgement = compare(scenario, record, truth, &report);
    judgement.compare_peers(record, &report, dir)?;
    Ok(judgement)
}

fn compare(scenario: &Scenario, record: &Record, truth: &Truth, report: &Report) -> Judgement {
    let mut judgement = Judgement {
        scenario: record.scenario.clone(),
        seed: record.seed,
        hole: truth.hole.clone(),
        ..Judgement::default()
    };
    let offset = Span::from_nanos(record.wall_minus_mono_ns);
    let window = judgement.compare_window(scenario, record, report.findings.window.as_ref());
    for flow in &truth.flows {
        let session = report
            .findings
            .sessions
            .iter()
            .find(|s| s.session == flow.session());
        let found = session.and_then(|s| s.flows.iter().find(|f| f.source_port == flow.port));
        let label = format!("{}, port {}", flow.session(), flow.port);
        let Some(found) = found else {
            judgement.wrong(&label, "not in the report");
            continue;
        };
        let view = View {
            scenario,
            program: &record.program,
            downs: &record.downs,
            begin: record.begin(),
            offset,
            clock: record.clock_of(flow.side),
            reflector_clock: record.clock_of(1 - flow.side),
            window,
            deaf: stalls::deaf(record, truth, report, 1 - flow.side),
            truth: flow,
            found,
            label,
        };
        judgement.compare_outages(&view);
        judgement.compare_losses(&view);
        judgement.compare_paths(&view);
    }
    let expected = usize::from(scenario.flows) * if scenario.both { 2 } else { 1 };
    if truth.flows.len() != expected {
        judgement.wrong(
            "the wire",
            format!("{} flows, not {expected}", truth.flows.len()),
        );
    }
    judgement.compare_delays(scenario, truth, report, window);
    judgement.compare_sizes(scenario, report);
    judgement.compare_verdict(scenario, record, truth, report, window);
    judgement.compare_stalls(record, truth, report, window);
    judgement.compare_transitions(scenario, record, report);
    judgement
}

/// One flow, from both sides.
struct View<'a> {
    scenario: &'a Scenario,
    program: &'a Program,
    downs: &'a [Down],
    begin: Mono,
    offset: Span,
    /// The sender's clocks, where they are not the machine's.
    clock: Option<&'a HostClock>,
    /// The reflector's.
    reflector_clock: Option<&'a HostClock>,
    window: (Mono, Mono),
    /// When nobody can tell whether the reflecting host as a whole stood still.
    deaf: Vec<(Mono, Mono)>,
    truth: &'a FlowTruth,
    found: &'a Flow,
    label: String,
}

impl View<'_> {
    /// The place of a reported probe among the true ones: of those with its number the
    /// one sent at that time.
    fn place(&self, point: &Point) -> Option<usize> {
        let sent = point.sent.mono(self.offset);
        let distance = |place: &usize| {
            let probe = self.truth.probes.get(*place);
            probe.map(|probe| (probe.out.enter - sent).abs())
        };
        let same = self.truth.probes.iter().enumerate();
        let same = same.filter(|(_, p)| p.seq == point.seq).map(|(i, _)| i);
        same.min_by_key(distance)
            .filter(|i| distance(i).is_some_and(|d| d < Span::from_secs(1)))
    }

    /// Whether a killed agent took with it what was known of the probe.
    fn is_forgotten(&self, probe: &Probe) -> bool {
        self.is_around(probe, FORGETS, |down| down.killed)
    }

    /// Whether a killed reflecting agent took with it whether the probe arrived. Where a later
    /// probe was answered before the kill, the counter in its reply tells the direction.
    fn is_without_direction(&self, probe: &Probe) -> bool {
        let reflector = 1 - self.truth.side;
        let sent = probe.out.enter - self.begin;
        let is_it = |down: &&Down| {
            let kills = down.killed && down.side == Some(reflector);
            kills && sent >= down.from - FORGETS && sent <= down.until + STARTS
        };
        let Some(down) = self.downs.iter().find(is_it) else {
            return false;
        };
        let mut later = self.truth.probes.iter();
        !later.any(|p| {
            let at = p.out.enter - self.begin;
            at > sent && at < down.from && p.back.is_some_and(|back| back.exit.is_some())
        })
    }

    /// Whether the reflecting agent did not run when the probe was sent, or was just
    /// starting, or nobody can tell whether its host took anything in. Of a loss then the report may claim nothing; what it claims must be true.
    fn is_open(&self, probe: &Probe) -> bool {
        let reflector = 1 - self.truth.side;
        self.is_around(probe, Span::ZERO, |down| down.side == Some(reflector))
            || self.is_unheard(probe)
    }

    /// Whether an agent did not run when the probe was sent, or seems not to have.
    fn is_down(&self, probe: &Probe) -> bool {
        self.is_absent(probe) || self.is_unheard(probe)
    }

    /// Whether an agent did not run when the probe was sent.
    fn is_absent(&self, probe: &Probe) -> bool {
        self.is_around(probe, Span::ZERO, |_| true)
    }

    /// For how long, of a run of lost probes, nobody can tell whether the reflecting host as a
    /// whole stood still: each time from the last probe before to the first after.
    fn unheard_around(&self, run: &std::ops::RangeInclusive<usize>) -> Span {
        let first = run.start().saturating_sub(1);
        let around = self.truth.probes.get(first..).unwrap_or_default();
        let around = around.iter().take(run.end() + 2 - first);
        let (mut sum, mut last, mut open) = (Span::ZERO, None, false);
        for probe in around {
            if self.is_unheard(probe) {
                open = true;
                continue;
            }
            if let (Some(last), true) = (last, open) {
                sum += probe.out.enter - last;
            }
            (last, open) = (Some(probe.out.enter), false);
        }
        sum
    }

    /// Whether the probe was sent to a host that took nothing in, as far as anybody can tell.
    fn is_unheard(&self, probe: &Probe) -> bool {
        let sent = probe.out.enter;
        let mut deaf = self.deaf.iter();
        deaf.any(|(from, to)| *from <= sent && sent <= *to)
    }

    /// Whether an agent's absence may have hidden a part of this run, or its edge.
    fn may_be_cut(&self, run: &std::ops::RangeInclusive<usize>) -> bool {
        let probes = self.truth.probes.iter().take(run.end() + 2);
        let mut around = probes.skip(run.start().saturating_sub(1));
        around.any(|probe| self.is_down(probe) || self.is_forgotten(probe))
    }

    fn is_around(&self, probe: &Probe, before: Span, which: impl Fn(&Down) -> bool) -> bool {
        let at = probe.out.enter - self.begin;
        self.downs
            .iter()
            .any(|down| which(down) && at >= down.from - before && at <= down.until + STARTS)
    }

    /// A length of time that the report gives of a direction, by the machine's clocks: it
    /// is by the clock of the host that the direction leaves.
    fn true_span(&self, direction: usize, nanos: i64) -> Span {
        let span = Span::from_nanos(nanos);
        let clock = [self.clock, self.reflector_clock];
        let clock = clock.get(direction).copied().flatten();
        clock.map_or(span, |clock| clock.true_span(span))
    }

    /// Whether what was sent then is in the report for certain. A report is on the
    /// collector's clock, which is the machine's, whatever the hosts' clocks show.
    fn is_inside(&self, sent: Mono) -> bool {
        sent >= self.window.0 + EDGE && sent <= self.window.1 - EDGE
    }
}

#[cfg(test)]
mod tests;
