//! Places of connections that are in their handshake or have no certificate.

use crate::serve::limits::whose;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Strangers at a time.
const MOST: usize = 64;
/// Strangers of one peer at a time: one silent host must not keep the others' agents
/// from their handshakes.
const MOST_OF_ONE: usize = 8;

/// Who holds how many places.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A stranger's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Strangers,
    whose: IpAddr,
}

impl Strangers {
    /// A place for a connection of this address, where there is one.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Stranger> {
        let whose = whose(address);
        let mut held = self.held();
        let of_one = held.get(&whose).copied().unwrap_or(0);
        if of_one >= MOST_OF_ONE || held.values().sum::<usize>() >= MOST {
            return None;
        }
        held.insert(whose, of_one + 1);
        Some(Stranger {
            all: self.clone(),
            whose,
        })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut held = self.all.held();
        if let Some(count) = held.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests;
