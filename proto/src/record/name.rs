//! Names that people choose in the plan, and indices below them.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize};

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a usable name; use 1 to 64 letters, digits, `-`, `_` or `.`, starting with a letter or digit"
)]
pub struct NameError(pub String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let good = s.len() <= 64
                    && s.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
                if good { Ok(Self(s.to_owned())) } else { Err(NameError(s.to_owned())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// An agent (LMAP's Measurement Agent, RFC 7594), as the plan names it.
    AgentName
}
name! {
    /// A measurement session between two agents, as the plan names it.
    SessionName
}
name! {
    /// A named path, such as `expressroute-primary` or `vpn`.
    PathName
}
name! {
    /// A target of ICMP echo that runs no agent.
    TargetName
}

/// Index of a flow within its session, from 0: flow `i` uses source port
/// `source_port + i` and SSID `ssid + i`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct FlowIndex(pub u8);

impl fmt::Display for FlowIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One run of an agent's process: its start on the wall clock in nanoseconds.
/// Sequence numbers, block numbers and the monotonic clock's meaning belong to
/// a run; nothing is continued across runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
