//! All instants on one clock.
//!
//! Hosts' wall clocks may be hours apart, so nothing that is compared across hosts is
//! read from them. Their *monotonic* clocks are related twice:
//!
//! - by every answered probe that the reflector's log has: no delay is negative, so with
//!   T1 and T4 on the sender's monotonic clock and the arrival on the reflector's, the
//!   difference of the two clocks lies between arrival − T1 − round trip and arrival − T1
//!   (RFC 5905 section 10). All exchanges together narrow it;
//! - by what agents and the collector tell each other of their clocks.
//!
//! The reference is the collector's clock, where agents told of it; markers and drills are
//! on it. Else it is the clock of the first agent that sends, steps included. Where a
//! host's own wall clock agrees with the reference within what is known, it is believed;
//! where it contradicts it, its instants are set on the reference, and that is said.

use super::{Session, Timeline};
use crate::input::{ClockReading, EchoRecords, Input};
use crate::note::{ClockDifference, Note, ReferenceClock};
use crate::schema::Nanos;
use hopgap_proto::record::{AgentName, RunId};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

/// Exchanges of this much time are looked at together.
const TOGETHER: Span = Span::from_secs(10);

/// Reading two clocks is not done in one instant: less than this apart is no contradiction.
const NOISE: Span = Span::from_millis(1);

/// Clocks that differ by less than this, beyond what is known, are not worth a word.
const WORTH_TELLING: Span = Span::from_millis(100);

/// A process on a host: its monotonic clock is one.
type Node<'a> = (&'a AgentName, RunId);

/// From this instant of a clock on another clock is ahead of it by this much.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    from: Mono,
    low: Span,
    high: Span,
}

impl Ahead {
    fn middle(&self) -> Span {
        self.low + (self.high - self.low) / 2
    }

    fn width(&self) -> Span {
        self.high - self.low
    }
}

/// How far the reference, or another clock, is ahead of a clock, in the order of time.
/// The first reaches back for ever.
#[derive(Clone, Debug, Default)]
struct Relation(Vec<Ahead>);

impl Relation {
    /// From what was seen at some instants, in any order. What agrees is one stretch;
    /// where it contradicts what was before, a clock was suspended or drifted away.
    fn of(mut seen: Vec<Ahead>) -> Self {
        seen.sort_by_key(|a| (a.from, a.low, a.high));
        let mut stretches: Vec<Ahead> = Vec::new();
        for next in seen {
            match stretches.last_mut() {
                Some(last) if last.low.max(next.low) <= last.high.min(next.high) => {
                    last.low = last.low.max(next.low);
                    last.high = last.high.min(next.high);
                }
                _ => stretches.push(next),
            }
        }
        Self(stretches)
    }

    fn at(&self, at: Mono) -> Option<&Ahead> {
        let after = self.0.partition_point(|a| a.from <= at);
        self.0.get(after.saturating_sub(1))
    }

    fn width(&self) -> Option<Span> {
        self.0.iter().map(Ahead::width).max()
    }

    /// The reference against a second clock, where `self` is the reference against a first
    /// one and `second` the second against the first.
    fn beyond(&self, second: &Self) -> Self {
        let mut starts: Vec<Mono> = self.0.iter().chain(&second.0).map(|a| a.from).collect();
        starts.sort_unstable();
        starts.dedup();
        let stretches = starts.into_iter().filter_map(|from| {
            let (reference, second) = (self.at(from)?, second.at(from)?);
            Some(Ahead {
                from: from + second.middle(),
                low: reference.low - second.high,
                high: reference.high - second.low,
            })
        });
        Self(stretches.collect())
    }

    /// The first clock against the second, where `self` is the second against the first.
    fn turned(&self) -> Self {
        let stretches = self.0.iter().map(|a| Ahead {
            from: a.from + a.middle(),
            low: -a.high,
            high: -a.low,
        });
        Self(stretches.collect())
    }
}

/// What is known of all clocks.
struct ClockRelations<'a> {
    /// Each process's own wall clock.
    own: BTreeMap<Node<'a>, Timeline>,
    /// The second's monotonic clock against the first's.
    pairs: BTreeMap<(Node<'a>, Node<'a>), Relation>,
    /// The collector's clock against a monotonic clock.
    told: BTreeMap<Node<'a>, Relation>,
    /// The first that sends.
    first: Option<Node<'a>>,
}

/// Where clocks were set on the reference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    /// What is to be said of those that were not on it.
    pub(crate) notes: Vec<Note>,
    /// How far the reference is ahead of a run's monotonic clock from some instants on, where
    /// its own wall clock contradicts the reference.
    offsets: BTreeMap<(AgentName, RunId), Vec<(Mono, Span)>>,
    /// How far such an agent's wall clock was ahead, at least and at most.
    ahead: BTreeMap<AgentName, (Span, Span)>,
}

impl Placed {
    /// Shows UTC by the reference, where the run's own wall clock contradicts it.
    pub(crate) fn set(&self, agent: &AgentName, run: RunId, timeline: &mut Timeline) {
        if let Some(offsets) = self.offsets.get(&(agent.clone(), run)) {
            timeline.set_on(offsets);
        }
    }

    /// What an agent's wall clock showed from one time to another, on the reference: no less.
    pub(crate) fn on_reference(&self, agent: &AgentName, (from, to): (Wall, Wall)) -> (Wall, Wall) {
        let (low, high) = self.ahead.get(agent).copied().unwrap_or_default();
        (from - high, to - low)
    }
}

/// Sets all senders' and reflectors' runs on one clock.
pub(super) fn place(sessions: &mut [Session<'_>], input: &Input) -> Placed {
    let placed = {
        let known = ClockRelations::of(sessions, &input.echoes, &input.clocks);
        let (references, of) = known.references();
        let mut placed = Placed::default();
        let mut apart: BTreeMap<&AgentName, (Span, Span)> = BTreeMap::new();
        for (node, reference) in &references {
            let Some(own) = known.own.get(node) else {
                continue;
            };
            if let Some((ahead, bound)) = contradiction(own, reference) {
                let offsets = reference.0.iter().map(|a| (a.from, a.middle())).collect();
                placed.offsets.insert((node.0.clone(), node.1), offsets);
                let most = apart.entry(node.0).or_insert((ahead, bound));
                if ahead.abs() > most.0.abs() {
                    *most = (ahead, bound);
                }
                for (ahead, bound) in differences(own, reference) {
                    let range = placed.ahead.entry(node.0.clone());
                    let range = range.or_insert((ahead - bound, ahead + bound));
                    *range = (range.0.min(ahead - bound), range.1.max(ahead + bound));
                }
            }
        }
        let notes = apart
            .into_iter()
            .filter(|(_, (ahead, bound))| ahead.abs() - *bound >= WORTH_TELLING)
            .map(|(agent, (ahead, bound))| {
                Note::ClockDifference(ClockDifference {
                    agent: agent.to_string(),
                    ahead_ns: Nanos(ahead),
                    bound_ns: Nanos(bound),
                    reference: of.clone(),
                })
            });
        placed.notes.extend(notes);
        placed
    };
    for session in sessions {
        let senders = session.runs.iter_mut();
        let senders = senders.map(|run| (&run.agent, run.id, &mut run.timeline));
        let reflectors = session.log.runs.iter_mut();
        let reflectors = reflectors.map(|(agent, id, timeline)| (&*agent, *id, timeline));
        for (agent, id, timeline) in senders.chain(reflectors) {
            placed.set(agent, id, timeline);
        }
    }
    placed
}

/// By how much a wall clock is ahead of the reference where the two contradict each other
/// most, and how well that is known; `None` where they do not.
fn contradiction(own: &Timeline, reference: &Relation) -> Option<(Span, Span)> {
    differences(own, reference)
        .filter(|(ahead, bound)| ahead.abs() > *bound + NOISE)
        .max_by_key(|(ahead, bound)| (ahead.abs() - *bound, *ahead))
}

/// By how much a wall clock is ahead of the reference, and how well that is known, at all
/// instants at which either may have changed.
fn differences(own: &Timeline, reference: &Relation) -> impl Iterator<Item = (Span, Span)> {
    let ends = own.first_reading().into_iter().chain(own.last_reading());
    let instants = ends
        .chain(own.steps().map(|(at, _)| at))
        .chain(reference.0.iter().map(|a| a.from));
    instants.filter_map(|at| {
        let known = reference.at(at)?;
        let ahead = own.offset(at)? - known.middle();
        Some((ahead, known.width() / 2))
    })
}

impl<'a> ClockRelations<'a> {
    fn of(
        sessions: &'a [Session<'_>],
        echoes: &'a [EchoRecords],
        readings: &'a [ClockReading],
    ) -> Self {
        let mut known = Self {
            own: BTreeMap::new(),
            pairs: BTreeMap::new(),
            told: BTreeMap::new(),
            first: None,
        };
        let mut seen: BTreeMap<(Node<'a>, Node<'a>), Vec<Ahead>> = BTreeMap::new();
        for session in sessions {
            for (agent, id, timeline) in &session.log.runs {
                known
                    .own
                    .entry((agent, *id))
                    .or_insert_with(|| timeline.clone());
            }
            for run in &session.runs {
                let node = (&run.agent, run.id);
                if run.timeline.is_known() {
                    known.own.insert(node, run.timeline.clone());
                    known.first.get_or_insert(node);
                }
                exchanges(session, run, &mut seen);
            }
        }
        // An agent may send nothing else.
        for records in echoes {
            let own = known.own.entry((&records.agent, records.run));
            own.or_insert_with(|| Timeline::new(records.clocks.clone(), &[]));
        }
        known.pairs = seen
            .into_iter()
            .map(|(pair, seen)| (pair, Relation::of(seen)))
            .collect();
        let mut told: BTreeMap<Node<'a>, Vec<Ahead>> = BTreeMap::new();
        for reading in readings.iter().filter(|r| r.earliest <= r.latest) {
            let since = Span::from_nanos(reading.at.as_nanos());
            let offset = |wall: Wall| Span::from_nanos(wall.as_nanos()) - since;
            told.entry((&reading.agent, reading.run))
                .or_default()
                .push(Ahead {
                    from: reading.at,
                    low: offset(reading.earliest),
                    high: offset(reading.latest),
                });
        }
        known.told = told
            .into_iter()
            .map(|(node, seen)| (node, Relation::of(seen)))
            .collect();
        known
    }

    /// The reference against every clock that can be related to it, and whose it is.
    fn references(&self) -> (BTreeMap<Node<'a>, Relation>, ReferenceClock) {
        let best = self
            .told
            .iter()
            .filter(|(node, _)| self.own.contains_key(*node))
            .min_by_key(|(node, told)| (told.width(), **node));
        let mut found: BTreeMap<Node<'a>, Relation> = BTreeMap::new();
        let (root, of) = match (best, self.first) {
            (Some((node, told)), _) => {
                found.insert(*node, told.clone());
                (*node, ReferenceClock::Collector)
            }
            (None, Some(node)) => {
                let own = self.own.get(&node).map(exactly).unwrap_or_default();
                found.insert(node, own);
                let agent = node.0.to_string();
                (node, ReferenceClock::Agent { agent })
            }
            (None, None) => return (found, ReferenceClock::Collector),
        };
        self.spread(root, &mut found);
        // Those that exchange nothing with the others: by what they told.
        for (node, told) in &self.told {
            if !found.contains_key(node) {
                found.insert(*node, told.clone());
                self.spread(*node, &mut found);
            }
        }
        (found, of)
    }

    /// From one process to all that it exchanges packets with, and on from these.
    fn spread(&self, root: Node<'a>, found: &mut BTreeMap<Node<'a>, Relation>) {
        let mut next = vec![root];
        while let Some(node) = next.pop() {
            let Some(reference) = found.get(&node).cloned() else {
                continue;
            };
            for ((a, b), relation) in &self.pairs {
                let (other, second) = match (*a == node, *b == node) {
                    (true, false) => (*b, relation.clone()),
                    (false, true) => (*a, relation.turned()),
                    _ => continue,
                };
                // The session the other way round knows the same two clocks.
                found.entry(other).or_insert_with(|| {
                    next.push(other);
                    reference.beyond(&second)
                });
            }
        }
    }
}

/// A clock against the monotonic clock that it is read with.
fn exactly(own: &Timeline) -> Relation {
    let stretches = own.offsets().map(|(from, offset)| Ahead {
        from,
        low: offset,
        high: offset,
    });
    Relation(stretches.collect())
}

/// What a run's exchanges say of the reflector's monotonic clock against the sender's.
fn exchanges<'a>(
    session: &'a Session<'_>,
    run: &'a super::Run,
    seen: &mut BTreeMap<(Node<'a>, Node<'a>), Vec<Ahead>>,
) {
    let mut together: BTreeMap<(u32, i64), Ahead> = BTreeMap::new();
    for s in run.flows.values().flat_map(|f| &f.samples) {
        let Some((reflector, arrived)) = s.reflected.filter(|_| s.replied) else {
            continue;
        };
        if s.round_trip.is_negative() {
            continue;
        }
        let out = Span::from_nanos(arrived.as_nanos().saturating_sub(s.sent.as_nanos()));
        let ahead = Ahead {
            from: s.sent,
            low: out - s.round_trip,
            high: out,
        };
        let slot = s.sent.as_nanos().div_euclid(TOGETHER.as_nanos());
        let entry = together.entry((reflector, slot)).or_insert(ahead);
        entry.from = entry.from.min(ahead.from);
        entry.low = entry.low.max(ahead.low);
        entry.high = entry.high.min(ahead.high);
    }
    for ((reflector, _), ahead) in together {
        let number = usize::try_from(reflector).ok();
        let Some((agent, id, _)) = number.and_then(|n| session.log.runs.get(n)) else {
            continue;
        };
        // A clock that was suspended among them contradicts itself.
        if ahead.low <= ahead.high {
            let pair = ((&run.agent, run.id), (agent, *id));
            seen.entry(pair).or_default().push(ahead);
        }
    }
}

#[cfg(test)]
mod tests;
