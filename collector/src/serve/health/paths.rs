//! Finds the named paths that the sessions' newest probes took.
//!
//! Runs the report's analysis on the last seconds alone. Keeps the result for a moment,
//! because `status --watch` asks every second.

use crate::store::{Kind, Reader, StoreError};
use hopgap_analysis::analyse;
use hopgap_analysis::findings::{FlowFindings, PathEpoch};
use hopgap_analysis::input::{Input, SenderRun, SessionRecords};
use hopgap_proto::plan::{Plan, SessionPlan};
use hopgap_proto::record::{AgentName, Probe, SessionName};
use hopgap_proto::time::{Span, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much is analysed. Traceroutes come once a second; several are needed to tell a
/// truncated one from a complete one.
const LOOKED_AT: Span = Span::from_secs(6);
/// Most probes analysed of a session, over all its flows; of more, every n-th is taken.
const MOST_PROBES: usize = 4_000;
/// How long a result is reused.
const KEPT: Duration = Duration::from_secs(3);

/// The paths in use by a session's newest probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUseBody {
    /// Names of the paths out, those of the most flows first; `null` in place of one that
    /// no declared path fits.
    pub forward: Vec<Option<String>>,
    /// Names of the paths back.
    pub reverse: Vec<Option<String>>,
}

/// The last result, and the plan that it was made with.
#[derive(Debug, Default)]
pub(crate) struct PathsInUse(Mutex<Option<Found>>);

#[derive(Debug)]
struct Found {
    at: Instant,
    plan: Plan,
    /// The sessions that had data.
    of: BTreeSet<SessionName>,
    paths: BTreeMap<SessionName, InUseBody>,
}

impl PathsInUse {
    /// Returns the paths in use by the plan's sessions; `newest` has each session's newest probe.
    pub(crate) fn of(
        &self,
        reader: &Reader,
        plan: &Plan,
        newest: &BTreeMap<SessionName, Wall>,
    ) -> BTreeMap<SessionName, InUseBody> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = last.as_ref()
            && found.at.elapsed() < KEPT
            && found.plan == *plan
            && found.of.iter().eq(newest.keys())
        {
            return found.paths.clone();
        }
        // The status is useful without the paths, too.
        let paths = find(reader, plan, newest).unwrap_or_else(|error| {
            tracing::warn!("the paths in use are not known: {error}");
            BTreeMap::new()
        });
        *last = Some(Found {
            at: Instant::now(),
            plan: plan.clone(),
            of: newest.keys().cloned().collect(),
            paths: paths.clone(),
        });
        paths
    }
}

fn find(
    reader: &Reader,
    plan: &Plan,
    newest: &BTreeMap<SessionName, Wall>,
) -> Result<BTreeMap<SessionName, InUseBody>, StoreError> {
    let mut sessions = Vec::new();
    for session in &plan.sessions {
        if let Some(newest) = newest.get(&session.name) {
            sessions.push(records(reader, session, *newest)?);
        }
    }
    let findings = analyse(&Input {
        plan: plan.clone(),
        sessions,
        ..Input::default()
    });
    let mut found = BTreeMap::new();
    for (session, findings) in plan.sessions.iter().zip(&findings.sessions) {
        let body = InUseBody {
            forward: last_names(&findings.flows, |f| &f.forward_paths),
            reverse: last_names(&findings.flows, |f| &f.reverse_paths),
        };
        if !body.forward.is_empty() {
            found.insert(session.name.clone(), body);
        }
    }
    Ok(found)
}

/// Reads the newest records of the session's sender.
fn records(
    reader: &Reader,
    session: &SessionPlan,
    newest: Wall,
) -> Result<SessionRecords, StoreError> {
    let kinds = [Kind::Probes, Kind::Traces];
    let from = newest
        - LOOKED_AT
            .max(session.trace_interval * 3)
            .max(session.interval * 5);
    let runs = reader.records(&session.name, &kinds, from, newest)?;
    let of_sender = |(agent, _): &(AgentName, _)| *agent == session.from;
    let sender = runs
        .into_iter()
        .filter(|(key, _)| of_sender(key))
        .map(|((agent, run), rows)| SenderRun {
            agent,
            run,
            clocks: rows.clocks,
            probes: thinned(rows.probes),
            traces: rows.traces,
            events: rows.events,
        })
        .collect();
    Ok(SessionRecords {
        session: session.name.clone(),
        sender,
        reflector: Vec::new(),
    })
}

/// Reduces many probes to every n-th of each flow, by number.
fn thinned(mut probes: Vec<Probe>) -> Vec<Probe> {
    let every = u32::try_from(probes.len() / MOST_PROBES + 1).unwrap_or(u32::MAX);
    probes.retain(|p| p.seq.0 % every == 0);
    probes
}

/// Returns the path names of all flows' newest epochs, the most frequent first.
fn last_names(
    flows: &[FlowFindings],
    paths: impl Fn(&FlowFindings) -> &Vec<PathEpoch>,
) -> Vec<Option<String>> {
    let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for epoch in flows.iter().filter_map(|flow| paths(flow).last()) {
        *counts.entry(epoch.path.clone()).or_default() += 1;
    }
    let mut names: Vec<_> = counts.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    names.into_iter().map(|(name, _)| name).collect()
}
