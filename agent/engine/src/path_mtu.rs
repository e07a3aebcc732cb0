//! The path MTU by probing (RFC 8899, DPLPMTUD): padded STAMP requests of several
//! sizes that no router may fragment, in a flow's own 5-tuple, so that they go the
//! probes' way.
//!
//! A search narrows down two sizes: the largest that came back and the smallest that did not.
//! Each step sends a few sizes at once. A size is given up where the interface has no room
//! for it, where a router says so (RFC 1191, RFC 8201), or where it stayed unanswered
//! [`MAX_PROBES`] times *while a smaller one, sent with it, was answered*: an outage or
//! random loss says nothing about sizes. A search begins at the size that was found before,
//! so that an unchanged path costs one step.
//!
//! An ICMP error counts if everything that it quotes matches a packet that was sent (see
//! [`crate::packet`]); others are counted, and settle nothing.
//!
//! A reply is as long as its request (RFC 8972 section 4.1), so a size counts only if both
//! directions carry it.

use crate::packet::{self, Header, Identity, Marks, Quoted};
use crate::schedule::Grid;
use crate::secret::{Purpose, Secret};
use crate::sender::{TraceReply, request_mode, ssid_of};
use crate::unfit::UnfitCounts;
use core::net::{IpAddr, SocketAddr};
use hopgap_proto::icmp::{IcmpError, IcmpErrorKind};
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::record::{Event, EventKind, FlowIndex, MtuLimit, PathMtu, UnfitIcmp};
use hopgap_proto::stamp::{
    ErrorEstimate, SenderPacket, Seq, SessionKeys, Ssid, Timestamp, tlv::HEADER_LEN, tlv::Writer,
};
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::VecDeque;

/// A size is lost after this many unanswered attempts (RFC 8899 section 5.1.2).
pub const MAX_PROBES: u8 = 3;
/// The largest size that is tried: jumbo frames.
const GREATEST: u16 = 9000;
/// Sizes common in networks: jumbo, Ethernet, tunnels of some kinds, IPv6's minimum.
const USUAL: [u16; 6] = [GREATEST, 1500, 1450, 1400, 1280, 576];
/// UDP header and IPv4 header without options (RFC 768, RFC 791), or IPv6 header (RFC 8200).
const HEADERS: (u16, u16) = (28, 48);
/// How many sizes between two known ones are tried at once.
const AT_ONCE: u16 = 4;
/// The shortest wait for replies once the path's round trip is known.
const SHORTEST_WAIT: Span = Span::from_millis(250);
/// Most packets remembered: those of a search and more.
const MOST_SENT: usize = 64;
/// A search is given up after this many attempts in which not even the smallest packet came back.
const MOST_VOID: u8 = 3;
/// The lowest byte of a size probe's Sequence Number; no traceroute packet's TTL is as large.
const MARK: u32 = 0xff;
/// Traceroute's and these packets' Sequence Numbers have this bit.
const TRACE: u32 = 1 << 31;

/// What a [`PathMtuProber`] needs to know.
#[derive(Clone, Debug)]
pub struct PathMtuConfig {
    /// When the first search begins.
    pub origin: Mono,
    /// Time between two searches of the session; its flows take turns.
    pub interval: Span,
    /// Number of flows, at least one.
    pub flows: u8,
    /// Address and port of flow 0; flow `i` uses the port `i` above it.
    pub source: SocketAddr,
    /// The session's reflector.
    pub target: SocketAddr,
    /// Differentiated Services Code Point, as the probes have it.
    pub dscp: u8,
    /// SSID of flow 0's probes.
    pub ssid: Ssid,
    /// The session's key, where it is authenticated.
    pub keys: Option<SessionKeys>,
    /// Error estimate of this host's wall clock, as the kernel gives it.
    pub error_estimate: ErrorEstimate,
    /// The longest wait for replies to one attempt (`PROBE_TIMER`); shorter once the
    /// path's round trip is known.
    pub wait: Span,
    /// Makes the packets' identifiers unguessable.
    pub secret: Secret,
}

/// A packet to be sent now, not to be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeProbe {
    /// In this flow's 5-tuple.
    pub flow: FlowIndex,
    /// Its sequence number, by which the shell reports what became of it.
    pub seq: Seq,
    /// IPv4 Identification in the packet for a raw socket.
    pub ip_id: u16,
}

/// An ICMP error that says 'too big' of a packet in a flow's 5-tuple.
#[derive(Clone, Copy, Debug)]
pub struct TooBig<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// The next hop's MTU in bytes, where it says it.
    pub mtu: Option<u32>,
    /// What it quotes.
    pub quoted: Quoted<'a>,
}

/// Whether a Sequence Number, in a packet with a traceroute's SSID, is a size probe's.
pub fn is_size_probe(seq: Seq) -> bool {
    seq.0 & TRACE != 0 && seq.0 & MARK == MARK
}

/// Searches the path MTU of one session's flows.
#[derive(Debug)]
pub struct PathMtuProber {
    config: PathMtuConfig,
    grid: Grid,
    search: Option<Search>,
    /// What the last search found: the largest size that came back, and whether larger ones
    /// vanished in silence.
    known: Option<(u16, bool)>,
    number: u32,
    /// The newest packets.
    sent: VecDeque<Sent>,
    /// The longest recent round trip; it fades.
    longest: Option<Span>,
    unfit: UnfitCounts,
    scratch: Vec<u8>,
    events: VecDeque<Event>,
    stopped: bool,
}

#[derive(Debug)]
struct Search {
    flow: FlowIndex,
    since: Mono,
    /// The smallest packet of all, or the largest size that came back.
    passed: u16,
    /// The smallest size above it that did not.
    failed: Option<(u16, MtuLimit)>,
    tries: Vec<Try>,
    attempt: u8,
    void: u8,
    deadline: Mono,
}

/// One size in one step.
#[derive(Debug)]
struct Try {
    size: u16,
    /// Every packet that was sent with it; a late reply to an earlier one counts.
    sent: Vec<Seq>,
    to_send: bool,
    state: State,
}

/// A packet that was sent, maybe in a step that is over.
#[derive(Debug)]
struct Sent {
    flow: FlowIndex,
    seq: Seq,
    size: u16,
    at: Mono,
    identity: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Passed,
    Failed(MtuLimit),
}

impl PathMtuProber {
    /// A prober whose first search is due at the configured origin.
    pub fn new(config: PathMtuConfig) -> Self {
        Self {
            grid: Grid::new(config.origin, config.interval, 1),
            number: first_number(&config.secret),
            config,
            search: None,
            known: None,
            sent: VecDeque::new(),
            longest: None,
            unfit: UnfitCounts::new(),
            scratch: Vec::new(),
            events: VecDeque::new(),
            stopped: false,
        }
    }

    /// Sets the wall clock's error estimate.
    pub fn set_error_estimate(&mut self, error_estimate: ErrorEstimate) {
        self.config.error_estimate = error_estimate;
    }

    /// When the shell must be awake next; `None` when all is done.
    pub fn poll_timeout(&self) -> Option<Mono> {
        match &self.search {
            Some(search) if search.tries.iter().any(|t| t.to_send) => Some(search.since),
            Some(search) => Some(search.deadline),
            None => (!self.stopped).then(|| self.grid.next_due()),
        }
    }

    /// The next packet to be sent at `now`, its UDP payload written to `payload`
    /// (cleared first); `None` when there is none. `wall` is the wall clock at `now`.
    pub fn poll_transmit(
        &mut self,
        now: Mono,
        wall: Wall,
        payload: &mut Vec<u8>,
    ) -> Option<SizeProbe> {
        if self.search.is_none() && !self.stopped {
            // While a search takes longer than the interval, the next one waits.
            let slot = self.grid.take_due(now, |_| ())?;
            let flow = slot.number.rem_euclid(i64::from(self.config.flows.max(1)));
            let flow = FlowIndex(u8::try_from(flow).unwrap_or(0));
            let least = self.least();
            self.search = Some(Search::new(flow, now, least, self.known, self.wait()));
        }
        let wait = self.wait();
        let search = self.search.as_mut()?;
        let next = search.tries.iter_mut().find(|t| t.to_send)?;
        self.number = self.number.wrapping_add(1);
        let seq = Seq(TRACE | (self.number << 8 & !TRACE) | MARK);
        next.to_send = false;
        next.sent.push(seq);
        search.deadline = now + wait;
        let (flow, size) = (search.flow, next.size);
        let drawn = self
            .config
            .secret
            .draw(Purpose::SizeProbe, self.number.into());
        let marks = Marks::of(drawn);
        let probe = SizeProbe {
            flow,
            seq,
            ip_id: marks.ip_id,
        };
        self.write(&probe, marks, size, wall, payload)?;
        let header = self.header(&probe);
        let authenticated = self.config.keys.is_some();
        if self.sent.len() == MOST_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            flow,
            seq: probe.seq,
            size,
            at: now,
            identity: Identity::of(&header, payload, authenticated, &mut self.scratch),
        });
        Some(probe)
    }

    /// Writes the packet for a raw socket to `packet` (cleared first). IPv4: IP header,
    /// UDP header and payload, for `IP_HDRINCL`. IPv6: UDP header and payload; the kernel
    /// writes the IP header.
    pub fn write_raw(&self, probe: &SizeProbe, payload: &[u8], packet: &mut Vec<u8>) {
        packet::write(&self.header(probe), payload, packet);
    }

    fn header(&self, probe: &SizeProbe) -> Header {
        let mut source = self.config.source;
        source.set_port(source.port().wrapping_add(u16::from(probe.flow.0)));
        Header {
            source,
            target: self.config.target,
            // A probe's.
            ttl: 255,
            dscp: self.config.dscp,
            ip_id: probe.ip_id,
            dont_fragment: true,
        }
    }

    /// Notes that the kernel refused to send a packet; `too_long`: because the interface has
    /// no room for it (`EMSGSIZE`).
    pub fn handle_refused(&mut self, probe: &SizeProbe, too_long: bool, now: Mono) {
        if too_long {
            self.settle(
                probe.flow,
                probe.seq,
                State::Failed(MtuLimit::Interface),
                now,
            );
        }
    }

    /// Handles an ICMP error that says 'too big' of a packet of this flow. Returns whether it
    /// matches a size probe; others are counted.
    pub fn handle_too_big(&mut self, flow: FlowIndex, error: &TooBig<'_>, now: Mono) -> bool {
        let fits = |s: &&Sent| s.flow == flow && error.quoted.fits(&s.identity);
        let quoted = self.sent.iter().find(fits).map(|s| (s.size, s.seq));
        let mtu = error.mtu.filter(|mtu| *mtu != 0);
        let limit = MtuLimit::Router {
            from: error.from,
            mtu,
        };
        match quoted {
            // A router that has room for it would not say 'too big' (RFC 8899 section 4.6.1).
            Some((size, seq)) if mtu.is_none_or(|mtu| mtu < u32::from(size)) => {
                self.settle(flow, seq, State::Failed(limit), now);
                true
            }
            _ => {
                self.unfit.count(UnfitIcmp::TooBig);
                false
            }
        }
    }

    /// Handles an ICMP error as a raw socket gives it, sent by `from`, arrived at `now`.
    /// Returns whether it says 'too big' of a packet in the 5-tuple of one of the session's
    /// flows.
    pub fn handle_raw_icmp(&mut self, from: IpAddr, error: &IcmpError<'_>, now: Mono) -> bool {
        let quoted = &error.quoted;
        let (IcmpErrorKind::PacketTooBig { mtu }, Some(udp)) = (error.kind, quoted.udp) else {
            return false;
        };
        let (source, target) = (self.config.source, self.config.target);
        let of_session = quoted.source == source.ip()
            && quoted.destination == target.ip()
            && udp.destination_port == target.port();
        let flow = udp.source_port.checked_sub(source.port());
        let (true, Some(Ok(flow))) = (of_session, flow.map(u8::try_from)) else {
            return false;
        };
        let error = TooBig {
            from,
            mtu: Some(mtu),
            quoted: Quoted {
                ip_id: quoted.ip_id,
                udp_len: Some(udp.len),
                udp_checksum: Some(udp.checksum),
                payload: quoted.payload,
            },
        };
        self.handle_too_big(FlowIndex(flow), &error, now);
        true
    }

    /// Handles the target's reply, as the session's [`Sender`](crate::sender::Sender) found it.
    pub fn handle_reply(&mut self, reply: &TraceReply, now: Mono) {
        let fits = |s: &&Sent| s.seq == reply.seq && s.identity.t1() == reply.t1;
        if let Some(sent) = self.sent.iter().find(fits) {
            let trip = now - sent.at;
            let faded = self.longest.map_or(trip, |l| l - l / 8);
            self.longest = Some(faded.max(trip));
            self.settle(reply.flow, reply.seq, State::Passed, now);
        }
    }

    /// Ends a wait that is over at `now`. Hand in everything that arrived before first.
    pub fn handle_timeout(&mut self, now: Mono) {
        let events = &mut self.events;
        self.unfit
            .report(now, self.stopped, |event| events.push_back(event));
        let wait = self.wait();
        let Some(search) = &mut self.search else {
            return;
        };
        if now < search.deadline || search.tries.iter().any(|t| t.to_send) {
            return;
        }
        let smallest = search.tries.first().map(|t| t.state);
        if smallest == Some(State::Passed) {
            search.attempt += 1;
        } else {
            search.void += 1;
        }
        if search.void >= MOST_VOID || self.stopped {
            self.search = None;
            return;
        }
        if search.attempt >= MAX_PROBES {
            for t in &mut search.tries {
                if t.state == State::Waiting {
                    t.state = State::Failed(MtuLimit::Silent);
                }
            }
            self.conclude(now);
            return;
        }
        search.again(now, wait);
    }

    /// Begins no new search; the one under way ends with its wait.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The next finding to record.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The wait for replies to one attempt: four round trips, and some for queues.
    fn wait(&self) -> Span {
        self.longest.map_or(self.config.wait, |longest| {
            (longest * 4 + Span::from_millis(50))
                .max(SHORTEST_WAIT)
                .min(self.config.wait)
        })
    }

    /// The smallest packet: a probe with an empty padding.
    fn least(&self) -> u16 {
        let base = request_mode(self.config.keys.as_ref()).base_len() + HEADER_LEN;
        let headers = match self.config.target {
            SocketAddr::V4(_) => HEADERS.0,
            SocketAddr::V6(_) => HEADERS.1,
        };
        headers + u16::try_from(base).unwrap_or(0)
    }

    fn settle(&mut self, flow: FlowIndex, seq: Seq, state: State, now: Mono) {
        let Some(search) = self.search.as_mut().filter(|s| s.flow == flow) else {
            return;
        };
        let Some(found) = search.tries.iter_mut().find(|t| t.sent.contains(&seq)) else {
            return;
        };
        // A reply proves the size, whatever an ICMP error says.
        if found.state != State::Passed {
            found.state = state;
        }
        let size = found.size;
        // If this size is too large, larger ones need no wait.
        if let State::Failed(limit) = state {
            for t in &mut search.tries {
                if t.size > size && t.state == State::Waiting {
                    t.state = State::Failed(limit);
                    t.to_send = false;
                }
            }
        }
        if search.tries.iter().all(|t| t.state != State::Waiting) {
            self.conclude(now);
        }
    }

    /// Ends a step whose sizes are all settled: with the result, or with the next step.
    fn conclude(&mut self, now: Mono) {
        let Some(mut search) = self.search.take() else {
            return;
        };
        let passed = search.tries.iter().filter(|t| t.state == State::Passed);
        if let Some(largest) = passed.map(|t| t.size).max() {
            search.passed = search.passed.max(largest);
        }
        let failed = search.tries.iter().filter_map(|t| match t.state {
            State::Failed(limit) if t.size > search.passed => Some((t.size, limit)),
            _ => None,
        });
        if let Some(smallest) = failed.min_by_key(|(size, _)| *size)
            && search.failed.is_none_or(|(size, _)| size > smallest.0)
        {
            search.failed = Some(smallest);
        }
        // A size that passed when tried again did not fail.
        search.failed = search.failed.filter(|(size, _)| *size > search.passed);
        let limit = match search.failed {
            Some((size, limit)) if size <= search.passed.saturating_add(1) => Some(limit),
            None if search.passed >= GREATEST => None,
            _ => {
                search.next_step(now, self.wait());
                self.search = Some(search);
                return;
            }
        };
        // The smallest packet alone proves nothing: larger ones may be lost by chance.
        if search.passed > self.least() {
            self.known = Some((search.passed, limit == Some(MtuLimit::Silent)));
            self.events.push_back(Event {
                at: now,
                kind: EventKind::PathMtu(PathMtu {
                    flow: search.flow,
                    since: search.since,
                    bytes: search.passed,
                    limit,
                }),
            });
        }
    }

    fn write(
        &self,
        probe: &SizeProbe,
        marks: Marks,
        size: u16,
        wall: Wall,
        payload: &mut Vec<u8>,
    ) -> Option<()> {
        let mode = request_mode(self.config.keys.as_ref());
        let error_estimate = self.config.error_estimate;
        let padding = size.checked_sub(self.least())?;
        Writer::new(payload, mode).pad(usize::from(padding)).ok()?;
        let request = SenderPacket {
            sequence: probe.seq,
            timestamp: marks.blur(Timestamp::from_wall(wall, error_estimate.format())),
            error_estimate,
            ssid: Ssid(ssid_of(self.config.ssid, probe.flow).0 | TRACE_SSID_BIT),
        };
        request.write(mode, payload).ok().map(drop)
    }
}

/// Returns the number before that of the first packet. It is in the lower half, so that the
/// numbers do not wrap for years.
fn first_number(secret: &Secret) -> u32 {
    let [.., a, b, c] = secret.draw(Purpose::FirstSizeProbe, 0).to_be_bytes();
    u32::from_be_bytes([0, a, b, c]) >> 2
}

impl Search {
    fn new(flow: FlowIndex, now: Mono, least: u16, known: Option<(u16, bool)>, wait: Span) -> Self {
        let mut sizes = vec![least];
        match known {
            // Check that the known size still passes and one byte more does not.
            Some((known, silent)) => {
                sizes.extend([known, known.saturating_add(1).min(GREATEST)]);
                // Sizes that do not come back still show in the reflector's log if they arrive.
                if silent {
                    sizes.extend(USUAL.iter().filter(|s| **s > known));
                }
            }
            None => sizes.extend(USUAL.iter().filter(|s| **s > least)),
        }
        let mut search = Self {
            flow,
            since: now,
            passed: least,
            failed: None,
            tries: Vec::new(),
            attempt: 0,
            void: 0,
            deadline: now + wait,
        };
        search.ask(sizes);
        search
    }

    fn ask(&mut self, mut sizes: Vec<u16>) {
        sizes.sort_unstable();
        sizes.dedup();
        self.attempt = 0;
        self.tries = sizes
            .into_iter()
            .map(|size| Try {
                size,
                sent: Vec::new(),
                to_send: true,
                state: State::Waiting,
            })
            .collect();
    }

    /// Tries sizes between the two known ones, together with the largest known to pass.
    fn next_step(&mut self, now: Mono, wait: Span) {
        let mut sizes = vec![self.passed];
        match self.failed {
            // Nothing failed yet: all the usual ones above.
            None => sizes.extend(USUAL.iter().filter(|s| **s > self.passed)),
            Some((failed, limit)) => {
                let said = match limit {
                    MtuLimit::Router { mtu: Some(mtu), .. } => u16::try_from(mtu).ok(),
                    _ => None,
                };
                match said.filter(|mtu| (self.passed + 1..failed).contains(mtu)) {
                    Some(mtu) => {
                        sizes.push(mtu);
                        sizes.extend(mtu.checked_add(1).filter(|next| *next < failed));
                    }
                    None => {
                        let room = failed - self.passed;
                        let step = |i: u16| {
                            let part = u32::from(room) * u32::from(i) / u32::from(AT_ONCE + 1);
                            self.passed + u16::try_from(part).unwrap_or(0).max(1)
                        };
                        sizes.extend((1..=AT_ONCE).map(step).filter(|s| *s < failed));
                    }
                }
            }
        }
        self.ask(sizes);
        self.void = 0;
        self.deadline = now + wait;
    }

    /// Sends what has not come back once more, together with the smallest size.
    fn again(&mut self, now: Mono, wait: Span) {
        for (i, t) in self.tries.iter_mut().enumerate() {
            match t.state {
                State::Waiting => t.to_send = true,
                // Check anew each time that anything comes back at all.
                State::Passed if i == 0 => {
                    t.state = State::Waiting;
                    t.sent.clear();
                    t.to_send = true;
                }
                State::Passed | State::Failed(_) => {}
            }
        }
        self.deadline = now + wait;
    }
}

#[cfg(test)]
mod tests;
