//! The path MTU by the pair of paths that packets took.
//!
//! A search belongs to a pair of paths when every probe that its flow sent meanwhile and
//! that came back took it, and the ones before and after; one during which the path
//! changed tells of no path. A size that came back is proven, one that did not may have been lost by
//! chance: of a pair's two newest searches the larger result counts.

use crate::align::{FlowRun, Sample, Session};
use crate::findings::{MtuLimit, PathMtu};
use crate::loss::{Fate, len};
use crate::path::{PathId, Paths, way_back_hop};
use hopgap_proto::record::{EventKind, MtuLimit as Limit, PathMtu as Found};
use hopgap_proto::time::Mono;
use std::collections::BTreeMap;

/// The hop count stands for a way back without a name.
type Pair = (Option<PathId>, Option<PathId>, Option<u8>);

/// What was found for each pair of paths, in the plan's order of paths.
pub(crate) fn find(session: &Session<'_>, paths: Paths<'_>) -> Vec<PathMtu> {
    let mut by_pair: BTreeMap<Pair, Vec<Found>> = BTreeMap::new();
    for run in &session.runs {
        for event in &run.events {
            let EventKind::PathMtu(found) = event.kind else {
                continue;
            };
            let flow = run.flows.get(&found.flow.0);
            if let Some(pair) = flow.and_then(|f| pair(session, f, found.since, event.at)) {
                by_pair.entry(pair).or_default().push(found);
            }
        }
    }
    let mut all: Vec<(Pair, PathMtu)> = by_pair
        .into_iter()
        .filter_map(|(pair, searches)| {
            let counts = newest(&searches)?;
            let (limit, router, router_mtu) = match counts.limit {
                None => (MtuLimit::NotReached, None, None),
                Some(Limit::Interface) => (MtuLimit::Interface, None, None),
                Some(Limit::Router { from, mtu }) => {
                    (MtuLimit::Router, Some(from.to_string()), mtu)
                }
                Some(Limit::Silent) => (MtuLimit::Silent, None, None),
            };
            let found = PathMtu {
                forward: paths.name(pair.0),
                reverse: paths.name(pair.1).or_else(|| paths.names_at(pair.2)),
                bytes: counts.bytes,
                limit,
                router,
                router_mtu,
                searches: len(searches.len()),
            };
            Some((pair, found))
        })
        .collect();
    all.sort_by_key(|((f, r, hop), _)| (f.is_none(), *f, r.is_none(), *r, *hop));
    all.into_iter().map(|(_, found)| found).collect()
}

/// The larger of the two newest; of equal ones the newest.
fn newest(searches: &[Found]) -> Option<&Found> {
    let from = searches.len().saturating_sub(2);
    searches.get(from..)?.iter().max_by_key(|f| f.bytes)
}

/// The one pair of paths that a flow's answered probes took from the last one before
/// `from` to the first one after `to`: a search may be over between two probes.
fn pair(session: &Session<'_>, flow: &FlowRun, from: Mono, to: Mono) -> Option<Pair> {
    let answered = |s: &&Sample| s.fate == Fate::Answered;
    let first = flow.samples.partition_point(|s| s.sent < from);
    let next = flow.samples.partition_point(|s| s.sent <= to);
    let before = flow.samples.get(..first)?.iter().rfind(answered);
    let within = flow.samples.get(first..next)?.iter().filter(answered);
    let after = flow.samples.get(next..)?.iter().find(answered);
    let mut pairs = before.into_iter().chain(within).chain(after).map(|s| {
        let hop = way_back_hop(session, s).filter(|_| s.reverse_path.is_none());
        (s.forward_path, s.reverse_path, hop)
    });
    let first = pairs.next()?;
    pairs.all(|pair| pair == first).then_some(first)
}

#[cfg(test)]
mod tests;
