//! The messages, one type for each body.

use super::Revision;
use super::version::ProgramVersion;
use crate::plan::Plan;
use crate::record::{AgentName, RunId};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// Versions of the uplink that one side can speak, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl ProtocolRange {
    /// What this build speaks.
    pub const OURS: Self = Self {
        oldest: 1,
        newest: super::PROTOCOL,
    };

    /// The newest version that both sides know; `None` where there is none.
    pub fn agree(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// An agent introduces itself, at its start and whenever the uplink comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name in the plan; the same as in the header.
    pub agent: AgentName,
    /// The run of its process.
    pub run: RunId,
    /// The version of its program, for people.
    pub version: ProgramVersion,
    /// The versions of the uplink that it can speak.
    pub protocol: ProtocolRange,
}

/// The collector's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the uplink that is spoken from here on.
    pub protocol: u16,
    /// The version of the collector's program, for people.
    pub version: String,
    /// The collector's wall clock, nanoseconds since 1970: for a warning when the two clocks
    /// are far apart, and for the [`ClockExchange`](super::ClockExchange); not for measuring.
    pub now_ns: Wall,
}

/// The plan for one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanResponse {
    /// The revision to ask with from now on.
    pub revision: Revision,
    /// The part of the plan that concerns this agent.
    pub plan: Plan,
}

/// How much of a body of frames a collector has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The length of the body's finished prefix, in bytes: every frame in it is durable, was
    /// durable before, or is listed in `refused`. It ends at a frame's end.
    pub bytes: u64,
    /// How many blocks of the prefix were new and are durable now.
    pub stored: u32,
    /// How many blocks of the prefix had been delivered before.
    pub duplicates: u32,
    /// Frames of the prefix that are whole but could not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// A frame that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Where in the body it begins, in bytes.
    pub offset: u64,
    /// Why, as a sentence.
    pub error: String,
}

/// What went wrong, for the program on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 401: the secret is absent or not this agent's.
    Unauthorized,
    /// 403: the plan has no agent of this name, or a block is another agent's.
    Forbidden,
    /// 400: the two sides share no version of the uplink.
    Protocol,
    /// 400: the request cannot be read.
    Malformed,
    /// 413: the body is larger than the collector takes.
    TooLarge,
    /// 503: the collector is starting, stopping or overloaded; try again.
    Busy,
    /// 507: the collector cannot store; nothing was acknowledged.
    Storage,
    /// A code that this build does not know.
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::Protocol | Self::Malformed => 400,
            Self::TooLarge => 413,
            Self::Busy => 503,
            Self::Storage => 507,
            Self::Other => 500,
        }
    }
}

/// The body of every response other than success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, for the program.
    pub code: ErrorCode,
    /// What was wrong, as a sentence.
    pub error: String,
    /// What to do about it, as a sentence.
    pub remedy: String,
}

/// The value of the `Authorization` header for a secret.
pub fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

/// The secret in the value of an `Authorization` header; `None` where it is of
/// another scheme or empty. Compare it in constant time.
pub fn secret_of(authorization: &str) -> Option<&str> {
    let (scheme, secret) = authorization.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}
