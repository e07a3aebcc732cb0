//! The thread that seals and expires.

use super::writer::Writer;
use crate::clock;
use crate::plan::{CollectorPlan, Settings};
use crate::store::{Reader, StoreError, seal};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch as channel;

/// How often it looks for work.
const EVERY: Duration = Duration::from_secs(30);
/// When it first looks after the start: short, so that a collector that restarts often
/// seals, too.
const FIRST: Duration = Duration::from_secs(2);

/// The thread.
pub(super) struct Keeping {
    /// Dropped to end the thread. Nothing is sent, because the first check would consume it and
    /// later checks would miss it.
    stop: Sender<Infallible>,
    thread: JoinHandle<()>,
}

/// Starts the thread.
pub(super) fn start(
    dir: PathBuf,
    plan: channel::Receiver<Arc<CollectorPlan>>,
    writer: Writer,
) -> std::io::Result<Keeping> {
    let (stop, stopped) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("seal".to_owned())
        .spawn(move || {
            let mut wait = FIRST;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                wait = EVERY;
                let settings = plan.borrow().settings.clone();
                if let Err(error) = keep(&dir, &settings, &writer, || is_over(&stopped)) {
                    tracing::error!("cannot seal or expire: {error}; it is tried again");
                }
            }
        })?;
    Ok(Keeping { stop, thread })
}

impl Keeping {
    /// Ends the thread once the file that it is writing is complete.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the sealing thread ended early; the next start seals what is due");
        }
    }
}

/// Whether the thread is to end. May be called repeatedly.
fn is_over(stopped: &Receiver<Infallible>) -> bool {
    matches!(stopped.try_recv(), Err(TryRecvError::Disconnected))
}

fn keep(
    dir: &Path,
    settings: &Settings,
    writer: &Writer,
    stopped: impl Fn() -> bool,
) -> Result<(), StoreError> {
    let reader = Reader::open(dir)?;
    while let Some(due) = seal::due(&reader, clock::now(), settings.seal_after)? {
        let encoded = seal::encode(&reader, due)?;
        tracing::info!("sealed {} rows into {}", encoded.rows, encoded.path());
        let Ok(committed) = writer.run_blocking(move |s| s.commit(&encoded, clock::now())) else {
            return Ok(());
        };
        committed?;
        if stopped() {
            return Ok(());
        }
    }
    if let Some(retention) = settings.retention {
        let before = clock::now() - retention;
        if let Ok(expired) = writer.run_blocking(move |s| s.expire(before)) {
            let expired = expired?;
            if expired.blocks > 0 {
                tracing::info!(
                    "deleted {} blocks and {} sealed files that were older than the retention",
                    expired.blocks,
                    expired.files
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Settings, is_over, keep, mpsc};
    use crate::clock;
    use crate::serve::writer;
    use crate::store::Store;
    use crate::store::tests::{Dir, Session, encoded};
    use hopgap_proto::time::Span;

    #[test]
    fn the_end_that_was_seen_while_it_sealed_is_the_end_of_the_thread_too() {
        let (stop, stopped) = mpsc::channel();
        assert!(!is_over(&stopped));
        drop(stop);
        assert!(is_over(&stopped));
        assert!(is_over(&stopped));
        let now = std::time::Duration::ZERO;
        let waited = stopped.recv_timeout(now);
        assert_eq!(waited, Err(super::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn hours_that_are_over_are_sealed_through_the_writer_and_old_ones_deleted() {
        let dir = Dir::new();
        let mut store = Store::open(&dir.0).unwrap();
        let hours = |n: i64| Span::from_secs(3600 * n);
        let then = clock::now() - hours(5);
        let blocks = Session::new(then).ten_seconds();
        let blocks: Vec<_> = blocks.iter().map(encoded).collect();
        store.append(&blocks, then).unwrap();
        let files = || {
            let probes = std::fs::read_dir(dir.0.join("sealed/probes/out"));
            probes.map_or(0, Iterator::count)
        };

        let (writer, writing) = writer::start(store).unwrap();
        let mut settings = Settings::default();
        keep(&dir.0, &settings, &writer, || false).unwrap();
        assert_eq!(files(), 1);
        // Deleted by when it was sealed, too: that was just now.
        settings.retention = Some(hours(2));
        keep(&dir.0, &settings, &writer, || false).unwrap();
        assert_eq!(files(), 1);
        settings.retention = Some(hours(-1));
        keep(&dir.0, &settings, &writer, || false).unwrap();
        assert_eq!(files(), 0);

        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(writer.stop());
        writing.finish();
        // The lock is free again, and a job that comes after is refused.
        Store::open(&dir.0).unwrap();
        assert!(writer.run_blocking(|_| ()).is_err());
    }
}
