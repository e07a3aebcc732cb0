//! The thread that reports this agent's state to the collector.

use crate::health::Health;
use crate::identity::IdentityStore;
use crate::session::Stop;
use crate::uplink::{Client, SharedSpool, lock};
use hopgap_net::clock::Clock;
use hopgap_proto::record::{AgentName, RunId};
use hopgap_proto::time::{Mono, Span};
use hopgap_proto::uplink::{AgentReport, REPORT_EVERY, SpoolReport};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{debug, warn};

/// How often to look for changes.
const LOOK: Duration = Duration::from_millis(200);
/// Shortest time between two reports, also where the state changes all the time.
const AT_MOST_EVERY: Span = Span::from_secs(1);

/// What the reports are about.
pub(super) struct Reporting {
    pub(super) health: Health,
    pub(super) spool: SharedSpool,
    /// The spool's directory.
    pub(super) folder: PathBuf,
    /// Most bytes that the spool may have there.
    pub(super) most: u64,
    /// How long records are collected into one block.
    pub(super) block: Span,
    pub(super) run: RunId,
}

impl Reporting {
    fn report(&self) -> AgentReport {
        let (sessions, faults) = self.health.report();
        let (waiting, in_memory) = {
            let spool = lock(&self.spool);
            (spool.waiting(), spool.only_in_memory())
        };
        AgentReport {
            run: self.run,
            at_ns: Clock::pair().wall,
            block: self.block,
            spool: SpoolReport {
                waiting,
                in_memory,
                most: self.most,
                free: free_bytes(&self.folder),
            },
            sessions,
            faults,
        }
    }
}

/// Returns the bytes that this user may still write to the file system of `folder`.
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Stores the agent's new name in its identity: the collector has renamed it and accepts its
/// certificate under this name.
fn keep_name(identities: &IdentityStore, name: AgentName) {
    let before = identities.look();
    let kept = identities.load().and_then(|mut identity| {
        identity.agent = name;
        identities.save_over(&identity, before)
    });
    if let Err(error) = kept {
        warn!("this agent's new name is not kept: {error}");
    }
}

/// Starts the thread. It does not repeat a report that fails: the next one is newer, and the
/// records have everything that the measurement needs.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(
    client: Client,
    reporting: Reporting,
    mut renamed: Option<(IdentityStore, AgentName)>,
    stop: Stop,
) -> std::io::Result<()> {
    let run = move || {
        let mut told: Option<(Mono, u64)> = None;
        while !stop.requested() {
            let (now, changes) = (Clock::now(), reporting.health.changes());
            let due = told.is_none_or(|(at, before)| {
                let changed = before != changes && now - at >= AT_MOST_EVERY;
                changed || now - at >= REPORT_EVERY
            });
            if due {
                told = Some((now, changes));
                match client.report(&reporting.report()) {
                    Ok(()) => {
                        if let Some((identities, name)) = renamed.take() {
                            keep_name(&identities, name);
                        }
                    }
                    Err(error) => {
                        debug!("the collector does not know how this agent is: {error}");
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new()
        .name("report".to_owned())
        .spawn(run)
        .map(drop)
}
