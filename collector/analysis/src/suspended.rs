//! Corrects the clocks of hosts that were suspended.
//!
//! While a host is suspended, `CLOCK_MONOTONIC` stands still, so that packets sent before and
//! after seem close together; its wall clock jumps ahead when it wakes. The agent reports the
//! sleep (`Suspended`) by `CLOCK_BOOTTIME`, which goes on. This module sets every instant of such
//! a process on a clock that goes on as well, and takes the jump out of the wall clock's steps.
//! The result is treated like a host that stood still for a while.
//!
//! Each thread of the agent reports the same sleep. It counts as one, after the last instant at
//! which any thread was still awake.

use crate::input::Input;
use hopgap_proto::record::{
    AgentName, Event, EventKind, Probe, ProbeFate, Reception, RunId, Trace,
};
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;

/// How soon after a host woke the jump of its wall clock is seen.
const SEEN_WITHIN: Span = Span::from_secs(20);

/// A sleep of one process's host: after this instant, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sleep {
    after: Mono,
    /// When the first thread reported it, on the clock that stood still.
    told: Mono,
    lasted: Span,
    /// The sum of all sleeps up to and including this one.
    total: Span,
}

/// The sleeps of one process's host, in the order of time.
#[derive(Clone, Debug, Default)]
struct Sleeps(Vec<Sleep>);

/// Returns the input with all instants on clocks that did not stand still; `None` if no host
/// slept.
pub(crate) fn awake(input: &Input) -> Option<Input> {
    let sleeps = all(input);
    if sleeps.is_empty() {
        return None;
    }
    let mut input = input.clone();
    let of = |run: RunId, agent: &AgentName| sleeps.get(&(run, agent.clone()));
    for session in &mut input.sessions {
        for run in &mut session.sender {
            let Some(sleeps) = of(run.run, &run.agent) else {
                continue;
            };
            run.probes.iter_mut().for_each(|p| sleeps.probe(p));
            run.traces.iter_mut().for_each(|t| sleeps.trace(t));
            run.events.iter_mut().for_each(|e| sleeps.event(e));
            for pair in &mut run.clocks {
                pair.mono = sleeps.awake(pair.mono);
            }
        }
        for run in &mut session.reflector {
            let Some(sleeps) = of(run.run, &run.agent) else {
                continue;
            };
            run.receptions.iter_mut().for_each(|r| sleeps.reception(r));
            run.events.iter_mut().for_each(|e| sleeps.event(e));
            for pair in &mut run.clocks {
                pair.mono = sleeps.awake(pair.mono);
            }
        }
    }
    for reading in &mut input.clocks {
        if let Some(sleeps) = of(reading.run, &reading.agent) {
            reading.at = sleeps.awake(reading.at);
        }
    }
    Some(input)
}

/// Collects the sleeps by process, from the events of all sessions.
fn all(input: &Input) -> BTreeMap<(RunId, AgentName), Sleeps> {
    let mut told: BTreeMap<(RunId, &AgentName), Vec<Sleep>> = BTreeMap::new();
    let mut take = |run: RunId, agent, events: &[Event]| {
        for event in events {
            if let EventKind::Suspended { since, lasted } = event.kind {
                told.entry((run, agent)).or_default().push(Sleep {
                    after: since,
                    told: event.at,
                    lasted,
                    total: Span::ZERO,
                });
            }
        }
    };
    for session in &input.sessions {
        for run in &session.sender {
            take(run.run, &run.agent, &run.events);
        }
        for run in &session.reflector {
            take(run.run, &run.agent, &run.events);
        }
    }
    told.into_iter()
        .map(|((run, agent), told)| ((run, agent.clone()), Sleeps::of(told)))
        .collect()
}

impl Sleeps {
    fn of(mut told: Vec<Sleep>) -> Self {
        told.sort_unstable_by_key(|s| (s.after, s.told, s.lasted));
        let mut sleeps: Vec<Sleep> = Vec::new();
        for next in told {
            match sleeps.last_mut() {
                // Reports that overlap are one sleep.
                Some(last) if next.after <= last.told => {
                    last.after = next.after;
                    last.told = last.told.min(next.told).max(last.after);
                    last.lasted = last.lasted.max(next.lasted);
                }
                _ => sleeps.push(next),
            }
        }
        let mut total = Span::ZERO;
        for sleep in &mut sleeps {
            total += sleep.lasted;
            sleep.total = total;
        }
        Self(sleeps)
    }

    /// Converts an instant to the clock that went on.
    fn awake(&self, at: Mono) -> Mono {
        let before = self.0.partition_point(|s| s.after < at);
        let last = before.checked_sub(1).and_then(|i| self.0.get(i));
        at + last.map_or(Span::ZERO, |s| s.total)
    }

    fn probe(&self, probe: &mut Probe) {
        probe.sent.at = self.awake(probe.sent.at);
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.at = self.awake(reply.received.at);
        }
    }

    fn reception(&self, reception: &mut Reception) {
        reception.received.at = self.awake(reception.received.at);
        if let Some(departed) = &mut reception.departed {
            departed.at = self.awake(departed.at);
        }
    }

    fn trace(&self, trace: &mut Trace) {
        trace.started = self.awake(trace.started);
        trace.finished = self.awake(trace.finished);
    }

    fn event(&self, event: &mut Event) {
        let told = event.at;
        event.at = self.awake(told);
        match &mut event.kind {
            EventKind::Clock(reading) => reading.pair.mono = self.awake(reading.pair.mono),
            EventKind::SlotsSkipped { first: at, .. }
            | EventKind::ReceiveOverflow { since: at, .. }
            | EventKind::Stalled { since: at }
            | EventKind::DeparturesSampled { since: at, .. }
            | EventKind::AddressTranslated { since: at, .. }
            | EventKind::NotRunning { since: at, .. }
            | EventKind::Suspended { since: at, .. } => *at = self.awake(*at),
            EventKind::PathMtu(found) => found.since = self.awake(found.since),
            // A jump of the wall clock against the clock that stood still is not a step.
            EventKind::ClockStepped(by) => *by = *by - self.jump(told, *by),
            EventKind::SessionStarted
            | EventKind::SessionStopped
            | EventKind::Icmp(_)
            | EventKind::ReflectorRestarted { .. }
            | EventKind::StrayReplies { .. }
            | EventKind::ReflectorDropped { .. }
            | EventKind::RecordsLost { .. }
            | EventKind::ReflectorCounts
            | EventKind::ReflectorStopped
            | EventKind::BlocksLost { .. }
            | EventKind::UnfitIcmp { .. }
            | EventKind::EchoError(_)
            | EventKind::SizeProbeArrived { .. } => {}
        }
    }

    /// Returns how much of a step of the wall clock, seen at `seen`, comes from a sleep.
    fn jump(&self, seen: Mono, by: Span) -> Span {
        let before = self.0.partition_point(|s| s.after <= seen);
        let last = before.checked_sub(1).and_then(|i| self.0.get(i));
        let sleep = last.filter(|s| seen - s.after <= SEEN_WITHIN);
        sleep.map_or(Span::ZERO, |s| {
            // The clock may have been corrected at the same time; that part remains.
            if by * 2 > s.lasted {
                s.lasted
            } else {
                Span::ZERO
            }
        })
    }
}

#[cfg(test)]
mod tests;
