//! The echo targets of a plan, on one thread.

use crate::echo;
use crate::recorder::Batch;
use hopgap_proto::plan::EchoPlan;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::error;

/// A socket that could not be had is asked for again this often.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The thread that watches the targets of one plan.
#[derive(Debug)]
pub(super) struct Echoes {
    plans: Vec<EchoPlan>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echoes {
    /// Watches these targets.
    pub(super) fn start(plans: Vec<EchoPlan>, records: SyncSender<Batch>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (end, ended) = oneshot::channel();
        let watched = plans.clone();
        let thread = std::thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    // Replies are told apart by identifier, also from those to other programs here.
                    let first = u16::try_from(std::process::id() & 0xffff).unwrap_or(0);
                    let mut tasks = tokio::task::JoinSet::new();
                    for (plan, i) in watched.into_iter().zip(0u16..) {
                        tasks.spawn(watch(plan, first.wrapping_add(i), records.clone()));
                    }
                    // Dropping the tasks ends them; the sender's end says that it is time.
                    let _ = ended.await;
                });
            })?;
        Ok(Self {
            plans,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// The targets that it watches.
    pub(super) fn plans(&self) -> &[EchoPlan] {
        &self.plans
    }
}

/// Watches one target until it is dropped; what cannot be had is tried again, and said once.
async fn watch(plan: EchoPlan, identifier: u16, records: SyncSender<Batch>) {
    let mut complained = false;
    loop {
        if let Err(error) = echo::watch(plan.clone(), identifier, records.clone()).await
            && !complained
        {
            error!("{error}");
            complained = true;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
