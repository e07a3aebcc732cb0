//! Stretches in which the two directions of a flow took different named paths.

use crate::align::{Run, Sample};
use crate::findings::Asymmetry;
use crate::outage::point;
use crate::path::{PathId, Paths};
use crate::schema::Nanos;

/// One answered probe may catch the change itself: fewer than this are no stretch.
const LEAST: u64 = 2;

#[derive(Clone, Copy)]
struct Stretch<'a> {
    pair: (PathId, PathId),
    first: &'a Sample,
    last: &'a Sample,
    probes: u64,
}

/// The asymmetric stretches of one flow in one run. Probes of which one path is not
/// known neither begin nor end one.
pub(crate) fn find(run: &Run, flow: u8, samples: &[Sample], paths: &Paths<'_>) -> Vec<Asymmetry> {
    let mut found = Vec::new();
    let mut open: Option<Stretch<'_>> = None;
    for s in samples.iter().filter(|s| s.replied) {
        let (Some(forward), Some(reverse)) = (s.forward_path, s.reverse_path) else {
            continue;
        };
        match &mut open {
            Some(stretch) if stretch.pair == (forward, reverse) => {
                stretch.last = s;
                stretch.probes += 1;
            }
            _ => {
                found.extend(open.take().and_then(|o| close(run, flow, o, paths)));
                open = (forward != reverse).then_some(Stretch {
                    pair: (forward, reverse),
                    first: s,
                    last: s,
                    probes: 1,
                });
            }
        }
    }
    found.extend(open.and_then(|o| close(run, flow, o, paths)));
    found
}

fn close(run: &Run, flow: u8, stretch: Stretch<'_>, paths: &Paths<'_>) -> Option<Asymmetry> {
    (stretch.probes >= LEAST).then(|| Asymmetry {
        flow,
        forward: paths.name(Some(stretch.pair.0)),
        reverse: paths.name(Some(stretch.pair.1)),
        first: point(run, stretch.first),
        last: point(run, stretch.last),
        lasted_ns: Nanos(stretch.last.sent - stretch.first.sent),
    })
}
