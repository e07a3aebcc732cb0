//! Where a request comes from, and how it proves its identity.

use super::App;
use super::access::{Asking, asking};
use super::reply::Failure;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use hopgap_proto::uplink::{ErrorCode, Fingerprint};
use std::net::{IpAddr, SocketAddr};

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    address: SocketAddr,
    /// How its request came.
    pub(super) way: Way,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Without TLS: a secret may prove the client's identity.
    Plain(Asking),
    /// By TLS, with a certificate that the authority signed, or without one.
    Tls(Option<Fingerprint>),
}

impl Peer {
    /// By TLS.
    pub(super) fn by_tls(address: SocketAddr, certificate: Option<Fingerprint>) -> Self {
        Self {
            address,
            way: Way::Tls(certificate),
        }
    }

    /// Returns its address; an IPv4 address is not mapped to IPv6.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

impl FromRequestParts<App> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        if let Some(peer) = parts.extensions.get::<Self>() {
            return Ok(*peer);
        }
        let plain = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        plain
            .map(|ConnectInfo(address)| Self {
                address: *address,
                way: Way::Plain(asking(parts)),
            })
            .ok_or_else(|| {
                Failure::new(
                    ErrorCode::Other,
                    "the collector does not know where the request comes from",
                    "this is a fault of the collector: report it",
                )
            })
    }
}
