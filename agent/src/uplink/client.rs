//! Requests to the collector.

use crate::spool::SpoolError;
use hopgap_proto::record::{AgentName, RunId};
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, BLOCKS_PATH, CONTROL_TYPE, ErrorBody, FRAMES_TYPE, HELLO_PATH, Hello,
    MAX_CONTROL_BYTES, PLAN_PATH, PlanResponse, ProtocolRange, REVISION_QUERY, Revision,
    WAIT_QUERY, bearer,
};
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A request without an answer for this long is given up: the connection is dead.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);

/// Why a request came to nothing. The next try may fare better.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// No connection, or it broke.
    #[error("cannot reach the collector at {url}: {source}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The collector refused, and said why.
    #[error("the collector refused: {error}; {remedy}")]
    Refused {
        /// What was wrong.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// The answer is none of a hopgap collector.
    #[error(
        "{url} answered with status {status}, but not as a hopgap collector does; check `collector` in the configuration"
    )]
    NotACollector {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The collector acknowledged nothing of a delivery.
    #[error("the collector acknowledged nothing of a delivery")]
    NoProgress,
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Speaks to one collector as one agent.
#[derive(Clone, Debug)]
pub struct Client {
    http: Agent,
    base: String,
    secret: Option<String>,
    agent: AgentName,
    run: RunId,
}

impl Client {
    /// A client of the collector at `base`, such as `http://10.1.11.10:8620`.
    pub fn new(base: &str, secret: Option<String>, agent: AgentName, run: RunId) -> Self {
        let http = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            .build()
            .into();
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            secret,
            agent,
            run,
        }
    }

    /// What tells this agent's jitter from others'.
    pub(super) fn seed(&self) -> u64 {
        self.run.0
    }

    /// Introduces the agent, unless that was done.
    pub(super) fn greet_unless(&self, greeted: bool) -> Result<(), UplinkError> {
        if greeted {
            return Ok(());
        }
        let hello = Hello {
            agent: self.agent.clone(),
            run: self.run,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: ProtocolRange::OURS,
        };
        let body = serde_json::to_vec(&hello).unwrap_or_default();
        let response = self.post(HELLO_PATH, CONTROL_TYPE, &body)?;
        self.success(HELLO_PATH, response).map(drop)
    }

    /// The plan, where it is another than `known`; held up to `hold`.
    pub(super) fn plan(
        &self,
        known: Option<&Revision>,
        hold: Duration,
    ) -> Result<Option<PlanResponse>, UplinkError> {
        let mut request = self
            .http
            .get(format!("{}{PLAN_PATH}", self.base))
            .header(AGENT_HEADER, self.agent.as_str())
            .query(WAIT_QUERY, hold.as_secs().to_string());
        if let Some(secret) = &self.secret {
            request = request.header("authorization", bearer(secret));
        }
        if let Some(revision) = known {
            request = request.query(REVISION_QUERY, revision.to_string());
        }
        let response = request
            .config()
            .timeout_global(Some(hold + TIMEOUT))
            .build()
            .call()
            .map_err(|e| self.unreachable(PLAN_PATH, e))?;
        if response.status().as_u16() == 304 {
            return Ok(None);
        }
        let bytes = self.success(PLAN_PATH, response)?;
        self.json(PLAN_PATH, &bytes).map(Some)
    }

    /// Delivers frames.
    pub(super) fn deliver(&self, frames: &[u8]) -> Result<Ack, UplinkError> {
        let response = self.post(BLOCKS_PATH, FRAMES_TYPE, frames)?;
        let bytes = self.success(BLOCKS_PATH, response)?;
        self.json(BLOCKS_PATH, &bytes)
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<Response<Body>, UplinkError> {
        let mut request = self
            .http
            .post(format!("{}{path}", self.base))
            .header("content-type", kind)
            .header(AGENT_HEADER, self.agent.as_str());
        if let Some(secret) = &self.secret {
            request = request.header("authorization", bearer(secret));
        }
        request
            .config()
            .timeout_global(Some(TIMEOUT))
            .build()
            .send(body)
            .map_err(|e| self.unreachable(path, e))
    }

    /// The body of a success; any other answer as its error.
    fn success(&self, path: &str, response: Response<Body>) -> Result<Vec<u8>, UplinkError> {
        let status = response.status().as_u16();
        let limit = u64::try_from(MAX_CONTROL_BYTES).unwrap_or(u64::MAX);
        let bytes = response
            .into_body()
            .into_with_config()
            .limit(limit)
            .read_to_vec()
            .map_err(|e| self.unreachable(path, e))?;
        classify(status, &bytes, &format!("{}{path}", self.base))?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        bytes: &[u8],
    ) -> Result<T, UplinkError> {
        serde_json::from_slice(bytes).map_err(|_| UplinkError::NotACollector {
            url: format!("{}{path}", self.base),
            status: 200,
        })
    }

    fn unreachable(&self, path: &str, source: ureq::Error) -> UplinkError {
        UplinkError::Unreachable {
            url: format!("{}{path}", self.base),
            source: Box::new(source),
        }
    }
}

/// What a status and a body mean. Only 200 lets anything leave the spool.
fn classify(status: u16, body: &[u8], url: &str) -> Result<(), UplinkError> {
    if status == 200 {
        return Ok(());
    }
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error, remedy, .. }) => Err(UplinkError::Refused { error, remedy }),
        Err(_) => Err(UplinkError::NotACollector {
            url: url.to_owned(),
            status,
        }),
    }
}

#[cfg(test)]
mod tests;
