//! Finds the path MTU for each pair of paths that packets took.
//!
//! A search belongs to a pair of paths if all answered probes of its flow took that pair, from
//! the last one before the search to the first one after it; if the path changed meanwhile, the
//! search is ignored. A size that came back is proven; one that did not may have been lost by
//! chance. So the larger result of a pair's two newest searches counts.
//!
//! A size that came back passed both ways; one that did not gives no direction by itself. The
//! reflector's log does: a size that arrived there, but whose reply did not come back, is limited
//! on the way back. Routers do, too: each complains to the end that the packet came from.

use crate::align::{FlowRun, Run, Sample, Session};
use crate::findings::{DirectionLimit, DirectionMtu, MtuLimit, PathMtu};
use crate::loss::{Fate, len};
use crate::path::{PathId, Paths, way_back_hop};
use hopgap_proto::record::{EventKind, MtuLimit as Limit, PathMtu as Found};
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The hop count stands for a way back without a name.
type Pair = (Option<PathId>, Option<PathId>, Option<u8>);

/// How well the ends of a search are known at the reflector.
const NEAR: Span = Span::from_millis(500);

/// A search, and what the reflector saw of it.
struct Search {
    found: Found,
    /// The largest size that arrived; `None` if the reflector's log tells none.
    arrived: Option<u16>,
    /// The last router that complained to the reflector's host, and the MTU that it stated.
    complained: Option<(IpAddr, Option<u32>)>,
}

/// What was found for each pair of paths, in the plan's order of paths.
pub(crate) fn find(session: &Session<'_>, paths: Paths<'_>) -> Vec<PathMtu> {
    let mut by_pair: BTreeMap<Pair, Vec<Search>> = BTreeMap::new();
    for (number, run) in session.runs.iter().enumerate() {
        for event in &run.events {
            let EventKind::PathMtu(found) = event.kind else {
                continue;
            };
            let flow = run.flows.get(&found.flow.0);
            if let Some(pair) = flow.and_then(|f| pair(session, f, found.since, event.at)) {
                let search = at_reflector(session, (number, run), found, event.at);
                by_pair.entry(pair).or_default().push(search);
            }
        }
    }
    let mut all: Vec<(Pair, PathMtu)> = by_pair
        .into_iter()
        .filter_map(|(pair, searches)| Some((pair, of_pair(pair, &searches, paths)?)))
        .collect();
    all.sort_by_key(|((f, r, hop), _)| (f.is_none(), *f, r.is_none(), *r, *hop));
    all.into_iter().map(|(_, found)| found).collect()
}

/// What the reflector saw of a search that ended at `end`.
fn at_reflector(
    session: &Session<'_>,
    (number, run): (usize, &Run),
    found: Found,
    end: Mono,
) -> Search {
    let expected = |at| session.log.expected(number, &run.timeline, at);
    let (from, to) = (expected(found.since) - NEAR, expected(end) + NEAR);
    let (mut arrived, mut complained) = (None, None);
    let log = session.log.events.iter();
    for event in log.filter(|event| from <= event.at && event.at <= to) {
        match &event.kind {
            EventKind::SizeProbeArrived { flow, bytes, .. } if *flow == found.flow => {
                arrived = arrived.max(Some(*bytes));
            }
            EventKind::Icmp(icmp) if icmp.flow == found.flow => {
                complained = Some((icmp.from, icmp.mtu));
            }
            _ => {}
        }
    }
    Search {
        found,
        arrived,
        complained,
    }
}

fn of_pair(pair: Pair, searches: &[Search], paths: Paths<'_>) -> Option<PathMtu> {
    let counts = newest(searches)?;
    let bytes = counts.found.bytes;
    let known = |limit| DirectionMtu {
        bytes,
        limit,
        router: None,
        router_mtu: None,
    };
    let by_router = |from: IpAddr, mtu| DirectionMtu {
        router: Some(from.to_string()),
        router_mtu: mtu,
        ..known(DirectionLimit::Router)
    };
    // Which sizes arrive does not depend on which come back.
    let arrived = searches.iter().filter_map(|s| s.arrived).max();
    let unknown = known(DirectionLimit::Unknown);
    let (out, back) = match counts.found.limit {
        None => (unknown.clone(), unknown),
        Some(Limit::Interface) => (known(DirectionLimit::Interface), unknown),
        Some(Limit::Router { from, mtu }) => (by_router(from, mtu), unknown),
        Some(Limit::Silent) => match (arrived, counts.complained) {
            (Some(arrived), complained) if arrived > bytes => {
                let out = DirectionMtu {
                    bytes: arrived,
                    ..unknown
                };
                let back = complained.map_or_else(
                    || known(DirectionLimit::Silent),
                    |(from, mtu)| by_router(from, mtu),
                );
                (out, back)
            }
            (_, Some((from, mtu))) => (unknown, by_router(from, mtu)),
            (Some(_), None) => (known(DirectionLimit::Silent), unknown),
            // The log has no sizes, or there is no log.
            (None, None) => (unknown.clone(), unknown),
        },
    };
    let limit = match (counts.found.limit, back.limit) {
        (None, _) => MtuLimit::NotReached,
        (Some(Limit::Interface), _) => MtuLimit::Interface,
        (Some(Limit::Router { .. }), _) | (_, DirectionLimit::Router) => MtuLimit::Router,
        (Some(Limit::Silent), _) => MtuLimit::Silent,
    };
    let told = [&out, &back].into_iter().find(|d| d.router.is_some());
    let (router, router_mtu) = told.map_or((None, None), |d| (d.router.clone(), d.router_mtu));
    Some(PathMtu {
        forward: paths.name(pair.0),
        reverse: paths.name(pair.1).or_else(|| paths.names_at(pair.2)),
        bytes,
        limit,
        router,
        router_mtu,
        searches: len(searches.len()),
        out,
        back,
    })
}

/// Returns the larger of the two newest searches; if equal, the newest.
fn newest(searches: &[Search]) -> Option<&Search> {
    let from = searches.len().saturating_sub(2);
    searches.get(from..)?.iter().max_by_key(|s| s.found.bytes)
}

/// Returns the only pair of paths that a flow's answered probes took, from the last one before
/// `from` to the first one after `to`: a whole search may fit between two probes.
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
