//! What can be wrong with a plan file.

use super::place;
use hopgap_proto::record::AgentName;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a plan file cannot be used. Each sentence says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// The file cannot be read.
    #[error("cannot read the plan {}: {source}; name another file or create this one", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has keys or values that it may not have.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong and what may stand there.
        message: String,
    },
    /// A value that cannot work.
    #[error("{}{}: {message}", path.display(), At(*line))]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong and what to write.
        message: String,
    },
    /// An agent without a secret, in a lab without TLS.
    #[error(
        "agent `{agent}` has no secret, so anyone who reaches {listen} could pass for it; give it a `secret_file`, or remove `plain_http` so that agents come by TLS"
    )]
    NeedsSecret {
        /// The agent.
        agent: AgentName,
        /// Where the collector was to listen.
        listen: SocketAddr,
    },
    /// TLS was turned off where others can reach the collector.
    #[error(
        "`tls = false`, but others can reach {listen}; remove the line so that agents come by TLS (`hopgap-collector token create` lets each join), or listen on 127.0.0.1"
    )]
    NeedsTls {
        /// Where the collector was to listen.
        listen: SocketAddr,
    },
    /// Both ways were asked for.
    #[error("`tls = true` and `plain_http = true` contradict each other; remove one of them")]
    TlsAndPlain,
    /// A secret where certificates count.
    #[error(
        "agent `{agent}` has a `secret_file`, but agents come by TLS with a certificate; remove the line and let the agent join with a token of `hopgap-collector token create --agent {agent}` (a lab without TLS needs `plain_http = true` under [collector])"
    )]
    SecretWithTls {
        /// The agent.
        agent: AgentName,
    },
    /// The plan changes between TLS and plain HTTP while the collector runs.
    #[error(
        "the plan changes how agents come, between TLS and plain HTTP; restart the collector for that"
    )]
    OtherTransport,
    /// Agents and the command line cannot share a port when one speaks TLS.
    #[error(
        "agents come by TLS to {listen}, where `api_listen` {api} cannot be, too; choose another port, such as 8621, for `listen`"
    )]
    SamePort {
        /// For agents.
        listen: SocketAddr,
        /// For the command line.
        api: SocketAddr,
    },
    /// The file of the sessions' keys.
    #[error(
        "cannot keep the sessions' keys in {}: {source}; let the user that the collector runs as write there", path.display()
    )]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the sessions' keys.
    #[error("the sessions' keys in {0} can be read by others; run `chmod 600 {0}`, or remove it and new ones are made", path.display())]
    KeysWide {
        /// The file.
        path: PathBuf,
    },
    /// The file of the sessions' keys is damaged.
    #[error("{}:{line}: the sessions' keys cannot be read; remove it, and new ones are made", path.display())]
    KeysUnreadable {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// No random numbers.
    #[error("cannot make a key: the operating system gives no random numbers: {source}")]
    Random {
        /// Why.
        source: getrandom::Error,
    },
}

/// `:LINE`, or nothing.
struct At(Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

impl PlanFileError {
    /// What the TOML parser found, with a remedy where its own words lack one.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        // The parser stumbles over what follows from these, and speaks of that.
        if let Some((line, message)) = brackets(text) {
            return Self::Syntax {
                path: path.to_owned(),
                line,
                column: 1,
                message,
            };
        }
        let (line, column) = place::position(text, error.span().map_or(0, |s| s.start));
        let message = error.message().trim().replace('\n', ", ");
        Self::Syntax {
            path: path.to_owned(),
            line,
            column,
            message: with_remedy(&message),
        }
    }
}

/// The first table with one pair of brackets too few or too many: its line, from 1, and
/// what to write.
fn brackets(text: &str) -> Option<(usize, String)> {
    text.lines().enumerate().find_map(|(n, line)| {
        let header = line.split('#').next().unwrap_or_default().trim();
        let message = match header {
            "[agent]" | "[session]" | "[echo]" | "[path]" => {
                format!("there may be several of these: write [{header}] with two brackets")
            }
            "[[collector]]" => "there is one of these only: write [collector]".to_owned(),
            "[[objective]]" => "there is one of these only: write [objective]".to_owned(),
            _ => return None,
        };
        Some((n + 1, message))
    })
}

fn with_remedy(message: &str) -> String {
    if message.contains("untagged enum Destination") {
        return "`to` must be an agent's name, or address and port of a foreign reflector such as \"192.0.2.1:862\""
            .to_owned();
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{field} is missing here; add it");
    }
    let remedy = if message.starts_with("unknown field") {
        "correct or remove it"
    } else if message.starts_with("invalid socket address") {
        "write address and port such as \"127.0.0.1:8620\""
    } else if message.starts_with("invalid IP address") {
        "write an address such as \"192.0.2.1\" or \"2001:db8::1\""
    } else if message.ends_with("expected a string") {
        "put it in quotes, a length of time with its unit, such as \"10ms\""
    } else if message.ends_with("expected u16") {
        "write 0 to 65535"
    } else if message.ends_with("expected u8") {
        "write 0 to 255"
    } else {
        return message.to_owned();
    };
    format!("{message}; {remedy}")
}
