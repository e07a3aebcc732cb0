//! Whole seconds of a session, for plots.

use crate::align::{Sample, Session};
use crate::findings::Second;
use crate::latency;
use crate::loss::Fate;
use crate::path::{PathId, Paths};
use crate::schema::{Nanos, Utc};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

const NANOS: i64 = 1_000_000_000;

/// One entry for each whole second of UTC in which a probe was sent.
pub(crate) fn of(session: &Session<'_>, paths: &Paths<'_>) -> Vec<Second> {
    let mut samples: Vec<(i64, &Sample)> = session
        .runs
        .iter()
        .flat_map(|run| {
            run.flows
                .values()
                .flat_map(|f| &f.samples)
                .map(|s| (run.timeline.utc(s.sent).as_nanos().div_euclid(NANOS), s))
        })
        .collect();
    // Flows are sorted runs one after the other: a stable sort merges them.
    samples.sort_by_key(|(second, _)| *second);
    let mut round_trips = Vec::new();
    samples
        .chunk_by(|(a, _), (b, _)| a == b)
        .map(|chunk| second(chunk, &mut round_trips, paths))
        .collect()
}

fn second(chunk: &[(i64, &Sample)], round_trips: &mut Vec<Span>, paths: &Paths<'_>) -> Second {
    round_trips.clear();
    let mut lost = [0_u64; 3];
    let mut by_path: BTreeMap<PathId, u64> = BTreeMap::new();
    let mut sent = 0;
    for (_, s) in chunk {
        sent += 1;
        match s.fate {
            Fate::LostForward => lost[0] += 1,
            Fate::LostReverse => lost[1] += 1,
            Fate::LostUnknown => lost[2] += 1,
            Fate::Answered => round_trips.push(s.round_trip),
            Fate::Late | Fate::Dropped | Fate::NoData | Fate::Pending => {}
        }
        if s.replied
            && let Some(path) = s.forward_path
        {
            *by_path.entry(path).or_default() += 1;
        }
    }
    // Of equally frequent paths the one that the plan declares first.
    let path = by_path
        .iter()
        .max_by_key(|(id, n)| (**n, core::cmp::Reverse(**id)))
        .and_then(|(id, _)| paths.name(Some(*id)));
    let at = chunk
        .first()
        .map_or(0, |(second, _)| second.saturating_mul(NANOS));
    Second {
        at: Utc(Wall::from_nanos(at)),
        sent,
        lost_forward: lost[0],
        lost_reverse: lost[1],
        lost_unknown: lost[2],
        p50_ns: latency::quantile(round_trips, 500).map(Nanos),
        p99_ns: latency::quantile(round_trips, 990).map(Nanos),
        path,
    }
}
