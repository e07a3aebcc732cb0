//! One failover, failback, reroute or interruption.

use super::{Page, WIDTH};
use crate::report::story::{Story, span_of, stories};
use hopgap_analysis::findings::{HopTable, Latency, Route, Transition, TransitionDirection};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text::{self, Align, Table};

pub(super) fn section(page: &mut Page, number: usize, transition: &Transition) {
    page.heading(&format!(
        "{number}. {} {} UTC",
        text::transition(transition.kind).to_uppercase(),
        text::date_time(transition.started)
    ));
    times(page, transition);
    for remark in &transition.remarks {
        page.item(remark);
    }
    for direction in &transition.directions {
        page.blank();
        one_direction(page, direction);
    }
    latency(page, transition);
    for table in &transition.hop_tables {
        page.blank();
        hop_table(page, table);
    }
    icmp(page, transition);
}

fn times(page: &mut Page, transition: &Transition) {
    if let Some(marker) = &transition.marker {
        page.field(
            "Marker",
            &format!(
                "{}  {}: {}",
                text::clock(marker.at),
                text::marker(marker.kind),
                text::ascii(&marker.text)
            ),
        );
    }
    page.field("Started", &text::clock(transition.started));
    match transition.recovered {
        Some(at) => page.field(
            "Recovered",
            &format!(
                "{}  ({} after the start)",
                text::clock(at),
                text::span(Nanos(at.0 - transition.started.0))
            ),
        ),
        None => page.field("Recovered", "not before the data ends"),
    }
    if transition.marker.is_some() {
        let after = |value: Option<Nanos>| value.map_or_else(|| "not seen".to_owned(), text::span);
        page.field(
            "Marker to",
            &format!(
                "first loss {};  first probe on a new path {};  stable {}",
                transition
                    .marker_to_loss_ns
                    .map_or_else(|| "none".to_owned(), text::span),
                after(transition.marker_to_new_path_ns),
                after(transition.marker_to_stable_ns)
            ),
        );
    }
}

fn one_direction(page: &mut Page, direction: &TransitionDirection) {
    page.line(format!(
        "{}, {} ({} -> {}): {} of {} with an outage",
        text::ascii(&direction.session),
        text::direction(direction.direction),
        text::ascii(&direction.from),
        text::ascii(&direction.to),
        direction.flows_affected,
        text::plural(direction.flows, "flow", "flows"),
    ));
    for story in stories(direction) {
        one_story(page, &story);
    }
}

fn one_story(page: &mut Page, story: &Story<'_>) {
    let label = if story.rows.len() == 1 {
        "flow with source port"
    } else {
        "flows with source ports"
    };
    page.lines(text::wrap(
        &format!(
            "{label} {} ({})",
            text::ports(story.rows.iter().map(|r| r.source_port)),
            story.rows.len()
        ),
        WIDTH,
        "  * ",
    ));
    for n in 0..story.outages() {
        outage(page, story, n);
    }
    match (story.outages(), story.untold()) {
        (0, None) => field(page, "no outage", &counts(story)),
        (0, Some(untold)) => {
            field(page, "outage", &format!("none seen, but {untold}"));
            field(page, "packets", &counts(story));
        }
        (_, None) => field(page, "packets", &counts(story)),
        (_, Some(untold)) => {
            field(page, "packets", &counts(story));
            field(page, "besides", &untold);
        }
    }
    path(page, story);
}

fn outage(page: &mut Page, story: &Story<'_>, n: usize) {
    let all = || story.outage(n);
    let shortest = all().min_by_key(|o| o.at_least_ns);
    let longest = all().max_by_key(|o| (o.at_least_ns, o.at_most_ns));
    let (Some(shortest), Some(longest)) = (shortest, longest) else {
        return;
    };
    let mut lasted = text::bounds(longest.at_least_ns, longest.at_most_ns);
    if shortest.at_least_ns != longest.at_least_ns {
        lasted += &format!(
            "  (the longest; the shortest {})",
            text::bounds(shortest.at_least_ns, shortest.at_most_ns)
        );
    }
    field(page, "outage", &lasted);
    let missing = "outside of the data";
    field(
        page,
        "last good",
        &instants(span_of(all().map(|o| o.last_good)), missing),
    );
    field(
        page,
        "first lost",
        &instants(span_of(all().map(|o| Some(o.first_lost))), missing),
    );
    field(
        page,
        "last lost",
        &instants(span_of(all().map(|o| Some(o.last_lost))), missing),
    );
    field(
        page,
        "first good",
        &instants(span_of(all().map(|o| o.first_good)), "not seen: goes on"),
    );
    let periods = || all().map(|o| o.loss_periods.len());
    let (low, high) = (periods().min(), periods().max());
    let mut inside = format!(
        "{} ({})",
        range((count(low), count(high))),
        if count(high) == 1 {
            "lost without a break"
        } else {
            "runs of lost probes in each flow, RFC 3357"
        }
    );
    let refused: u64 = all().map(|o| o.refused).sum();
    if refused > 0 {
        inside += &format!(
            "; {} refused by the host's own kernel, which had no route",
            text::plural(refused, "send", "sends")
        );
    }
    let unsent: u64 = all().map(|o| o.unsent.saturating_sub(o.refused)).sum();
    if unsent > 0 {
        inside += &format!(
            "; {} never sent, which widens the bounds",
            text::plural(unsent, "probe", "probes")
        );
    }
    field(page, "loss periods", &inside);
}

fn count(n: Option<usize>) -> u64 {
    u64::try_from(n.unwrap_or(0)).unwrap_or(u64::MAX)
}

fn counts(story: &Story<'_>) -> String {
    let each = if story.rows.len() == 1 {
        ""
    } else {
        " in each flow"
    };
    format!(
        "lost {}, late {}, duplicated {}, reordered {}{each}",
        range(story.range(|r| r.lost)),
        range(story.range(|r| r.late)),
        range(story.range(|r| r.duplicated)),
        range(story.range(|r| r.reordered)),
    )
}

fn path(page: &mut Page, story: &Story<'_>) {
    let Some(row) = story.rows.first() else {
        return;
    };
    let before = text::path(row.path_before.as_deref());
    if row.path_before == row.path_after {
        field(page, "path", &format!("{before}, unchanged"));
        return;
    }
    let after = text::path(row.path_after.as_deref());
    field(page, "path", &format!("{before} -> {after}"));
    let missing = "not seen";
    field(
        page,
        "last on old",
        &instants(story.points(|r| r.last_on_old_path), missing),
    );
    field(
        page,
        "first on new",
        &instants(story.points(|r| r.first_on_new_path), missing),
    );
}

fn field(page: &mut Page, name: &str, value: &str) {
    page.lines(text::wrap(value, WIDTH, &format!("      {name:<14}")));
}

fn instants(span: Option<(Utc, Utc)>, missing: &str) -> String {
    match span {
        None => missing.to_owned(),
        Some((a, b)) if a == b => text::clock(a),
        Some((a, b)) => format!("{} .. {}", text::clock(a), text::clock(b)),
    }
}

fn range((low, high): (u64, u64)) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("{low} to {high}")
    }
}

fn latency(page: &mut Page, transition: &Transition) {
    let mut table = Table::new([
        ("session", Align::Left),
        ("", Align::Left),
        ("probes", Align::Right),
        ("min", Align::Right),
        ("p50", Align::Right),
        ("p90", Align::Right),
        ("p99", Align::Right),
        ("max", Align::Right),
    ]);
    let mut seen: Vec<&str> = Vec::new();
    for direction in &transition.directions {
        // The round trip belongs to the session, whichever direction names it.
        if seen.contains(&direction.session.as_str()) {
            continue;
        }
        seen.push(&direction.session);
        if direction.latency_before.is_none()
            && direction.latency_during.is_none()
            && direction.latency_after.is_none()
        {
            continue;
        }
        let phases = [
            ("before", &direction.latency_before),
            ("during", &direction.latency_during),
            ("after", &direction.latency_after),
        ];
        for (phase, latency) in phases {
            table.row(latency_row(
                [text::ascii(&direction.session), phase.to_owned()],
                latency.as_ref(),
            ));
        }
    }
    if !table.is_empty() {
        page.blank();
        page.line("Round trip in ms");
        page.lines(table.lines("  "));
    }
}

/// `labels`, then count, min, p50, p90, p99 and max.
pub(super) fn latency_row<const N: usize>(
    labels: [String; N],
    latency: Option<&Latency>,
) -> Vec<String> {
    let mut cells: Vec<String> = labels.into();
    match latency {
        Some(l) if l.count > 0 => {
            cells.push(l.count.to_string());
            cells.extend([l.min_ns, l.p50_ns, l.p90_ns, l.p99_ns, l.max_ns].map(text::millis));
        }
        _ => {
            cells.push("0".to_owned());
            cells.extend((0..5).map(|_| "-".to_owned()));
        }
    }
    cells
}

fn hop_table(page: &mut Page, table: &HopTable) {
    page.line(format!(
        "Route of {}, flow {} (source port {})",
        text::ascii(&table.session),
        table.flow,
        table.source_port
    ));
    let columns = [
        column("before", table.before.as_ref()),
        column("during", table.during.as_ref()),
        column("after", table.after.as_ref()),
    ];
    page.lines(text::side_by_side(&columns, WIDTH));
}

fn column(phase: &str, route: Option<&Route>) -> Vec<String> {
    let Some(route) = route else {
        return vec![phase.to_uppercase(), "  no traceroute".to_owned()];
    };
    let mut lines = vec![
        format!("{} {}", phase.to_uppercase(), text::clock(route.at)),
        format!("  {}", text::path(route.path.as_deref())),
    ];
    lines.extend(text::route_lines(route));
    lines
}

fn icmp(page: &mut Page, transition: &Transition) {
    if transition.icmp.is_empty() {
        return;
    }
    page.blank();
    page.line("ICMP errors received meanwhile");
    let mut table = Table::new([
        ("router", Align::Left),
        ("said", Align::Left),
        ("times", Align::Right),
        ("first", Align::Left),
        ("last", Align::Left),
        ("session", Align::Left),
    ]);
    for finding in &transition.icmp {
        table.row([
            text::ascii(&finding.from),
            text::ascii(&finding.meaning),
            finding.count.to_string(),
            text::clock(finding.first),
            text::clock(finding.last),
            text::ascii(&finding.session),
        ]);
    }
    page.lines(table.lines("  "));
}
