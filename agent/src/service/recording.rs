//! Turns records into blocks on disk.
//!
//! Uses two threads, so that a hanging disk does not stop recording. The *recorder* gathers
//! records into blocks and never touches the disk. The *spooler* appends them to the spool
//! and flushes it, however long the disk takes. Between them is a queue of encoded blocks,
//! bounded in bytes. Only blocks that find no room there are lost, and the recorder records
//! their time.

mod queue;

use super::Units;
use crate::recorder::{Batch, Recorder};
use crate::spool::Lost;
use crate::uplink::{SharedSpool, lock};
use hopgap_net::clock::Clock;
use hopgap_proto::record::{Block, Event, EventKind};
use hopgap_proto::time::{Mono, Wall};
use queue::{Encoded, Next, Queue};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::error;

/// How often the deadlines of blocks and flushes are checked.
const WAKE_UP: Duration = Duration::from_millis(100);

/// The two threads.
pub(super) struct Recording {
    records: SyncSender<Batch>,
    recorder: JoinHandle<()>,
    spooler: JoinHandle<()>,
}

impl Recording {
    /// Starts the threads. Up to `most_waiting` bytes of blocks wait for a hanging disk. The
    /// threads end when nobody holds the channel's other end any more.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        recorder: Recorder,
        (records, batches): (SyncSender<Batch>, Receiver<Batch>),
        spool: SharedSpool,
        most_waiting: u64,
        units: Units,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(most_waiting));
        let to_disk = Arc::clone(&queue);
        let spooler = std::thread::Builder::new()
            .name("spooler".to_owned())
            .spawn(move || spool_blocks(&to_disk, &spool))?;
        let mut gathering = Gathering {
            recorder,
            units,
            queue,
            last: None,
            lost: None,
        };
        let recorder = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || gathering.run(&batches))?;
        Ok(Self {
            records,
            recorder,
            spooler,
        })
    }

    /// Waits until all records are in the spool.
    pub(super) fn finish(self) {
        drop(self.records);
        for (thread, name) in [(self.recorder, "recorder"), (self.spooler, "spooler")] {
            if thread.join().is_err() {
                error!("the {name} ended by a fault of the program");
            }
        }
    }
}

/// The recorder's side. Dropping it closes the queue, also after a panic.
struct Gathering {
    recorder: Recorder,
    units: Units,
    queue: Arc<Queue>,
    /// When the last block that found room in the queue was closed.
    last: Option<Wall>,
    /// Blocks that found no room and are not reported yet.
    lost: Option<Lost>,
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Gathering {
    fn run(&mut self, batches: &Receiver<Batch>) {
        loop {
            let (blocks, ended) = match batches.recv_timeout(WAKE_UP) {
                Ok(batch) => (self.recorder.push(batch, Clock::pair()), false),
                Err(RecvTimeoutError::Timeout) => (Vec::new(), false),
                Err(RecvTimeoutError::Disconnected) => {
                    (self.recorder.close_all(Clock::pair()), true)
                }
            };
            let due = self.recorder.close_due(Clock::pair());
            for block in blocks.into_iter().chain(due) {
                self.hand_over(&block);
            }
            // At the end this is the last chance to report losses.
            if ended || self.queue.has_room() {
                self.tell_what_is_lost();
            }
            if ended {
                return;
            }
        }
    }

    /// Puts a block into the queue, or counts it as lost.
    fn hand_over(&mut self, block: &Block) {
        let closed = block.header.closed.wall;
        let queued = encode(block, &self.units, false)
            .and_then(|encoded| self.queue.push(encoded).map_err(|full| full.to_string()));
        match queued {
            Ok(()) => self.last = Some(closed),
            Err(why) => {
                if self.lost.is_none() {
                    error!("records are lost: {why}");
                }
                let lost = self.lost.get_or_insert(Lost {
                    blocks: 0,
                    from: self.last,
                    to: closed,
                });
                lost.blocks = lost.blocks.saturating_add(1);
                lost.to = lost.to.max(closed);
            }
        }
    }

    /// Records the losses of the spool and of the queue in a block at once, so that an agent
    /// that is killed afterwards has reported them.
    fn tell_what_is_lost(&mut self) {
        let now = Clock::pair();
        let by_the_spool = self.queue.take_spool_losses();
        let refused = self.queue.take_refused();
        let events: Vec<Event> = by_the_spool
            .iter()
            .chain(&refused)
            .chain(self.lost.take().as_ref())
            .map(|lost| missing_event(lost, now.mono))
            .collect();
        if events.is_empty() {
            return;
        }
        let batch = Batch {
            events,
            ..Batch::default()
        };
        let full = self.recorder.push(batch, now);
        let own = self.recorder.close_own_events(now);
        self.queue_events(full.into_iter().chain(own), !by_the_spool.is_empty());
    }

    /// Queues blocks of events also where there is no room: they are small and few.
    fn queue_events(&self, blocks: impl Iterator<Item = Block>, tells_spool: bool) {
        let mut blocks = blocks.peekable();
        while let Some(block) = blocks.next() {
            let tells = tells_spool && blocks.peek().is_none();
            match encode(&block, &self.units, tells) {
                Ok(encoded) => self.queue.push_anyway(encoded),
                Err(why) => error!("that records were lost is not recorded: {why}"),
            }
        }
    }
}

fn encode(block: &Block, units: &Units, tells_spool_losses: bool) -> Result<Encoded, String> {
    let bytes = block.encode(units.of(block));
    let bytes = bytes.map_err(|error| error.to_string())?;
    Ok(Encoded {
        bytes,
        closed: block.header.closed.wall,
        tells_spool_losses,
    })
}

/// The spooler's side.
fn spool_blocks(queue: &Queue, spool: &SharedSpool) {
    // Whether losses taken from the spool are not yet in a block on the disk.
    let mut telling = false;
    let mut complained = false;
    loop {
        let next = queue.next(WAKE_UP);
        let mut spool = lock(spool);
        match next {
            Next::Block(encoded) => match spool.append(&encoded.bytes, Clock::now()) {
                Ok(()) => {
                    complained = false;
                    if encoded.tells_spool_losses {
                        spool.lost_is_told();
                        telling = false;
                    }
                }
                Err(error) => {
                    if !complained {
                        error!("records are lost: {error}");
                    }
                    complained = true;
                    queue.refuse(encoded.closed);
                    // The next process reports the losses that this block would have reported.
                    telling &= !encoded.tells_spool_losses;
                }
            },
            Next::Nothing => {}
            Next::End => {
                spool.sync_at_end();
                return;
            }
        }
        spool.sync_due(Clock::now());
        if !telling {
            let lost = spool.take_lost();
            telling = !lost.is_empty();
            queue.note_spool_losses(lost);
        }
    }
}

/// Makes the event for a loss, with its known time.
fn missing_event(lost: &Lost, at: Mono) -> Event {
    let Lost { blocks, from, to } = *lost;
    let kind = EventKind::BlocksLost { blocks, from, to };
    Event { at, kind }
}

#[cfg(test)]
mod tests;
