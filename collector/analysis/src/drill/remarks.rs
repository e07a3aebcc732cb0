//! Sentences for the reader of a transition.

use super::{Cluster, Scene, ends};
use crate::caveat::counted;
use crate::findings::{
    Direction, DirectionLimit, DirectionMtu, Marker, MarkerKind, PathMtu, TransitionDirection,
    TransitionKind,
};
use crate::outage::evidence;
use crate::schema::Utc;
use crate::text;
use hopgap_proto::time::Span;

/// Background loss this close to a transition is named.
const CLOSE: Span = Span::from_secs(1);

pub(super) fn all(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    kind: TransitionKind,
    marker: Option<&Marker>,
    directions: &[TransitionDirection],
) -> Vec<String> {
    let mut remarks = Vec::new();
    share(kind, marker, directions, &mut remarks);
    for direction in directions {
        affected(direction, &mut remarks);
        background(scene, cluster, direction, &mut remarks);
        reordered(direction, &mut remarks);
    }
    spared(scene, cluster, directions, &mut remarks);
    paths(scene, cluster, &mut remarks);
    for direction in directions {
        path_mtu(scene, direction, &mut remarks);
    }
    let stable = scene.objective.stable;
    if let Some(next) = cluster.cut_short(stable) {
        remarks.push(format!(
            "The next transition began at {}, before traffic had been unimpaired for {stable}.",
            text::clock(Utc(next))
        ));
    } else if cluster.recovered.is_none() && cluster.goes_on_into_next() {
        remarks.push(format!(
            "The next transition began at {}, before traffic was unimpaired.",
            text::clock(Utc(cluster.not_after))
        ));
    } else if cluster.recovered.is_none() {
        remarks.push(format!(
            "The data ends before traffic was unimpaired for {stable}."
        ));
    }
    remarks
}

/// Says how many flows moved, if not all did or the announcement said something else.
fn share(
    kind: TransitionKind,
    marker: Option<&Marker>,
    directions: &[TransitionDirection],
    remarks: &mut Vec<String>,
) {
    let announced = match (kind, marker.map(|m| m.kind)) {
        (TransitionKind::Reroute | TransitionKind::Interruption, Some(MarkerKind::Failover)) => {
            Some("a failover")
        }
        (TransitionKind::Reroute | TransitionKind::Interruption, Some(MarkerKind::Failback)) => {
            Some("a failback")
        }
        _ => None,
    };
    let shares: Vec<String> = directions
        .iter()
        .filter(|d| d.direction != Direction::Unknown)
        .filter(|d| announced.is_some() || (0 < d.flows_moved && d.flows_moved < d.flows))
        .map(|d| format!("{} {} of {} flows", way(d), d.flows_moved, d.flows))
        .collect();
    let what = match (kind, announced) {
        (_, None) if shares.is_empty() => return,
        (TransitionKind::Interruption, Some(announced)) => {
            remarks.push(format!(
                "It was announced as {announced}, but no flow changed its path."
            ));
            return;
        }
        (_, Some(announced)) => format!(
            "It was announced as {announced}, but no flow moved between a primary and a backup path"
        ),
        (_, None) => "Not all flows moved to another path".to_owned(),
    };
    remarks.push(format!("{what}; moved: {}.", shares.join(", ")));
}

/// `from onprem to azure`; of losses whose direction is not known, `between` the two.
fn way(d: &TransitionDirection) -> String {
    let way = match d.direction {
        Direction::Forward | Direction::Reverse => format!("from {} to {}", d.from, d.to),
        Direction::Unknown => format!("between {} and {}", d.from, d.to),
    };
    format!(
        "{way} (session {}, {})",
        d.session,
        match d.direction {
            Direction::Forward => "probes",
            Direction::Reverse => "replies",
            Direction::Unknown => "direction unknown",
        }
    )
}

fn affected(d: &TransitionDirection, remarks: &mut Vec<String>) {
    let (hit, flows) = (d.flows_affected, d.flows);
    if hit == 0 || hit == flows {
        return;
    }
    let others: u64 = d
        .rows
        .iter()
        .filter(|r| r.outages.is_empty())
        .map(|r| r.lost)
        .sum();
    let others = match others {
        0 => "the others lost nothing".to_owned(),
        n => format!(
            "the others lost {} in short runs",
            match d.direction {
                Direction::Forward => counted(n, "probe", "probes"),
                Direction::Reverse => counted(n, "reply", "replies"),
                Direction::Unknown => counted(n, "probe or reply", "probes or replies"),
            }
        ),
    };
    remarks.push(format!(
        "{}: {hit} of {flows} flows lost connectivity, {others}.",
        capital(&way(d))
    ));
}

/// Says if one direction of a session had outages and the other lost nothing.
fn spared(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    directions: &[TransitionDirection],
    remarks: &mut Vec<String>,
) {
    for d in directions {
        let lost =
            d.rows.iter().map(|r| r.lost).sum::<u64>() + lost_in_short_runs(scene, cluster, d);
        let other_failed = directions.iter().any(|o| {
            o.session == d.session
                && o.direction != d.direction
                && o.direction != Direction::Unknown
                && o.flows_affected > 0
        });
        if lost > 0 || !other_failed || d.direction == Direction::Unknown {
            continue;
        }
        remarks.push(match d.direction {
            Direction::Reverse => format!(
                "{}: no reply was lost to any probe that arrived.",
                capital(&way(d))
            ),
            Direction::Forward | Direction::Unknown => {
                format!("{}: no probe was lost.", capital(&way(d)))
            }
        });
    }
}

/// Says if the new path carries larger or smaller packets than the old one, in this direction if
/// known; a change of both directions together is said once.
fn path_mtu(scene: &Scene<'_>, d: &TransitionDirection, remarks: &mut Vec<String>) {
    let session = scene.found.iter().find(|f| f.session == d.session);
    let Some(session) = session else { return };
    let least = |path: &Option<String>| {
        let of_path = |m: &&PathMtu| match d.direction {
            Direction::Forward => m.forward == *path,
            Direction::Reverse => m.reverse == *path,
            Direction::Unknown => false,
        };
        let found = session.path_mtu.iter().filter(of_path);
        found.min_by_key(|m| m.bytes)
    };
    let mut said = std::collections::BTreeSet::new();
    for row in d.rows.iter().filter(|r| r.path_before != r.path_after) {
        let (Some(before), Some(after)) = (least(&row.path_before), least(&row.path_after)) else {
            continue;
        };
        let smaller = if after.bytes < before.bytes {
            after
        } else {
            before
        };
        let (own, other) = match d.direction {
            Direction::Reverse => (&smaller.back, &smaller.out),
            Direction::Forward | Direction::Unknown => (&smaller.out, &smaller.back),
        };
        let limited = |way: &DirectionMtu| way.limit != DirectionLimit::Unknown;
        let known = match (limited(own), limited(other), d.direction) {
            (true, ..) => true,
            (false, false, Direction::Forward) => false,
            (false, ..) => continue,
        };
        if before.bytes != after.bytes {
            said.insert((known, before.bytes, after.bytes));
        }
    }
    for (known, before, after) in said {
        let change = if after < before { "fell" } else { "rose" };
        let change = format!(
            "the largest packet that gets through {change} from {before} to {after} bytes with the change of path"
        );
        remarks.push(if known {
            format!("{}: {change}.", capital(&way(d)))
        } else {
            format!("Out and back {change}; which direction does not carry more is not known.")
        });
    }
}

fn background(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    d: &TransitionDirection,
    remarks: &mut Vec<String>,
) {
    let near = lost_in_short_runs(scene, cluster, d);
    if near > 0 {
        let lost = match d.direction {
            Direction::Forward => counted(near, "probe was", "probes were"),
            Direction::Reverse => counted(near, "reply was", "replies were"),
            Direction::Unknown => counted(near, "probe or reply was", "probes or replies were"),
        };
        remarks.push(format!(
            "{}: {lost} lost in runs of fewer than {} in or close to this transition; they count as background loss, not as an outage.",
            capital(&way(d)),
            scene.objective.min_lost.max(1)
        ));
    }
}

/// Background loss of this direction in or close to a transition.
fn lost_in_short_runs(scene: &Scene<'_>, cluster: &Cluster<'_>, d: &TransitionDirection) -> u64 {
    let (from, to) = (cluster.started - CLOSE, cluster.settled + CLOSE);
    scene
        .found
        .iter()
        .filter(|s| s.session == d.session)
        .flat_map(|s| &s.flows)
        .flat_map(|f| &f.background)
        .filter(|p| p.direction == d.direction)
        .filter(|p| from <= p.last.sent.0 && p.first.sent.0 <= to)
        .map(|p| p.lost)
        .sum()
}

fn reordered(d: &TransitionDirection, remarks: &mut Vec<String>) {
    let n: u64 = d.rows.iter().map(|r| r.reordered).sum();
    if n > 0 {
        remarks.push(format!(
            "{}: {} reordered.",
            capital(&way(d)),
            counted(n, "packet was", "packets were")
        ));
    }
}

/// Reports changes that only traceroutes date, and probes on undeclared routes.
fn paths(scene: &Scene<'_>, cluster: &Cluster<'_>, remarks: &mut Vec<String>) {
    let mut astray = 0_u64;
    let mut left_and_returned = 0_u64;
    for ((session, direction, flow), ends) in ends(scene, cluster) {
        for pair in ends.between.windows(2) {
            let [old, new] = pair else { continue };
            if new.dated_by_traces {
                let name = |e: &crate::path::Epoch| {
                    scene
                        .paths
                        .name(e.path)
                        .unwrap_or_else(|| "no named path".to_owned())
                };
                let session = scene.found.get(session).map_or("", |s| &s.session);
                remarks.push(format!(
                    "Session {session}, flow {flow}: that it moved from {} to {} is known from traceroutes alone: between {} and {}.",
                    name(old),
                    name(new),
                    text::clock(Utc(old.span.1)),
                    text::clock(Utc(new.span.0))
                ));
            }
        }
        let inner = ends.between.get(1..).unwrap_or_default();
        if !scene.paths.0.is_empty() {
            astray += inner
                .iter()
                .filter(|e| e.path.is_none() && e.role.is_none())
                .map(|e| e.probes)
                .sum::<u64>();
        }
        let moved = inner
            .iter()
            .any(|e| ends.before.is_some_and(|b| b.differs(e)));
        left_and_returned += u64::from(moved && !ends.changed() && direction != Direction::Unknown);
    }
    if astray > 0 {
        remarks.push(format!(
            "{} took a route that is no declared path, such as a short loop while routing converged.",
            counted(astray, "probe or reply", "probes and replies")
        ));
    }
    if left_and_returned > 0 {
        remarks.push(format!(
            "{} left its path and came back to it.",
            counted(
                left_and_returned,
                "direction of one flow",
                "directions of flows"
            )
        ));
    }
    late(scene, cluster, remarks);
}

fn late(scene: &Scene<'_>, cluster: &Cluster<'_>, remarks: &mut Vec<String>) {
    let late: usize = scene
        .sessions
        .iter()
        .flat_map(|s| &s.runs)
        .flat_map(|run| {
            run.flows.keys().flat_map(move |flow| {
                super::rows::sent_within(run, *flow, cluster.started, cluster.settled)
            })
        })
        .filter(|s| s.fate == crate::loss::Fate::Late)
        .filter(|s| evidence(s.fate, Direction::Forward) == Some(true))
        .count();
    if late > 0 {
        remarks.push(format!(
            "{} answered, but later than the session's timeout: late, not lost.",
            counted(crate::loss::len(late), "probe was", "probes were")
        ));
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
