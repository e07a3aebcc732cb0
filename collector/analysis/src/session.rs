//! The findings of one session.

use crate::align::Session;
use crate::findings::{Counts, Direction, FlowFindings, OneWayDelay, PathLatency, SessionFindings};
use crate::loss::{self, Fate};
use crate::oneway::{self, OneWay};
use crate::path::{PathId, Paths, SessionEpochs, way_back_hop};
use crate::schema::Nanos;
use crate::{asymmetry, latency, outage, path, path_mtu, seconds, stall, told, unfit};
use hopgap_proto::plan::Objective;
use hopgap_proto::time::Span;
use std::collections::BTreeMap;

/// Returns all findings of one session.
pub(crate) fn find(
    session: &Session<'_>,
    epochs: &SessionEpochs,
    paths: Paths<'_>,
    objective: &Objective,
) -> SessionFindings {
    let flows: Vec<FlowFindings> = session
        .flow_indices()
        .into_iter()
        .map(|flow| find_flow(session, flow, epochs, paths, objective))
        .collect();
    let mut counts = Counts::default();
    for flow in &flows {
        loss::add(&mut counts, &flow.counts);
    }
    let mut asymmetries: Vec<_> = session
        .runs
        .iter()
        .flat_map(|run| {
            run.flows
                .iter()
                .map(move |(flow, records)| (run, flow, records))
        })
        .flat_map(|(run, flow, records)| asymmetry::find(run, *flow, &records.samples, &paths))
        .collect();
    asymmetries.sort_by_key(|a| (a.first.sent, a.flow, a.first.seq));
    SessionFindings {
        session: session.plan.name.to_string(),
        from: session.plan.from.to_string(),
        to: session.to_name(),
        interval_ns: Nanos(session.plan.interval),
        direction_source: loss::direction_source(session),
        counts,
        flows,
        latency: latencies(session, paths),
        path_mtu: path_mtu::find(session, paths),
        seconds: seconds::of(session, &paths),
        asymmetries,
        host_stalls: stall::of(session),
        translations: told::translations(session),
        not_running: told::not_running_findings(session),
        unfit_icmp: unfit::find(session),
    }
}

fn find_flow(
    session: &Session<'_>,
    flow: u8,
    epochs: &SessionEpochs,
    paths: Paths<'_>,
    objective: &Objective,
) -> FlowFindings {
    let mut counts = Counts::default();
    let mut outages = Vec::new();
    let mut background = Vec::new();
    for run in &session.runs {
        let Some(records) = run.flows.get(&flow) else {
            continue;
        };
        loss::add(&mut counts, &loss::count(records));
        for direction in [Direction::Forward, Direction::Reverse, Direction::Unknown] {
            let interval = session.plan.interval;
            let flow = (run, records);
            let found = outage::find(flow, &session.log, direction, objective, interval);
            outages.extend(found.outages);
            background.extend(found.background);
        }
    }
    outages.sort_by_key(|o| (o.first_lost.sent, o.direction, o.first_lost.seq));
    background.sort_by_key(|p| (p.first.sent, p.direction, p.first.seq));
    let shown = |epochs: &BTreeMap<u8, Vec<path::Epoch>>| {
        epochs
            .get(&flow)
            .into_iter()
            .flatten()
            .filter_map(|e| path::shown(session, flow, e, paths))
            .collect()
    };
    FlowFindings {
        flow,
        source_port: session.source_port(flow),
        counts,
        outages,
        background,
        forward_paths: shown(&epochs.forward),
        reverse_paths: shown(&epochs.reverse),
    }
}

/// Round-trip latency by the pair of paths, in the plan's order of paths; probes whose
/// path has no name come last.
fn latencies(session: &Session<'_>, paths: Paths<'_>) -> Vec<PathLatency> {
    /// The hop count replaces the name of a way back without one.
    type Pair = (Option<PathId>, Option<PathId>, Option<u8>);
    let mut by_pair: BTreeMap<Pair, Values> = BTreeMap::new();
    for run in &session.runs {
        let one_way = oneway::of(run, session.plan.time_unit);
        for (flow, records) in &run.flows {
            let delays = one_way.get(flow).into_iter().flatten();
            for (s, delays) in records.samples.iter().zip(delays) {
                if s.fate != Fate::Answered {
                    continue;
                }
                let hop = way_back_hop(session, s).filter(|_| s.reverse_path.is_none());
                by_pair
                    .entry((s.forward_path, s.reverse_path, hop))
                    .or_default()
                    .add(s.round_trip, delays.as_ref());
            }
        }
    }
    let mut found: Vec<(Pair, PathLatency)> = by_pair
        .into_iter()
        .filter_map(|(pair, mut values)| {
            let forward = paths.name(pair.0);
            let reverse = paths.name(pair.1).or_else(|| paths.names_at(pair.2));
            Some((
                pair,
                PathLatency {
                    forward,
                    reverse,
                    round_trip: latency::of(&mut values.round_trip)?,
                    one_way: values.one_way(),
                },
            ))
        })
        .collect();
    found.sort_by_key(|((f, r, hop), _)| (f.is_none(), *f, r.is_none(), *r, *hop));
    found.into_iter().map(|(_, latency)| latency).collect()
}

/// The latencies of one pair of paths.
#[derive(Default)]
struct Values {
    round_trip: Vec<Span>,
    forward: Vec<Span>,
    reverse: Vec<Span>,
    bound: Span,
}

impl Values {
    fn add(&mut self, round_trip: Span, one_way: Option<&OneWay>) {
        self.round_trip.push(round_trip);
        if let Some(delays) = one_way {
            self.forward.push(delays.forward);
            self.reverse.push(delays.reverse);
            self.bound = self.bound.max(delays.bound);
        }
    }

    fn one_way(&mut self) -> Option<OneWayDelay> {
        Some(OneWayDelay {
            forward: latency::of(&mut self.forward)?,
            reverse: latency::of(&mut self.reverse)?,
            bound_ns: Nanos(self.bound),
        })
    }
}
