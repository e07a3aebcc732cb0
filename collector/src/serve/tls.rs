//! The agents' listener: TLS 1.3, each agent with its certificate.
//!
//! A client without a certificate can only join, within a short time and in few places, so
//! that strangers cannot keep agents out.

use super::limits::{Connections, Ends, Place, Places, Seat};
use super::peer::Peer;
use crate::clock;
use crate::identity::{Authority, IdentityError, ServerNameText, provider, server_names};
use crate::plan::CollectorPlan;
use axum::{Extension, Router};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::Fingerprint;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection without a certificate lasts, after its handshake.
const STRANGER: Duration = Duration::from_secs(15);
/// Connections in their handshake or without a certificate, at a time.
const MOST_STRANGERS: usize = 64;
/// The same for one peer: one silent host must not keep others from their handshakes. Each
/// host of the plan has this many of its own, which do not count towards those of all: an
/// agent finds a place however many strangers come.
const MOST_STRANGERS_OF_ONE: usize = 8;
/// How often the names of this host and the age of the certificate are checked.
const LOOK: Duration = Duration::from_secs(10);
/// Pause after a failure to accept, for example without a free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Counts connections since the start, by outcome.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) unknown_tokens: AtomicU64,
}

/// Counts of agents' TLS connections since the start, by outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsBody {
    /// Handshakes that succeeded.
    pub accepted: u64,
    /// Handshakes that failed: no TLS 1.3, or a certificate of another authority.
    pub failed: u64,
    /// Handshakes that took too long.
    pub timed_out: u64,
    /// Connections refused because there were too many.
    pub over_limit: u64,
    /// Attempts to join with a token that this collector did not make.
    pub unknown_tokens: u64,
}

impl Counts {
    /// Returns the present counts.
    pub(super) fn body(&self) -> TlsBody {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TlsBody {
            accepted: read(&self.accepted),
            failed: read(&self.failed),
            timed_out: read(&self.timed_out),
            over_limit: read(&self.over_limit),
            unknown_tokens: read(&self.unknown_tokens),
        }
    }
}

pub(super) fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}

/// The collector's own certificate, replaced while it serves.
#[derive(Debug)]
struct Certificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.0.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// A TLS server's configuration and its certificate.
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
    made: CertificateInfo,
}

/// The names, time and life that a certificate was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateInfo {
    names: Vec<ServerNameText>,
    at: Wall,
    life: Span,
}

impl CertificateInfo {
    /// Whether a new certificate is due: after two thirds of its life, where the names changed,
    /// or where the clock was set back to before its making.
    pub(super) fn is_over(&self, names: &[ServerNameText], now: Wall) -> bool {
        self.names != names || now < self.at || now - self.at >= self.life * 2 / 3
    }
}

impl Tls {
    /// Makes a configuration with a certificate for this host's present names. Where the
    /// addresses cannot be read, the certificate lacks them until [`Tls::keep`] can read them.
    pub(super) fn new(authority: &Authority, plan: &CollectorPlan) -> Result<Self, IdentityError> {
        let names = server_names(&plan.server_names()).unwrap_or_else(|error| {
            tracing::error!(
                "{error}; the certificate has no addresses of this host until they can be read"
            );
            error.known
        });
        let made = CertificateInfo {
            names,
            at: clock::now(),
            life: plan.settings.certificate_life,
        };
        let key = authority.server(&made.names, made.at, made.life)?;
        let certificate = Arc::new(Certificate(RwLock::new(Arc::new(key))));
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificate,
            made,
        })
    }

    /// Renews the certificate when it is due, until the sender of plans is gone.
    pub(super) fn keep(
        &self,
        authority: Arc<Authority>,
        mut plan: channel::Receiver<Arc<CollectorPlan>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let certificate = self.certificate.clone();
        let mut made = self.made.clone();
        async move {
            loop {
                // Checks more often where the life is short, as in tests.
                let look = (made.life / 10).to_std().map_or(LOOK, |l| l.min(LOOK));
                // Also checks after a change of the plan, which may change the names.
                if let Ok(Err(_)) = timeout(look, plan.changed()).await {
                    return;
                }
                let current = plan.borrow_and_update().clone();
                let now = clock::now();
                let names = match server_names(&current.server_names()) {
                    Ok(names) => names,
                    Err(error) => {
                        tracing::error!("{error}; the certificate before stays");
                        continue;
                    }
                };
                if !made.is_over(&names, now) {
                    continue;
                }
                let life = current.settings.certificate_life;
                match authority.server(&names, now, life) {
                    Ok(key) => {
                        *certificate
                            .0
                            .write()
                            .unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                        made = CertificateInfo {
                            names,
                            at: now,
                            life,
                        };
                        tracing::info!("the collector's own certificate is renewed");
                    }
                    Err(error) => tracing::error!("{error}; the certificate before stays"),
                }
            }
        }
    }

    /// Accepts until `stopping`, then waits until requests have finished.
    pub(super) async fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        counts: Arc<Counts>,
        connections: &Connections,
        plan: channel::Receiver<Arc<CollectorPlan>>,
        mut stopping: channel::Receiver<bool>,
    ) {
        let acceptor = TlsAcceptor::from(self.config.clone());
        let mut running = JoinSet::new();
        let strangers = Places::new(MOST_STRANGERS, MOST_STRANGERS_OF_ONE);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = running.join_next() => continue,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!("cannot accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // A connection without a local address is already closed.
            let Ok(local) = stream.local_addr() else {
                continue;
            };
            let ends = Ends::new(address, local);
            let peer = ends.peer.ip();
            let is_stranger = !is_in(&plan.borrow(), peer);
            let stranger = strangers.admit(peer, is_stranger);
            let (Some(stranger), Some(seat)) = (stranger, connections.admit(ends)) else {
                count(&counts.over_limit);
                continue;
            };
            let connection = Connection {
                ends,
                seat,
                connections: connections.clone(),
                router: router.clone(),
                counts: counts.clone(),
                stopping: stopping.clone(),
            };
            let acceptor = acceptor.clone();
            running.spawn(connection.run(acceptor, stream, stranger));
        }
        // Each connection ends when its request has finished.
        while running.join_next().await.is_some() {}
    }
}

/// Whether the plan has an agent at this address. A host off the path cannot complete a
/// handshake from a forged address.
fn is_in(plan: &CollectorPlan, peer: IpAddr) -> bool {
    let mut agents = plan.plan.agents.iter();
    agents.any(|agent| agent.address.to_canonical() == peer)
}

struct Connection {
    ends: Ends,
    /// Its place, freed when the connection ends.
    seat: Seat,
    connections: Connections,
    router: Router,
    counts: Arc<Counts>,
    stopping: channel::Receiver<bool>,
}

impl Connection {
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream, stranger: Place) {
        let address = self.ends.peer;
        // Sends small answers at once.
        let _ = stream.set_nodelay(true);
        let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                count(&self.counts.failed);
                tracing::debug!("a TLS handshake of {address} failed: {error}");
                return;
            }
            Err(_) => {
                count(&self.counts.timed_out);
                tracing::debug!("a TLS handshake of {address} took too long");
                return;
            }
        };
        count(&self.counts.accepted);
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| Fingerprint::of(certificate));
        let peer = Peer::by_tls(address, certificate);
        if certificate.is_some() {
            drop(stranger);
            self.seat.visit().show_token();
            self.answer(stream, peer).await;
        } else {
            let _ = timeout(STRANGER, self.answer(stream, peer)).await;
            drop(stranger);
        }
    }

    async fn answer(self, stream: TlsStream<TcpStream>, peer: Peer) {
        let router = self.router.layer(Extension(peer));
        self.connections
            .answer(stream, self.seat, router, self.stopping)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::CertificateInfo;
    use hopgap_proto::time::{Span, Wall};

    #[test]
    fn the_collectors_own_certificate_is_renewed_in_time_and_for_new_names() {
        let at = |seconds| Wall::ZERO + Span::from_secs(seconds);
        let names = |text: &str| vec![text.parse().unwrap()];
        let made = CertificateInfo {
            names: names("10.1.11.10"),
            at: at(1000),
            life: Span::from_secs(90),
        };
        assert!(!made.is_over(&names("10.1.11.10"), at(1059)));
        assert!(made.is_over(&names("10.1.11.10"), at(1060)));
        assert!(made.is_over(&names("10.1.11.11"), at(1001)));
        assert!(made.is_over(&names("10.1.11.10"), at(999)));
    }
}
