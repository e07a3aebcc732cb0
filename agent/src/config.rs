//! The agent's configuration file: its name and its collector. What it measures comes from the
//! collector's plan.

mod url;

use crate::uplink::ProxyUrl;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Span;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The configuration of `hopgap-agent run`, one TOML file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This agent's name in the plan.
    pub name: AgentName,
    /// Base URL of the collector, such as `https://10.1.11.10:8621`. `http://` encrypts nothing;
    /// use it only on one host or in a lab.
    pub collector: String,
    /// File with the secret that identifies this agent to a collector without TLS.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The HTTP proxy to the collector, such as `http://10.1.11.3:3128`. If left out, no proxy is
    /// used, whatever the environment says.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Directory of the cached plan and of the records that the collector does not have yet.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Limits of the spool, the store of undelivered records.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// How long records are collected into one block.
    #[serde(default = "default_block")]
    pub block: Span,
}

/// Bounds of the spool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Most bytes on disk; when exceeded, the oldest blocks are dropped and counted.
    pub max_bytes: u64,
    /// Longest time a block waits for the collector; then it is dropped and counted.
    pub max_age: Span,
    /// Longest time between a block's write and its flush to the disk. Zero: a block counts as
    /// recorded only once it is flushed.
    pub sync_every: Span,
    /// Most bytes in memory while the disk is full or fails, and as many again while it hangs.
    pub max_memory: u64,
    /// Bytes a second at which waiting records are delivered once the collector is back, in
    /// addition to new records.
    pub backfill_rate: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_age: Span::from_secs(30 * 86_400),
            sync_every: Span::from_secs(1),
            max_memory: 4 << 20,
            backfill_rate: 2_000_000,
        }
    }
}

/// Default directory of the agent's identity, plan and records.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/hopgap-agent";

fn default_state_dir() -> PathBuf {
    PathBuf::from(DEFAULT_STATE_DIR)
}

fn default_block() -> Span {
    Span::from_secs(10)
}

/// Why a configuration cannot be used. Each sentence says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; name the file with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not valid; the parser says where.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong and what is allowed there.
        message: String,
    },
    /// A value that cannot work.
    #[error("{path}: `{key}` {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what to write.
        message: String,
    },
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read or used; the message names file, line and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses and checks a text; `path` is for messages only.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |s| s.start));
            ConfigError::Parse {
                path: path.to_owned(),
                line,
                column,
                message: error.message().to_owned(),
            }
        })?;
        config.check(path)?;
        Ok(config)
    }

    /// Whether the agent uses TLS, with its own certificate, to reach the collector.
    pub fn uses_tls(&self) -> bool {
        self.collector.starts_with("https://")
    }

    /// The proxy to the collector.
    pub fn proxy(&self) -> Option<ProxyUrl> {
        // `check` has made sure that it parses.
        self.proxy.as_deref().and_then(|url| url.parse().ok())
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let fail = |key, message: String| {
            Err(ConfigError::Value {
                path: path.to_owned(),
                key,
                message,
            })
        };
        if let Err(fault) = url::check(&self.collector) {
            return fail("collector", fault.said_of(&self.collector));
        }
        if self.uses_tls() && self.secret_file.is_some() {
            return fail(
                "secret_file",
                "is for a collector without TLS; remove it, and let this host join with `hopgap-agent join`".to_owned(),
            );
        }
        if let Some(Err(error)) = self.proxy.as_deref().map(str::parse::<ProxyUrl>) {
            return fail("proxy", format!("cannot be used: {error}"));
        }
        if !(Span::from_millis(100)..=Span::from_secs(600)).contains(&self.block) {
            return fail(
                "block",
                format!(
                    "is {}, but must be 100ms to 10m",
                    self.block.to_config_text()
                ),
            );
        }
        if self.spool.max_bytes < 1 << 20 {
            return fail(
                "spool.max_bytes",
                "must be at least 1048576 (1 MiB)".to_owned(),
            );
        }
        if self.spool.max_age < Span::from_secs(60) {
            return fail("spool.max_age", "must be at least 1m".to_owned());
        }
        if self.spool.sync_every < Span::ZERO {
            return fail("spool.sync_every", "must not be negative".to_owned());
        }
        if self.spool.max_memory < 1 << 16 {
            return fail(
                "spool.max_memory",
                "must be at least 65536 (64 KiB)".to_owned(),
            );
        }
        if self.spool.backfill_rate < 1_000 {
            return fail(
                "spool.backfill_rate",
                "must be at least 1000 (bytes a second)".to_owned(),
            );
        }
        Ok(())
    }
}

/// Whether a URL can be a collector's.
pub(crate) fn is_url(url: &str) -> bool {
    url::check(url).is_ok()
}

/// Returns line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
