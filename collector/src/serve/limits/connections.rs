//! Connections: limits how many one peer and all peers may hold, and how long each phase
//! may take. Speaks HTTP/1.1 over any stream, so that TLS can be below it.

mod phase;
mod room;

use super::{Cause, Limits};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use phase::{Observed, Phase};
use room::Room;
pub(in crate::serve) use room::{Seat, Visit};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Largest header of a request, and most that is read ahead, in bytes.
const HEADER_BYTES: usize = 64 << 10;
/// Pause after a failure to accept, for example without a free file descriptor.
const PAUSE: Duration = Duration::from_secs(1);

/// The two ends of a connection; IPv4 addresses are not mapped to IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Ends {
    /// The client's address.
    pub(in crate::serve) peer: SocketAddr,
    /// The address of this host that it connected to.
    pub(in crate::serve) local: SocketAddr,
}

impl Ends {
    /// Returns the ends of an accepted connection.
    pub(in crate::serve) fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        Self {
            peer: canonical(peer),
            local: canonical(local),
        }
    }

    /// Whether both are on this host. A packet from outside cannot fake this: the kernel drops
    /// incoming packets whose source is one of the host's own addresses.
    pub(in crate::serve) fn are_here(&self) -> bool {
        let (peer, local) = (self.peer.ip(), self.local.ip());
        (peer.is_loopback() && local.is_loopback()) || peer == local
    }
}

/// How many connections there may be, and how long their phases may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct Bounds {
    /// Connections from other hosts at a time. Connections of this host count separately, so
    /// that other hosts cannot keep its people out.
    pub(in crate::serve) all: usize,
    /// Connections of this host at a time, whatever addresses they come from.
    pub(in crate::serve) all_here: usize,
    /// Connections of one peer at a time.
    pub(in crate::serve) of_one: usize,
    /// How long each phase may take.
    pub(in crate::serve) times: Times,
}

/// How long each phase of a connection may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct Times {
    /// From the first byte of a request, or from the acceptance of the connection, to the end
    /// of the request's header.
    pub(in crate::serve) header: Duration,
    /// Between two requests.
    pub(in crate::serve) idle: Duration,
    /// From the end of a header to the answer. A bound for everything without its own: a body
    /// has the one of [`super::read_body`], a plan is held for a minute.
    pub(in crate::serve) request: Duration,
    /// Until the peer has read the answer.
    pub(in crate::serve) answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            all: 512,
            all_here: 256,
            of_one: 64,
            times: Times {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(60),
                request: Duration::from_secs(180),
                answer: Duration::from_secs(30),
            },
        }
    }
}

impl Bounds {
    /// Returns the usual bounds, lowered where the process may open few files: the connections
    /// of two listeners leave more than half of the files to everything else.
    pub(in crate::serve) fn within_files(limit: u64) -> Self {
        let usual = Self::default();
        let share = |parts: u64| usize::try_from(limit / parts).unwrap_or(usize::MAX).max(1);
        Self {
            all: usual.all.min(share(8)),
            all_here: usual.all_here.min(share(16)),
            of_one: usual.of_one.min(share(32)),
            ..usual
        }
    }
}

/// The connections of one listener. A second listener has its own places, so that filling
/// one listener leaves the other's free.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Connections {
    bounds: Bounds,
    limits: Arc<Limits>,
    room: Room,
}

impl Connections {
    /// Counts refusals in `limits`.
    pub(in crate::serve) fn new(limits: Arc<Limits>, bounds: Bounds) -> Self {
        Self {
            bounds,
            limits,
            room: Room::new(bounds),
        }
    }

    /// Returns a place for a connection, to be held while the connection is open. `None` where
    /// its peer or all peers have too many, no connection is waiting and no kept place is free.
    /// Counts a refusal, and a connection that is cut for this one.
    pub(in crate::serve) fn admit(&self, ends: Ends) -> Option<Seat> {
        let admitted = self.room.admit(ends, Instant::now());
        if admitted
            .as_ref()
            .is_none_or(|(_, one_was_cut)| *one_was_cut)
        {
            self.limits.count(Cause::Connections);
        }
        if admitted.is_none() {
            tracing::debug!("a connection of {} was refused", ends.peer);
        }
        admitted.map(|(seat, _)| seat)
    }

    /// Answers without TLS until `stopping`, then waits until requests have finished.
    pub(in crate::serve) async fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        mut stopping: channel::Receiver<bool>,
    ) {
        let mut running = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = running.join_next() => continue,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Without a place, closes the connection at once.
                    let Some(seat) = self.seat_for(&stream, peer) else {
                        continue;
                    };
                    let (these, router) = (self.clone(), router.clone());
                    let stopping = stopping.clone();
                    running.spawn(async move {
                        these.answer(stream, seat, router, stopping).await;
                    });
                }
                // Only that connection failed.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!("cannot accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        while running.join_next().await.is_some() {}
    }

    fn seat_for(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Seat> {
        // A connection without a local address is already closed.
        let ends = Ends::new(peer, stream.local_addr().ok()?);
        let seat = self.admit(ends)?;
        // Sends small answers at once.
        let _ = stream.set_nodelay(true);
        Some(seat)
    }

    /// Answers the requests of one connection until it ends, a phase takes too long, a newcomer
    /// takes its place, or, after `stopping`, its request has finished. Requests carry [`Ends`]
    /// and [`Visit`].
    pub(in crate::serve) async fn answer<S>(
        &self,
        stream: S,
        seat: Seat,
        router: Router,
        mut stopping: channel::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (ends, progress) = (seat.ends, seat.progress.clone());
        let visit = seat.visit().clone();
        let stream = Observed::new(stream, progress.clone());
        let asked = progress.clone();
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            asked.enter(Phase::Handling);
            request.extensions_mut().insert(ends);
            request.extensions_mut().insert(visit.clone());
            request.extensions_mut().insert(ConnectInfo(ends.peer));
            let answering = router.call(request);
            let asked = asked.clone();
            async move {
                let answer = answering.await;
                asked.enter(Phase::Answering);
                answer
            }
        });
        let connection = http1::Builder::new()
            .max_header_size(HEADER_BYTES)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut overdue = pin!(progress.overdue(self.bounds.times));
        let stopped = async move {
            // When the sender is gone, so is the service.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let mut ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            phase = overdue.as_mut() => return self.cut(ends, phase),
            () = seat.taken() => return,
            () = stopped => None,
        };
        if ended.is_none() {
            connection.as_mut().graceful_shutdown();
            ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                phase = overdue.as_mut() => return self.cut(ends, phase),
            };
        }
        if let Some(Err(error)) = ended {
            if error.is_parse_too_large() {
                self.limits.count(Cause::Body);
            }
            tracing::debug!("a connection of {} broke: {error}", ends.peer);
        }
    }

    fn cut(&self, ends: Ends, phase: Phase) {
        // An idle connection is not refused: it did nothing wrong.
        if phase != Phase::Idle {
            self.limits.count(Cause::Time);
        }
        tracing::debug!("a connection of {} was cut: {phase:?}", ends.peer);
    }
}

/// Whether a failure to accept concerns only the connection, not this host.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[cfg(test)]
mod tests;
