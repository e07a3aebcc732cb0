//! `GET /metrics`: what the collector counts, for Prometheus.
//!
//! The numbers are those of the status: each is counted in one place that both read. A
//! client that accepts OpenMetrics 1.0 gets that, any other the text format 0.0.4. The
//! right to read suffices ([`super::access`]).
//!
//! Labels are agents' names and words of this program, so that strangers add no series.

mod families;

use super::api::{AgentBody, agents, blocking};
use super::health::DiskBody;
use super::limits::RefusedBody;
use super::reply::Failure;
use super::tls::TlsBody;
use super::writer::WriterBody;
use super::{App, Shared};
use crate::clock;
use crate::store::{Reader, StoreError};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::ErrorCode;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// Path of the metrics: Prometheus's default.
pub(crate) const METRICS_PATH: &str = "/metrics";

/// All values of one scrape.
#[derive(Debug)]
struct Snapshot {
    started: Wall,
    agents: Vec<AgentBody>,
    refused: RefusedBody,
    tls: Option<TlsBody>,
    writer: WriterBody,
    disk: DiskBody,
    plan_is_in_force: bool,
    drill_runs: bool,
}

impl Snapshot {
    fn take(app: &Shared) -> Result<Self, StoreError> {
        let reader = Reader::open(&app.store)?;
        let plan = app.plan.borrow().clone();
        Ok(Self {
            started: app.started,
            agents: agents(app, &reader, &plan.plan, clock::now())?,
            refused: app.limits.refused(),
            tls: app.identities.as_ref().map(|i| i.counts.body()),
            writer: app.writer.body(),
            disk: app.disk.body(&app.store),
            plan_is_in_force: app.plan_error.borrow().is_none(),
            drill_runs: reader.drills()?.iter().any(|d| d.stopped.is_none()),
        })
    }

    /// Writes the metrics in this format.
    fn write(self, form: Form) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("hopgap");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        match form {
            Form::OpenMetrics => text::encode(&mut out, &registry)?,
            Form::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        }
        Ok(out)
    }
}

/// The format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4, which every client reads.
    Prometheus,
}

impl Form {
    /// Returns the format that a client accepts.
    fn for_reader(headers: &HeaderMap) -> Self {
        let mut accepted = headers.get_all(ACCEPT).iter();
        let open = |value: &HeaderValue| {
            let value = value.to_str().unwrap_or_default();
            value.contains("application/openmetrics-text")
        };
        match accepted.any(open) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// `GET` metrics.
pub(super) async fn metrics(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let form = Form::for_reader(&headers);
    let snapshot = blocking(move || Snapshot::take(&app)).await?;
    let body = snapshot.write(form).map_err(|error| {
        let remedy = "report it: this is a fault of the collector";
        Failure::new(ErrorCode::Storage, error.to_string(), remedy)
    })?;
    Ok(([(CONTENT_TYPE, form.content_type())], body).into_response())
}

#[cfg(test)]
mod tests;
