//! The reflector's wall clock as it would read had it never been stepped.
//!
//! Arrivals are recorded twice: in the reflector's log, on its monotonic clock, and in its
//! replies, on its wall clock. A stepped wall clock shows some times twice and others never, so
//! neither order nor duration can be read from it. The log says when the clock was stepped and by
//! how much; this module takes the steps out.
//!
//! A reply does not say on which side of a step it was made, and close to a step back its time
//! fits both. The sender's own clock decides: only milliseconds lie between sending and arrival.

use super::{Run, Timeline};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

/// The delay to the reflector changes by less than this from one reply to the next; a larger
/// change is not followed.
const FOLLOWED: Span = Span::from_secs(1);

/// The steps of the wall clocks that a session's reflector had, in the order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Steady {
    /// What the clock showed just before, and by how much it was stepped.
    steps: Vec<(Wall, Span)>,
    /// For each run, the sum of all steps in earlier runs of its agent.
    carried: Vec<Span>,
}

impl Steady {
    /// Collects the steps of the reflecting agents' runs, given in the order of their starts.
    pub(super) fn of<'a>(runs: impl Iterator<Item = (&'a AgentName, &'a Timeline)>) -> Self {
        let mut steady = Self::default();
        let mut before: BTreeMap<&AgentName, Span> = BTreeMap::new();
        for (agent, timeline) in runs {
            let sum = before.entry(agent).or_default();
            steady.carried.push(*sum);
            for (at, by) in timeline.steps() {
                steady.steps.push((timeline.utc(at) - by, by));
                *sum += by;
            }
        }
        steady
    }

    /// Converts an instant of the reflector's run of this number.
    pub(super) fn at(&self, run: usize, timeline: &Timeline, at: Mono) -> Wall {
        let carried = self.carried.get(run).copied().unwrap_or_default();
        timeline.unstepped(at) - carried
    }

    /// Takes the steps out of the arrivals in the replies to a sender's run.
    pub(super) fn correct(&self, run: &mut Run) {
        if self.steps.is_empty() {
            return;
        }
        let begins = self.reference(run);
        for flow in run.flows.values_mut() {
            let mut reference = begins;
            for sample in flow.samples.iter_mut().filter(|s| s.replied) {
                let between = |at: &Wall| Span::from_nanos(at.as_nanos()) - since(sample.sent);
                let off = |at: &Wall| (between(at) - reference).abs();
                let Some(at) = self.readings(sample.arrival).min_by_key(off) else {
                    continue;
                };
                if off(&at) < FOLLOWED {
                    reference = between(&at);
                }
                sample.arrival = at;
            }
        }
    }

    /// Returns what a reading may be without the steps: before all of them, after the first…
    fn readings(&self, at: Wall) -> impl Iterator<Item = Wall> {
        let after = self.steps.iter().scan(at, |at, (_, by)| {
            *at -= *by;
            Some(*at)
        });
        std::iter::once(at).chain(after)
    }

    /// The arrival minus the sending where it is beyond doubt: the median of all replies
    /// that fit between two steps only, else the first way in which the first fits.
    fn reference(&self, run: &Run) -> Span {
        let samples = run.flows.values().flat_map(|f| &f.samples);
        let replies = samples.filter(|s| s.replied).map(|s| (s.sent, s.arrival));
        let mut certain: Vec<Span> = Vec::new();
        let mut first: Option<(Mono, Span)> = None;
        for (sent, arrival) in replies {
            let mut fits = self
                .readings(arrival)
                .enumerate()
                .filter(|(k, _)| self.is_between(*k, arrival))
                .map(|(_, at)| Span::from_nanos(at.as_nanos()) - since(sent));
            let Some(fit) = fits.next() else { continue };
            if fits.next().is_none() {
                certain.push(fit);
            }
            if first.is_none_or(|(earliest, _)| sent < earliest) {
                first = Some((sent, fit));
            }
        }
        certain.sort_unstable();
        let median = certain.get(certain.len() / 2).copied();
        median.or(first.map(|(_, fit)| fit)).unwrap_or_default()
    }

    /// Whether the clock showed this after `k` steps and before the next.
    fn is_between(&self, k: usize, at: Wall) -> bool {
        let begun = k
            .checked_sub(1)
            .and_then(|k| self.steps.get(k))
            .is_none_or(|(before, by)| *before + *by <= at);
        begun && self.steps.get(k).is_none_or(|(before, _)| at < *before)
    }
}

fn since(at: Mono) -> Span {
    at - Mono::ZERO
}

#[cfg(test)]
mod tests;
