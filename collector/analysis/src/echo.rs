//! ICMP echo of targets without an agent.

use crate::align::{Placed, Timeline};
use crate::drill::icmp;
use crate::findings::{EchoErrorFinding, EchoFindings, Window};
use crate::input::{EchoRecords, Input};
use crate::latency;
use crate::loss::len;
use crate::schema::Utc;
use hopgap_proto::record::{AgentName, Echo, Event, EventKind, RunId, TargetName};
use hopgap_proto::time::{ClockPair, Span, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A request, and its best round trip.
struct Request {
    at: Utc,
    round_trip: Option<Span>,
}

/// One entry for each target and asking agent, in the plan's order of targets; targets
/// that the plan lacks come last.
pub(crate) fn find(input: &Input, placed: &Placed) -> Vec<EchoFindings> {
    let mut by_target: BTreeMap<(usize, &TargetName, &AgentName), Vec<&EchoRecords>> =
        BTreeMap::new();
    for records in &input.echoes {
        let place = input
            .plan
            .echoes
            .iter()
            .position(|e| e.name == records.target)
            .unwrap_or(usize::MAX);
        by_target
            .entry((place, &records.target, &records.agent))
            .or_default()
            .push(records);
    }
    by_target
        .into_iter()
        .map(|((place, target, agent), parts)| {
            let address = input.plan.echoes.get(place).map(|e| e.target.to_string());
            let requests = requests(input, placed, &parts);
            let mut round_trips: Vec<Span> = requests.iter().filter_map(|r| r.round_trip).collect();
            EchoFindings {
                target: target.to_string(),
                from: agent.to_string(),
                address: address.unwrap_or_default(),
                sent: len(requests.len()),
                answered: len(round_trips.len()),
                round_trip: latency::of(&mut round_trips),
                silent: silent(&requests, input.plan.objective.min_lost.max(1)),
                errors: errors(input, placed, target, agent),
            }
        })
        .collect()
}

/// Returns ICMP errors that the agent's requests to the target provoked, by sender and meaning.
/// Every session's records hold the agent's own events.
fn errors(
    input: &Input,
    placed: &Placed,
    target: &TargetName,
    agent: &AgentName,
) -> Vec<EchoErrorFinding> {
    let mut seen: BTreeMap<(Wall, u16), (IpAddr, String)> = BTreeMap::new();
    let mut take = |run: RunId, clocks: &[ClockPair], events: &[Event]| {
        let mut timeline = Timeline::new(clocks.to_vec(), events);
        placed.set(agent, run, &mut timeline);
        for event in events {
            if let EventKind::EchoError(error) = &event.kind
                && error.target == *target
            {
                let meaning = icmp::meaning(error.from, error.icmp_type, error.code, None);
                let at = timeline.utc(event.at);
                seen.insert((at, error.seq), (error.from, meaning));
            }
        }
    };
    for session in &input.sessions {
        for run in session.sender.iter().filter(|r| r.agent == *agent) {
            take(run.run, &run.clocks, &run.events);
        }
        for run in session.reflector.iter().filter(|r| r.agent == *agent) {
            take(run.run, &run.clocks, &run.events);
        }
    }
    if let Some((from, to)) = input.window {
        seen.retain(|(at, _), _| from <= *at && *at <= to);
    }
    let mut by_kind: BTreeMap<(IpAddr, String), BTreeSet<(u16, Wall)>> = BTreeMap::new();
    for ((at, seq), kind) in seen {
        by_kind.entry(kind).or_default().insert((seq, at));
    }
    let mut found: Vec<EchoErrorFinding> = by_kind
        .into_iter()
        .filter_map(|((from, meaning), seen)| {
            let times = || seen.iter().map(|(_, at)| *at);
            Some(EchoErrorFinding {
                from: from.to_string(),
                meaning,
                count: len(seen.len()),
                first: Utc(times().min()?),
                last: Utc(times().max()?),
            })
        })
        .collect();
    found.sort_by(|a, b| (a.first, &a.from, &a.meaning).cmp(&(b.first, &b.from, &b.meaning)));
    found
}

/// The requests in the order of time, each once, with its best answer.
fn requests(input: &Input, placed: &Placed, parts: &[&EchoRecords]) -> Vec<Request> {
    let mut by_run: BTreeMap<(&AgentName, RunId), Vec<&EchoRecords>> = BTreeMap::new();
    for part in parts {
        by_run
            .entry((&part.agent, part.run))
            .or_default()
            .push(part);
    }
    let mut requests = Vec::new();
    for ((agent, run), parts) in by_run {
        let pairs = parts
            .iter()
            .flat_map(|p| p.clocks.iter().copied())
            .collect();
        let mut timeline = Timeline::new(pairs, &[]);
        placed.set(agent, run, &mut timeline);
        let mut echoes: Vec<&Echo> = parts.iter().flat_map(|p| &p.echoes).collect();
        // Answers sort before silence, and quick answers before slow ones.
        let key = |e: &Echo| (e.sent.at, e.seq, e.round_trip.is_none(), e.round_trip);
        echoes.sort_by_key(|e| key(e));
        echoes.dedup_by_key(|e| (e.sent.at, e.seq));
        requests.extend(echoes.into_iter().map(|e| Request {
            at: Utc(timeline.utc(e.sent.at)),
            round_trip: e.round_trip,
        }));
    }
    if let Some((from, to)) = input.window {
        requests.retain(|r| from <= r.at.0 && r.at.0 <= to);
    }
    requests.sort_by_key(|r| (r.at, r.round_trip.is_none(), r.round_trip));
    requests
}

/// Stretches of at least `least` requests in a row without a reply.
fn silent(requests: &[Request], least: u32) -> Vec<Window> {
    requests
        .chunk_by(|a, b| a.round_trip.is_none() == b.round_trip.is_none())
        .filter(|chunk| len(chunk.len()) >= u64::from(least))
        .filter_map(|chunk| {
            let (first, last) = (chunk.first()?, chunk.last()?);
            first.round_trip.is_none().then_some(Window {
                from: first.at,
                to: last.at,
            })
        })
        .collect()
}
