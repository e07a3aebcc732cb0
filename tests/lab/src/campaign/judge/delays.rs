//! One-way delays against the wire's own, on one clock.

use super::report::{Latency, Report, may_be};
use super::{DIRECTIONS, Judgement};
use crate::campaign::scenario::Scenario;
use crate::campaign::truth::{Probe, Truth};
use crate::campaign::world::TIMEOUT;
use hopgap_proto::time::{Mono, Span};

/// Between a kernel's stamp and the wire, both ends together, on a busy machine.
const STAMPS: Span = Span::from_micros(500);
/// Of fewer probes a median is chance.
const ENOUGH: u64 = 100;

impl Judgement {
    /// The median of every direction of every pair of paths.
    pub(super) fn compare_delays(
        &mut self,
        scenario: &Scenario,
        truth: &Truth,
        report: &Report,
        window: (Mono, Mono),
    ) {
        for session in &report.findings.sessions {
            for pair in &session.latency {
                if pair.round_trip.count < ENOUGH {
                    continue;
                }
                let names = [pair.forward.as_deref(), pair.reverse.as_deref()];
                let label = format!(
                    "{}, {} and back by {}",
                    session.session,
                    names[0].unwrap_or("no path"),
                    names[1].unwrap_or("no path")
                );
                let Some(delays) = &pair.one_way else {
                    self.delays.count(false);
                    self.wrong(&label, "no one-way delay is reported");
                    continue;
                };
                let on_pair = |probe: &&Probe| {
                    (0..2).all(|direction| {
                        let way = probe.way(direction).filter(|way| way.exit.is_some());
                        let path = way.and_then(|way| scenario.paths.get(way.path));
                        path.is_some_and(|path| may_be(names[direction], &path.name))
                    })
                };
                // What a late reply says is no latency.
                let in_time = |probe: &&Probe| {
                    let back = probe.back.and_then(|back| back.exit);
                    back.is_some_and(|back| back - probe.out.enter <= TIMEOUT)
                };
                let probes: Vec<&Probe> = truth
                    .flows
                    .iter()
                    .filter(|flow| flow.session() == session.session)
                    .flat_map(|flow| &flow.probes)
                    .filter(|p| p.out.enter >= window.0 && p.out.enter <= window.1)
                    .filter(on_pair)
                    .filter(in_time)
                    .collect();
                let bound = Span::from_nanos(delays.bound_ns);
                for (direction, said) in [&delays.forward, &delays.reverse].into_iter().enumerate()
                {
                    let label = format!("{label}, {}", DIRECTIONS[direction]);
                    if let Some(truly) = median(&probes, direction) {
                        self.compare_delay(&label, said, bound, truly);
                    }
                }
            }
        }
    }

    fn compare_delay(&mut self, label: &str, said: &Latency, bound: Span, truly: Span) {
        let median = Span::from_nanos(said.p50_ns);
        let right = (median - truly).abs() <= bound + STAMPS;
        self.delays.count(right);
        if !right {
            let what = format!(
                "the median one-way delay is reported as {median} +/- {bound}; truly it was {truly} \
                 (of {} probes)",
                said.count
            );
            self.wrong(label, what);
        }
    }
}

fn median(probes: &[&Probe], direction: usize) -> Option<Span> {
    let mut delays: Vec<Span> = probes
        .iter()
        .filter_map(|probe| probe.way(direction))
        .filter_map(|way| Some(way.exit? - way.enter))
        .collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).copied()
}
