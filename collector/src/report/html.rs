//! The report as one self-contained page of HTML: no request, no script, light
//! and dark, and fit to be printed on A4.

mod coverage;
mod escape;
mod lanes;
mod palette;
mod plots;
mod sections;
mod transition;
mod unnamed;

use super::{Report, ReportError, story};
use escape::{Esc, put};
use hopgap_analysis::findings::{Findings, Latency, Transition, VerdictResult};
use hopgap_analysis::schema::Nanos;
use hopgap_analysis::text;
use palette::Palette;
use std::collections::BTreeMap;

const STYLE: &str = include_str!("html/style.css");

pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let findings = &report.findings;
    let palette = Palette::new(findings);
    let mut out = String::new();
    put!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n\
         <meta name=\"generator\" content=\"{}\">\n<title>{}{}: {}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        Esc(&report.generated_by),
        if findings.coverage.preliminary {
            "PRELIMINARY, "
        } else {
            ""
        },
        text::verdict(findings.verdict.result),
        Esc(&report.title)
    );
    head(&mut out, report);
    tiles(&mut out, findings, &palette);
    for (i, transition) in findings.transitions.iter().enumerate() {
        transition::section(&mut out, i + 1, transition, findings, &palette);
    }
    if !findings.sessions.is_empty() {
        sections::over_time(&mut out, findings, &palette)?;
        sections::latency(&mut out, findings, &palette);
        sections::path_mtu(&mut out, findings, &palette);
        sections::probes(&mut out, findings);
    }
    sections::asymmetries(&mut out, findings, &palette);
    sections::echoes(&mut out, findings);
    sections::markers(&mut out, findings);
    unnamed::section(&mut out, findings);
    sections::epochs(&mut out, findings, &palette);
    sections::notes(&mut out, findings);
    put!(
        out,
        "<footer>Written {} UTC by {}. The same figures, with nanoseconds, are in report.json and \
         the CSV files.</footer>\n</main>\n</body>\n</html>\n",
        text::date_seconds(report.generated_at),
        Esc(&report.generated_by)
    );
    Ok(out)
}

fn head(out: &mut String, report: &Report) {
    let findings = &report.findings;
    put!(
        out,
        "<header>\n<h1>{}</h1>\n<div class=\"meta\">",
        Esc(&report.title)
    );
    if let Some(drill) = &report.drill {
        put!(out, "<span>drill {}</span>", Esc(drill));
    }
    match &findings.window {
        Some(window) => put!(
            out,
            "<span>{} to {} UTC</span><span>{}</span>",
            text::date_seconds(window.from),
            text::date_seconds(window.to),
            span(Nanos(window.to.0 - window.from.0))
        ),
        None => put!(out, "<span>no data</span>"),
    }
    let verdict = &findings.verdict;
    let class = match verdict.result {
        VerdictResult::Met => "met",
        VerdictResult::Missed => "missed",
        VerdictResult::Undecided | VerdictResult::NotTested => "undecided",
    };
    put!(
        out,
        "<span>objective: no flow without connectivity for longer than {}</span></div>\n</header>\n",
        span(verdict.objective_ns)
    );
    coverage::preliminary(out, findings);
    put!(
        out,
        "<section class=\"verdict {class}\"><b>{}</b><span>{}</span></section>\n",
        text::verdict(verdict.result),
        Esc(&verdict.sentence)
    );
    coverage::seen(out, findings);
    if !findings.caveats.is_empty() {
        put!(
            out,
            "<section class=\"caveats\"><b>Before you believe the rest</b><ul>"
        );
        for caveat in &findings.caveats {
            put!(out, "<li>{}</li>", Esc(caveat));
        }
        put!(out, "</ul></section>\n");
    }
}

/// The key figures.
fn tiles(out: &mut String, findings: &Findings, palette: &Palette) {
    /// Most tiles: more would push the figures off the first page.
    const MOST: usize = 6;
    put!(out, "<section class=\"tiles\">");
    for (i, transition) in findings.transitions.iter().take(MOST).enumerate() {
        transition_tile(out, i + 1, transition);
    }
    latency_tile(out, findings, palette);
    put!(out, "</section>\n");
    if findings.transitions.is_empty() {
        put!(
            out,
            "<p class=\"card\">{}</p>\n",
            story::no_transition(findings)
        );
    }
}

fn transition_tile(out: &mut String, number: usize, transition: &Transition) {
    let (hit, flows) = story::affected(transition);
    put!(
        out,
        "<div class=\"tile\"><h4>{number}. {}: longest outage</h4><div class=\"big\">{}</div>\
         <dl><dt>flows with an outage</dt><dd>{hit} of {flows}</dd>",
        capital(text::transition(transition.kind)),
        if hit == 0 {
            story::none_seen(transition).to_owned()
        } else {
            bounds(transition.worst_at_least_ns, transition.worst_at_most_ns)
        },
    );
    for direction in &transition.directions {
        let outages = direction.rows.iter().flat_map(|r| &r.outages);
        let worst = outages.max_by_key(|o| (o.at_least_ns, o.at_most_ns));
        put!(
            out,
            "<dt>{} {}</dt><dd>{}</dd>",
            Esc(&direction.session),
            text::direction(direction.direction),
            match (worst, story::untold(direction)) {
                (Some(o), _) => bounds(o.at_least_ns, o.at_most_ns),
                (None, Some(untold)) => not_known(untold),
                (None, None) => "none".to_owned(),
            }
        );
    }
    put!(out, "</dl></div>");
}

/// Returns the text for a time in which no outage could have been seen.
fn not_known(untold: Nanos) -> String {
    format!("not known for {}", span(untold))
}

fn latency_tile(out: &mut String, findings: &Findings, palette: &Palette) {
    // The range of the sessions' medians: medians cannot be added up.
    let mut medians: BTreeMap<&str, (Nanos, Nanos)> = BTreeMap::new();
    let (mut sent, mut lost) = (0, 0);
    for session in &findings.sessions {
        let c = &session.counts;
        sent += c.sent;
        lost += c.lost_forward + c.lost_reverse + c.lost_unknown;
        for l in &session.latency {
            // The way back may be said as one of several.
            let path = l.forward.as_deref().filter(|forward| {
                l.reverse
                    .as_deref()
                    .is_some_and(|r| r.split(" or ").any(|one| one == *forward))
                    || l.reverse == l.forward
            });
            let (Some(path), true) = (path, l.round_trip.count > 0) else {
                continue;
            };
            let p50 = l.round_trip.p50_ns;
            let entry = medians.entry(path).or_insert((p50, p50));
            *entry = (entry.0.min(p50), entry.1.max(p50));
        }
    }
    put!(
        out,
        "<div class=\"tile\"><h4>Probes lost, all in all</h4><div class=\"big\">{}</div>\
         <dl><dt>lost</dt><dd>{lost} of {sent}</dd>",
        text::percent(lost, sent)
    );
    for (path, (low, high)) in &medians {
        put!(
            out,
            "<dt>{}</dt><dd>{} ms</dd>",
            palette.label(Some(path)),
            if low == high {
                text::millis(*low)
            } else {
                format!("{} to {}", text::millis(*low), text::millis(*high))
            }
        );
    }
    put!(out, "</dl>");
    if !medians.is_empty() {
        put!(out, "<div class=\"legend\">median round trip by path</div>");
    }
    put!(out, "</div>");
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_uppercase().collect::<String>() + chars.as_str()
    })
}

/// `text` with the sign for micro.
fn micro(text: &str) -> String {
    text.replace(" us", " µs")
}

fn span(of: Nanos) -> String {
    micro(&text::span(of))
}

fn bounds(at_least: Nanos, at_most: Option<Nanos>) -> String {
    micro(&text::bounds(at_least, at_most))
}

/// Cells for count, min, p50, p90, p99, p99.9 and max.
fn latency_cells(latency: Option<&Latency>) -> String {
    match latency.filter(|l| l.count > 0) {
        Some(l) => {
            let values = [l.min_ns, l.p50_ns, l.p90_ns, l.p99_ns, l.p999_ns, l.max_ns];
            let cells: String = values
                .map(|v| format!("<td class=\"n\">{}</td>", text::millis(v)))
                .concat();
            format!("<td class=\"n\">{}</td>{cells}", l.count)
        }
        None => "<td class=\"n\">0</td>".to_owned() + &"<td class=\"n\">–</td>".repeat(6),
    }
}

const LATENCY_HEAD: &str = "<th class=\"n\">probes</th><th class=\"n\">min</th>\
     <th class=\"n\">p50</th><th class=\"n\">p90</th><th class=\"n\">p99</th>\
     <th class=\"n\">p99.9</th><th class=\"n\">max</th>";
