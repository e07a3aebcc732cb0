//! User-space wires: what the kernel's netem would do, and a log of every probe.
//!
//! A wire is a thread with a packet socket on each of two interfaces. It passes every
//! frame on to the other side after its delay, counted from the kernel's stamp of the
//! arrival, and in the order of arrival. Faults make it drop. What it did with every
//! STAMP packet is in `wire-NAME.csv` (see [`log`]).

pub mod log;
pub(crate) mod packet;
pub(crate) mod queue;

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::topology::{WireSpec, wires};
use hopgap_net::clock::{Clock, ClockTracker};
use hopgap_net::link::PacketSocket;
use hopgap_net::timer::{Ready, wait};
use hopgap_proto::time::{Mono, Span, Wall};
use log::{Entry, Writer};
use packet::Frame;
use queue::DelayQueue;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// How long a wire may overlook that it is to stop.
const PATIENCE: Span = Span::from_millis(100);
/// Entries leave for the log in portions of this many, or each time nothing happens.
const PORTION: usize = 4096;
/// Batches fetched from one side before the other has its turn.
const TURN: usize = 4;
/// Before a full send buffer is tried again.
const AGAIN: Span = Span::from_micros(50);

/// What a wire does with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything.
    Pass,
    /// Drops everything, silently: no carrier goes down.
    DropAll,
    /// Drops what goes between the on-premises LAN and the virtual networks; BGP,
    /// BFD and ICMP errors of the routers pass.
    DropData,
}

impl Mode {
    fn to_u8(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::DropAll => 1,
            Self::DropData => 2,
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::DropAll,
            2 => Self::DropData,
            _ => Self::Pass,
        }
    }

    fn drops(self, frame: &[u8]) -> bool {
        match self {
            Self::Pass => false,
            Self::DropAll => true,
            Self::DropData => Frame::parse(frame).is_some_and(|frame| frame.is_data()),
        }
    }
}

/// All wires of the lab, running.
#[derive(Debug)]
pub(crate) struct Wires {
    modes: Vec<(WireSpec, Arc<AtomicU8>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    writer: Option<Writer>,
}

impl Wires {
    /// Starts them in `namespace`, which has all their interfaces, logging to `out`.
    pub(crate) fn start(namespace: &Namespace, out: &Path) -> Result<Self, LabError> {
        let (writer, entries) = Writer::start(out, wires().map(|spec| spec.name))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (mut modes, mut threads) = (Vec::new(), Vec::new());
        for (index, spec) in wires().enumerate() {
            let open = |interface: &str| {
                PacketSocket::open(interface).map_err(|source| LabError::Wire {
                    wire: spec.name,
                    source,
                })
            };
            let sockets = namespace.inside(|| Ok([open(spec.onprem)?, open(spec.azure)?]))?;
            let mode = Arc::new(AtomicU8::new(Mode::Pass.to_u8()));
            let wire = Wire {
                index,
                delay: spec.delay,
                mode: Arc::clone(&mode),
                stop: Arc::clone(&stop),
                sockets,
                queues: [DelayQueue::default(), DelayQueue::default()],
                spare: Vec::new(),
                entries: entries.clone(),
                portion: Vec::with_capacity(PORTION),
            };
            modes.push((spec, mode));
            let thread = std::thread::Builder::new()
                .name(format!("wire {}", spec.name))
                .spawn(move || wire.run())
                .map_err(LabError::io("start a thread"))?;
            threads.push(thread);
        }
        Ok(Self {
            modes,
            stop,
            threads,
            writer: Some(writer),
        })
    }

    /// Changes what the wire called `name` does.
    pub(crate) fn set(&self, name: &str, mode: Mode) {
        for (spec, current) in &self.modes {
            if spec.name == name {
                current.store(mode.to_u8(), Ordering::Release);
            }
        }
    }

    /// Stops them and completes their logs.
    pub(crate) fn stop(&mut self) -> Result<(), LabError> {
        self.stop.store(true, Ordering::Release);
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(source)) => {
                    result = Err(LabError::Io {
                        what: "carry frames over a wire".to_owned(),
                        source,
                    });
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        result
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// A frame on its way.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    entry: Option<Entry>,
}

/// A frame as it came in.
struct Arrival {
    side: usize,
    stamp: Option<Wall>,
    bytes: Vec<u8>,
}

struct Wire {
    index: usize,
    delay: Span,
    mode: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    /// The on-premises side, the Azure side.
    sockets: [PacketSocket; 2],
    /// What came in at that side.
    queues: [DelayQueue<Held>; 2],
    spare: Vec<Vec<u8>>,
    entries: Sender<(usize, log::Portion)>,
    portion: Vec<Entry>,
}

impl Wire {
    fn run(mut self) -> io::Result<()> {
        let mut tracker = ClockTracker::new(Clock::read());
        let mut last_wake = Clock::now();
        let mut arrivals = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let due = self.queues.iter().filter_map(DelayQueue::next_due).min();
            let idle = Clock::now() + PATIENCE;
            let mut ready = [Ready::NONE; 2];
            let fds = [self.sockets[0].as_fd(), self.sockets[1].as_fd()];
            let any = wait(
                Some(due.map_or(idle, |due| due.min(idle))),
                &fds,
                &mut ready,
            )?;
            if any {
                self.receive(&ready, &mut arrivals)?;
                let reading = Clock::read();
                tracker.observe(reading);
                for arrival in arrivals.drain(..) {
                    let enter = arrival
                        .stamp
                        .and_then(|stamp| tracker.mono_of(stamp, last_wake))
                        .unwrap_or(reading.before);
                    self.take(arrival, enter);
                }
                last_wake = reading.before;
            }
            for side in 0..2 {
                self.send_due(side)?;
            }
            if self.portion.len() >= PORTION || (!any && !self.portion.is_empty()) {
                self.log();
            }
        }
        self.log();
        let end = log::End {
            overflows: self.sockets.iter().map(PacketSocket::overflows).sum(),
            at: Clock::now(),
        };
        // The receiver goes only when the lab is being given up.
        let _ = self.entries.send((self.index, log::Portion::End(end)));
        Ok(())
    }

    fn log(&mut self) {
        let portion = std::mem::replace(&mut self.portion, Vec::with_capacity(PORTION));
        let _ = self
            .entries
            .send((self.index, log::Portion::Entries(portion)));
    }

    fn receive(&mut self, ready: &[Ready; 2], arrivals: &mut Vec<Arrival>) -> io::Result<()> {
        let Self { sockets, spare, .. } = self;
        for (side, socket) in sockets.iter_mut().enumerate() {
            if ready[side] == Ready::NONE {
                continue;
            }
            for _ in 0..TURN {
                let count = socket.recv_batch(|frame, stamp| {
                    let mut bytes = spare.pop().unwrap_or_default();
                    bytes.clear();
                    bytes.extend_from_slice(frame);
                    arrivals.push(Arrival { side, stamp, bytes });
                });
                if count? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, arrival: Arrival, enter: Mono) {
        let Arrival { side, bytes, .. } = arrival;
        let entry = Frame::parse(&bytes)
            .and_then(|frame| frame.stamp())
            .map(|stamp| Entry {
                stamp,
                enter,
                exit: None,
            });
        if Mode::from_u8(self.mode.load(Ordering::Acquire)).drops(&bytes) {
            self.portion.extend(entry);
            self.spare.push(bytes);
        } else {
            self.queues[side].push(enter + self.delay, Held { bytes, entry });
        }
    }

    fn send_due(&mut self, side: usize) -> io::Result<()> {
        while self.queues[side]
            .next_due()
            .is_some_and(|due| due <= Clock::now())
        {
            let mut batch = self.queues[side].take_due(Clock::now());
            let socket = &mut self.sockets[1 - side];
            let result = socket.send_batch(batch.iter().map(|(_, held)| held.bytes.as_slice()));
            let exit = Clock::now();
            let (sent, refused) = match result {
                Ok(sent) => (sent, 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, 0),
                // The far end is down, or the frame is too long for it: it is lost.
                Err(_) => (0, 1),
            };
            for (_, held) in batch.drain(..sent) {
                self.portion.extend(held.entry.map(|entry| Entry {
                    exit: Some(exit),
                    ..entry
                }));
                self.spare.push(held.bytes);
            }
            for (_, held) in batch.drain(..refused) {
                self.portion.extend(held.entry);
                self.spare.push(held.bytes);
            }
            if batch.is_empty() {
                continue;
            }
            let full = sent + refused == 0;
            for (due, held) in batch.into_iter().rev() {
                let due = if full { exit + AGAIN } else { due };
                self.queues[side].push_front(due, held);
            }
            if full {
                break;
            }
        }
        Ok(())
    }
}
