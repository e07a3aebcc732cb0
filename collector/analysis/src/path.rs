//! Finds which path each probe took, in both directions.
//!
//! **Hop counts date a change.** Every probe leaves with TTL 255, so its TTL at the
//! reflector counts the routers between; the reply's TTL at the sender counts those of
//! the way back. A change of either is a path change between two probes. A maximal run
//! of probes with one hop count is an epoch; a micro-loop of a few probes is one too,
//! without a name.
//!
//! **Traceroutes name an epoch.** Forward: these are the traceroutes of the flow's own 5-tuple
//! that began in the epoch and found the target at its hop count. The first declared path that
//! fits names the epoch. A hop that stayed silent once is no evidence against a path: a
//! traceroute that fits no path is ignored, and a path recognised by an address outranks one
//! recognised by the hop count alone. If traceroutes of one hop count name two paths one after
//! the other, each at least twice in a row (a single one may be forged), the epoch is split: at
//! the outage between them if there is exactly one; else only the two traceroutes bound the
//! change, and the probes between belong to neither.
//!
//! **Observation before inference.** A device on the way may set TTLs. A TTL is not a hop count
//! if no route has that count or if it contradicts the traceroutes that reached the target
//! meanwhile. Then only traceroutes tell how far the target is, and each change of path needs two
//! of them. The way back over the same device has no hop count either: its path is the way out of
//! the session in the other direction whose probes arrived meanwhile with the same TTL. A changed
//! TTL still means a changed path.
//!
//! **Without traceroutes** the hop count names the path if only one declared path has it. Nobody
//! traces the way back on the probes' own 5-tuple. So if several paths have its hop count, the
//! traceroutes of the session in the other direction decide, if those of that time name only one
//! of them. Otherwise the epoch has no name.

mod name;
mod rewritten;
mod split;
pub(crate) mod unnamed;

use crate::align::{FlowRun, Logged, Run, Sample, Session};
use crate::findings::{NamedBy, PathEpoch};
use crate::outage::point;
use hopgap_proto::hops::{self, Distance, Reflector};
use hopgap_proto::plan::{Objective, PathPlan, PathRole, Plan};
use hopgap_proto::time::{Mono, Wall};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) use name::{classify, trace_addresses};
pub(crate) use rewritten::notes;

/// A declared path, by its place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathId(pub(crate) u16);

/// The declared paths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paths<'a>(pub(crate) &'a [PathPlan]);

impl Paths<'_> {
    /// The path at this place.
    pub(crate) fn plan(&self, id: Option<PathId>) -> Option<&PathPlan> {
        self.0.get(usize::from(id?.0))
    }

    /// Its name.
    pub(crate) fn name(&self, id: Option<PathId>) -> Option<String> {
        self.plan(id).map(|p| p.name.to_string())
    }

    /// The name of an epoch's path; if several fit, all their names.
    pub(crate) fn name_of(&self, epoch: &Epoch) -> Option<String> {
        self.name(epoch.path)
            .or_else(|| self.either(epoch.among.iter().copied()))
    }

    /// The names of all paths that have this hop count.
    pub(crate) fn names_at(&self, hop: Option<u8>) -> Option<String> {
        let fitting = |p: &PathPlan| hop.is_some() && p.target_at_hop == hop;
        self.either(self.all().filter(|(_, p)| fitting(p)).map(|(id, _)| id))
    }

    fn either(&self, ids: impl Iterator<Item = PathId>) -> Option<String> {
        let names: Vec<String> = ids.filter_map(|id| self.name(Some(id))).collect();
        (!names.is_empty()).then(|| names.join(" or "))
    }

    /// All paths with their places; those that no [`PathId`] can hold are left out.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PathId, &PathPlan)> {
        (0..=u16::MAX).map(PathId).zip(self.0)
    }
}

/// A stretch in which one direction of one flow of one run took one path.
#[derive(Clone, Debug)]
pub(crate) struct Epoch {
    /// Which of the session's runs.
    pub(crate) run: usize,
    /// What the TTL of its packets says; `None` where they tell nothing.
    pub(crate) distance: Option<Distance>,
    /// Hop number of the far end: by the TTL, or by traceroutes if the TTL is not a hop count.
    pub(crate) hop: Option<u8>,
    /// Whether the TTL was set on the way, so that it is no hop count.
    pub(crate) rewritten: bool,
    /// Position of its first probe among the flow's samples of that run.
    pub(crate) first: usize,
    /// Position of its last probe.
    pub(crate) last: usize,
    /// Probes seen on it.
    pub(crate) probes: u64,
    /// The path.
    pub(crate) path: Option<PathId>,
    /// If the path is not known, the declared paths that fit, two or more.
    pub(crate) among: Vec<PathId>,
    /// How the path is known.
    pub(crate) named_by: NamedBy,
    /// The path's role, also known if several declared paths of one role fit.
    pub(crate) role: Option<PathRole>,
    /// What traceroutes saw.
    pub(crate) hops: Vec<Option<IpAddr>>,
    /// Whether only traceroutes bound its beginning.
    pub(crate) dated_by_traces: bool,
    /// From its first to its last probe, on UTC.
    pub(crate) span: (Wall, Wall),
}

impl Epoch {
    /// Whether `self` and `other` took different ways, as far as is known.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let ttl = self
            .distance
            .zip(other.distance)
            .is_some_and(|(a, b)| a != b);
        let hops = self.hop.zip(other.hop).is_some_and(|(a, b)| a != b);
        ttl || hops || self.path.zip(other.path).is_some_and(|(a, b)| a != b)
    }
}

/// The epochs of one session, by flow, in the order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionEpochs {
    /// The way out.
    pub(crate) forward: BTreeMap<u8, Vec<Epoch>>,
    /// The way back.
    pub(crate) reverse: BTreeMap<u8, Vec<Epoch>>,
    /// Distances from replies' TTLs that are no hop counts, because the TTLs were set on the way;
    /// with the TTLs.
    pub(crate) rewritten_back: BTreeMap<Distance, u8>,
}

/// Finds the epochs of all sessions and notes in every sample which path it took.
pub(crate) fn find(sessions: &mut [Session<'_>], plan: &Plan) -> Vec<SessionEpochs> {
    let paths = Paths(&plan.paths);
    let mut epochs: Vec<SessionEpochs> = sessions
        .iter()
        .map(|session| SessionEpochs {
            forward: forward(session, paths, &plan.objective),
            reverse: reverse(session),
            rewritten_back: BTreeMap::new(),
        })
        .collect();
    rewritten::doubt_reverse(sessions, &mut epochs);
    name::name_reverse(sessions, &mut epochs, paths);
    for (session, epochs) in sessions.iter_mut().zip(&epochs) {
        forget_rewritten(session, epochs);
        for (flow, epochs) in &epochs.forward {
            attribute(session, *flow, epochs, |s| &mut s.forward_path);
        }
        for (flow, epochs) in &epochs.reverse {
            attribute(session, *flow, epochs, |s| &mut s.reverse_path);
        }
    }
    epochs
}

/// Removes TTLs that are no hop counts from the samples, so that nobody reads them as such.
fn forget_rewritten(session: &mut Session<'_>, epochs: &SessionEpochs) {
    if epochs.rewritten_back.is_empty() {
        return;
    }
    let reflector = reflector(session);
    let flows = session.runs.iter_mut().flat_map(|r| r.flows.values_mut());
    for sample in flows.flat_map(|f| &mut f.samples) {
        let distance = sample
            .reverse_ttl
            .and_then(|ttl| hops::reverse(ttl, reflector));
        if distance.is_some_and(|d| epochs.rewritten_back.contains_key(&d)) {
            sample.reverse_ttl = None;
        }
    }
}

fn attribute(
    session: &mut Session<'_>,
    flow: u8,
    epochs: &[Epoch],
    field: impl Fn(&mut Sample) -> &mut Option<PathId>,
) {
    for epoch in epochs {
        let samples = session
            .runs
            .get_mut(epoch.run)
            .and_then(|r| r.flows.get_mut(&flow))
            .and_then(|f| f.samples.get_mut(epoch.first..=epoch.last));
        for sample in samples.unwrap_or_default() {
            *field(sample) = epoch.path;
        }
    }
}

fn forward(
    session: &Session<'_>,
    paths: Paths<'_>,
    objective: &Objective,
) -> BTreeMap<u8, Vec<Epoch>> {
    let reflector = reflector(session);
    let mut by_flow: BTreeMap<u8, Vec<Epoch>> = BTreeMap::new();
    for (index, run) in session.runs.iter().enumerate() {
        for (flow, records) in &run.flows {
            let reached = |s: &Sample| s.replied || s.logged != Logged::Absent;
            let epochs = by_hops(index, run, &records.samples, reached, |s| {
                hops::forward(s.forward_ttl?, reflector)
            });
            let named = split::by_traces(session, run, *flow, epochs, paths, objective);
            by_flow.entry(*flow).or_default().extend(named);
        }
    }
    by_flow
}

fn reverse(session: &Session<'_>) -> BTreeMap<u8, Vec<Epoch>> {
    let mut by_flow: BTreeMap<u8, Vec<Epoch>> = BTreeMap::new();
    for (index, run) in session.runs.iter().enumerate() {
        for (flow, records) in &run.flows {
            let epochs = by_hops(
                index,
                run,
                &records.samples,
                |s| s.replied,
                |s| way_back(session, s),
            );
            by_flow.entry(*flow).or_default().extend(epochs);
        }
    }
    by_flow
}

fn reflector(session: &Session<'_>) -> Reflector {
    if session.reflector_is_agent() {
        Reflector::Ours
    } else {
        Reflector::Foreign
    }
}

/// Returns the sender's hop number by a reply's TTL.
pub(crate) fn way_back_hop(session: &Session<'_>, sample: &Sample) -> Option<u8> {
    way_back(session, sample)?.hop()
}

/// Returns how far the sender is by a reply's TTL.
fn way_back(session: &Session<'_>, sample: &Sample) -> Option<Distance> {
    hops::reverse(sample.reverse_ttl?, reflector(session))
}

/// Returns the maximal runs of one distance. If no probe of the flow shows a distance, the probes
/// that got through are one epoch of unknown distance.
fn by_hops(
    index: usize,
    run: &Run,
    samples: &[Sample],
    made_it: impl Fn(&Sample) -> bool,
    distance_of: impl Fn(&Sample) -> Option<Distance>,
) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = Vec::new();
    let known = samples
        .iter()
        .any(|s| made_it(s) && distance_of(s).is_some());
    for (i, s) in samples.iter().enumerate().filter(|(_, s)| made_it(s)) {
        let distance = distance_of(s);
        if known && distance.is_none() {
            continue;
        }
        match epochs.last_mut() {
            Some(epoch) if epoch.distance == distance => {
                epoch.last = i;
                epoch.probes += 1;
            }
            _ => epochs.push(Epoch {
                run: index,
                distance,
                hop: distance.and_then(Distance::hop),
                rewritten: matches!(distance, Some(Distance::Implausible(_))),
                first: i,
                last: i,
                probes: 1,
                path: None,
                among: Vec::new(),
                named_by: NamedBy::Nothing,
                role: None,
                hops: Vec::new(),
                dated_by_traces: false,
                span: (Wall::ZERO, Wall::ZERO),
            }),
        }
    }
    for epoch in &mut epochs {
        epoch.span = span(run, samples, epoch.first, epoch.last);
    }
    epochs
}

fn span(run: &Run, samples: &[Sample], first: usize, last: usize) -> (Wall, Wall) {
    let at = |i| run.timeline.utc(sent_at(samples, i));
    (at(first), at(last))
}

fn sent_at(samples: &[Sample], i: usize) -> Mono {
    samples.get(i).map_or(Mono::ZERO, |s| s.sent)
}

/// One epoch as the findings show it.
pub(crate) fn shown(
    session: &Session<'_>,
    flow: u8,
    epoch: &Epoch,
    paths: Paths<'_>,
) -> Option<PathEpoch> {
    let run = session.runs.get(epoch.run)?;
    let samples = &run.flows.get(&flow)?.samples;
    Some(PathEpoch {
        path: paths.name_of(epoch),
        named_by: epoch.named_by,
        target_at_hop: epoch.hop,
        first: point(run, samples.get(epoch.first)?),
        last: point(run, samples.get(epoch.last)?),
        probes: epoch.probes,
        hops: epoch
            .hops
            .iter()
            .map(|h| h.map(|a| a.to_string()))
            .collect(),
    })
}

/// The samples of one flow in one run.
fn samples_of<'s>(session: &'s Session<'_>, run: usize, flow: u8) -> Option<&'s FlowRun> {
    session.runs.get(run)?.flows.get(&flow)
}

#[cfg(test)]
mod tests;
