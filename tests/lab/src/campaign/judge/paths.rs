//! The named path of every probe, each way.

use super::report::{Epoch, may_be};
use super::{DIRECTIONS, Judgement, View};
use crate::campaign::program::Act;
use hopgap_proto::time::Span;
use std::collections::BTreeMap;

impl Judgement {
    /// Both directions of one flow.
    pub(super) fn compare_paths(&mut self, view: &View<'_>) {
        let all = [&view.found.forward_paths, &view.found.reverse_paths];
        for (direction, epochs) in all.into_iter().enumerate() {
            self.compare_epochs(view, direction, epochs);
        }
    }

    fn compare_epochs(&mut self, view: &View<'_>, direction: usize, epochs: &[Epoch]) {
        let mut said: BTreeMap<usize, Option<&str>> = BTreeMap::new();
        for epoch in epochs {
            let range = view.place(&epoch.first).zip(view.place(&epoch.last));
            let Some((first, last)) = range else {
                let what = format!(
                    "the path epoch of probes {} to {}: no such probes were sent",
                    epoch.first.seq, epoch.last.seq
                );
                self.wrong(&view.label, what);
                continue;
            };
            said.extend((first..=last).map(|place| (place, epoch.path.as_deref())));
        }
        let side = view.truth.enters(direction);
        let changes = view.program.path_changes(side);
        let tolerance = tolerance(view);
        let mut first_wrong = None;
        for (place, probe) in view.truth.probes.iter().enumerate() {
            // Only what was answered tells of both ways.
            if probe.lost(1) != Some(false) || !view.is_inside(probe.out.enter) {
                continue;
            }
            if view.is_forgotten(probe) {
                continue;
            }
            let Some(passage) = probe.way(direction) else {
                continue;
            };
            let at = passage.enter - view.begin;
            let near = |change: &Span| (at - *change).abs() <= tolerance;
            let loops = |step: &crate::campaign::program::Step| {
                matches!(step.act, Act::Loop(_)) && step.is_on(at)
            };
            if changes.iter().any(near) || view.program.steps.iter().any(loops) {
                continue;
            }
            let truly = view.scenario.paths.get(passage.path);
            let truly = truly.map_or("", |path| path.name.as_str());
            let named = said.get(&place).copied().flatten();
            let right = may_be(named, truly);
            self.paths.count(right);
            if !right && first_wrong.is_none() {
                first_wrong = Some(format!(
                    "probe {} went {} by {truly}, but {} is reported",
                    probe.seq,
                    DIRECTIONS[direction],
                    named.unwrap_or("no path")
                ));
            }
        }
        if let Some(what) = first_wrong {
            self.wrong(&view.label, what);
        }
    }
}

/// Around a change: an interval, where hop counts show it. Where they are equal or say
/// nothing, the traceroutes do, each of which takes its time.
fn tolerance(view: &View<'_>) -> Span {
    let rewritten = view.scenario.paths.iter().any(|p| p.sets_ttl.is_some());
    let mut routers: Vec<u8> = view.scenario.paths.iter().map(|p| p.routers).collect();
    let all = routers.len();
    routers.sort_unstable();
    routers.dedup();
    if routers.len() == all && !rewritten {
        view.scenario.interval
    } else {
        let trace = view.scenario.trace_interval;
        trace + trace + Span::from_millis(100)
    }
}
