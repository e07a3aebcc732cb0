//! Text from outside (names of a plan, markers, what routers said) made safe for
//! HTML and SVG, in content and in quoted attributes.

use hopgap_proto::printable::is_plain;
use std::fmt::{Display, Formatter, Result, Write as _};

/// Shows a text with HTML markup escaped. Replaces control and bidirectional formatting
/// characters, which could change what the page seems to say.
pub(super) struct Esc<T>(pub T);

impl<T: Display> Display for Esc<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if is_plain(c) => f.write_char(c)?,
                _ => f.write_char('\u{fffd}')?,
            }
        }
        Ok(())
    }
}

/// Appends to a `String`, which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($out, $($arg)*);
    }};
}
pub(super) use put;
