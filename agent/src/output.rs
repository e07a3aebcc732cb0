//! Standard output and standard error, whose readers may have seen enough.

use hopgap_proto::printable::{Lines, OneLine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

/// One of the two streams that are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    /// Whether the stream is a terminal.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Output => io::stdout().is_terminal(),
            Self::Error => io::stderr().is_terminal(),
        }
    }

    /// Whether the stream is a pipe or a socket whose other end is closed. A file has no
    /// reader to lose.
    pub fn reader_is_gone(self) -> bool {
        let (output, error) = (io::stdout(), io::stderr());
        // Nothing is waited for but what always comes: errors.
        let mut fds = [match self {
            Self::Output => PollFd::new(&output, PollFlags::empty()),
            Self::Error => PollFd::new(&error, PollFlags::empty()),
        }];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let gone = PollFlags::ERR | PollFlags::HUP;
        poll(&mut fds, Some(&at_once)).is_ok_and(|_| fds[0].revents().intersects(gone))
    }
}

/// Says something beside the results, on standard error. Whoever closed it does not want
/// to know.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", Lines(text));
}

/// Writes `text`, in which nothing moves a terminal's cursor. A reader that went away, such
/// as `head`, is told from success by
/// [`ErrorKind::BrokenPipe`]; [`quiet`] makes it one.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(Lines(text).to_string().as_bytes())?;
    out.flush()
}

/// The fields of a log: an event is one line, and what it quotes moves no cursor.
pub fn one_line_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|to, field, value| match field.name() {
        "message" => write!(to, "{}", OneLine(format_args!("{value:?}"))),
        name => write!(to, "{name}={}", OneLine(format_args!("{value:?}"))),
    })
    .delimited(" ")
}

/// That nobody reads on is a quiet end, and no failure.
///
/// # Errors
/// All others.
pub fn quiet(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Whether what is logged to standard error may have colours: on a terminal, unless
/// `NO_COLOR` says otherwise (<https://no-color.org>).
pub fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    io::stderr().is_terminal() && !unwanted
}

#[cfg(test)]
mod tests {
    use super::quiet;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_closed_pipe_is_a_quiet_end_and_a_full_disk_is_not() {
        assert!(quiet(Err(Error::from(ErrorKind::BrokenPipe))).is_ok());
        assert!(quiet(Err(Error::from(ErrorKind::StorageFull))).is_err());
    }
}
