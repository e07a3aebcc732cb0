//! Outages: found, missed, invented; their bounds, their errors, their direction.

use super::report::Outage;
use super::{DIRECTIONS, Judgement, SLACK, View};
use crate::campaign::program::{Act, Step};
use crate::campaign::truth::{Passage, Probe};
use crate::campaign::world::side_of;
use crate::truth::OUTAGE_MIN;
use hopgap_proto::time::{Mono, Span};
use std::ops::RangeInclusive;

/// As many probes that came through part two outages: the plan's `min_good`, which the
/// campaign's plans leave at its default.
const MIN_GOOD: usize = 5;

/// Taking a route away, or giving it back, takes so long on a busy machine.
const COMMAND: Span = Span::from_millis(300);

/// Probes lost in a row, by their places.
type Run = RangeInclusive<usize>;

impl Judgement {
    /// All outages of one flow.
    pub(super) fn compare_outages(&mut self, view: &View<'_>) {
        let runs = [runs(view, 0), runs(view, 1)];
        let whole = [groups(view, 0, &runs[0]), groups(view, 1, &runs[1])];
        let reported: Vec<(&Outage, Option<Run>)> = view
            .found
            .outages
            .iter()
            .map(|o| {
                let range = view.place(&o.first_lost).zip(view.place(&o.last_lost));
                (o, range.map(|(first, last)| first..=last))
            })
            .collect();
        for (direction, runs) in runs.iter().enumerate() {
            for run in runs {
                self.look_for(view, direction, run, &reported);
            }
        }
        for (outage, range) in &reported {
            if outage.lost == 0 && outage.refused > 0 {
                self.compare_refused(view, outage);
                continue;
            }
            let Some(range) = range else {
                self.invented += 1;
                let what = format!(
                    "the outage from probe {} to {} is reported, and no such probes were sent",
                    outage.first_lost.seq, outage.last_lost.seq
                );
                self.wrong(&view.label, what);
                continue;
            };
            self.look_at(view, outage, range, &runs, &whole);
        }
    }

    /// An outage of refused sends alone: the host that the direction leaves had no route.
    fn compare_refused(&mut self, view: &View<'_>, outage: &Outage) {
        let label = format!("{}, {} outage of refusals", view.label, outage.direction);
        let direction = DIRECTIONS.iter().position(|d| *d == outage.direction);
        let leaves = direction.map(|d| view.truth.enters(d));
        let least = Span::from_nanos(outage.at_least_ns);
        let most = outage.at_most_ns.map(Span::from_nanos);
        let fits = |side: usize, step: &Step| {
            let lasted = step.until.map(|until| until - step.from);
            matches!(step.act, Act::NoRoute(host) if side_of(host) == side)
                && lasted.is_some_and(|l| least <= l + COMMAND)
                && lasted.is_none_or(|l| most.is_none_or(|most| most + COMMAND >= l))
        };
        let mut steps = view.program.steps.iter();
        let true_one = leaves.is_some_and(|side| steps.any(|step| fits(side, step)));
        self.durations.count(true_one);
        if !true_one {
            self.invented += 1;
            let what = format!("reported for at least {least}; no route was gone for so long");
            self.wrong(&label, what);
        }
    }

    fn look_for(
        &mut self,
        view: &View<'_>,
        direction: usize,
        run: &Run,
        reported: &[(&Outage, Option<Run>)],
    ) {
        let said = |place: usize, or: &str| {
            reported.iter().any(|(outage, range)| {
                (outage.direction == DIRECTIONS[direction] || outage.direction == or)
                    && range.as_ref().is_some_and(|range| range.contains(&place))
            })
        };
        let whole = reported.iter().any(|(outage, range)| {
            outage.direction == DIRECTIONS[direction]
                && range
                    .as_ref()
                    .is_some_and(|r| r.start() <= run.start() && r.end() >= run.end())
        });
        // While an agent does not run, a part may have no data, or no direction.
        let down = |place: usize| view.is_down(&view.truth.probes[place]);
        let hidden = |place: &usize| down(*place) || said(*place, "unknown");
        // So few are not hidden that they are no outage.
        let seen = run.clone().filter(|place| !hidden(place)).count();
        let found = whole || (run.clone().any(down) && seen < OUTAGE_MIN);
        let forgotten = run
            .clone()
            .any(|place| view.is_forgotten(&view.truth.probes[place]));
        if !found && forgotten {
            return;
        }
        self.found.count(found);
        if found {
            return;
        }
        let (first, last) = (
            view.truth.probes[*run.start()],
            view.truth.probes[*run.end()],
        );
        let long = last.out.enter - first.out.enter;
        if long > view.scenario.interval + view.scenario.interval {
            self.missed_long += 1;
        }
        let what = format!(
            "the {} outage of probes {} to {} ({long}) is not reported",
            DIRECTIONS[direction], first.seq, last.seq
        );
        self.wrong(&view.label, what);
    }

    fn look_at(
        &mut self,
        view: &View<'_>,
        outage: &Outage,
        range: &Run,
        runs: &[Vec<Run>; 2],
        whole: &[Vec<Run>; 2],
    ) {
        let has = |direction: usize| {
            let all = &runs[direction];
            all.iter().any(|run| overlap(run, range))
        };
        let mut said = DIRECTIONS.iter().position(|d| *d == outage.direction);
        if said.is_none() {
            let lost = |d: usize| move |p: &&Probe| p.lost(d) == Some(true);
            let probes = || view.truth.probes[range.clone()].iter();
            // Nobody knows it: then one of the true ones, to hold its bounds against.
            said = (0..2).find(|d| {
                has(*d)
                    && probes()
                        .filter(lost(*d))
                        .all(|p| view.is_without_direction(p))
            });
        }
        let (first, last) = (outage.first_lost.seq, outage.last_lost.seq);
        let label = format!(
            "{}, {} outage of probes {first} to {last}",
            view.label, outage.direction
        );
        let inside = |place: usize| view.is_inside(view.truth.probes[place].out.enter);
        let edge = !inside(*range.start()) || !inside(*range.end());
        let Some(direction) = said.filter(|d| has(*d)) else {
            if edge {
                return;
            }
            if has(0) || has(1) {
                self.directions.count(false);
                let way = DIRECTIONS[usize::from(!has(0))];
                self.wrong(&label, format!("truly it was {way}"));
            } else {
                self.invented += 1;
                let lost = |d: usize| {
                    let probes = &view.truth.probes[range.clone()];
                    probes.iter().filter(|p| p.lost(d) == Some(true)).count()
                };
                let what = format!(
                    "there was none: of these probes {} were lost forward and {} reverse",
                    lost(0),
                    lost(1)
                );
                self.wrong(&label, what);
            }
            return;
        };
        if outage.direction == DIRECTIONS[direction] {
            self.directions.count(true);
        }
        let probes = view.truth.probes[range.clone()].iter();
        let probes = probes.filter(|p| p.lost(direction) == Some(true));
        let open = probes.clone().filter(|p| view.is_open(p)).count() as u64;
        let lost = probes.count() as u64;
        if !(lost - open..=lost).contains(&outage.lost) {
            let what = format!("{} lost are reported; truly {lost} were", outage.lost);
            self.wrong(&label, what);
        }
        let touched: Vec<&Run> = whole[direction]
            .iter()
            .filter(|run| overlap(run, range))
            .collect();
        let all = touched
            .iter()
            .fold(range.clone(), |all, run| join(&all, run));
        let whole = match touched.as_slice() {
            // What an agent did not see because it did not run may part or cut an outage.
            [one] if !view.may_be_cut(one) && !view.may_be_cut(range) => {
                if *one != range && !edge {
                    let seq = |place: usize| view.truth.probes[place].seq;
                    let what = format!(
                        "truly it was of probes {} to {}",
                        seq(*one.start()),
                        seq(*one.end())
                    );
                    self.wrong(&label, what);
                }
                (*one).clone()
            }
            [_] => all,
            several => {
                let cut = |run: &&Run| view.may_be_cut(run);
                if !edge && !several.iter().any(cut) {
                    let what = format!("truly these were {} outages", several.len());
                    self.wrong(&label, what);
                }
                all
            }
        };
        if let Some(beyond) = beyond(view, direction, &whole) {
            if let Some(truly) = Edges::of(view, direction, &beyond) {
                self.compare_cut(view, &label, direction, outage, &truly);
            }
            return;
        }
        if let Some(truly) = Edges::of(view, direction, &whole) {
            self.compare_bounds(view, &label, direction, outage, &truly);
        }
    }

    /// An outage in whose midst the question began or ended: what was not asked about
    /// cannot be told, but what is told must be true.
    fn compare_cut(
        &mut self,
        view: &View<'_>,
        label: &str,
        direction: usize,
        outage: &Outage,
        truly: &Edges,
    ) {
        let least = view.true_span(direction, outage.at_least_ns);
        let most = outage.at_most_ns;
        let most = most.map(|nanos| view.true_span(direction, nanos));
        let (shortest, longest) = (
            truly.end.earliest - truly.start.latest,
            truly.end.latest - truly.start.earliest,
        );
        let inside = least <= longest + SLACK && most.is_none_or(|most| most + SLACK >= shortest);
        self.durations.count(inside);
        if !inside {
            let most = most.map_or("any time".to_owned(), |most| most.to_string());
            let what = format!(
                "reported as {least} to {most}; truly it lasted {shortest} to {longest}, beyond the question"
            );
            self.wrong(label, what);
        }
    }

    fn compare_bounds(
        &mut self,
        view: &View<'_>,
        label: &str,
        direction: usize,
        outage: &Outage,
        truly: &Edges,
    ) {
        let least = view.true_span(direction, outage.at_least_ns);
        let Some(most) = outage
            .at_most_ns
            .map(|nanos| view.true_span(direction, nanos))
        else {
            self.durations.count(false);
            self.wrong(label, "reported without an end or a beginning; it had both");
            return;
        };
        let (shortest, longest) = (
            truly.end.earliest - truly.start.latest,
            truly.end.latest - truly.start.earliest,
        );
        let inside = least <= longest + SLACK && most + SLACK >= shortest;
        self.durations.count(inside);
        if !inside {
            let what =
                format!("reported as {least} to {most}; truly it lasted {shortest} to {longest}");
            self.wrong(label, what);
        }
        let narrow = most - least <= truly.width + SLACK;
        let excused = outage.unsent > 0 || truly.down;
        self.widths.count(narrow || excused);
        if !narrow && !excused {
            let what = format!(
                "the bounds {least} to {most} are wider than the record requires, {}",
                truly.width
            );
            self.wrong(label, what);
        }
        let (Some(good), Some(again)) = (&outage.last_good, &outage.first_good) else {
            return;
        };
        // A clock of its own is judged by its own: there, when the wire saw the probe.
        let seen = |p: &super::Point| view.place(p).map(|i| view.truth.probes[i].out.enter);
        let mono = |p: &super::Point| match view.clock {
            None => p.sent.mono(view.offset),
            Some(_) => seen(p).unwrap_or(p.sent.mono(view.offset)),
        };
        let start = middle(mono(good), mono(&outage.first_lost));
        let end = middle(mono(&outage.last_lost), mono(again));
        let interval = view.scenario.interval.as_secs_f64();
        // An edge around which no probe told anything is as open as its bounds say.
        let told = |from: Mono, to: Mono| (to - from).as_secs_f64() < 1.5 * interval;
        let starts = told(mono(good), mono(&outage.first_lost)) && !truly.open.0;
        let ends = told(mono(&outage.last_lost), mono(again)) && !truly.open.1;
        let error = |said: Span, truly: Span| (said - truly).abs().as_secs_f64() / interval;
        let zero = Mono::from_nanos(0);
        // The probes at its edges are named by when they were sent.
        let (from, to) = (truly.by_probes.0.middle(), truly.by_probes.1.middle());
        if starts {
            self.start_errors.push(error(start - zero, from - zero));
        }
        if ends {
            self.end_errors.push(error(end - zero, to - zero));
        }
        if starts && ends {
            self.duration_errors.push(error(end - start, to - from));
        }
    }
}

fn middle(a: Mono, b: Mono) -> Mono {
    a + Span::from_nanos((b - a).as_nanos() / 2)
}

/// An instant, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instant {
    earliest: Mono,
    latest: Mono,
}

impl Instant {
    fn middle(self) -> Mono {
        middle(self.earliest, self.latest)
    }
}

/// When an outage truly began and ended, in the time of what entered the wire in its
/// direction: probes on the way out, replies on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edges {
    start: Instant,
    end: Instant,
    /// The same in the time of the probes' sending.
    by_probes: (Instant, Instant),
    /// How far apart the bounds may be by what the probes tell.
    width: Span,
    /// Whether nothing left in its direction around its beginning, and around its end: between
    /// two replies that a reflector held back an edge is as open as its bounds say.
    open: (bool, bool),
    /// Whether an agent did not run in it.
    down: bool,
}

impl Edges {
    /// `None` where it began before the first probe or ended after the last.
    fn of(view: &View<'_>, direction: usize, range: &Run) -> Option<Self> {
        let probes = &view.truth.probes;
        let told = |p: &&Probe| p.lost(direction).is_some();
        let inner = probes.get(range.clone())?;
        let lost = |p: &&Probe| p.lost(direction) == Some(true);
        let (first, last) = (inner.iter().find(lost)?, inner.iter().rfind(lost)?);
        let before = probes.get(..*range.start())?.iter().rfind(told)?;
        let after = probes.get(*range.end() + 1..)?.iter().find(told)?;
        // A sender that began anew knows nothing of what was before.
        if before.seq > first.seq || last.seq > after.seq {
            return None;
        }
        let left = |p: &Probe| p.way(direction).map_or(p.out.enter, |way| way.enter);
        let mut width = (left(first) - left(before)) + (left(after) - left(last));
        let far = Span::from_nanos(view.scenario.interval.as_nanos() * 3 / 2);
        let open = (
            left(first) - left(before) > far,
            left(after) - left(last) > far,
        );
        // Stretches in which no probe tells anything are open, too.
        let within: Vec<&Probe> = inner.iter().filter(told).collect();
        for pair in within.windows(2) {
            let gap = left(pair[1]) - left(pair[0]);
            if gap > far {
                width += gap;
            }
        }
        if direction == 0 {
            width += view.unheard_around(range);
        }
        if direction == 1 && is_burst(view, first) {
            width += SAMPLED;
        }
        let side = view.truth.enters(direction);
        Some(Self {
            start: instant(view, direction, side, before, first, false).0,
            end: instant(view, direction, side, last, after, true).0,
            by_probes: (
                instant(view, direction, side, before, first, false).1,
                instant(view, direction, side, last, after, true).1,
            ),
            width,
            open,
            down: inner.iter().any(|probe| view.is_absent(probe)),
        })
    }
}

/// Beyond some 20,000 packets a second a reflector asks the kernel for the departures of some
/// replies only; the others are dated by its own clock, which may be late by this much.
const SAMPLED: Span = Span::from_millis(20);

/// Whether replies left so fast when this one did: by those of its own flow, of which there
/// are as many as of each other flow.
fn is_burst(view: &View<'_>, lost: &Probe) -> bool {
    const WITHIN: Span = Span::from_millis(20);
    let Some(at) = lost.way(1).map(|way| way.enter) else {
        return false;
    };
    let left = |from: Mono, to: Mono| {
        let replies = view.truth.probes.iter().filter_map(|p| p.way(1));
        let near = replies.filter(|way| from <= way.enter && way.enter <= to);
        near.count() * usize::from(view.scenario.flows)
    };
    // 20,000 a second are 400 in 20 ms. Before a burst there are none, and after it neither: one
    // side is enough.
    left(at - WITHIN, at).max(left(at, at + WITHIN)) >= 400
}

/// When it changed between two probes: exactly, where the program switched there, else
/// some time between. First by what entered the wire in this direction, then in the time of
/// the probes' sending: a switch was as long after the sending as the next one's entry.
fn instant(
    view: &View<'_>,
    direction: usize,
    side: usize,
    before: &Probe,
    after: &Probe,
    ends: bool,
) -> (Instant, Instant) {
    let between = |earliest, latest| Instant { earliest, latest };
    let by_probes = between(before.out.enter, after.out.enter);
    let enter = |probe: &Probe| probe.way(direction).map(|p: &Passage| p.enter);
    let (Some(from), Some(to)) = (enter(before), enter(after)) else {
        return (by_probes, by_probes);
    };
    let flow = view.truth.port.checked_sub(super::super::emulation::PROBES);
    let switch = view
        .program
        .steps
        .iter()
        .filter(|s| s.act == Act::Drop && s.way.is_from(side))
        .filter(|s| s.flow.is_none() || s.flow.map(u16::from) == flow)
        .filter_map(|step| if ends { step.until } else { Some(step.from) })
        .map(|at| view.begin + at)
        .find(|at| *at > from && *at <= to);
    let Some(switch) = switch else {
        return (between(from, to), by_probes);
    };
    let at = switch - (to - after.out.enter);
    let at = at.max(before.out.enter).min(after.out.enter);
    (between(switch, switch), between(at, at))
}

/// The whole run, if the question ends or begins before any probe tells of its direction
/// again: it may go on beyond, or only nothing within says that it does not, as where replies
/// are lost first and then all probes, or as what comes through meets an agent that is just
/// starting. `None` for one within the question.
fn beyond(view: &View<'_>, direction: usize, run: &Run) -> Option<Run> {
    let probes = &view.truth.probes;
    let lost = |probe: &&Probe| probe.lost(direction) == Some(true);
    let tells = |probe: &&Probe| probe.lost(direction).is_some() && !view.is_down(probe);
    let before = probes.get(..*run.start()).unwrap_or_default();
    let after = probes.get(*run.end() + 1..).unwrap_or_default();
    let first = run.start() - before.iter().rev().take_while(lost).count();
    let last = run.end() + after.iter().take_while(lost).count();
    let told_before = probes.get(..first)?.iter().rfind(tells);
    let told_after = probes.get(last + 1..)?.iter().find(tells);
    let is_cut = told_before.is_some_and(|probe| probe.out.enter < view.window.0 + SLACK)
        || told_after.is_none_or(|probe| probe.out.enter > view.window.1 - SLACK);
    is_cut.then_some(first..=last)
}

fn overlap(a: &Run, b: &Run) -> bool {
    a.start() <= b.end() && a.end() >= b.start()
}

fn join(all: &Run, run: &Run) -> Run {
    *all.start().min(run.start())..=*all.end().max(run.end())
}

/// Runs that are one outage: fewer probes than [`MIN_GOOD`] came through between them.
fn groups(view: &View<'_>, direction: usize, runs: &[Run]) -> Vec<Run> {
    let mut groups: Vec<Run> = Vec::new();
    for run in runs {
        let is_one = |last: &Run| {
            let between = view.truth.probes.get(*last.end()..=*run.start());
            let between = between.unwrap_or_default();
            let good = between.iter().filter(|p| p.lost(direction) == Some(false));
            // Where the numbers begin anew, so did the sender.
            good.count() < MIN_GOOD && between.is_sorted_by_key(|p| p.seq)
        };
        match groups.last_mut() {
            Some(last) if is_one(last) => *last = join(last, run),
            _ => groups.push(run.clone()),
        }
    }
    groups
}

/// Runs of lost probes, long enough for an outage, well within the drill.
fn runs(view: &View<'_>, direction: usize) -> Vec<Run> {
    let told: Vec<(usize, bool, u32)> = view
        .truth
        .probes
        .iter()
        .enumerate()
        .filter(|(_, probe)| view.is_inside(probe.out.enter))
        .filter_map(|(place, probe)| Some((place, probe.lost(direction)?, probe.seq)))
        .collect();
    // Where the numbers begin anew, so did the sender.
    told.chunk_by(|a, b| a.1 == b.1 && a.2 < b.2)
        .filter(|run| run.len() >= OUTAGE_MIN)
        .filter_map(|run| match (run.first()?, run.last()?) {
            ((first, true, _), (last, _, _)) => Some(*first..=*last),
            _ => None,
        })
        .collect()
}
