//! Reads a stretch of time back for analysis.

use crate::store::{Kind, Marker, MarkerKind, Reader, RunRows, Runs, StoreError};
use hopgap_analysis::findings;
use hopgap_analysis::input::{EchoRecords, Input, ReflectorRun, SenderRun, SessionRecords};
use hopgap_analysis::schema::Utc;
use hopgap_proto::plan::{Destination, Plan, SessionPlan};
use hopgap_proto::record::{AgentName, Event, EventKind, ProbeFate};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// The reflector's log is read this far beside the window: what was sent within may
/// arrive after it, and an outage at its edge needs the context.
const AROUND_RECEPTIONS: Span = Span::from_secs(60);

/// Probes are read further than the log: an arrival whose probe was not read would seem
/// to belong to none.
const AROUND_PROBES: Span = Span::from_secs(120);

/// Analysis holds all records in memory, some 270 bytes each with what it makes of them.
const MOST_RECORDS: u64 = 40_000_000;

/// Why a stretch of time cannot be read for analysis.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More records than are analysed at a time.
    #[error(
        "that stretch of time holds {records} records, more than the {MOST_RECORDS} that are analysed at a time; choose a shorter one with --from and --to"
    )]
    TooMany {
        /// How many.
        records: u64,
    },
}

/// Everything that analysis needs to judge what was sent from `from` to `to`.
///
/// # Errors
///
/// When the store fails, or when it holds too much of that time.
pub fn input(reader: &Reader, plan: &Plan, from: Wall, to: Wall) -> Result<Input, QueryError> {
    let records = reader.count(from, to)?;
    if records > MOST_RECORDS {
        return Err(QueryError::TooMany { records });
    }
    let sessions = plan
        .sessions
        .iter()
        .map(|session| session_records(reader, session, from, to))
        .collect::<Result<_, StoreError>>()?;
    let echoes = reader
        .echoes(from, to)?
        .into_iter()
        .map(|rows| EchoRecords {
            target: rows.target,
            agent: rows.agent,
            clocks: rows.clocks,
            echoes: rows.echoes,
        })
        .collect();
    Ok(Input {
        plan: plan.clone(),
        window: Some((from, to)),
        sessions,
        markers: reader.markers(from, to)?.into_iter().map(marker).collect(),
        echoes,
    })
}

fn session_records(
    reader: &Reader,
    session: &SessionPlan,
    from: Wall,
    to: Wall,
) -> Result<SessionRecords, StoreError> {
    let name = &session.name;
    let kinds = [Kind::Probes, Kind::Traces, Kind::Events];
    let mut sent = reader.records(name, &kinds, from - AROUND_PROBES, to + AROUND_PROBES)?;
    sent.retain(|(agent, _), rows| *agent == session.from && !is_bare(rows));

    let reflector = match &session.to {
        Destination::Foreign(_) => Vec::new(),
        Destination::Agent(agent) => {
            let (early, late) = clock_difference(&sent);
            let from = from + early - AROUND_RECEPTIONS;
            // What arrived after the newest probe on record belongs to probes that are
            // still on their way here.
            let newest = newest_probe(&sent).unwrap_or(to);
            let to = (to + AROUND_RECEPTIONS).min(newest) + late;
            reflector_runs(reader, session, agent, from, to)?
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

fn reflector_runs(
    reader: &Reader,
    session: &SessionPlan,
    reflector: &AgentName,
    from: Wall,
    to: Wall,
) -> Result<Vec<ReflectorRun>, StoreError> {
    let kinds = [Kind::Receptions, Kind::Events];
    let mut rows: BTreeMap<_, _> = reader
        .records(&session.name, &kinds, from, to)?
        .into_iter()
        .filter(|((agent, _), _)| agent == reflector)
        .map(|((_, run), rows)| (run, rows))
        .collect();
    // An agent that ran and received nothing is evidence, too: of loss on the way out.
    for (run, clocks) in reader.runs(reflector, from, to)? {
        rows.entry(run).or_insert_with(|| RunRows {
            clocks,
            ..RunRows::default()
        });
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

/// How far the reflector's wall clock is ahead of the sender's, at least and at most, as
/// the replies tell; nothing where there is none. Hosts may be hours apart.
fn clock_difference(sent: &Runs) -> (Span, Span) {
    let mut range: Option<(Span, Span)> = None;
    for rows in sent.values() {
        let Some(clock) = rows.clocks.first() else {
            continue;
        };
        for probe in &rows.probes {
            if let ProbeFate::Answered(reply) = probe.fate {
                let ahead = reply.reflector_received - clock.wall_of(probe.sent.at);
                let (low, high) = range.unwrap_or((ahead, ahead));
                range = Some((low.min(ahead), high.max(ahead)));
            }
        }
    }
    range.unwrap_or_default()
}

/// When the newest probe was sent, on the sender's wall clock.
fn newest_probe(sent: &Runs) -> Option<Wall> {
    sent.values()
        .filter_map(|rows| {
            let clock = rows.clocks.last()?;
            let newest = rows.probes.iter().map(|p| p.sent.at).max()?;
            Some(clock.wall_of(newest))
        })
        .max()
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
