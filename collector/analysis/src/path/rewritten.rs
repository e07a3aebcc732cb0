//! Finds TTLs that were set on the way, so that they count no routers.

use super::{Epoch, SessionEpochs, sent_at};
use crate::align::{Sample, Session};
use crate::findings::Direction;
use crate::note::{Note, RewrittenTtl};
use hopgap_proto::hops::Distance;
use hopgap_proto::plan::Destination;
use hopgap_proto::record::Trace;
use std::collections::{BTreeMap, BTreeSet};

/// How many traceroutes must contradict a plausible hop count, with none that agrees, to reject
/// it: one alone may have missed an answer.
const ROUNDS: u64 = 2;

/// What traceroutes say of one distance.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    agree: u64,
    contradict: u64,
}

/// Returns the distances of a flow's epochs that are no hop counts, by the traceroutes that
/// reached the target while the epochs' probes were sent.
pub(super) fn find(epochs: &[Epoch], samples: &[Sample], traces: &[&Trace]) -> BTreeSet<Distance> {
    let mut seen: BTreeMap<Distance, Seen> = BTreeMap::new();
    for epoch in epochs {
        let Some(distance) = epoch.distance else {
            continue;
        };
        let (from, to) = (sent_at(samples, epoch.first), sent_at(samples, epoch.last));
        let begin = traces.partition_point(|t| t.started < from);
        let within = traces.get(begin..).unwrap_or_default().iter();
        let seen = seen.entry(distance).or_default();
        for trace in within
            .take_while(|t| t.started <= to)
            .filter(|t| t.finished <= to)
        {
            match trace.reached_at {
                Some(at) if distance.hop() == Some(at) => seen.agree += 1,
                Some(_) => seen.contradict += 1,
                None => {}
            }
        }
    }
    // If no traceroute agrees with any distance, one is enough: the device stands before the
    // target.
    let any_agrees = seen.values().any(|s| s.agree > 0);
    seen.into_iter()
        .filter(|(distance, seen)| match distance {
            Distance::Implausible(_) => true,
            Distance::Hop(_) => {
                let enough = if any_agrees { ROUNDS } else { 1 };
                seen.agree == 0 && seen.contradict >= enough
            }
        })
        .map(|(distance, _)| distance)
        .collect()
}

/// Rejects hop counts of ways back: those that are rejected on the same way in the other session,
/// and a count of no routers if the way out has some.
pub(super) fn doubt_reverse(sessions: &[Session<'_>], epochs: &mut [SessionEpochs]) {
    let rewritten: Vec<BTreeSet<Distance>> = epochs
        .iter()
        .map(|e| {
            let forward = e.forward.values().flatten();
            forward
                .filter(|e| e.rewritten)
                .filter_map(|e| e.distance)
                .collect()
        })
        .collect();
    for (i, session) in sessions.iter().enumerate() {
        let mut doubted: BTreeSet<Distance> = sessions
            .iter()
            .zip(&rewritten)
            .filter(|(other, _)| are_opposite(session, other))
            .flat_map(|(_, rewritten)| rewritten.iter().copied())
            .collect();
        let Some(epochs) = epochs.get_mut(i) else {
            continue;
        };
        if routers_on_the_way_out(session) {
            doubted.insert(Distance::Hop(1));
        }
        for epoch in epochs.reverse.values_mut().flatten() {
            if let Some(distance) = epoch.distance
                && (epoch.rewritten || doubted.contains(&distance))
            {
                epoch.rewritten = true;
                epoch.hop = None;
                let back = epochs.rewritten_back.entry(distance);
                back.or_insert_with(|| reply_ttl(session, distance));
            }
        }
    }
}

/// Whether the probes of one session take the direction of the other's replies.
fn are_opposite(a: &Session<'_>, b: &Session<'_>) -> bool {
    let goes = |from: &Session<'_>, to: &Session<'_>| matches!(&from.plan.to, Destination::Agent(name) if *name == to.plan.from);
    goes(a, b) && goes(b, a)
}

/// Whether all traceroutes that reached the target passed routers.
fn routers_on_the_way_out(session: &Session<'_>) -> bool {
    let mut reached = session
        .runs
        .iter()
        .flat_map(|r| &r.traces)
        .filter_map(|t| t.reached_at)
        .peekable();
    reached.peek().is_some() && reached.all(|at| at > 1)
}

/// Returns the notes on TTLs that were set on the way.
pub(crate) fn notes(sessions: &[Session<'_>], epochs: &[SessionEpochs]) -> Vec<Note> {
    let mut notes = Vec::new();
    for (session, epochs) in sessions.iter().zip(epochs) {
        let back = &epochs.rewritten_back;
        let (from, to) = (session.plan.from.to_string(), session.to_name());
        let ways = [
            (Direction::Forward, &epochs.forward, (&from, &to)),
            (Direction::Reverse, &epochs.reverse, (&to, &from)),
        ];
        for (direction, flows, (from, to)) in ways {
            let all = || flows.values().flatten().filter(|e| e.rewritten);
            let mut said: BTreeSet<u8> = BTreeSet::new();
            let mut hops: BTreeSet<u8> = BTreeSet::new();
            for epoch in all() {
                said.extend(epoch.distance.map(|distance| match direction {
                    Direction::Reverse => back.get(&distance).copied().unwrap_or(0),
                    Direction::Forward | Direction::Unknown => probe_ttl(distance),
                }));
                hops.extend(epoch.hop);
            }
            if said.is_empty() {
                continue;
            }
            notes.push(Note::RewrittenTtl(RewrittenTtl {
                session: session.plan.name.to_string(),
                direction,
                from: from.clone(),
                to: to.clone(),
                ttls: said.into_iter().collect(),
                reached_at: hops.into_iter().collect(),
            }));
        }
    }
    notes
}

/// Returns the TTL of a reply that shows this distance.
fn reply_ttl(session: &Session<'_>, distance: Distance) -> u8 {
    let flows = session.runs.iter().flat_map(|r| r.flows.values());
    flows
        .flat_map(|f| &f.samples)
        .filter(|s| super::way_back(session, s) == Some(distance))
        .find_map(|s| s.reverse_ttl)
        .unwrap_or_else(|| probe_ttl(distance))
}

/// Returns the TTL on arrival of a probe that shows this distance.
fn probe_ttl(distance: Distance) -> u8 {
    match distance {
        Distance::Implausible(ttl) => ttl,
        Distance::Hop(hop) => 255 - hop.saturating_sub(1),
    }
}
