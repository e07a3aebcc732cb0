//! Changes of the network, seen over all sessions and flows together.
//!
//! **What is one transition.** Lasting changes of path decide: the changes of all sessions and
//! flows that follow each other within the objective's `stable` time are one transition, until a
//! flow comes back to its former path or role, where the next one begins. A stay shorter than
//! half a second that nobody announced is a flicker. A transition includes the outages of the
//! flows that moved, what overlaps it, what was lost in the second before it, and what was lost
//! after it before traffic was stable. Other loss of connectivity is a transition without a
//! change of path; these, too, are at least `stable` apart. Background loss makes no transition.
//! Chance outages from a steady loss neither hold two transitions together nor date one.
//!
//! **What kind.** Every flow that ended on another path than it began on has a vote, by the roles
//! of the two paths. Without such a flow it is an interruption if connectivity was lost, else a
//! reroute (traffic left its path and came back).
//!
//! **Its instants** (RFC 6412): it started with the first probe that was lost or took a new path.
//! It recovered at the first good probe after the last of its outages and path changes, and after
//! impaired probes (lost, late, duplicated, reordered) of a flow that follow within five
//! intervals, but only if the data continue for `stable` and five more packets. If the next
//! transition begins sooner, a remark says so.
//!
//! **Its marker** is the last failover or failback marker before it that fits its kind, else one
//! that no other transition has (a note if there is none).
//! People press keys late and hosts' clocks differ, so a marker up to two seconds after its start
//! is accepted, too. A marker that nothing followed is reported.

mod announce;
mod cluster;
mod hops;
pub(crate) mod icmp;
mod moves;
mod remarks;
mod rows;
mod steady;

use crate::align::Session;
use crate::findings::{Direction, Marker, SessionFindings, Transition, TransitionKind};
use crate::note::Note;
use crate::path::{Epoch, Paths, SessionEpochs};
use crate::schema::{Nanos, Utc};
use crate::verdict;
use cluster::Cluster;
use hopgap_proto::plan::{Objective, PathRole};
use hopgap_proto::time::Span;
use std::collections::BTreeMap;
use steady::Steady;

/// The input for finding transitions. Sessions, epochs and findings are parallel.
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

/// The paths before and after, in one direction of one flow.
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
/// Longest time from a marker to the change that it announced.
const ANNOUNCED: Span = Span::from_secs(300);
/// Longest time from a note to the change that it is shown with.
const NOTED: Span = Span::from_secs(120);
/// How late after the start a marker may be.
const LATE_MARKER: Span = Span::from_secs(2);

/// Transitions, and the notes beside them.
pub(crate) struct Found {
    /// In the order of time.
    pub(crate) transitions: Vec<Transition>,
    /// In the order of time.
    pub(crate) notes: Vec<Note>,
}

/// Finds all transitions.
pub(crate) fn find(scene: &Scene<'_>) -> Found {
    let steady = Steady::of(scene);
    let clusters: Vec<(Cluster<'_>, TransitionKind)> = cluster::find(scene, &steady)
        .into_iter()
        .map(|cluster| {
            let kind = kind(scene, &cluster);
            (cluster, kind)
        })
        .collect();
    let (markers, mut notes) = announce::assign(scene, &clusters);
    notes.extend(steady.notes);
    Found {
        transitions: clusters
            .iter()
            .zip(markers)
            .map(|((cluster, kind), marker)| transition(scene, cluster, *kind, marker))
            .collect(),
        notes,
    }
}

fn transition(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    kind: TransitionKind,
    marker: Option<&Marker>,
) -> Transition {
    let outages = || cluster.incidents.iter().filter_map(|i| i.outage);
    let directions = rows::directions(scene, cluster);
    let worst = verdict::worst(outages());
    let first_lost = outages().map(|o| o.began).min();
    let first_on_new_path = directions
        .iter()
        .flat_map(|d| &d.rows)
        .filter_map(|r| Some(r.first_on_new_path?.sent))
        .min();
    let since = |at: Option<Utc>| Some(Nanos(at?.0 - marker?.at.0));
    Transition {
        kind,
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
        remarks: remarks::all(scene, cluster, kind, marker, &directions),
        directions,
    }
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

#[cfg(test)]
mod tests;
