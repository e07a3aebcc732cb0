//! The collector's own clock: it stamps markers, drills and what comes in.

use hopgap_proto::time::{Span, Wall};
use std::time::SystemTime;

/// The wall clock now.
pub(crate) fn now() -> Wall {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Wall::ZERO + Span::from(since),
        Err(before) => Wall::ZERO - Span::from(before.duration()),
    }
}

/// A text that is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no time; write UTC or an offset as in 2026-11-23T02:00:00Z, or a time ago as in -90s, -15m or -2h"
)]
pub(crate) struct ParseTimeError(String);

/// An instant as people write it: RFC 3339, `now`, or a length of time before now with
/// a minus sign (`-15m`).
///
/// # Errors
///
/// When it is neither.
pub(crate) fn parse(text: &str) -> Result<Wall, ParseTimeError> {
    let wrong = || ParseTimeError(text.to_owned());
    if text == "now" {
        return Ok(now());
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago: Span = ago.parse().map_err(|_| wrong())?;
        return Ok(now() - ago);
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    let nanos = i64::try_from(at.as_nanosecond()).map_err(|_| wrong())?;
    Ok(Wall::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::{now, parse};
    use hopgap_proto::time::{Span, Wall};

    #[test]
    fn times_are_read_as_people_write_them() {
        let at = |s: i64| Wall::from_nanos(s * 1_000_000_000);
        assert_eq!(parse("1970-01-01T00:01:00Z"), Ok(at(60)));
        assert_eq!(parse("1970-01-01T01:01:00+01:00"), Ok(at(60)));
        let then = parse("-15m").unwrap();
        let ago = now() - then;
        assert!(
            (Span::from_secs(900)..Span::from_secs(905)).contains(&ago),
            "{ago}"
        );
        for wrong in [
            "",
            "yesterday",
            "02:00",
            "-15",
            "15m",
            "--15m",
            "2026-11-23",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("is no time; write"), "{error}");
        }
    }
}
