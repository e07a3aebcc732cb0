//! Sets all instants on one clock.
//!
//! Hosts' wall clocks may be hours apart, so they are not used to compare instants across hosts.
//! Two sources relate the hosts' *monotonic* clocks:
//!
//! - Every answered probe that is in the reflector's log. No delay is negative. So with T1 and T4
//!   on the sender's monotonic clock and the arrival on the reflector's, the difference of the
//!   two clocks lies between arrival − T1 − round trip and arrival − T1 (RFC 5905 section 10).
//!   All exchanges together narrow it.
//! - What agents and the collector tell each other of their clocks.
//!
//! The reference is the collector's clock if agents told of it; markers and drills are on it.
//! Otherwise it is the clock of the first agent that sends, steps included. If a host's own wall
//! clock agrees with the reference within the known bounds, it is used. If it contradicts the
//! reference, the host's instants are set on the reference, and a note says so.

use super::{Session, Timeline};
use crate::input::{ClockReading, EchoRecords, Input};
use crate::note::{ClockDifference, Note, ReferenceClock};
use crate::schema::Nanos;
use hopgap_proto::record::{AgentName, RunId};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

/// Exchanges within this much time are combined.
const TOGETHER: Span = Span::from_secs(10);

/// Two clocks cannot be read in one instant: smaller differences are no contradiction.
const NOISE: Span = Span::from_millis(1);

/// A clock gets a note if it differs by at least this much beyond its bound.
const WORTH_TELLING: Span = Span::from_millis(100);

/// A process on a host, which has one monotonic clock.
type Node<'a> = (&'a AgentName, RunId);

/// Bounds on how far another clock is ahead of a clock from an instant on.
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

/// How far the reference, or another clock, is ahead of a clock, in the order of time. The first
/// entry also holds for all time before it.
#[derive(Clone, Debug, Default)]
struct Relation(Vec<Ahead>);

impl Relation {
    /// Builds the relation from observations in any order. Observations that agree form one
    /// stretch; a contradiction means that a clock was suspended or drifted away.
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

    /// Returns the reference against a second clock; `self` is the reference against the first
    /// clock, and `second` the second clock against the first.
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

    /// Returns the first clock against the second; `self` is the second against the first.
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
    /// The first process that sends.
    first: Option<Node<'a>>,
}

/// Which clocks were set on the reference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    /// Notes on the clocks that were off.
    pub(crate) notes: Vec<Note>,
    /// How far the reference is ahead of a run's monotonic clock, from each instant on; only for
    /// runs whose own wall clock contradicts the reference.
    offsets: BTreeMap<(AgentName, RunId), Vec<(Mono, Span)>>,
    /// How far the wall clock of such an agent was ahead of the reference, at least and at most.
    ahead: BTreeMap<AgentName, (Span, Span)>,
}

impl Placed {
    /// Sets a timeline on the reference if the run's own wall clock contradicts it.
    pub(crate) fn set(&self, agent: &AgentName, run: RunId, timeline: &mut Timeline) {
        if let Some(offsets) = self.offsets.get(&(agent.clone(), run)) {
            timeline.set_on(offsets);
        }
    }

    /// Returns a stretch of the reference that surely contains this stretch of an agent's wall
    /// clock.
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

/// Returns how far a wall clock is ahead of the reference where the two contradict each other
/// most, and the bound of that; `None` without a contradiction.
fn contradiction(own: &Timeline, reference: &Relation) -> Option<(Span, Span)> {
    differences(own, reference)
        .filter(|(ahead, bound)| ahead.abs() > *bound + NOISE)
        .max_by_key(|(ahead, bound)| (ahead.abs() - *bound, *ahead))
}

/// Returns how far a wall clock is ahead of the reference, and the bound of that, at each instant
/// at which either may have changed.
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
        // An agent may send nothing but echoes.
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

    /// Returns the reference against every clock that it can be related to, and whose clock it
    /// is.
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
        // Processes that exchange nothing with the others: use what they told.
        for (node, told) in &self.told {
            if !found.contains_key(node) {
                found.insert(*node, told.clone());
                self.spread(*node, &mut found);
            }
        }
        (found, of)
    }

    /// Extends the reference from one process to those that it exchanges packets with, and so on.
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
                // The session in the other direction relates the same two clocks.
                found.entry(other).or_insert_with(|| {
                    next.push(other);
                    reference.beyond(&second)
                });
            }
        }
    }
}

/// Returns a process's wall clock against its own monotonic clock.
fn exactly(own: &Timeline) -> Relation {
    let stretches = own.offsets().map(|(from, offset)| Ahead {
        from,
        low: offset,
        high: offset,
    });
    Relation(stretches.collect())
}

/// Collects what a run's exchanges say of the reflector's monotonic clock against the sender's.
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
        // The bounds contradict each other if a clock was suspended meanwhile.
        if ahead.low <= ahead.high {
            let pair = ((&run.agent, run.id), (agent, *id));
            seen.entry(pair).or_default().push(ahead);
        }
    }
}

#[cfg(test)]
mod tests;
