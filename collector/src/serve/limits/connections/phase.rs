//! Tracks the phase of a connection from its stream and its requests.

use super::Times;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch as channel;
use tokio::time::{Instant, timeout_at};

/// A phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is open; nothing has come yet.
    Opened,
    /// The first bytes of a header have come.
    Header,
    /// The whole header has come; the body may be coming, the answer is being made.
    Handling,
    /// The answer is on its way.
    Answering,
    /// The answer was read; nothing has come since.
    Idle,
}

impl Phase {
    fn time(self, times: &Times) -> std::time::Duration {
        match self {
            Self::Opened | Self::Header => times.header,
            Self::Handling => times.request,
            Self::Answering => times.answer,
            Self::Idle => times.idle,
        }
    }
}

/// The phase of one connection, and since when.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Progress(Arc<channel::Sender<(Phase, Instant)>>);

impl Progress {
    /// Returns the progress of a connection that was just accepted.
    pub(super) fn begin() -> Self {
        Self(Arc::new(channel::Sender::new((
            Phase::Opened,
            Instant::now(),
        ))))
    }

    /// Begins a new phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.0.send_replace((phase, Instant::now()));
    }

    /// Returns the phase and when it began.
    pub(super) fn now(&self) -> (Phase, Instant) {
        *self.0.borrow()
    }

    /// Notes that bytes have come. Bytes of a body, and of a pipelined request, begin no phase.
    fn heard(&self) {
        self.0.send_if_modified(|(phase, since)| match phase {
            // The time for the first header runs from the opening of the connection.
            Phase::Opened => {
                *phase = Phase::Header;
                true
            }
            Phase::Idle => {
                *phase = Phase::Header;
                *since = Instant::now();
                true
            }
            _ => false,
        });
    }

    /// Notes that everything written was sent.
    fn flushed(&self) {
        self.0.send_if_modified(|(phase, since)| {
            let done = *phase == Phase::Answering;
            if done {
                *phase = Phase::Idle;
                *since = Instant::now();
            }
            done
        });
    }

    /// Completes with the phase that takes longer than it may.
    pub(super) fn overdue(&self, times: Times) -> impl Future<Output = Phase> + use<> {
        let mut progress = self.0.subscribe();
        async move {
            loop {
                let (phase, since) = *progress.borrow_and_update();
                let until = since + phase.time(&times);
                match timeout_at(until, progress.changed()).await {
                    Ok(Ok(())) => {}
                    // The connection has ended.
                    Ok(Err(_)) => std::future::pending().await,
                    Err(_) => return phase,
                }
            }
        }
    }
}

/// A stream that reports reads and writes to the progress.
pub(super) struct Observed<S> {
    stream: S,
    progress: Progress,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, progress: Progress) -> Self {
        Self { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.heard();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.progress.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
