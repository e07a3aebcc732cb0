//! Assigns traceroutes to the epochs of the way out: names, hops, and changes of path that the
//! hop count does not show.

use super::name::{by_hop_count, classify, trace_addresses};
use super::{Epoch, PathId, Paths, rewritten, sent_at, span};
use crate::align::{Run, Sample, Session};
use crate::findings::{Direction, NamedBy};
use crate::outage::evidence;
use hopgap_proto::plan::Objective;
use hopgap_proto::record::Trace;
use hopgap_proto::time::{Mono, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A traceroute and what it says of the route.
#[derive(Clone, Copy)]
struct Opinion<'a> {
    trace: &'a Trace,
    path: Option<PathId>,
    /// The hop at which it reached the target, if only traceroutes tell the distance.
    hop: Option<u8>,
}

impl Opinion<'_> {
    fn agrees(&self, other: &Self) -> bool {
        self.says() == other.says()
    }

    fn says(&self) -> (Option<PathId>, Option<u8>) {
        (self.path, self.hop)
    }
}

/// What is needed to name epochs.
struct Names<'a> {
    run: &'a Run,
    samples: &'a [Sample],
    paths: Paths<'a>,
    objective: &'a Objective,
    /// Time between two traceroutes of the flow.
    every: Span,
}

/// Names the epochs of one flow of one run, and splits those that hold several paths.
pub(super) fn by_traces(
    session: &Session<'_>,
    run: &Run,
    flow: u8,
    mut epochs: Vec<Epoch>,
    paths: Paths<'_>,
    objective: &Objective,
) -> Vec<Epoch> {
    let traces: Vec<&Trace> = run.traces.iter().filter(|t| t.flow.0 == flow).collect();
    let samples = run.flows.get(&flow).map_or(&[][..], |f| &f.samples);
    let names = Names {
        run,
        samples,
        paths,
        objective,
        every: session.plan.trace_interval,
    };
    let no_hop_counts = rewritten::find(&epochs, samples, &traces);
    for epoch in &mut epochs {
        if epoch.distance.is_some_and(|d| no_hop_counts.contains(&d)) {
            epoch.rewritten = true;
            epoch.hop = None;
        }
    }
    let ends: Vec<Mono> = epochs
        .iter()
        .skip(1)
        .map(|next| sent_at(samples, next.first))
        .chain([Mono::MAX])
        .collect();
    let mut named = Vec::with_capacity(epochs.len());
    for (epoch, next_first) in epochs.into_iter().zip(ends) {
        let from = sent_at(samples, epoch.first);
        let begin = traces.partition_point(|t| t.started < from);
        let within: Vec<&Trace> = traces
            .get(begin..)
            .unwrap_or_default()
            .iter()
            .copied()
            .take_while(|t| t.started < next_first)
            .filter(|t| match (t.reached_at, epoch.hop) {
                (Some(at), Some(hop)) => at == hop,
                // If TTLs count no routers, only time relates probes and traceroutes.
                _ => t.finished < next_first,
            })
            .collect();
        names.name_or_split(epoch, &within, &mut named);
    }
    named
}

impl Names<'_> {
    fn name_or_split(&self, mut epoch: Epoch, traces: &[&Trace], out: &mut Vec<Epoch>) {
        let opinions = confirmed(&epoch, opinions(&epoch, traces, self.paths));
        let pieces: Vec<&[Opinion<'_>]> = opinions.chunk_by(Opinion::agrees).collect();
        if pieces.len() < 2 {
            let first = opinions.first();
            if epoch.rewritten {
                epoch.hop = first.and_then(|o| o.hop);
            }
            epoch.hops = hops(&epoch, traces);
            match first.and_then(|o| o.path) {
                Some(path) => name(&mut epoch, path, self.paths),
                None if epoch.rewritten => {}
                None => by_hop_count(&mut epoch, self.paths),
            }
            out.push(epoch);
            return;
        }

        // Cut the epoch between the pieces.
        let mut first = epoch.first;
        let mut dated_by_traces = false;
        for (i, piece) in pieces.iter().enumerate() {
            let Some((own_last, own_first)) = piece.last().zip(piece.first()) else {
                continue;
            };
            let cut = pieces
                .get(i + 1)
                .and_then(|next| next.first())
                .and_then(|next| self.cut((first, epoch.last), own_last, next));
            let last = cut.map_or(epoch.last, |c| c.last_before);
            let own: Vec<&Trace> = traces
                .iter()
                .copied()
                .filter(|t| {
                    own_first.trace.started <= t.started && t.started <= own_last.trace.started
                })
                .collect();
            let mut part = Epoch {
                first,
                last,
                probes: seen(self.samples, first, last),
                dated_by_traces,
                span: span(self.run, self.samples, first, last),
                hop: if epoch.rewritten {
                    own_first.hop
                } else {
                    epoch.hop
                },
                ..epoch.clone()
            };
            part.hops = hops(&part, &own);
            if let Some(path) = own_first.path {
                name(&mut part, path, self.paths);
            }
            out.push(part);
            match cut {
                Some(c) => {
                    first = c.first_after;
                    dated_by_traces = c.dated_by_traces;
                }
                None => break,
            }
        }
    }
}

fn name(epoch: &mut Epoch, path: PathId, paths: Paths<'_>) {
    epoch.path = Some(path);
    epoch.named_by = NamedBy::Trace;
    epoch.role = paths.plan(Some(path)).map(|p| p.role);
}

fn opinions<'a>(epoch: &Epoch, traces: &[&'a Trace], paths: Paths<'_>) -> Vec<Opinion<'a>> {
    let mut opinions: Vec<Opinion<'a>> = traces
        .iter()
        .filter_map(|trace| {
            let hop = epoch.hop.or(trace.reached_at);
            let path = classify(paths, &trace_addresses(trace), hop);
            let says = if epoch.rewritten {
                trace.reached_at.is_some()
            } else {
                path.is_some()
            };
            says.then_some(Opinion {
                trace,
                path,
                hop: trace.reached_at.filter(|_| epoch.rewritten),
            })
        })
        .collect();
    let by_address = |o: &Opinion<'_>| paths.plan(o.path).is_some_and(|p| !p.passes.is_empty());
    // At the same number of hops, a silent router does not make another path.
    let at: BTreeSet<Option<u8>> = opinions
        .iter()
        .filter(|o| by_address(o))
        .map(|o| o.hop)
        .collect();
    opinions.retain(|o| by_address(o) || !at.contains(&o.hop));
    opinions
}

/// Returns the opinions that another round or the hop count confirms: a single traceroute may be
/// forged, or have met two paths. If all opinions of an epoch agree, the target at the epoch's
/// hop count confirms them as well as a second round. If not, all paths among them have that hop
/// count, and each needs two rounds in a row.
fn confirmed<'a>(epoch: &Epoch, mut opinions: Vec<Opinion<'a>>) -> Vec<Opinion<'a>> {
    let agree = opinions.windows(2).all(|w| match w {
        [a, b] => a.agrees(b),
        _ => true,
    });
    let at_hop = |o: &Opinion<'_>| epoch.hop.is_some() && o.trace.reached_at == epoch.hop;
    if agree && (opinions.len() > 1 || opinions.iter().any(at_hop)) {
        return opinions;
    }
    let mut times: BTreeMap<(Option<PathId>, Option<u8>), usize> = BTreeMap::new();
    for opinion in &opinions {
        *times.entry(opinion.says()).or_default() += 1;
    }
    // One deviating traceroute does not end the series around it.
    if times.values().any(|n| *n > 1) {
        opinions.retain(|o| times.get(&o.says()).is_some_and(|n| *n > 1));
    }
    let pieces = opinions.chunk_by(|a, b| a.agrees(b));
    pieces
        .filter(|piece| piece.len() > 1)
        .flatten()
        .copied()
        .collect()
}

#[derive(Clone, Copy)]
struct Cut {
    last_before: usize,
    first_after: usize,
    dated_by_traces: bool,
}

/// Most traceroute intervals between a traceroute and the end of an outage for that outage to be
/// the change of path.
const SOON: i64 = 2;

impl Names<'_> {
    /// Finds where the path changed between two traceroutes: at the outage between them if there
    /// is exactly one and it is close to both; else between the last probe that the first one
    /// covers and the first that the second one covers. `None` if no probe is left after the
    /// change.
    fn cut(
        &self,
        (first, last): (usize, usize),
        before: &Opinion<'_>,
        after: &Opinion<'_>,
    ) -> Option<Cut> {
        let samples = self.samples;
        let within = samples.get(first..=last)?;
        let good = |s: &Sample| evidence(s.fate, Direction::Forward) == Some(true);
        let low = first + within.partition_point(|s| s.sent <= before.trace.started);
        let high = first + within.partition_point(|s| s.sent < after.trace.finished);
        let last_before = (first..low)
            .rev()
            .find(|i| samples.get(*i).is_some_and(good))
            .unwrap_or(first);
        let first_after = (high..=last).find(|i| samples.get(*i).is_some_and(good))?;

        let mut outages = Vec::new();
        let mut lost = 0;
        let mut good_before = last_before;
        for i in last_before..=first_after {
            let Some(s) = samples.get(i) else { continue };
            if s.fate.is_lost() && !good(s) {
                lost += 1;
            } else if good(s) {
                if lost >= self.objective.min_lost.max(1) {
                    outages.push((good_before, i));
                }
                lost = 0;
                good_before = i;
            }
        }
        let soon = self.every * SOON + Span::from_millis(500);
        let is_close = |(a, b): &(usize, usize)| {
            sent_at(samples, *a) - before.trace.finished <= soon
                && after.trace.started - sent_at(samples, *b) <= soon
        };
        Some(match outages.as_slice() {
            [only @ (last_before, first_after)] if is_close(only) => Cut {
                last_before: *last_before,
                first_after: *first_after,
                dated_by_traces: false,
            },
            _ => Cut {
                last_before,
                first_after: first_after.max(last_before + 1).min(last),
                dated_by_traces: true,
            },
        })
    }
}

fn seen(samples: &[Sample], first: usize, last: usize) -> u64 {
    let within = samples.get(first..=last).unwrap_or_default();
    crate::loss::len(
        within
            .iter()
            .filter(|s| evidence(s.fate, Direction::Forward) == Some(true))
            .count(),
    )
}

/// Returns the address that most traceroutes saw at each hop, up to the target.
fn hops(epoch: &Epoch, traces: &[&Trace]) -> Vec<Option<IpAddr>> {
    let tried = traces.iter().map(|t| t.hops.len()).max().unwrap_or(0);
    if tried == 0 {
        return Vec::new();
    }
    let target = epoch
        .hop
        .or_else(|| traces.iter().filter_map(|t| t.reached_at).max());
    let length = target.map_or(tried, usize::from);
    let mut seen: Vec<BTreeMap<IpAddr, u64>> = vec![BTreeMap::new(); length];
    for trace in traces {
        for hop in &trace.hops {
            let at = usize::from(hop.ttl).checked_sub(1);
            if let Some(seen) = at.and_then(|i| seen.get_mut(i)) {
                for reply in &hop.replies {
                    *seen.entry(reply.from).or_default() += 1;
                }
            }
        }
    }
    seen.iter()
        .map(|seen| {
            seen.iter()
                .max_by_key(|(address, n)| (**n, core::cmp::Reverse(**address)))
                .map(|(address, _)| *address)
        })
        .collect()
}
