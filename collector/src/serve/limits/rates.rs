//! Limits how often each peer sends requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most peers that are remembered at a time.
const MOST_PEERS: usize = 4_096;

/// A token bucket: `burst` requests at once, then one each `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// The time after which one more request is allowed.
    pub(super) every: Duration,
    /// Most requests at once.
    pub(super) burst: u32,
}

/// A bucket for each peer. A bucket is stored as the instant at which it is full again (the
/// generic cell rate algorithm of ITU-T I.371); full buckets need not be stored.
#[derive(Debug)]
pub(super) struct Rates {
    pace: Pace,
    full_at: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Rates {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            full_at: Mutex::default(),
        }
    }

    /// Takes one request off the bucket of `peer`; returns false where it is empty.
    pub(super) fn take(&self, peer: IpAddr, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let before = full_at.get(&peer).map_or(now, |at| (*at).max(now));
        if before - now > self.pace.every * self.pace.burst.saturating_sub(1) {
            return false;
        }
        if full_at.len() >= MOST_PEERS && !full_at.contains_key(&peer) {
            make_room(&mut full_at, now);
        }
        full_at.insert(peer, before + self.pace.every);
        true
    }
}

/// Forgets full buckets and, where that is not enough, the fullest one.
fn make_room(full_at: &mut BTreeMap<IpAddr, Instant>, now: Instant) {
    full_at.retain(|_, at| *at > now);
    if full_at.len() >= MOST_PEERS {
        let nearest = full_at.iter().min_by_key(|(_, at)| **at).map(|(p, _)| *p);
        if let Some(peer) = nearest {
            full_at.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_PEERS, Pace, Rates};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    const PACE: Pace = Pace {
        every: Duration::from_millis(50),
        burst: 40,
    };

    fn peer(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    #[test]
    fn a_burst_is_taken_and_earned_again_for_each_peer_apart() {
        let rates = Rates::new(PACE);
        let begin = Instant::now();
        let taken = |n, at| (0..100).filter(|_| rates.take(peer(n), at)).count();
        assert_eq!(taken(1, begin), 40);
        assert_eq!(taken(1, begin + Duration::from_millis(49)), 0);
        assert_eq!(taken(1, begin + Duration::from_millis(50)), 1);
        assert_eq!(taken(1, begin + Duration::from_secs(1)), 19);
        assert_eq!(taken(2, begin), 40, "another peer has its own");
        let rested = begin + Duration::from_secs(3_600);
        assert_eq!(taken(1, rested), 40, "no more than a burst is saved");
    }

    #[test]
    fn who_asks_at_the_pace_is_never_refused() {
        let rates = Rates::new(PACE);
        let begin = Instant::now();
        assert!((0..1_000).all(|i| rates.take(peer(1), begin + PACE.every * i)));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_spares_who_asks_too_often() {
        let rates = Rates::new(PACE);
        let now = Instant::now();
        while rates.take(peer(0), now) {}
        for n in 1..20_000 {
            assert!(rates.take(peer(n), now));
        }
        assert_eq!(rates.full_at.lock().unwrap().len(), MOST_PEERS);
        assert!(
            !rates.take(peer(0), now),
            "its bucket is the last to be forgotten"
        );
        let later = now + Duration::from_secs(60);
        assert!(rates.take(peer(20_000), later));
        assert_eq!(
            rates.full_at.lock().unwrap().len(),
            1,
            "full ones are forgotten first"
        );
    }
}
