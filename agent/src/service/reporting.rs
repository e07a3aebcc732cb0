//! The thread that tells the collector how this agent is.

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

/// Changes are looked for this often.
const LOOK: Duration = Duration::from_millis(200);
/// One that changes all the time is reported this often.
const AT_MOST_EVERY: Span = Span::from_secs(1);

/// What is reported on.
pub(super) struct Reporting {
    pub(super) health: Health,
    pub(super) spool: SharedSpool,
    /// The spool's directory.
    pub(super) folder: PathBuf,
    /// Most bytes in it.
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

/// Bytes that this user may still write to the file system of `folder`.
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The collector knows this agent's certificate by this name, to which it was renamed: so
/// does the identity from now on.
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

/// Starts the thread. A report that does not arrive is not repeated: the next says more,
/// and what counts for the measurement is in the records.
///
/// # Errors
/// When no thread can be had.
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
