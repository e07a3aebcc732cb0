//! The verdict, and how much of the drill was seen.

use super::report::{Coverage, Report};
use super::{Judgement, STAMP_SLACK, Window};
use crate::topology::SERVER;
use crate::truth::Truth;
use hopgap_proto::plan::Objective;
use hopgap_proto::time::{Mono, Span};

/// Packets of one flow that leave a host this close to each other leave nothing unseen, if as
/// many of them as the report wants between two outages leave in this time.
const GRAIN: Span = Span::from_millis(100);
/// What the report tells of a stretch may be off by so much at its edges: the clocks of the
/// question are the collector's, those of the packets the machine's.
const EDGES: Span = Span::from_millis(250);
/// The hosts by their names in the plan.
const HOSTS: [&str; 2] = ["onprem", "azure"];

impl Judgement {
    /// An outage longer than the objective is *missed*; without one nothing is. What leaves
    /// a host all the time is seen all the time.
    pub(super) fn compare_question(&mut self, report: &Report, truth: &Truth, window: Window) {
        self.compare_verdict(&report.findings.verdict.result, truth, window);
        for (from, to) in [(0, 1), (1, 0)] {
            let unseen = Unseen::of(truth, window, from);
            let hosts = (HOSTS[from], HOSTS[to]);
            if report.findings.verdict.result == "met" {
                self.compare_met(unseen, hosts);
            }
            let asked = window.1 - window.0;
            self.compare_coverage(&report.findings.coverage, hosts, asked, unseen);
        }
    }

    fn compare_verdict(&mut self, said: &str, truth: &Truth, window: Window) {
        // The lab's plan says nothing else.
        let objective = Objective::default().outage;
        let outages = truth.flows.values().flat_map(|flow| &flow.outages);
        let within: Vec<_> = outages
            .filter(|o| o.last_lost.enter >= window.0 && o.first_lost.enter <= window.1)
            .collect();
        let longest = within.iter().map(|o| o.at_least()).max();
        let most = within
            .iter()
            .map(|o| o.at_most())
            .max_by_key(|most| most.unwrap_or(Span::MAX));
        if longest.is_some_and(|longest| longest > objective + STAMP_SLACK) && said != "missed" {
            self.faults.push(format!(
                "the verdict is `{said}`, but an outage was longer than the objective of {objective}"
            ));
        }
        let short = most.is_none_or(|most| most.is_some_and(|most| most + STAMP_SLACK < objective));
        if short && said == "missed" {
            self.faults.push(format!(
                "the verdict is `{said}`, but every outage was shorter than the objective of {objective}"
            ));
        }
        if !["met", "missed", "undecided"].contains(&said) {
            self.faults.push(format!(
                "the verdict is `{said}` after a fault that did bite"
            ));
        }
    }

    /// An outage that is longer than the objective may hide where nothing left a host.
    fn compare_met(&mut self, unseen: Unseen, (from, to): (&str, &str)) {
        let objective = Objective::default().outage;
        if unseen.longest > objective + EDGES {
            self.faults.push(format!(
                "the verdict is `met`, but from {from} to {to} no packet left for {}, longer than the objective of {objective}",
                unseen.longest
            ));
        }
    }

    fn compare_coverage(
        &mut self,
        said: &Coverage,
        (from, to): (&str, &str),
        asked: Span,
        unseen: Unseen,
    ) {
        let direction = said
            .directions
            .iter()
            .find(|d| d.from == from && d.to == to);
        let Some(direction) = direction else {
            self.faults.push(format!(
                "from {from} to {to}: the report does not say what was seen"
            ));
            return;
        };
        let said = Span::from_nanos(direction.asked_ns);
        if (said - asked).abs() > EDGES * 2 {
            self.faults.push(format!(
                "from {from} to {to}: the report was asked about {said}; the drill lasted {asked}"
            ));
        }
        let missing = Span::from_nanos(direction.asked_ns - direction.seen_ns);
        if missing > unseen.most + STAMP_SLACK * 2 {
            self.faults.push(format!(
                "from {from} to {to}: the report says that {missing} were not seen, though packets left all the time but for {}",
                unseen.most
            ));
        }
        if missing + EDGES * 2 < unseen.least {
            self.faults.push(format!(
                "from {from} to {to}: the report says that {missing} were not seen; no packet left for {}",
                unseen.least
            ));
        }
    }
}

/// For how long no packet left a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unseen {
    /// As each flow tells: what one flow sent is seen where its packets are near each other.
    most: Span,
    /// As all of its flows together tell.
    least: Span,
    /// The longest stretch in which none of its flows sent anything.
    longest: Span,
}

impl Unseen {
    fn of(truth: &Truth, (begin, end): Window, host: usize) -> Self {
        let mut seen: Vec<(Mono, Mono)> = Vec::new();
        let mut all = vec![begin, end];
        let mut grain = GRAIN;
        for flow in truth.flows.values() {
            let leaves_server = *flow.flow.source.ip() == SERVER;
            if leaves_server != (host == 0) {
                continue;
            }
            let at = flow.packets.iter().map(|packet| packet.mark.enter);
            let at: Vec<Mono> = at.filter(|at| *at >= begin && *at <= end).collect();
            let own = grain_of(&at);
            grain = grain.max(own);
            let near = at.windows(2).filter(|pair| pair[1] - pair[0] <= own);
            seen.extend(near.map(|pair| (pair[0], pair[1])));
            all.extend(at);
        }
        seen.sort_unstable();
        let (mut most, mut until) = (Span::ZERO, begin);
        for (from, to) in seen.into_iter().chain([(end, end)]) {
            if from - until > grain {
                most += from - until;
            }
            until = until.max(to);
        }
        all.sort_unstable();
        let gaps = all.windows(2).map(|pair| pair[1] - pair[0]);
        let gaps: Vec<Span> = gaps.filter(|gap| *gap > grain + STAMP_SLACK).collect();
        Self {
            most,
            least: gaps.iter().fold(Span::ZERO, |sum, gap| sum + *gap),
            longest: gaps.into_iter().max().unwrap_or(Span::ZERO),
        }
    }
}

/// One more interval than the plan's `min_good`, which the lab leaves at its default.
fn grain_of(left: &[Mono]) -> Span {
    let mut gaps: Vec<Span> = left.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let interval = gaps.get(gaps.len() / 2).copied().unwrap_or(Span::ZERO);
    GRAIN.max(interval * (i64::from(Objective::default().min_good) + 1))
}

#[cfg(test)]
mod tests;
