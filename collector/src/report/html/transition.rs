//! One failover, failback, reroute or interruption.

use super::escape::{Esc, put};
use super::palette::Palette;
use super::{LATENCY_HEAD, bounds, capital, lanes, latency_cells, span};
use crate::report::story::{Story, span_of, stories};
use hopgap_analysis::findings::{
    Findings, HopTable, ProbePoint, Route, Transition, TransitionDirection, TransitionFlow,
};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text;

pub(super) fn section(
    out: &mut String,
    number: usize,
    transition: &Transition,
    findings: &Findings,
    palette: &Palette,
) {
    put!(
        out,
        "<section class=\"card\"><div class=\"keep\"><h2>{number}. {}<small>{} UTC</small></h2>",
        capital(text::transition(transition.kind)),
        text::date_time(transition.started)
    );
    facts(out, transition);
    if !transition.remarks.is_empty() {
        put!(out, "<ul class=\"plain\">");
        for remark in &transition.remarks {
            put!(out, "<li>{}</li>", Esc(remark));
        }
        put!(out, "</ul>");
    }
    put!(
        out,
        "<figure>{}<figcaption class=\"legend\">{}\
         {}\
         <span><i class=\"sw\" style=\"--c:var(--track)\"></i>no probe seen</span>\
         <span>lanes: source ports; right: bounds of the outage</span></figcaption></figure></div>",
        lanes::draw(number, transition, findings, palette),
        palette.legend(),
        outages_legend(number, transition)
    );
    put!(out, "<h3>By direction</h3><div class=\"scroll\">");
    directions(out, transition, palette);
    put!(out, "</div>");
    every_flow(out, transition, palette);
    for table in &transition.hop_tables {
        hop_table(out, table, palette);
    }
    latency(out, transition);
    icmp(out, transition);
    put!(out, "</section>\n");
}

/// What the hatched and framed parts of the figure mean.
fn outages_legend(number: usize, transition: &Transition) -> String {
    let mut legend = String::new();
    for kind in lanes::kinds(transition) {
        let swatch = lanes::swatch(number, kind);
        match kind {
            lanes::Kind::Known => put!(
                legend,
                "<span>{swatch} outage: hatched from first to last lost probe (at least), framed \
                 from last good to first good (at most)</span>"
            ),
            lanes::Kind::Unknown => put!(
                legend,
                "<span>{swatch} the same, but nobody knows whether the probes or their replies \
                 were lost; the lane is coloured by the path out</span>"
            ),
        }
    }
    legend
}

fn facts(out: &mut String, transition: &Transition) {
    let fact = |name: &str, value: &str, note: &str| {
        format!("<div><small>{name}</small><b>{value}</b><small>{note}</small></div>")
    };
    put!(out, "<div class=\"facts\">");
    if let Some(marker) = &transition.marker {
        let note = Esc(&marker.text).to_string();
        out.push_str(&fact("marker", &text::clock(marker.at), &note));
        let after = |value: Option<Nanos>| value.map_or_else(|| "not seen".to_owned(), span);
        out.push_str(&fact(
            "marker to first loss",
            &transition
                .marker_to_loss_ns
                .map_or_else(|| "no loss".to_owned(), span),
            "",
        ));
        out.push_str(&fact(
            "marker to new path",
            &after(transition.marker_to_new_path_ns),
            "first probe on it",
        ));
        out.push_str(&fact(
            "marker to stable",
            &after(transition.marker_to_stable_ns),
            "",
        ));
    }
    out.push_str(&fact("started", &text::clock(transition.started), ""));
    match transition.recovered {
        Some(at) => out.push_str(&fact(
            "recovered",
            &text::clock(at),
            &format!(
                "{} after the start",
                span(Nanos(at.0 - transition.started.0))
            ),
        )),
        None => out.push_str(&fact("recovered", "not seen", "before the data ends")),
    }
    put!(out, "</div>");
}

/// One row for each story of each direction.
fn directions(out: &mut String, transition: &Transition, palette: &Palette) {
    put!(
        out,
        "<table><thead><tr><th>source ports</th><th>outage</th>\
         <th>last good<br>first lost</th><th>last lost<br>first good</th>\
         <th class=\"n\">lost</th><th>path</th><th>last on old<br>first on new</th></tr></thead><tbody>"
    );
    for direction in &transition.directions {
        heading(out, direction);
        for story in &stories(direction) {
            put!(
                out,
                "<tr><td>{}</td>",
                text::ports(story.rows.iter().map(|r| r.source_port))
            );
            outage_cells(out, story);
            let (low, high) = story.range(|r| r.lost);
            let first = story.rows.first();
            put!(
                out,
                "<td class=\"n\">{}</td><td>{}</td>",
                if low == high {
                    low.to_string()
                } else {
                    format!("{low}–{high}")
                },
                first.map_or_else(String::new, |r| palette
                    .change(r.path_before.as_deref(), r.path_after.as_deref()))
            );
            put!(
                out,
                "<td class=\"t\">{}<br>{}</td></tr>",
                instants(story.points(|r| r.last_on_old_path)),
                instants(story.points(|r| r.first_on_new_path))
            );
        }
    }
    put!(out, "</tbody></table>");
}

fn heading(out: &mut String, direction: &TransitionDirection) {
    put!(
        out,
        "<tr class=\"group\"><td colspan=\"7\"><b>{}, {}</b> <span class=\"muted\">{} → {} · {} of {} \
         with an outage</span></td></tr>",
        Esc(&direction.session),
        text::direction(direction.direction),
        Esc(&direction.from),
        Esc(&direction.to),
        direction.flows_affected,
        text::plural(direction.flows, "flow", "flows")
    );
}

fn outage_cells(out: &mut String, story: &Story<'_>) {
    let all = || story.rows.iter().flat_map(|r| &r.outages);
    let longest = all().max_by_key(|o| (o.at_least_ns, o.at_most_ns));
    let Some(longest) = longest else {
        let said = story.untold().map_or_else(
            || "none".to_owned(),
            |untold| format!("none seen<br><span class=\"muted\">{untold}</span>"),
        );
        put!(
            out,
            "<td>{said}</td><td class=\"t\">–</td><td class=\"t\">–</td>"
        );
        return;
    };
    let more = match story.outages() {
        0 | 1 => String::new(),
        n => format!("<br><span class=\"muted\">longest of {n} per flow</span>"),
    };
    put!(
        out,
        "<td class=\"out num\">{}{more}</td>",
        bounds(longest.at_least_ns, longest.at_most_ns)
    );
    let first = || story.outage(0);
    let last = || story.outage(story.outages().saturating_sub(1));
    put!(
        out,
        "<td class=\"t\">{}<br>{}</td><td class=\"t\">{}<br>{}</td>",
        instants(span_of(first().map(|o| o.last_good))),
        instants(span_of(first().map(|o| Some(o.first_lost)))),
        instants(span_of(last().map(|o| Some(o.last_lost)))),
        instants(span_of(last().map(|o| o.first_good)))
    );
}

/// Shortens two instants to `02:12:00.400–.405`: leaves out what the second shares with the
/// first.
fn instants(of: Option<(Utc, Utc)>) -> String {
    match of {
        None => "–".to_owned(),
        Some((a, b)) => {
            let (a, b) = (text::clock(a), text::clock(b));
            match (a == b, a.rsplit_once('.'), b.rsplit_once('.')) {
                (true, _, _) => a,
                (false, Some((x, _)), Some((y, rest))) if x == y => format!("{a}–.{rest}"),
                _ => format!("{a}–{b}"),
            }
        }
    }
}

fn every_flow(out: &mut String, transition: &Transition, palette: &Palette) {
    put!(
        out,
        "<details><summary>Every flow, with loss periods, late, duplicated and reordered \
         packets</summary><div class=\"scroll\"><table><thead><tr><th>direction</th>\
         <th class=\"n\">port</th><th class=\"n\">at least</th><th class=\"n\">at most</th>\
         <th>last good</th><th>first lost</th><th>last lost</th><th>first good</th>\
         <th class=\"n\">lost</th><th class=\"n\">loss periods</th><th class=\"n\">late</th>\
         <th class=\"n\">dup.</th><th class=\"n\">reord.</th></tr></thead><tbody>"
    );
    for direction in &transition.directions {
        for row in &direction.rows {
            flow_rows(out, direction, row);
        }
    }
    put!(out, "</tbody></table></div>");
    path_changes(out, transition, palette);
    put!(out, "</details>");
}

fn flow_rows(out: &mut String, direction: &TransitionDirection, row: &TransitionFlow) {
    let start = format!(
        "<tr><td>{}, {}</td><td class=\"n\">{}</td>",
        Esc(&direction.session),
        text::direction(direction.direction),
        row.source_port
    );
    let rest = format!(
        "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        row.late, row.duplicated, row.reordered
    );
    if row.outages.is_empty() {
        put!(
            out,
            "{start}<td class=\"n\">{}</td><td></td><td></td><td></td><td></td><td></td>\
             <td class=\"n\">{}</td><td class=\"n\">–</td>{rest}",
            if row.untold > 0 { "unknown" } else { "none" },
            row.lost
        );
    }
    for outage in &row.outages {
        put!(
            out,
            "{start}<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"t\">{}</td>\
             <td class=\"t\">{}</td><td class=\"t\">{}</td><td class=\"t\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td>{rest}",
            super::micro(&text::lower(outage.at_least_ns)),
            outage
                .at_most_ns
                .map_or_else(|| "–".to_owned(), |n| super::micro(&text::upper(n))),
            clock(outage.last_good),
            text::clock(outage.first_lost.sent),
            text::clock(outage.last_lost.sent),
            clock(outage.first_good),
            outage.lost,
            outage.loss_periods.len()
        );
    }
}

fn path_changes(out: &mut String, transition: &Transition, palette: &Palette) {
    put!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>direction</th><th class=\"n\">port</th>\
         <th>path</th><th>last on the old path</th><th class=\"n\">probe</th>\
         <th>first on the new path</th><th class=\"n\">probe</th></tr></thead><tbody>"
    );
    let seq = |p: Option<ProbePoint>| p.map_or_else(|| "–".to_owned(), |p| p.seq.to_string());
    for direction in &transition.directions {
        for row in &direction.rows {
            put!(
                out,
                "<tr><td>{}, {}</td><td class=\"n\">{}</td><td>{}</td><td class=\"t\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"t\">{}</td><td class=\"n\">{}</td></tr>",
                Esc(&direction.session),
                text::direction(direction.direction),
                row.source_port,
                palette.change(row.path_before.as_deref(), row.path_after.as_deref()),
                clock(row.last_on_old_path),
                seq(row.last_on_old_path),
                clock(row.first_on_new_path),
                seq(row.first_on_new_path)
            );
        }
    }
    put!(out, "</tbody></table></div>");
}

fn clock(point: Option<ProbePoint>) -> String {
    point.map_or_else(|| "–".to_owned(), |p| text::clock(p.sent))
}

fn hop_table(out: &mut String, table: &HopTable, palette: &Palette) {
    put!(
        out,
        "<h3>Route of {}, source port {}</h3><div class=\"routes\">",
        Esc(&table.session),
        table.source_port
    );
    let phases = [
        ("Before", &table.before),
        ("During", &table.during),
        ("After", &table.after),
    ];
    for (phase, route) in phases {
        match route {
            Some(route) => one_route(out, phase, route, palette),
            None => put!(
                out,
                "<div class=\"route\"><h5>{phase}</h5><span class=\"muted\">no traceroute in this \
                 phase</span></div>"
            ),
        }
    }
    put!(out, "</div>");
}

fn one_route(out: &mut String, phase: &str, route: &Route, palette: &Palette) {
    put!(
        out,
        "<div class=\"route\"><h5>{phase}<span>{}</span></h5>{}<pre>{}</pre></div>",
        text::clock(route.at),
        palette.label(route.path.as_deref()),
        // Escapes line by line: a line break would be replaced as a control character.
        text::route_lines(route)
            .iter()
            .map(|l| Esc(l).to_string())
            .collect::<Vec<_>>()
            .join("\n")
    );
}

fn latency(out: &mut String, transition: &Transition) {
    let none = |d: &TransitionDirection| {
        d.latency_before.is_none() && d.latency_during.is_none() && d.latency_after.is_none()
    };
    if transition.directions.iter().all(none) {
        return;
    }
    put!(
        out,
        "<h3>Round trip before, during and after, in ms</h3><div class=\"scroll\"><table><thead>\
         <tr><th>session</th><th></th>{LATENCY_HEAD}</tr></thead><tbody>"
    );
    let mut seen: Vec<&str> = Vec::new();
    for direction in &transition.directions {
        // The round trip belongs to the session, whichever direction names it.
        if seen.contains(&direction.session.as_str()) {
            continue;
        }
        seen.push(&direction.session);
        let phases = [
            ("before", &direction.latency_before),
            ("during", &direction.latency_during),
            ("after", &direction.latency_after),
        ];
        for (phase, latency) in phases {
            put!(
                out,
                "<tr><td>{}</td><td>{phase}</td>{}</tr>",
                Esc(&direction.session),
                latency_cells(latency.as_ref())
            );
        }
    }
    put!(out, "</tbody></table></div>");
}

fn icmp(out: &mut String, transition: &Transition) {
    if transition.icmp.is_empty() {
        return;
    }
    put!(
        out,
        "<h3>ICMP errors received meanwhile</h3><div class=\"scroll\"><table><thead><tr>\
         <th>router</th><th>said</th><th class=\"n\">times</th><th>first</th><th>last</th>\
         <th>session</th></tr></thead><tbody>"
    );
    for finding in &transition.icmp {
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"t\">{}</td>\
             <td class=\"t\">{}</td><td>{}</td></tr>",
            Esc(&finding.from),
            Esc(&finding.meaning),
            finding.count,
            text::clock(finding.first),
            text::clock(finding.last),
            Esc(&finding.session)
        );
    }
    put!(out, "</tbody></table></div>");
}
