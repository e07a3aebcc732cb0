//! The truth of a run: what became of every probe, from the wire's logs alone.

use super::emulation::{HOSTS, PROBES, TRANSLATED};
use super::scenario::Scenario;
use super::world::SESSIONS;
use crate::wire::log::{self, Entry};
use anyhow::Result;
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;
use std::path::Path;

/// A number that comes again after this long is another run's of the sender.
const COPY: Span = Span::from_millis(300);

/// One way of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// When it entered the network.
    pub(super) enter: Mono,
    /// When it left; `None` if it was lost.
    pub(super) exit: Option<Mono>,
    /// The path that it took.
    pub(super) path: usize,
    /// How often it left beyond the first.
    pub(super) copies: u32,
}

/// One probe and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// Its Sequence Number.
    pub(super) seq: u32,
    /// On the way out.
    pub(super) out: Passage,
    /// Its first reply on the way back; `None` if no reply ever entered the network.
    pub(super) back: Option<Passage>,
}

impl Probe {
    /// The way of this direction (0 out, 1 back), if it got that far.
    pub(super) fn way(&self, direction: usize) -> Option<&Passage> {
        match direction {
            0 => Some(&self.out),
            _ => self.back.as_ref(),
        }
    }

    /// Whether the network lost it in this direction; `None` if it did not get that far.
    pub(super) fn lost(&self, direction: usize) -> Option<bool> {
        self.way(direction).map(|passage| passage.exit.is_none())
    }
}

/// All probes of one flow, in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlowTruth {
    /// The session, by the side that sends.
    pub(super) side: usize,
    /// The probes' source port.
    pub(super) port: u16,
    /// The probes.
    pub(super) probes: Vec<Probe>,
}

impl FlowTruth {
    /// Its session's name.
    pub(super) fn session(&self) -> &'static str {
        SESSIONS[self.side]
    }

    /// The side at which packets of this direction (0 out, 1 back) enter.
    pub(super) fn enters(&self, direction: usize) -> usize {
        self.side ^ direction
    }
}

/// The truth of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    /// Every flow.
    pub(super) flows: Vec<FlowTruth>,
    /// Why it is not the whole truth, if it is not.
    pub(super) hole: Option<String>,
}

impl Truth {
    /// Reads the wire's logs in `dir`.
    ///
    /// # Errors
    /// The log and the line that cannot be read.
    pub(super) fn read(dir: &Path, scenario: &Scenario) -> Result<Self> {
        let (mut all, mut hole) = (Vec::new(), None);
        for (path, spec) in scenario.paths.iter().enumerate() {
            let summary = log::read(&log::path(dir, &spec.name), |entry| all.push((path, entry)))?;
            match summary.end {
                None => hole = Some("the wire did not come to its orderly end".to_owned()),
                Some(end) if end.overflows > 0 => {
                    hole = Some(format!("the wire missed {} frames", end.overflows));
                }
                Some(_) => {}
            }
        }
        Ok(Self {
            flows: flows(all),
            hole,
        })
    }
}

/// Side, flow, and whether it is a reply.
fn key(entry: &Entry) -> Option<(usize, u16, bool)> {
    let flow = entry.stamp.flow;
    if flow.ssid & TRACE_SSID_BIT != 0 {
        return None;
    }
    let reply = entry.stamp.echo.is_some();
    let sender = if reply { flow.destination } else { flow.source };
    // What is translated on its way comes back for another address.
    let is_a = *sender.ip() == TRANSLATED;
    let side = HOSTS.iter().position(|host| sender.ip() == host);
    let side = side.or(is_a.then_some(0))?;
    let port = sender.port();
    // Behind NAT a reply is for another port.
    let port = if port >= PROBES + 10_000 {
        port - 10_000
    } else {
        port
    };
    Some((side, port, reply))
}

fn flows(mut all: Vec<(usize, Entry)>) -> Vec<FlowTruth> {
    all.sort_by_key(|(_, entry)| (entry.enter, entry.exit));
    let mut flows: BTreeMap<(usize, u16), FlowTruth> = BTreeMap::new();
    // The newest probe of each number, by its place.
    let mut newest: BTreeMap<(usize, u16, u32), usize> = BTreeMap::new();
    for (path, entry) in &all {
        let Some((side, port, reply)) = key(entry) else {
            continue;
        };
        let flow = flows.entry((side, port)).or_insert_with(|| FlowTruth {
            side,
            port,
            probes: Vec::new(),
        });
        let passage = Passage {
            enter: entry.enter,
            exit: entry.exit,
            path: *path,
            copies: 0,
        };
        let seq = entry.stamp.echo.unwrap_or(entry.stamp.seq);
        let known = newest.get(&(side, port, seq)).copied();
        let probe = known.and_then(|place| flow.probes.get_mut(place));
        match (reply, probe) {
            (true, Some(probe)) => match &mut probe.back {
                None => probe.back = Some(passage),
                Some(back) => again(back, passage),
            },
            (true, None) => {}
            (false, Some(probe)) if entry.enter - probe.out.enter < COPY => {
                again(&mut probe.out, passage);
            }
            (false, _) => {
                newest.insert((side, port, seq), flow.probes.len());
                flow.probes.push(Probe {
                    seq,
                    out: passage,
                    back: None,
                });
            }
        }
    }
    flows.into_values().collect()
}

/// A second copy of what went this way already.
fn again(first: &mut Passage, second: Passage) {
    if first.exit.is_some() && second.exit.is_some() {
        first.copies += 1;
    }
    first.exit = match (first.exit, second.exit) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

#[cfg(test)]
mod tests;
