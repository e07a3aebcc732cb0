//! Watches the plan file and puts a changed plan in force.

use super::writer::Writer;
use crate::clock;
use crate::plan::{CollectorPlan, PlanFileError, Roles, Transport};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::watch as channel;

/// How often the files are checked.
const EVERY: Duration = Duration::from_secs(1);

/// Modification time and length of each file, to detect changes.
type Look = Vec<Option<(SystemTime, u64)>>;

/// Watches the plan file `file` and the secret files that it names, for ever; the keys of
/// its sessions are in `store`. Reports a plan that cannot be used; the one before then stays
/// in force.
pub(super) async fn watch(
    (file, store): (PathBuf, PathBuf),
    (listen, transport): (SocketAddr, Transport),
    (plan, roles): (channel::Sender<Arc<CollectorPlan>>, Arc<RwLock<Roles>>),
    error: channel::Sender<Option<String>>,
    writer: Writer,
) {
    let mut seen = look(&file, &plan.borrow());
    loop {
        tokio::time::sleep(EVERY).await;
        let now = look(&file, &plan.borrow());
        if now == seen {
            continue;
        }
        let loaded = CollectorPlan::load(&file).and_then(|mut new| {
            // A listener without TLS must never serve a plan without secrets.
            if new.may_listen_at(listen)? != transport {
                return Err(PlanFileError::OtherTransport);
            }
            new.give_keys(&store)?;
            Ok(new)
        });
        match loaded {
            Ok(new) => {
                let kept = new.plan.clone();
                match writer.run(move |s| s.adopt_plan(&kept, clock::now())).await {
                    Ok(Ok(())) => {
                        report(&plan.borrow(), &new, &file);
                        // Before any agent gets the plan and records by it.
                        roles
                            .write()
                            .unwrap_or_else(PoisonError::into_inner)
                            .adopt(&new.plan, clock::now());
                        plan.send_replace(Arc::new(new));
                        error.send_replace(None);
                        // The new plan may name other secret files.
                        seen = look(&file, &plan.borrow());
                    }
                    // Tried again at the next check.
                    Ok(Err(failed)) => tracing::error!("cannot note the new plan: {failed}"),
                    Err(stopped) => tracing::warn!("{stopped}"),
                }
            }
            Err(wrong) => {
                tracing::error!("{wrong}; the plan before stays in force");
                error.send_replace(Some(wrong.to_string()));
                seen = now;
            }
        }
    }
}

fn report(old: &CollectorPlan, new: &CollectorPlan, file: &Path) {
    tracing::info!("the plan {} changed and is in force", file.display());
    let fixed = |plan: &CollectorPlan| {
        let settings = &plan.settings;
        (settings.listen, settings.api_listen, settings.store.clone())
    };
    if fixed(old) != fixed(new) {
        tracing::warn!(
            "`listen`, `api_listen` and `store` take effect when the collector is restarted"
        );
    }
}

fn look(file: &Path, plan: &CollectorPlan) -> Look {
    std::iter::once(file)
        .chain(plan.secret_files.iter().map(PathBuf::as_path))
        .map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
        .collect()
}
