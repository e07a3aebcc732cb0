//! Places for connections: limits how many one peer and all peers may hold.

use super::whose;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number of places.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Places {
    all: usize,
    of_one: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    of_all: usize,
    by_peer: BTreeMap<IpAddr, usize>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(in crate::serve) struct Place {
    held: Arc<Mutex<Held>>,
    whose: IpAddr,
    is_of_all: bool,
}

impl Places {
    /// Makes places: `all` in total, `of_one` for each peer.
    pub(in crate::serve) fn new(all: usize, of_one: usize) -> Self {
        Self {
            all,
            of_one,
            held: Arc::default(),
        }
    }

    /// Returns a place for a connection of `peer`, where there is one. With `is_of_all` it also
    /// needs one of the common places; otherwise only one of its peer's own.
    pub(in crate::serve) fn admit(&self, peer: IpAddr, is_of_all: bool) -> Option<Place> {
        let mut held = lock(&self.held);
        let whose = whose(peer);
        let of_one = held.by_peer.get(&whose).copied().unwrap_or(0);
        let full = is_of_all && held.of_all >= self.all;
        if full || of_one >= self.of_one {
            return None;
        }
        held.of_all += usize::from(is_of_all);
        held.by_peer.insert(whose, of_one + 1);
        Some(Place {
            held: Arc::clone(&self.held),
            whose,
            is_of_all,
        })
    }

    /// Returns the number of peers that hold places, and of common places held.
    #[cfg(test)]
    pub(in crate::serve) fn held(&self) -> (usize, usize) {
        let held = lock(&self.held);
        (held.by_peer.len(), held.of_all)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.of_all -= usize::from(self.is_of_all);
        if let Some(count) = held.by_peer.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                held.by_peer.remove(&self.whose);
            }
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
