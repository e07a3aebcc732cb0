//! What analysis found, ready to be shown: every number that a report prints.
//!
//! Instants are the sender's own send times set on UTC by the sender's clock
//! (or, for markers, the collector's clock). Lengths of time come from one
//! monotonic clock each and need no synchronisation.

mod coverage;
mod verdict;

pub use coverage::{Awaited, Coverage, DirectionCoverage, Missing, MissingCause, SessionEnd};
pub use verdict::{Verdict, VerdictReason, VerdictResult};

use crate::note::Note;
use crate::schema::{Nanos, Utc};
pub use crate::told::{NotRunning, NotRunningCause, Translation};
use schemars::JsonSchema;
use serde::Serialize;

/// Everything found in one stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Findings {
    /// The stretch that was asked about, and is judged; without a question, from the first
    /// to the last probe. `None` where there is neither.
    pub window: Option<Window>,
    /// How much of it was seen, and what records are still to come.
    pub coverage: Coverage,
    /// The plan's named paths, in its order.
    pub paths: Vec<String>,
    /// What people noted, in the order of time.
    pub markers: Vec<Marker>,
    /// One entry for each session of the plan, in its order.
    pub sessions: Vec<SessionFindings>,
    /// Failovers, failbacks and interruptions, in the order of time.
    pub transitions: Vec<Transition>,
    /// ICMP echo of targets without an agent.
    pub echoes: Vec<EchoFindings>,
    /// Routes that fit no declared path.
    pub unnamed_routes: Vec<UnnamedRoute>,
    /// What is judged against the objective, and how it came out.
    pub verdict: Verdict,
    /// What the reader must know, as data; each has its sentence among the caveats.
    pub notes: Vec<Note>,
    /// What the reader must know before believing the rest: stalls, refused sends,
    /// clock steps, missing data, drops by policy. One sentence each.
    pub caveats: Vec<String>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Window {
    /// Its start.
    pub from: Utc,
    /// Its end.
    pub to: Utc,
}

/// A note that a person (or a script) made while measuring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Marker {
    /// When, on the collector's clock.
    pub at: Utc,
    /// What it announces.
    pub kind: MarkerKind,
    /// Its text.
    pub text: String,
}

/// What a marker announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// Traffic is now moved away from the primary path.
    Failover,
    /// Traffic is now moved back to the primary path.
    Failback,
    /// Anything else.
    Note,
}

/// One of the two directions of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the Session-Sender to the Session-Reflector.
    Forward,
    /// From the Session-Reflector back.
    Reverse,
    /// One of the two, unknown which: neither a log of the reflector nor its numbers tell it.
    Unknown,
}

/// What was found of one session.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SessionFindings {
    /// The session's name.
    pub session: String,
    /// The agent that sends.
    pub from: String,
    /// The agent (or address) that reflects.
    pub to: String,
    /// Time between two probes of a flow.
    pub interval_ns: Nanos,
    /// How the direction of a loss is known.
    pub direction_source: DirectionSource,
    /// Counts over all flows.
    pub counts: Counts,
    /// One entry for each flow.
    pub flows: Vec<FlowFindings>,
    /// Round-trip latency by the pair of paths, over all flows.
    pub latency: Vec<PathLatency>,
    /// The largest packets that get through, by the pair of paths.
    pub path_mtu: Vec<PathMtu>,
    /// Whole seconds: sent, lost, latency, for plots.
    pub seconds: Vec<Second>,
    /// Stretches in which the two directions took different named paths.
    pub asymmetries: Vec<Asymmetry>,
    /// When either host stood still, in the order of time.
    pub host_stalls: Vec<HostStall>,
    /// Addresses to which something on the way translates those of its ends.
    pub translations: Vec<Translation>,
    /// Stretches in which flows of it did not run, and why.
    pub not_running: Vec<NotRunning>,
    /// ICMP errors and answers to traceroutes that fit nothing which was sent, at either
    /// end: forged, late or changed on the way. Nothing was concluded from them.
    pub unfit_icmp: Vec<UnfitIcmpFinding>,
}

/// How many ICMP errors, or answers to traceroutes, fit nothing which was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnfitIcmpFinding {
    /// In what they do not fit.
    pub what: UnfitIcmp,
    /// How many.
    pub count: u64,
}

/// In what an ICMP error, or an answer to a traceroute, fits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnfitIcmp {
    /// It answers a traceroute packet that was never sent.
    Trace,
    /// It answers a traceroute packet before that was sent.
    TraceEarly,
    /// It answers a traceroute packet after the longest wait for answers.
    TraceLate,
    /// It says 'too big' of a packet that was never sent.
    TooBig,
    /// It is about a probe that was never sent.
    Probe,
    /// There were too many at once to read them all.
    Unread,
}

/// How the direction of a loss is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DirectionSource {
    /// The reflector's own log of what it received: per packet.
    ReflectorLog,
    /// The reflector's counter in its replies: per gap; positions only where a gap
    /// is all of one direction.
    ReflectorCounter,
    /// Neither: a stateless reflector.
    None,
}

/// Probe counts. `sent = answered + late + lost_forward + lost_reverse +
/// lost_unknown + dropped_by_policy + no_data + pending`; refused and skipped
/// probes never left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Probes that left the sender.
    pub sent: u64,
    /// Answered within Tmax.
    pub answered: u64,
    /// Answered after Tmax: late, not lost.
    pub late: u64,
    /// Lost on the way to the reflector.
    pub lost_forward: u64,
    /// Received by the reflector, lost on the way back.
    pub lost_reverse: u64,
    /// Lost, direction unknown.
    pub lost_unknown: u64,
    /// Received but, by the reflector's policy, not answered: not loss.
    pub dropped_by_policy: u64,
    /// Unanswered while the reflecting agent is known not to have run: no data, not loss.
    pub no_data: u64,
    /// Too recent to be judged when the data ends.
    pub pending: u64,
    /// Refused by the sender's own kernel: never left.
    pub refused: u64,
    /// Slots left out because the sender was late: never sent.
    pub skipped: u64,
    /// Replies beyond the first for one probe (RFC 5560).
    pub duplicated: u64,
    /// Probes that reached the reflector out of order (RFC 4737).
    pub reordered_forward: u64,
    /// Replies that came back out of order (RFC 4737).
    pub reordered_reverse: u64,
}

/// What was found of one flow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FlowFindings {
    /// Its index.
    pub flow: u8,
    /// Its source port.
    pub source_port: u16,
    /// Its counts.
    pub counts: Counts,
    /// Its outages, in the order of time.
    pub outages: Vec<Outage>,
    /// Loss periods too small to be an outage (background loss, RFC 3357).
    pub background: Vec<LossPeriod>,
    /// Its path epochs in the forward direction, in the order of time.
    pub forward_paths: Vec<PathEpoch>,
    /// Its path epochs in the reverse direction, in the order of time.
    pub reverse_paths: Vec<PathEpoch>,
}

/// One probe as a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProbePoint {
    /// Its sequence number.
    pub seq: u32,
    /// Its actual send time.
    pub sent: Utc,
}

/// Loss of connectivity in one direction of one flow.
///
/// From the instants S at which the lost ones a..b left the host that this direction
/// leaves, one on/off outage lasted at least S_b − S_a and at most S_(b+1) − S_(a−1). In
/// the forward direction S is when the probes were sent, on the sender's monotonic clock;
/// in the reverse direction it is when their replies departed, on the reflector's, as its
/// own log has it. Where no departures are on record (a foreign reflector, a log that was
/// not delivered) the probes' send times stand for them. Stretches within, in which nothing
/// tells anything of this direction (nothing was sent, or got as far), are left out of the
/// lower bound. The probes named here are dated by their own send times in any case.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Outage {
    /// Which direction failed.
    pub direction: Direction,
    /// The last probe that made it before; `None` where the data begins with loss.
    pub last_good: Option<ProbePoint>,
    /// The first lost probe; where none was lost, the first send that was refused.
    pub first_lost: ProbePoint,
    /// The last lost probe; where none was lost, the last send that was refused.
    pub last_lost: ProbePoint,
    /// The first probe that made it again; `None` while the outage goes on.
    pub first_good: Option<ProbePoint>,
    /// When the first that did not make it left the host that the direction leaves. On the way
    /// back that is when the *reply* left, where it was long after its probe (a queue on the
    /// way out, a reflector that stood still).
    pub began: Utc,
    /// When the first that made it again left it; `None` while the outage goes on.
    pub ended: Option<Utc>,
    /// It lasted at least this long.
    pub at_least_ns: Nanos,
    /// It lasted at most this long; `None` where one end lies outside of the data.
    pub at_most_ns: Option<Nanos>,
    /// Probes lost in it.
    pub lost: u64,
    /// Sends (of replies in the reverse direction) that the host's own kernel refused in
    /// it for want of a route: no lost packets, but evidence of the outage all the same.
    pub refused: u64,
    /// Why the direction failed, where that is known.
    pub cause: Option<OutageCause>,
    /// Probes within it that made it (between its loss periods).
    pub passed: u64,
    /// Its loss periods (RFC 3357): runs of consecutive lost probes.
    pub loss_periods: Vec<LossPeriod>,
    /// Slots skipped and sends refused, for whatever reason, between last good and first
    /// good: they are not counted as lost.
    pub unsent: u64,
}

/// Why a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum OutageCause {
    /// The kernel of the host that this direction leaves had no route, or its interface
    /// was down, from the first refused send to the last.
    NoRoute {
        /// The `errno` of the first: ENETDOWN, ENETUNREACH or EHOSTUNREACH.
        errno: i32,
        /// When the first send was refused.
        first: Utc,
        /// When the last send was refused.
        last: Utc,
    },
}

/// A stretch in which one of a session's hosts stood still: its program was stopped, it had
/// no processor for it, or it was suspended. What was sent and answered meanwhile, or not,
/// is no finding about a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostStall {
    /// The agent whose host it was, or the address of a reflector that is no agent.
    pub agent: String,
    /// Whether it was the end that reflects.
    pub reflects: bool,
    /// Whether the host slept (suspend, hibernation), by its own clocks.
    pub suspended: bool,
    /// Its last sign of life before.
    pub from: Utc,
    /// When it went on.
    pub to: Utc,
    /// From one to the other.
    pub lasted_ns: Nanos,
}

/// A run of consecutive lost probes (RFC 3357).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LossPeriod {
    /// Direction of the loss.
    pub direction: Direction,
    /// The first lost probe.
    pub first: ProbePoint,
    /// The last lost probe.
    pub last: ProbePoint,
    /// How many were lost.
    pub lost: u64,
}

/// A stretch in which one direction of a flow took one path.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PathEpoch {
    /// The named path; `None` where no declared path fits. Where several fit and nothing
    /// decides between them, all their names, with ` or ` between.
    pub path: Option<String>,
    /// How the name was found.
    pub named_by: NamedBy,
    /// Number of the hop that the far end is, as a traceroute shows it (routers + 1).
    pub target_at_hop: Option<u8>,
    /// The first probe seen on it.
    pub first: ProbePoint,
    /// The last probe seen on it.
    pub last: ProbePoint,
    /// Probes seen on it.
    pub probes: u64,
    /// Hops that traceroutes saw in this epoch, hop 1 first; `None` for a silent hop.
    /// Empty where no traceroute ran in it.
    pub hops: Vec<Option<String>>,
}

/// How an epoch's name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedBy {
    /// A traceroute on the flow's own 5-tuple, within the epoch.
    Trace,
    /// The hop count alone.
    HopCount,
    /// Nothing fits.
    Nothing,
}

/// A route that fits no declared path, and what would name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnnamedRoute {
    /// The session.
    pub session: String,
    /// The direction.
    pub direction: Direction,
    /// The host that this direction leaves.
    pub from: String,
    /// The host that it reaches.
    pub to: String,
    /// The flows that took it.
    pub flows: Vec<u8>,
    /// Probes seen on it, over all flows.
    pub probes: u64,
    /// Number of the hop that the far end is.
    pub target_at_hop: Option<u8>,
    /// What traceroutes saw, hop 1 first; empty where none ran on it.
    pub hops: Vec<Option<String>>,
    /// Lines of a plan, in TOML, that would name it; `None` where neither an address nor a
    /// hop count tells it apart. Routes that the same lines would name have the same.
    pub plan_lines: Option<String>,
}

/// Round-trip latency over probes of one pair of paths.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PathLatency {
    /// Named path of the forward direction.
    pub forward: Option<String>,
    /// Named path of the reverse direction.
    pub reverse: Option<String>,
    /// The latency.
    pub round_trip: Latency,
    /// The same by direction; `None` where no reflector's log tells of them.
    pub one_way: Option<OneWayDelay>,
}

/// One-way delays (RFC 7679) with their bound. The clocks need no synchronisation;
/// what cannot be told without it is the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OneWayDelay {
    /// From sender to reflector.
    pub forward: Latency,
    /// From reflector to sender.
    pub reverse: Latency,
    /// Every value of both is true to within this much.
    pub bound_ns: Nanos,
}

/// The largest packet that a pair of paths carries out and back (RFC 8899).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PathMtu {
    /// Named path of the forward direction.
    pub forward: Option<String>,
    /// Named path of the reverse direction.
    pub reverse: Option<String>,
    /// Size of the IP packet in bytes, headers included.
    pub bytes: u16,
    /// What stops a packet of one byte more.
    pub limit: MtuLimit,
    /// The router that said so.
    pub router: Option<String>,
    /// The next hop's MTU as that router said it, in bytes.
    pub router_mtu: Option<u32>,
    /// How many searches tell of this pair of paths.
    pub searches: u64,
    /// What is known of the way out.
    pub out: DirectionMtu,
    /// What is known of the way back.
    pub back: DirectionMtu,
}

/// What one direction carries, as far as something tells it: the reflector's log of the
/// sizes that arrived, and the routers that complained to one end or the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirectionMtu {
    /// The largest IP packet in bytes that is known to have passed.
    pub bytes: u16,
    /// What stops a larger one in this direction.
    pub limit: DirectionLimit,
    /// The router that said so.
    pub router: Option<String>,
    /// The next hop's MTU as that router said it, in bytes.
    pub router_mtu: Option<u32>,
}

/// What stops a packet that is too large in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DirectionLimit {
    /// Nothing is known of larger packets in this direction.
    Unknown,
    /// The sender's own interface.
    Interface,
    /// A router, which says so to the end that the packet came from.
    Router,
    /// Nobody says so: a black hole for larger packets.
    Silent,
}

/// What stops a packet that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MtuLimit {
    /// Nothing: no larger one was tried.
    NotReached,
    /// The sender's own interface.
    Interface,
    /// A router, which says so.
    Router,
    /// Nobody says so, on the way out or back: a black hole for large packets.
    Silent,
}

/// The distribution of round-trip times, exact order statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Latency {
    /// How many values.
    pub count: u64,
    /// Smallest.
    pub min_ns: Nanos,
    /// Median.
    pub p50_ns: Nanos,
    /// 90th percentile.
    pub p90_ns: Nanos,
    /// 99th percentile.
    pub p99_ns: Nanos,
    /// 99.9th percentile.
    pub p999_ns: Nanos,
    /// Largest.
    pub max_ns: Nanos,
}

/// One whole second of a session, over all flows.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Second {
    /// Its start.
    pub at: Utc,
    /// Probes sent in it.
    pub sent: u64,
    /// Of these, lost forward.
    pub lost_forward: u64,
    /// Of these, lost on the way back.
    pub lost_reverse: u64,
    /// Of these, lost with unknown direction.
    pub lost_unknown: u64,
    /// Median round trip of those answered.
    pub p50_ns: Option<Nanos>,
    /// 99th percentile of the round trip.
    pub p99_ns: Option<Nanos>,
    /// The named forward path of most probes answered in it.
    pub path: Option<String>,
}

/// A stretch in which the directions of a flow took different named paths.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Asymmetry {
    /// The flow.
    pub flow: u8,
    /// Named path of the forward direction.
    pub forward: Option<String>,
    /// Named path of the reverse direction.
    pub reverse: Option<String>,
    /// Its first probe.
    pub first: ProbePoint,
    /// Its last probe.
    pub last: ProbePoint,
    /// Its length, from first to last probe.
    pub lasted_ns: Nanos,
}

/// What kind of change it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// Flows moved from a primary to a backup path.
    Failover,
    /// Flows moved from a backup to a primary path.
    Failback,
    /// Flows moved between paths of one role (such as the two circuits of one ExpressRoute).
    Reroute,
    /// Loss of connectivity without a change of path.
    Interruption,
}

/// One change of the network, over all sessions and flows.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Transition {
    /// What it was.
    pub kind: TransitionKind,
    /// The marker that announced it, where one did.
    pub marker: Option<Marker>,
    /// First instant that was impaired or on a new path (RFC 6412, Convergence Event seen).
    pub started: Utc,
    /// All flows unimpaired from here on and for the objective's `stable` time (RFC 6412,
    /// Convergence Recovery Instant); `None` where the data ends before.
    pub recovered: Option<Utc>,
    /// From the marker to the first lost probe.
    pub marker_to_loss_ns: Option<Nanos>,
    /// From the marker to the first probe on a new path.
    pub marker_to_new_path_ns: Option<Nanos>,
    /// From the marker to recovery.
    pub marker_to_stable_ns: Option<Nanos>,
    /// One row for each session and direction.
    pub directions: Vec<TransitionDirection>,
    /// Route of one flow, as a traceroute shows it, before, during and after.
    pub hop_tables: Vec<HopTable>,
    /// ICMP errors that came in during it.
    pub icmp: Vec<IcmpFinding>,
    /// The longest outage of any flow: at least.
    pub worst_at_least_ns: Nanos,
    /// The longest outage of any flow: at most; `None` while one goes on.
    pub worst_at_most_ns: Option<Nanos>,
    /// Sentences for the reader, such as 'half of the flows were affected'.
    pub remarks: Vec<String>,
}

/// One direction of one session in a transition.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TransitionDirection {
    /// The session.
    pub session: String,
    /// The direction.
    pub direction: Direction,
    /// The host that this direction leaves.
    pub from: String,
    /// The host that it reaches.
    pub to: String,
    /// How many of the session's flows had an outage.
    pub flows_affected: u64,
    /// How many of them ended on another path than they began on.
    pub flows_moved: u64,
    /// How many flows the session has.
    pub flows: u64,
    /// One row for each flow.
    pub rows: Vec<TransitionFlow>,
    /// Round-trip latency of the session before (the last `stable` seconds).
    pub latency_before: Option<Latency>,
    /// During.
    pub latency_during: Option<Latency>,
    /// After.
    pub latency_after: Option<Latency>,
}

/// One direction of one flow in a transition.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TransitionFlow {
    /// The flow.
    pub flow: u8,
    /// Its source port.
    pub source_port: u16,
    /// Its outages in this transition, in the order of time; empty where it had none.
    pub outages: Vec<Outage>,
    /// Probes of this flow and direction within the transition: lost.
    pub lost: u64,
    /// Probes that tell nothing of this direction, because they were lost in the other
    /// one, or nobody knows in which.
    pub untold: u64,
    /// The longest stretch in which such probes were all that was sent, from the last
    /// probe that tells of this direction to the next; 0 without.
    pub untold_ns: Nanos,
    /// Late.
    pub late: u64,
    /// Duplicated.
    pub duplicated: u64,
    /// Reordered.
    pub reordered: u64,
    /// The path before.
    pub path_before: Option<String>,
    /// The path after.
    pub path_after: Option<String>,
    /// Last probe on the old path.
    pub last_on_old_path: Option<ProbePoint>,
    /// First probe on the new path; the change lies between the two.
    pub first_on_new_path: Option<ProbePoint>,
}

/// The route of one flow as a traceroute shows it, in three phases.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HopTable {
    /// The session.
    pub session: String,
    /// The flow.
    pub flow: u8,
    /// The source port of the flow.
    pub source_port: u16,
    /// The last complete traceroute before.
    pub before: Option<Route>,
    /// A traceroute during the change: incomplete or on a third route.
    pub during: Option<Route>,
    /// The first complete traceroute after it settled.
    pub after: Option<Route>,
}

/// One traceroute.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Route {
    /// When it was taken.
    pub at: Utc,
    /// The named path that it fits.
    pub path: Option<String>,
    /// Whether the target answered.
    pub reached: bool,
    /// Its hops, hop 1 first.
    pub hops: Vec<RouteHop>,
}

/// One line of a traceroute.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RouteHop {
    /// Its number.
    pub hop: u8,
    /// Whether any packet was sent for it: routers that limit their answers are not
    /// asked in every traceroute.
    pub asked: bool,
    /// Who answered; `None` for a silent hop.
    pub address: Option<String>,
    /// Best round trip of its answers.
    pub round_trip_ns: Option<Nanos>,
    /// What an ICMP unreachable said, where the answer was one.
    pub unreachable: Option<String>,
}

/// ICMP errors of one kind from one router.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct IcmpFinding {
    /// The session whose probes provoked them.
    pub session: String,
    /// The router.
    pub from: String,
    /// What they said, such as 'network unreachable'.
    pub meaning: String,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Utc,
    /// The last.
    pub last: Utc,
}

/// ICMP echo of one target.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EchoFindings {
    /// The target's name.
    pub target: String,
    /// The agent that asked.
    pub from: String,
    /// Its address.
    pub address: String,
    /// Requests sent.
    pub sent: u64,
    /// Replies received.
    pub answered: u64,
    /// Round trips, by user-space times.
    pub round_trip: Option<Latency>,
    /// Stretches of at least `min_lost` requests without reply: first and last request.
    pub silent: Vec<Window>,
    /// Who answered with an ICMP error, and what it said; seen where the agent has the
    /// right to raw sockets.
    pub errors: Vec<EchoErrorFinding>,
}

/// ICMP errors of one kind that echo requests provoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EchoErrorFinding {
    /// The router or host that sent them.
    pub from: String,
    /// What they said.
    pub meaning: String,
    /// How many.
    pub count: u64,
    /// When the first came.
    pub first: Utc,
    /// When the last came.
    pub last: Utc,
}
