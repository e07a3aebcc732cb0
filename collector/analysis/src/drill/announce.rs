//! Assigns markers to the transitions that they announced.

use super::{ANNOUNCED, LATE_MARKER, NOTED, Scene};
use crate::drill::cluster::Cluster;
use crate::findings::{Marker, MarkerKind, TransitionKind};
use crate::note::{Note, UnfollowedMarker};
use crate::schema::Utc;
use hopgap_proto::time::{Span, Wall};

/// Returns the marker of each transition, and notes on the markers that announced none.
pub(super) fn assign<'a>(
    scene: &Scene<'a>,
    clusters: &[(Cluster<'a>, TransitionKind)],
) -> (Vec<Option<&'a Marker>>, Vec<Note>) {
    let mut markers: Vec<Option<&Marker>> = vec![None; clusters.len()];
    // A failover gets the marker of its kind, whatever was lost between the two.
    let mut moved_before = Wall::MIN;
    for ((cluster, kind), place) in clusters.iter().zip(&mut markers) {
        if let Some(says) = announces(*kind) {
            *place = scene.markers.iter().rfind(|m| {
                m.kind == says && moved_before <= m.at.0 && is_near(m, cluster, ANNOUNCED)
            });
        }
        if cluster.has_moves() {
            moved_before = cluster.started;
        }
    }
    for (i, (cluster, kind)) in clusters.iter().enumerate() {
        if markers.get(i).copied().flatten().is_some() {
            continue;
        }
        let is_free = |m: &&Marker| {
            cluster.not_before <= m.at.0 && !markers.iter().flatten().any(|used| used == m)
        };
        // A marker of the opposite kind does not fit.
        let fits = |m: &&Marker| {
            m.kind != MarkerKind::Note && announces(*kind).is_none_or(|says| says == m.kind)
        };
        let all = || scene.markers.iter().filter(is_free);
        let found = all()
            .filter(fits)
            .rfind(|m| is_near(m, cluster, ANNOUNCED))
            .or_else(|| {
                all()
                    .filter(|m| m.kind == MarkerKind::Note)
                    .rfind(|m| is_near(m, cluster, NOTED))
            });
        if let Some(place) = markers.get_mut(i) {
            *place = found;
        }
    }
    let left = scene
        .markers
        .iter()
        .filter(|m| m.kind != MarkerKind::Note && !markers.iter().flatten().any(|used| used == m));
    let notes = left.map(|m| unfollowed(m, clusters)).collect();
    (markers, notes)
}

/// Returns the kind of marker that announces this kind of transition; `None`: either.
fn announces(kind: TransitionKind) -> Option<MarkerKind> {
    match kind {
        TransitionKind::Failover => Some(MarkerKind::Failover),
        TransitionKind::Failback => Some(MarkerKind::Failback),
        TransitionKind::Reroute | TransitionKind::Interruption => None,
    }
}

fn is_near(marker: &Marker, cluster: &Cluster<'_>, reach: Span) -> bool {
    marker.at.0 <= cluster.started + LATE_MARKER && cluster.started - marker.at.0 <= reach
}

fn unfollowed(marker: &Marker, clusters: &[(Cluster<'_>, TransitionKind)]) -> Note {
    let within = clusters.iter().map(|(c, _)| c).find(|c| {
        let until = c.recovered.unwrap_or(c.not_after);
        c.started <= marker.at.0 && marker.at.0 <= until + LATE_MARKER
    });
    Note::UnfollowedMarker(UnfollowedMarker {
        marker: marker.clone(),
        within: within.map(|c| Utc(c.started)),
        ended: within.and_then(|c| c.recovered).map(Utc),
    })
}
