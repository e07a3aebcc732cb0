//! Limits the bodies of frames that are held in memory until they are stored.

use super::writer::Stopped;
use hopgap_proto::record::AgentName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bodies at a time: bounds their memory to about 50 MB.
const ALL: usize = 8;
/// Most bodies of one agent at a time. An agent sends one after the other; the second place
/// is for a retry after its connection broke. A slow sender holds up only its own bodies.
const OF_ONE: usize = 2;

/// All places.
#[derive(Debug)]
pub(super) struct Bodies {
    all: Arc<Semaphore>,
    /// Places of each agent that was let in: no more agents than plans have had.
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

/// One of an agent's own places, free again when dropped.
#[derive(Debug)]
pub(super) struct Own {
    _its: OwnedSemaphorePermit,
}

/// A place for one body, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _its: Own,
    _of_all: OwnedSemaphorePermit,
}

impl Bodies {
    /// Waits for one of an agent's own places. Meanwhile it takes none of the common places.
    ///
    /// # Errors
    ///
    /// Where the service has stopped.
    pub(super) async fn own(&self, agent: &AgentName) -> Result<Own, Stopped> {
        let own = {
            let mut of_one = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
            let own = of_one.entry(agent.clone());
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(OF_ONE))))
        };
        let its = own.acquire_owned().await.map_err(|_| Stopped)?;
        Ok(Own { _its: its })
    }

    /// Waits for one of the common places.
    ///
    /// # Errors
    ///
    /// Where the service has stopped.
    pub(super) async fn place(&self, its: Own) -> Result<Place, Stopped> {
        let of_all = Arc::clone(&self.all);
        let of_all = of_all.acquire_owned().await.map_err(|_| Stopped)?;
        Ok(Place {
            _its: its,
            _of_all: of_all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Bodies, OF_ONE};
    use std::time::Duration;
    use tokio::time::timeout;

    #[test]
    fn an_agent_whose_places_are_held_waits_alone() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let bodies = Bodies::default();
            let name = |i: usize| format!("agent-{i}").parse().unwrap();
            // Whether there is one, after however long a wait.
            let place = async |i: usize| {
                let name = name(i);
                let place = async { bodies.place(bodies.own(&name).await.unwrap()).await };
                let place = timeout(Duration::from_secs(3_600), place).await;
                place.ok().map(Result::unwrap)
            };
            let mut held = Vec::new();
            for _ in 0..OF_ONE {
                held.push(place(0).await.unwrap());
            }
            assert!(place(0).await.is_none(), "of its own there is none left");
            for other in 1..=ALL - OF_ONE {
                held.push(place(other).await.unwrap());
            }
            assert!(place(ALL).await.is_none(), "all are held");
            held.remove(0);
            assert!(place(ALL).await.is_some());
        });
    }
}
