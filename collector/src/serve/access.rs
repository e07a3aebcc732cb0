//! Decides who may use the API, and for what.
//!
//! There are two rights, to read and to operate: `GET` needs the first, everything else the
//! second. A request with a token has exactly that token's right. Without one, programs of
//! this host have both rights unless the plan says `token_required`; others have none.
//!
//! The danger on this host is browsers, which send what a page of any site tells them to.
//! Such requests are refused by headers that a page cannot choose: `Host` (RFC 9110 section
//! 7.2; a foreign name that resolves to this host is refused), `Origin` (RFC 6454) and
//! `Sec-Fetch-Site` (W3C Fetch Metadata). [`OURS_HEADER`] is also required: a page may send
//! it to another site only after an `OPTIONS` request, which is never granted.

use super::App;
use super::limits::{Cause, Ends, Patience, Visit, read_body};
use super::reply::Failure;
use crate::plan::{CollectorPlan, Secret, Tokens};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, VIA,
};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use hopgap_proto::uplink::{ErrorCode, secret_of};
use std::net::IpAddr;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Header of every request that changes something; its value does not matter.
pub(crate) const OURS_HEADER: &str = "x-hopgap";

/// The largest body that the API takes, in bytes.
const MOST_BODY: usize = 64 << 10;
/// How long receiving a body may take.
const BODY_TIME: Patience = Patience {
    whole: Duration::from_secs(10),
    lag: Duration::from_secs(10),
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// Read.
    Read,
    /// Read and change.
    Operate,
}

impl Right {
    /// Returns the right that a request needs.
    fn for_method(method: &Method) -> Self {
        if method.is_safe() {
            Self::Read
        } else {
            Self::Operate
        }
    }
}

/// Admits an API request, with its whole body, or refuses it.
pub(super) async fn let_in(
    State(app): State<App>,
    Extension(ends): Extension<Ends>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let plan = app.plan.borrow().clone();
    let asked = RequestContext {
        ends,
        method: &head.method,
        uri: &head.uri,
        headers: &head.headers,
    };
    asked.judge(&plan)?;
    let visit = head.extensions.get::<Visit>();
    // The token is good: otherwise the request would have been refused.
    if head.headers.contains_key(AUTHORIZATION) {
        if let Some(visit) = visit {
            visit.show_token();
        }
        app.limits.pace_shown(ends.peer.ip())?;
    } else if visit.is_some_and(Visit::needs_token) {
        return Err(busy());
    } else {
        app.limits.pace_api(ends.peer.ip())?;
    }
    let body = read_body(body, MOST_BODY, BODY_TIME).await?;
    let request = Request::from_parts(head, Body::from(body));
    Ok(next.run(request).await)
}

/// What kind of client sends an agent's request without TLS, as far as the request tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// A program that names this host.
    Program,
    /// A program that names another host. A browser that a page sent here looks the same.
    Elsewhere,
    /// A browser on behalf of a page: agents send no `Origin` and no `Sec-Fetch-Site`.
    Page,
}

/// Returns what kind of client sends an agent's request.
pub(super) fn asking(head: &Parts) -> Asking {
    let headers = &head.headers;
    if headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
        return Asking::Page;
    }
    let names_this_host = head.extensions.get::<Ends>().is_some_and(|ends| {
        let asked = RequestContext {
            ends: *ends,
            method: &head.method,
            uri: &head.uri,
            headers,
        };
        asked.names_this_host()
    });
    if names_this_host {
        Asking::Program
    } else {
        Asking::Elsewhere
    }
}

/// The parts of a request that access depends on, and the two ends of its connection.
#[derive(Clone, Copy, Debug)]
struct RequestContext<'a> {
    ends: Ends,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

impl RequestContext<'_> {
    fn judge(&self, plan: &CollectorPlan) -> Result<(), Failure> {
        self.not_across_sites()?;
        let needed = Right::for_method(self.method);
        let has = self.right(plan)?;
        if has < needed {
            return Err(Failure::new(
                ErrorCode::Forbidden,
                "this token is for looking only",
                "show the token for operating",
            )
            .caused_by(Cause::Token));
        }
        Ok(())
    }

    /// Returns the right that the request has.
    fn right(&self, plan: &CollectorPlan) -> Result<Right, Failure> {
        if self.headers.contains_key(AUTHORIZATION) {
            let given = self.one(&AUTHORIZATION).and_then(secret_of);
            return right_of(given.unwrap_or_default(), &plan.tokens).ok_or_else(|| {
                Failure::new(
                    ErrorCode::Unauthorized,
                    "this is no token of this collector",
                    "show the content of its `read_token_file` or `operate_token_file`",
                )
                .caused_by(Cause::Token)
            });
        }
        if !self.ends.are_here() || self.is_relayed() {
            return Err(if plan.tokens.any() {
                without_token("programs of other hosts")
            } else {
                Failure::new(
                    ErrorCode::Forbidden,
                    "drills and status are for programs on the collector's own host",
                    "run the command there, or give the collector an `operate_token_file` and show that token",
                )
                .caused_by(Cause::Token)
            });
        }
        // Before any error about tokens: a page that was sent here has none.
        if !self.names_this_host() {
            return Err(for_another_host());
        }
        if plan.settings.token_required {
            return Err(without_token("all programs"));
        }
        Ok(Right::Operate)
    }

    /// Whether a proxy forwarded the request: then the peer is not the client.
    fn is_relayed(&self) -> bool {
        [FORWARDED, X_FORWARDED_FOR, VIA]
            .iter()
            .any(|name| self.headers.contains_key(name))
    }

    /// Whether the request names this host: `localhost`, a loopback address, or the address that
    /// it came to. Ignores the port, which differs behind a tunnel.
    fn names_this_host(&self) -> bool {
        let host = self.host();
        let Some(name) = host.as_ref().map(Authority::host) else {
            return false;
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| {
                let address = address.to_canonical();
                address.is_loopback() || address == self.ends.local.ip()
            })
    }

    /// Returns the host and port that the request names. `None` where it names two that differ.
    fn host(&self) -> Option<Authority> {
        let host: Authority = self.one(&HOST)?.parse().ok()?;
        match self.uri.authority() {
            Some(other) if *other != host => None,
            _ => Some(host),
        }
    }

    /// Returns the value of a header that occurs exactly once.
    fn one(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        let alone = values.next().is_none();
        value.to_str().ok().filter(|_| alone)
    }

    /// Refuses a request that a page of another site may have made a browser send.
    fn not_across_sites(&self) -> Result<(), Failure> {
        let changes = !self.method.is_safe();
        if self.headers.contains_key(SEC_FETCH_SITE)
            && !matches!(self.one(&SEC_FETCH_SITE), Some("same-origin" | "none"))
        {
            return Err(across("a page of another site asks"));
        }
        if self.headers.contains_key(ORIGIN) && !self.is_same_origin() {
            return Err(across("a page of another origin asks"));
        }
        if changes && !self.headers.contains_key(OURS_HEADER) {
            return Err(across(&format!("the header `{OURS_HEADER}` is absent"))
                .with_remedy(&format!("send `{OURS_HEADER}: 1`")));
        }
        if changes && !self.is_json() {
            return Err(across("the content type is not application/json")
                .with_remedy("send JSON with the content type application/json")
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        Ok(())
    }

    fn is_same_origin(&self) -> bool {
        let origin = self.one(&ORIGIN).and_then(|origin| {
            let (scheme, authority) = origin.split_once("://")?;
            let authority: Authority = authority.parse().ok()?;
            matches!(scheme, "http" | "https").then_some(authority)
        });
        origin.is_some() && origin == self.host()
    }

    fn is_json(&self) -> bool {
        let essence = |value: &str| value.split(';').next().map(|kind| kind.trim().to_owned());
        self.one(&CONTENT_TYPE)
            .and_then(essence)
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
    }
}

/// Returns the right that a token gives. Compares it with both tokens in constant time, so
/// that the response time reveals nothing.
fn right_of(given: &str, tokens: &Tokens) -> Option<Right> {
    let is = |token: &Option<Secret>| {
        token
            .as_ref()
            .is_some_and(|token| bool::from(token.as_bytes().ct_eq(given.as_bytes())))
    };
    match (is(&tokens.operate), is(&tokens.read)) {
        (true, _) => Some(Right::Operate),
        (false, true) => Some(Right::Read),
        (false, false) => None,
    }
}

/// Refuses a client without a token where only the places for tokens are left.
fn busy() -> Failure {
    Failure::new(
        ErrorCode::Busy,
        "all places for requests without a token are taken",
        "ask again, or show a token, as with --token-file",
    )
    .caused_by(Cause::Connections)
}

fn without_token(who: &str) -> Failure {
    Failure::new(
        ErrorCode::Unauthorized,
        format!("{who} need a token here"),
        "show one, as with --token-file",
    )
    .caused_by(Cause::Token)
}

/// Refuses a request that names another host than this one.
pub(super) fn for_another_host() -> Failure {
    across("this host has another name than the request gives it")
}

pub(super) fn across(error: &str) -> Failure {
    Failure::new(
        ErrorCode::Forbidden,
        error,
        "ask with hopgap-collector, or by the address of this host",
    )
    .caused_by(Cause::CrossSite)
}

#[cfg(test)]
mod tests;
