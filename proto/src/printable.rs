//! Text from elsewhere, made safe for people to read.
//!
//! Text of another program (a version, an error, a name) can hold escape codes that move a
//! terminal's cursor, line breaks that forge a line of a log, and bidirectional controls that
//! make a line read as another one. Each such character is shown by its number, as JSON
//! writes it (RFC 8259 section 7): `\u001b`. So JSON that passes here stays the same JSON.
//!
//! [`OneLine`] is for a field: a cell of a table, a part of a sentence, a line of a log.
//! [`Lines`] is for a whole output that has its own line breaks; every command of both
//! programs writes through it.

use core::fmt::{self, Display, Formatter, Write};

/// Shows a value on one line.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<T>(pub T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if f.width().is_some() {
            // The width of a column counts the text as shown.
            return f.pad(&one_line(&self.0.to_string()));
        }
        write!(Cleaner { to: f, keep: "" }, "{}", self.0)
    }
}

/// Shows a text whose line breaks and tabs are its own.
#[derive(Clone, Copy, Debug)]
pub struct Lines<T>(pub T);

impl<T: Display> Display for Lines<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            Cleaner {
                to: f,
                keep: "\n\t"
            },
            "{}",
            self.0
        )
    }
}

/// [`OneLine`] as a text.
pub fn one_line(text: &str) -> String {
    OneLine(text).to_string()
}

/// Whether a character shows itself and nothing else: it is no control (C0 or C1), no
/// invisible formatting or bidirectional control (Unicode's category Cf), no line or
/// paragraph separator, and no character without a meaning that all agree on (private use,
/// noncharacters, tags).
pub const fn is_plain(c: char) -> bool {
    !matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

struct Cleaner<'a, 'b> {
    to: &'a mut Formatter<'b>,
    /// Characters that pass although they are not plain.
    keep: &'static str,
}

impl Write for Cleaner<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut shown = 0;
        for (at, c) in text.char_indices() {
            if is_plain(c) || self.keep.contains(c) {
                continue;
            }
            self.to.write_str(text.get(shown..at).unwrap_or_default())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(self.to, "\\u{unit:04x}")?;
            }
            shown = at + c.len_utf8();
        }
        self.to.write_str(text.get(shown..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
