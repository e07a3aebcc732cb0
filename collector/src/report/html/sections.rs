//! The sections on the whole stretch of time.

use super::escape::{Esc, put};
use super::palette::Palette;
use super::{LATENCY_HEAD, latency_cells, plots, span};
use crate::report::{ReportError, story};
use hopgap_analysis::findings::{Direction, Findings, PathLatency};
use hopgap_analysis::text;

pub(super) fn over_time(
    out: &mut String,
    findings: &Findings,
    palette: &Palette,
) -> Result<(), ReportError> {
    put!(out, "<section class=\"card\"><h2>Over time</h2>");
    let mut any = false;
    for session in &findings.sessions {
        let Some(plots) = plots::draw(session, findings, palette)? else {
            continue;
        };
        any = true;
        let each = match plots.seconds_per_point {
            1 => "second".to_owned(),
            n => format!("{n} seconds"),
        };
        put!(
            out,
            "<figure><figcaption><b>{}</b>: round trip, {} → {} and back, per {each}. Thick: p50, \
             thin: p99, coloured by the path out; shaded: some flow had an outage; broken lines: \
             markers.{}</figcaption>{}",
            Esc(&session.session),
            Esc(&session.from),
            Esc(&session.to),
            plots.cut_at.map_or_else(String::new, |n| format!(
                " Peaks beyond the plot are cut; the largest p99 is {} ms.",
                text::millis(n)
            )),
            plots.latency
        );
        put!(
            out,
            "<figcaption class=\"legend\"><span>Loss per {each}, share of the probes sent in \
             it:</span><span><i class=\"sw\" style=\"--c:var(--loss)\"></i>forward, \
             upwards</span><span><i class=\"sw\" style=\"--c:var(--back)\"></i>reverse, \
             downwards</span><span><i class=\"sw pu\"></i>direction unknown</span>\
             </figcaption>{}<figcaption class=\"legend\">{}</figcaption></figure>",
            plots.loss,
            palette.legend()
        );
    }
    if !any {
        put!(out, "<p class=\"muted\">No data.</p>");
    }
    put!(out, "</section>\n");
    Ok(())
}

pub(super) fn latency(out: &mut String, findings: &Findings, palette: &Palette) {
    if findings.sessions.iter().all(|s| s.latency.is_empty()) {
        return;
    }
    put!(
        out,
        "<section class=\"card keep\"><h2>Latency by path<small>round trip in ms</small></h2>\
         <div class=\"scroll\"><table><thead><tr><th>session</th><th>path out</th>\
         <th>path back</th>{LATENCY_HEAD}</tr></thead><tbody>"
    );
    for session in &findings.sessions {
        for l in &session.latency {
            put!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td>{}</tr>",
                Esc(&session.session),
                palette.label(l.forward.as_deref()),
                palette.label(l.reverse.as_deref()),
                latency_cells(Some(&l.round_trip))
            );
            one_way(out, l);
        }
    }
    put!(out, "</tbody></table></div></section>\n");
}

pub(super) fn path_mtu(out: &mut String, findings: &Findings, palette: &Palette) {
    if findings.sessions.iter().all(|s| s.path_mtu.is_empty()) {
        return;
    }
    put!(
        out,
        "<section class=\"card keep\"><h2>Largest packets<small>IP packets of so many bytes get through, \
         out and back</small></h2><div class=\"scroll\"><table><thead><tr><th>session</th><th>path out</th>\
         <th>path back</th><th class=\"n\">bytes</th><th>limited by</th></tr></thead><tbody>"
    );
    for session in &findings.sessions {
        for mtu in &session.path_mtu {
            put!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{}{}</td></tr>",
                Esc(&session.session),
                palette.label(mtu.forward.as_deref()),
                palette.label(mtu.reverse.as_deref()),
                mtu.bytes,
                Esc(&text::mtu_limit(mtu)),
                text::mtu_directions(mtu).map_or_else(String::new, |by| format!("; {}", Esc(&by)))
            );
        }
    }
    put!(out, "</tbody></table></div></section>\n");
}

/// The same by direction, below the round trip.
fn one_way(out: &mut String, of: &PathLatency) {
    let Some(delays) = &of.one_way else {
        return;
    };
    for (way, delay) in [("out", &delays.forward), ("back", &delays.reverse)] {
        put!(
            out,
            "<tr class=\"muted\"><td></td><td colspan=\"2\">one way {way}, each ± {} ms</td>{}</tr>",
            text::millis(delays.bound_ns),
            latency_cells(Some(delay))
        );
    }
}

pub(super) fn probes(out: &mut String, findings: &Findings) {
    put!(
        out,
        "<section class=\"card keep\"><h2>Probes</h2><div class=\"scroll\"><table><thead><tr><th></th>"
    );
    for session in &findings.sessions {
        put!(
            out,
            "<th class=\"n\">{}<br><span class=\"muted\">{} → {}</span></th>",
            Esc(&session.session),
            Esc(&session.from),
            Esc(&session.to)
        );
    }
    put!(out, "</tr></thead><tbody>");
    let mut row =
        |name: &str, of: &dyn Fn(&hopgap_analysis::findings::SessionFindings) -> String| {
            put!(out, "<tr><td>{name}</td>");
            for session in &findings.sessions {
                put!(out, "<td class=\"n\">{}</td>", of(session));
            }
            put!(out, "</tr>");
        };
    let share = |part: u64, whole: u64| match part {
        0 => "0".to_owned(),
        _ => format!("{part} ({})", text::percent(part, whole)),
    };
    row("sent", &|s| s.counts.sent.to_string());
    row("answered", &|s| share(s.counts.answered, s.counts.sent));
    row("lost forward", &|s| {
        share(s.counts.lost_forward, s.counts.sent)
    });
    row("lost in reverse", &|s| {
        share(s.counts.lost_reverse, s.counts.sent)
    });
    row("lost, direction unknown", &|s| {
        share(s.counts.lost_unknown, s.counts.sent)
    });
    row("late", &|s| s.counts.late.to_string());
    row("duplicated", &|s| s.counts.duplicated.to_string());
    row("reordered forward", &|s| {
        s.counts.reordered_forward.to_string()
    });
    row("reordered in reverse", &|s| {
        s.counts.reordered_reverse.to_string()
    });
    row("no data (the reflecting agent did not run)", &|s| {
        s.counts.no_data.to_string()
    });
    row("too recent to be judged", &|s| s.counts.pending.to_string());
    row("not answered by the reflector’s policy", &|s| {
        s.counts.dropped_by_policy.to_string()
    });
    row("refused by the sender’s kernel (never left)", &|s| {
        s.counts.refused.to_string()
    });
    row("slots skipped (never sent)", &|s| {
        s.counts.skipped.to_string()
    });
    row("loss periods outside of any outage", &|s| {
        s.flows
            .iter()
            .map(|f| f.background.len())
            .sum::<usize>()
            .to_string()
    });
    put!(out, "</tbody></table></div></section>\n");
}

pub(super) fn asymmetries(out: &mut String, findings: &Findings, palette: &Palette) {
    if findings.sessions.iter().all(|s| s.asymmetries.is_empty()) {
        return;
    }
    put!(
        out,
        "<section class=\"card keep\"><h2>Asymmetric intervals<small>the two directions took different \
         paths</small></h2><div class=\"scroll\"><table><thead><tr><th>session</th><th>flows</th>\
         <th>forward</th><th>reverse</th><th>from</th><th>to</th><th>lasted</th></tr></thead><tbody>"
    );
    for session in &findings.sessions {
        for group in story::asymmetries(session) {
            let from = group.iter().map(|a| a.first.sent).min();
            let to = group.iter().map(|a| a.last.sent).max();
            let low = group.iter().map(|a| a.lasted_ns).min();
            let high = group.iter().map(|a| a.lasted_ns).max();
            let (Some(first), Some(from), Some(to)) = (group.first(), from, to) else {
                continue;
            };
            put!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"t\">{}</td>\
                 <td class=\"t\">{}</td><td class=\"t\">{}</td></tr>",
                Esc(&session.session),
                text::ports(group.iter().map(|a| u16::from(a.flow))),
                palette.label(first.forward.as_deref()),
                palette.label(first.reverse.as_deref()),
                text::clock(from),
                text::clock(to),
                super::micro(&story::ranged(
                    low.unwrap_or_default(),
                    high.unwrap_or_default()
                ))
            );
        }
    }
    put!(out, "</tbody></table></div></section>\n");
}

pub(super) fn echoes(out: &mut String, findings: &Findings) {
    if findings.echoes.is_empty() {
        return;
    }
    put!(
        out,
        "<section class=\"card keep\"><h2>ICMP echo<small>targets without an agent; user-space \
         times</small></h2><div class=\"scroll\"><table><thead><tr><th>target</th><th>address</th>\
         <th>asked by</th><th class=\"n\">answered</th><th class=\"n\">p50 ms</th>\
         <th class=\"n\">p99 ms</th><th>silent</th></tr></thead><tbody>"
    );
    for echo in &findings.echoes {
        let silent: Vec<String> = echo
            .silent
            .iter()
            .map(|w| format!("{} to {}", text::clock(w.from), text::clock(w.to)))
            .collect();
        let trip = echo.round_trip.filter(|l| l.count > 0);
        let millis = |of: fn(&hopgap_analysis::findings::Latency) -> _| {
            trip.as_ref()
                .map_or_else(|| "–".to_owned(), |l| text::millis(of(l)))
        };
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{} of {}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"t\">{}{}</td></tr>",
            Esc(&echo.target),
            Esc(&echo.address),
            Esc(&echo.from),
            echo.answered,
            echo.sent,
            millis(|l| l.p50_ns),
            millis(|l| l.p99_ns),
            match story::never_answered(echo) {
                Some(never) => never,
                None if silent.is_empty() => "no".to_owned(),
                None => silent.join("<br>"),
            },
            story::echo_errors(echo).map_or_else(String::new, |said| format!("<br>{}", Esc(&said)))
        );
    }
    put!(out, "</tbody></table></div></section>\n");
}

pub(super) fn markers(out: &mut String, findings: &Findings) {
    if findings.markers.is_empty() {
        return;
    }
    put!(
        out,
        "<section class=\"card keep\"><h2>Markers<small>the collector’s clock, UTC</small></h2>\
         <table><tbody>"
    );
    for marker in &findings.markers {
        put!(
            out,
            "<tr><td class=\"t\">{}</td><td>{}</td><td>{}</td></tr>",
            text::date_time(marker.at),
            text::marker(marker.kind),
            Esc(&marker.text)
        );
    }
    put!(out, "</tbody></table></section>\n");
}

pub(super) fn epochs(out: &mut String, findings: &Findings, palette: &Palette) {
    /// Most rows: a page with more is slow to open; `paths.csv` has them all.
    const MOST: usize = 400;
    let rows = || {
        findings.sessions.iter().flat_map(|s| {
            s.flows.iter().flat_map(move |f| {
                let forward = f.forward_paths.iter().map(|e| (Direction::Forward, e));
                let reverse = f.reverse_paths.iter().map(|e| (Direction::Reverse, e));
                forward
                    .chain(reverse)
                    .map(move |(way, epoch)| (s, f, way, epoch))
            })
        })
    };
    let all = rows().count();
    if all == 0 {
        return;
    }
    put!(
        out,
        "<section class=\"card noprint\"><h2>Path epochs</h2><details><summary>{all} stretches in \
         which one direction of a flow took one path{}</summary><div class=\"scroll\"><table>\
         <thead><tr><th>session</th><th>direction</th><th class=\"n\">port</th><th>path</th>\
         <th>named by</th><th class=\"n\">target at hop</th><th>first probe</th>\
         <th>last probe</th><th class=\"n\">probes</th></tr></thead><tbody>",
        if all > MOST {
            format!(", the first {MOST} here, all in paths.csv")
        } else {
            String::new()
        }
    );
    for (session, flow, way, epoch) in rows().take(MOST) {
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td>\
             <td class=\"n\">{}</td><td class=\"t\">{}</td><td class=\"t\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            Esc(&session.session),
            text::direction(way),
            flow.source_port,
            palette.label(epoch.path.as_deref()),
            text::named_by(epoch.named_by),
            epoch
                .target_at_hop
                .map_or_else(|| "–".to_owned(), |h| h.to_string()),
            text::clock(epoch.first.sent),
            text::clock(epoch.last.sent),
            epoch.probes
        );
    }
    put!(out, "</tbody></table></div></details></section>\n");
}

/// The standards that define what is shown.
const METHODS: [&str; 6] = [
    "Probes: STAMP, RFC 8762 and RFC 8972. Loss with Tmax: RFC 7680 and RFC 6673. Round trip: \
     RFC 2681, by the sender’s stamps less the reflector’s own time.",
    "Loss periods: RFC 3357. Reordering: RFC 4737. Duplicates: RFC 5560.",
    "Started, recovered and stable are RFC 6412’s Convergence Event Instant, Convergence Recovery \
     Instant and Sustained Convergence, borrowed for a live network; an outage is its Route Loss \
     of Connectivity Period, with bounds.",
    "Hop counts: the TTL that arrives, for each probe and in each direction. A hop that does not \
     answer a traceroute is normal.",
    "Percentiles are exact order statistics of single probes, not averages of averages.",
    "Instants are the sender’s send times set on UTC by the sender’s clock, cut to milliseconds; \
     lower bounds are rounded down, upper bounds up.",
];

pub(super) fn notes(out: &mut String, findings: &Findings) {
    put!(
        out,
        "<section class=\"card notes\"><h2>How to read the numbers</h2><ul class=\"plain\">"
    );
    for line in story::READING.iter().chain(&METHODS) {
        put!(out, "<li>{}</li>", Esc(line));
    }
    for session in &findings.sessions {
        put!(
            out,
            "<li>{}: one probe every {} in each flow. {}</li>",
            Esc(&session.session),
            span(session.interval_ns),
            story::source(session.direction_source)
        );
    }
    put!(out, "</ul></section>\n");
}
