//! One-way delays against the wires' own: from where a packet entered the wire at its
//! sender to where it left the wire at its receiver, on one clock.

use super::paths::path_name;
use super::report::{Latency, Report};
use super::{Judgement, session_of};
use crate::truth::{Direction, FlowTruth, Truth};
use hopgap_proto::time::Span;

/// Between a kernel's stamp and the wire, both ends together, on a busy machine.
const STAMPS: Span = Span::from_micros(500);
/// Of fewer probes a median is chance: what is queued before one, it waits behind.
const ENOUGH: u64 = 200;

impl Judgement {
    /// The median of every direction of every pair of paths.
    pub(super) fn compare_delays(&mut self, report: &Report, truth: &Truth) {
        for session in &report.findings.sessions {
            for pair in &session.latency {
                let Some(delays) = &pair.one_way else {
                    self.faults.push(format!(
                        "{}: no one-way delay is reported of {} probes",
                        session.session, pair.round_trip.count
                    ));
                    continue;
                };
                for (way, path, found) in [
                    (Direction::Forward, &pair.forward, &delays.forward),
                    (Direction::Reverse, &pair.reverse, &delays.reverse),
                ] {
                    let names: Vec<&str> = path.iter().flat_map(|p| p.split(" or ")).collect();
                    let flows = truth
                        .flows
                        .values()
                        .filter(|f| session_of(f) == session.session && f.flow.direction() == way);
                    let Some(truly) = median(flows, &names) else {
                        continue;
                    };
                    let bound = Span::from_nanos(delays.bound_ns);
                    self.compare_delay(
                        &format!("{}, {way:?} by {}", session.session, names.join(" or ")),
                        found,
                        bound,
                        truly,
                    );
                }
            }
        }
    }

    fn compare_delay(&mut self, label: &str, found: &Latency, bound: Span, truly: Span) {
        if found.count < ENOUGH {
            return;
        }
        self.delays += 1;
        let said = Span::from_nanos(found.p50_ns);
        if (said - truly).abs() > bound + STAMPS {
            self.faults.push(format!(
                "{label}: the one-way delay is reported as {said} +/- {bound}, but truly it was {truly}"
            ));
        }
    }
}

/// The median delay of the packets that took one of these paths.
fn median<'a>(flows: impl Iterator<Item = &'a FlowTruth>, names: &[&str]) -> Option<Span> {
    let mut delays: Vec<Span> = flows
        .flat_map(|f| &f.packets)
        .filter(|p| p.path.is_some_and(|path| names.contains(&path_name(path))))
        .filter_map(|p| Some(p.exit? - p.mark.enter))
        .collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).copied()
}
