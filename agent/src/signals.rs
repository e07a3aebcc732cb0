//! Stops the program in order: on signals, and when the reader of its output is gone.
//!
//! SIGINT and SIGTERM request the stop, and so does SIGHUP, which comes when the terminal or the
//! ssh session dies, often because of the very path under test. If SIGHUP was ignored at the
//! start, as `nohup` sets it, it stays ignored.

use crate::output::Stream;
use crate::session::Stop;
use hopgap_process::hang_up;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often to check that the reader of the output is still there.
const LOOK: Duration = Duration::from_millis(250);

/// What requests the stop besides signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlsoEnds {
    /// Nothing: a service outlives the reader of its log.
    Nothing,
    /// The other end of this stream, a pipe or socket, is closed.
    ReaderGone(Stream),
}

impl AlsoEnds {
    /// Ignores the reader if the stream is a terminal: a closing terminal sends SIGHUP, unless
    /// somebody prevented that (`disown`).
    fn unless_terminal(self) -> Self {
        match self {
            Self::ReaderGone(stream) if stream.is_terminal() => Self::Nothing,
            other => other,
        }
    }
}

/// Requests the stop at the first SIGINT, SIGTERM or SIGHUP. A second SIGINT or SIGTERM ends the
/// process at once, as by default: a user who presses Ctrl-C twice means it. A second SIGHUP does
/// not: a dying session sends it more than once, and after SIGTERM.
///
/// # Errors
/// When the handler's thread or runtime cannot be set up.
pub fn end_in_order(stop: &Stop, also: AlsoEnds) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let handlers = {
        let _inside = runtime.enter();
        Handlers {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: match hang_up::is_ignored() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
            also: also.unless_terminal(),
        }
    };
    let stop = stop.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(handlers.follow(&stop)))?;
    Ok(())
}

/// What requested the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopSignal {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP, or the reader of the output is gone.
    LeftAlone,
}

struct Handlers {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: Option<tokio::signal::unix::Signal>,
    also: AlsoEnds,
}

impl Handlers {
    async fn follow(mut self, stop: &Stop) {
        let mut insisted = false;
        loop {
            let asked = self.next().await;
            stop.request();
            // Exit codes as shells report a signal: 128 plus its number.
            match asked {
                StopSignal::Interrupt if insisted => std::process::exit(130),
                StopSignal::Terminate if insisted => std::process::exit(143),
                StopSignal::Interrupt | StopSignal::Terminate => insisted = true,
                StopSignal::LeftAlone => {}
            }
        }
    }

    async fn next(&mut self) -> StopSignal {
        let Self {
            interrupt,
            terminate,
            hang_up,
            also,
        } = self;
        let hung_up = async {
            match hang_up {
                Some(hang_up) => drop(hang_up.recv().await),
                None => std::future::pending().await,
            }
        };
        let left = async {
            match *also {
                AlsoEnds::Nothing => std::future::pending().await,
                AlsoEnds::ReaderGone(stream) => {
                    while !stream.reader_is_gone() {
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
        };
        tokio::select! {
            _ = interrupt.recv() => StopSignal::Interrupt,
            _ = terminate.recv() => StopSignal::Terminate,
            () = hung_up => StopSignal::LeftAlone,
            () = left => {
                // Report it only once.
                *also = AlsoEnds::Nothing;
                StopSignal::LeftAlone
            }
        }
    }
}
