//! Places for bodies of frames: they are held in memory until they are stored.

use super::writer::Stopped;
use hopgap_proto::record::AgentName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies at a time: bounds their memory to about 50 MB.
const ALL: usize = 8;
/// Bodies of one agent at a time. An agent sends one after the other; the second is for one
/// whose connection broke. Whoever lets bodies drip in holds up its own alone.
const OF_ONE: usize = 2;

/// All places.
#[derive(Debug)]
pub(super) struct Bodies {
    all: Arc<Semaphore>,
    /// Of agents that were let in: no more than plans have had.
    of_one: Mutex<BTreeMap<AgentName, Arc<Semaphore>>>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            of_one: Mutex::default(),
        }
    }
}

/// A place for one body, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _its: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Bodies {
    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// Where the service has stopped.
    pub(super) async fn place(&self, agent: &AgentName) -> Result<Place, Stopped> {
        let own = {
            let mut of_one = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
            let own = of_one.entry(agent.clone());
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(OF_ONE))))
        };
        // Its own first: who waits for that holds none of the others'.
        let its = own.acquire_owned().await.map_err(|_| Stopped)?;
        let of_all = Arc::clone(&self.all);
        let of_all = of_all.acquire_owned().await.map_err(|_| Stopped)?;
        Ok(Place {
            _its: its,
            _of_all: of_all,
        })
    }
}
