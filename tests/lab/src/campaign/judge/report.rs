//! The part of `report.json` that is judged.

use hopgap_proto::time::{Mono, Span};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Report {
    pub(super) findings: Findings,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Findings {
    pub(super) window: Option<Window>,
    pub(super) sessions: Vec<Session>,
    pub(super) transitions: Vec<Transition>,
    pub(super) verdict: Verdict,
    pub(super) coverage: Option<Coverage>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Transition {
    pub(super) kind: String,
    pub(super) started: Utc,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Verdict {
    pub(super) result: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Coverage {
    pub(super) directions: Vec<DirectionCoverage>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct DirectionCoverage {
    pub(super) from: String,
    pub(super) missing: Vec<Missing>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Missing {
    pub(super) from: Utc,
    pub(super) to: Utc,
    pub(super) cause: Cause,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Cause {
    pub(super) code: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Window {
    pub(super) from: Utc,
    pub(super) to: Utc,
}

/// An instant of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Utc(Timestamp);

impl TryFrom<String> for Utc {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl Utc {
    /// On the monotonic clock that UTC is this much ahead of.
    pub(super) fn mono(self, offset: Span) -> Mono {
        let nanos = i64::try_from(self.0.as_nanosecond()).unwrap_or(i64::MAX);
        Mono::from_nanos(nanos.saturating_sub(offset.as_nanos()))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Session {
    pub(super) session: String,
    pub(super) flows: Vec<Flow>,
    pub(super) latency: Vec<PathLatency>,
    pub(super) path_mtu: Vec<PathMtu>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PathMtu {
    pub(super) forward: Option<String>,
    pub(super) reverse: Option<String>,
    pub(super) bytes: u16,
    pub(super) limit: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PathLatency {
    pub(super) forward: Option<String>,
    pub(super) reverse: Option<String>,
    pub(super) round_trip: Latency,
    pub(super) one_way: Option<OneWay>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_ns: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct OneWay {
    pub(super) forward: Latency,
    pub(super) reverse: Latency,
    pub(super) bound_ns: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Flow {
    pub(super) source_port: u16,
    pub(super) counts: Counts,
    pub(super) outages: Vec<Outage>,
    pub(super) background: Vec<LossPeriod>,
    pub(super) forward_paths: Vec<Epoch>,
    pub(super) reverse_paths: Vec<Epoch>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) lost_forward: u64,
    pub(super) lost_reverse: u64,
    pub(super) lost_unknown: u64,
    pub(super) duplicated: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Outage {
    pub(super) direction: String,
    pub(super) last_good: Option<Point>,
    pub(super) first_lost: Point,
    pub(super) last_lost: Point,
    pub(super) first_good: Option<Point>,
    pub(super) at_least_ns: i64,
    pub(super) at_most_ns: Option<i64>,
    pub(super) lost: u64,
    /// Absent in reports of before sends were evidence.
    #[serde(default)]
    pub(super) refused: u64,
    pub(super) loss_periods: Vec<LossPeriod>,
    pub(super) unsent: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct LossPeriod {
    pub(super) direction: String,
    pub(super) first: Point,
    pub(super) last: Point,
    pub(super) lost: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Point {
    pub(super) seq: u32,
    pub(super) sent: Utc,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Epoch {
    pub(super) path: Option<String>,
    pub(super) first: Point,
    pub(super) last: Point,
}

/// Whether a path's name is the true one, or leaves it open and the true one is in it.
pub(super) fn may_be(said: Option<&str>, truly: &str) -> bool {
    said.is_some_and(|said| said.split(" or ").any(|one| one == truly))
}
