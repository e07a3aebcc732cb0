//! Limits the requests of one peer: how often, how large, over how many connections and for
//! how long. A request beyond a limit is refused and counted by its cause, so that the
//! status tells a limit from a fault.

mod connections;
mod places;
mod rates;

pub(super) use connections::{Bounds, Connections, Ends, Seat, Visit};
pub(super) use places::{Place, Places};

use super::App;
use super::metrics::METRICS_PATH;
use super::reply::Failure;
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hopgap_proto::uplink::{ErrorCode, SLOWEST_BODY};
use rates::{Pace, Rates};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Rate of API requests by programs and people.
const API_PACE: Pace = Pace {
    every: Duration::from_millis(50),
    burst: 40,
};

/// Rate of agents' requests: many agents may share one address, and an agent that delivers a
/// backlog sends requests as fast as they are answered.
const UPLINK_PACE: Pace = Pace {
    every: Duration::from_millis(2),
    burst: 1_000,
};

/// Why a request or a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Too many requests from one peer.
    Rate,
    /// A body or a header that is too large.
    Body,
    /// Too many connections, of one peer or of all.
    Connections,
    /// A request that was not received, or an answer that was not read, in time.
    Time,
    /// A token that is absent, wrong or insufficient.
    Token,
    /// A request that a page of another site may have made.
    CrossSite,
}

impl Cause {
    const ALL: [Self; 6] = [
        Self::Rate,
        Self::Body,
        Self::Connections,
        Self::Time,
        Self::Token,
        Self::CrossSite,
    ];
}

/// Refusals since the start, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBody {
    /// Requests beyond the rate of their peer.
    pub rate: u64,
    /// Requests whose body or header was too large.
    pub body: u64,
    /// Connections beyond the limit of their peer or of all.
    pub connections: u64,
    /// Connections cut because a request was not received, or an answer not read, in time.
    pub time: u64,
    /// Requests to the API with a token that is absent, wrong or insufficient.
    pub token: u64,
    /// Requests to the API that a page of another site may have made.
    pub cross_site: u64,
}

impl fmt::Display for RefusedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rate {}, body {}, connections {}, time {}, token {}, cross-site {}",
            self.rate, self.body, self.connections, self.time, self.token, self.cross_site
        )
    }
}

/// The limits of one collector, and the counts of refusals.
#[derive(Debug)]
pub(super) struct Limits {
    api: Rates,
    /// Rates of clients that show a token.
    shown: Rates,
    uplink: Rates,
    counts: [AtomicU64; Cause::ALL.len()],
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            api: Rates::new(API_PACE),
            shown: Rates::new(API_PACE),
            uplink: Rates::new(UPLINK_PACE),
            counts: Default::default(),
        }
    }
}

impl Limits {
    /// Counts a refusal.
    pub(super) fn count(&self, cause: Cause) {
        // There is one for each cause: the look-up cannot fail.
        if let Some(count) = self.counts.get(cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the refusals so far.
    pub(super) fn refused(&self) -> RefusedBody {
        let [rate, body, connections, time, token, cross_site] =
            Cause::ALL.map(|cause| self.of(cause));
        RefusedBody {
            rate,
            body,
            connections,
            time,
            token,
            cross_site,
        }
    }

    fn of(&self, cause: Cause) -> u64 {
        self.counts
            .get(cause as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Takes one API request off the rate of a peer without a token, or refuses it.
    pub(super) fn pace_api(&self, peer: IpAddr) -> Result<(), Failure> {
        pace(&self.api, peer)
    }

    /// Takes one API request off the rate of a peer with a good token, or refuses it. Requests
    /// of others on the same host do not slow it down.
    pub(super) fn pace_shown(&self, peer: IpAddr) -> Result<(), Failure> {
        pace(&self.shown, peer)
    }
}

fn pace(rates: &Rates, peer: IpAddr) -> Result<(), Failure> {
    if rates.take(whose(peer), std::time::Instant::now()) {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Busy,
        "too many requests come from this address",
        "wait a second and ask less often",
    )
    .with_status(StatusCode::TOO_MANY_REQUESTS)
    .caused_by(Cause::Rate))
}

/// Returns the address that limits apply to: the /64 of an IPv6 address, because one host
/// may use all of it (RFC 4291 section 2.5.4).
fn whose(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Runs before all requests: limits agents' rate, counts refusals, and gives every answer the
/// headers that keep a browser from misusing it. The API limits its own rate after it has
/// judged the client, so that requests of another site's page do not use up the rate of the
/// people at that browser.
pub(super) async fn guard(
    State(app): State<App>,
    Extension(ends): Extension<Ends>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let paced = if path.starts_with("/api/") || path == METRICS_PATH {
        Ok(())
    } else {
        pace(&app.limits.uplink, ends.peer.ip())
    };
    let mut response = match paced {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    if let Some(cause) = response.extensions().get::<Cause>() {
        app.limits.count(*cause);
        tracing::debug!("a request of {} was refused: {cause:?}", ends.peer);
    }
    let status = response.status();
    let headers = response.headers_mut();
    for (name, value) in ANSWER_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Keep a browser from caching, sniffing, embedding or running an answer.
const ANSWER_HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
];

/// How long a body may take: a slow sender holds a place and memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// In total.
    pub(super) whole: Duration,
    /// How far it may lag behind [`SLOWEST_BODY`]: a path that is changing carries nothing for a
    /// while.
    pub(super) lag: Duration,
}

impl Patience {
    /// Returns the time after the body's start by which more than `received` bytes must have come.
    fn until_more_than(&self, received: usize) -> Duration {
        let slowest = u32::try_from(SLOWEST_BODY).unwrap_or(u32::MAX);
        let bytes = u32::try_from(received).unwrap_or(u32::MAX);
        let passed = Duration::from_secs(1).saturating_mul(bytes) / slowest;
        self.whole.min(self.lag + passed)
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read_body(
    mut body: Body,
    limit: usize,
    patience: Patience,
) -> Result<Bytes, Failure> {
    let too_large = || {
        Failure::new(
            ErrorCode::TooLarge,
            format!("the body is larger than {limit} bytes"),
            "send it in parts",
        )
    };
    // Refuses an announced length before the body is sent.
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |n| n > limit) {
        return Err(too_large());
    }
    let begun = Instant::now();
    let mut bytes = Vec::new();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let until = begun + patience.until_more_than(bytes.len());
        let Ok(frame) = timeout_at(until, next).await else {
            return Err(Failure::new(
                ErrorCode::Busy,
                format!(
                    "of the body no more than {} bytes came within {} s",
                    bytes.len(),
                    begun.elapsed().as_secs()
                ),
                "send it again",
            )
            .caused_by(Cause::Time));
        };
        let Some(frame) = frame else {
            return Ok(bytes.into());
        };
        let frame = frame.map_err(|error| {
            Failure::new(
                ErrorCode::Malformed,
                format!("the body broke off: {error}"),
                "send it again",
            )
        })?;
        // Ignores trailers, the only frames without data.
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests;
