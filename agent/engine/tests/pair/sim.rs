//! A sender and a reflector joined by a simulated link, in virtual time, with a
//! note of everything that truly happened.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use hopgap_engine::reflector::{
    Datagram, Output as ReflectorOutput, Rate, ReflectedSession, Reflector, ReflectorConfig,
    Verdict,
};
use hopgap_engine::sender::{Output, Sender, SenderConfig};
use hopgap_proto::record::{Event, FlowIndex, Probe, Reception, Stamp, StampSource};
use hopgap_proto::stamp::{ErrorEstimate, Seq, SessionKeys, Ssid, TimestampFormat};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::BTreeMap;

pub(crate) const SOURCE_PORT: u16 = 50_000;
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 1, 11, 10);
const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 17, 11, 132)), 862);
/// The two hosts' clocks agree neither in origin nor in the time of day.
const SENDER_WALL: i64 = 1_790_000_000_000_000_000;
const REFLECTOR_MONO: i64 = 77_000_000_000;
const REFLECTOR_WALL: i64 = SENDER_WALL + 3_141_592_653;
/// A kernel transmit stamp is this much after the program's own.
pub(crate) const STAMP_LAG: Span = Span::from_micros(7);
const RESIDENCE: Span = Span::from_micros(30);

/// A small generator of the SplitMix family: the same on every machine.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in `permille` of a thousand cases.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.roll() % 1000 < permille
    }

    fn span(&mut self, low: Span, high: Span) -> Span {
        let width = (high - low).as_nanos().max(0).unsigned_abs() + 1;
        low + Span::from_nanos(i64::try_from(self.roll() % width).unwrap())
    }
}

/// What the link does to packets of one direction.
#[derive(Clone)]
pub(crate) struct Direction {
    pub(crate) delay: (Span, Span),
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// All packets entering in these spans of time (since the start) are lost.
    pub(crate) outages: Vec<(Span, Span)>,
    /// Routers on the way: by this much the TTL is lower on arrival.
    pub(crate) routers: u8,
}

impl Direction {
    pub(crate) fn clean(delay: Span, routers: u8) -> Self {
        Self {
            delay: (delay, delay),
            loss: 0,
            duplicates: 0,
            outages: vec![],
            routers,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) length: Span,
    pub(crate) interval: Span,
    pub(crate) flows: u8,
    pub(crate) timeout: Span,
    pub(crate) forward: Direction,
    pub(crate) reverse: Direction,
    /// Sends that the kernel refuses, of a thousand.
    pub(crate) refused: u64,
    /// Transmit stamps that never come, of a thousand.
    pub(crate) stampless: u64,
    /// The shell oversleeps by up to this much, in a twentieth of its wakings.
    pub(crate) oversleep: Span,
    /// The reflector is started anew at these times.
    pub(crate) restarts: Vec<Span>,
    /// The reflecting host's program stands still in these spans of time: its kernel
    /// takes packets in, and they are answered when it goes on.
    pub(crate) stalls: Vec<(Span, Span)>,
    pub(crate) first_seq: Seq,
    pub(crate) keys: Option<SessionKeys>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            length: Span::from_secs(5),
            interval: Span::from_millis(10),
            flows: 4,
            timeout: Span::from_millis(500),
            forward: Direction::clean(Span::from_micros(2_500), 3),
            reverse: Direction::clean(Span::from_micros(2_600), 2),
            refused: 0,
            stampless: 0,
            oversleep: Span::ZERO,
            restarts: vec![],
            stalls: vec![],
            first_seq: Seq(0),
            keys: None,
        }
    }
}

/// A reply that truly arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrueReply {
    pub(crate) received: Mono,
    pub(crate) reflector_received: Wall,
    pub(crate) reflector_sent: Wall,
    pub(crate) reflector_seq: u32,
    pub(crate) forward_ttl: u8,
    pub(crate) reverse_ttl: u8,
}

/// What truly became of a probe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) refused: Option<i32>,
    pub(crate) sent: Option<Stamp>,
    /// Copies that reached the reflector.
    pub(crate) arrivals: u32,
    pub(crate) replies: Vec<TrueReply>,
}

/// What was recorded, and what truly happened.
pub(crate) struct Outcome {
    pub(crate) truth: BTreeMap<(FlowIndex, Seq), Truth>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) events: Vec<Event>,
    pub(crate) receptions: Vec<Reception>,
    pub(crate) reflector_events: Vec<Event>,
    pub(crate) slots_skipped: u32,
    /// The session's Tmax.
    pub(crate) timeout: Span,
}

enum Arrival {
    Request {
        flow: FlowIndex,
        bytes: Vec<u8>,
    },
    Reply {
        flow: FlowIndex,
        bytes: Vec<u8>,
        ttl: u8,
        seq: Seq,
        truth: TrueReply,
    },
}

struct World {
    scenario: Scenario,
    dice: Dice,
    /// In flight, by the time of arrival and a number that keeps ties in order.
    flight: BTreeMap<(Mono, u64), Arrival>,
    launched: u64,
    reflector: Reflector,
    restarts: Vec<Span>,
    outcome: Outcome,
}

fn estimate() -> ErrorEstimate {
    ErrorEstimate::from_error(Span::from_millis(2), TimestampFormat::Ntp)
}

fn reflector(scenario: &Scenario) -> Reflector {
    let mut config = ReflectorConfig::new(TARGET.port(), estimate());
    config.sessions = vec![ReflectedSession {
        name: "pair".parse().unwrap(),
        from: IpAddr::V4(SENDER),
        reflector_port: 862,
        source_port: SOURCE_PORT,
        ssid: Ssid(7),
        flows: scenario.flows,
        keys: scenario.keys.clone(),
        rate: Rate::of_session(scenario.interval, scenario.flows),
    }];
    Reflector::new(config)
}

/// Runs a scenario to its end, until the sender is drained.
pub(crate) fn run(scenario: &Scenario) -> Outcome {
    let start = Mono::from_nanos(5_000_000_000);
    let mut sender = Sender::new(SenderConfig {
        origin: start,
        interval: scenario.interval,
        flows: scenario.flows,
        ssid: Ssid(7),
        timeout: scenario.timeout,
        late_window: Span::from_secs(10),
        stamp_grace: Span::from_millis(50),
        keys: scenario.keys.clone(),
        error_estimate: estimate(),
        first_seq: scenario.first_seq,
    });
    let mut world = World {
        dice: Dice::new(scenario.seed),
        flight: BTreeMap::new(),
        launched: 0,
        reflector: reflector(scenario),
        restarts: scenario.restarts.clone(),
        outcome: Outcome {
            truth: BTreeMap::new(),
            probes: vec![],
            events: vec![],
            receptions: vec![],
            reflector_events: vec![],
            slots_skipped: 0,
            timeout: scenario.timeout,
        },
        scenario: scenario.clone(),
    };
    let mut packet = Vec::new();
    let mut stopped = false;
    let mut now = start;
    while let Some(wake) = sender.poll_timeout() {
        now = now.max(wake);
        if scenario.oversleep > Span::ZERO && world.dice.chance(50) {
            now += world.dice.span(Span::ZERO, scenario.oversleep);
        }
        if !stopped && now - start >= scenario.length {
            sender.stop(now);
            stopped = true;
        }
        let mut stamps = vec![];
        while let Some(t) = sender.poll_transmit(now, wall(now), &mut packet) {
            now += Span::from_micros(3);
            let truth = world.outcome.truth.entry((t.flow, t.seq)).or_default();
            if world.dice.chance(scenario.refused) {
                truth.refused = Some(101);
                sender.handle_refused(t.flow, t.seq, now, 101);
                continue;
            }
            sender.handle_sent(t.flow, t.seq, now);
            if world.dice.chance(scenario.stampless) {
                truth.sent = Some(Stamp {
                    at: now,
                    source: StampSource::User,
                });
            } else {
                let stamp = Stamp {
                    at: now + STAMP_LAG,
                    source: StampSource::Kernel,
                };
                truth.sent = Some(stamp);
                stamps.push((t.flow, t.seq, stamp));
            }
            world.launch_request(t.flow, &packet, now + STAMP_LAG - start, now + STAMP_LAG);
        }
        // The sockets are read now; what comes from here on is for the next waking.
        let reading = now;
        for (flow, seq, stamp) in stamps {
            sender.handle_tx_stamp(flow, seq, stamp);
        }
        world.deliver(start, reading, &mut sender);
        sender.handle_timeout(reading);
        world.drain(&mut sender);
        if sender.is_drained() && world.flight.is_empty() {
            break;
        }
        now += Span::from_nanos(1);
    }
    assert!(sender.is_drained());
    world.drain(&mut sender);
    world.outcome
}

fn wall(mono: Mono) -> Wall {
    Wall::from_nanos(SENDER_WALL + mono.as_nanos())
}

impl World {
    fn launch_request(&mut self, flow: FlowIndex, bytes: &[u8], since: Span, at: Mono) {
        let link = self.scenario.forward.clone();
        for delay in self.copies(&link, since) {
            let arrival = Arrival::Request {
                flow,
                bytes: bytes.to_vec(),
            };
            self.launch(at + delay, arrival);
        }
    }

    /// Delays of the copies that come through.
    fn copies(&mut self, link: &Direction, since: Span) -> Vec<Span> {
        let out = link.outages.iter().any(|(a, b)| (*a..*b).contains(&since));
        let mut copies = vec![];
        for _ in 0..=u8::from(self.dice.chance(link.duplicates)) {
            let delay = self.dice.span(link.delay.0, link.delay.1);
            if !self.dice.chance(link.loss) && !out {
                copies.push(delay);
            }
        }
        copies
    }

    fn launch(&mut self, at: Mono, arrival: Arrival) {
        self.launched += 1;
        self.flight.insert((at, self.launched), arrival);
    }

    /// Everything that arrives up to and with `until`.
    fn deliver(&mut self, start: Mono, until: Mono, sender: &mut Sender) {
        while let Some(entry) = self.flight.first_entry() {
            let (at, _) = *entry.key();
            if at > until {
                break;
            }
            match entry.remove() {
                Arrival::Request { flow, bytes } => self.reflect(start, at, flow, &bytes),
                Arrival::Reply {
                    flow,
                    bytes,
                    ttl,
                    seq,
                    truth,
                } => {
                    self.outcome
                        .truth
                        .get_mut(&(flow, seq))
                        .unwrap()
                        .replies
                        .push(truth);
                    let received = Stamp {
                        at,
                        source: StampSource::Kernel,
                    };
                    sender.handle_datagram(flow, &bytes, received, Some(ttl));
                }
            }
        }
    }

    fn reflect(&mut self, start: Mono, at: Mono, flow: FlowIndex, bytes: &[u8]) {
        if self.restarts.first().is_some_and(|r| at - start >= *r) {
            self.restarts.remove(0);
            self.drain_reflector();
            let fresh = reflector(&self.scenario);
            self.reflector = fresh;
        }
        let received_wall = Wall::from_nanos(REFLECTOR_WALL + at.as_nanos());
        let ttl = 255 - self.scenario.forward.routers;
        let mut reply = Vec::new();
        let datagram = Datagram {
            bytes,
            from: SocketAddr::new(IpAddr::V4(SENDER), SOURCE_PORT + u16::from(flow.0)),
            to: TARGET,
            ttl: Some(ttl),
            tos: Some(0),
            received: Stamp {
                at: Mono::from_nanos(at.as_nanos() + REFLECTOR_MONO),
                source: StampSource::Kernel,
            },
            received_wall,
        };
        let stall =
            (self.scenario.stalls.iter()).find(|(from, to)| (*from..*to).contains(&(at - start)));
        let held = stall.map_or(Span::ZERO, |(_, to)| start + *to - at);
        let sending = received_wall + held + RESIDENCE;
        let verdict = self.reflector.handle(&datagram, sending, &mut reply);
        let Verdict::Reply { ticket, .. } = verdict else {
            panic!("{verdict:?}");
        };
        let departed = Stamp {
            at: datagram.received.at + held + RESIDENCE,
            source: StampSource::Kernel,
        };
        self.reflector.handle_sent(ticket, departed.at, true);
        self.reflector.handle_departed(ticket, departed, sending);
        assert_eq!(reply.len(), bytes.len());
        let seq = Seq(u32::from_be_bytes(bytes[..4].try_into().unwrap()));
        self.outcome.truth.get_mut(&(flow, seq)).unwrap().arrivals += 1;
        let link = self.scenario.reverse.clone();
        let left = at + held + RESIDENCE;
        for delay in self.copies(&link, left - start) {
            let reverse_ttl = 255 - link.routers;
            let truth = TrueReply {
                received: left + delay,
                reflector_received: received_wall,
                reflector_sent: sending,
                reflector_seq: u32::from_be_bytes(reply[..4].try_into().unwrap()),
                forward_ttl: ttl,
                reverse_ttl,
            };
            let bytes = reply.clone();
            let arrival = Arrival::Reply {
                flow,
                bytes,
                ttl: reverse_ttl,
                seq,
                truth,
            };
            self.launch(left + delay, arrival);
        }
    }

    fn drain_reflector(&mut self) {
        self.reflector
            .handle_timeout(Mono::from_nanos(i64::MAX / 2));
        while let Some(output) = self.reflector.poll_output() {
            match output {
                ReflectorOutput::Reception(_, reception) => self.outcome.receptions.push(reception),
                ReflectorOutput::Event(_, event) => self.outcome.reflector_events.push(event),
            }
        }
    }

    fn drain(&mut self, sender: &mut Sender) {
        self.drain_reflector();
        while let Some(output) = sender.poll_output() {
            match output {
                Output::Probe(probe) => self.outcome.probes.push(probe),
                Output::Event(event) => {
                    if let hopgap_proto::record::EventKind::SlotsSkipped { count, .. } = event.kind
                    {
                        self.outcome.slots_skipped += count;
                    }
                    self.outcome.events.push(event);
                }
                Output::TraceReply(reply) => panic!("{reply:?}"),
            }
        }
    }
}
