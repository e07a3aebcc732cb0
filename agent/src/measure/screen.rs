//! Standard error as the place of the live line.

use super::live::Live;
use crate::output::Stream;
use hopgap_net::clock::Clock;
use std::io::Write as _;

/// Where nobody says how wide the terminal is.
const WIDTH: usize = 80;
/// Narrower terminals are written to as if they were so wide.
const LEAST: usize = 20;

/// Paints what [`Live`] says: on a terminal the line, with the dated lines above it; else the
/// dated lines alone.
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

    /// Paints what is due.
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

    /// Takes the line away; the dated lines stay. Nothing is sent any more, and silence is
    /// no event.
    pub(super) fn finish(&self) {
        if self.terminal {
            write("\r\x1b[K");
        }
    }
}

/// A terminal that is gone is no reason to end the measurement.
fn write(text: &str) {
    if !text.is_empty() {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

/// The terminal's width in columns, as it is now.
fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
        (size.ws_col > 0).then(|| usize::from(size.ws_col))
    };
    said.or_else(asked).unwrap_or(WIDTH).max(LEAST)
}
