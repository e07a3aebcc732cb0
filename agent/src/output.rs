//! Standard output, whose reader may have seen enough.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

/// Writes `text`. A reader that went away, such as `head`, is told from success by
/// [`ErrorKind::BrokenPipe`]; [`quiet`] makes it one.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
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
