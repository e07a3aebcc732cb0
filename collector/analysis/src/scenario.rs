//! Scenarios drawn as text, with a model of two hosts whose clocks know nothing of
//! each other. Each character of a flow's line is one probe:
//!
//! | char | what became of it |
//! |---|---|
//! | `.` | answered |
//! | `l` | answered late |
//! | `d` | answered twice |
//! | `x` | lost on the way out |
//! | `r` | lost on the way back |
//! | `p` | arrived, not answered by the reflector's policy |
//! | `q` | arrived, the reply refused by the reflector's kernel: no route |
//! | `R` | refused by the sender's kernel: no route |
//! | `B` | refused by the sender's kernel: no room |
//! | `s` | slot skipped: no sequence number used |
//! | `_` | on no record at all |
//!
//! Hop counts are lines of digits of the same length; the last digit holds on.

use crate::findings::{Findings, Marker, MarkerKind};
use crate::input::{Input, ReflectorRun, SenderRun, SessionRecords};
use crate::schema::Utc;
use hopgap_proto::plan::{
    AgentPlan, Destination, Objective, PathPlan, PathRole, Plan, SessionPlan,
};
use hopgap_proto::record::{
    Event, EventKind, FlowIndex, Hop, HopReply, HopReplyKind, Probe, ProbeFate, Reception, Reply,
    RunId, Stamp, StampSource, Trace,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

/// The sender's monotonic clock at the first probe.
pub(crate) const BEGIN: Mono = Mono::from_nanos(100_000_000_000);
/// UTC at the first probe, by the sender's wall clock.
pub(crate) const UTC: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
/// The reflector's wall clock runs ahead by this much.
pub(crate) const SKEW: Span = Span::from_millis(37);
/// The reflector's monotonic clock at [`BEGIN`].
pub(crate) const REFLECTOR_BEGIN: Mono = Mono::from_nanos(7_777_000_000_000);

/// One flow of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) fates: Vec<char>,
    pub(crate) forward: Vec<u8>,
    pub(crate) reverse: Vec<u8>,
}

/// A flow on a path of five hops each way.
pub(crate) fn line(fates: &str) -> Line {
    Line {
        fates: fates.chars().collect(),
        forward: vec![5],
        reverse: vec![5],
    }
}

impl Line {
    pub(crate) fn forward(self, hops: &str) -> Self {
        Self {
            forward: digits(hops),
            ..self
        }
    }
    pub(crate) fn reverse(self, hops: &str) -> Self {
        Self {
            reverse: digits(hops),
            ..self
        }
    }
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().map(|b| b - b'0').collect()
}

fn at(hops: &[u8], i: usize) -> u8 {
    *hops.get(i).or(hops.last()).unwrap()
}

/// What the scenario has to say beyond its probes.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) interval: Span,
    pub(crate) lines: Vec<Line>,
    /// Whether the reflector's log was delivered.
    pub(crate) log: bool,
    /// Whether the reflector is one of ours.
    pub(crate) foreign: bool,
    /// Whether the reflector counts.
    pub(crate) stateful: bool,
    pub(crate) traces: Vec<Trace>,
    pub(crate) events: Vec<Event>,
    /// The reflector's events of the session, on its own clock.
    pub(crate) reflector_events: Vec<Event>,
    pub(crate) markers: Vec<Marker>,
    /// How long both agents go on after the last probe.
    pub(crate) tail: Span,
    /// The reflector's program stands still in these stretches after [`BEGIN`]; what came
    /// meanwhile leaves a microsecond apart when it goes on.
    pub(crate) stalls: Vec<(Span, Span)>,
    /// A queue on the way out holds what is sent in these stretches; it comes through a
    /// millisecond apart at their ends.
    pub(crate) queues: Vec<(Span, Span)>,
    /// Replies that depart in these stretches after [`BEGIN`] are lost.
    pub(crate) cut_back: Vec<(Span, Span)>,
    /// Whether the reflector's log knows departures: older versions did not.
    pub(crate) departures: bool,
    /// T3 is later than the arrival by this much, and the kernel's departure by as much
    /// again: the reflector waits for the processor.
    pub(crate) residence: Span,
}

pub(crate) fn world(lines: &[Line]) -> World {
    World {
        interval: Span::from_millis(10),
        lines: lines.to_vec(),
        log: true,
        foreign: false,
        stateful: true,
        traces: Vec::new(),
        events: Vec::new(),
        reflector_events: Vec::new(),
        markers: Vec::new(),
        tail: Span::from_secs(20),
        stalls: Vec::new(),
        queues: Vec::new(),
        cut_back: Vec::new(),
        departures: true,
        residence: Span::from_micros(20),
    }
}

/// When the probe of slot `i` is sent: the grid, and up to 50 µs of lateness.
pub(crate) fn sent_at(interval: Span, i: usize) -> Mono {
    let i = i64::try_from(i).unwrap();
    BEGIN + interval * i + Span::from_nanos((i * 7_919) % 50_000)
}

/// The same on the reflector's clock.
pub(crate) fn reflector_at(interval: Span, i: usize) -> Mono {
    REFLECTOR_BEGIN + (sent_at(interval, i) - BEGIN)
}

/// The same on UTC.
pub(crate) fn utc_at(interval: Span, i: usize) -> Utc {
    Utc(UTC + (sent_at(interval, i) - BEGIN))
}

fn stamp(at: Mono) -> Stamp {
    Stamp {
        at,
        source: StampSource::Kernel,
    }
}

pub(crate) fn pair(after: Span) -> ClockPair {
    ClockPair {
        mono: BEGIN + after,
        wall: UTC + after,
    }
}

fn reflector_pair(after: Span) -> ClockPair {
    ClockPair {
        mono: REFLECTOR_BEGIN + after,
        wall: UTC + SKEW + after,
    }
}

pub(crate) fn plan(flows: u8, interval: Span, foreign: bool) -> Plan {
    let agent = |name: &str, address: &str| AgentPlan {
        name: name.parse().unwrap(),
        address: address.parse().unwrap(),
        reflector_port: 862,
    };
    let path = |name: &str, role, passes: &str, hop| PathPlan {
        name: name.parse().unwrap(),
        role,
        passes: passes
            .split_whitespace()
            .map(|a| a.parse().unwrap())
            .collect(),
        target_at_hop: Some(hop),
    };
    Plan {
        agents: vec![
            agent("onprem", "10.1.11.10"),
            agent("azure", "10.17.11.132"),
        ],
        sessions: vec![SessionPlan {
            name: "out".parse().unwrap(),
            from: "onprem".parse().unwrap(),
            to: if foreign {
                Destination::Foreign("10.17.11.132:862".parse().unwrap())
            } else {
                Destination::Agent("azure".parse().unwrap())
            },
            interval,
            flows,
            source_port: 50_000,
            ssid: None,
            timeout: Span::from_secs(2),
            trace_interval: Span::from_secs(1),
            path_mtu_interval: None,
            dscp: 0,
            precise: false,
            time_unit: Span::from_nanos(100),
            authenticated: None,
            key: None,
        }],
        echoes: Vec::new(),
        paths: vec![
            path(
                "expressroute-primary",
                PathRole::Primary,
                "192.168.11.18",
                5,
            ),
            path(
                "expressroute-secondary",
                PathRole::Primary,
                "192.168.11.22",
                5,
            ),
            path("vpn", PathRole::Backup, "", 3),
        ],
        objective: Objective::default(),
    }
}

impl World {
    pub(crate) fn slots(&self) -> usize {
        self.lines.iter().map(|l| l.fates.len()).max().unwrap_or(0)
    }

    /// Everything as records.
    pub(crate) fn input(&self) -> Input {
        let flows = u8::try_from(self.lines.len()).unwrap();
        let length = self.interval * i64::try_from(self.slots()).unwrap();
        let mut sender = SenderRun {
            agent: "onprem".parse().unwrap(),
            run: RunId(1),
            clocks: clocks(length + self.tail, pair),
            probes: Vec::new(),
            traces: self.traces.clone(),
            events: self.events.clone(),
        };
        let mut reflector = ReflectorRun {
            agent: "azure".parse().unwrap(),
            run: RunId(2),
            clocks: clocks(length + self.tail, reflector_pair),
            receptions: Vec::new(),
            events: self.reflector_events.clone(),
        };
        for (flow, line) in self.lines.iter().enumerate() {
            self.add_line(
                u8::try_from(flow).unwrap(),
                line,
                &mut sender,
                &mut reflector,
            );
        }
        Input {
            plan: plan(flows, self.interval, self.foreign),
            window: None,
            sessions: vec![SessionRecords {
                session: "out".parse().unwrap(),
                sender: vec![sender],
                reflector: if self.log {
                    vec![reflector]
                } else {
                    Vec::new()
                },
            }],
            markers: self.markers.clone(),
            echoes: Vec::new(),
            clocks: Vec::new(),
            ..Input::default()
        }
    }

    fn add_line(
        &self,
        flow: u8,
        line: &Line,
        sender: &mut SenderRun,
        reflector: &mut ReflectorRun,
    ) {
        let flow = FlowIndex(flow);
        let mut seq = Seq(0);
        let mut counter = Seq(0);
        for (i, &fate) in line.fates.iter().enumerate() {
            let sent = sent_at(self.interval, i);
            if fate == 's' {
                sender.events.push(Event {
                    at: sent,
                    kind: EventKind::SlotsSkipped {
                        flow,
                        first: sent,
                        count: 1,
                    },
                });
                continue;
            }
            let own = seq;
            seq = seq.next();
            let (out, back) = (at(&line.forward, i), at(&line.reverse, i));
            let one_way = |hop: u8| Span::from_micros(if hop == 5 { 2_500 } else { 4_000 });
            let arrives = held(&self.queues, sent - BEGIN, Span::from_millis(1)) + one_way(out);
            let begins = held(&self.stalls, arrives, Span::from_micros(1));
            // What waited stays until then; else the program answers after a while, and the
            // kernel sends after as long again.
            let residence = begins - arrives + self.residence;
            let left = if self.residence > Span::from_micros(20) {
                arrives + residence + self.residence
            } else {
                arrives + residence
            };
            let cut = self.cut_back.iter().any(|(a, b)| *a <= left && left < *b);
            let fate = if cut && fate == '.' { 'r' } else { fate };
            let reflector_received = UTC + SKEW + arrives;
            let reflector_seq = if self.stateful { counter } else { own };
            let reply = |extra: Span| Reply {
                received: stamp(BEGIN + left + one_way(back) + extra),
                reflector_received,
                reflector_sent: reflector_received + residence,
                reflector_seq,
                forward_ttl: Some(255 - (out - 1)),
                reverse_ttl: Some(255 - (back - 1)),
            };
            let arrived = matches!(fate, '.' | 'l' | 'd' | 'r' | 'p' | 'q' | '_');
            if arrived && !matches!(fate, 'p' | 'q') {
                counter = counter.next();
            }
            if arrived {
                reflector.receptions.push(Reception {
                    flow,
                    seq: own,
                    received: stamp(REFLECTOR_BEGIN + arrives),
                    ttl: Some(255 - (out - 1)),
                    reflector_seq: (!matches!(fate, 'p' | 'q')).then_some(reflector_seq),
                    departed: (self.departures && fate != 'p')
                        .then_some(stamp(REFLECTOR_BEGIN + left)),
                    refused: (fate == 'q').then_some(113),
                });
            }
            let waits = left + one_way(back) - (sent - BEGIN);
            let fates: Vec<ProbeFate> = match fate {
                '.' if waits > Span::from_secs(2) => vec![
                    ProbeFate::Unanswered,
                    ProbeFate::Answered(reply(Span::ZERO)),
                ],
                '.' => vec![ProbeFate::Answered(reply(Span::ZERO))],
                'l' => vec![
                    ProbeFate::Unanswered,
                    ProbeFate::Answered(reply(Span::from_millis(2_500))),
                ],
                'd' => vec![
                    ProbeFate::Answered(reply(Span::from_millis(1))),
                    ProbeFate::Answered(reply(Span::ZERO)),
                ],
                'x' | 'r' | 'p' | 'q' => vec![ProbeFate::Unanswered],
                'R' => vec![ProbeFate::Refused(101)],
                'B' => vec![ProbeFate::Refused(105)],
                '_' => vec![],
                other => panic!("no such fate: {other}"),
            };
            sender.probes.extend(fates.into_iter().map(|fate| Probe {
                flow,
                seq: own,
                sent: stamp(sent),
                fate,
            }));
        }
    }

    pub(crate) fn analyse(&self) -> Findings {
        crate::analyse(&self.input())
    }

    /// A marker this long after the first probe.
    pub(crate) fn mark(mut self, after: Span, kind: MarkerKind) -> Self {
        self.markers.push(Marker {
            at: Utc(UTC + after),
            kind,
            text: String::new(),
        });
        self
    }

    /// A traceroute of `flow` that starts at slot `i`.
    pub(crate) fn trace(mut self, flow: u8, i: usize, hops: &[&str]) -> Self {
        self.traces
            .push(trace(flow, sent_at(self.interval, i), hops));
        self
    }
}

/// What happens at `at` is put off to the end of a stretch that it lies in; what was put
/// off first comes first, `apart` from one to the next by its place in the stretch.
fn held(stretches: &[(Span, Span)], at: Span, apart: Span) -> Span {
    let stretch = stretches.iter().find(|(a, b)| *a <= at && at < *b);
    stretch.map_or(at, |(from, to)| {
        // Ten milliseconds from one probe to the next.
        let place = (at - *from).as_nanos() / 10_000_000;
        *to + apart * place
    })
}

fn clocks(length: Span, pair: fn(Span) -> ClockPair) -> Vec<ClockPair> {
    let every = Span::from_secs(10);
    let mut clocks = vec![pair(-Span::from_secs(1))];
    let mut after = Span::ZERO;
    while after < length {
        clocks.push(pair(after));
        after += every;
    }
    clocks.push(pair(length));
    clocks
}

/// The article's route over the primary circuit.
pub(crate) const PRIMARY: [&str; 5] = [
    "10.1.11.1",
    "192.168.11.0",
    "192.168.11.18",
    "*",
    "10.17.11.132",
];
/// The same over the secondary.
pub(crate) const SECONDARY: [&str; 5] = [
    "10.1.11.1",
    "192.168.11.4",
    "192.168.11.22",
    "*",
    "10.17.11.132",
];
/// The article's route over the tunnel.
pub(crate) const VPN: [&str; 3] = ["10.1.11.1", "*", "10.17.11.132"];

/// A traceroute; `*` is a silent hop, `!address` says 'network unreachable'.
pub(crate) fn trace(flow: u8, started: Mono, hops: &[&str]) -> Trace {
    let target: std::net::IpAddr = "10.17.11.132".parse().unwrap();
    let hops: Vec<Hop> = hops
        .iter()
        .zip(1_u8..)
        .map(|(answer, ttl)| {
            let address = answer.trim_start_matches('!');
            let replies = address.parse().ok().map(|from| HopReply {
                from,
                round_trip: Span::from_millis(i64::from(ttl)),
                kind: if answer.starts_with('!') {
                    HopReplyKind::Unreachable(0)
                } else if from == target {
                    HopReplyKind::Reflected
                } else {
                    HopReplyKind::TimeExceeded
                },
            });
            Hop {
                ttl,
                sent: 1,
                replies: replies.into_iter().collect(),
            }
        })
        .collect();
    let reached_at = hops
        .iter()
        .find(|h| h.replies.iter().any(|r| r.from == target))
        .map(|h| h.ttl);
    Trace {
        flow: FlowIndex(flow),
        started,
        finished: started + Span::from_millis(20),
        target,
        hops,
        reached_at,
    }
}
