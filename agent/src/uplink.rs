//! The uplink: delivers the spool to the collector and fetches the plan.
//!
//! Uses two threads, each with its own request: one delivers, one waits for a changed
//! plan. Neither ever ends because of a fault; both try again after a growing,
//! jittered pause. Blocks leave the spool only when the collector has
//! acknowledged them as durable.
//!
//! A delivery is idempotent, so in doubt it is sent again: a connection may have been cut
//! before or after the collector stored the blocks. On a path too slow for a whole batch
//! within the time of a request, batches shrink until they pass, and then grow again.

mod backoff;
mod cache;
mod client;
mod pace;
mod proxy;
mod response;

pub use cache::{CacheError, PlanCache};
pub use client::{Client, UplinkError, join};
pub use proxy::{ProxyUrl, ProxyUrlError, unused_variable};
pub use response::{Action, classify_response};

use crate::session::Stop;
use crate::spool::Spool;
use backoff::Backoff;
use hopgap_net::clock::Clock;
use hopgap_proto::time::{ClockPair, Span};
use hopgap_proto::uplink::{BATCH_BYTES, PlanResponse, Revision, SLOWEST_BODY};
use pace::Pace;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long the collector shall hold a plan request.
const HOLD: Duration = Duration::from_secs(25);
/// Most extra time for a delivery: no longer than the collector waits for a body.
const LONGEST: Duration = Duration::from_secs(50);
/// A plan request answered sooner, without a new plan, was not held.
const HELD_AT_LEAST: Duration = Duration::from_secs(1);
/// Most bytes of a delivery, except for a larger frame, which is sent alone. On a narrow
/// path a longer burst would delay the probes in the queue.
const MOST_BATCH: usize = BATCH_BYTES / 4;
/// Batches do not shrink below this.
const LEAST_BATCH: usize = 16 << 10;
/// How often this host's clocks are reported to the collector, in addition to the next plan
/// request after the wall clock was set.
const GREET_AGAIN: Duration = Duration::from_secs(600);
/// A wall clock that moved by more against the monotonic clock was set.
const CLOCK_SET: Span = Span::from_millis(50);
/// Pause when there is nothing to deliver.
const IDLE: Duration = Duration::from_millis(200);

/// A spool that the recorder fills and the uplink empties.
pub type SharedSpool = Arc<Mutex<Spool>>;

/// Locks the spool, also after a panic of a thread that held it: its frames are whole.
pub fn lock(spool: &SharedSpool) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Settings of the delivery.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Bytes a second for the backlog, in addition to what is recorded meanwhile.
    pub rate: u64,
    /// How long to deliver after the request to stop.
    pub grace: Duration,
}

/// Starts the thread that delivers. It ends when `stop` is requested and everything is
/// delivered, or [`Delivery::grace`] after the request.
///
/// # Errors
/// When no thread can be started.
pub fn deliver(
    client: Client,
    spool: SharedSpool,
    stop: Stop,
    delivery: Delivery,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("uplink".to_owned())
        .spawn(move || {
            let mut backoff = Backoff::new(client.seed());
            let mut end = None;
            let mut size = MOST_BATCH;
            let mut pace = Pace::new(delivery.rate, BATCH_BYTES, Clock::now());
            loop {
                if stop.requested() {
                    let end =
                        *end.get_or_insert_with(|| std::time::Instant::now() + delivery.grace);
                    if std::time::Instant::now() >= end {
                        return;
                    }
                }
                let wait = pace.wait(lock(&spool).appended(), Clock::now());
                if wait > Span::ZERO {
                    std::thread::sleep(wait.to_std().unwrap_or_default().min(IDLE));
                    continue;
                }
                match deliver_once(&client, &spool, size, &mut pace) {
                    Ok(true) => {
                        size = (size * 2).min(MOST_BATCH);
                        backoff.succeeded("the collector takes records again");
                    }
                    Ok(false) if stop.requested() => return,
                    Ok(false) => std::thread::sleep(IDLE),
                    Err(error) => {
                        if error.wants_less() {
                            size = (size / 2).max(LEAST_BATCH);
                        }
                        backoff.failed(&format!("records wait in the spool: {error}"));
                        // A request to stop ends this pause, but not the pauses in the
                        // time that is then left.
                        backoff.pause(|| match end {
                            Some(end) => std::time::Instant::now() >= end,
                            None => stop.requested(),
                        });
                    }
                }
            }
        })
}

/// Delivers one batch of at most `size` bytes; returns false when there was none.
fn deliver_once(
    client: &Client,
    spool: &SharedSpool,
    size: usize,
    pace: &mut Pace,
) -> Result<bool, UplinkError> {
    // Holds the spool's lock only here: recording goes on during the request.
    let Some(batch) = lock(spool).next_batch(size)? else {
        return Ok(false);
    };
    // Counted before the request: a delivery that fails has used the path as well.
    pace.sent(batch.bytes.len());
    // After failures batches shrink to a single frame. That must pass on a slow path, so it
    // gets the time that it needs there.
    let longer = match batch.frames() {
        1 => Duration::from_secs(u64::try_from(batch.bytes.len() / SLOWEST_BODY).unwrap_or(0))
            .min(LONGEST),
        _ => Duration::ZERO,
    };
    let ack = client.deliver(&batch.bytes, longer)?;
    let mut spool = lock(spool);
    for refused in &ack.refused {
        warn!("the collector could not use a block: {}", refused.error);
        if refused.offset < ack.bytes {
            spool.refused(&batch, refused.offset);
        }
    }
    spool.acknowledge(batch.cursor_after(ack.bytes));
    drop(spool);
    if ack.bytes == 0 {
        return Err(UplinkError::NoProgress);
    }
    Ok(true)
}

/// The last clock report to the collector: when it was made, and this host's clocks then.
struct Greeted {
    at: Instant,
    clocks: ClockPair,
}

impl Greeted {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            clocks: Clock::pair(),
        }
    }

    /// Whether the report is still valid: clocks drift, and wall clocks are set.
    fn holds(&self) -> bool {
        let moved = Clock::pair().offset() - self.clocks.offset();
        self.at.elapsed() < GREET_AGAIN && moved.abs() < CLOCK_SET
    }
}

/// Starts the thread that waits for plans and sends each to `plans`.
///
/// # Errors
/// When no thread can be started.
pub fn follow_plan(
    client: Client,
    mut known: Option<Revision>,
    plans: Sender<PlanResponse>,
    stop: Stop,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("plan".to_owned())
        .spawn(move || {
            let mut backoff = Backoff::new(client.seed().wrapping_add(1));
            let mut greeted: Option<Greeted> = None;
            while !stop.requested() {
                let begun = Instant::now();
                let known_well = greeted.as_ref().is_some_and(Greeted::holds);
                let asked = client.greet_unless(known_well).and_then(|()| {
                    if !known_well {
                        greeted = Some(Greeted::now());
                    }
                    client.plan(known.as_ref(), HOLD)
                });
                match asked {
                    Ok(response) => {
                        backoff.succeeded("the collector answers");
                        if let Some(response) = response {
                            info!("a new plan, revision {}", response.revision);
                            known = Some(response.revision);
                            if plans.send(response).is_err() {
                                return;
                            }
                        } else if begun.elapsed() < HELD_AT_LEAST {
                            // A proxy, or a collector that stops, did not hold the request.
                            std::thread::sleep(HELD_AT_LEAST);
                        }
                    }
                    Err(error) => {
                        greeted = None;
                        backoff.failed(&format!("no plan from the collector: {error}"));
                        backoff.pause(|| stop.requested());
                    }
                }
            }
        })
}

#[cfg(test)]
mod tests;
