//! Open mode: answers unknown senders, within limits that hold against a flood of forged addresses.
//!
//! A session has a place, where its packets are counted, so that its sender can tell the
//! direction of a loss (RFC 8762 section 4.3.1). Places are limited. A newcomer takes a free
//! one, or that of the session silent for longest among those that have not lasted: a forged
//! packet is one packet, a session goes on. Nobody takes the place of a lasting session. A
//! newcomer without a place is answered without a count, as by a stateless reflector (with
//! the request's Sequence Number): its sender sees round trips and losses, but no direction.
//! It is answered so to its end, because numbers that change their meaning would look like
//! losses.
//!
//! Each step costs a few look-ups in trees, however many sessions there are.

use super::limit::Bucket;
use super::session::{Counter, Counters, is_trace};
use super::{OpenMode, Rate};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::record::FlowIndex;
use hopgap_proto::stamp::{Seq, Ssid};
use hopgap_proto::time::{Mono, Span};
use std::collections::{BTreeMap, BTreeSet};

/// One network (an IPv4 /24, an IPv6 /48) may have one in this many places, so that it cannot
/// shut out others.
const SHARE: usize = 4;
/// A new session keeps its place at least this long.
const TRIAL: Span = Span::from_secs(5);
/// A session is lasting once it sent this many packets...
const STAYS_PACKETS: u32 = 3;
/// ...over at least this long.
const STAYS_FOR: Span = Span::from_secs(2);
/// Resolution of the order of silence: coarse, so that a fast session costs little.
const GRAIN: Span = Span::from_secs(1);
/// A session first seen with a higher sequence number may have been answered without a count
/// before.
const BEGINNING: u32 = 8;
/// Most sources whose rate is kept at a time.
const MOST_SOURCES: usize = 65_536;

/// Open mode at work.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) mode: OpenMode,
    pub(super) sessions: OpenSessions,
    pub(super) sources: Sources,
}

impl Open {
    pub(super) fn new(mode: OpenMode) -> Self {
        Self {
            sessions: OpenSessions::new(mode.max_sessions),
            sources: Sources::default(),
            mode,
        }
    }

    pub(super) fn forget_idle(&mut self, now: Mono, idle_timeout: Span) {
        self.sessions.forget_idle(now, idle_timeout);
        self.sources.0.retain(|_, bucket| !bucket.is_full(now));
    }
}

/// What each source has used of its rate.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<IpAddr, Bucket>);

impl Sources {
    /// Whether a source may have one more answer. Beyond [`MOST_SOURCES`] a new source may
    /// not, so that forged ones cannot fill the memory.
    pub(super) fn admits(&mut self, source: IpAddr, rate: Rate, now: Mono) -> bool {
        if self.0.len() >= MOST_SOURCES && !self.0.contains_key(&source) {
            return false;
        }
        self.0.entry(source).or_default().admits(rate, now)
    }
}

/// Which session a packet is of. Probes and traceroutes of one flow are one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpenKey {
    from: IpAddr,
    port: u16,
    ssid: Ssid,
}

impl OpenKey {
    pub(super) fn new(from: IpAddr, port: u16, ssid: Ssid) -> Self {
        Self {
            from,
            port,
            ssid: Ssid(ssid.0 & !TRACE_SSID_BIT),
        }
    }

    /// Returns the network that it comes from: who can forge one of its addresses can forge all.
    fn network(self) -> IpAddr {
        match self.from {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        }
    }
}

/// A session with a place.
#[derive(Debug)]
struct Place {
    counters: Counters,
    packets: u32,
    began: Mono,
    /// The newest packet.
    last: Mono,
    /// Where it stands in the order of silence: at most [`GRAIN`] before `last`.
    ordered_at: Mono,
}

impl Place {
    fn new(now: Mono) -> Self {
        Self {
            counters: Counters::of_flows(1),
            packets: 0,
            began: now,
            last: now,
            ordered_at: now,
        }
    }

    fn stays(&self) -> bool {
        self.packets >= STAYS_PACKETS && self.last - self.began >= STAYS_FOR
    }
}

/// Sessions that may lose their place, by since when they are silent.
type Order = BTreeSet<(Mono, OpenKey)>;

/// The sessions of one network.
#[derive(Debug, Default)]
struct Network {
    places: usize,
    passing: Order,
}

/// The sessions of open mode, at most `most`.
#[derive(Debug)]
pub(super) struct OpenSessions {
    most: usize,
    places: BTreeMap<OpenKey, Place>,
    networks: BTreeMap<IpAddr, Network>,
    /// Sessions of all networks that are not lasting yet.
    passing: Order,
    /// When a session was last answered without a count, or lost its place.
    crowded_at: Option<Mono>,
}

impl OpenSessions {
    fn new(most: usize) -> Self {
        Self {
            most,
            places: BTreeMap::new(),
            networks: BTreeMap::new(),
            passing: Order::new(),
            crowded_at: None,
        }
    }

    /// Returns the counter of the session's probes or traceroutes; `None` where it has no
    /// place and is answered without a count. `seq` is the packet's sequence number.
    pub(super) fn counter(
        &mut self,
        key: OpenKey,
        ssid: Ssid,
        seq: Seq,
        now: Mono,
        idle_timeout: Span,
    ) -> Option<&mut Counter> {
        let traced = is_trace(ssid);
        if !self.places.contains_key(&key) {
            let begins = !traced && seq.0 <= BEGINNING;
            let was_crowded = self.crowded_at.is_some_and(|at| now - at <= idle_timeout);
            if (was_crowded && !begins) || !self.make_room(key, now) {
                self.crowded_at = Some(now);
                return None;
            }
            self.enter(key, now);
        }
        self.touch(key, now);
        let place = self.places.get_mut(&key)?;
        place.counters.of(FlowIndex(0), traced)
    }

    /// The counter of a session that has a place.
    pub(super) fn known(&mut self, from: IpAddr, port: u16, ssid: Ssid) -> Option<&mut Counter> {
        let place = self.places.get_mut(&OpenKey::new(from, port, ssid))?;
        place.counters.of(FlowIndex(0), is_trace(ssid))
    }

    /// Makes room for a newcomer, taking a silent session's place if needed. Returns whether
    /// there is room.
    fn make_room(&mut self, key: OpenKey, now: Mono) -> bool {
        let network = self.networks.get(&key.network());
        let of_network = network.map_or(0, |n| n.places);
        let passing = if of_network >= self.most.div_ceil(SHARE) {
            network.map(|n| &n.passing)
        } else if self.places.len() >= self.most {
            Some(&self.passing)
        } else {
            return true;
        };
        let longest_silent = passing.and_then(|order| order.first().copied());
        let Some((since, loser)) = longest_silent else {
            return false;
        };
        if now - since < TRIAL {
            return false;
        }
        self.remove(loser);
        self.crowded_at = Some(now);
        true
    }

    fn enter(&mut self, key: OpenKey, now: Mono) {
        let network = self.networks.entry(key.network()).or_default();
        network.places += 1;
        network.passing.insert((now, key));
        self.passing.insert((now, key));
        self.places.insert(key, Place::new(now));
    }

    fn touch(&mut self, key: OpenKey, now: Mono) {
        let Some(place) = self.places.get_mut(&key) else {
            return;
        };
        place.packets = place.packets.saturating_add(1);
        place.last = now.max(place.last);
        let stays = place.stays();
        let before = place.ordered_at;
        let is_passing = self.passing.contains(&(before, key));
        if !is_passing || (!stays && now - before < GRAIN) {
            return;
        }
        place.ordered_at = now;
        self.passing.remove(&(before, key));
        let network = self.networks.entry(key.network()).or_default();
        network.passing.remove(&(before, key));
        if !stays {
            self.passing.insert((now, key));
            network.passing.insert((now, key));
        }
    }

    fn remove(&mut self, key: OpenKey) {
        let Some(place) = self.places.remove(&key) else {
            return;
        };
        self.passing.remove(&(place.ordered_at, key));
        if let Some(network) = self.networks.get_mut(&key.network()) {
            network.passing.remove(&(place.ordered_at, key));
            network.places -= 1;
            if network.places == 0 {
                self.networks.remove(&key.network());
            }
        }
    }

    fn forget_idle(&mut self, now: Mono, idle_timeout: Span) {
        let idle: Vec<OpenKey> = self
            .places
            .iter()
            .filter(|(_, place)| now - place.last > idle_timeout)
            .map(|(key, _)| *key)
            .collect();
        for key in idle {
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
