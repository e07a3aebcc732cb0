//! Pure analysis of hopgap records: records in, findings out.
//!
//! The one definition of loss, outage and path in hopgap: the collector's
//! reports and the agent's stand-alone `measure` both use it. [`analyse`] is a
//! pure function of its [`Input`]: the same records in any order, delivered
//! once or more, give the same [`Findings`].
//!
//! The steps: `align` makes one account of each run and joins the reflector's log to it, `loss`
//! decides what became of each probe, `path` finds which way it went, `outage` finds each flow's
//! outages, and `drill` looks at all flows and sessions together.
#![forbid(unsafe_code)]

mod align;
mod asymmetry;
mod caveat;
pub mod columns;
mod coverage;
mod drill;
mod echo;
pub mod findings;
pub mod input;
mod latency;
mod loss;
pub mod note;
mod oneway;
mod outage;
mod path;
mod path_mtu;
pub mod schema;
mod seconds;
mod session;
mod stall;
mod stretches;
mod suspended;
pub mod text;
mod told;
mod unfit;
mod verdict;

use crate::findings::{Findings, Marker, SessionFindings, Window};
use crate::input::Input;
use crate::path::Paths;
use crate::schema::Utc;
use hopgap_proto::time::Wall;

/// Finds everything that a report shows.
///
/// Deterministic: neither the order of the records nor repeated delivery matters. Never panics:
/// damaged input gives caveats.
pub fn analyse(input: &Input) -> Findings {
    match suspended::awake(input) {
        Some(awake) => find(&awake),
        None => find(input),
    }
}

fn find(input: &Input) -> Findings {
    let plan = &input.plan;
    let paths = Paths(&plan.paths);
    let (mut sessions, placed) = align::sessions(input);
    let epochs = path::find(&mut sessions, plan);
    let found: Vec<SessionFindings> = sessions
        .iter()
        .zip(&epochs)
        .map(|(session, epochs)| session::find(session, epochs, paths, &plan.objective))
        .collect();
    let markers = markers(input);
    let drill = drill::find(&drill::Scene {
        sessions: &sessions,
        epochs: &epochs,
        found: &found,
        markers: &markers,
        paths,
        objective: &plan.objective,
    });
    let question = input.window.or_else(|| extent(&sessions));
    let seen = coverage::find(input, &placed, &sessions, question);
    let verdict = verdict::judge(&verdict::Case {
        sessions: &sessions,
        epochs: &epochs,
        found: &found,
        markers: &markers,
        paths,
        objective: &plan.objective,
        seen: &seen,
    });
    let mut notes = placed.notes.clone();
    notes.extend(path::notes(&sessions, &epochs));
    notes.extend(drill.notes);
    let mut caveats = caveat::all(input, &placed, &sessions, &found);
    caveats.extend(notes.iter().map(note::sentence));
    Findings {
        window: question.map(|(from, to)| Window {
            from: Utc(from),
            to: Utc(to),
        }),
        coverage: seen.coverage,
        paths: plan.paths.iter().map(|p| p.name.to_string()).collect(),
        markers,
        sessions: found,
        transitions: drill.transitions,
        echoes: echo::find(input, &placed),
        unnamed_routes: path::unnamed::find(&sessions, &epochs, plan),
        verdict,
        notes,
        caveats,
    }
}

/// Returns the markers within the window, in the order of time.
fn markers(input: &Input) -> Vec<Marker> {
    let mut markers: Vec<Marker> = input
        .markers
        .iter()
        .filter(|m| {
            input
                .window
                .is_none_or(|(from, to)| from <= m.at.0 && m.at.0 <= to)
        })
        .cloned()
        .collect();
    markers.sort();
    markers.dedup();
    markers
}

/// Returns the time from the first to the last send, made or due. Recorded starts and ends of
/// sessions extend it.
fn extent(sessions: &[align::Session<'_>]) -> Option<(Wall, Wall)> {
    let sent = || {
        sessions.iter().flat_map(|s| &s.runs).flat_map(|run| {
            let probes = run.flows.values().flat_map(|f| {
                // A step of the clock may invert the order on UTC: look at both ends
                // of every stretch, which are among the samples themselves.
                let refused = f.refused.iter().map(|(at, _)| *at);
                f.samples.iter().map(|s| s.sent).chain(refused)
            });
            let edges = run.started.into_iter().chain(run.stopped);
            probes.chain(edges).map(|at| run.timeline.utc(at))
        })
    };
    Some((sent().min()?, sent().max()?))
}

#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;
