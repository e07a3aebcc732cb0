//! The wire between the two hosts: carries frames through the emulated network and
//! logs every STAMP packet, one log for each path.

use super::emulation::{Leaving, Network};
use crate::wire::log::{End, Portion, Writer};
use crate::wire::queue::DelayQueue;
use anyhow::{Context, Result};
use hopgap_net::clock::{Clock, ClockTracker};
use hopgap_net::link::PacketSocket;
use hopgap_net::timer::{Ready, wait};
use hopgap_proto::time::{Mono, Span};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// How long the wire may overlook that it is to stop.
const PATIENCE: Span = Span::from_millis(50);
/// Before a full send buffer is tried again.
const AGAIN: Span = Span::from_micros(50);
/// Before the measurement begins nothing happens.
const LONG_BEFORE: Span = Span::from_secs(-3600);

/// A wire that runs.
#[derive(Debug)]
pub(super) struct Wire {
    start: Arc<OnceLock<Mono>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
    writer: Writer,
}

impl Wire {
    /// Starts it between two interfaces of this network namespace, the one towards
    /// `a` and the one towards `b`.
    pub(super) fn start(
        interfaces: [&str; 2],
        network: Network,
        names: &[String],
        out: &Path,
    ) -> Result<Self> {
        let (writer, entries) = Writer::start(out, names.iter().map(String::as_str))?;
        let [a, b] = interfaces;
        let sockets = [PacketSocket::open(a)?, PacketSocket::open(b)?];
        let (start, stop) = (Arc::default(), Arc::default());
        let carrier = Carrier {
            start: Arc::clone(&start),
            stop: Arc::clone(&stop),
            network,
            paths: names.len(),
            sockets,
            queues: [DelayQueue::default(), DelayQueue::default()],
            entries,
        };
        let thread = std::thread::Builder::new()
            .name("wire".to_owned())
            .spawn(move || carrier.run())
            .context("cannot start a thread")?;
        Ok(Self {
            start,
            stop,
            thread,
            writer,
        })
    }

    /// The measurement begins at this time: the program runs from here.
    pub(super) fn begin(&self, at: Mono) {
        // It begins only once.
        let _ = self.start.set(at);
    }

    /// Stops it and completes its logs.
    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(result) => result.context("cannot carry frames over the wire")?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        self.writer.finish()?;
        Ok(())
    }
}

struct Carrier {
    start: Arc<OnceLock<Mono>>,
    stop: Arc<AtomicBool>,
    network: Network,
    paths: usize,
    sockets: [PacketSocket; 2],
    /// What is to leave at that side.
    queues: [DelayQueue<Leaving>; 2],
    entries: Sender<(usize, Portion)>,
}

impl Carrier {
    fn run(mut self) -> io::Result<()> {
        let mut tracker = ClockTracker::new(Clock::read());
        let mut last_wake = Clock::now();
        let mut arrivals = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let due = self.queues.iter().filter_map(DelayQueue::next_due).min();
            let idle = Clock::now() + PATIENCE;
            let mut ready = [Ready::NONE; 2];
            let fds = [self.sockets[0].as_fd(), self.sockets[1].as_fd()];
            wait(
                Some(due.map_or(idle, |due| due.min(idle))),
                &fds,
                &mut ready,
            )?;
            for (side, socket) in self.sockets.iter_mut().enumerate() {
                if ready[side] != Ready::NONE {
                    socket.recv_batch(|frame, stamp| {
                        arrivals.push((side, stamp, frame.to_vec()));
                    })?;
                }
            }
            let reading = Clock::read();
            tracker.observe(reading);
            for (side, stamp, bytes) in arrivals.drain(..) {
                let enter = stamp
                    .and_then(|stamp| tracker.mono_of(stamp, last_wake))
                    .unwrap_or(reading.before);
                self.take(side, enter, bytes);
            }
            last_wake = reading.before;
            for side in 0..2 {
                self.send_due(side)?;
            }
        }
        let end = End {
            overflows: self.sockets.iter().map(PacketSocket::overflows).sum(),
            at: Clock::now(),
        };
        for path in 0..self.paths {
            // The receiver goes only when the run is being given up.
            let _ = self.entries.send((path, Portion::End(end)));
        }
        Ok(())
    }

    fn take(&mut self, side: usize, enter: Mono, bytes: Vec<u8>) {
        let at = self.start.get().map_or(LONG_BEFORE, |start| enter - *start);
        let fate = self.network.carry(side, enter, at, bytes);
        if let Some((path, entry)) = fate.lost {
            let _ = self.entries.send((path, Portion::Entries(vec![entry])));
        }
        for leaving in fate.leaving {
            if let Some(queue) = self.queues.get_mut(leaving.side) {
                queue.push(leaving.due, leaving);
            }
        }
    }

    fn send_due(&mut self, side: usize) -> io::Result<()> {
        let mut batch = self.queues[side].take_due(Clock::now());
        while !batch.is_empty() {
            let frames = batch.iter().map(|(_, leaving)| leaving.bytes.as_slice());
            let result = self.sockets[side].send_batch(frames);
            let exit = Clock::now();
            let (sent, refused) = match result {
                Ok(sent) => (sent, 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    for (_, leaving) in batch.into_iter().rev() {
                        self.queues[side].push_front(exit + AGAIN, leaving);
                    }
                    return Ok(());
                }
                // The far end is down, or the frame is too long for it: it is lost.
                Err(_) => (0, 1),
            };
            for (index, (_, leaving)) in batch.drain(..sent + refused).enumerate() {
                let Some((path, mut entry)) = leaving.entry else {
                    continue;
                };
                entry.exit = (index < sent).then_some(exit);
                let _ = self.entries.send((path, Portion::Entries(vec![entry])));
            }
        }
        Ok(())
    }
}
