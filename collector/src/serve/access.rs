//! Who may ask the API, and for what.
//!
//! Looking and operating are two rights: `GET` needs the first, all else the second.
//! Whoever shows a token has the token's right and no other. Without one, programs of this
//! host have both unless the plan says `token_required`; nobody else has any.
//!
//! Browsers are the danger on this host: they send what a page of any site tells them to.
//! Such a page is turned away by what a browser does not let it choose: `Host` (RFC 9110
//! section 7.2; a name that was made to lead here is no name of this host), `Origin` (RFC
//! 6454), `Sec-Fetch-Site` (W3C Fetch Metadata), and by [`OURS_HEADER`], which a page may
//! send to another site only after asking by an `OPTIONS` that is never granted.

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

/// Header of every request that changes something; its value says nothing.
pub(crate) const OURS_HEADER: &str = "x-hopgap";

/// The largest body that the API takes, in bytes.
const MOST_BODY: usize = 64 << 10;
/// How long a body may take to come.
const BODY_TIME: Patience = Patience {
    whole: Duration::from_secs(10),
    lag: Duration::from_secs(10),
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What one may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// Look.
    Read,
    /// Look and change.
    Operate,
}

impl Right {
    /// What a request needs.
    fn for_method(method: &Method) -> Self {
        if method.is_safe() {
            Self::Read
        } else {
            Self::Operate
        }
    }
}

/// Lets a request of the API in, with its whole body, or turns it away.
pub(super) async fn let_in(
    State(app): State<App>,
    Extension(ends): Extension<Ends>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let plan = app.plan.borrow().clone();
    let asked = Asked {
        ends,
        method: &head.method,
        uri: &head.uri,
        headers: &head.headers,
    };
    asked.judge(&plan)?;
    let visit = head.extensions.get::<Visit>();
    // What was shown is good, or it would have been turned away.
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

/// Who asks as an agent without TLS, as far as the request tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// A program, for this host.
    Program,
    /// A program, for a host of another name: a browser that a page led here looks so, too.
    Elsewhere,
    /// A browser, for a page: agents send no `Origin` and no `Sec-Fetch-Site`.
    Page,
}

/// Who asks as an agent.
pub(super) fn asking(head: &Parts) -> Asking {
    let headers = &head.headers;
    if headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
        return Asking::Page;
    }
    let names_this_host = head.extensions.get::<Ends>().is_some_and(|ends| {
        let asked = Asked {
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

/// What a request says of itself, and where it comes from.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    ends: Ends,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

impl Asked<'_> {
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

    /// The right that the request has.
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
        // Before tokens are spoken of: a page that was led here has none to show.
        if !self.names_this_host() {
            return Err(for_another_host());
        }
        if plan.settings.token_required {
            return Err(without_token("all programs"));
        }
        Ok(Right::Operate)
    }

    /// Whether somebody else passed the request on: then who asks is not the peer.
    fn is_relayed(&self) -> bool {
        [FORWARDED, X_FORWARDED_FOR, VIA]
            .iter()
            .any(|name| self.headers.contains_key(name))
    }

    /// Whether the request was meant for this host: for `localhost`, a loopback address, or
    /// the address that it came to. The port is another one behind a tunnel.
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

    /// Host and port that the request is for; where it names two, they must agree.
    fn host(&self) -> Option<Authority> {
        let host: Authority = self.one(&HOST)?.parse().ok()?;
        match self.uri.authority() {
            Some(other) if *other != host => None,
            _ => Some(host),
        }
    }

    /// The value of a header that is there once.
    fn one(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        let alone = values.next().is_none();
        value.to_str().ok().filter(|_| alone)
    }

    /// Refuses what a page of another site may have made a browser send.
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

/// The right that a token gives. Both are compared, in constant time, so that the answer's
/// time says nothing.
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

/// Refuses who came when only the places for those with a token were left.
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
