//! The thread that owns the store.

use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// A job, or `None` to stop.
type Order = Option<Job>;

/// Most jobs that wait for the writer; further requests wait for a place.
const QUEUE: usize = 16;

/// The writer has stopped: the service is ending, or its thread died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector is stopping")]
pub(super) struct Stopped;

/// Hands jobs to the thread that owns the store.
#[derive(Clone)]
pub(super) struct Writer {
    /// Agents' deliveries, and everything else that can wait.
    orders: mpsc::Sender<Order>,
    /// Commands that people wait for.
    urgent: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

/// Counts of the thread's work.
#[derive(Debug, Default)]
struct Counts {
    jobs: AtomicU64,
    busy_ns: AtomicU64,
}

impl Counts {
    fn did(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.busy_ns.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The work of the thread that owns the store, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterBody {
    /// Finished jobs: deliveries, commands, sealing, and their look-ups.
    pub jobs: u64,
    /// Total time that they took, in nanoseconds.
    pub busy_ns: u64,
    /// Jobs that wait.
    pub waiting: u64,
}

/// The thread itself.
pub(super) struct Writing(JoinHandle<()>);

/// Starts the thread. It ends after [`Writer::stop`], when the jobs before it are done.
pub(super) fn start(mut store: Store) -> std::io::Result<(Writer, Writing)> {
    let (orders_in, mut orders) = mpsc::channel::<Order>(QUEUE);
    let (urgent_in, mut urgent) = mpsc::channel::<Job>(QUEUE);
    let counts = Arc::new(Counts::default());
    let done = Arc::clone(&counts);
    // Used only to wait for two queues at once.
    let waiting = tokio::runtime::Builder::new_current_thread().build()?;
    let thread = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            while let Some(job) = waiting.block_on(next(&mut urgent, &mut orders)) {
                let begun = Instant::now();
                job(&mut store);
                done.did(begun.elapsed());
            }
            // Runs the urgent jobs that are left. Dropping the others tells their waiters.
            while let Ok(job) = urgent.try_recv() {
                job(&mut store);
            }
        })?;
    let writer = Writer {
        orders: orders_in,
        urgent: urgent_in,
        counts,
    };
    Ok((writer, Writing(thread)))
}

/// Returns the next job, urgent ones first; `None` to stop.
async fn next(urgent: &mut mpsc::Receiver<Job>, orders: &mut mpsc::Receiver<Order>) -> Order {
    tokio::select! {
        biased;
        Some(job) = urgent.recv() => Some(job),
        order = orders.recv() => order.flatten(),
    }
}

impl Writer {
    /// Returns what the thread has done, and what waits for it.
    pub(super) fn body(&self) -> WriterBody {
        let urgent = self.urgent.max_capacity() - self.urgent.capacity();
        let orders = self.orders.max_capacity() - self.orders.capacity();
        WriterBody {
            jobs: self.counts.jobs.load(Ordering::Relaxed),
            busy_ns: self.counts.busy_ns.load(Ordering::Relaxed),
            waiting: u64::try_from(urgent + orders).unwrap_or(u64::MAX),
        }
    }

    /// Runs a job on the store and returns its result. A queued job runs also when nobody waits
    /// for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (done_in, done) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let _ = done_in.send(job(store));
        });
        self.orders.send(Some(job)).await.map_err(|_| Stopped)?;
        done.await.map_err(|_| Stopped)
    }

    /// [`Writer::run`] ahead of all jobs that are not urgent: for commands that people wait for.
    pub(super) async fn run_first<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (done_in, done) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let _ = done_in.send(job(store));
        });
        self.urgent.send(job).await.map_err(|_| Stopped)?;
        done.await.map_err(|_| Stopped)
    }

    /// Ends the thread when the earlier jobs are done. Later jobs are refused, also from other
    /// holders of a writer.
    pub(super) async fn stop(&self) {
        let _ = self.orders.send(None).await;
    }

    /// Completes when the thread has ended.
    pub(super) async fn ended(&self) {
        self.orders.closed().await;
    }

    /// [`Writer::run`] for threads outside of the runtime.
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (done_in, done) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let _ = done_in.send(job(store));
        });
        self.orders.blocking_send(Some(job)).map_err(|_| Stopped)?;
        done.blocking_recv().map_err(|_| Stopped)
    }
}

impl Writing {
    /// Waits until all jobs are done and the store is closed.
    pub(super) fn finish(self) {
        if self.0.join().is_err() {
            tracing::error!("the store's thread ended early; what was acknowledged is stored");
        }
    }
}
