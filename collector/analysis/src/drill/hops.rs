//! The route of flows before, during and after a transition, as traceroutes saw it.

use super::{Cluster, Ends, Scene, ends};
use crate::align::{Run, Session};
use crate::findings::{Direction, HopTable, Route, RouteHop};
use crate::path::{PathId, Paths, classify, trace_addresses};
use crate::schema::{Nanos, Utc};
use crate::text::unreachable;
use hopgap_proto::record::{Hop, HopReply, HopReplyKind, Trace};
use hopgap_proto::time::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How many of the nearest traceroutes are searched for one that names the path: a router's ICMP
/// rate limit keeps it silent in some.
const LOOK_THROUGH: usize = 10;

/// A traceroute and the run that it belongs to.
#[derive(Clone, Copy)]
struct Taken<'a> {
    run: &'a Run,
    trace: &'a Trace,
}

impl Taken<'_> {
    fn started(&self) -> Wall {
        self.run.timeline.utc(self.trace.started)
    }
    fn finished(&self) -> Wall {
        self.run.timeline.utc(self.trace.finished)
    }
}

/// A table for the first flow of each session and for the first flow on every other
/// pair of routes that flows had before and after.
pub(super) fn tables(scene: &Scene<'_>, cluster: &Cluster<'_>) -> Vec<HopTable> {
    let ends = ends(scene, cluster);
    let mut tables = Vec::new();
    for (i, session) in scene.sessions.iter().enumerate() {
        let mut routes = BTreeSet::new();
        for flow in session.flow_indices() {
            let ends = ends.get(&(i, Direction::Forward, flow));
            let Some(table) = table(scene, cluster, session, flow, ends) else {
                continue;
            };
            let key = (
                route_key(table.before.as_ref()),
                route_key(table.after.as_ref()),
            );
            if routes.insert(key) {
                tables.push(table);
            }
        }
    }
    tables
}

/// Returns what identifies a route: the path's name, or the answers if it has none.
fn route_key(route: Option<&Route>) -> Vec<Option<String>> {
    match route {
        Some(Route {
            path: Some(name), ..
        }) => vec![Some(name.clone())],
        Some(route) => route.hops.iter().map(|h| h.address.clone()).collect(),
        None => Vec::new(),
    }
}

fn table(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    session: &Session<'_>,
    flow: u8,
    ends: Option<&Ends<'_>>,
) -> Option<HopTable> {
    let mut taken: Vec<Taken<'_>> = session
        .runs
        .iter()
        .flat_map(|run| run.traces.iter().map(move |trace| Taken { run, trace }))
        .filter(|t| t.trace.flow.0 == flow)
        .filter(|t| t.finished() >= cluster.not_before && t.started() <= cluster.not_after)
        .collect();
    taken.sort_by_key(|t| (t.started(), t.trace));
    if taken.is_empty() {
        return None;
    }
    let complete = |t: &&Taken<'_>| t.trace.reached_at.is_some();
    let path_of = |e: Option<&crate::path::Epoch>| e.and_then(|e| e.path);

    let earlier = taken
        .iter()
        .rev()
        .filter(|t| t.finished() <= cluster.started);
    let before = pick(
        earlier.filter(complete),
        ends.and_then(|e| path_of(e.before)),
        scene.paths,
    );
    let later = taken.iter().filter(|t| t.started() >= cluster.end);
    let after = pick(
        later.filter(complete),
        ends.and_then(|e| path_of(e.after)),
        scene.paths,
    );
    let amid = || {
        let until = after.map_or(cluster.not_after, |a| a.started());
        taken
            .iter()
            .filter(move |t| t.finished() > cluster.started && t.started() < until)
    };
    let third = |t: &&Taken<'_>| {
        [before, after]
            .into_iter()
            .flatten()
            .all(|known| differ(known.trace, t.trace))
    };
    let during = amid()
        .find(|t| t.trace.reached_at.is_none())
        .or_else(|| amid().find(third));
    Some(HopTable {
        session: session.plan.name.to_string(),
        flow,
        source_port: session.source_port(flow),
        before: before.map(|t| route(t, scene.paths)),
        during: during.map(|t| route(t, scene.paths)),
        after: after.map(|t| route(t, scene.paths)),
    })
}

/// Returns the first that fits the path among the nearest; else the nearest.
fn pick<'t, 'r: 't>(
    mut nearest: impl Iterator<Item = &'t Taken<'r>> + Clone,
    path: Option<PathId>,
    paths: Paths<'_>,
) -> Option<&'t Taken<'r>> {
    let fits = |t: &&Taken<'_>| path.is_some() && path_of(t.trace, paths) == path;
    nearest
        .clone()
        .take(LOOK_THROUGH)
        .find(fits)
        .or_else(|| nearest.next())
}

fn path_of(trace: &Trace, paths: Paths<'_>) -> Option<PathId> {
    classify(paths, &trace_addresses(trace), trace.reached_at)
}

/// Whether two traceroutes took different routes; a silent hop is no difference.
fn differ(a: &Trace, b: &Trace) -> bool {
    a.reached_at != b.reached_at
        || a.hops.iter().zip(&b.hops).any(|(a, b)| {
            !a.replies.is_empty()
                && !b.replies.is_empty()
                && !a
                    .replies
                    .iter()
                    .any(|x| b.replies.iter().any(|y| x.from == y.from))
        })
}

fn route(taken: &Taken<'_>, paths: Paths<'_>) -> Route {
    let trace = taken.trace;
    Route {
        at: Utc(taken.started()),
        path: paths.name(path_of(trace, paths)),
        reached: trace.reached_at.is_some(),
        hops: trace
            .hops
            .iter()
            .map(|hop| route_hop(hop, trace.target))
            .collect(),
    }
}

fn route_hop(hop: &Hop, target: IpAddr) -> RouteHop {
    let mut answers: BTreeMap<IpAddr, Vec<&HopReply>> = BTreeMap::new();
    for reply in &hop.replies {
        answers.entry(reply.from).or_default().push(reply);
    }
    // If several answered, take the one that answered most.
    let most = answers
        .iter()
        .max_by_key(|(address, replies)| (replies.len(), core::cmp::Reverse(**address)));
    let (address, replies) = most.map_or((None, &[][..]), |(a, r)| (Some(*a), r));
    RouteHop {
        hop: hop.ttl,
        asked: hop.sent > 0,
        address: address.map(|a| a.to_string()),
        round_trip_ns: replies.iter().map(|r| Nanos(r.round_trip)).min(),
        unreachable: replies.iter().find_map(|r| match r.kind {
            // A target that says 'port unreachable' has been reached.
            HopReplyKind::Unreachable(code) if r.from != target => Some(unreachable(r.from, code)),
            _ => None,
        }),
    }
}
