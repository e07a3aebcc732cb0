//! What analysis works on.

use crate::findings::{Marker, SessionEnd};
use hopgap_proto::plan::Plan;
use hopgap_proto::record::{
    AgentName, Echo, Event, Probe, Reception, RunId, SessionName, TargetName, Trace,
};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

/// All records that concern a stretch of time, in any order, duplicates allowed.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The plan in force: sessions, named paths, objective.
    pub plan: Plan,
    /// The question: what was sent within is judged, from its beginning to its end, and
    /// what is missing of it is told. `None` asks for what the data hold.
    pub window: Option<(Wall, Wall)>,
    /// One entry for each session; sessions without records are reported as 'no data'.
    pub sessions: Vec<SessionRecords>,
    /// What people noted during the drill.
    pub markers: Vec<Marker>,
    /// ICMP echo of targets without an agent.
    pub echoes: Vec<EchoRecords>,
    /// How far the records of each end of each session are in; empty where all that will
    /// ever come is here.
    pub ends: Vec<End>,
    /// When the question was asked, on the collector's clock.
    pub asked_at: Option<Wall>,
    /// What agents and the collector told each other of their clocks.
    pub clocks: Vec<ClockReading>,
}

/// How far the records of one end of a session are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The session.
    pub session: SessionName,
    /// Which end.
    pub end: SessionEnd,
    /// What this end recorded until then, on the collector's clock, is in; `None` where
    /// nothing is.
    pub until: Option<Wall>,
    /// When its agent was last heard of, on the collector's clock.
    pub heard: Option<Wall>,
}

/// The collector's clock, as it answered an agent, beside the agent's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The agent.
    pub agent: AgentName,
    /// Its run.
    pub run: RunId,
    /// An instant on the agent's monotonic clock.
    pub at: Mono,
    /// The collector's wall clock showed this then, at least.
    pub earliest: Wall,
    /// And this at most.
    pub latest: Wall,
}

/// The records of one session, from both ends.
#[derive(Clone, Debug)]
pub struct SessionRecords {
    /// The session.
    pub session: SessionName,
    /// The Session-Sender's account, a run each.
    pub sender: Vec<SenderRun>,
    /// The Session-Reflector's own log, a run each; empty where the reflector is not
    /// one of ours, and then the direction of a loss comes from its counter alone.
    pub reflector: Vec<ReflectorRun>,
}

/// One run of the sending agent.
#[derive(Clone, Debug)]
pub struct SenderRun {
    /// The agent.
    pub agent: AgentName,
    /// The run: times and sequence numbers of different runs are not comparable.
    pub run: RunId,
    /// Its clocks, read together at different times; at least one.
    pub clocks: Vec<ClockPair>,
    /// Its probes.
    pub probes: Vec<Probe>,
    /// Its traceroutes.
    pub traces: Vec<Trace>,
    /// Its events for this session.
    pub events: Vec<Event>,
}

/// One run of the reflecting agent.
#[derive(Clone, Debug)]
pub struct ReflectorRun {
    /// The agent.
    pub agent: AgentName,
    /// The run.
    pub run: RunId,
    /// Its clocks, read together at different times; at least one.
    pub clocks: Vec<ClockPair>,
    /// The probes that reached it.
    pub receptions: Vec<Reception>,
    /// Its events for this session.
    pub events: Vec<Event>,
}

/// The ICMP echo records of one target.
#[derive(Clone, Debug)]
pub struct EchoRecords {
    /// The target.
    pub target: TargetName,
    /// The agent that sent.
    pub agent: AgentName,
    /// Its run.
    pub run: RunId,
    /// That agent's clocks, read together at different times.
    pub clocks: Vec<ClockPair>,
    /// The records.
    pub echoes: Vec<Echo>,
}

/// What arrives at all nearly always arrives within this time.
const ARRIVES_WITHIN: Span = Span::from_secs(1);

impl End {
    /// Whether all that this end recorded of a question that ends at `to` is in. A probe is
    /// recorded at the latest when its timeout is over, an arrival when it comes.
    pub fn is_in(&self, plan: &Plan, to: Wall) -> bool {
        self.until
            .is_some_and(|until| until >= self.wanted(plan, to))
    }

    /// Up to when its records are wanted for a question that ends at `to`.
    pub(crate) fn wanted(&self, plan: &Plan, to: Wall) -> Wall {
        let timeout = plan.session(&self.session).map(|s| s.timeout);
        match self.end {
            SessionEnd::Sender => to + timeout.unwrap_or_default(),
            SessionEnd::Reflector => to + ARRIVES_WITHIN,
        }
    }
}
