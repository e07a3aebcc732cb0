//! Every lost probe, and its direction.

use super::report::LossPeriod;
use super::{DIRECTIONS, Judgement, SLACK, View};
use crate::campaign::truth::Probe;
use std::collections::BTreeSet;

impl Judgement {
    /// Loss of one flow: the reported periods, probe by probe, and the counts.
    pub(super) fn compare_losses(&mut self, view: &View<'_>) {
        let inside: Vec<&Probe> = view
            .truth
            .probes
            .iter()
            .filter(|p| {
                let sent = p.out.enter;
                sent >= view.window.0 && sent <= view.window.1
            })
            .collect();
        let counts = &view.found.counts;
        for (direction, said) in [counts.lost_forward, counts.lost_reverse]
            .into_iter()
            .enumerate()
        {
            let lost = |p: &&&Probe| p.lost(direction) == Some(true);
            let truly = inside.iter().filter(lost).count() as u64;
            let open = inside.iter().filter(|p| view.is_open(p) && lost(p));
            // Whether a probe on the edge is in the drill is a question of microseconds.
            let edge = view.truth.probes.iter().filter(|p| on_edge(view, p));
            let edge = edge.filter(|p| lost(&p)).count() as u64;
            let least = truly.saturating_sub(open.count() as u64 + edge);
            let forgets = inside.iter().any(|p| view.is_forgotten(p) && lost(&p));
            if !(least..=truly + edge).contains(&said) && !forgets {
                let what = format!(
                    "{said} probes are counted as lost {}; truly {truly} were",
                    DIRECTIONS[direction]
                );
                self.wrong(&view.label, what);
            }
            self.compare_periods(view, direction);
        }
        let unknown = counts.lost_unknown - excused_unknown(view).min(counts.lost_unknown);
        if unknown > 0 {
            let what = format!("the direction of {unknown} lost is not known");
            self.wrong(&view.label, what);
        }
        // Whether a probe on the edge is in the drill is a question of microseconds.
        let forgets = inside.iter().any(|probe| view.is_forgotten(probe));
        if !forgets && (inside.len() as u64).abs_diff(counts.sent) > 2 {
            let what = format!("{} probes are counted; truly {}", counts.sent, inside.len());
            self.wrong(&view.label, what);
        }
        let copies: u64 = inside
            .iter()
            .filter_map(|p| p.back)
            .map(|back| u64::from(back.copies))
            .sum();
        if !forgets && copies.abs_diff(counts.duplicated) > 2 {
            let what = format!(
                "{} duplicates are counted; truly {copies}",
                counts.duplicated
            );
            self.wrong(&view.label, what);
        }
    }

    fn compare_periods(&mut self, view: &View<'_>, direction: usize) {
        let mut covered = BTreeSet::new();
        let mut worst: Option<String> = None;
        for period in periods(view, DIRECTIONS[direction]) {
            match claim(view, direction, period) {
                Ok(lost) => covered.extend(lost),
                Err(what) => {
                    self.losses.all += 1;
                    worst = worst.or(Some(what));
                }
            }
        }
        for (place, probe) in view.truth.probes.iter().enumerate() {
            if probe.lost(direction) != Some(true) || !view.is_inside(probe.out.enter) {
                continue;
            }
            let right = covered.contains(&place);
            if !right && (view.is_forgotten(probe) || view.is_open(probe)) {
                continue;
            }
            self.losses.count(right);
            if !right {
                worst = worst.or_else(|| {
                    let way = DIRECTIONS[direction];
                    Some(format!("probe {} was lost {way}: not reported", probe.seq))
                });
            }
        }
        if let Some(worst) = worst {
            self.wrong(&view.label, worst);
        }
    }
}

/// Whether a probe was sent where the question began or ended, as far as stamps tell.
fn on_edge(view: &View<'_>, probe: &Probe) -> bool {
    let sent = probe.out.enter;
    [view.window.0, view.window.1]
        .iter()
        .any(|edge| (sent - *edge).abs() <= SLACK)
}

/// The loss periods that are reported of a direction, of outages and others.
fn periods<'a>(view: &View<'a>, direction: &'static str) -> impl Iterator<Item = &'a LossPeriod> {
    let found = view.found;
    let all = found.outages.iter().flat_map(|o| &o.loss_periods);
    let all = all.chain(&found.background);
    all.filter(move |period| period.direction == direction)
}

/// Lost probes of which the report may say that their direction is not known: those that
/// were sent while the reflecting agent did not run or was just starting, or shortly before it
/// was killed. Whether such a probe came is known to nobody.
fn excused_unknown(view: &View<'_>) -> u64 {
    let excused = periods(view, "unknown").filter(|period| {
        let range = view.place(&period.first).zip(view.place(&period.last));
        range.is_some_and(|(first, last)| {
            let probes = view.truth.probes.get(first..=last).unwrap_or_default();
            let lost = |p: &&Probe| p.lost(0) == Some(true) || p.lost(1) == Some(true);
            let lost: Vec<&Probe> = probes.iter().filter(lost).collect();
            lost.len() as u64 == period.lost
                && lost
                    .iter()
                    .all(|probe| view.is_open(probe) || view.is_without_direction(probe))
        })
    });
    excused.map(|period| period.lost).sum()
}

/// The places of the lost probes of a period, if it tells the truth.
fn claim(view: &View<'_>, direction: usize, period: &LossPeriod) -> Result<Vec<usize>, String> {
    let name = format!(
        "the {} loss of probes {} to {}",
        period.direction, period.first.seq, period.last.seq
    );
    let range = view.place(&period.first).zip(view.place(&period.last));
    let Some((first, last)) = range.filter(|(first, last)| first <= last) else {
        return Err(format!("{name}: no such probes were sent"));
    };
    let probes = || {
        view.truth
            .probes
            .iter()
            .enumerate()
            .take(last + 1)
            .skip(first)
    };
    if let Some((_, good)) = probes().find(|(_, p)| p.lost(direction) == Some(false)) {
        return Err(format!("{name}: truly probe {} came through", good.seq));
    }
    let lost: Vec<usize> = probes()
        .filter(|(_, p)| p.lost(direction) == Some(true))
        .map(|(place, _)| place)
        .collect();
    let open = lost
        .iter()
        .filter_map(|place| view.truth.probes.get(*place));
    let open = open.filter(|probe| view.is_open(probe)).count() as u64;
    let truly = lost.len() as u64;
    if (truly - open..=truly).contains(&period.lost) {
        Ok(lost)
    } else {
        Err(format!(
            "{name}: {} are said to be lost; truly {} were",
            period.lost,
            lost.len()
        ))
    }
}
