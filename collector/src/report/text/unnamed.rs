//! Routes without a name, and the lines of a plan that would give them one.

use super::Page;
use crate::report::story;
use hopgap_analysis::findings::Findings;
use hopgap_analysis::text;

pub(super) fn section(page: &mut Page, findings: &Findings) {
    let routes = story::unnamed(findings);
    if routes.is_empty() {
        return;
    }
    page.heading("ROUTES THAT FIT NO DECLARED PATH");
    page.item(story::UNNAMED);
    for (lines, routes) in routes {
        page.blank();
        for route in routes {
            page.item(&story::unnamed_route(route));
        }
        for line in lines.into_iter().flat_map(str::lines) {
            page.line(text::ascii(line));
        }
    }
}
