//! Finds routes that fit no declared path, and the plan lines that would name them.

use super::{Epoch, SessionEpochs};
use crate::align::Session;
use crate::findings::{Direction, UnnamedRoute};
use hopgap_proto::plan::{PathRole, Plan};
use hopgap_proto::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Least time on a route; a shorter stay is a loop while routing converged.
const STAY: Span = Span::from_secs(1);

/// What a path can be recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    passes: Option<IpAddr>,
    hop: Option<u8>,
}

/// What is known of a route without a name.
#[derive(Clone, Debug)]
struct Seen<'a> {
    session: &'a Session<'a>,
    direction: Direction,
    role: PathRole,
    hops: Vec<Option<IpAddr>>,
    flows: BTreeSet<u8>,
    probes: u64,
}

/// Returns all unnamed routes, in the plan's order of sessions.
pub(crate) fn find(
    sessions: &[Session<'_>],
    epochs: &[SessionEpochs],
    plan: &Plan,
) -> Vec<UnnamedRoute> {
    let mut routes: Vec<(Mark, Seen<'_>)> = Vec::new();
    for (session, epochs_of) in sessions.iter().zip(epochs) {
        let target = plan.destination(session.plan).map(|at| at.ip());
        let others = |epoch: &Epoch| elsewhere(epochs_of, epoch);
        for (direction, flows) in [
            (Direction::Forward, &epochs_of.forward),
            (Direction::Reverse, &epochs_of.reverse),
        ] {
            for (flow, all) in flows {
                for (i, epoch) in all.iter().enumerate().filter(|(_, e)| is_unnamed(e)) {
                    let taken = others(epoch);
                    let passes = epoch.hops.iter().flatten().copied();
                    let mark = Mark {
                        passes: passes
                            .filter(|a| Some(*a) != target)
                            .find(|a| !taken.contains(a)),
                        hop: epoch.hop,
                    };
                    let seen = Seen {
                        session,
                        direction,
                        role: role(all, i),
                        hops: epoch.hops.clone(),
                        flows: BTreeSet::from([*flow]),
                        probes: epoch.probes,
                    };
                    add(&mut routes, mark, seen);
                }
            }
        }
    }
    shown(routes, plan)
}

fn is_unnamed(epoch: &Epoch) -> bool {
    epoch.path.is_none() && epoch.among.is_empty() && epoch.span.1 - epoch.span.0 >= STAY
}

/// Returns the addresses on routes with names or of other lengths: these distinguish nothing.
fn elsewhere(epochs: &SessionEpochs, than: &Epoch) -> BTreeSet<IpAddr> {
    let all = epochs.forward.values().flatten();
    all.filter(|e| e.hop != than.hop || e.path.is_some() || disjoint(e, than))
        .flat_map(|e| e.hops.iter().flatten().copied())
        .collect()
}

/// Whether two routes of one length answer differently at a hop.
fn disjoint(a: &Epoch, b: &Epoch) -> bool {
    let mut pairs = a.hops.iter().zip(&b.hops);
    pairs.any(|(a, b)| a.is_some() && b.is_some() && a != b)
}

/// Returns `Primary` for the route on which traffic begins, as the best guess.
fn role(epochs: &[Epoch], at: usize) -> PathRole {
    let same = |e: &Epoch| epochs.get(at).is_some_and(|own| !own.differs(e));
    let first = epochs.iter().find(|e| e.span.1 - e.span.0 >= STAY);
    if first.is_none_or(same) {
        PathRole::Primary
    } else {
        PathRole::Backup
    }
}

fn add<'a>(routes: &mut Vec<(Mark, Seen<'a>)>, mark: Mark, seen: Seen<'a>) {
    // Only the length of a way back is known: the way out of that length has its name.
    let known = routes.iter_mut().find(|(other, known)| {
        let same_way =
            known.session.plan.name == seen.session.plan.name && known.direction == seen.direction;
        *other == mark && (same_way || mark.passes.is_some())
            || (seen.direction == Direction::Reverse && other.hop == mark.hop)
    });
    match known {
        Some((_, known)) => {
            if known.direction == seen.direction {
                known.flows.extend(seen.flows);
                known.probes += seen.probes;
            }
        }
        None => routes.push((mark, seen)),
    }
}

fn shown(routes: Vec<(Mark, Seen<'_>)>, plan: &Plan) -> Vec<UnnamedRoute> {
    let declared: BTreeSet<String> = plan.paths.iter().map(|p| p.name.to_string()).collect();
    let mut names = (1_u32..)
        .map(|n| format!("path-{n}"))
        .filter(|name| !declared.contains(name));
    let mut lines: BTreeMap<Mark, Option<String>> = BTreeMap::new();
    routes
        .into_iter()
        .map(|(mark, seen)| {
            let plan_lines = lines
                .entry(mark)
                .or_insert_with(|| toml(&names.next()?, seen.role, mark));
            let (from, to) = (seen.session.plan.from.to_string(), seen.session.to_name());
            let (from, to) = match seen.direction {
                Direction::Reverse => (to, from),
                Direction::Forward | Direction::Unknown => (from, to),
            };
            UnnamedRoute {
                session: seen.session.plan.name.to_string(),
                direction: seen.direction,
                from,
                to,
                flows: seen.flows.into_iter().collect(),
                probes: seen.probes,
                target_at_hop: mark.hop,
                hops: seen.hops.iter().map(|h| h.map(|a| a.to_string())).collect(),
                plan_lines: plan_lines.clone(),
            }
        })
        .collect()
}

/// Returns the plan lines; `None` if too little is known for them.
fn toml(name: &str, role: PathRole, mark: Mark) -> Option<String> {
    let (role, other) = match role {
        PathRole::Primary => ("primary", "backup"),
        PathRole::Backup => ("backup", "primary"),
    };
    let mut lines = format!("[[path]]\nname = \"{name}\"\nrole = \"{role}\" # or \"{other}\"\n");
    if let Some(passes) = mark.passes {
        lines += &format!("passes = [\"{passes}\"]\n");
    }
    if let Some(hop) = mark.hop {
        lines += &format!("target_at_hop = {hop}\n");
    }
    (mark.passes.is_some() || mark.hop.is_some()).then_some(lines)
}
