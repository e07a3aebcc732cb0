//! Finds what a host's kernel received and sent while a program on it stood still.
//!
//! A stopped or starved program receives nothing, but its kernel still stamps what arrives; a
//! host that is frozen as a whole stamps nothing. One session cannot tell the two apart, as it
//! may have lost everything on the way meanwhile. Packets that arrived at the same host for any
//! other session or flow, probes or replies, can. Packets that another thread sent meanwhile also
//! show that the host was not frozen.

use super::stalls::STALL;
use crate::input::{Input, SessionRecords};
use crate::stretches::Stretches;
use hopgap_proto::record::{AgentName, Event, EventKind, ProbeFate, RunId, Stamp, StampSource};
use hopgap_proto::time::Mono;
use std::collections::BTreeMap;

/// A process, which has one monotonic clock.
type Process<'a> = (RunId, &'a AgentName);

/// A stretch on a process's monotonic clock.
pub(crate) type Stretch = (Mono, Mono);

/// Signs of life of each host while a process on it stood still.
#[derive(Debug, Default)]
pub(super) struct SignsOfLife<'a>(BTreeMap<Process<'a>, Signs>);

/// Signs of life of one host, each in the order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Signs {
    /// When something arrived.
    pub(super) arrived: Vec<Mono>,
    /// When something left, so that a program ran.
    pub(super) left: Vec<Mono>,
}

impl<'a> SignsOfLife<'a> {
    /// From the records of all sessions.
    pub(super) fn of(input: &'a Input) -> Self {
        let stalls = stalls(&input.sessions);
        let mut heard = Self::default();
        if stalls.is_empty() {
            return heard;
        }
        let mut take = |process: Process<'a>, stamp: Stamp, arrived: bool| {
            // A program's stamp only says when the program went on.
            if stamp.source != StampSource::User
                && let Some(stalls) = stalls.get(&process)
                && stalls.hold(stamp.at)
            {
                let signs = heard.0.entry(process).or_default();
                let signs = if arrived {
                    &mut signs.arrived
                } else {
                    &mut signs.left
                };
                signs.push(stamp.at);
            }
        };
        for session in &input.sessions {
            for run in &session.reflector {
                for reception in &run.receptions {
                    let process = (run.run, &run.agent);
                    take(process, reception.received, true);
                    if let Some(departed) = reception.departed {
                        take(process, departed, false);
                    }
                }
            }
            for run in &session.sender {
                for probe in &run.probes {
                    let process = (run.run, &run.agent);
                    take(process, probe.sent, false);
                    if let ProbeFate::Answered(reply) = probe.fate {
                        take(process, reply.received, true);
                    }
                }
            }
        }
        for signs in heard.0.values_mut() {
            for instants in [&mut signs.arrived, &mut signs.left] {
                instants.sort_unstable();
                instants.dedup();
            }
        }
        heard
    }

    /// The signs of one process, in the order of time.
    pub(super) fn by(&self, run: RunId, agent: &'a AgentName) -> Option<&Signs> {
        self.0.get(&(run, agent))
    }
}

/// When each process stood still, by its own records.
fn stalls(sessions: &[SessionRecords]) -> BTreeMap<Process<'_>, Stretches<Mono>> {
    let mut stalls: BTreeMap<Process<'_>, Vec<Stretch>> = BTreeMap::new();
    for session in sessions {
        for run in &session.reflector {
            let late = run.receptions.iter().filter_map(|r| {
                let left = r.departed?.at;
                (left - r.received.at >= STALL).then_some((r.received.at, left))
            });
            let told = run.events.iter().filter_map(told).chain(late);
            add(&mut stalls, (run.run, &run.agent), told);
        }
        for run in &session.sender {
            let told = run.events.iter().filter_map(told);
            add(&mut stalls, (run.run, &run.agent), told);
        }
    }
    let stalls = stalls.into_iter();
    stalls
        .map(|(process, told)| (process, Stretches::of(told)))
        .collect()
}

fn add<'a>(
    stalls: &mut BTreeMap<Process<'a>, Vec<Stretch>>,
    process: Process<'a>,
    told: impl Iterator<Item = Stretch>,
) {
    let mut told = told.peekable();
    if told.peek().is_some() {
        stalls.entry(process).or_default().extend(told);
    }
}

fn told(event: &Event) -> Option<Stretch> {
    match event.kind {
        EventKind::Stalled { since } | EventKind::Suspended { since, .. } => {
            Some((since, event.at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
