//! Answers agents' requests, as `hopgap_proto::uplink` specifies them.

use super::access::{Asking, across, for_another_host};
use super::clocks;
use super::limits::Patience;
use super::peer::{Peer, Way};
use super::reply::Failure;
use super::{App, delivery, limits};
use crate::clock;
use crate::plan::CollectorPlan;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hopgap_proto::plan::Plan;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, AgentReport, CLOCK_HEADER, ErrorCode, Fingerprint, Hello, MAX_BATCH_BYTES,
    MAX_CONTROL_BYTES, MAX_HELLO_BYTES, MAX_WAIT, PlanResponse, ProtocolRange, Revision, Welcome,
    secret_of,
};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::time::{Instant, timeout_at};

/// How long receiving a body may take: a link that is failing over may be slow.
const BODY_TIME: Patience = Patience {
    whole: Duration::from_secs(60),
    lag: Duration::from_secs(10),
};

/// `POST` hello.
pub(super) async fn hello(
    State(app): State<App>,
    peer: Peer,
    request: Request,
) -> Result<Json<Welcome>, Failure> {
    let Asker { name: agent, .. } = let_in(&app, request.headers(), peer)?;
    let body = read_body(request.into_body(), MAX_HELLO_BYTES).await?;
    let hello: Hello = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(
            ErrorCode::Malformed,
            format!("the hello cannot be read: {error}"),
            "check that both programs have the same version",
        )
    })?;
    if hello.agent != agent {
        return Err(Failure::new(
            ErrorCode::Forbidden,
            format!(
                "the hello is of `{}`, but the request of `{agent}`",
                hello.agent
            ),
            "correct the agent's `name`",
        ));
    }
    let ours = ProtocolRange::OURS;
    let protocol = ours.agree(hello.protocol).ok_or_else(|| {
        Failure::new(
            ErrorCode::Protocol,
            format!(
                "this collector speaks versions {} to {} of the uplink, the agent {} to {}",
                ours.oldest, ours.newest, hello.protocol.oldest, hello.protocol.newest
            ),
            "upgrade the older of the two programs",
        )
    })?;
    let version = hello.version;
    if !app.accounts.may_note(&agent) {
        return Err(delivery::too_much(&agent));
    }
    let seen = app
        .writer
        .run(move |store| store.seen(&agent, Some(version.as_str()), clock::now()))
        .await?
        .map_err(Failure::from);
    note_disk(&app, &seen);
    seen?;
    Ok(Json(Welcome {
        protocol,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_ns: clock::now(),
    }))
}

/// The query of a plan request; the field names are the protocol's.
#[derive(Debug, Deserialize)]
pub(super) struct PlanQuery {
    revision: Option<Revision>,
    wait: Option<u64>,
}

/// `GET` plan: held until the agent's part of the plan changes or the request's time is over.
pub(super) async fn plan(
    State(app): State<App>,
    peer: Peer,
    query: Result<Query<PlanQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| {
        Failure::new(
            ErrorCode::Malformed,
            format!("the plan request cannot be read: {}", error.body_text()),
            "check that both programs have the same version",
        )
    })?;
    clocks::note(&app, &let_in(&app, &headers, peer)?.name, &headers).await;
    let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(MAX_WAIT);
    let until = Instant::now() + wait;
    let mut plan = app.plan.clone();
    let mut stopping = app.stopping.clone();
    loop {
        let current = plan.borrow_and_update().clone();
        // Checked each time: a new plan may have another secret, or not this agent.
        let Asker { name: agent, .. } = let_in(&app, &headers, peer)?;
        let part = current.plan.for_agent(&agent);
        let revision = Revision::of(&part);
        if query.revision != Some(revision) {
            let seen = agent.clone();
            if app.accounts.may_note(&agent) {
                app.writer
                    .run(move |store| store.seen(&seen, None, clock::now()))
                    .await??;
            }
            // The agent logs the same revision.
            tracing::info!("agent `{agent}` fetches its plan, revision {revision}");
            return Ok(Json(PlanResponse {
                revision,
                plan: part,
            })
            .into_response());
        }
        let changed = tokio::select! {
            changed = timeout_at(until, plan.changed()) => matches!(changed, Ok(Ok(()))),
            _ = stopping.wait_for(|stop| *stop) => false,
        };
        if !changed {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
    }
}

/// `POST` blocks: acknowledged when the blocks are durable.
pub(super) async fn blocks(
    State(app): State<App>,
    peer: Peer,
    request: Request,
) -> Result<Json<Ack>, Failure> {
    let asker = let_in_with_former(&app, request.headers(), peer)?;
    let (reading, now) = (clock_in(request.headers()), clock::now());
    if let Some(why) = delivery::is_ahead(&asker, reading, now) {
        app.refusals.note(&asker.name, peer.ip(), &why, now);
        return Err(why);
    }
    let own = app.bodies.own(&asker.name).await?;
    // Waits before it takes a place that others could use.
    app.accounts.wait(&asker.name).await?;
    let _place = app.bodies.place(own).await?;
    let body = read_body(request.into_body(), MAX_BATCH_BYTES).await?;
    let taken = delivery::take(&app, asker, body).await;
    note_disk(&app, &taken);
    taken.map(Json)
}

/// Returns the agent's wall clock at the sending of a request; agents before 0.2 do not send
/// it.
fn clock_in(headers: &HeaderMap) -> Option<Wall> {
    let value = headers.get(CLOCK_HEADER)?.to_str().ok()?;
    value.parse().ok().map(Wall::from_nanos)
}

/// Notes whether writing to the store's disk succeeded.
fn note_disk<T>(app: &App, written: &Result<T, Failure>) {
    match written {
        Ok(_) => app.disk.succeeded(),
        Err(failure) => {
            if let Some(error) = failure.of_storage() {
                app.disk.failed(error, clock::now());
            }
        }
    }
}

/// `POST` report: the state of an agent. Kept in memory, so that it is known also while the
/// disk takes nothing.
pub(super) async fn report(
    State(app): State<App>,
    peer: Peer,
    request: Request,
) -> Result<StatusCode, Failure> {
    let Asker { name: agent, .. } = let_in(&app, request.headers(), peer)?;
    let body = read_body(request.into_body(), MAX_CONTROL_BYTES).await?;
    let report: AgentReport = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(
            ErrorCode::Malformed,
            format!("the report cannot be read: {error}"),
            "check that both programs have the same version",
        )
    })?;
    let plan = app.plan.borrow().clone();
    app.reports.take(&agent, report, &plan.plan, clock::now());
    Ok(StatusCode::NO_CONTENT)
}

/// The agent that was let in.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// Its name now.
    pub(super) name: AgentName,
    /// Its earlier names: records under them are its own.
    pub(super) former: Vec<AgentName>,
    /// Names of the plan's agents and, after [`Asker::among`], of further known agents.
    others: BTreeSet<AgentName>,
}

impl Asker {
    pub(super) fn new(name: AgentName, former: Vec<AgentName>, plan: &Plan) -> Self {
        Self {
            name,
            former,
            others: plan.agents.iter().map(|a| a.name.clone()).collect(),
        }
    }

    /// Adds further known agents.
    pub(super) fn among(mut self, known: impl IntoIterator<Item = AgentName>) -> Self {
        self.others.extend(known);
        self
    }

    /// Whether this is neither one of its names nor that of a known agent.
    pub(super) fn is_strange(&self, name: &AgentName) -> bool {
        *name != self.name && !self.former.contains(name) && self.is_nobodys(name)
    }

    /// Whether no known agent has this name. A block under it was recorded while the agent's
    /// `name` was mistyped.
    pub(super) fn is_nobodys(&self, name: &AgentName) -> bool {
        !self.others.contains(name)
    }
}

/// Returns the agent that sent a request, by the plan in force; notes a refusal.
pub(super) fn let_in(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Asker, Failure> {
    noted(app, headers, peer, false)
}

/// Does the same for a delivery: a renamed agent may still use a former name.
fn let_in_with_former(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Asker, Failure> {
    noted(app, headers, peer, true)
}

fn noted(app: &App, headers: &HeaderMap, peer: Peer, former: bool) -> Result<Asker, Failure> {
    // Before any name is noted: a page can send any name.
    if peer.way == Way::Plain(Asking::Page) {
        return Err(across("a page of a browser asks"));
    }
    let name = name_in(headers)?;
    let plan = app.plan.borrow().clone();
    let checked = match peer.way {
        Way::Plain(asking) => by_secret(name.clone(), headers, &plan, asking),
        Way::Tls(certificate) => by_certificate(app, &name, certificate, &plan, former),
    };
    match &checked {
        Ok(_) => app.refusals.forget(&name, peer.ip()),
        Err(why) if why.is_refusal() => app.refusals.note(&name, peer.ip(), why, clock::now()),
        Err(_) => {}
    }
    checked
}

/// Returns the agent that a certificate was issued to. The name in the request proves
/// nothing, but must agree.
fn by_certificate(
    app: &App,
    given: &AgentName,
    certificate: Option<Fingerprint>,
    plan: &CollectorPlan,
    may_be_former: bool,
) -> Result<Asker, Failure> {
    let (Some(identities), Some(certificate)) = (&app.identities, certificate) else {
        return Err(Failure::new(
            ErrorCode::Unauthorized,
            "the request came without a certificate",
            "let the agent join with a token of `hopgap-collector token create`",
        ));
    };
    let known = identities.look_up(certificate, clock::now())?;
    let agrees = known.name == *given || (may_be_former && known.former.contains(given));
    if !agrees {
        return Err(Failure::new(
            ErrorCode::Forbidden,
            format!(
                "the certificate is of agent `{}`, but the request of `{given}`",
                known.name
            ),
            format!(
                "write `name = \"{}\"` into the agent's configuration and restart it, or let it join as `{given}`",
                known.name
            ),
        ));
    }
    in_plan(&known.name, plan)?;
    Ok(Asker::new(known.name, known.former, &plan.plan))
}

/// Returns the agent's name in a request.
fn name_in(headers: &HeaderMap) -> Result<AgentName, Failure> {
    headers
        .get(AGENT_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<AgentName>().ok())
        .ok_or_else(|| {
            Failure::new(
                ErrorCode::Malformed,
                format!("the header `{AGENT_HEADER}` is absent or no name"),
                "send the agent's name in it",
            )
        })
}

fn in_plan(name: &AgentName, plan: &CollectorPlan) -> Result<(), Failure> {
    if plan.plan.agent(name).is_some() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Forbidden,
        format!("the plan has no agent `{name}`"),
        "correct the agent's `name` or add it to the collector's plan",
    ))
}

/// Checks that the request is from `name`. An agent without a secret in the plan is trusted
/// where no token is required: then the collector listens on loopback only, and only a
/// browser would address it by another host's name.
fn by_secret(
    name: AgentName,
    headers: &HeaderMap,
    plan: &CollectorPlan,
    asking: Asking,
) -> Result<Asker, Failure> {
    in_plan(&name, plan)?;
    let believed = |name| Asker::new(name, Vec::new(), &plan.plan);
    let Some(secret) = plan.secrets.get(&name) else {
        if plan.settings.token_required {
            return Err(Failure::new(
                ErrorCode::Unauthorized,
                format!(
                    "agent `{name}` has no secret, and `token_required` lets nobody in without"
                ),
                "give it a `secret_file`, in the plan and in its own configuration",
            ));
        }
        if asking != Asking::Program {
            return Err(for_another_host());
        }
        return Ok(believed(name));
    };
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(secret_of)
        .unwrap_or_default();
    if bool::from(secret.as_bytes().ct_eq(given.as_bytes())) {
        Ok(believed(name))
    } else {
        Err(Failure::new(
            ErrorCode::Unauthorized,
            format!("the secret of agent `{name}` is absent or wrong"),
            "give the agent's `secret_file` the content of the collector's",
        ))
    }
}

/// Reads a whole body of at most `limit` bytes, within [`BODY_TIME`].
pub(super) async fn read_body(body: Body, limit: usize) -> Result<Bytes, Failure> {
    limits::read_body(body, limit, BODY_TIME).await
}
