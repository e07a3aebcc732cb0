//! The question that was asked, how much of it anybody could see, and the verdict on it.

use super::report::{Report, Window};
use super::{Judgement, SLACK, STARTS};
use crate::campaign::program::Act;
use crate::campaign::record::{Record, Told};
use crate::campaign::scenario::{Announced, Scenario};
use crate::campaign::truth::{Passage, Truth};
use crate::campaign::world::{NAMES, TIMEOUT};
use hopgap_proto::time::{Mono, Span};

/// From what the collector's wall clock showed to what the machine's monotonic clock did.
const CLOCKS: Span = Span::from_millis(5);
/// The plan's `outage`, where the scenario sets none.
const OBJECTIVE: Span = Span::from_secs(10);

impl Judgement {
    /// The stretch that is judged must be the one that was asked about, to a probe. Returns it.
    pub(super) fn compare_window(
        &mut self,
        scenario: &Scenario,
        record: &Record,
        said: Option<&Window>,
    ) -> (Mono, Mono) {
        let offset = Span::from_nanos(record.wall_minus_mono_ns);
        let said = said.map(|window| (window.from.mono(offset), window.to.mono(offset)));
        let Some([from, to]) = record.asked else {
            // In recordings of before this was kept.
            return said.unwrap_or((Mono::MAX, Mono::MAX));
        };
        let asked = (
            Mono::from_nanos(from.latest_ns),
            Mono::from_nanos(to.earliest_ns),
        );
        let margin = CLOCKS + scenario.interval;
        let fits = |at: Mono, told: Told| {
            let (earliest, latest) = (told.earliest_ns, told.latest_ns);
            at >= Mono::from_nanos(earliest) - margin && at <= Mono::from_nanos(latest) + margin
        };
        match said {
            Some(said) if fits(said.0, from) && fits(said.1, to) => said,
            said => {
                let what = match said {
                    None => "the report says of no stretch that it was judged".to_owned(),
                    Some((begin, end)) => format!(
                        "the report judges another stretch than was asked about: it begins {} and ends {} after it",
                        begin - asked.0,
                        end - asked.1
                    ),
                };
                self.wrong("the question", what);
                asked
            }
        }
    }

    /// The verdict, as far as the truth decides it.
    pub(super) fn compare_verdict(
        &mut self,
        scenario: &Scenario,
        record: &Record,
        truth: &Truth,
        report: &Report,
        window: (Mono, Mono),
    ) {
        let objective = scenario.objective.unwrap_or(OBJECTIVE);
        let said = report.findings.verdict.result.as_str();
        let label = format!("the verdict `{said}`");
        // By how much an outage may be longer or shorter than the wire's: an interval at
        // each edge.
        let margin = scenario.interval + scenario.interval + SLACK;
        let longest = longest_outage(record, window);
        if longest.is_some_and(|longest| longest > objective + margin) {
            if said != "missed" {
                self.wrong(&label, "an outage was longer than the objective");
            }
            return;
        }
        for direction in 0..2 {
            let unseen = longest_unseen(record, truth, window, direction);
            // What is seen around it may be some probes more or less, or an agent that starts.
            if said == "met" && unseen > objective + margin + STARTS {
                let from = NAMES.get(direction).copied().unwrap_or_default();
                self.wrong(
                    &label,
                    format!(
                        "for {unseen} nobody saw what left {from}, and the objective is {objective}"
                    ),
                );
            }
        }
        let announced =
            |step: &crate::campaign::program::Step| step.act == Act::Mark(Announced::Failover);
        let moved = record
            .program
            .steps
            .iter()
            .any(|step| matches!(step.act, Act::Path(_)));
        if record.program.steps.iter().any(announced) && !moved && said != "not_tested" {
            self.wrong(
                &label,
                "a failover was announced and no packet took another path",
            );
        }
    }

    /// The transitions that the scenario makes, each at a time at which it switched something.
    pub(super) fn compare_transitions(
        &mut self,
        scenario: &Scenario,
        record: &Record,
        report: &Report,
    ) {
        let Some(truly) = &scenario.transitions else {
            return;
        };
        let offset = Span::from_nanos(record.wall_minus_mono_ns);
        let said: Vec<&str> = report
            .findings
            .transitions
            .iter()
            .map(|transition| transition.kind.as_str())
            .collect();
        if said != *truly {
            let what = format!("reported as {said:?}; truly {truly:?}");
            self.wrong("the transitions", what);
        }
        let steps = record.program.steps.iter();
        let switches: Vec<Mono> = steps
            .filter(|step| matches!(step.act, Act::Drop | Act::Path(_)))
            .flat_map(|step| [Some(step.from), step.until])
            .flatten()
            .map(|at| record.begin() + at)
            .collect();
        for transition in &report.findings.transitions {
            let started = transition.started.mono(offset);
            let near = |at: &Mono| (started - *at).abs() <= TIMEOUT;
            if !switches.iter().any(near) {
                let what = format!(
                    "said to have started {} after the beginning; nothing was switched then",
                    started - record.begin()
                );
                self.wrong(&format!("the {}", transition.kind), what);
            }
        }
    }
}

/// The longest time within the question in which the wire lost everything of a direction.
fn longest_outage(record: &Record, window: (Mono, Mono)) -> Option<Span> {
    let drops = record.program.steps.iter();
    let drops = drops.filter(|step| step.act == Act::Drop && step.flow.is_none());
    drops
        .filter_map(|step| {
            let (from, until) = (record.begin() + step.from, record.begin() + step.until?);
            // What an agent did not see because it did not run or stood still is not its.
            let seen =
                record.program.steps.iter().all(|other| {
                    !matches!(other.act, Act::Stop(_) | Act::Kill(_) | Act::Restart(_))
                });
            (seen && from > window.0 && until < window.1).then(|| until - from)
        })
        .max_by_key(|span| span.as_nanos())
}

/// The longest stretch of the question in which no packet that left this side's host could
/// have told anybody of this direction: none entered the network, or the agent that it went
/// to did not run.
fn longest_unseen(record: &Record, truth: &Truth, window: (Mono, Mono), from: usize) -> Span {
    let receives = |at: Mono| {
        let at = at - record.begin();
        let receiver = Some(1 - from);
        let mut downs = record.downs.iter();
        !downs.any(|down| down.side == receiver && at >= down.from && at <= down.until)
    };
    let mut told: Vec<Mono> = truth
        .flows
        .iter()
        .flat_map(|flow| {
            // Probes of its own session, replies of the other's.
            let direction = flow.side ^ from;
            flow.probes.iter().filter_map(move |p| p.way(direction))
        })
        .map(|passage: &Passage| passage.enter)
        .filter(|at| *at >= window.0 && *at <= window.1 && receives(*at))
        .collect();
    told.push(window.0);
    told.push(window.1);
    told.sort_unstable();
    let gaps = told.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max_by_key(|gap| gap.as_nanos()).unwrap_or(Span::ZERO)
}

#[cfg(test)]
mod tests;
