//! What the reader must know beside the figures, as data; [`sentence`] says it.

use crate::findings::{Direction, Marker, MarkerKind};
use crate::schema::{Nanos, Utc};
use crate::text;
use schemars::JsonSchema;
use serde::Serialize;

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Note {
    /// A failover or failback was announced, and no transition followed.
    UnfollowedMarker(UnfollowedMarker),
    /// A session loses probes all the time, and short outages come of that alone.
    SteadyLoss(SteadyLoss),
    /// TTLs are set on the way, so that they count no routers.
    RewrittenTtl(RewrittenTtl),
    /// An agent's wall clock is off; its instants are set on the reference clock.
    ClockDifference(ClockDifference),
}

/// A marker of a failover or failback that no transition has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct UnfollowedMarker {
    /// The marker.
    pub marker: Marker,
    /// When the transition started that went on at that time; `None` without one.
    pub within: Option<Utc>,
    /// When that one had recovered.
    pub ended: Option<Utc>,
}

/// Loss that goes on all the time in one direction of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct SteadyLoss {
    /// The session.
    pub session: String,
    /// The direction.
    pub direction: Direction,
    /// How many outages it explains, over all flows.
    pub outages: u64,
    /// The longest of them, at least.
    pub longest_ns: Nanos,
    /// The largest share of probes that a flow lost around one of them, in parts in a million.
    pub most_lost_ppm: u32,
}

/// TTLs that no number of routers explains, in one direction of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct RewrittenTtl {
    /// The session.
    pub session: String,
    /// The direction.
    pub direction: Direction,
    /// The host that this direction leaves.
    pub from: String,
    /// The host that it reaches.
    pub to: String,
    /// The TTLs that packets arrived with, which are no hop counts.
    pub ttls: Vec<u8>,
    /// The hops at which traceroutes of this direction reached the target; empty where none
    /// did.
    pub reached_at: Vec<u8>,
}

/// How far an agent's wall clock is off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct ClockDifference {
    /// The agent.
    pub agent: String,
    /// By so much its wall clock was ahead of the reference; negative: behind.
    pub ahead_ns: Nanos,
    /// That is true to within this much.
    pub bound_ns: Nanos,
    /// The clock that all instants are set on.
    pub reference: ReferenceClock,
}

/// A clock that all instants are set on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(tag = "clock", rename_all = "snake_case")]
pub enum ReferenceClock {
    /// The collector's.
    Collector,
    /// An agent's, where nothing is known of the collector's.
    Agent {
        /// The agent.
        agent: String,
    },
}

/// The note as a sentence.
pub fn sentence(note: &Note) -> String {
    match note {
        Note::UnfollowedMarker(note) => unfollowed(note),
        Note::RewrittenTtl(note) => rewritten(note),
        Note::ClockDifference(note) => difference(note),
        Note::SteadyLoss(note) => format!(
            "Session `{}`, {}: probes were lost all the time (up to {} of a flow's), and chance made {} of {} or less of that; these hold no two transitions together.",
            note.session,
            text::direction(note.direction),
            percent(note.most_lost_ppm),
            text::plural(note.outages, "outage", "outages"),
            text::upper(note.longest_ns),
        ),
    }
}

fn unfollowed(note: &UnfollowedMarker) -> String {
    let kind = match note.marker.kind {
        MarkerKind::Failover => "a failover",
        MarkerKind::Failback => "a failback",
        MarkerKind::Note => "nothing",
    };
    let what = format!(
        "The marker of {} announces {kind}, but no change of path followed it",
        text::date_time(note.marker.at)
    );
    match (note.within, note.ended) {
        (Some(within), Some(ended)) => format!(
            "{what}: it was set in the transition that started at {} and was over at {}.",
            text::clock(within),
            text::clock(ended)
        ),
        (Some(within), None) => format!(
            "{what}: it was set in the transition that started at {}.",
            text::clock(within)
        ),
        _ => format!("{what}."),
    }
}

fn difference(note: &ClockDifference) -> String {
    let way = if note.ahead_ns.0.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let whose = match &note.reference {
        ReferenceClock::Collector => "the collector's".to_owned(),
        ReferenceClock::Agent { agent } => format!("that of agent `{agent}`"),
    };
    format!(
        "Agent `{}`: its wall clock was {} {way} {whose} (to within {}); its instants are set on the latter here. Lengths of time are not affected. Synchronise the clocks (NTP).",
        note.agent,
        text::span(Nanos(note.ahead_ns.0.abs())),
        text::upper(note.bound_ns),
    )
}

fn rewritten(note: &RewrittenTtl) -> String {
    let list = |numbers: &[u8]| {
        let numbers: Vec<String> = numbers.iter().map(u8::to_string).collect();
        numbers.join(", ")
    };
    let instead = if note.reached_at.is_empty() {
        "hop counts of this direction are unknown".to_owned()
    } else {
        format!(
            "the traceroutes say how far it is: hop {}",
            list(&note.reached_at)
        )
    };
    format!(
        "Session `{}`: TTLs are rewritten on the way from {} to {} (packets arrive with TTL {}); {instead}, and changes of path that leave the TTL as it is are seen by traceroutes alone.",
        note.session,
        note.from,
        note.to,
        list(&note.ttls),
    )
}

/// Parts in a million as a percentage of one decimal.
fn percent(ppm: u32) -> String {
    format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10)
}
