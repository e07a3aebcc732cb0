//! The collector's plan file: the plan that agents fetch, and beside it what
//! concerns the collector alone, namely its own settings and the agents' secrets.

mod error;
mod keys;
mod place;
mod roles;
mod secret;
mod token;

pub use error::PlanFileError;
pub use roles::{LATELY, NoPart, Roles};
pub use secret::Secret;
pub use token::Tokens;
pub(crate) use token::read_token;

use crate::identity::ServerNameText;
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
    /// What others than this host's own programs prove themselves by at the API.
    pub tokens: Tokens,
    /// The files that the secrets and tokens are from.
    pub secret_files: Vec<PathBuf>,
}

/// The `[collector]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where agents reach it: by TLS beyond the loopback interface, see [`Self::tls`].
    pub listen: SocketAddr,
    /// Where the command line and scripts of this host reach it, on the loopback
    /// interface, where `listen` speaks TLS; otherwise that serves them, too.
    pub api_listen: SocketAddr,
    /// Whether agents must come by TLS with a certificate; absent for yes beyond the
    /// loopback interface, no on it.
    pub tls: Option<bool>,
    /// Lets agents come without TLS from other hosts, each with a secret: for labs only.
    pub plain_http: bool,
    /// Names and addresses by which agents reach it, beyond this host's own.
    pub names: Vec<String>,
    /// How long certificates of agents, and its own, are valid.
    pub certificate_life: Span,
    /// Directory of the database and of the sealed files.
    pub store: PathBuf,
    /// Records older than this are deleted; without it they are kept for ever.
    pub retention: Option<Span>,
    /// An hour is sealed into Parquet once nothing of it has come for this long.
    pub seal_after: Span,
    /// The file of the token with which others may look at the status and the drills.
    pub read_token_file: Option<PathBuf>,
    /// The file of the token with which others may also start, mark and stop drills.
    pub operate_token_file: Option<PathBuf>,
    /// Whether programs of this host need a token, too: it has users who are not to look
    /// or operate, or a proxy before the API.
    pub token_required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            api_listen: DEFAULT_LISTEN,
            tls: None,
            plain_http: false,
            names: Vec::new(),
            certificate_life: Span::from_secs(90 * 86_400),
            store: PathBuf::from(DEFAULT_STORE),
            retention: None,
            seal_after: Span::from_secs(600),
            read_token_file: None,
            operate_token_file: None,
            token_required: false,
        }
    }
}

/// Where the collector listens unless the plan says otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8620);

/// Where the collector stores unless the plan says otherwise.
pub const DEFAULT_STORE: &str = "/var/lib/hopgap";

/// Least length of an agent's secret in bytes.
const LEAST_SECRET: usize = 16;

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

/// What of a plan file names and judges. The secrets that it names are not read: a report
/// may be made where they are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judging {
    /// The named paths.
    pub paths: Vec<PathPlan>,
    /// What a failover is judged against.
    pub objective: Objective,
}

impl Judging {
    /// Reads and checks the paths and the objective of a plan file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or used; the message names file, line and remedy.
    pub fn load(path: &Path) -> Result<Self, PlanFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| PlanFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// The same of the file's text; `path` is for messages.
    ///
    /// # Errors
    ///
    /// When the text cannot be used.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanFileError> {
        let file: File =
            toml::from_str(text).map_err(|error| PlanFileError::syntax(path, text, &error))?;
        let plan = Plan {
            paths: file.paths,
            objective: file.objective,
            ..Plan::default()
        };
        let plan = plan.checked().map_err(|error| PlanFileError::Value {
            path: path.to_owned(),
            line: place::of(text, place::of_plan_error(&error)),
            message: error.to_string(),
        })?;
        Ok(Self {
            paths: plan.paths,
            objective: plan.objective,
        })
    }
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
                let wanted = secret::Wanted {
                    what: &format!("the secret of agent `{}`", entry.name),
                    key: "secret_file",
                    least: LEAST_SECRET,
                    if_denied: secret::COLLECTORS_FILE,
                };
                let secret = secret::read(&secret_file, wanted)
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
        let folder = path.parent().unwrap_or(Path::new(""));
        let tokens = token::read_all(&file.collector, folder, &secrets, &mut secret_files)
            .map_err(|(key, message)| PlanFileError::Value {
                path: path.to_owned(),
                line: place::of(text, place::Item::Collector(key)),
                message,
            })?;
        let plan = Plan {
            agents,
            sessions: file.sessions,
            echoes: file.echoes,
            paths: file.paths,
            objective: file.objective,
        };
        let plan = plan.checked_whole().map_err(|error| PlanFileError::Value {
            path: path.to_owned(),
            line: place::of(text, place::of_plan_error(&error)),
            message: error.to_string(),
        })?;
        Ok(Self {
            plan,
            settings: file.collector,
            secrets,
            tokens,
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

    /// How agents come to `listen`.
    ///
    /// # Errors
    ///
    /// When the settings contradict each other, or when others could listen in or pass for
    /// an agent: beyond the loopback interface either TLS is spoken, or the plan says that
    /// it is a lab ([`Settings::plain_http`]) and every agent has a secret.
    pub fn may_listen_at(&self, listen: SocketAddr) -> Result<Transport, PlanFileError> {
        let settings = &self.settings;
        let loopback = listen.ip().is_loopback();
        let tls = settings.tls.unwrap_or(!loopback && !settings.plain_http);
        if tls {
            if settings.plain_http {
                return Err(PlanFileError::TlsAndPlain);
            }
            if let Some(agent) = self.secrets.keys().next() {
                return Err(PlanFileError::SecretWithTls {
                    agent: agent.clone(),
                });
            }
            let api = settings.api_listen;
            let overlap = listen.ip() == api.ip() || listen.ip().is_unspecified();
            if overlap && listen.port() == api.port() && api.port() != 0 {
                return Err(PlanFileError::SamePort { listen, api });
            }
            return Ok(Transport::Tls);
        }
        if loopback {
            return Ok(Transport::Plain);
        }
        if !settings.plain_http {
            return Err(PlanFileError::NeedsTls { listen });
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
            None => Ok(Transport::Plain),
        }
    }

    /// The names of [`Settings::names`].
    pub fn server_names(&self) -> Vec<ServerNameText> {
        // Checked when the plan was read.
        let names = self.settings.names.iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

/// How agents come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By TLS 1.3, each with its certificate.
    Tls,
    /// By plain HTTP, with a secret where the plan gives one.
    Plain,
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
    if let Some(wrong) = settings
        .names
        .iter()
        .find_map(|name| name.parse::<ServerNameText>().err())
    {
        return Err(("names", wrong));
    }
    if !settings.api_listen.ip().is_loopback() {
        return Err((
            "api_listen",
            format!(
                "api_listen is {}, but must be on the loopback interface, such as 127.0.0.1:8620: it serves this host only",
                settings.api_listen
            ),
        ));
    }
    if !(second * 10..=second * 397 * 86_400).contains(&settings.certificate_life) {
        return Err((
            "certificate_life",
            format!(
                "certificate_life is {}, but must be 10s to 9528h (397 days); 2160h is 90 days",
                settings.certificate_life.to_config_text()
            ),
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
