//! Standard error as the place of the live line.

use super::live::Live;
use crate::output::Stream;
use hopgap_net::clock::Clock;
use std::io::Write as _;

/// Width where that of the terminal is unknown, in columns.
const WIDTH: usize = 80;
/// Least width in columns; narrower terminals are written to as if they had it.
const LEAST: usize = 20;

/// Shows the output of [`Live`]: on a terminal the line, with the dated lines above it; else
/// only the dated lines.
pub(super) struct Screen {
    live: Live,
    terminal: bool,
}

impl Screen {
    pub(super) fn new(live: Live) -> Self {
        Self {
            live,
            terminal: Stream::Error.is_terminal(),
        }
    }

    pub(super) fn live(&mut self) -> &mut Live {
        &mut self.live
    }

    /// Shows what is due.
    pub(super) fn show(&mut self) {
        let now = Clock::pair();
        let mut painted = String::new();
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        for event in self.live.events(now) {
            painted.push_str(&format!("{clear}{event}\n"));
        }
        if self.terminal
            && let Some(line) = self.live.due(now.mono, width())
        {
            painted.push_str(&format!("{clear}{line}"));
        }
        write(&painted);
    }

    /// Removes the line and keeps the dated lines. No new events: nothing is sent any more, so
    /// silence means nothing.
    pub(super) fn finish(&self) {
        if self.terminal {
            write("\r\x1b[K");
        }
    }
}

/// Writes a text; ignores errors, so that the measurement goes on without a terminal.
fn write(text: &str) {
    if !text.is_empty() {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

/// Returns the terminal's present width in columns.
fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
        (size.ws_col > 0).then(|| usize::from(size.ws_col))
    };
    said.or_else(asked).unwrap_or(WIDTH).max(LEAST)
}
