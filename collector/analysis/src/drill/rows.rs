//! The rows of a transition: one for each session, direction and flow.

use super::{Cluster, Ends, Scene, ends};
use crate::align::{Run, Sample, Session};
use crate::findings::{
    Direction, Latency, Outage, ProbePoint, TransitionDirection, TransitionFlow,
};
use crate::latency;
use crate::loss::{Fate, len};
use crate::outage::{evidence, point};
use crate::path::Epoch;
use crate::schema::Nanos;
use hopgap_proto::time::{Span, Wall};

/// Whether a probe was impaired in the sense of RFC 6412.
pub(super) fn is_impaired(s: &Sample) -> bool {
    s.fate.is_lost()
        || s.fate == Fate::Late
        || s.extra_replies > 0
        || s.reordered_forward
        || s.reordered_reverse
}

/// When the last probe that tells anything was sent.
pub(super) fn last_evidence(session: &Session<'_>) -> Option<Wall> {
    session
        .runs
        .iter()
        .flat_map(|run| {
            run.flows.values().filter_map(|f| {
                let last = f.samples.iter().rfind(|s| s.fate.is_evidence())?;
                Some(run.timeline.utc(last.sent))
            })
        })
        .max()
}

/// The samples of one flow and run that were sent from `from` to before `to`.
pub(super) fn sent_within(run: &Run, flow: u8, from: Wall, to: Wall) -> &[Sample] {
    let samples = run.flows.get(&flow).map_or(&[][..], |f| &f.samples);
    let begin = samples.partition_point(|s| run.timeline.utc(s.sent) < from);
    let end = samples.partition_point(|s| run.timeline.utc(s.sent) < to);
    samples.get(begin..end).unwrap_or_default()
}

/// All rows, in the plan's order of sessions.
pub(super) fn directions(scene: &Scene<'_>, cluster: &Cluster<'_>) -> Vec<TransitionDirection> {
    let ends = ends(scene, cluster);
    let mut directions = Vec::new();
    for (i, (session, found)) in scene.sessions.iter().zip(scene.found).enumerate() {
        if found.counts.sent == 0 {
            continue;
        }
        let latencies = Latencies::of(scene, cluster, session);
        for direction in [Direction::Forward, Direction::Reverse, Direction::Unknown] {
            let rows: Vec<TransitionFlow> = found
                .flows
                .iter()
                .map(|flow| TransitionFlow {
                    outages: outages(i, flow.flow, direction, cluster),
                    ..row(
                        session,
                        flow.flow,
                        direction,
                        cluster,
                        ends.get(&(i, direction, flow.flow)),
                        scene,
                    )
                })
                .collect();
            let moved = found
                .flows
                .iter()
                .filter_map(|flow| ends.get(&(i, direction, flow.flow)))
                .filter(|ends| ends.changed())
                .count();
            let affected = rows.iter().filter(|r| !r.outages.is_empty()).count();
            let lost: u64 = rows.iter().map(|r| r.lost).sum();
            if direction == Direction::Unknown && affected == 0 && lost == 0 {
                continue;
            }
            let (mut from, mut to) = (session.plan.from.to_string(), session.to_name());
            if direction == Direction::Reverse {
                core::mem::swap(&mut from, &mut to);
            }
            directions.push(TransitionDirection {
                session: found.session.clone(),
                direction,
                from,
                to,
                flows_affected: len(affected),
                flows_moved: len(moved),
                flows: len(rows.len()),
                rows,
                latency_before: latencies.before,
                latency_during: latencies.during,
                latency_after: latencies.after,
            });
        }
    }
    directions
}

fn outages(session: usize, flow: u8, direction: Direction, cluster: &Cluster<'_>) -> Vec<Outage> {
    let mut outages: Vec<Outage> = cluster
        .incidents
        .iter()
        .filter(|i| (i.session, i.flow) == (session, flow))
        .filter_map(|i| i.outage)
        .filter(|o| o.direction == direction)
        .cloned()
        .collect();
    outages.sort_by_key(|o| (o.first_lost.sent, o.first_lost.seq));
    outages
}

fn row(
    session: &Session<'_>,
    flow: u8,
    direction: Direction,
    cluster: &Cluster<'_>,
    ends: Option<&Ends<'_>>,
    scene: &Scene<'_>,
) -> TransitionFlow {
    let mut row = TransitionFlow {
        flow,
        source_port: session.source_port(flow),
        outages: Vec::new(),
        lost: 0,
        untold: 0,
        untold_ns: Nanos(Span::ZERO),
        late: 0,
        duplicated: 0,
        reordered: 0,
        path_before: None,
        path_after: None,
        last_on_old_path: None,
        first_on_new_path: None,
    };
    for run in &session.runs {
        // The settling probe itself is good: the stretch ends before it.
        let until = cluster.settled.max(cluster.started + Span::from_nanos(1));
        let until = if cluster.recovered.is_some() {
            until
        } else {
            cluster.not_after
        };
        let samples = sent_within(run, flow, cluster.started, until);
        let (untold, longest) = untold(samples, direction);
        row.untold += untold;
        row.untold_ns = row.untold_ns.max(Nanos(longest));
        for s in samples {
            row.lost += u64::from(evidence(s.fate, direction) == Some(false));
            row.late += u64::from(s.fate == Fate::Late);
            row.duplicated += u64::from(s.extra_replies);
            row.reordered += u64::from(match direction {
                Direction::Forward => s.reordered_forward,
                Direction::Reverse => s.reordered_reverse,
                Direction::Unknown => false,
            });
        }
    }
    if let Some(ends) = ends {
        row.path_before = ends.before.and_then(|e| scene.paths.name_of(e));
        row.path_after = ends.after.and_then(|e| scene.paths.name_of(e));
        if ends.changed() {
            (row.last_on_old_path, row.first_on_new_path) = change(session, flow, ends);
        }
    }
    row
}

/// Returns how many lost probes tell nothing of a direction, and the longest stretch of only
/// these. Losses of unknown direction have a row of their own.
fn untold(samples: &[Sample], direction: Direction) -> (u64, Span) {
    let (mut count, mut longest) = (0, Span::ZERO);
    if direction == Direction::Unknown {
        return (count, longest);
    }
    let (mut told, mut since) = (None, None);
    for s in samples {
        if evidence(s.fate, direction).is_some() {
            if let Some(from) = since.take() {
                longest = longest.max(s.sent - from);
            }
            told = Some(s.sent);
        } else if s.fate.is_lost() {
            count += 1;
            let from = *since.get_or_insert(told.unwrap_or(s.sent));
            longest = longest.max(s.sent - from);
        }
    }
    (count, longest)
}

/// Returns the last probe on the old path and the first on the new one; skips short flickers.
fn change(
    session: &Session<'_>,
    flow: u8,
    ends: &Ends<'_>,
) -> (Option<ProbePoint>, Option<ProbePoint>) {
    let same =
        |a: &Epoch, b: &Epoch| a.hop == b.hop && a.distance == b.distance && a.path == b.path;
    let at = |epoch: &Epoch, i: usize| {
        let run = session.runs.get(epoch.run)?;
        run.flows.get(&flow)?.samples.get(i).map(|s| point(run, s))
    };
    let Some((before, after)) = ends.before.zip(ends.after) else {
        return (None, None);
    };
    let first_new = ends
        .between
        .iter()
        .skip(1)
        .position(|e| same(e, after))
        .map_or(ends.between.len(), |i| i + 1);
    let last_old = ends
        .between
        .get(..first_new)
        .unwrap_or_default()
        .iter()
        .rfind(|e| same(e, before))
        .and_then(|e| at(e, e.last));
    let first_new = ends.between.get(first_new).and_then(|e| at(e, e.first));
    (last_old, first_new)
}

/// Round-trip latency of a session around a transition.
struct Latencies {
    before: Option<Latency>,
    during: Option<Latency>,
    after: Option<Latency>,
}

impl Latencies {
    fn of(scene: &Scene<'_>, cluster: &Cluster<'_>, session: &Session<'_>) -> Self {
        let within = |from: Wall, to: Wall| {
            let mut values: Vec<Span> = session
                .runs
                .iter()
                .flat_map(|run| run.flows.keys().map(move |flow| (run, *flow)))
                .flat_map(|(run, flow)| sent_within(run, flow, from, to))
                .filter(|s| s.fate == Fate::Answered)
                .map(|s| s.round_trip)
                .collect();
            latency::of(&mut values)
        };
        let stable = scene.objective.stable;
        let after = |settled: Wall| (settled + stable).min(cluster.not_after);
        Self {
            before: within(
                (cluster.started - stable).max(cluster.not_before),
                cluster.started,
            ),
            during: within(
                cluster.started,
                cluster.recovered.unwrap_or(cluster.not_after),
            ),
            after: cluster
                .recovered
                .and_then(|settled| within(settled, after(settled))),
        }
    }
}
