//! The input of the analysis.

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
    /// The question: probes sent within it are judged, and what is missing of it is reported.
    /// `None` asks for all data.
    pub window: Option<(Wall, Wall)>,
    /// One entry for each session; sessions without records are reported as 'no data'.
    pub sessions: Vec<SessionRecords>,
    /// What people noted during the drill.
    pub markers: Vec<Marker>,
    /// ICMP echo of targets without an agent.
    pub echoes: Vec<EchoRecords>,
    /// How far the records of each end of each session have arrived; empty if no more will come.
    pub ends: Vec<End>,
    /// When the question was asked, on the collector's clock.
    pub asked_at: Option<Wall>,
    /// What agents and the collector told each other of their clocks.
    pub clocks: Vec<ClockReading>,
}

/// How far the records of one end of a session have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The session.
    pub session: SessionName,
    /// Which end.
    pub end: SessionEnd,
    /// All that this end recorded until then, on the collector's clock, has arrived; `None` if
    /// nothing has.
    pub until: Option<Wall>,
    /// When its agent was last heard of, on the collector's clock.
    pub heard: Option<Wall>,
}

/// A reading of the collector's clock from an answer to an agent, beside the agent's own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The agent.
    pub agent: AgentName,
    /// Its run.
    pub run: RunId,
    /// An instant on the agent's monotonic clock.
    pub at: Mono,
    /// The earliest that the collector's wall clock showed then.
    pub earliest: Wall,
    /// The latest that it showed.
    pub latest: Wall,
}

/// The records of one session, from both ends.
#[derive(Clone, Debug)]
pub struct SessionRecords {
    /// The session.
    pub session: SessionName,
    /// The Session-Sender's account, a run each.
    pub sender: Vec<SenderRun>,
    /// The Session-Reflector's own log, a run each; empty if the reflector is not an agent, and
    /// then only its counter gives the direction of a loss.
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

/// A packet that arrives at all nearly always arrives within this time.
const ARRIVES_WITHIN: Span = Span::from_secs(1);

impl End {
    /// Whether all records of this end for a question that ends at `to` have arrived. A probe is
    /// recorded when its timeout is over, at the latest; an arrival when it comes.
    pub fn is_in(&self, plan: &Plan, to: Wall) -> bool {
        self.until
            .is_some_and(|until| until >= self.wanted(plan, to))
    }

    /// Up to when its records are needed for a question that ends at `to`.
    pub(crate) fn wanted(&self, plan: &Plan, to: Wall) -> Wall {
        let timeout = plan.session(&self.session).map(|s| s.timeout);
        match self.end {
            SessionEnd::Sender => to + timeout.unwrap_or_default(),
            SessionEnd::Reflector => to + ARRIVES_WITHIN,
        }
    }
}
