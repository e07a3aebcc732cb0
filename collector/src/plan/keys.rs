//! The keys that the collector gives to sessions between agents.
//!
//! A session of which the plan says nothing else is authenticated with a key that only
//! its two agents and this host know. The keys stand in one file of the store, which
//! only its owner can read, so that they outlive a restart; they are in no plan that is
//! kept, in no status and in no log. Without the file there are new keys, and with them
//! a new revision of the plan.

use super::PlanFileError;
use hopgap_proto::plan::{Destination, Plan};
use hopgap_proto::record::{AgentName, SessionName};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the file within the store's directory.
const FILE: &str = "session-keys.json";

/// As long as what HMAC-SHA-256 makes (RFC 2104 section 3).
const BYTES: usize = 32;

/// A session's key: other ends, another key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    session: SessionName,
    from: AgentName,
    to: AgentName,
    key: String,
}

/// Gives every session of `plan` between agents that is to be authenticated, and has no
/// key, the key of the store in `dir`; makes those that are missing and forgets those that
/// no session has.
pub(super) fn give(plan: &mut Plan, dir: &Path) -> Result<(), PlanFileError> {
    let path = dir.join(FILE);
    let before = read(&path)?;
    let mut kept = Vec::new();
    for session in &mut plan.sessions {
        let Destination::Agent(to) = &session.to else {
            continue;
        };
        if session.key.is_some() || !session.is_authenticated() {
            continue;
        }
        let of = |e: &&Entry| (&e.session, &e.from, &e.to) == (&session.name, &session.from, to);
        let entry = match before.iter().find(of) {
            Some(entry) => entry.clone(),
            None => Entry {
                session: session.name.clone(),
                from: session.from.clone(),
                to: to.clone(),
                key: fresh()?,
            },
        };
        session.key = Some(entry.key.clone());
        kept.push(entry);
    }
    if kept != before {
        write(&path, &kept)?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> PlanFileError {
    let path = path.to_owned();
    move |source| PlanFileError::Keys { path, source }
}

fn read(path: &Path) -> Result<Vec<Entry>, PlanFileError> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(path)(error)),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(PlanFileError::KeysWide {
            path: path.to_owned(),
        });
    }
    let text = std::fs::read(path).map_err(failed(path))?;
    serde_json::from_slice(&text).map_err(|source| PlanFileError::KeysUnreadable {
        path: path.to_owned(),
        // Its own words could quote a key.
        line: source.line(),
    })
}

/// Replaces the file; a crash leaves the old one or the new one.
fn write(path: &Path, entries: &[Entry]) -> Result<(), PlanFileError> {
    let mut text = serde_json::to_vec_pretty(entries)
        .map_err(std::io::Error::from)
        .map_err(failed(path))?;
    text.push(b'\n');
    let new: PathBuf = path.with_extension("new");
    let replace = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&new);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    replace().map_err(failed(path))
}

/// A key that nobody can guess.
fn fresh() -> Result<String, PlanFileError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|source| PlanFileError::Random { source })?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        // Into a string it does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
