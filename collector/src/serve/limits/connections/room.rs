//! Holds the open connections and decides which to cut when there are too many.
//!
//! A newcomer always finds a place while a connection without a token only waits: with an
//! incomplete request, between two requests, or with a request that takes long. The one
//! that has waited longest is cut. So nobody, also no other user of this host, can keep
//! others out with silent or half-open connections. Some places are kept for clients that
//! show a token, for when all others are busy.

use super::phase::{Phase, Progress};
use super::{Bounds, Ends};
use crate::serve::limits::whose;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Places kept for clients that show a token with their first request.
const KEPT: usize = 16;
/// A request without a token that takes longer may be cut for a newcomer.
const SLOW: Duration = Duration::from_secs(2);

/// The connections of one listener.
#[derive(Clone, Debug)]
pub(super) struct Room {
    bounds: Bounds,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// The number of the next connection.
    next: u64,
    connections: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    whose: IpAddr,
    is_here: bool,
    progress: Progress,
    visit: Visit,
    cut: Arc<Notify>,
}

/// What a connection's requests have shown so far. Requests carry it.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct Visit {
    has_shown_token: Arc<AtomicBool>,
    is_kept: bool,
}

impl Visit {
    /// Notes a valid token or certificate: the connection is not cut for newcomers any more.
    pub(in crate::serve) fn show_token(&self) {
        self.has_shown_token.store(true, Ordering::Relaxed);
    }

    /// Whether it has a place that is kept for clients with a token, but has shown none.
    pub(in crate::serve) fn needs_token(&self) -> bool {
        self.is_kept && !self.has_shown_token()
    }

    fn has_shown_token(&self) -> bool {
        self.has_shown_token.load(Ordering::Relaxed)
    }
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(in crate::serve) struct Seat {
    held: Arc<Mutex<Held>>,
    number: u64,
    pub(super) ends: Ends,
    pub(super) progress: Progress,
    cut: Arc<Notify>,
    visit: Visit,
}

impl Seat {
    /// Returns what its requests carry.
    pub(in crate::serve) fn visit(&self) -> &Visit {
        &self.visit
    }

    /// Completes when a newcomer has taken its place.
    pub(super) async fn taken(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.held).connections.remove(&self.number);
    }
}

impl Room {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: Arc::default(),
        }
    }

    /// Returns a place for a connection, and whether another one was cut for it. `None` where
    /// it is full, nobody only waits and the kept places are taken.
    pub(super) fn admit(&self, ends: Ends, now: Instant) -> Option<(Seat, bool)> {
        let mut held = lock(&self.held);
        let (peer, is_here) = (whose(ends.peer.ip()), ends.are_here());
        let of_one = |entry: &Entry| entry.whose == peer;
        let alike = |entry: &Entry| entry.is_here == is_here;
        let most = if is_here {
            self.bounds.all_here
        } else {
            self.bounds.all
        };
        // Where a peer has too many, cuts one of its own.
        let cut = if held.count(of_one) >= self.bounds.of_one {
            Some(held.cut_longest_waiting(now, of_one))
        } else if held.count(alike) >= most {
            Some(held.cut_longest_waiting(now, alike))
        } else {
            None
        };
        let is_kept = cut == Some(false);
        if is_kept && held.count(|entry| entry.visit.is_kept) >= KEPT {
            return None;
        }
        let visit = Visit {
            is_kept,
            ..Visit::default()
        };
        Some((held.enter(&self.held, ends, visit), cut == Some(true)))
    }

    /// Returns the number of connections.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.held).connections.len()
    }
}

impl Held {
    fn count(&self, whom: impl Fn(&Entry) -> bool) -> usize {
        self.connections.values().filter(|e| whom(e)).count()
    }

    /// Cuts the connection that has waited longest; returns false where none only waits.
    fn cut_longest_waiting(&mut self, now: Instant, whom: impl Fn(&Entry) -> bool) -> bool {
        let longest = self
            .connections
            .iter()
            .filter(|(_, entry)| whom(entry))
            .filter_map(|(number, entry)| Some((entry.waits_since(now)?, *number)))
            .min();
        let Some(entry) = longest.and_then(|(_, number)| self.connections.remove(&number)) else {
            return false;
        };
        // Stays set until the task awaits it.
        entry.cut.notify_one();
        true
    }

    fn enter(&mut self, held: &Arc<Mutex<Self>>, ends: Ends, visit: Visit) -> Seat {
        let number = self.next;
        self.next += 1;
        let seat = Seat {
            held: Arc::clone(held),
            number,
            ends,
            progress: Progress::begin(),
            cut: Arc::default(),
            visit,
        };
        let entry = Entry {
            whose: whose(ends.peer.ip()),
            is_here: ends.are_here(),
            progress: seat.progress.clone(),
            visit: seat.visit.clone(),
            cut: Arc::clone(&seat.cut),
        };
        self.connections.insert(number, entry);
        seat
    }
}

impl Entry {
    /// Returns since when it has waited; `None` where it does not wait or may not be cut.
    fn waits_since(&self, now: Instant) -> Option<Instant> {
        let (phase, since) = self.progress.now();
        let waits = match phase {
            Phase::Opened | Phase::Header | Phase::Idle => true,
            Phase::Handling | Phase::Answering => now.saturating_duration_since(since) > SLOW,
        };
        (waits && !self.visit.has_shown_token()).then_some(since)
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
