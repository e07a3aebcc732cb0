//! Synthetic sessions for tests and benchmarks: deterministic from a seed, with noise like
//! that of a real path between two virtual machines.
//!
//! Per probe, independent of each other:
//! - lateness of the send: lognormal, median 43 µs and 99th percentile 93 µs (a
//!   timerfd at 1 kHz), and for one in a thousand a stall of up to 3 ms;
//! - each way: 2.5 ms, Gaussian queueing noise of 12 µs, and an exponential
//!   kernel noise with a mean of 2 µs;
//! - the stay at the reflector: 6 µs plus a lognormal with a median of 3 µs;
//! - loss: one in a thousand on either way.
//!
//! The reflector's wall clock is 3.2 ms ahead of the sender's. Every number is
//! a whole nanosecond.

use super::{Block, BlockBody, BlockHeader, BlockKey};
use crate::record::{
    AgentName, FlowIndex, NameError, Probe, ProbeFate, Reception, Reply, RunId, SessionName, Stamp,
    StampSource,
};
use crate::stamp::Seq;
use crate::time::{ClockPair, Mono, Span, Wall};

/// A synthetic session without an end.
#[derive(Clone, Debug)]
pub struct Synthetic {
    rng: SplitMix,
    agent: AgentName,
    session: SessionName,
    flows: u8,
    interval: Span,
    number: u64,
    next_seq: u32,
    received: Vec<u32>,
}

/// What both ends recorded in one stretch of time.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The sender's account, in the order of sending.
    pub probes: Block,
    /// The reflector's account, in the order of sending.
    pub receptions: Block,
}

const START: Mono = Mono::from_nanos(86_400_000_000_000);
const WALL_OFFSET: i64 = 1_790_000_000_000_000_000;
const REFLECTOR_AHEAD: Span = Span::from_micros(3_200);

impl Synthetic {
    /// A session of `flows` flows, each with a probe every `interval`.
    ///
    /// # Errors
    /// Never; the names in it are usable.
    pub fn new(seed: u64, flows: u8, interval: Span) -> Result<Self, NameError> {
        Ok(Self {
            rng: SplitMix(seed),
            agent: "synthetic".parse()?,
            session: "synthetic".parse()?,
            flows,
            interval,
            number: 0,
            next_seq: 0,
            received: vec![0; usize::from(flows)],
        })
    }

    /// The next `rows` probes of every flow.
    pub fn stretch(&mut self, rows: u32) -> Stretch {
        let (mut probes, mut receptions) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let seq = Seq(self.next_seq);
            self.next_seq = self.next_seq.wrapping_add(1);
            for flow in 0..self.flows {
                let slot = START
                    + self.interval * i64::from(seq.0)
                    + self.interval / i64::from(self.flows) * i64::from(flow);
                self.probe(FlowIndex(flow), seq, slot, &mut probes, &mut receptions);
            }
        }
        let closed = START + self.interval * i64::from(self.next_seq);
        Stretch {
            probes: self.block(BlockBody::Probes(probes), closed),
            receptions: self.block(BlockBody::Receptions(receptions), closed),
        }
    }

    fn block(&mut self, body: BlockBody, closed: Mono) -> Block {
        let number = self.number;
        self.number += 1;
        Block {
            header: BlockHeader {
                key: BlockKey {
                    agent: self.agent.clone(),
                    run: RunId(1),
                    number,
                },
                session: Some(self.session.clone()),
                closed: ClockPair {
                    mono: closed,
                    wall: Wall::from_nanos(closed.as_nanos() + WALL_OFFSET),
                },
            },
            body,
        }
    }

    fn probe(
        &mut self,
        flow: FlowIndex,
        seq: Seq,
        slot: Mono,
        probes: &mut Vec<Probe>,
        receptions: &mut Vec<Reception>,
    ) {
        let kernel = |at| Stamp {
            at,
            source: StampSource::Kernel,
        };
        let sent = slot + self.lateness();
        let arrived = sent + self.way();
        let left = arrived + Span::from_micros(6) + self.rng.lognormal(3_000.0, 0.5);
        let received = left + self.way();
        let (lost_out, lost_back) = (self.rng.one_in(1_000), self.rng.one_in(1_000));
        let counter = &mut self.received[usize::from(flow.0)];
        let reflector_seq = Seq(*counter);
        if !lost_out {
            *counter = counter.wrapping_add(1);
            receptions.push(Reception {
                flow,
                seq,
                received: kernel(arrived + REFLECTOR_AHEAD),
                ttl: Some(251),
                reflector_seq: Some(reflector_seq),
                departed: Some(kernel(left + REFLECTOR_AHEAD)),
                refused: None,
            });
        }
        let wall = |at: Mono| Wall::from_nanos((at + REFLECTOR_AHEAD).as_nanos() + WALL_OFFSET);
        let fate = if lost_out || lost_back {
            ProbeFate::Unanswered
        } else {
            ProbeFate::Answered(Reply {
                received: kernel(received),
                reflector_received: wall(arrived),
                reflector_sent: wall(left),
                reflector_seq,
                forward_ttl: Some(251),
                reverse_ttl: Some(251),
            })
        };
        probes.push(Probe {
            flow,
            seq,
            sent: kernel(sent),
            fate,
        });
    }

    fn lateness(&mut self) -> Span {
        if self.rng.one_in(1_000) {
            return self.rng.exponential(800_000.0).min(Span::from_millis(3));
        }
        self.rng.lognormal(43_000.0, 0.331)
    }

    fn way(&mut self) -> Span {
        Span::from_micros(2_500) + self.rng.gaussian(12_000.0) + self.rng.exponential(2_000.0)
    }
}

/// The SplitMix64 generator.
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// Uniform in (0, 1].
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller's method.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (core::f64::consts::TAU * self.unit()).cos()
    }

    fn gaussian(&mut self, sigma_ns: f64) -> Span {
        whole(sigma_ns * self.normal())
    }

    fn exponential(&mut self, mean_ns: f64) -> Span {
        whole(-mean_ns * self.unit().ln())
    }

    fn lognormal(&mut self, median_ns: f64, sigma: f64) -> Span {
        whole(median_ns * (sigma * self.normal()).exp())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "noise of seconds at most")]
fn whole(nanos: f64) -> Span {
    Span::from_nanos(nanos.round() as i64)
}
