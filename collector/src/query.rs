//! Reads the records of a stretch of time for analysis.

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

/// How far beyond the window the reflector's log is read: a probe sent within it may arrive
/// later, and an outage at its edge needs the context.
const AROUND_RECEPTIONS: Span = Span::from_secs(60);

/// How far beyond the window probes are read: further than the log, because an arrival whose
/// probe was not read would seem to belong to none.
const AROUND_PROBES: Span = Span::from_secs(120);

/// Default limit of the memory for a report's records and their analysis, in bytes: 40
/// million records.
pub const MOST_BYTES: u64 = Size::of_probes(40_000_000).bytes;

/// How many times the planned number of records a session may have. Beyond that its records
/// are not taken for a measurement.
const MORE_THAN_PLANNED: u64 = 2;

/// Why the records cannot be read for analysis.
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
        /// Their number and memory.
        size: Size,
        /// Most that the report may take, in bytes.
        most: u64,
    },
}

/// Records that a report leaves out because they are far more than the plan makes: they
/// come from no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What they belong to.
    pub of: RecordOwner,
    /// The agent that delivered them.
    pub agent: AgentName,
    /// How many there are for that time.
    pub records: u64,
    /// About how many the plan makes in that time.
    pub planned: u64,
}

/// What records belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOwner {
    /// To a session.
    Session(SessionName),
    /// To an agent's echo targets.
    Echoes,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.of {
            RecordOwner::Session(session) => write!(f, "Session `{session}`")?,
            RecordOwner::Echoes => write!(f, "Echoes of agent `{}`", self.agent)?,
        }
        write!(
            f,
            ": agent `{}` delivered {} records of that time, where the plan makes about {}; they are left out, so that this report can be made. See to that agent's host.",
            self.agent, self.records, self.planned
        )
    }
}

/// The records read for a report.
#[derive(Clone, Debug)]
pub struct Read {
    /// The input of the analysis.
    pub input: Input,
    /// The records left out of it.
    pub left_out: Vec<LeftOut>,
}

/// The memory that may still be used.
struct Budget {
    /// The requested time. It alone limits a session's records, not the wider stretches that
    /// follow from the clock offsets in its own records.
    asked: (Wall, Wall),
    most: u64,
    left: u64,
    left_out: Vec<LeftOut>,
}

impl Budget {
    /// Returns whether to read records of this size. Records that do not fit and are far more
    /// than planned are left out. An error where they do not fit and are as planned.
    fn admit(
        &mut self,
        size: Size,
        planned: u64,
        of: impl FnOnce() -> (RecordOwner, AgentName),
    ) -> Result<bool, QueryError> {
        let may = planned.saturating_mul(MORE_THAN_PLANNED);
        // Records far beyond the plan get only a share, to leave memory for those read later.
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

/// Returns how many records one every `every` makes in a time, with some spare for events.
fn made_in(from: Wall, to: Wall, every: Span, flows: u8) -> u64 {
    let time = (to - from).as_nanos().max(0);
    let slots = time / every.as_nanos().max(1);
    slots
        .unsigned_abs()
        .saturating_mul(u64::from(flows))
        .saturating_add(10_000)
}

/// Returns everything that analysis needs to judge what was sent from `from` to `to`, in
/// [`MOST_BYTES`] of memory.
///
/// # Errors
///
/// When the store fails, or when it holds too much of that time.
pub fn input(reader: &Reader, plan: &Plan, from: Wall, to: Wall) -> Result<Input, QueryError> {
    read(reader, plan, (from, to), MOST_BYTES).map(|read| read.input)
}

/// Does the same as [`input`] in `most` bytes of memory. Counts records by the same agents,
/// kinds and times before it reads them.
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
        if !budget.admit(size, planned, || (RecordOwner::Echoes, agent.clone()))? {
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

/// Returns one agent's records of a session in stretches of its own time; empty where they
/// are left out.
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
    // Sums all stretches: setting a clock more often must not raise the limit.
    let mut size = Size::default();
    for stretch in stretches {
        size = size + reader.size_by(&session.name, agent, kinds, *stretch)?;
    }
    let of = || (RecordOwner::Session(session.name.clone()), agent.clone());
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

/// Returns up to which time the records of both ends of each session have arrived, for a
/// report on that time.
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
                // Subtracts the most that its clock may be ahead, so as not to overstate the time.
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

/// Returns whether the store has any record of a stretch of time, whatever the agents'
/// clocks showed.
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

/// Returns the reflector's log of the probes sent in the requested time. `newest` is when
/// the newest of them was sent, `levels` the offsets of the reflector's wall clock.
fn reflector_runs(
    reader: &Reader,
    session: &SessionPlan,
    reflector: &AgentName,
    ((from, to), newest): ((Wall, Wall), Option<Wall>),
    levels: &Levels,
    budget: &mut Budget,
) -> Result<Vec<ReflectorRun>, QueryError> {
    let late = to + AROUND_RECEPTIONS;
    // Later arrivals belong to probes whose records have not come here yet.
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
    // An agent's own events come later: that it ended, or lost records.
    for (run, told) in read(Kind::Events, late)? {
        let run = rows.entry(run).or_insert_with(|| RunRows {
            clocks: told.clocks,
            ..RunRows::default()
        });
        // Keeps the losses found when its receptions were read.
        run.events.extend(told.events);
    }
    // A run that received nothing is evidence of loss on the way out.
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

/// Whether a run has nothing of a session: no probe, no trace, no reason why the session did
/// not run, and no lost blocks. Other events of the agent tell nothing about a session.
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
