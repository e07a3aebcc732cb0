//! The collector's plan file: the plan that agents fetch, and beside it what
//! concerns the collector alone, namely its own settings and the agents' secrets.

mod error;
mod keys;
mod place;
mod secret;

pub use error::PlanFileError;
pub use secret::Secret;

use hopgap_proto::plan::{AgentPlan, EchoPlan, Objective, PathPlan, Plan, SessionPlan};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Span;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A plan file, read and checked.
#[derive(Clone, Debug)]
pub struct CollectorPlan {
    /// What the agents fetch.
    pub plan: Plan,
    /// What concerns the collector alone.
    pub settings: Settings,
    /// What each agent proves itself by; an agent that is absent needs no secret.
    pub secrets: BTreeMap<AgentName, Secret>,
    /// The files that the secrets are from.
    pub secret_files: Vec<PathBuf>,
}

/// The `[collector]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where agents and the command line reach it.
    pub listen: SocketAddr,
    /// Directory of the database and of the sealed files.
    pub store: PathBuf,
    /// Records older than this are deleted; without it they are kept for ever.
    pub retention: Option<Span>,
    /// An hour is sealed into Parquet once nothing of it has come for this long.
    pub seal_after: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            store: PathBuf::from(DEFAULT_STORE),
            retention: None,
            seal_after: Span::from_secs(600),
        }
    }
}

/// Where the collector listens unless the plan says otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8620);

/// Where the collector stores unless the plan says otherwise.
pub const DEFAULT_STORE: &str = "/var/lib/hopgap";

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    collector: Settings,
    #[serde(default, rename = "agent")]
    agents: Vec<AgentEntry>,
    #[serde(default, rename = "session")]
    sessions: Vec<SessionPlan>,
    #[serde(default, rename = "echo")]
    echoes: Vec<EchoPlan>,
    #[serde(default, rename = "path")]
    paths: Vec<PathPlan>,
    #[serde(default)]
    objective: Objective,
}

/// An agent with what the collector alone must know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentEntry {
    name: AgentName,
    address: IpAddr,
    /// RFC 8762 section 4.1.
    #[serde(default = "stamp_port")]
    reflector_port: u16,
    #[serde(default)]
    secret_file: Option<PathBuf>,
}

fn stamp_port() -> u16 {
    862
}

impl CollectorPlan {
    /// Reads and checks a plan file and the secrets that it names.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used; the message names file, line and remedy.
    pub fn load(path: &Path) -> Result<Self, PlanFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| PlanFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a plan file. `path` is for messages, and relative names of
    /// secret files start from its directory.
    ///
    /// # Errors
    ///
    /// When the text or a secret file cannot be used.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanFileError> {
        let file: File =
            toml::from_str(text).map_err(|error| PlanFileError::syntax(path, text, &error))?;
        check_settings(&file.collector).map_err(|(key, message)| PlanFileError::Value {
            path: path.to_owned(),
            line: place::of(text, place::Item::Collector(key)),
            message,
        })?;
        let mut agents: Vec<AgentPlan> = Vec::with_capacity(file.agents.len());
        let mut secrets: BTreeMap<AgentName, Secret> = BTreeMap::new();
        let mut secret_files = Vec::new();
        for entry in file.agents {
            let wrong = |key, message| PlanFileError::Value {
                path: path.to_owned(),
                line: place::of(
                    text,
                    place::Item::Entry {
                        kind: "agent",
                        name: entry.name.as_str(),
                        key,
                        last: true,
                    },
                ),
                message,
            };
            let place = (entry.address, entry.reflector_port);
            if let Some(other) = agents
                .iter()
                .find(|a| (a.address, a.reflector_port) == place && a.name != entry.name)
            {
                return Err(wrong(
                    "address",
                    format!(
                        "agents `{}` and `{}` both reflect at {} port {}; give each the address of its own host, or another `reflector_port`",
                        other.name, entry.name, entry.address, entry.reflector_port
                    ),
                ));
            }
            if let Some(secret_file) = &entry.secret_file {
                let secret_file = path.parent().unwrap_or(Path::new("")).join(secret_file);
                let secret = secret::read(&secret_file, &entry.name)
                    .map_err(|message| wrong("secret_file", message))?;
                if let Some((other, _)) = secrets
                    .iter()
                    .find(|(name, s)| **s == secret && **name != entry.name)
                {
                    return Err(wrong(
                        "secret_file",
                        format!(
                            "agents `{other}` and `{}` have the same secret, so each could pass for the other; write each its own file with `openssl rand -hex 32`",
                            entry.name
                        ),
                    ));
                }
                secrets.insert(entry.name.clone(), secret);
                secret_files.push(secret_file);
            }
            agents.push(AgentPlan {
                name: entry.name,
                address: entry.address,
                reflector_port: entry.reflector_port,
            });
        }
        let plan = Plan {
            agents,
            sessions: file.sessions,
            echoes: file.echoes,
            paths: file.paths,
            objective: file.objective,
        };
        let plan = plan.checked().map_err(|error| PlanFileError::Value {
            path: path.to_owned(),
            line: place::of(text, place::of_plan_error(&error)),
            message: error.to_string(),
        })?;
        Ok(Self {
            plan,
            settings: file.collector,
            secrets,
            secret_files,
        })
    }

    /// Gives the sessions between agents the keys of the store in `dir`, where the plan has
    /// none of its own.
    ///
    /// # Errors
    ///
    /// When the file of the keys cannot be read or written.
    pub fn give_keys(&mut self, dir: &Path) -> Result<(), PlanFileError> {
        keys::give(&mut self.plan, dir)
    }

    /// Whether the plan may be served at `listen`: beyond the loopback interface every
    /// agent needs a secret, or anyone could pass for it.
    ///
    /// # Errors
    ///
    /// [`PlanFileError::NeedsSecret`] with the first agent that has none.
    pub fn may_listen_at(&self, listen: SocketAddr) -> Result<(), PlanFileError> {
        if listen.ip().is_loopback() {
            return Ok(());
        }
        match self
            .plan
            .agents
            .iter()
            .find(|a| !self.secrets.contains_key(&a.name))
        {
            Some(agent) => Err(PlanFileError::NeedsSecret {
                agent: agent.name.clone(),
                listen,
            }),
            None => Ok(()),
        }
    }
}

fn check_settings(settings: &Settings) -> Result<(), (&'static str, String)> {
    let second = Span::from_secs(1);
    if !(second..=second * 86_400).contains(&settings.seal_after) {
        let value = settings.seal_after.to_config_text();
        return Err((
            "seal_after",
            format!("seal_after is {value}, but must be 1s to 24h"),
        ));
    }
    if let Some(retention) = settings.retention
        && retention < second * 3600
    {
        return Err((
            "retention",
            format!(
                "retention is {}, but must be at least 1h; leave it out to keep everything",
                retention.to_config_text()
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
