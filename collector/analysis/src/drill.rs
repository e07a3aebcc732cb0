//! Changes of the network, seen over all sessions and flows together.
//!
//! **What is one transition.** Outages and path changes of all sessions and flows are
//! put in the order of time on UTC; where more than the objective's `stable` time lies
//! between one and the next, another transition begins. Background loss makes no
//! transition.
//!
//! **What kind.** Every flow that ended on another path than it began on has a vote, by
//! the roles of the two paths. Without any such flow it is an interruption if
//! connectivity was lost, else (traffic left its path and came back) a reroute.
//!
//! **Its instants** (RFC 6412): it started with the first probe that was lost or took a
//! new path. It has recovered at the first good probe after the last of its outages and
//! path changes, and after impaired probes (lost, late, duplicated, reordered) that
//! follow within five intervals; but only if the data goes on for `stable` and five
//! packets more.
//!
//! **Its marker** is the last failover or failback marker before it and after the
//! transition before (a note where there is none). People press keys late and hosts'
//! clocks differ: a marker up to two seconds after its start is accepted too.

mod hops;
pub(crate) mod icmp;
mod remarks;
mod rows;

use crate::align::Session;
use crate::findings::{
    Direction, Marker, MarkerKind, Outage, SessionFindings, Transition, TransitionKind,
};
use crate::path::{Epoch, Paths, SessionEpochs};
use crate::schema::{Nanos, Utc};
use crate::verdict;
use hopgap_proto::plan::{Objective, PathRole};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// All that transitions are found in. Sessions, epochs and findings are parallel.
pub(crate) struct Scene<'a> {
    /// The sessions.
    pub(crate) sessions: &'a [Session<'a>],
    /// Their epochs.
    pub(crate) epochs: &'a [SessionEpochs],
    /// What was found of each.
    pub(crate) found: &'a [SessionFindings],
    /// Markers in the order of time.
    pub(crate) markers: &'a [Marker],
    /// The declared paths.
    pub(crate) paths: Paths<'a>,
    /// What a failover is judged against.
    pub(crate) objective: &'a Objective,
}

/// Something that happened to one direction of one flow.
#[derive(Clone, Copy)]
struct Incident<'a> {
    session: usize,
    from: Wall,
    to: Wall,
    /// The outage, or else it was a path change.
    outage: Option<&'a Outage>,
}

/// The incidents of one transition and the time around it.
struct Cluster<'a> {
    incidents: Vec<Incident<'a>>,
    started: Wall,
    /// Of its last incident.
    end: Wall,
    /// All good from here on, as far as the data goes.
    settled: Wall,
    /// `settled`, if the data proves it.
    recovered: Option<Wall>,
    /// When the transition before had ended.
    not_before: Wall,
    /// When the next transition starts.
    not_after: Wall,
}

/// Paths before and after, of one direction of one flow.
struct Ends<'a> {
    before: Option<&'a Epoch>,
    after: Option<&'a Epoch>,
    /// All its epochs from `before` to `after`.
    between: &'a [Epoch],
}

impl Ends<'_> {
    /// Whether it ended on another path than it began on.
    fn changed(&self) -> bool {
        self.before
            .zip(self.after)
            .is_some_and(|(a, b)| a.differs(b))
    }
}

/// Packets that must pass unimpaired (RFC 6412).
const PACKETS: i64 = 5;
/// A change announced by a marker comes within this time.
const ANNOUNCED: Span = Span::from_secs(300);
/// A note is set beside a change that comes within this time.
const NOTED: Span = Span::from_secs(120);
/// A marker may be this late.
const LATE_MARKER: Span = Span::from_secs(2);

/// Finds all transitions, in the order of time.
pub(crate) fn find(scene: &Scene<'_>) -> Vec<Transition> {
    let mut used: Vec<&Marker> = Vec::new();
    clusters(scene)
        .iter()
        .map(|cluster| {
            let marker = marker(scene, cluster, &used);
            used.extend(marker);
            transition(scene, cluster, marker)
        })
        .collect()
}

fn transition(scene: &Scene<'_>, cluster: &Cluster<'_>, marker: Option<&Marker>) -> Transition {
    let outages = || cluster.incidents.iter().filter_map(|i| i.outage);
    let directions = rows::directions(scene, cluster);
    let worst = verdict::worst(outages());
    let first_lost = outages().map(|o| o.first_lost.sent).min();
    let first_on_new_path = directions
        .iter()
        .flat_map(|d| &d.rows)
        .filter_map(|r| Some(r.first_on_new_path?.sent))
        .min();
    let since = |at: Option<Utc>| Some(Nanos(at?.0 - marker?.at.0));
    Transition {
        kind: kind(scene, cluster),
        marker: marker.cloned(),
        started: Utc(cluster.started),
        recovered: cluster.recovered.map(Utc),
        marker_to_loss_ns: since(first_lost),
        marker_to_new_path_ns: since(first_on_new_path),
        marker_to_stable_ns: since(cluster.recovered.map(Utc)),
        hop_tables: hops::tables(scene, cluster),
        icmp: icmp::find(scene, cluster),
        worst_at_least_ns: Nanos(worst.at_least),
        worst_at_most_ns: worst.at_most.map(Nanos),
        remarks: remarks::all(scene, cluster, &directions),
        directions,
    }
}

fn clusters<'a>(scene: &Scene<'a>) -> Vec<Cluster<'a>> {
    let mut incidents = incidents(scene);
    incidents.sort_by_key(|i| (i.from, i.to, i.session));
    let mut clusters: Vec<Cluster<'a>> = Vec::new();
    for incident in incidents {
        match clusters.last_mut() {
            Some(c) if incident.from - c.end <= scene.objective.stable => {
                c.end = c.end.max(incident.to);
                c.incidents.push(incident);
            }
            _ => clusters.push(Cluster {
                started: incident.from,
                end: incident.to,
                settled: incident.to,
                recovered: None,
                not_before: clusters.last().map_or(Wall::MIN, |c| c.end),
                not_after: Wall::MAX,
                incidents: vec![incident],
            }),
        }
    }
    let starts: Vec<Wall> = clusters.iter().skip(1).map(|c| c.started).collect();
    for (i, cluster) in clusters.iter_mut().enumerate() {
        cluster.not_after = starts.get(i).copied().unwrap_or(Wall::MAX);
        cluster.settled = settled(scene, cluster);
        cluster.recovered = recovered(scene, cluster);
    }
    clusters
}

fn incidents<'a>(scene: &Scene<'a>) -> Vec<Incident<'a>> {
    let mut incidents = Vec::new();
    for (session, (found, epochs)) in scene.found.iter().zip(scene.epochs).enumerate() {
        for outage in found.flows.iter().flat_map(|f| &f.outages) {
            incidents.push(Incident {
                session,
                from: outage.first_lost.sent.0,
                to: outage.first_good.unwrap_or(outage.last_lost).sent.0,
                outage: Some(outage),
            });
        }
        for epochs in epochs.forward.values().chain(epochs.reverse.values()) {
            for pair in epochs.windows(2) {
                if let [old, new] = pair
                    && old.differs(new)
                {
                    incidents.push(Incident {
                        session,
                        from: new.span.0,
                        to: new.span.0,
                        outage: None,
                    });
                }
            }
        }
    }
    incidents
}

/// The first good probe after the last incident and after impaired probes close behind.
fn settled(scene: &Scene<'_>, cluster: &Cluster<'_>) -> Wall {
    let mut impaired: Vec<(Wall, Wall, Span)> = Vec::new();
    for session in scene.sessions {
        let reach = session.plan.interval * PACKETS;
        let until = cluster.end + scene.objective.stable;
        for run in &session.runs {
            for flow in run.flows.values() {
                let begin = flow
                    .samples
                    .partition_point(|s| run.timeline.utc(s.sent) < cluster.end);
                let after = flow.samples.get(begin..).unwrap_or_default();
                for (i, s) in after.iter().enumerate() {
                    let at = run.timeline.utc(s.sent);
                    if at > until {
                        break;
                    }
                    let next = after.get(i + 1).map_or(at, |n| run.timeline.utc(n.sent));
                    if rows::is_impaired(s) {
                        impaired.push((at, next, reach));
                    }
                }
            }
        }
    }
    impaired.sort_unstable();
    let mut settled = cluster.end;
    for (at, next, reach) in impaired {
        if at - settled > reach {
            break;
        }
        settled = settled.max(next);
    }
    settled
}

/// When it settled, if every session that took part was watched for long enough after.
fn recovered(scene: &Scene<'_>, cluster: &Cluster<'_>) -> Option<Wall> {
    let goes_on = cluster
        .incidents
        .iter()
        .filter_map(|i| i.outage)
        .any(|o| o.first_good.is_none());
    if goes_on {
        return None;
    }
    let mut sessions: Vec<usize> = cluster.incidents.iter().map(|i| i.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    let watched = sessions
        .into_iter()
        .filter_map(|i| scene.sessions.get(i))
        .all(|session| {
            let hold = scene.objective.stable.max(session.plan.interval * PACKETS);
            rows::last_evidence(session).is_some_and(|last| last - cluster.settled >= hold)
        });
    watched.then_some(cluster.settled)
}

/// Paths before and after the cluster, of every flow in both directions.
fn ends<'a>(
    scene: &Scene<'a>,
    cluster: &Cluster<'_>,
) -> BTreeMap<(usize, Direction, u8), Ends<'a>> {
    let mut all = BTreeMap::new();
    for (session, epochs) in scene.epochs.iter().enumerate() {
        for (direction, flows) in [
            (Direction::Forward, &epochs.forward),
            (Direction::Reverse, &epochs.reverse),
        ] {
            for (flow, epochs) in flows {
                all.insert((session, direction, *flow), ends_of(epochs, cluster));
            }
        }
    }
    all
}

fn ends_of<'a>(epochs: &'a [Epoch], cluster: &Cluster<'_>) -> Ends<'a> {
    let begun = epochs.partition_point(|e| e.span.0 < cluster.started);
    let ended = epochs
        .partition_point(|e| e.span.0 <= cluster.end)
        .max(begun);
    let between = epochs
        .get(begun.saturating_sub(1)..ended)
        .unwrap_or_default();
    Ends {
        before: begun.checked_sub(1).and_then(|i| epochs.get(i)),
        after: ended.checked_sub(1).and_then(|i| epochs.get(i)),
        between,
    }
}

fn kind(scene: &Scene<'_>, cluster: &Cluster<'_>) -> TransitionKind {
    use PathRole::{Backup, Primary};
    let (mut failover, mut failback, mut reroute) = (0, 0, 0);
    for ends in ends(scene, cluster).into_values().filter(Ends::changed) {
        match (
            ends.before.and_then(|e| e.role),
            ends.after.and_then(|e| e.role),
        ) {
            (Some(Primary), Some(Backup)) => failover += 1,
            (Some(Backup), Some(Primary)) => failback += 1,
            _ => reroute += 1,
        }
    }
    if failover + failback + reroute == 0 {
        if cluster.incidents.iter().any(|i| i.outage.is_some()) {
            TransitionKind::Interruption
        } else {
            TransitionKind::Reroute
        }
    } else if failover >= failback && failover >= reroute {
        TransitionKind::Failover
    } else if failback >= reroute {
        TransitionKind::Failback
    } else {
        TransitionKind::Reroute
    }
}

fn marker<'a>(scene: &Scene<'a>, cluster: &Cluster<'_>, used: &[&Marker]) -> Option<&'a Marker> {
    let last = |announces: bool, reach: Span| {
        scene
            .markers
            .iter()
            .filter(|m| (m.kind != MarkerKind::Note) == announces)
            .filter(|m| cluster.not_before <= m.at.0)
            .filter(|m| m.at.0 <= cluster.started + LATE_MARKER)
            .filter(|m| cluster.started - m.at.0 <= reach)
            .rfind(|m| !used.contains(m))
    };
    last(true, ANNOUNCED).or_else(|| last(false, NOTED))
}

#[cfg(test)]
mod tests;
