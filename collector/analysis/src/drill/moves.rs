//! Finds lasting changes of path, and which of them are one transition.

use super::{LATE_MARKER, Scene};
use crate::findings::{Direction, MarkerKind};
use crate::path::Epoch;
use hopgap_proto::plan::PathRole;
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// Least stay on a path; a shorter one is routing that flickered while it converged.
const DWELL: Span = Span::from_millis(500);

/// One direction of one flow: the session's place, the direction, the flow.
pub(super) type Lane = (usize, Direction, u8);

/// Where a move leads, by the roles of the two paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// From a primary path to a backup.
    Away,
    /// From a backup path to a primary.
    Back,
    /// Between paths of one role, or of roles that are not known.
    Aside,
}

/// A change of path after which a flow stayed where it went.
#[derive(Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) lane: Lane,
    old: &'a Epoch,
    new: &'a Epoch,
    /// The last probe that is known on the old path.
    pub(super) from: Wall,
    /// The first probe known to be off the old path.
    pub(super) begun: Wall,
    /// The first probe of the stay on the new path.
    pub(super) done: Wall,
}

impl Move<'_> {
    fn turn(&self) -> Turn {
        match (self.old.role, self.new.role) {
            (Some(PathRole::Primary), Some(PathRole::Backup)) => Turn::Away,
            (Some(PathRole::Backup), Some(PathRole::Primary)) => Turn::Back,
            _ => Turn::Aside,
        }
    }

    /// Whether only traceroutes bound it.
    pub(super) fn dated_by_traces(&self) -> bool {
        self.new.dated_by_traces
    }
}

/// Moves that are one transition, in the order of time.
pub(super) struct Group<'a> {
    pub(super) moves: Vec<Move<'a>>,
    pub(super) begun: Wall,
    pub(super) done: Wall,
}

/// Returns all moves in groups: within `stable` of each other, and without a flow that comes back
/// to where it was before or goes the opposite way to the others.
pub(super) fn groups<'a>(scene: &Scene<'a>) -> Vec<Group<'a>> {
    let mut moves: Vec<Move<'a>> = Vec::new();
    for (session, epochs) in scene.epochs.iter().enumerate() {
        let interval = scene.sessions.get(session).map(|s| s.plan.interval);
        let packets = interval.unwrap_or_default() * super::PACKETS;
        for (direction, flows) in [
            (Direction::Forward, &epochs.forward),
            (Direction::Reverse, &epochs.reverse),
        ] {
            for (flow, epochs) in flows {
                moves.extend(of(scene, (session, direction, *flow), epochs, packets));
            }
        }
    }
    moves.sort_by_key(|m| (m.begun, m.done, m.lane));
    let mut groups: Vec<Group<'a>> = Vec::new();
    for m in moves {
        match groups.last_mut() {
            Some(group) if m.begun - group.done <= scene.objective.stable && !group.ends_at(&m) => {
                group.done = group.done.max(m.done);
                group.moves.push(m);
            }
            _ => groups.push(Group {
                begun: m.begun,
                done: m.done,
                moves: vec![m],
            }),
        }
    }
    groups
}

impl Group<'_> {
    /// Whether another transition begins with this move.
    fn ends_at(&self, next: &Move<'_>) -> bool {
        let own = self.moves.iter().find(|m| m.lane == next.lane);
        if let Some(first) = own {
            let origin = first.old;
            let role_again = origin.role.is_some()
                && next.new.role == origin.role
                && next.old.role.is_some_and(|r| Some(r) != origin.role);
            return role_again || !next.new.differs(origin);
        }
        let against = |m: &Move<'_>| {
            matches!(
                (m.turn(), next.turn()),
                (Turn::Away, Turn::Back) | (Turn::Back, Turn::Away)
            )
        };
        self.moves.iter().any(against)
    }
}

/// Returns the moves of one lane: from each stay to the next on another path.
fn of<'a>(scene: &Scene<'_>, lane: Lane, epochs: &'a [Epoch], packets: Span) -> Vec<Move<'a>> {
    let stays: Vec<usize> = (0..epochs.len())
        .filter(|&i| {
            let at_an_end = i == 0 || i + 1 == epochs.len();
            epochs
                .get(i)
                .is_some_and(|e| at_an_end || is_stay(scene, e, packets))
        })
        .collect();
    let mut moves = Vec::new();
    let mut at = 0;
    for stay in stays.into_iter().skip(1) {
        let (Some(old), Some(new)) = (epochs.get(at), epochs.get(stay)) else {
            continue;
        };
        if new.differs(old)
            && let Some(beside) = epochs.get(at + 1..=stay)
            && let Some(first) = beside.iter().find(|e| e.differs(old))
        {
            let from = epochs
                .get(at..stay)
                .and_then(|between| between.iter().rfind(|e| !e.differs(old)))
                .map_or(old.span.1, |e| e.span.1);
            moves.push(Move {
                lane,
                old,
                new,
                from: from.min(new.span.0),
                begun: first.span.0,
                done: new.span.0,
            });
        }
        at = stay;
    }
    moves
}

/// Whether a flow stayed long enough, or until a marker announced its leaving.
fn is_stay(scene: &Scene<'_>, epoch: &Epoch, packets: Span) -> bool {
    let lasted = epoch.span.1 - epoch.span.0;
    let leaving = epoch.role.map(|role| match role {
        PathRole::Primary => MarkerKind::Failover,
        PathRole::Backup => MarkerKind::Failback,
    });
    let told = || {
        scene.markers.iter().any(|m| {
            Some(m.kind) == leaving && epoch.span.0 < m.at.0 && m.at.0 <= epoch.span.1 + LATE_MARKER
        })
    };
    lasted >= packets && (lasted >= DWELL || told())
}

/// Returns for each lane the last probe on its old path and the first on its last new one.
pub(super) fn lanes(group: &Group<'_>) -> BTreeMap<Lane, (Wall, Wall)> {
    let mut lanes: BTreeMap<Lane, (Wall, Wall)> = BTreeMap::new();
    for m in &group.moves {
        let entry = lanes.entry(m.lane).or_insert((m.from, m.done));
        *entry = (entry.0.min(m.from), entry.1.max(m.done));
    }
    lanes
}
