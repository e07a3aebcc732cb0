//! Requests to the collector. Only this module uses the HTTP library.

mod join;
mod tls;

pub use join::join;

use super::proxy::ProxyUrl;
use super::response::{Action, classify_response};
use crate::identity::{Identity, IdentityError};
use crate::spool::SpoolError;
use hopgap_net::clock::Clock;
use hopgap_proto::record::{AgentName, RunId};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, AgentReport, BLOCKS_PATH, CLOCK_HEADER, CONTROL_TYPE, Certified,
    ClockExchange, EXCHANGE_HEADER, FRAMES_TYPE, HELLO_PATH, Hello, MAX_CONTROL_BYTES, PLAN_PATH,
    PlanResponse, ProgramVersion, ProtocolRange, RENEW_PATH, REPORT_PATH, REVISION_QUERY,
    RenewRequest, Revision, WAIT_QUERY, Welcome, bearer,
};
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tracing::warn;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A request without an answer for this long is abandoned as dead. The path under test is
/// often the uplink's own, and a connection that lost its path would otherwise hang for
/// minutes.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
/// Clocks that differ by more than this cause a warning.
const CLOCKS_APART: Span = Span::from_secs(2);

/// Why a request failed. The next try may succeed.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// No connection, or it broke.
    #[error("cannot reach the collector at {url}: {source}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The collector's certificate, or this agent's, was refused.
    #[error("no secure connection to the collector at {url}: {why}")]
    Insecure {
        /// The URL.
        url: String,
        /// Why, and what to do.
        why: String,
    },
    /// This agent's certificate has expired.
    #[error(
        "this agent's certificate has expired; let it join again: make a token on the collector's host with `hopgap-collector token create --agent NAME`, then run `hopgap-agent join URL --token - --again` here"
    )]
    Expired,
    /// This agent's identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The collector refused, and said why.
    #[error("the collector refused: {error}; {remedy}")]
    Refused {
        /// What was wrong.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// The collector takes no body as large as this one.
    #[error(
        "the collector, or a proxy before it, refused a delivery of {bytes} bytes as too large; raise the proxy's limit"
    )]
    TooLarge {
        /// The body's length.
        bytes: usize,
    },
    /// The collector chose a version that this program does not speak.
    #[error("the collector speaks version {version} of the uplink, but this program {oldest} to {newest}; install programs of the same release", oldest = ProtocolRange::OURS.oldest, newest = ProtocolRange::OURS.newest)]
    Version {
        /// What it chose.
        version: u16,
    },
    /// The answer contains something that this program does not know.
    #[error("the answer of {url} cannot be used: {error}; install programs of the same release")]
    Unreadable {
        /// The URL.
        url: String,
        /// What is not known.
        error: serde_json::Error,
    },
    /// The answer is not from a hopgap collector.
    #[error(
        "{url} answered with status {status}, but not as a hopgap collector does; check `collector` in the configuration"
    )]
    NotACollector {
        /// The URL.
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

impl UplinkError {
    /// Whether a smaller delivery may succeed after this error: on a slow path a large one
    /// never ends in time.
    pub(super) fn wants_less(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::Unreachable { source, .. } => matches!(**source, ureq::Error::Timeout(_)),
            _ => false,
        }
    }
}

/// The HTTP library's agent, and the expiry of its certificate.
#[derive(Debug)]
struct Http {
    agent: Agent,
    /// When the certificate expires, where there is one.
    expires: Option<Wall>,
}

/// Sends requests to one collector as one agent.
#[derive(Clone, Debug)]
pub struct Client {
    /// Replaced together with the certificate.
    http: Arc<RwLock<Http>>,
    base: String,
    secret: Option<String>,
    agent: AgentName,
    run: RunId,
    timeout: Duration,
    proxy: Option<ProxyUrl>,
    /// The clock exchange of the last hello, until it is sent to the collector.
    clocks: Arc<Mutex<Option<ClockExchange>>>,
}

impl Client {
    /// Makes a client of the collector at `base`, such as `http://10.1.11.10:8620`.
    pub fn new(base: &str, secret: Option<String>, agent: AgentName, run: RunId) -> Self {
        Self {
            http: Arc::new(RwLock::new(Http {
                agent: plain(None),
                expires: None,
            })),
            base: base.trim_end_matches('/').to_owned(),
            secret,
            agent,
            run,
            timeout: TIMEOUT,
            proxy: None,
            clocks: Arc::default(),
        }
    }

    /// Returns the client going through a proxy, or directly. Call it before adopting an
    /// identity.
    #[must_use]
    pub fn through(self, proxy: Option<ProxyUrl>) -> Self {
        let http = Http {
            agent: plain(proxy.as_ref()),
            expires: None,
        };
        Self {
            http: Arc::new(RwLock::new(http)),
            proxy,
            ..self
        }
    }

    /// Makes a client of the collector at `base`, such as `https://10.1.11.10:8621`, that proves
    /// its identity by a certificate.
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn with_identity(
        base: &str,
        identity: &Identity,
        agent: AgentName,
        run: RunId,
    ) -> Result<Self, IdentityError> {
        let client = Self::new(base, None, agent, run);
        client.adopt(identity)?;
        Ok(client)
    }

    /// Uses this identity from the next request on, in every clone; a request under way keeps
    /// the former one.
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn adopt(&self, identity: &Identity) -> Result<(), IdentityError> {
        let http = Http {
            agent: tls::agent(identity, self.proxy.as_ref())?,
            expires: Some(identity.not_after),
        };
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = http;
        Ok(())
    }

    fn http(&self) -> Agent {
        self.http
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .agent
            .clone()
    }

    /// Whether the certificate has expired, by this host's clock.
    fn is_expired(&self) -> bool {
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner);
        http.expires.is_some_and(|at| Clock::pair().wall >= at)
    }

    /// Asks for the next certificate.
    pub(crate) fn renew(&self, request: &str) -> Result<Certified, UplinkError> {
        let body = serde_json::to_vec(&RenewRequest {
            request: request.to_owned(),
        })
        .unwrap_or_default();
        let response = self.post(RENEW_PATH, CONTROL_TYPE, &body, self.timeout)?;
        let bytes = self.success(RENEW_PATH, response, body.len())?;
        self.json(RENEW_PATH, &bytes)
    }

    /// Abandons a request after `timeout` instead of 5 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns a seed that makes this agent's jitter differ from others'.
    pub(crate) fn seed(&self) -> u64 {
        self.run.0
    }

    /// Sends the hello, unless that was done.
    pub(super) fn greet_unless(&self, greeted: bool) -> Result<(), UplinkError> {
        if greeted {
            return Ok(());
        }
        let hello = Hello {
            agent: self.agent.clone(),
            run: self.run,
            version: ProgramVersion::cleaned(env!("CARGO_PKG_VERSION")),
            protocol: ProtocolRange::OURS,
        };
        let body = serde_json::to_vec(&hello).unwrap_or_default();
        let sent = Clock::pair().mono;
        let response = self.post(HELLO_PATH, CONTROL_TYPE, &body, self.timeout)?;
        let bytes = self.success(HELLO_PATH, response, body.len())?;
        let received = Clock::pair();
        let welcome: Welcome = self.json(HELLO_PATH, &bytes)?;
        let exchange = ClockExchange {
            run: self.run,
            sent,
            collector: welcome.now_ns,
            received,
        };
        // Takes the least possible difference, so that a slow answer is not taken for one.
        let (least, most) = exchange.ahead();
        let ahead = least.max(Span::ZERO) + most.min(Span::ZERO);
        check(&welcome, welcome.now_ns + ahead)?;
        *self.clocks() = Some(exchange);
        Ok(())
    }

    fn clocks(&self) -> MutexGuard<'_, Option<ClockExchange>> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the plan where it differs from `known`; the collector holds the request up to
    /// `hold`.
    pub(super) fn plan(
        &self,
        known: Option<&Revision>,
        hold: Duration,
    ) -> Result<Option<PlanResponse>, UplinkError> {
        let mut request = self
            .http()
            .get(format!("{}{PLAN_PATH}", self.base))
            .header(AGENT_HEADER, self.agent.as_str())
            .query(WAIT_QUERY, hold.as_secs().to_string());
        if let Some(secret) = &self.secret {
            request = request.header("authorization", bearer(secret));
        }
        if let Some(revision) = known {
            request = request.query(REVISION_QUERY, revision.to_string());
        }
        // Sent once: where the request fails, the agent sends a new hello.
        if let Some(exchange) = self.clocks().take() {
            request = request.header(EXCHANGE_HEADER, exchange.to_string());
        }
        let response = request
            .config()
            .timeout_global(Some(hold + self.timeout))
            .build()
            .call()
            .map_err(|e| self.unreachable(PLAN_PATH, e))?;
        if classify_response(response.status().as_u16(), b"") == Action::Unchanged {
            return Ok(None);
        }
        let bytes = self.success(PLAN_PATH, response, 0)?;
        self.json(PLAN_PATH, &bytes).map(Some)
    }

    /// Reports this agent's state.
    ///
    /// # Errors
    /// When the collector did not take it; an older collector knows no reports.
    pub(crate) fn report(&self, report: &AgentReport) -> Result<(), UplinkError> {
        let body = serde_json::to_vec(report).unwrap_or_default();
        let response = self.post(REPORT_PATH, CONTROL_TYPE, &body, self.timeout)?;
        if response.status() == 204 {
            return Ok(());
        }
        self.success(REPORT_PATH, response, body.len()).map(drop)
    }

    /// Delivers frames; may take `longer` more than a request's usual time.
    pub(super) fn deliver(&self, frames: &[u8], longer: Duration) -> Result<Ack, UplinkError> {
        let timeout = self.timeout + longer;
        let response = self.post(BLOCKS_PATH, FRAMES_TYPE, frames, timeout)?;
        let bytes = self.success(BLOCKS_PATH, response, frames.len())?;
        self.json(BLOCKS_PATH, &bytes)
    }

    fn post(
        &self,
        path: &str,
        kind: &str,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Response<Body>, UplinkError> {
        let mut request = self
            .http()
            .post(format!("{}{path}", self.base))
            .header("content-type", kind)
            .header(AGENT_HEADER, self.agent.as_str())
            .header(CLOCK_HEADER, Clock::pair().wall.as_nanos().to_string());
        if let Some(secret) = &self.secret {
            request = request.header("authorization", bearer(secret));
        }
        request
            .config()
            .timeout_global(Some(timeout))
            .build()
            .send(body)
            .map_err(|e| self.unreachable(path, e))
    }

    /// The body of a success; any other answer as its error.
    fn success(
        &self,
        path: &str,
        response: Response<Body>,
        sent: usize,
    ) -> Result<Vec<u8>, UplinkError> {
        success(&self.base, path, self.proxy.as_ref(), response, sent)
    }

    fn json<T: DeserializeOwned>(&self, path: &str, bytes: &[u8]) -> Result<T, UplinkError> {
        json(&self.base, path, bytes)
    }

    fn unreachable(&self, path: &str, source: ureq::Error) -> UplinkError {
        // The collector's refusal of an expired certificate may not arrive.
        if self.is_expired() && !matches!(source, ureq::Error::Timeout(_)) {
            return UplinkError::Expired;
        }
        failure(&self.base, path, self.proxy.as_ref(), source)
    }
}

/// Makes an HTTP agent without TLS.
fn plain(proxy: Option<&ProxyUrl>) -> Agent {
    Agent::config_builder()
        .proxy(proxy.and_then(ProxyUrl::for_library))
        .timeout_connect(Some(CONNECT))
        .http_status_as_error(false)
        .build()
        .into()
}

/// The body of a success; any other answer as its error.
fn success(
    base: &str,
    path: &str,
    proxy: Option<&ProxyUrl>,
    response: Response<Body>,
    sent: usize,
) -> Result<Vec<u8>, UplinkError> {
    let status = response.status().as_u16();
    let limit = u64::try_from(MAX_CONTROL_BYTES).unwrap_or(u64::MAX);
    let bytes = response
        .into_body()
        .into_with_config()
        .limit(limit)
        .read_to_vec()
        .map_err(|e| failure(base, path, proxy, e))?;
    match classify_response(status, &bytes) {
        Action::Accept => Ok(bytes),
        Action::SendLess => Err(UplinkError::TooLarge { bytes: sent }),
        Action::ComeAgain { error, remedy } => Err(UplinkError::Refused { error, remedy }),
        // No request expects this answer.
        Action::Unchanged | Action::NotACollector => Err(UplinkError::NotACollector {
            url: format!("{base}{path}"),
            status,
        }),
    }
}

fn json<T: DeserializeOwned>(base: &str, path: &str, bytes: &[u8]) -> Result<T, UplinkError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let url = format!("{base}{path}");
        match error.classify() {
            // JSON with unexpected content, as of a newer collector: for example a plan with
            // a setting that this agent would not follow.
            serde_json::error::Category::Data => UplinkError::Unreadable { url, error },
            _ => UplinkError::NotACollector { url, status: 200 },
        }
    })
}

/// Returns why a request got no answer.
fn failure(base: &str, path: &str, proxy: Option<&ProxyUrl>, source: ureq::Error) -> UplinkError {
    match tls::explain(&source) {
        Some(why) => UplinkError::Insecure {
            url: base.to_owned(),
            why,
        },
        None => UplinkError::Unreachable {
            url: match proxy {
                Some(proxy) => format!("{base}{path} by the proxy {proxy}"),
                None => format!("{base}{path}"),
            },
            source: Box::new(source),
        },
    }
}

/// Checks the collector's protocol version and clock. `now` is this host's wall clock.
fn check(welcome: &Welcome, now: Wall) -> Result<(), UplinkError> {
    let ours = ProtocolRange::OURS;
    if !(ours.oldest..=ours.newest).contains(&welcome.protocol) {
        return Err(UplinkError::Version {
            version: welcome.protocol,
        });
    }
    let ahead = now - welcome.now_ns;
    if ahead.abs() > CLOCKS_APART {
        let way = if ahead.is_negative() {
            "behind"
        } else {
            "ahead of"
        };
        warn!(
            "this host's clock is {} {way} the collector's; synchronise the two clocks (NTP)",
            ahead.abs()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
