//! Hands a session's records over to the recorder.

use super::{MOST_HELD, Session};
use crate::recorder::Batch;
use hopgap_engine::sender::Output;
use hopgap_net::clock::Clock;
use hopgap_proto::record::{Event, EventKind, ProbeFate};
use std::sync::mpsc::TrySendError;
use tracing::error;

impl Session {
    /// Moves the engine's outputs into the batch.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                Output::Probe(probe) => {
                    if let (ProbeFate::Answered(reply), Some(tracer)) =
                        (probe.fate, &mut self.tracer)
                        && let Some(ttl) = reply.forward_ttl
                    {
                        tracer.hint(probe.flow, ttl);
                    }
                    self.batch.probes.push(probe);
                }
                Output::Event(event) => self.batch.events.push(event),
                Output::TraceReply(reply) => {
                    let path_mtu = self.path_mtu.as_mut();
                    if path_mtu.is_some_and(|p| p.reply(&reply)) {
                        continue;
                    }
                    if let Some(tracer) = &mut self.tracer {
                        tracer.reply(&reply);
                    }
                }
            }
        }
        if let Some(tracer) = &mut self.tracer {
            tracer.drain(&mut self.batch.traces, &mut self.batch.events);
        }
    }

    /// Sends the batch to the recorder. While the recorder has no room, the batch grows here up
    /// to a bound; beyond it, batches are dropped and counted.
    pub(super) fn hand_over(&mut self) {
        if let Some(batch) = self.take_batch() {
            match self.records.try_send(batch) {
                Ok(()) => self.lost = 0,
                Err(TrySendError::Full(mut batch)) if batch.rows() < MOST_HELD => {
                    if self.lost > 0 {
                        // The next batch reports the total again.
                        batch.events.pop();
                    }
                    self.batch = batch;
                }
                Err(TrySendError::Full(_)) => {
                    self.lost = self.lost.saturating_add(1);
                    error!(
                        "session {}: records were dropped, the recorder is behind",
                        self.name
                    );
                }
                // The recorder has gone: the agent is ending.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Sends the last batch to the recorder, and waits until it has room.
    pub(super) fn hand_over_last(&mut self) {
        if let Some(batch) = self.take_batch() {
            // Fails only where the recorder has gone.
            let _ = self.records.send(batch);
        }
    }

    /// Takes the batch to hand over, with an event at its end for batches lost before.
    fn take_batch(&mut self) -> Option<Batch> {
        if self.lost > 0 {
            let kind = EventKind::RecordsLost { blocks: self.lost };
            self.batch.events.push(Event {
                at: Clock::now(),
                kind,
            });
        }
        let next = Batch::of(self.name.clone());
        (!self.batch.is_empty()).then(|| std::mem::replace(&mut self.batch, next))
    }
}
