//! Routes without a name, and the lines of a plan that would give them one.

use super::escape::Esc;
use crate::report::story;
use hopgap_analysis::findings::Findings;

pub(super) fn section(out: &mut String, findings: &Findings) {
    let routes = story::unnamed(findings);
    if routes.is_empty() {
        return;
    }
    out.push_str("<section class=\"card keep\"><h2>Routes that fit no declared path</h2><p>");
    out.push_str(&Esc(story::UNNAMED).to_string());
    out.push_str("</p>");
    for (lines, routes) in routes {
        out.push_str("<ul class=\"plain\">");
        for route in routes {
            out.push_str(&format!("<li>{}</li>", Esc(&story::unnamed_route(route))));
        }
        out.push_str("</ul>");
        if let Some(lines) = lines {
            out.push_str("<pre>");
            for line in lines.lines() {
                out.push_str(&format!("{}\n", Esc(line)));
            }
            out.push_str("</pre>");
        }
    }
    out.push_str("</section>\n");
}
