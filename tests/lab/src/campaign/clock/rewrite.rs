//! Records as a host with other clocks would have made them.

use super::HostClock;
use anyhow::{Context, Result, bail};
use hopgap_proto::frame::{self, FrameKind, FrameReader};
use hopgap_proto::record::{
    Block, BlockBody, Event, EventKind, Probe, ProbeFate, Reception, RunId, SessionName, Trace,
};
use hopgap_proto::time::Mono;
use hopgap_proto::uplink::Ack;
use std::collections::BTreeMap;

/// The host with the clock of its own, and the session that it reflects.
pub(super) const HOST: &str = "b";
const REFLECTED: &str = "a-b";

/// Rewrites what agents deliver.
#[derive(Debug, Default)]
pub(super) struct Rewriter {
    /// The block of each run and session that tells of each step; always the same one, so
    /// that it says the same when it is delivered again.
    told_in: BTreeMap<(RunId, Option<SessionName>, Mono), u64>,
}

/// A body of frames, and where its frames end: before and after.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) body: Vec<u8>,
    ends: Vec<(u64, u64)>,
}

impl Rewritten {
    /// The collector's answer to the new body, as an answer to the old one.
    ///
    /// # Errors
    /// When it speaks of a place that is no frame's end.
    pub(super) fn answer(&self, ack: &Ack) -> Result<Ack> {
        let before = |after: u64| {
            let end = self.ends.iter().find(|(_, new)| *new == after);
            end.map(|(old, _)| *old)
                .or((after == 0).then_some(0))
                .with_context(|| format!("no frame ends at {after}"))
        };
        let mut ack = ack.clone();
        ack.bytes = before(ack.bytes)?;
        for refused in &mut ack.refused {
            refused.offset = before(refused.offset)?;
        }
        Ok(ack)
    }
}

impl Rewriter {
    /// Rewrites a body of frames.
    ///
    /// # Errors
    /// When a frame or its block cannot be read.
    pub(super) fn body(&mut self, clock: &HostClock, body: &[u8]) -> Result<Rewritten> {
        let mut rewritten = Rewritten {
            body: Vec::with_capacity(body.len()),
            ends: Vec::new(),
        };
        for frame in FrameReader::new(body) {
            let frame = frame?;
            let unit = Block::peek(frame.payload)?.unit;
            let mut block = Block::decode(frame.payload)?;
            self.block(clock, &mut block);
            frame::append(&mut rewritten.body, FrameKind::Block, &block.encode(unit)?)?;
            let new = u64::try_from(rewritten.body.len()).unwrap_or(u64::MAX);
            let old = u64::try_from(frame.end()).unwrap_or(u64::MAX);
            rewritten.ends.push((old, new));
        }
        if rewritten.ends.is_empty() && !body.is_empty() {
            bail!("a body without a frame");
        }
        Ok(rewritten)
    }

    fn block(&mut self, clock: &HostClock, block: &mut Block) {
        let own = block.header.key.agent.as_str() == HOST;
        if !own {
            let reflected = block.header.session.as_ref();
            if reflected.is_some_and(|session| session.as_str() == REFLECTED)
                && let BlockBody::Probes(probes) = &mut block.body
            {
                probes
                    .iter_mut()
                    .for_each(|probe| reflected_by(clock, probe));
            }
            return;
        }
        let closed = block.header.closed.mono;
        let steps = clock.steps().filter(|(at, _)| *at <= closed);
        block.header.closed = clock.pair(block.header.closed);
        match &mut block.body {
            BlockBody::Probes(probes) => probes.iter_mut().for_each(|p| sent_by(clock, p)),
            BlockBody::Receptions(all) => all.iter_mut().for_each(|r| received_by(clock, r)),
            BlockBody::Traces(traces) => traces.iter_mut().for_each(|t| traced_by(clock, t)),
            BlockBody::Echoes(_, echoes) => {
                for echo in echoes {
                    echo.sent.at = clock.mono(echo.sent.at);
                    echo.round_trip = echo.round_trip.map(|span| clock.span(span));
                }
            }
            BlockBody::Events(events) => {
                events.iter_mut().for_each(|e| happened_at(clock, e));
                for (at, by) in steps {
                    let key = (block.header.key.run, block.header.session.clone(), at);
                    let number = block.header.key.number;
                    if *self.told_in.entry(key).or_insert(number) == number {
                        events.push(Event {
                            at: clock.mono(at),
                            kind: EventKind::ClockStepped(by),
                        });
                    }
                }
            }
        }
    }
}

/// `a` sent it, and the host's wall clock is in the reply.
fn reflected_by(clock: &HostClock, probe: &mut Probe) {
    if let ProbeFate::Answered(reply) = &mut probe.fate {
        reply.reflector_received = clock.wall(reply.reflector_received);
        reply.reflector_sent = clock.wall(reply.reflector_sent);
    }
}

fn sent_by(clock: &HostClock, probe: &mut Probe) {
    probe.sent.at = clock.mono(probe.sent.at);
    if let ProbeFate::Answered(reply) = &mut probe.fate {
        reply.received.at = clock.mono(reply.received.at);
    }
}

fn received_by(clock: &HostClock, reception: &mut Reception) {
    reception.received.at = clock.mono(reception.received.at);
    if let Some(departed) = &mut reception.departed {
        departed.at = clock.mono(departed.at);
    }
}

fn traced_by(clock: &HostClock, trace: &mut Trace) {
    trace.started = clock.mono(trace.started);
    trace.finished = clock.mono(trace.finished);
    for reply in trace.hops.iter_mut().flat_map(|hop| &mut hop.replies) {
        reply.round_trip = clock.span(reply.round_trip);
    }
}

fn happened_at(clock: &HostClock, event: &mut Event) {
    event.at = clock.mono(event.at);
    match &mut event.kind {
        EventKind::Clock(reading) => reading.pair = clock.pair(reading.pair),
        EventKind::SlotsSkipped { first, .. } => *first = clock.mono(*first),
        EventKind::ReceiveOverflow { since, .. }
        | EventKind::Stalled { since }
        | EventKind::DeparturesSampled { since, .. }
        | EventKind::AddressTranslated { since, .. }
        | EventKind::NotRunning { since, .. } => *since = clock.mono(*since),
        EventKind::Suspended { since, lasted } => {
            *since = clock.mono(*since);
            *lasted = clock.span(*lasted);
        }
        EventKind::BlocksLost { from, to, .. } => {
            *from = from.map(|from| clock.wall(from));
            *to = clock.wall(*to);
        }
        EventKind::PathMtu(found) => found.since = clock.mono(found.since),
        EventKind::ClockStepped(_)
        | EventKind::SessionStarted
        | EventKind::SessionStopped
        | EventKind::Icmp(_)
        | EventKind::ReflectorRestarted { .. }
        | EventKind::StrayReplies { .. }
        | EventKind::ReflectorDropped { .. }
        | EventKind::RecordsLost { .. }
        | EventKind::ReflectorCounts
        | EventKind::ReflectorStopped
        | EventKind::UnfitIcmp { .. }
        | EventKind::EchoError(_)
        | EventKind::SizeProbeArrived { .. } => {}
    }
}

#[cfg(test)]
mod tests;
