//! Groups outages and path changes into transitions.

use super::moves::{self, Group, Lane, Move};
use super::steady::Steady;
use super::{LATE_MARKER, PACKETS, Scene, rows};
use crate::align::Sample;
use crate::findings::{Direction, MarkerKind, Outage};
use hopgap_proto::time::{Span, Wall};

/// Loss within this time before the first path change belongs to the transition.
const BEFORE: Span = Span::from_secs(1);

/// Something that happened to one direction of one flow.
#[derive(Clone, Copy)]
pub(super) struct Incident<'a> {
    pub(super) session: usize,
    pub(super) flow: u8,
    from: Wall,
    to: Wall,
    /// The outage; `None` for a path change.
    pub(super) outage: Option<&'a Outage>,
}

/// The incidents of one transition and the time around it.
pub(super) struct Cluster<'a> {
    pub(super) incidents: Vec<Incident<'a>>,
    pub(super) started: Wall,
    /// The end of its last incident.
    pub(super) end: Wall,
    /// When all was good again, as far as the data go.
    pub(super) settled: Wall,
    /// `settled`, if the data proves it.
    pub(super) recovered: Option<Wall>,
    /// When the transition before had ended.
    pub(super) not_before: Wall,
    /// When the next transition starts.
    pub(super) not_after: Wall,
    /// From the first path change to the last; `None` without any.
    changed: Option<(Wall, Wall)>,
}

impl<'a> Cluster<'a> {
    fn new(from: Wall, to: Wall) -> Self {
        Self {
            incidents: Vec::new(),
            started: from,
            end: to,
            settled: to,
            recovered: None,
            not_before: Wall::MIN,
            not_after: Wall::MAX,
            changed: None,
        }
    }

    fn of_moves(group: &Group<'a>) -> Self {
        let mut cluster = Self::new(group.begun, group.done);
        cluster.changed = Some((group.begun, group.done));
        cluster.incidents = group.moves.iter().map(change).collect();
        cluster
    }

    fn add(&mut self, incident: Incident<'a>) {
        self.started = self.started.min(incident.from);
        self.end = self.end.max(incident.to);
        self.incidents.push(incident);
    }

    /// Whether it has moved flows from one path to another.
    pub(super) fn has_moves(&self) -> bool {
        self.changed.is_some()
    }

    /// Returns when the next transition begins, if it is too soon to say whether this one's
    /// traffic would have stayed unimpaired.
    pub(super) fn cut_short(&self, stable: Span) -> Option<Wall> {
        let next = (self.not_after != Wall::MAX).then_some(self.not_after)?;
        (self.recovered.is_some() && next - self.settled < stable).then_some(next)
    }
}

impl Cluster<'_> {
    /// Whether its outages had not ended when the next transition began.
    pub(super) fn goes_on_into_next(&self) -> bool {
        self.not_after != Wall::MAX && self.settled >= self.not_after
    }
}

fn change<'a>(m: &Move<'_>) -> Incident<'a> {
    Incident {
        session: m.lane.0,
        flow: m.lane.2,
        from: m.begun,
        to: m.done,
        outage: None,
    }
}

/// An outage and where it was.
#[derive(Clone, Copy)]
struct Lost<'a> {
    lane: Lane,
    outage: &'a Outage,
}

impl<'a> Lost<'a> {
    fn from(&self) -> Wall {
        self.outage.began.0
    }
    fn to(&self) -> Wall {
        let last = self.outage.last_lost.sent.max(self.outage.began);
        self.outage.ended.unwrap_or(last).0
    }
    fn incident(&self) -> Incident<'a> {
        Incident {
            session: self.lane.0,
            flow: self.lane.2,
            from: self.from(),
            to: self.to(),
            outage: Some(self.outage),
        }
    }
}

/// All transitions, in the order of time.
pub(super) fn find<'a>(scene: &Scene<'a>, steady: &Steady) -> Vec<Cluster<'a>> {
    let groups = moves::groups(scene);
    let mut clusters: Vec<Cluster<'a>> = groups.iter().map(Cluster::of_moves).collect();
    let (mut rest, chance) = outages(scene, steady);

    // First with their own flow's change of path, then with a transition that they touch.
    for (cluster, group) in clusters.iter_mut().zip(&groups) {
        let lanes = moves::lanes(group);
        rest.retain(|lost| {
            let own = own_move(&lanes, lost).is_some_and(|(from, to)| {
                lost.from() <= to && from <= lost.to() && !is_of_before(scene, group, lost)
            });
            if own {
                cluster.add(lost.incident());
            }
            !own
        });
    }
    flickers(scene, &mut clusters);
    for (i, group) in groups.iter().enumerate() {
        let (ended, _) = bounds(&clusters, i);
        if let Some(cluster) = clusters.get_mut(i) {
            attach_close(scene, cluster, group, ended, &mut rest);
        }
    }
    for i in 0..groups.len() {
        let (_, next) = bounds(&clusters, i);
        if let Some(cluster) = clusters.get_mut(i) {
            attach_following(scene, cluster, next, &mut rest);
        }
    }
    interruptions(scene, &mut clusters, rest);
    by_chance(scene, &mut clusters, chance);
    clusters.sort_by_key(|c| (c.started, c.end));
    place(scene, steady, &mut clusters);
    clusters
}

/// Returns when the flow of an outage moved, in the outage's direction.
fn own_move(
    lanes: &std::collections::BTreeMap<Lane, (Wall, Wall)>,
    lost: &Lost<'_>,
) -> Option<(Wall, Wall)> {
    let (session, direction, flow) = lost.lane;
    let of = |direction| lanes.get(&(session, direction, flow)).copied();
    match direction {
        Direction::Unknown => of(Direction::Forward).or(of(Direction::Reverse)),
        known => of(known),
    }
}

/// Whether an outage was over before somebody announced the changes of a group.
fn is_of_before(scene: &Scene<'_>, group: &Group<'_>, lost: &Lost<'_>) -> bool {
    let by_traces = group.moves.iter().all(Move::dated_by_traces);
    let touches = group.begun <= lost.to() && !by_traces;
    !touches
        && scene.markers.iter().any(|m| {
            m.kind != MarkerKind::Note
                && lost.to() + LATE_MARKER < m.at.0
                && m.at.0 <= group.done + LATE_MARKER
        })
}

/// Returns all outages in the order of time, and separately those that a steady loss explains.
fn outages<'a>(scene: &Scene<'a>, steady: &Steady) -> (Vec<Lost<'a>>, Vec<Lost<'a>>) {
    let mut all: Vec<(Lost<'a>, bool)> = Vec::new();
    for (session, found) in scene.found.iter().enumerate() {
        for flow in &found.flows {
            all.extend(flow.outages.iter().enumerate().map(|(i, outage)| {
                let lost = Lost {
                    lane: (session, outage.direction, flow.flow),
                    outage,
                };
                (lost, steady.explains(session, flow.flow, i))
            }));
        }
    }
    all.sort_by_key(|(l, _)| (l.from(), l.to(), l.lane));
    let (chance, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, by_chance)| *by_chance);
    let outages = |all: Vec<(Lost<'a>, bool)>| all.into_iter().map(|(lost, _)| lost).collect();
    (outages(rest), outages(chance))
}

/// Adds flows that left their path for a moment: to a transition that they touch, or as one of
/// their own.
fn flickers<'a>(scene: &Scene<'a>, clusters: &mut Vec<Cluster<'a>>) {
    let mut changes: Vec<Incident<'a>> = Vec::new();
    for (session, epochs) in scene.epochs.iter().enumerate() {
        for (flow, epochs) in epochs.forward.iter().chain(&epochs.reverse) {
            for pair in epochs.windows(2) {
                if let [old, new] = pair
                    && old.differs(new)
                {
                    changes.push(Incident {
                        session,
                        flow: *flow,
                        from: new.span.0,
                        to: new.span.0,
                        outage: None,
                    });
                }
            }
        }
    }
    changes.sort_by_key(|i| (i.from, i.session));
    let moved = clusters.len();
    for change in changes {
        let at = change.from;
        let (moves, own) = clusters.split_at_mut(moved);
        // The last one that had begun, else the next one where that is close.
        let next = moves.partition_point(|c| c.changed.is_some_and(|(from, _)| from <= at));
        let stable = scene.objective.stable;
        let near_after = next
            .checked_sub(1)
            .filter(|i| moves.get(*i).is_some_and(|c| at - c.end <= stable));
        let near_before =
            Some(next).filter(|i| moves.get(*i).is_some_and(|c| c.started - at <= BEFORE));
        let own_last = own.last_mut().filter(|c| at - c.end <= stable);
        if let Some(cluster) = near_after.or(near_before).and_then(|i| moves.get_mut(i)) {
            cluster.add(change);
        } else if let Some(cluster) = own_last {
            cluster.add(change);
        } else {
            let mut cluster = Cluster::new(at, at);
            cluster.add(change);
            clusters.push(cluster);
        }
    }
}

/// Returns the end of the transition before and the first path change of the next.
fn bounds(clusters: &[Cluster<'_>], i: usize) -> (Wall, Wall) {
    let before = i.checked_sub(1).and_then(|i| clusters.get(i));
    let after = clusters.get(i + 1).and_then(|c| c.changed);
    (
        before.map_or(Wall::MIN, |c| c.end),
        after.map_or(Wall::MAX, |(from, _)| from),
    )
}

/// Adds what overlaps a transition, and what comes shortly before.
fn attach_close<'a>(
    scene: &Scene<'a>,
    cluster: &mut Cluster<'a>,
    group: &Group<'a>,
    not_before: Wall,
    rest: &mut Vec<Lost<'a>>,
) {
    // From the last to the first, as a loss shortly before may chain to another one.
    let mut kept: Vec<Lost<'a>> = Vec::new();
    for lost in rest.drain(..).rev() {
        let close = lost.from() <= cluster.end
            && cluster.started - lost.to() <= BEFORE
            && not_before <= lost.to();
        if close && !is_of_before(scene, group, &lost) {
            cluster.add(lost.incident());
        } else {
            kept.push(lost);
        }
    }
    kept.reverse();
    *rest = kept;
}

/// Adds what was lost after a transition before traffic was stable.
fn attach_following<'a>(
    scene: &Scene<'a>,
    cluster: &mut Cluster<'a>,
    not_after: Wall,
    rest: &mut Vec<Lost<'a>>,
) {
    rest.retain(|lost| {
        let follows = cluster.started <= lost.from()
            && lost.from() - cluster.end <= scene.objective.stable
            && lost.from() < not_after;
        if follows {
            cluster.add(lost.incident());
        }
        !follows
    });
}

/// Adds losses of connectivity without a lasting change of path.
fn interruptions<'a>(scene: &Scene<'a>, clusters: &mut Vec<Cluster<'a>>, rest: Vec<Lost<'a>>) {
    let stable = scene.objective.stable;
    let (moved, mut own): (Vec<_>, Vec<_>) = std::mem::take(clusters)
        .into_iter()
        .partition(Cluster::has_moves);
    for lost in rest {
        let between = |c: &Cluster<'_>| {
            moved
                .iter()
                .any(|m| c.started <= m.started && m.started <= lost.from())
        };
        let near = own.iter_mut().find(|c| {
            c.started - stable <= lost.to() && lost.from() - c.end <= stable && !between(c)
        });
        match near {
            Some(cluster) => cluster.add(lost.incident()),
            None => {
                let mut cluster = Cluster::new(lost.from(), lost.to());
                cluster.add(lost.incident());
                own.push(cluster);
            }
        }
    }
    clusters.extend(moved);
    clusters.extend(own);
}

/// Adds chance outages from a steady loss. One inside a transition belongs to it and changes
/// nothing of it; the others are interruptions that end where a transition begins.
fn by_chance<'a>(scene: &Scene<'a>, clusters: &mut Vec<Cluster<'a>>, chance: Vec<Lost<'a>>) {
    let stable = scene.objective.stable;
    let mut own: Vec<Cluster<'a>> = Vec::new();
    for lost in chance {
        let around = clusters
            .iter_mut()
            .find(|c| c.started <= lost.to() && lost.from() <= c.end);
        if let Some(cluster) = around {
            cluster.incidents.push(lost.incident());
            continue;
        }
        let is_between =
            |c: &Cluster<'_>, since: Wall| since <= c.started && c.started <= lost.from();
        let last = own.last_mut().filter(|o| {
            lost.from() - o.end <= stable && !clusters.iter().any(|c| is_between(c, o.started))
        });
        match last {
            Some(cluster) => cluster.add(lost.incident()),
            None => {
                let mut cluster = Cluster::new(lost.from(), lost.to());
                cluster.add(lost.incident());
                own.push(cluster);
            }
        }
    }
    clusters.extend(own);
}

/// Bounds every transition by its neighbours, and finds when it was over.
fn place(scene: &Scene<'_>, steady: &Steady, clusters: &mut [Cluster<'_>]) {
    const NEXT: Span = Span::from_nanos(1);
    // A transition that begins while another has not ended takes over.
    for i in 1..clusters.len() {
        let (before, rest) = clusters.split_at_mut(i);
        let (Some(before), Some(next)) = (before.last_mut(), rest.first_mut()) else {
            continue;
        };
        if let Some((_, done)) = before.changed {
            next.started = next.started.max(done + NEXT);
            next.end = next.end.max(next.started);
        }
        before.end = before.end.min(next.started - NEXT).max(before.started);
    }
    let starts: Vec<Wall> = clusters.iter().skip(1).map(|c| c.started).collect();
    let mut not_before = Wall::MIN;
    for (i, cluster) in clusters.iter_mut().enumerate() {
        cluster.not_before = not_before;
        cluster.not_after = starts.get(i).copied().unwrap_or(Wall::MAX);
        cluster.settled = settled(scene, steady, cluster);
        cluster.recovered = recovered(scene, cluster);
        not_before = cluster.end;
    }
}

/// Returns the first good probe after the last incident and after impaired probes of a flow close
/// behind. What a steady loss explains does not count.
fn settled(scene: &Scene<'_>, steady: &Steady, cluster: &Cluster<'_>) -> Wall {
    let until = (cluster.end + scene.objective.stable).min(cluster.not_after);
    let mut settled = cluster.end;
    for (place, session) in scene.sessions.iter().enumerate() {
        let reach = session.plan.interval * PACKETS;
        for run in &session.runs {
            for (flow, records) in &run.flows {
                let utc = |s: &Sample| run.timeline.utc(s.sent);
                let samples = &records.samples;
                let begin = samples.partition_point(|s| utc(s) < cluster.end);
                let after = samples.get(begin..).unwrap_or_default();
                let mut own = cluster.end;
                for (i, s) in after.iter().enumerate() {
                    let at = utc(s);
                    if at > until || at - own > reach {
                        break;
                    }
                    let lost = s.fate.is_lost() && steady.is_steady(place, *flow);
                    if rows::is_impaired(s) && !lost {
                        own = after.get(i + 1).map_or(at, utc);
                    }
                }
                settled = settled.max(own);
            }
        }
    }
    settled.min(cluster.not_after)
}

/// Returns when it settled, if every session that took part was observed long enough after it.
fn recovered(scene: &Scene<'_>, cluster: &Cluster<'_>) -> Option<Wall> {
    let goes_on = cluster
        .incidents
        .iter()
        .filter_map(|i| i.outage)
        .any(|o| o.ended.is_none_or(|ended| ended.0 > cluster.not_after));
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
