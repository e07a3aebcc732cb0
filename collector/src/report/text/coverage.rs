//! How much of the requested time was seen, and what has still to arrive.

use super::{Page, WIDTH};
use crate::report::story;
use hopgap_analysis::findings::{DirectionCoverage, Findings};
use hopgap_analysis::text;

/// Stretches shown one by one for a direction; the JSON has all.
const MOST: usize = 6;

/// Writes what has still to arrive, at the top of the page.
pub(super) fn preliminary(page: &mut Page, findings: &Findings) {
    if !findings.coverage.preliminary {
        return;
    }
    page.line("PRELIMINARY");
    for sentence in story::preliminary(&findings.coverage) {
        page.field("", &text::ascii(&sentence));
    }
}

/// One line for each direction, and one for each stretch of it that is missing.
pub(super) fn seen(page: &mut Page, findings: &Findings) {
    for (i, direction) in findings.coverage.directions.iter().enumerate() {
        let name = if i == 0 { "Seen" } else { "" };
        page.field(name, &text::ascii(&story::seen(direction)));
        missing(page, direction);
    }
}

fn missing(page: &mut Page, direction: &DirectionCoverage) {
    for stretch in direction.missing.iter().take(MOST) {
        page.lines(text::wrap(
            &text::ascii(&text::missing(stretch)),
            WIDTH,
            &format!("{:<11}  - ", ""),
        ));
    }
    if direction.missing.len() > MOST {
        page.line(format!(
            "{:<11}  - and {} more, in report.json and coverage.csv",
            "",
            direction.missing.len() - MOST
        ));
    }
}
