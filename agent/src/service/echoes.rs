//! The echo targets of a plan, on one thread.

use crate::echo;
use crate::recorder::Batch;
use hopgap_proto::plan::EchoPlan;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::error;

/// How often to try again to open a socket.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The thread that watches the targets of one plan.
#[derive(Debug)]
pub(super) struct Echoes {
    plans: Vec<EchoPlan>,
    source: Option<IpAddr>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echoes {
    /// Watches these targets, from the agent's address in the plan.
    pub(super) fn start(
        plans: Vec<EchoPlan>,
        source: Option<IpAddr>,
        records: SyncSender<Batch>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (end, ended) = oneshot::channel();
        let watched = plans.clone();
        let thread = std::thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    // Identifiers tell replies apart, also from those to other programs here. They
                    // are random because process numbers are the same in many containers.
                    let [.., a, b] = RandomState::new().build_hasher().finish().to_be_bytes();
                    let first = u16::from_be_bytes([a, b]);
                    let mut tasks = tokio::task::JoinSet::new();
                    for (plan, i) in watched.into_iter().zip(0u16..) {
                        tasks.spawn(watch(plan, source, first.wrapping_add(i), records.clone()));
                    }
                    // Waits until the sender is dropped. Dropping the tasks then ends them.
                    let _ = ended.await;
                });
            })?;
        Ok(Self {
            plans,
            source,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Returns whether it watches these targets from this address.
    pub(super) fn is(&self, plans: &[EchoPlan], source: Option<IpAddr>) -> bool {
        self.plans == plans && self.source == source
    }
}

/// Watches one target until the future is dropped. Tries again to open its socket, and logs
/// an error once.
async fn watch(
    plan: EchoPlan,
    source: Option<IpAddr>,
    identifier: u16,
    records: SyncSender<Batch>,
) {
    let mut complained = false;
    loop {
        if let Err(error) = echo::watch(plan.clone(), source, identifier, records.clone()).await
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
