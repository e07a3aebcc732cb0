//! The thread that owns the store.

use crate::store::Store;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// A job, or `None` to stop.
type Order = Option<Job>;

/// Jobs that wait for the writer; more make requests wait.
const QUEUE: usize = 16;

/// The writer has stopped: the service is ending, or its thread died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector is stopping")]
pub(super) struct Stopped;

/// Hands jobs to the thread that owns the store.
#[derive(Clone)]
pub(super) struct Writer {
    /// What agents deliver, and all else that can wait.
    orders: mpsc::Sender<Order>,
    /// What people ask for and wait for.
    urgent: mpsc::Sender<Job>,
}

/// The thread itself.
pub(super) struct Writing(JoinHandle<()>);

/// Starts the thread. It ends after [`Writer::stop`], when the jobs before it are done.
pub(super) fn start(mut store: Store) -> std::io::Result<(Writer, Writing)> {
    let (orders_in, mut orders) = mpsc::channel::<Order>(QUEUE);
    let (urgent_in, mut urgent) = mpsc::channel::<Job>(QUEUE);
    // Only to wait for two queues at once.
    let waiting = tokio::runtime::Builder::new_current_thread().build()?;
    let thread = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            while let Some(job) = waiting.block_on(next(&mut urgent, &mut orders)) {
                job(&mut store);
            }
            // Whoever still waits is told by what it waits for being gone.
            while let Ok(job) = urgent.try_recv() {
                job(&mut store);
            }
        })?;
    let writer = Writer {
        orders: orders_in,
        urgent: urgent_in,
    };
    Ok((writer, Writing(thread)))
}

/// The next job: what is urgent first; `None` to stop.
async fn next(urgent: &mut mpsc::Receiver<Job>, orders: &mut mpsc::Receiver<Order>) -> Order {
    tokio::select! {
        biased;
        Some(job) = urgent.recv() => Some(job),
        order = orders.recv() => order.flatten(),
    }
}

impl Writer {
    /// Runs a job on the store; its result. A job that was handed over runs even when
    /// nobody waits for it any more.
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

    /// [`Writer::run`] before all that is not urgent: for what people wait for.
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

    /// Ends the thread when the jobs before are done; later ones are refused, whoever
    /// still holds a writer.
    pub(super) async fn stop(&self) {
        let _ = self.orders.send(None).await;
    }

    /// Done when the thread has ended.
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
