//! One flow's snapshots: which TTLs to ask, and when enough answers came.

use super::pace::Pace;
use super::packet::{self, PacketId};
use super::{HopReply, HopReplyKind};
use crate::packet::{Identity, Quoted};
use crate::secret::Secret;
use core::net::IpAddr;
use hopgap_proto::record::{FlowIndex, Hop, Trace, UnfitIcmp};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span};
use std::collections::{BTreeSet, VecDeque};

/// How many snapshots back it is remembered whether a TTL answered.
const MEMORY: u32 = 8;
/// Even a TTL that never answers is asked in full once in this many snapshots.
const RECHECK: u32 = 16;
/// The shortest wait for answers once the path's round trip is known.
const SHORTEST_WAIT: Span = Span::from_millis(100);
/// Largest error of converting an arrival time from the wall clock, which the kernel stamps
/// by, to the monotonic clock.
const CONVERSION: Span = Span::from_micros(100);

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_ttl: u8,
    pub(super) attempts: u8,
    pub(super) wait: Span,
}

/// What the flows of a session have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pace: Pace,
    pub(super) traces: VecDeque<Trace>,
}

#[derive(Debug)]
pub(super) struct FlowTracer {
    flow: FlowIndex,
    target: IpAddr,
    limits: Limits,
    first_round: u32,
    round: u32,
    snapshot: Option<Snapshot>,
    /// The last snapshot. Its late answers still show how long to wait.
    previous: Option<Snapshot>,
    /// The target's distance as last known; `None` since it stopped answering there.
    distance: Option<u8>,
    /// The target's distance as probes showed it since the last snapshot ended.
    hint: Option<u8>,
    /// The longest recent round trip; it fades.
    longest: Option<Span>,
    /// By TTL − 1: bit `k` says whether it answered `k` snapshots ago.
    memory: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    round: u32,
    started: Mono,
    /// When its last packet was sent.
    asked: Mono,
    /// When its last answer came.
    heard: Option<Mono>,
    attempt: u8,
    /// TTLs still to be sent in this attempt.
    queue: VecDeque<u8>,
    /// By TTL − 1.
    asks: Vec<Ask>,
    reached_at: Option<u8>,
}

#[derive(Clone, Debug, Default)]
struct Ask {
    packets: Vec<Packet>,
    replies: Vec<HopReply>,
}

#[derive(Clone, Debug)]
struct Packet {
    id: PacketId,
    sent: Mono,
    identity: Identity,
    answered: bool,
}

/// An answer that came to a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) from: IpAddr,
    pub(super) at: Mono,
    pub(super) kind: HopReplyKind,
}

impl FlowTracer {
    pub(super) fn new(flow: FlowIndex, target: IpAddr, limits: Limits, secret: &Secret) -> Self {
        let first_round = packet::first_round(secret, flow);
        Self {
            flow,
            target,
            limits,
            first_round,
            round: first_round,
            snapshot: None,
            previous: None,
            distance: None,
            hint: None,
            longest: None,
            memory: vec![0; usize::from(limits.max_ttl)],
        }
    }

    pub(super) fn hint_distance(&mut self, hops: u8) {
        // A TTL of 255 means that no router was passed, but peers that do not know it say 255 too.
        if (2..=self.limits.max_ttl).contains(&hops) {
            self.distance = Some(hops);
            self.hint = Some(hops);
        }
    }

    /// Begins a snapshot, unless one is under way.
    pub(super) fn start(&mut self, now: Mono) {
        if self.snapshot.is_some() {
            return;
        }
        // One beyond the target: it answers there too, and a path grown by one shows at once.
        let furthest = self.distance.map_or(self.limits.max_ttl, |d| {
            d.saturating_add(1).min(self.limits.max_ttl)
        });
        self.snapshot = Some(Snapshot {
            round: self.round,
            started: now,
            asked: now,
            heard: None,
            attempt: 0,
            queue: (1..=furthest).collect(),
            asks: vec![Ask::default(); usize::from(furthest)],
            reached_at: None,
        });
        self.round = self.round.wrapping_add(1);
    }

    /// The packet to be sent next, now.
    pub(super) fn next_packet(&self) -> Option<PacketId> {
        let snapshot = self.snapshot.as_ref()?;
        Some(PacketId {
            round: snapshot.round,
            attempt: snapshot.attempt,
            ttl: *snapshot.queue.front()?,
        })
    }

    /// Whether that packet is needed to tell the target's distance.
    pub(super) fn is_needed(&self, id: PacketId) -> bool {
        let reached = self.snapshot.as_ref().and_then(|s| s.reached_at);
        reached.is_some_and(|reached| id.ttl.saturating_add(1) == reached)
    }

    /// That packet is left out: its TTL was asked lately.
    pub(super) fn packet_left_out(&mut self) {
        if let Some(snapshot) = self.snapshot.as_mut() {
            snapshot.queue.pop_front();
        }
    }

    /// That packet is being sent.
    pub(super) fn packet_taken(&mut self, id: PacketId, now: Mono, identity: Identity) {
        let Some(snapshot) = self.snapshot.as_mut() else {
            return;
        };
        snapshot.queue.pop_front();
        if snapshot.asks.iter().all(|a| a.packets.is_empty()) {
            snapshot.started = now;
        }
        snapshot.asked = now;
        if let Some(ask) = snapshot.ask_mut(id.ttl) {
            ask.packets.push(Packet {
                id,
                sent: now,
                identity,
                answered: false,
            });
        }
    }

    pub(super) fn sent(&mut self, seq: Seq, at: Mono) {
        if let Some(packet) = self.packet_mut(seq) {
            packet.sent = at;
        }
    }

    pub(super) fn refused(&mut self, seq: Seq) {
        if let Some(snapshot) = self.snapshot.as_mut() {
            for ask in &mut snapshot.asks {
                ask.packets.retain(|p| p.answered || !p.id.has_seq(seq));
            }
        }
    }

    /// Which packet an ICMP error quotes.
    pub(super) fn quoted(&self, quoted: &Quoted<'_>) -> Option<PacketId> {
        self.packets()
            .find(|p| quoted.fits(&p.identity))
            .map(|p| p.id)
    }

    /// Which packet has this number and this T1.
    pub(super) fn find(&self, seq: Seq, t1: u64) -> Option<PacketId> {
        self.packets()
            .find(|p| p.id.has_seq(seq) && p.identity.t1() == t1)
            .map(|p| p.id)
    }

    /// Takes an answer to a packet; an error where it cannot be an answer to that packet.
    pub(super) fn answered(
        &mut self,
        id: PacketId,
        answer: Answer,
        shared: &mut Shared,
    ) -> Result<(), UnfitIcmp> {
        let Answer { from, at, kind } = answer;
        let (target, wait) = (self.target, self.limits.wait);
        let both = [self.snapshot.as_mut(), self.previous.as_mut()];
        let snapshot = both.into_iter().flatten().find(|s| s.round == id.round);
        let Some((snapshot, place)) = snapshot.and_then(|s| s.place(id).map(|p| (s, p))) else {
            return Err(UnfitIcmp::Trace);
        };
        let Some(ask) = snapshot.ask_mut(id.ttl) else {
            return Err(UnfitIcmp::Trace);
        };
        let Some(packet) = ask.packets.get_mut(place) else {
            return Err(UnfitIcmp::Trace);
        };
        if packet.answered {
            // The network duplicated it.
            return Ok(());
        }
        if at + CONVERSION < packet.sent {
            return Err(UnfitIcmp::TraceEarly);
        }
        let round_trip = (at - packet.sent).max(Span::ZERO);
        if round_trip > wait {
            return Err(UnfitIcmp::TraceLate);
        }
        packet.answered = true;
        shared.pace.answered(id.ttl, at);
        ask.replies.push(HopReply {
            from,
            round_trip,
            kind,
        });
        snapshot.heard = Some(snapshot.heard.map_or(at, |heard| heard.max(at)));
        if kind == HopReplyKind::Reflected || (from == target && kind != HopReplyKind::TimeExceeded)
        {
            snapshot.reached(id.ttl);
        }
        self.longest = Some(self.longest.map_or(round_trip, |l| l.max(round_trip)));
        if self.snapshot.as_ref().is_some_and(Snapshot::is_complete) {
            self.finish(at, shared);
        }
        Ok(())
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let snapshot = self.snapshot.as_ref()?;
        if snapshot.queue.is_empty() {
            Some(snapshot.asked + self.patience())
        } else {
            Some(snapshot.asked)
        }
    }

    /// Asks again or finishes, if the wait for answers is over.
    pub(super) fn expire(&mut self, now: Mono, shared: &mut Shared) {
        let patience = self.patience();
        let Some(snapshot) = self.snapshot.as_ref() else {
            return;
        };
        if !snapshot.queue.is_empty() || now < snapshot.asked + patience {
            return;
        }
        let again = self.to_ask_again(snapshot);
        if again.is_empty() {
            self.finish(now, shared);
        } else if let Some(snapshot) = self.snapshot.as_mut() {
            let furthest = again.last().copied().unwrap_or(0);
            if usize::from(furthest) > snapshot.asks.len() {
                snapshot.asks.resize(usize::from(furthest), Ask::default());
            }
            snapshot.attempt += 1;
            snapshot.queue = again.into_iter().collect();
        }
    }

    fn to_ask_again(&self, snapshot: &Snapshot) -> BTreeSet<u8> {
        if snapshot.attempt + 1 >= self.limits.attempts {
            return BTreeSet::new();
        }
        let tried = u8::try_from(snapshot.asks.len()).unwrap_or(u8::MAX);
        let end = snapshot.reached_at.or_else(|| snapshot.refused_at());
        let furthest = end.unwrap_or(tried);
        let count = snapshot.round.wrapping_sub(self.first_round);
        let full = count < MEMORY / 2 || count.is_multiple_of(RECHECK);
        let mut again: BTreeSet<u8> = (1..=furthest)
            .zip(&snapshot.asks)
            .filter(|(ttl, ask)| {
                let answers = self.memory.get(usize::from(*ttl) - 1);
                let silent = !ask.packets.is_empty() && ask.replies.is_empty();
                silent && (full || answers.is_some_and(|m| *m != 0))
            })
            .map(|(ttl, _)| ttl)
            .collect();
        // The target is not where it was: look further on at once, unless probes show where it is.
        if snapshot.reached_at.is_none() && !snapshot.is_refused() {
            let furthest = self.hint.unwrap_or(self.limits.max_ttl);
            again.extend(tried + 1..=furthest);
        }
        again
    }

    /// Returns how long to wait for answers: four round trips, and some for queues, within
    /// the configured wait.
    fn patience(&self) -> Span {
        self.longest.map_or(self.limits.wait, |longest| {
            (longest * 4 + Span::from_millis(20))
                .max(SHORTEST_WAIT)
                .min(self.limits.wait)
        })
    }

    fn finish(&mut self, now: Mono, shared: &mut Shared) {
        let Some(mut snapshot) = self.snapshot.take() else {
            return;
        };
        snapshot.queue.clear();
        self.distance = snapshot.reached_at.or(self.hint);
        self.hint = None;
        let distance = snapshot.reached_at;
        let asks = snapshot.asks.iter().map(Some);
        let asks = asks.chain(std::iter::repeat(None));
        for ((ttl, memory), ask) in (1u8..).zip(&mut self.memory).zip(asks) {
            let Some(ask) = ask else {
                *memory <<= 1;
                continue;
            };
            if !ask.replies.is_empty() {
                shared.pace.seen(ttl, distance);
            } else if !ask.packets.is_empty() && distance.is_some_and(|d| ttl < d) {
                shared.pace.silent(ttl, distance, now);
            }
            // A TTL that was not asked keeps its state.
            let as_before = ask.packets.is_empty() && *memory & 1 == 1;
            *memory = *memory << 1 | u8::from(as_before || !ask.replies.is_empty());
        }
        // Fading, so that one slow answer does not slow the traces for ever.
        self.longest = self.longest.map(|l| l - l / 8);
        shared
            .traces
            .push_back(snapshot.record(self.flow, self.target, now));
        self.previous = Some(snapshot);
    }

    fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.snapshot
            .iter()
            .chain(&self.previous)
            .flat_map(|s| &s.asks)
            .flat_map(|a| &a.packets)
    }

    fn packet_mut(&mut self, seq: Seq) -> Option<&mut Packet> {
        self.snapshot
            .iter_mut()
            .flat_map(|s| &mut s.asks)
            .flat_map(|a| &mut a.packets)
            .find(|p| p.id.has_seq(seq))
    }
}

impl Snapshot {
    /// Returns the packet's index among those of its TTL.
    fn place(&self, id: PacketId) -> Option<usize> {
        let ask = self.asks.get(usize::from(id.ttl).checked_sub(1)?)?;
        ask.packets.iter().position(|p| p.id == id)
    }

    fn ask_mut(&mut self, ttl: u8) -> Option<&mut Ask> {
        self.asks.get_mut(usize::from(ttl).checked_sub(1)?)
    }

    /// Notes that the target answered at `ttl`. If the TTL before was left out, the target
    /// may be nearer than it seems: that TTL is asked after all.
    fn reached(&mut self, ttl: u8) {
        if self.reached_at.is_some_and(|nearest| nearest <= ttl) {
            return;
        }
        self.reached_at = Some(ttl);
        let before = ttl.saturating_sub(1);
        let left_out = self.ask_mut(before).is_some_and(|a| a.packets.is_empty());
        if left_out && !self.queue.contains(&before) {
            self.queue.push_back(before);
        }
    }

    /// Whether every TTL up to the target's was answered.
    fn is_complete(&self) -> bool {
        self.queue.is_empty()
            && self.reached_at.is_some_and(|reached| {
                let mut way = self.asks.iter().take(usize::from(reached));
                way.all(|a| a.packets.is_empty() || !a.replies.is_empty())
            })
    }

    /// Returns the first TTL at which a router refused to pass the packet on, if all answers
    /// beyond repeat that refusal: then nothing lies beyond.
    fn refused_at(&self) -> Option<u8> {
        let refusal = |r: &&HopReply| matches!(r.kind, HopReplyKind::Unreachable(_));
        let mut asks = (1..).zip(&self.asks);
        let (ttl, first) =
            asks.find_map(|(ttl, ask)| Some((ttl, ask.replies.iter().find(refusal)?)))?;
        let repeated = |r: &HopReply| r.kind == first.kind && r.from == first.from;
        let beyond = self.asks.iter().skip(usize::from(ttl));
        beyond
            .flat_map(|ask| &ask.replies)
            .all(repeated)
            .then_some(ttl)
    }

    /// Whether a router on the way refused to pass a packet on.
    fn is_refused(&self) -> bool {
        self.asks
            .iter()
            .flat_map(|a| &a.replies)
            .any(|r| matches!(r.kind, HopReplyKind::Unreachable(_)))
    }

    fn record(&self, flow: FlowIndex, target: IpAddr, now: Mono) -> Trace {
        let end = self.reached_at.or_else(|| self.refused_at());
        let shown = end.map_or(self.asks.len(), usize::from);
        let hops = (1..)
            .zip(self.asks.iter().take(shown))
            .map(|(ttl, ask)| Hop {
                ttl,
                sent: u8::try_from(ask.packets.len()).unwrap_or(u8::MAX),
                replies: ask.replies.clone(),
            })
            .collect();
        Trace {
            flow,
            started: self.started,
            finished: if self.is_complete() {
                self.heard.unwrap_or(now)
            } else {
                now
            },
            target,
            hops,
            reached_at: self.reached_at,
        }
    }
}
