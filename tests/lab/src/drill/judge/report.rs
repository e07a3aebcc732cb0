//! The part of `report.json` that is judged.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Report {
    pub(super) findings: Findings,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Findings {
    pub(super) coverage: Coverage,
    pub(super) verdict: Verdict,
    pub(super) sessions: Vec<Session>,
    pub(super) transitions: Vec<Transition>,
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
    pub(super) to: String,
    pub(super) asked_ns: i64,
    pub(super) seen_ns: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Session {
    pub(super) session: String,
    pub(super) flows: Vec<Flow>,
    #[serde(default)]
    pub(super) latency: Vec<PathLatency>,
    #[serde(default)]
    pub(super) path_mtu: Vec<PathMtu>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PathMtu {
    pub(super) forward: Option<String>,
    pub(super) reverse: Option<String>,
    pub(super) bytes: u16,
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
    pub(super) forward_paths: Vec<Epoch>,
    pub(super) reverse_paths: Vec<Epoch>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) lost_forward: u64,
    pub(super) lost_reverse: u64,
    pub(super) lost_unknown: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Outage {
    pub(super) direction: String,
    pub(super) first_lost: Point,
    pub(super) last_lost: Point,
    pub(super) at_least_ns: i64,
    pub(super) at_most_ns: Option<i64>,
    pub(super) lost: u64,
    pub(super) loss_periods: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Point {
    pub(super) seq: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Epoch {
    pub(super) path: Option<String>,
    pub(super) target_at_hop: Option<u8>,
    pub(super) first: Point,
    pub(super) last: Point,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Transition {
    pub(super) kind: String,
    pub(super) hop_tables: Vec<HopTable>,
    pub(super) remarks: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct HopTable {
    pub(super) session: String,
    before: Option<Route>,
    after: Option<Route>,
}

#[derive(Clone, Debug, Deserialize)]
struct Route {
    hops: Vec<Hop>,
}

#[derive(Clone, Debug, Deserialize)]
struct Hop {
    address: Option<String>,
}

impl HopTable {
    /// The addresses before, hop 1 first.
    pub(super) fn before(&self) -> Vec<Option<&str>> {
        addresses(self.before.as_ref())
    }

    /// The addresses after.
    pub(super) fn after(&self) -> Vec<Option<&str>> {
        addresses(self.after.as_ref())
    }
}

fn addresses(route: Option<&Route>) -> Vec<Option<&str>> {
    route.map_or_else(Vec::new, |r| {
        r.hops.iter().map(|h| h.address.as_deref()).collect()
    })
}

impl Epoch {
    /// Whether the name is the epoch's, or one of those that it does not decide between.
    pub(super) fn may_be(&self, name: &str) -> bool {
        self.path
            .as_deref()
            .is_some_and(|p| p.split(" or ").any(|one| one == name))
    }

    /// Whether it names more than one path.
    pub(super) fn is_undecided(&self) -> bool {
        self.path.as_deref().is_some_and(|p| p.contains(" or "))
    }
}
