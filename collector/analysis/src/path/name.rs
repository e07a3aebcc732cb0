//! Names routes and hop counts.

use super::{Epoch, PathId, Paths, SessionEpochs, samples_of};
use crate::align::Session;
use crate::findings::NamedBy;
use hopgap_proto::hops::Distance;
use hopgap_proto::plan::{Destination, PathPlan, PathRole};
use hopgap_proto::record::Trace;
use hopgap_proto::time::Wall;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Every address that answered a traceroute.
pub(crate) fn trace_addresses(trace: &Trace) -> BTreeSet<IpAddr> {
    trace
        .hops
        .iter()
        .flat_map(|hop| &hop.replies)
        .map(|reply| reply.from)
        .collect()
}

/// Returns the first declared path that a route fits: all conditions given for it hold.
pub(crate) fn classify(
    paths: Paths<'_>,
    addresses: &BTreeSet<IpAddr>,
    hop: Option<u8>,
) -> Option<PathId> {
    paths
        .all()
        .find(|(_, path)| {
            (path.passes.is_empty() || path.passes.iter().any(|a| addresses.contains(a)))
                && path.target_at_hop.is_none_or(|at| hop == Some(at))
        })
        .map(|(id, _)| id)
}

/// Names an epoch that no traceroute names.
pub(super) fn by_hop_count(epoch: &mut Epoch, paths: Paths<'_>) {
    // If every hop answered, a path of which none answered was not taken.
    let routers = usize::from(epoch.hop.unwrap_or(0).saturating_sub(1));
    let all_answered = !epoch.hops.is_empty()
        && epoch
            .hops
            .get(..routers)
            .is_some_and(|hops| hops.iter().all(Option::is_some));
    let mut fitting: Vec<(PathId, &PathPlan)> = candidates(paths, epoch.hop).collect();
    if all_answered {
        let answered = |p: &PathPlan| epoch.hops.iter().flatten().any(|a| p.passes.contains(a));
        fitting.retain(|(_, p)| p.passes.is_empty() || answered(p));
    }
    epoch.role = common_role(&fitting);
    match fitting.as_slice() {
        [] => {}
        [(only, _)] => {
            epoch.path = Some(*only);
            epoch.named_by = NamedBy::HopCount;
        }
        several => {
            epoch.among = several.iter().map(|(id, _)| *id).collect();
            epoch.named_by = NamedBy::HopCount;
        }
    }
}

/// The declared paths that have this hop count.
fn candidates<'p>(
    paths: Paths<'p>,
    hop: Option<u8>,
) -> impl Iterator<Item = (PathId, &'p PathPlan)> {
    (0..=u16::MAX)
        .map(PathId)
        .zip(paths.0)
        .filter(move |(_, p)| hop.is_some() && p.target_at_hop == hop)
}

fn common_role(fitting: &[(PathId, &PathPlan)]) -> Option<PathRole> {
    let mut roles = fitting.iter().map(|(_, p)| p.role);
    let role = roles.next()?;
    roles.all(|r| r == role).then_some(role)
}

/// Names the epochs of all ways back.
pub(super) fn name_reverse(
    sessions: &[Session<'_>],
    epochs: &mut [SessionEpochs],
    paths: Paths<'_>,
) {
    for (i, session) in sessions.iter().enumerate() {
        let traced = traced_the_other_way(session, sessions, epochs);
        let Some(SessionEpochs { reverse, .. }) = epochs.get_mut(i) else {
            continue;
        };
        for (flow, reverse) in reverse {
            for epoch in reverse {
                by_hop_count(epoch, paths);
                if epoch.path.is_some() || samples_of(session, epoch.run, *flow).is_none() {
                    continue;
                }
                if epoch.rewritten {
                    by_the_same_ttl(epoch, &traced, paths);
                    continue;
                }
                let fitting: BTreeSet<PathId> =
                    candidates(paths, epoch.hop).map(|(id, _)| id).collect();
                let by_traces = traced
                    .iter()
                    .filter(|t| t.is_meanwhile(epoch))
                    .map(|t| t.path);
                // Do not assume that the way back equals the way out: each direction is hashed on
                // its own.
                let path = only(by_traces, &fitting);
                if path.is_some() {
                    epoch.path = path;
                    epoch.among.clear();
                    epoch.named_by = NamedBy::HopCount;
                    epoch.role = paths.plan(path).map(|p| p.role);
                }
            }
        }
    }
}

/// Names a way back on which TTLs are set, by the ways out of the opposite sessions: probes that
/// arrived meanwhile with the same TTL passed the same device, and traceroutes tell their path
/// and distance.
fn by_the_same_ttl(epoch: &mut Epoch, traced: &[Traced], paths: Paths<'_>) {
    let same: Vec<&Traced> = traced
        .iter()
        .filter(|t| t.rewritten && t.distance == epoch.distance && t.is_meanwhile(epoch))
        .collect();
    let found: BTreeSet<PathId> = same.iter().map(|t| t.path).collect();
    let hops: BTreeSet<Option<u8>> = same.iter().map(|t| t.hop).collect();
    let fitting: Vec<(PathId, &PathPlan)> = found
        .iter()
        .filter_map(|id| Some((*id, paths.plan(Some(*id))?)))
        .collect();
    epoch.role = common_role(&fitting);
    match fitting.as_slice() {
        [] => return,
        [(only, _)] => epoch.path = Some(*only),
        several => epoch.among = several.iter().map(|(id, _)| *id).collect(),
    }
    epoch.named_by = NamedBy::Trace;
    if hops.len() == 1 {
        epoch.hop = hops.first().copied().flatten();
    }
}

/// Returns the one of `ids` that is in `fitting`; `None` if there are none or several.
fn only(ids: impl Iterator<Item = PathId>, fitting: &BTreeSet<PathId>) -> Option<PathId> {
    let found: BTreeSet<PathId> = ids.filter(|id| fitting.contains(id)).collect();
    match found.len() {
        1 => found.first().copied(),
        _ => None,
    }
}

/// What traceroutes of an opposite session named.
struct Traced {
    path: PathId,
    distance: Option<Distance>,
    hop: Option<u8>,
    rewritten: bool,
    span: (Wall, Wall),
}

impl Traced {
    fn is_meanwhile(&self, epoch: &Epoch) -> bool {
        self.span.0 <= epoch.span.1 && epoch.span.0 <= self.span.1
    }
}

/// What traceroutes of the opposite sessions named, and when.
fn traced_the_other_way(
    session: &Session<'_>,
    sessions: &[Session<'_>],
    epochs: &[SessionEpochs],
) -> Vec<Traced> {
    let Destination::Agent(to) = &session.plan.to else {
        return Vec::new();
    };
    sessions
        .iter()
        .zip(epochs)
        .filter(|(other, _)| {
            other.plan.from == *to
                && matches!(&other.plan.to, Destination::Agent(back) if *back == session.plan.from)
        })
        .flat_map(|(_, e)| e.forward.values().flatten())
        .filter(|e| e.named_by == NamedBy::Trace)
        .filter_map(|e| {
            Some(Traced {
                path: e.path?,
                distance: e.distance,
                hop: e.hop,
                rewritten: e.rewritten,
                span: e.span,
            })
        })
        .collect()
}
