//! The emulated network: what becomes of a frame that enters at this time.
//!
//! Nothing here waits or reads a clock. Faults lie behind the first router, which
//! therefore still answers; a packet's fate is decided by when it entered.

use super::edit::{self, End, Trouble};
use super::program::{Act, Program, Step};
use super::scenario::{PathSpec, Scenario};
use crate::wire::log::Entry;
use crate::wire::packet::Frame;
use hopgap_proto::time::{Mono, Span};
use std::net::Ipv4Addr;

/// Source port of the probes of flow 0.
pub(super) const PROBES: u16 = 50_000;
/// STAMP's port.
const STAMP: u16 = 862;
/// What NAT adds to a port.
const NAT: u16 = 10_000;
/// What the address of `a` is translated to on paths that do so.
pub(super) const TRANSLATED: Ipv4Addr = Ipv4Addr::new(100, 64, 2, 1);
/// Of the host at each side.
pub(super) const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(10, 2, 0, 10)];
/// The same.
pub(super) const HOST_MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 10], [2, 0, 0, 0, 0, 11]];
/// Of the first router at each side.
pub(super) const ROUTER_MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// A frame that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// At this side.
    pub(super) side: usize,
    /// At this time.
    pub(super) due: Mono,
    /// The frame.
    pub(super) bytes: Vec<u8>,
    /// What goes to the log of which path when it has left.
    pub(super) entry: Option<(usize, Entry)>,
}

/// What became of a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    /// It, its copies, or ICMP errors about it.
    pub(super) leaving: Vec<Leaving>,
    /// A packet that was lost, and on which path.
    pub(super) lost: Option<(usize, Entry)>,
}

/// The address of a router, the first being 1.
pub(super) fn router(path: usize, hop: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, u8::try_from(path + 1).unwrap_or(u8::MAX), hop)
}

/// What a step remembers of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    bad: bool,
    /// Of a bucket: how many are left. Of a queue: how many wait.
    tokens: Option<(f64, Mono)>,
}

impl Memory {
    /// Whether a token bucket that is refilled at `rate` has one left now.
    fn takes_token(&mut self, rate: f64, burst: u32, now: Mono) -> bool {
        let burst = f64::from(burst);
        let (tokens, since) = self.tokens.unwrap_or((burst, now));
        let tokens = (tokens + (now - since).as_secs_f64() * rate).min(burst);
        let conforms = tokens >= 1.0;
        let left = if conforms { tokens - 1.0 } else { tokens };
        self.tokens = Some((left, now));
        conforms
    }

    /// Whether a queue that is emptied at `rate` has room for one more now.
    fn has_room(&mut self, rate: f64, holds: u32, now: Mono) -> bool {
        let (waiting, since) = self.tokens.unwrap_or((0.0, now));
        let waiting = (waiting - (now - since).as_secs_f64() * rate).max(0.0);
        let room = waiting + 1.0 <= f64::from(holds);
        self.tokens = Some((if room { waiting + 1.0 } else { waiting }, now));
        room
    }

    /// How long the newest in such a queue waits.
    fn waits(&self, rate: f64) -> Span {
        let waiting = self.tokens.map_or(0.0, |(waiting, _)| waiting);
        std::time::Duration::try_from_secs_f64(waiting / rate).map_or(Span::ZERO, Span::from)
    }
}

/// The network.
#[derive(Debug)]
pub(super) struct Network {
    paths: Vec<PathSpec>,
    program: Program,
    rng: fastrand::Rng,
    /// Of each step, in each direction.
    memory: Vec<[Memory; 2]>,
    /// When the newest packet of each direction and path leaves.
    newest: Vec<[Mono; 2]>,
}

impl Network {
    /// As the scenario has it, with this program.
    pub(super) fn new(scenario: &Scenario, program: &Program, seed: u64) -> Self {
        Self {
            paths: scenario.paths.clone(),
            program: program.clone(),
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            memory: vec![[Memory::default(); 2]; program.steps.len()],
            newest: vec![[Mono::from_nanos(i64::MIN); 2]; scenario.paths.len()],
        }
    }

    /// What becomes of the frame that came in at `side`; `at` is counted from the
    /// beginning of the measurement.
    pub(super) fn carry(&mut self, side: usize, enter: Mono, at: Span, mut bytes: Vec<u8>) -> Fate {
        let Some(frame) = Frame::parse(&bytes) else {
            // ARP and the like: hosts have static neighbours.
            return Fate::default();
        };
        let (ttl, stamp) = (frame.ttl(), frame.stamp());
        let number = self.program.path(side, at);
        let Some(path) = self.paths.get(number).cloned() else {
            return Fate::default();
        };
        let entry = stamp.map(|stamp| {
            let entry = Entry {
                stamp,
                enter,
                exit: None,
            };
            (number, entry)
        });
        let ports = frame.ports();
        let flow = ports.and_then(|(from, to)| flow_of(if to == STAMP { from } else { to }));
        let (hops, nat) = self.way(side, at, path.routers);
        let lost = |leaving: Vec<Leaving>| Fate {
            leaving,
            lost: entry,
        };
        let answer = |hop: u8, trouble| {
            let silent = path.silent.contains(&hop);
            let bytes = edit::error(&bytes, router(number, hop), trouble);
            let travelled = Span::from_nanos(
                path.delay.as_nanos() * 2 * i64::from(hop) / i64::from(hops.max(1) + 1),
            );
            bytes.filter(|_| !silent).map(|bytes| Leaving {
                side,
                due: enter + travelled,
                bytes,
                entry: None,
            })
        };
        if ttl <= 1 {
            let answer = answer(1, Trouble::Expired).filter(|_| self.answers(side, at, enter));
            return lost(answer.into_iter().collect());
        }
        if self.loses(side, at, enter, flow) {
            return lost(Vec::new());
        }
        if u16::from(ttl) <= hops {
            let hop = ttl.min(path.routers);
            let answer = answer(hop, Trouble::Expired);
            // The error, too, has to come through.
            let answer = answer.filter(|_| self.answers(side, at, enter));
            let answer = answer.filter(|_| !self.loses(1 - side, at, enter, flow));
            return lost(answer.into_iter().collect());
        }
        if edit::ip_length(&bytes) > path.mtu && edit::must_stay_whole(&bytes) {
            let answer = answer(1, Trouble::TooBig(path.mtu))
                .filter(|_| !path.black_hole && self.answers(side, at, enter));
            return lost(answer.into_iter().collect());
        }
        let left = ttl - u8::try_from(hops).unwrap_or(u8::MAX);
        edit::set_ttl(&mut bytes, path.sets_ttl.unwrap_or(left));
        edit::readdress(&mut bytes, HOST_MAC[1 - side], ROUTER_MAC[1 - side]);
        translate(&mut bytes, side, ports, nat);
        translate_address(&mut bytes, side, ports, path.translates);
        let due = self.due(side, at, enter, number, &path);
        let leaving = Leaving {
            side: 1 - side,
            due,
            bytes,
            entry,
        };
        let again = self.chance(side, at, flow, |act| match act {
            Act::Duplicate(share) => Some(*share),
            _ => None,
        });
        let mut all = vec![leaving];
        if again && let Some(first) = all.first().cloned() {
            all.push(first);
        }
        Fate {
            leaving: all,
            lost: None,
        }
    }

    /// How many routers are passed, and whether there is NAT.
    fn way(&self, side: usize, at: Span, routers: u8) -> (u16, bool) {
        let (mut hops, mut nat) = (u16::from(routers), false);
        for step in self.program.steps.iter().filter(|step| step.is_on(at)) {
            match step.act {
                Act::Loop(more) if step.way.is_from(side) => hops += u16::from(more),
                Act::Nat => nat = true,
                _ => {}
            }
        }
        (hops, nat)
    }

    fn loses(&mut self, side: usize, at: Span, enter: Mono, flow: Option<u8>) -> bool {
        let Self {
            program,
            memory,
            rng,
            ..
        } = self;
        let mut loses = false;
        let of_flow = |step: &Step| step.flow.is_none() || step.flow == flow;
        for (step, memory) in program.steps.iter().zip(memory) {
            if !step.is_on(at) || !step.way.is_from(side) || !of_flow(step) {
                continue;
            }
            let Some(memory) = memory.get_mut(side) else {
                continue;
            };
            loses |= match step.act {
                Act::Drop => true,
                Act::Loss(share) => rng.f64() < share,
                Act::Gilbert { begins, ends, loss } => {
                    let turns = if memory.bad { ends } else { begins };
                    memory.bad ^= rng.f64() < turns;
                    memory.bad && rng.f64() < loss
                }
                Act::Police { rate, burst } => !memory.takes_token(rate, burst, enter),
                Act::Queue { rate, holds } => !memory.has_room(rate, holds, enter),
                _ => false,
            };
        }
        loses
    }

    /// Whether routers have an ICMP error to spare for this side.
    fn answers(&mut self, side: usize, at: Span, now: Mono) -> bool {
        let steps = self.program.steps.iter().zip(&mut self.memory);
        let mut answers = true;
        for (step, memory) in steps {
            if let Act::IcmpLimit { rate, burst } = step.act
                && step.is_on(at)
                && step.way.is_from(side)
                && let Some(memory) = memory.get_mut(side)
            {
                answers &= memory.takes_token(rate, burst, now);
            }
        }
        answers
    }

    fn chance(
        &mut self,
        side: usize,
        at: Span,
        flow: Option<u8>,
        share: impl Fn(&Act) -> Option<f64>,
    ) -> bool {
        let Self { program, rng, .. } = self;
        program
            .steps
            .iter()
            .filter(|s| s.is_on(at) && s.way.is_from(side) && (s.flow.is_none() || s.flow == flow))
            .filter_map(|step| share(&step.act))
            .any(|share| rng.f64() < share)
    }

    /// When a packet leaves: in order, unless it is to be overtaken.
    fn due(&mut self, side: usize, at: Span, enter: Mono, number: usize, path: &PathSpec) -> Mono {
        let jitter = Span::from_nanos(self.rng.i64(0..=path.jitter.as_nanos().max(0)));
        let mut due = enter + path.delay + jitter;
        for (step, memory) in self.program.steps.iter().zip(&self.memory) {
            if !step.is_on(at) || !step.way.is_from(side) {
                continue;
            }
            match (&step.act, memory.get(side), step.until) {
                (Act::Queue { rate, .. }, Some(memory), _) => due += memory.waits(*rate),
                (Act::Hold, _, Some(until)) => due = due.max(enter + (until - at)),
                _ => {}
            }
        }
        if let Some(newest) = self.newest.get_mut(number).and_then(|n| n.get_mut(side)) {
            due = due.max(*newest);
            *newest = due;
        }
        let Self { program, rng, .. } = self;
        for step in &program.steps {
            if let Act::Reorder { share, by } = step.act
                && step.is_on(at)
                && step.way.is_from(side)
                && rng.f64() < share
            {
                due += by;
            }
        }
        due
    }
}

/// The flow that a sender's port stands for.
fn flow_of(port: u16) -> Option<u8> {
    let port = if port >= PROBES + NAT {
        port - NAT
    } else {
        port
    };
    u8::try_from(port.checked_sub(PROBES)?).ok()
}

/// Ports of `a`'s probes are others at `b`, and its replies go back to the first.
fn translate(bytes: &mut [u8], side: usize, ports: Option<(u16, u16)>, nat: bool) {
    match (side, ports) {
        (0, Some((from, STAMP))) if nat => edit::set_port(bytes, 0, from.saturating_add(NAT)),
        // Replies still on their way when the translation ends belong to it, too.
        (1, Some((STAMP, to))) if to >= PROBES + NAT => edit::set_port(bytes, 1, to - NAT),
        _ => {}
    }
}

/// The address of `a` is another at `b`, in what `a` begins; what comes back for the other
/// goes to the first. As with any NAT that keeps track, replies of `a` keep their address.
fn translate_address(bytes: &mut [u8], side: usize, ports: Option<(u16, u16)>, nat: bool) {
    let [a, _] = HOSTS;
    match (side, ports) {
        (0, Some((_, STAMP))) if nat => edit::set_address(bytes, End::Source, TRANSLATED),
        // Replies still on their way when the path changes belong to it, too.
        (1, _) if edit::address(bytes, End::Destination) == Some(TRANSLATED) => {
            edit::set_address(bytes, End::Destination, a);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
