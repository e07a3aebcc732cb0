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
pub(super) struct Writer(mpsc::Sender<Order>);

/// The thread itself.
pub(super) struct Writing(JoinHandle<()>);

/// Starts the thread. It ends after [`Writer::stop`], when the jobs before it are done.
pub(super) fn start(mut store: Store) -> std::io::Result<(Writer, Writing)> {
    let (jobs_in, mut jobs) = mpsc::channel::<Order>(QUEUE);
    let thread = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            while let Some(Some(job)) = jobs.blocking_recv() {
                job(&mut store);
            }
        })?;
    Ok((Writer(jobs_in), Writing(thread)))
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
        self.0.send(Some(job)).await.map_err(|_| Stopped)?;
        done.await.map_err(|_| Stopped)
    }

    /// Ends the thread when the jobs before are done; later ones are refused, whoever
    /// still holds a writer.
    pub(super) async fn stop(&self) {
        let _ = self.0.send(None).await;
    }

    /// Done when the thread has ended.
    pub(super) async fn ended(&self) {
        self.0.closed().await;
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
        self.0.blocking_send(Some(job)).map_err(|_| Stopped)?;
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
