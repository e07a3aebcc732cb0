//! Reads a stretch of time back for analysis.

mod clocks;

use crate::store::{Kind, Marker, MarkerKind, Reader, RunRows, Runs, Size, StoreError};
use clocks::{Clocks, Levels};
use hopgap_analysis::findings;
use hopgap_analysis::findings::SessionEnd;
use hopgap_analysis::input::{EchoRecords, End, Input, ReflectorRun, SenderRun, SessionRecords};
use hopgap_analysis::schema::Utc;
use hopgap_proto::plan::{Destination, Plan, SessionPlan};
use hopgap_proto::record::{AgentName, Event, EventKind, SessionName};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// The reflector's log is read this far beside the window: what was sent within may
/// arrive after it, and an outage at its edge needs the context.
const AROUND_RECEPTIONS: Span = Span::from_secs(60);

/// Probes are read further than the log: an arrival whose probe was not read would seem
/// to belong to none.
const AROUND_PROBES: Span = Span::from_secs(120);

/// Memory that the records of a report and their analysis may take, in bytes, where nothing
/// else is said: 40 million records.
pub const MOST_BYTES: u64 = Size::of_probes(40_000_000).bytes;

/// A session may hold so many times what its plan makes before its records are taken for
/// none of a measurement.
const MORE_THAN_PLANNED: u64 = 2;

/// Why a stretch of time cannot be read for analysis.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More records than are analysed at a time.
    #[error(
        "that stretch of time holds {} records, whose report takes up to {} MB of memory, more than the {} MB that it may; choose a shorter one with --from and --to, or allow more with --max-memory",
        size.records,
        size.bytes.div_ceil(1_000_000),
        most / 1_000_000
    )]
    TooMany {
        /// How many, and how much.
        size: Size,
        /// Most that the report may take, in bytes.
        most: u64,
    },
}

/// Records that are left out of a report, because there are far more of them than the plan
/// makes: whoever recorded them did not measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What they are of.
    pub of: Whose,
    /// The agent that delivered them.
    pub agent: AgentName,
    /// How many there are of that time.
    pub records: u64,
    /// How many the plan makes in that time, about.
    pub planned: u64,
}

/// What records are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of a session.
    Session(SessionName),
    /// Of an agent's echoes.
    Echoes,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.of {
            Whose::Session(session) => write!(f, "Session `{session}`")?,
            Whose::Echoes => write!(f, "Echoes of agent `{}`", self.agent)?,
        }
        write!(
            f,
            ": agent `{}` delivered {} records of that time, where the plan makes about {}; they are left out, so that this report can be made. See to that agent's host.",
            self.agent, self.records, self.planned
        )
    }
}

/// What was read for a report.
#[derive(Clone, Debug)]
pub struct Read {
    /// What analysis works on.
    pub input: Input,
    /// What was left out of it.
    pub left_out: Vec<LeftOut>,
}

/// What may still be read.
struct Budget {
    /// The time that is asked about. What a session may hold is told by that, and not by how
    /// far its own records say that clocks are apart.
    asked: (Wall, Wall),
    most: u64,
    left: u64,
    left_out: Vec<LeftOut>,
}

impl Budget {
    /// Whether records of this size are to be read. Where they are too many for what is
    /// left and for what the plan makes, they are left out; where the plan makes so many,
    /// nothing is read at all.
    fn admit(
        &mut self,
        size: Size,
        planned: u64,
        of: impl FnOnce() -> (Whose, AgentName),
    ) -> Result<bool, QueryError> {
        let may = planned.saturating_mul(MORE_THAN_PLANNED);
        // What is far from planned gets no more than a share, or it would take all from
        // what is read after it.
        let is_far = size.records > may || size.bytes > Size::of_probes(may).bytes;
        let share = if is_far { self.left / 8 } else { self.left };
        if size.bytes <= share {
            self.left -= size.bytes;
            return Ok(true);
        }
        if !is_far {
            return Err(QueryError::TooMany {
                size,
                most: self.most,
            });
        }
        let (of, agent) = of();
        self.left_out.push(LeftOut {
            of,
            agent,
            records: size.records,
            planned,
        });
        Ok(false)
    }
}

/// How many records `every` so often makes in a time, with some to spare for events.
fn made_in(from: Wall, to: Wall, every: Span, flows: u8) -> u64 {
    let time = (to - from).as_nanos().max(0);
    let slots = time / every.as_nanos().max(1);
    slots
        .unsigned_abs()
        .saturating_mul(u64::from(flows))
        .saturating_add(10_000)
}

/// Everything that analysis needs to judge what was sent from `from` to `to`, in
/// [`MOST_BYTES`] of memory.
///
/// # Errors
///
/// When the store fails, or when it holds too much of that time.
pub fn input(reader: &Reader, plan: &Plan, from: Wall, to: Wall) -> Result<Input, QueryError> {
    read(reader, plan, (from, to), MOST_BYTES).map(|read| read.input)
}

/// The same in `most` bytes of memory. What is read is what is counted: by the same agents,
/// kinds and times, before it is read.
///
/// # Errors
///
/// When the store fails, or when it holds too much of that time.
pub fn read(
    reader: &Reader,
    plan: &Plan,
    (from, to): (Wall, Wall),
    most: u64,
) -> Result<Read, QueryError> {
    let clocks = Clocks::read(reader, from, to)?;
    let mut budget = Budget {
        asked: (from, to),
        most,
        left: most,
        left_out: Vec::new(),
    };
    let sessions = plan
        .sessions
        .iter()
        .map(|session| session_records(reader, session, &clocks, (from, to), &mut budget))
        .collect::<Result<_, QueryError>>()?;
    let echoes = echo_records(reader, plan, &clocks, (from, to), &mut budget)?;
    let markers = reader.markers(from, to)?;
    let input = Input {
        plan: plan.clone(),
        window: Some((from, to)),
        sessions,
        markers: markers.into_iter().map(marker).collect(),
        echoes,
        ends: ends(reader, plan, (from, to))?,
        asked_at: None,
        clocks: clocks.readings(),
    };
    Ok(Read {
        input,
        left_out: budget.left_out,
    })
}

fn echo_records(
    reader: &Reader,
    plan: &Plan,
    clocks: &Clocks,
    (from, to): (Wall, Wall),
    budget: &mut Budget,
) -> Result<Vec<EchoRecords>, QueryError> {
    let mut planned: BTreeMap<&AgentName, u64> = BTreeMap::new();
    for echo in &plan.echoes {
        let made = made_in(from, to, echo.interval, 1);
        *planned.entry(&echo.from).or_default() += made;
    }
    let mut found = Vec::new();
    for (agent, planned) in planned {
        let stretches = clocks.levels(agent).stretches((from, to), Span::ZERO);
        let mut size = Size::default();
        for (from, to) in &stretches {
            size = size + reader.echoes_size(agent, *from, *to)?;
        }
        if !budget.admit(size, planned, || (Whose::Echoes, agent.clone()))? {
            continue;
        }
        for (from, to) in stretches {
            let rows = reader.echoes_by(agent, from, to)?;
            found.extend(rows.into_iter().map(|rows| EchoRecords {
                target: rows.target,
                agent: rows.agent,
                run: rows.run,
                clocks: rows.clocks,
                echoes: rows.echoes,
            }));
        }
    }
    Ok(found)
}

/// Records of one agent for a session in some stretches of its own time, where they can be
/// read.
fn records_by(
    reader: &Reader,
    session: &SessionPlan,
    agent: &AgentName,
    kinds: &[Kind],
    stretches: &[(Wall, Wall)],
    budget: &mut Budget,
) -> Result<Runs, QueryError> {
    let (asked_from, asked_to) = budget.asked;
    let planned = made_in(
        asked_from - AROUND_PROBES,
        asked_to + AROUND_PROBES,
        session.interval,
        session.flows,
    );
    let mut runs = Runs::new();
    // All stretches together: the plan makes no more where a clock was set more often.
    let mut size = Size::default();
    for stretch in stretches {
        size = size + reader.size_by(&session.name, agent, kinds, *stretch)?;
    }
    let of = || (Whose::Session(session.name.clone()), agent.clone());
    if !budget.admit(size, planned, of)? {
        return Ok(runs);
    }
    for stretch in stretches {
        for (run, read) in reader.records_by(&session.name, agent, kinds, *stretch)? {
            let rows = runs.entry(run).or_default();
            rows.clocks.extend(read.clocks);
            rows.probes.extend(read.probes);
            rows.receptions.extend(read.receptions);
            rows.traces.extend(read.traces);
            rows.events.extend(read.events);
        }
    }
    Ok(runs)
}

/// How far the records of both ends of each session of the plan are in, for a question
/// about that time.
///
/// # Errors
///
/// When the store fails.
pub fn ends(
    reader: &Reader,
    plan: &Plan,
    (from, to): (Wall, Wall),
) -> Result<Vec<End>, StoreError> {
    let clocks = Clocks::read(reader, from, to)?;
    let mut ends = Vec::new();
    for session in &plan.sessions {
        let mut add = |agent: &AgentName, end: SessionEnd, kind: Kind| {
            let reach = reader.reach(agent, &session.name, kind)?;
            let until = reach.until.map(|(run, until)| {
                let told = clocks.collectors(agent, run, until.mono);
                // The most that its clock may be ahead: what is in is not overstated.
                let most = || until.wall - clocks.levels(agent).most();
                told.map_or_else(most, |(least, _)| least)
            });
            ends.push(End {
                session: session.name.clone(),
                end,
                until,
                heard: reach.heard,
            });
            Ok::<(), StoreError>(())
        };
        add(&session.from, SessionEnd::Sender, Kind::Probes)?;
        if let Destination::Agent(agent) = &session.to {
            add(agent, SessionEnd::Reflector, Kind::Receptions)?;
        }
    }
    Ok(ends)
}

/// Whether the store has any record of a stretch of time, whatever the agents' clocks show.
///
/// # Errors
///
/// When the store fails.
pub fn has_records(reader: &Reader, from: Wall, to: Wall) -> Result<bool, QueryError> {
    let clocks = Clocks::read(reader, from, to)?;
    for agent in reader.agents()? {
        let levels = clocks.levels(&agent.agent);
        for (from, to) in levels.stretches((from, to), Span::ZERO) {
            if reader.has_records(&agent.agent, from, to)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn session_records(
    reader: &Reader,
    session: &SessionPlan,
    clocks: &Clocks,
    asked: (Wall, Wall),
    budget: &mut Budget,
) -> Result<SessionRecords, QueryError> {
    let name = &session.name;
    let kinds = [Kind::Probes, Kind::Traces, Kind::Events];
    let levels = clocks.levels(&session.from);
    let stretches = levels.stretches(asked, AROUND_PROBES);
    let mut sent = records_by(reader, session, &session.from, &kinds, &stretches, budget)?;
    sent.retain(|_, rows| !is_bare(rows));

    let reflector = match &session.to {
        Destination::Foreign(_) => Vec::new(),
        Destination::Agent(agent) => {
            let levels = clocks.levels(agent).and(clocks.by_replies(&sent));
            let newest = clocks.newest_probe(&sent);
            reflector_runs(reader, session, agent, (asked, newest), &levels, budget)?
        }
    };
    let sender = sent
        .into_iter()
        .map(|((agent, run), rows)| SenderRun {
            agent,
            run,
            clocks: rows.clocks,
            probes: rows.probes,
            traces: rows.traces,
            events: rows.events,
        })
        .collect();
    Ok(SessionRecords {
        session: name.clone(),
        sender,
        reflector,
    })
}

/// The reflector's log of what was sent in the time that is asked about, the newest of it
/// at `newest`, where the reflector's wall clock had these levels.
fn reflector_runs(
    reader: &Reader,
    session: &SessionPlan,
    reflector: &AgentName,
    ((from, to), newest): ((Wall, Wall), Option<Wall>),
    levels: &Levels,
    budget: &mut Budget,
) -> Result<Vec<ReflectorRun>, QueryError> {
    let late = to + AROUND_RECEPTIONS;
    // What arrived after the newest probe on record belongs to probes that are still on
    // their way here.
    let arrived = newest.map_or(late, |newest| newest.min(late));
    let until = |end| levels.stretches((from - AROUND_RECEPTIONS, end), Span::ZERO);
    let mut read = |kind, end| -> Result<BTreeMap<_, _>, QueryError> {
        let runs = records_by(reader, session, reflector, &[kind], &until(end), budget)?;
        Ok(runs
            .into_iter()
            .map(|((_, run), rows)| (run, rows))
            .collect())
    };
    let mut rows: BTreeMap<_, RunRows> = read(Kind::Receptions, arrived)?;
    // What an agent tells of itself comes later: that it ended, or lost records.
    for (run, told) in read(Kind::Events, late)? {
        let run = rows.entry(run).or_insert_with(|| RunRows {
            clocks: told.clocks,
            ..RunRows::default()
        });
        // Beside what reading its receptions showed to be lost.
        run.events.extend(told.events);
    }
    // An agent that ran and received nothing is evidence, too: of loss on the way out.
    for (from, to) in until(arrived) {
        for (run, clocks) in reader.runs(reflector, from, to)? {
            rows.entry(run).or_insert_with(|| RunRows {
                clocks,
                ..RunRows::default()
            });
        }
    }
    Ok(rows
        .into_iter()
        .map(|(run, rows)| ReflectorRun {
            agent: reflector.clone(),
            run,
            clocks: rows.clocks,
            receptions: rows.receptions,
            events: rows.events,
        })
        .collect())
}

/// Whether a run recorded nothing of a session, not even why it did not run, and lost
/// nothing that it may have recorded: other events of the agent itself alone say nothing
/// about it.
fn is_bare(rows: &RunRows) -> bool {
    let says = |event: &Event| {
        matches!(
            event.kind,
            EventKind::BlocksLost { .. } | EventKind::NotRunning { .. }
        )
    };
    rows.probes.is_empty() && rows.traces.is_empty() && !rows.events.iter().any(says)
}

fn marker(marker: Marker) -> findings::Marker {
    findings::Marker {
        at: Utc(marker.at),
        kind: match marker.kind {
            MarkerKind::Failover => findings::MarkerKind::Failover,
            MarkerKind::Failback => findings::MarkerKind::Failback,
            MarkerKind::Note => findings::MarkerKind::Note,
        },
        text: marker.text,
    }
}

#[cfg(test)]
mod tests;
