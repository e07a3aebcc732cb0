//! Traceroutes put to the epochs of the way out: names, hops, and changes of path that
//! the hop count does not show.

use super::name::{by_hop_count, classify, trace_addresses};
use super::{Epoch, PathId, Paths, sent_at, span};
use crate::align::{FlowRun, Run, Sample};
use crate::findings::{Direction, NamedBy};
use crate::outage::evidence;
use hopgap_proto::plan::Objective;
use hopgap_proto::record::Trace;
use hopgap_proto::time::Mono;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A traceroute and the path that it names.
#[derive(Clone, Copy)]
struct Opinion<'a> {
    trace: &'a Trace,
    path: PathId,
}

/// Names the epochs of one flow of one run, and splits those that hold several paths.
pub(super) fn by_traces(
    run: &Run,
    flow: u8,
    records: &FlowRun,
    epochs: Vec<Epoch>,
    paths: Paths<'_>,
    objective: &Objective,
) -> Vec<Epoch> {
    let traces: Vec<&Trace> = run.traces.iter().filter(|t| t.flow.0 == flow).collect();
    // A device that rewrites TTLs makes hop counts of probes and traceroutes differ
    // everywhere: then only time relates them.
    let comparable = traces
        .iter()
        .filter_map(|t| t.reached_at)
        .any(|at| epochs.iter().any(|e| e.hop == Some(at)));
    let samples = &records.samples;
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
                (Some(at), Some(hop)) if comparable => at == hop,
                _ => t.finished < next_first,
            })
            .collect();
        name_or_split(run, samples, epoch, &within, paths, objective, &mut named);
    }
    named
}

fn name_or_split(
    run: &Run,
    samples: &[Sample],
    mut epoch: Epoch,
    traces: &[&Trace],
    paths: Paths<'_>,
    objective: &Objective,
    out: &mut Vec<Epoch>,
) {
    let opinions = confirmed(&epoch, opinions(&epoch, traces, paths));
    let pieces: Vec<&[Opinion<'_>]> = opinions.chunk_by(|a, b| a.path == b.path).collect();
    if pieces.len() < 2 {
        epoch.hops = hops(&epoch, traces);
        match opinions.first() {
            Some(opinion) => name(&mut epoch, opinion.path, paths),
            None => by_hop_count(&mut epoch, paths),
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
            .and_then(|next| cut(samples, (first, epoch.last), own_last, next, objective));
        let last = cut.map_or(epoch.last, |c| c.last_before);
        let own: Vec<&Trace> = traces
            .iter()
            .copied()
            .filter(|t| own_first.trace.started <= t.started && t.started <= own_last.trace.started)
            .collect();
        let mut part = Epoch {
            first,
            last,
            probes: seen(samples, first, last),
            dated_by_traces,
            span: span(run, samples, first, last),
            ..epoch.clone()
        };
        part.hops = hops(&part, &own);
        name(&mut part, own_first.path, paths);
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
            classify(paths, &trace_addresses(trace), hop).map(|path| Opinion { trace, path })
        })
        .collect();
    let by_address = |o: &Opinion<'_>| {
        paths
            .plan(Some(o.path))
            .is_some_and(|p| !p.passes.is_empty())
    };
    if opinions.iter().any(by_address) {
        opinions.retain(by_address);
    }
    opinions
}

/// The opinions that another round, or the hop count, confirms: one traceroute alone may be
/// forged, or have met two paths. Where all of an epoch's agree, that the target stands at
/// the epoch's hop count is as good as a second round; where they do not, every path among
/// them has that hop count, and each needs two rounds in a row.
fn confirmed<'a>(epoch: &Epoch, mut opinions: Vec<Opinion<'a>>) -> Vec<Opinion<'a>> {
    let agree = opinions.windows(2).all(|w| match w {
        [a, b] => a.path == b.path,
        _ => true,
    });
    let at_hop = |o: &Opinion<'_>| epoch.hop.is_some() && o.trace.reached_at == epoch.hop;
    if agree && (opinions.len() > 1 || opinions.iter().any(at_hop)) {
        return opinions;
    }
    let mut times: BTreeMap<PathId, usize> = BTreeMap::new();
    for opinion in &opinions {
        *times.entry(opinion.path).or_default() += 1;
    }
    // What one traceroute says between others is not the end of what those say.
    if times.values().any(|n| *n > 1) {
        opinions.retain(|o| times.get(&o.path).is_some_and(|n| *n > 1));
    }
    let pieces = opinions.chunk_by(|a, b| a.path == b.path);
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

/// Where between two traceroutes the path changed: at the outage between them, if there
/// is exactly one; else between the last probe that the first one vouches for and the
/// first that the second does. `None` where no probe is left for what comes after.
fn cut(
    samples: &[Sample],
    (first, last): (usize, usize),
    before: &Opinion<'_>,
    after: &Opinion<'_>,
    objective: &Objective,
) -> Option<Cut> {
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
            if lost >= objective.min_lost.max(1) {
                outages.push((good_before, i));
            }
            lost = 0;
            good_before = i;
        }
    }
    Some(match outages.as_slice() {
        [(last_before, first_after)] => Cut {
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

fn seen(samples: &[Sample], first: usize, last: usize) -> u64 {
    let within = samples.get(first..=last).unwrap_or_default();
    crate::loss::len(
        within
            .iter()
            .filter(|s| evidence(s.fate, Direction::Forward) == Some(true))
            .count(),
    )
}

/// The address that most of the traceroutes saw at each hop, up to the target.
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
