//! How much of the requested time was seen, and what has still to arrive.

use super::escape::{Esc, put};
use crate::report::story;
use hopgap_analysis::findings::Findings;
use hopgap_analysis::text;

/// Stretches shown one by one for a direction; the JSON has all.
const MOST: usize = 6;

/// Writes what has still to arrive, at the top of the page.
pub(super) fn preliminary(out: &mut String, findings: &Findings) {
    if !findings.coverage.preliminary {
        return;
    }
    put!(
        out,
        "<section class=\"verdict preliminary\"><b>PRELIMINARY</b><span>"
    );
    for sentence in story::preliminary(&findings.coverage) {
        put!(out, "{} ", Esc(&sentence));
    }
    put!(out, "</span></section>\n");
}

/// One line for each direction, and one for each stretch of it that is missing.
pub(super) fn seen(out: &mut String, findings: &Findings) {
    let directions = &findings.coverage.directions;
    if directions.is_empty() {
        return;
    }
    let whole = directions.iter().all(|d| d.missing.is_empty());
    put!(
        out,
        "<section class=\"{}\"><b>Seen</b><ul>",
        if whole { "seen" } else { "caveats" }
    );
    for direction in directions {
        put!(out, "<li>{}", Esc(&story::seen(direction)));
        for stretch in direction.missing.iter().take(MOST) {
            put!(out, "<br>{}", Esc(&text::missing(stretch)));
        }
        if direction.missing.len() > MOST {
            put!(
                out,
                "<br>and {} more, in report.json and coverage.csv",
                direction.missing.len() - MOST
            );
        }
        put!(out, "</li>");
    }
    put!(out, "</ul></section>\n");
}
