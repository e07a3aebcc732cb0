//! The API for people and scripts: status, drills, markers.
//!
//! | request | body | success |
//! |---|---|---|
//! | `GET /api/v1/status` | none | [`Status`] |
//! | `GET /metrics` | none | [`super::metrics`] |
//! | `GET /api/v1/clock` | none | [`ClockBody`] |
//! | `GET /api/v1/drills` | none | an array of [`DrillBody`], the newest first |
//! | `POST /api/v1/drills` | [`DrillRequest`] | [`DrillBody`] |
//! | `POST /api/v1/drills/stop` | [`StopRequest`] | [`DrillBody`] |
//! | `POST /api/v1/markers` | [`MarkerRequest`] | [`MarkerRequest`] with its time |
//!
//! A command (`POST`) may carry an `id` and a deadline `until`. It is executed once for each
//! id, and never after its deadline, so that a client that got no answer can send it again.
//!
//! Every failure is an `ErrorBody`, as in the uplink. Instants are RFC 3339 in UTC.
//! [`super::access`] decides who may use the API; a `POST` carries the header
//! [`OURS_HEADER`](super::OURS_HEADER).

use super::delivery::TakenBody;
use super::health::{
    AgentSigns, AgentState, DiskBody, InUseBody, SessionState, Tally, judge_agent, judge_session,
};
use super::limits::RefusedBody;
use super::metrics::{METRICS_PATH, metrics};
use super::refusals::RefusalBody;
use super::reply::Failure;
use super::tls::TlsBody;
use super::writer::WriterBody;
use super::{App, Shared, access};
use crate::clock;
use crate::store::{
    ClockRow, CommandId, CommandTicket, Drill, Marker, MarkerKind, Reader, Store, StoreError,
};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Json, Router};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_proto::plan::{Plan, SessionPlan};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{AgentFault, ErrorCode, FlowFault, Revision, SpoolReport};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Path of [`Status`].
pub(crate) const STATUS_PATH: &str = "/api/v1/status";
/// Path of drills.
pub(crate) const DRILLS_PATH: &str = "/api/v1/drills";
/// Path to stop the drill that is running.
pub(crate) const STOP_PATH: &str = "/api/v1/drills/stop";
/// Path of markers.
pub(crate) const MARKERS_PATH: &str = "/api/v1/markers";

/// Path of [`ClockBody`].
pub(crate) const CLOCK_PATH: &str = "/api/v1/clock";

/// How long a command without a deadline may wait for the writer: a disk that is busy with
/// something else may hang for many seconds.
pub(crate) const COMMAND_TIME: Span = Span::from_secs(60);

/// An instant of UTC as RFC 3339 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeText(pub Wall);

impl Serialize for TimeText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Utc(self.0))
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        clock::parse(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// The collector's time, by which commands state their deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockBody {
    /// Now.
    pub(crate) now: TimeText,
}

/// Starts a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// Its name.
    pub name: String,
    /// When it began; absent for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeText>,
    /// Identifies the command: sent again under the same id, it is not executed again and
    /// returns its first result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Deadline by the collector's clock, after which it is not executed; absent for 60 s
    /// after it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeText>,
}

/// Stops the drill that is running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// When it ended; absent for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeText>,
    /// Identifies the command: sent again under the same id, it is not executed again and
    /// returns its first result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Deadline by the collector's clock, after which it is not executed; absent for 60 s
    /// after it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeText>,
}

/// Stores a note about one point in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkerRequest {
    /// Its text.
    pub text: String,
    /// What it announces.
    #[serde(default)]
    pub kind: MarkerKind,
    /// When; absent for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeText>,
    /// Identifies the command: sent again under the same id, it is not executed again and
    /// returns its first result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Deadline by the collector's clock, after which it is not executed; absent for 60 s
    /// after it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeText>,
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillBody {
    /// Its name.
    pub name: String,
    /// When it began.
    pub started: TimeText,
    /// When it ended; `null` while it runs.
    pub stopped: Option<TimeText>,
}

impl From<Drill> for DrillBody {
    fn from(drill: Drill) -> Self {
        Self {
            name: drill.name,
            started: TimeText(drill.started),
            stopped: drill.stopped.map(TimeText),
        }
    }
}

/// The state of the collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started: TimeText,
    /// Its own time.
    pub now: TimeText,
    /// Directory of its store.
    pub store: String,
    /// The plan.
    pub plan: PlanStatus,
    /// The drill that is running.
    pub drill: Option<DrillBody>,
    /// The sessions of the plan, in its order.
    pub sessions: Vec<SessionBody>,
    /// The agents of the plan, and others that were heard of, by name.
    pub agents: Vec<AgentBody>,
    /// Agents that were refused since the start and not let in after that, the newest first.
    #[serde(default)]
    pub refusals: Vec<RefusalBody>,
    /// Agents' TLS connections; `null` where agents connect without TLS.
    #[serde(default)]
    pub tls: Option<TlsBody>,
    /// Requests and connections refused since the start, by cause.
    #[serde(default)]
    pub refused: RefusedBody,
    /// The thread that owns the store.
    #[serde(default)]
    pub writer: WriterBody,
    /// The store's disk.
    #[serde(default)]
    pub disk: DiskBody,
    /// Whether everything is as it should be: agents, sessions, plan and disk.
    #[serde(default)]
    pub ok: bool,
}

/// The plan in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatus {
    /// Its file.
    pub file: String,
    /// The revision of the whole plan.
    pub revision: Revision,
    /// How many sessions it has.
    pub sessions: usize,
    /// Why the present file is not in force; `null` where it is.
    pub error: Option<String>,
}

/// A session and its newest minute of data here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBody {
    /// Its name.
    pub name: String,
    /// When its newest probe here was sent, on the sender's clock; `null` for none.
    pub newest: Option<TimeText>,
    /// Probes answered in the minute up to then.
    pub answered: u64,
    /// Probes not answered in the minute up to then.
    pub unanswered: u64,
    /// Probes that the sender's kernel refused in the minute up to then.
    pub refused: u64,
    /// Least time without an answer before its newest probe, counted from the end of the newest
    /// block with an answer; `null` where no block of the newest minute has one.
    #[serde(default)]
    pub unanswered_ns: Option<Nanos>,
    /// How it is.
    #[serde(default = "unknown_session")]
    pub state: SessionState,
    /// Its flows by the plan.
    #[serde(default)]
    pub flows: u8,
    /// Running flows by its sender's report; `null` where there is none.
    #[serde(default)]
    pub running: Option<u8>,
    /// Flows that do not run, and why, by its sender's report.
    #[serde(default)]
    pub faults: Vec<FlowFault>,
    /// The paths in use.
    #[serde(default)]
    pub paths: InUseBody,
}

/// Of a collector that does not judge.
fn unknown_session() -> SessionState {
    SessionState::NoData
}

/// Of a collector that does not judge.
fn unknown_agent() -> AgentState {
    AgentState::Stale
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBody {
    /// Its name.
    pub name: String,
    /// Whether the plan has it.
    pub planned: bool,
    /// The revision of its part of the plan, as the agent logs it; `null` where it has none.
    #[serde(default)]
    pub plan: Option<Revision>,
    /// The version of its program.
    pub version: Option<String>,
    /// When it was last heard of; `null` for never.
    pub last_seen: Option<TimeText>,
    /// When its newest block here was closed, on its own clock. Later records are its
    /// backlog.
    pub newest: Option<TimeText>,
    /// Blocks stored.
    pub blocks: u64,
    /// Blocks that came more than once.
    pub duplicates: u64,
    /// Records stored.
    pub records: u64,
    /// Frames that were whole but could not be used.
    pub refused: u64,
    /// How it is.
    #[serde(default = "unknown_agent")]
    pub state: AgentState,
    /// How long ago it was last heard of; `null` where it never was.
    #[serde(default)]
    pub silent_ns: Option<Nanos>,
    /// How long ago the newest of its blocks here was closed, on its own clock; `null`
    /// where that is not known.
    #[serde(default)]
    pub behind_ns: Option<Nanos>,
    /// What waits on its disk, by its last report; `null` where it made none.
    #[serde(default)]
    pub spool: Option<SpoolReport>,
    /// Parts other than sessions that do not run, and why, by its last report.
    #[serde(default)]
    pub faults: Vec<AgentFault>,
    /// What the collector took from it and refused since the start, by cause.
    #[serde(default)]
    pub taken: TakenBody,
    /// The offset of its wall clock from the collector's; `null` where it was never measured.
    #[serde(default)]
    pub clock: Option<ClockDifferenceBody>,
}

/// The offset of an agent's wall clock from the collector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockDifferenceBody {
    /// How far it was ahead; negative where it was behind.
    pub ahead_ns: Nanos,
    /// The largest error of that, plus or minus.
    pub bound_ns: Nanos,
    /// When that was, on the collector's clock.
    pub at: TimeText,
}

impl From<&ClockRow> for ClockDifferenceBody {
    fn from(row: &ClockRow) -> Self {
        let (ahead, bound) = row.ahead();
        Self {
            ahead_ns: Nanos(ahead),
            bound_ns: Nanos(bound),
            at: TimeText(row.latest),
        }
    }
}

pub(super) fn router(app: &App) -> Router<App> {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route(METRICS_PATH, get(metrics))
        .route(CLOCK_PATH, get(now))
        .route(DRILLS_PATH, get(drills).post(start))
        .route(STOP_PATH, post(stop))
        .route(MARKERS_PATH, post(mark))
        .layer(from_fn_with_state(app.clone(), access::let_in))
}

async fn now() -> Json<ClockBody> {
    Json(ClockBody {
        now: TimeText(clock::now()),
    })
}

async fn status(State(app): State<App>) -> Result<Json<Status>, Failure> {
    blocking(move || read_status(&app)).await.map(Json)
}

fn read_status(app: &Shared) -> Result<Status, StoreError> {
    let reader = Reader::open(&app.store)?;
    let plan = app.plan.borrow().clone();
    let now = clock::now();
    let agents = agents(app, &reader, &plan.plan, now)?;
    let sessions = sessions(app, &reader, &plan.plan, &agents)?;
    let disk = app.disk.body(&app.store);
    let plan_error = app.plan_error.borrow().clone();
    let well = |a: &AgentBody| {
        matches!(a.state, AgentState::Ok | AgentState::Unplanned) && a.faults.is_empty()
    };
    let ok = agents.iter().all(well)
        && sessions.iter().all(|s| s.state == SessionState::Ok)
        && plan_error.is_none()
        && !disk.is_bad();
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: TimeText(app.started),
        now: TimeText(now),
        // Absolute, for a reader in another directory.
        store: std::path::absolute(&app.store)
            .unwrap_or_else(|_| app.store.clone())
            .display()
            .to_string(),
        plan: PlanStatus {
            file: app.plan_file.display().to_string(),
            revision: Revision::of(&plan.plan),
            sessions: plan.plan.sessions.len(),
            error: plan_error,
        },
        drill: reader
            .drills()?
            .into_iter()
            .find(|d| d.stopped.is_none())
            .map(DrillBody::from),
        sessions,
        agents,
        refusals: app.refusals.list(),
        tls: app.identities.as_ref().map(|i| i.counts.body()),
        refused: app.limits.refused(),
        writer: app.writer.body(),
        disk,
        ok,
    })
}

/// The agents of the plan, and others that were heard of, by name.
pub(super) fn agents(
    app: &Shared,
    reader: &Reader,
    plan: &Plan,
    now: Wall,
) -> Result<Vec<AgentBody>, StoreError> {
    let known = reader.agents()?;
    let clocks = reader.newest_clocks()?;
    let mut names: Vec<&str> = plan.agents.iter().map(|a| a.name.as_str()).collect();
    names.extend(known.iter().map(|a| a.agent.as_str()));
    names.sort_unstable();
    names.dedup();
    let body = |name: &str| {
        let agent = known.iter().find(|a| a.agent.as_str() == name);
        let planned = plan.agents.iter().find(|a| a.name.as_str() == name);
        let reported = app.reports.of(name);
        let last_seen = agent.map(|a| a.last_seen);
        let last_seen = last_seen.max(reported.as_ref().map(|(at, _)| *at));
        let newest = agent.and_then(|a| a.newest);
        // Computed on the agent's own clock, which may be far from this one.
        let behind = newest
            .zip(reported.as_ref())
            .map(|(newest, (at, report))| (report.at_ns - newest) + (now - *at));
        let silent = last_seen.map(|at| now - at);
        let heard = AgentSigns {
            silent,
            behind,
            block: reported.as_ref().map(|(_, report)| report.block),
        };
        let report = reported.map(|(_, report)| report);
        AgentBody {
            name: name.to_owned(),
            planned: planned.is_some(),
            plan: planned.map(|a| Revision::of(&plan.for_agent(&a.name))),
            version: agent.and_then(|a| a.version.clone()),
            last_seen: last_seen.map(TimeText),
            newest: newest.map(TimeText),
            blocks: agent.map_or(0, |a| a.blocks),
            duplicates: agent.map_or(0, |a| a.duplicates),
            records: agent.map_or(0, |a| a.records),
            refused: agent.map_or(0, |a| a.refused),
            state: match planned {
                Some(_) => judge_agent(heard),
                None => AgentState::Unplanned,
            },
            silent_ns: silent.map(Nanos),
            behind_ns: behind.map(Nanos),
            spool: report.as_ref().map(|r| r.spool),
            faults: report.map(|r| r.faults).unwrap_or_default(),
            taken: app.accounts.taken(name),
            clock: clocks
                .iter()
                .find(|row| row.agent.as_str() == name)
                .map(ClockDifferenceBody::from),
        }
    };
    Ok(names.into_iter().map(body).collect())
}

/// The sessions of the plan, in its order.
fn sessions(
    app: &Shared,
    reader: &Reader,
    plan: &Plan,
    agents: &[AgentBody],
) -> Result<Vec<SessionBody>, StoreError> {
    let mut minutes = BTreeMap::new();
    for session in &plan.sessions {
        if let Some(minute) = reader.newest_minute(&session.name, &session.from)? {
            minutes.insert(session.name.clone(), minute);
        }
    }
    let newest = minutes.iter().map(|(name, m)| (name.clone(), m.last));
    let mut paths = app.paths.of(reader, plan, &newest.collect());
    let body = |session: &SessionPlan| {
        let minute = minutes.get(&session.name);
        let reported = app.reports.of(session.from.as_str());
        let told = reported.and_then(|(_, report)| {
            let mut told = report.sessions.into_iter();
            told.find(|s| s.name == session.name)
        });
        let sender = agents.iter().find(|a| a.name == session.from.as_str());
        let sender = sender.map_or(AgentState::Down, |a| a.state);
        let tally = minute.map(|m| Tally {
            answered: m.answered,
            unanswered: m.unanswered,
            refused: m.refused,
            unanswered_since: m.unanswered_since,
        });
        let counts = tally.unwrap_or_default();
        SessionBody {
            name: session.name.to_string(),
            newest: minute.map(|m| TimeText(m.last)),
            answered: counts.answered,
            unanswered: counts.unanswered,
            refused: counts.refused,
            unanswered_ns: minute.and_then(|m| Some(Nanos(m.last - m.last_answered?))),
            state: judge_session(sender, session.flows, told.as_ref(), tally),
            flows: session.flows,
            running: told.as_ref().map(|t| t.running),
            faults: told.map(|t| t.faults).unwrap_or_default(),
            paths: paths.remove(&session.name).unwrap_or_default(),
        }
    };
    Ok(plan.sessions.iter().map(body).collect())
}

async fn drills(State(app): State<App>) -> Result<Json<Vec<DrillBody>>, Failure> {
    let drills = blocking(move || Reader::open(&app.store)?.drills()).await?;
    Ok(Json(drills.into_iter().map(DrillBody::from).collect()))
}

async fn start(
    State(app): State<App>,
    body: Result<Json<DrillRequest>, JsonRejection>,
) -> Result<Json<DrillBody>, Failure> {
    let Json(request) = body?;
    let at = when(request.at)?;
    let drill = command(&app, (request.id, request.until), move |store, asked| {
        store.start_drill_once(asked, &request.name, at)
    });
    Ok(Json(drill.await?.into()))
}

async fn stop(
    State(app): State<App>,
    body: Result<Json<StopRequest>, JsonRejection>,
) -> Result<Json<DrillBody>, Failure> {
    let Json(request) = body?;
    let at = when(request.at)?;
    let drill = command(&app, (request.id, request.until), move |store, asked| {
        store.stop_drill_once(asked, at)
    });
    Ok(Json(drill.await?.into()))
}

async fn mark(
    State(app): State<App>,
    body: Result<Json<MarkerRequest>, JsonRejection>,
) -> Result<Json<MarkerRequest>, Failure> {
    let Json(request) = body?;
    let marker = Marker {
        at: when(request.at)?,
        kind: request.kind,
        text: request.text,
    };
    let marker = command(&app, (request.id, request.until), move |store, asked| {
        store.mark_once(asked, &marker)
    })
    .await?;
    Ok(Json(MarkerRequest {
        text: marker.text,
        kind: marker.kind,
        at: Some(TimeText(marker.at)),
        id: None,
        until: None,
    }))
}

/// Executes a command before all work that is not urgent, and never after its deadline: the
/// client has given up by then and must not find it done later.
async fn command<T: Send + 'static>(
    app: &App,
    (id, until): (Option<CommandId>, Option<TimeText>),
    work: impl FnOnce(&mut Store, CommandTicket<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let until = until.map_or_else(|| clock::now() + COMMAND_TIME, |t| t.0);
    let done = app.writer.run_first(move |store| {
        let asked = CommandTicket {
            id: id.as_ref(),
            until,
            // Read when the writer reaches the command.
            now: clock::now(),
        };
        work(store, asked)
    });
    done.await?.map_err(refused)
}

/// Returns the instant that a request names, or now. Refuses an instant in the future: until
/// then the drill would seem to be over, or the report would cover the future.
fn when(at: Option<TimeText>) -> Result<Wall, Failure> {
    let now = clock::now();
    match at {
        Some(TimeText(at)) if at > now => Err(Failure::new(
            ErrorCode::Malformed,
            format!("{} is in the future (it is {} here)", Utc(at), Utc(now)),
            "leave out --at for now, or give a time that is past",
        )
        .with_status(StatusCode::CONFLICT)),
        Some(TimeText(at)) => Ok(at),
        None => Ok(now),
    }
}

/// Turns a store error into an answer: a drill error is the request's fault, any other the
/// store's.
fn refused(error: StoreError) -> Failure {
    match error {
        StoreError::Drill(_) => {
            Failure::new(ErrorCode::Malformed, error.to_string(), String::new())
                .with_status(StatusCode::CONFLICT)
        }
        StoreError::TooLate { .. } => {
            Failure::new(ErrorCode::Busy, error.to_string(), "give the command again")
        }
        other => other.into(),
    }
}

/// Runs work that reads the disk outside of the server's own thread.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(super::writer::Stopped.into()),
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(
            ErrorCode::Malformed,
            rejection.body_text(),
            "send JSON with the content type application/json",
        )
        .with_status(rejection.status())
    }
}
