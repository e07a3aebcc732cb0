//! Paths: their names in their order, and the probes between which they changed.

use super::report::{Epoch, Flow};
use super::{EDGE, Judgement};
use crate::drill::Window;
use crate::truth::{Direction, FlowTruth, Mark, PathEpoch, TruePath};
use hopgap_proto::time::Span;

/// Two traceroutes' time and their duration.
const SHORT_STAY: Span = Span::from_millis(2_500);

impl Judgement {
    /// The sequence of named paths, and the probes between which it changed.
    pub(super) fn compare_paths(
        &mut self,
        label: &str,
        truth: &FlowTruth,
        flow: &Flow,
        window: Window,
    ) {
        let epochs = match truth.flow.direction() {
            Direction::Forward => &flow.forward_paths,
            Direction::Reverse => &flow.reverse_paths,
        };
        let within: Vec<_> = truth
            .paths
            .iter()
            .filter(|e| e.last.enter >= window.0 + EDGE && e.first.enter <= window.1 - EDGE)
            .collect();
        let named: Vec<&Epoch> = merged(epochs);
        let fits = |truly: &Vec<Stretch>| {
            truly.len() == named.len()
                && truly
                    .iter()
                    .zip(&named)
                    .all(|(truly, reported)| truly.names.iter().all(|name| reported.may_be(name)))
        };
        let readings: Vec<Vec<Stretch>> = readings(&within)
            .iter()
            .map(|r| as_reported(r, &named))
            .collect();
        let Some(within) = readings.iter().find(|r| fits(r)) else {
            let names = |names: Vec<&str>| names.join(", ");
            self.faults.push(format!(
                "{label}: the paths are reported as {}, but truly were {}",
                names(
                    named
                        .iter()
                        .map(|e| e.path.as_deref().unwrap_or("(unnamed)"))
                        .collect()
                ),
                names(within.iter().map(|e| path_name(e.path)).collect())
            ));
            return;
        };
        for (truly, reported) in within.windows(2).zip(named.windows(2)) {
            let ([before, after], [was, is]) = (truly, reported) else {
                continue;
            };
            // Equal hop counts: the change is dated by traceroutes, not by probes.
            if was.target_at_hop == is.target_at_hop {
                continue;
            }
            self.changes += 1;
            let (truth, found) = (
                (before.last.probe(), after.first.probe()),
                (last_seq(epochs, was), is.first.seq),
            );
            if truth != found {
                self.faults.push(format!(
                    "{label}: the change to {} lies between probes {} and {}, but is reported between {} and {}",
                    after.names.join(" and "), truth.0, truth.1, found.0, found.1
                ));
            }
        }
    }
}

pub(super) fn path_name(path: TruePath) -> &'static str {
    match path {
        TruePath::ExpressroutePrimary => "expressroute-primary",
        TruePath::ExpressrouteSecondary => "expressroute-secondary",
        TruePath::Vpn => "vpn",
    }
}

/// A stretch of true epochs that a report can tell from its neighbours.
#[derive(Clone, Debug)]
struct Stretch {
    names: Vec<&'static str>,
    first: Mark,
    last: Mark,
}

/// What the true epochs may look like to whoever sees hop counts for each probe and a
/// traceroute each second. Both circuits have one hop count: a stay on one circuit
/// beside the other that is over before a traceroute can see it is part of its
/// neighbour, unless a traceroute happened to see it.
pub(super) fn readings(epochs: &[&PathEpoch]) -> Vec<Vec<PathEpoch>> {
    let on_circuit = |e: &&PathEpoch| e.path != TruePath::Vpn;
    let short: Vec<usize> = (0..epochs.len())
        .filter(|&i| {
            let Some(epoch) = epochs.get(i).filter(|e| on_circuit(e)) else {
                return false;
            };
            let beside = [i.checked_sub(1), Some(i + 1)]
                .into_iter()
                .flatten()
                .filter_map(|n| epochs.get(n))
                .any(|n| on_circuit(n) && n.path != epoch.path);
            beside && epoch.last.enter - epoch.first.enter < SHORT_STAY
        })
        .take(8)
        .collect();
    (0..1_usize << short.len())
        .map(|unseen| {
            let is_unseen = |i: usize| {
                short
                    .iter()
                    .position(|s| *s == i)
                    .is_some_and(|n| unseen >> n & 1 == 1)
            };
            let mut seen: Vec<PathEpoch> = Vec::new();
            // Where an unseen stay begins that becomes part of what follows.
            let mut begun: Option<Mark> = None;
            for (i, epoch) in epochs.iter().enumerate() {
                if is_unseen(i) {
                    match seen.last_mut().filter(|last| last.path != TruePath::Vpn) {
                        Some(last) => last.last = epoch.last,
                        None => begun = begun.or(Some(epoch.first)),
                    }
                    continue;
                }
                let mut epoch = **epoch;
                if let Some(first) = begun.take() {
                    epoch.first = first;
                }
                seen.push(epoch);
            }
            seen
        })
        .collect()
}

/// The true epochs, with those drawn together that one reported epoch covers by
/// naming every path that they took.
fn as_reported(epochs: &[PathEpoch], named: &[&Epoch]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for epoch in epochs {
        let name = path_name(epoch.path);
        let count = stretches.len();
        if let Some(open) = stretches.last_mut()
            && (open.names.contains(&name)
                || named
                    .get(count - 1)
                    .is_some_and(|n| n.is_undecided() && n.may_be(name)))
        {
            if !open.names.contains(&name) {
                open.names.push(name);
            }
            open.last = epoch.last;
            continue;
        }
        stretches.push(Stretch {
            names: vec![name],
            first: epoch.first,
            last: epoch.last,
        });
    }
    stretches
}

/// The first epoch of each run of epochs with one name.
fn merged(epochs: &[Epoch]) -> Vec<&Epoch> {
    let mut out: Vec<&Epoch> = Vec::new();
    for epoch in epochs {
        if out.last().is_none_or(|last| last.path != epoch.path) {
            out.push(epoch);
        }
    }
    out
}

/// The last probe of the run of epochs that begins with `first`.
fn last_seq(epochs: &[Epoch], first: &Epoch) -> u32 {
    epochs
        .iter()
        .skip_while(|e| !std::ptr::eq(*e, first))
        .take_while(|e| e.path == first.path)
        .last()
        .map_or(first.last.seq, |e| e.last.seq)
}
