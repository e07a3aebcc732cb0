//! What truly happened to every probe, from the test bed's own logs.
//!
//! A packet is *lost* when it entered the wire at its sender and never left the wire
//! at its receiver. Its *path* is the circuit whose wire it was seen on, or the VPN
//! when it arrived without having been on either. Nothing here knows of the
//! analysis that is judged by it.

mod derive;
mod show;

use crate::error::LabError;
use crate::events::{self, Event, What};
use crate::topology::{SERVER, VM, wires};
use crate::wire::log::{self, Entry, Flow};
use derive::Seen;
use hopgap_proto::time::{ClockPair, Mono, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Fewer lost in a row are loss, but no outage.
pub const OUTAGE_MIN: usize = 3;
/// A traceroute's Sequence Numbers have this bit.
const TRACE_BIT: u32 = 1 << 31;
/// Probes enter with more than any traceroute's TTL.
const PROBE_TTL_MIN: u8 = 64;
/// What entered this shortly before the wires stopped may have been under way.
const UNDER_WAY: Span = Span::from_millis(500);

/// How a packet got across.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TruePath {
    /// Circuit 1: past 192.168.11.18.
    ExpressroutePrimary,
    /// Circuit 2: past 192.168.11.22.
    ExpressrouteSecondary,
    /// A tunnel.
    Vpn,
}

/// Which way a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From a Session-Sender to its Session-Reflector: requests.
    Forward,
    /// Replies.
    Reverse,
}

impl Flow {
    /// Requests go to port 862; replies come from it.
    pub fn direction(&self) -> Direction {
        if self.destination.port() == 862 {
            Direction::Forward
        } else {
            Direction::Reverse
        }
    }

    /// The address and port of the session's sender: the same for both directions.
    pub fn sender(&self) -> std::net::SocketAddrV4 {
        match self.direction() {
            Direction::Forward => self.source,
            Direction::Reverse => self.destination,
        }
    }
}

/// A packet's mark in time: its sequence number, and when it entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its own Sequence Number.
    pub seq: u32,
    /// In a reply, the Sequence Number of the request.
    pub echo: Option<u32>,
    /// When it entered the wire at its sender.
    pub enter: Mono,
}

impl Mark {
    /// The Session-Sender Sequence Number of the packet, in either direction.
    pub fn probe(&self) -> u32 {
        self.echo.unwrap_or(self.seq)
    }
}

/// One packet's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which, and when.
    pub mark: Mark,
    /// When it left the wire at its receiver; `None` if it was lost.
    pub exit: Option<Mono>,
    /// How it got across; of a lost one, the circuit that it was last seen on.
    pub path: Option<TruePath>,
    /// Further copies that arrived.
    pub duplicates: u16,
}

/// At least [`OUTAGE_MIN`] packets lost in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueOutage {
    /// The last that arrived before it, if any had.
    pub last_good: Option<Mark>,
    /// The first lost.
    pub first_lost: Mark,
    /// The last lost.
    pub last_lost: Mark,
    /// The first that arrived after it, if any did.
    pub first_good: Option<Mark>,
    /// How many were lost.
    pub lost: u32,
}

impl TrueOutage {
    /// The traffic was down for no less than this, by the instants of entry.
    pub fn at_least(&self) -> Span {
        self.last_lost.enter - self.first_lost.enter
    }

    /// And for no more than this; `None` where it has no end or no beginning.
    pub fn at_most(&self) -> Option<Span> {
        Some(self.first_good?.enter - self.last_good?.enter)
    }
}

/// Consecutive packets that arrived by one path; lost ones between them are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathEpoch {
    /// The path.
    pub path: TruePath,
    /// The first that arrived by it.
    pub first: Mark,
    /// The last.
    pub last: Mark,
    /// How many arrived.
    pub packets: u32,
}

/// One direction of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowTruth {
    /// Which.
    pub flow: Flow,
    /// Every packet whose fate is known, in the order of entry.
    pub packets: Vec<Packet>,
    /// Packets that may have been under way when the wires stopped.
    pub undecided: u32,
    /// In order.
    pub outages: Vec<TrueOutage>,
    /// In order.
    pub paths: Vec<PathEpoch>,
}

impl FlowTruth {
    /// Packets that were lost.
    pub fn lost(&self) -> usize {
        self.packets
            .iter()
            .filter(|packet| packet.exit.is_none())
            .count()
    }

    /// The paths taken, one after the other.
    pub fn path_names(&self) -> Vec<TruePath> {
        self.paths.iter().map(|epoch| epoch.path).collect()
    }

    /// What `truth.jsonl` says of it.
    pub fn summary(&self) -> FlowSummary {
        FlowSummary {
            flow: self.flow,
            direction: self.flow.direction(),
            packets: self.packets.len(),
            lost: self.lost(),
            outages: self.outages.clone(),
            paths: self.paths.clone(),
        }
    }
}

/// One direction of one flow, in `truth.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSummary {
    /// Which.
    pub flow: Flow,
    /// Requests or replies.
    pub direction: Direction,
    /// How many entered, without those under way at the end.
    pub packets: usize,
    /// How many of them did not arrive.
    pub lost: usize,
    /// In order.
    pub outages: Vec<TrueOutage>,
    /// In order.
    pub paths: Vec<PathEpoch>,
}

/// Everything that the test bed knows of a run.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Faults, heals, route changes, in the order of time.
    pub events: Vec<Event>,
    /// Each direction of each flow between the server and the VM.
    pub flows: BTreeMap<Flow, FlowTruth>,
    /// Frames that the kernel dropped before a wire saw them. Unless it is zero the
    /// truth has holes.
    pub overflows: u32,
    /// Whether every wire came to its orderly end.
    pub complete: bool,
}

impl Truth {
    /// Reads the logs of a lab that has ended.
    ///
    /// # Errors
    /// [`LabError::Log`] where a log cannot be read.
    pub fn read(out: &Path) -> Result<Self, LabError> {
        let mut truth = Self {
            events: events::read(out)?,
            complete: true,
            ..Self::default()
        };
        let mut end = Mono::MAX;
        let mut seen: BTreeMap<Flow, Passages> = BTreeMap::new();
        for spec in wires() {
            let mut last = Mono::MIN;
            let summary = log::read(&log::path(out, spec.name), |entry| {
                last = last.max(entry.enter);
                record(&mut seen, spec.name, &entry);
            })?;
            match summary.end {
                Some(ended) => {
                    truth.overflows = truth.overflows.saturating_add(ended.overflows);
                    end = end.min(ended.at);
                }
                None => {
                    truth.complete = false;
                    end = end.min(last);
                }
            }
        }
        for (flow, passages) in seen {
            if passages.near.is_empty() {
                continue;
            }
            truth
                .flows
                .insert(flow, derive::flow(flow, passages, end - UNDER_WAY));
        }
        Ok(truth)
    }

    /// Adds a summary of each flow to `truth.jsonl`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&self, out: &Path) -> Result<(), LabError> {
        let path = events::path(out);
        let failed = || LabError::io(format!("write {}", path.display()));
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed())?;
        let clocks = self.events.first().map(|event| event.at);
        for flow in self.flows.values() {
            let Some(first) = flow.packets.first() else {
                continue;
            };
            let mono = first.mark.enter;
            let wall = clocks.map_or(hopgap_proto::time::Wall::ZERO, |pair| pair.wall_of(mono));
            let event = Event {
                at: ClockPair { mono, wall },
                what: What::Flow(Box::new(flow.summary())),
            };
            let mut line = serde_json::to_vec(&event).map_err(|error| failed()(error.into()))?;
            line.push(b'\n');
            file.write_all(&line).map_err(failed())?;
        }
        Ok(())
    }
}

/// Where the packets of a flow were seen.
#[derive(Debug, Default)]
struct Passages {
    near: Vec<Seen>,
    far: Vec<Seen>,
    circuits: [Vec<Seen>; 2],
}

fn record(seen: &mut BTreeMap<Flow, Passages>, wire: &str, entry: &Entry) {
    let stamp = &entry.stamp;
    let flow = stamp.flow;
    let (near, far) = match (*flow.source.ip(), *flow.destination.ip()) {
        (SERVER, VM) => ("onprem", "vnet"),
        (VM, SERVER) => ("vnet", "onprem"),
        _ => return,
    };
    if stamp.echo.unwrap_or(stamp.seq) & TRACE_BIT != 0 {
        return;
    }
    if wire == near && stamp.ttl < PROBE_TTL_MIN {
        return;
    }
    let passages = seen.entry(flow).or_default();
    let list = match wire {
        _ if wire == near => &mut passages.near,
        // What this wire dropped did not arrive.
        _ if wire == far => {
            if entry.exit.is_none() {
                return;
            }
            &mut passages.far
        }
        "er1" => &mut passages.circuits[0],
        "er2" => &mut passages.circuits[1],
        _ => return,
    };
    list.push(Seen {
        seq: stamp.seq,
        echo: stamp.echo,
        enter: entry.enter,
        exit: entry.exit,
    });
}

#[cfg(test)]
mod tests;
