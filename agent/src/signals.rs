//! Ending in order: on signals, and when whoever reads the output has gone.
//!
//! SIGINT and SIGTERM ask for the end, and so does SIGHUP, which comes when the terminal or
//! the ssh session dies, often with the very path under test. Where SIGHUP was ignored at
//! the start, as `nohup` makes it, it stays ignored.

use crate::output::Stream;
use crate::session::Stop;
use hopgap_process::hang_up;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often it is looked whether whoever reads the output is still there.
const LOOK: Duration = Duration::from_millis(250);

/// What asks for the end beside signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlsoEnds {
    /// Nothing: a service outlives whoever reads its log.
    Nothing,
    /// That nobody reads this stream any more: a pipe or socket whose other end is closed.
    ReaderGone(Stream),
}

impl AlsoEnds {
    /// A terminal that goes sends SIGHUP, unless somebody wanted it otherwise (`disown`).
    fn unless_terminal(self) -> Self {
        match self {
            Self::ReaderGone(stream) if stream.is_terminal() => Self::Nothing,
            other => other,
        }
    }
}

/// Requests the stop at the first SIGINT, SIGTERM or SIGHUP. The second SIGINT or SIGTERM
/// ends the process at once, as the default does: whoever presses Ctrl-C twice means it.
/// SIGHUP never does: a dying session sends it more than once, and after SIGTERM.
///
/// # Errors
/// When the handler's thread or runtime cannot be had.
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

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopSignal {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP, or nobody reads on.
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
            // As shells report an end by a signal: 128 and its number.
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
                // Once is enough.
                *also = AlsoEnds::Nothing;
                StopSignal::LeftAlone
            }
        }
    }
}
