//! The sections on the whole stretch of time.

use super::Page;
use super::transition::latency_row;
use crate::report::story;
use hopgap_analysis::findings::{Counts, Direction, Findings, Outage, SessionFindings};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text::{self, Align, Table};

pub(super) fn latency(page: &mut Page, findings: &Findings) {
    page.heading("LATENCY BY PATH (round trip in ms)");
    for session in &findings.sessions {
        let mut table = Table::new([
            ("path", Align::Left),
            ("probes", Align::Right),
            ("min", Align::Right),
            ("p50", Align::Right),
            ("p90", Align::Right),
            ("p99", Align::Right),
            ("max", Align::Right),
        ]);
        for by_path in &session.latency {
            let forward = text::path(by_path.forward.as_deref());
            let reverse = text::path(by_path.reverse.as_deref());
            if forward == reverse {
                table.row(latency_row([forward], Some(&by_path.round_trip)));
            } else {
                table.row(latency_row(
                    [format!("out by {forward},")],
                    Some(&by_path.round_trip),
                ));
                table.row([format!("back by {reverse}")]);
            }
        }
        page.line(text::ascii(&session.session));
        if table.is_empty() {
            page.line("  no probe was answered");
        } else {
            page.lines(table.lines("  "));
        }
        one_way(page, session);
        path_mtu(page, session);
    }
}

/// The largest packets that get through.
fn path_mtu(page: &mut Page, session: &SessionFindings) {
    let mut table = Table::new([
        ("largest packet, out and back by", Align::Left),
        ("bytes", Align::Right),
        ("limited by", Align::Left),
    ]);
    for mtu in &session.path_mtu {
        let forward = text::path(mtu.forward.as_deref());
        let reverse = text::path(mtu.reverse.as_deref());
        let (bytes, limit) = (mtu.bytes.to_string(), text::mtu_limit(mtu));
        let by_direction = text::mtu_directions(mtu);
        if forward == reverse {
            table.row([forward, bytes, limit]);
        } else {
            table.row([format!("{forward},"), bytes, limit]);
            table.row([reverse]);
        }
        if let Some(by_direction) = by_direction {
            table.row([String::new(), String::new(), by_direction]);
        }
    }
    if !table.is_empty() {
        page.lines(table.lines("  "));
    }
}

/// One-way delays and how far off they may be.
fn one_way(page: &mut Page, session: &SessionFindings) {
    let mut table = Table::new([
        ("one way", Align::Left),
        ("path", Align::Left),
        ("min", Align::Right),
        ("p50", Align::Right),
        ("p99", Align::Right),
        ("max", Align::Right),
        ("each +/-", Align::Right),
    ]);
    for by_path in &session.latency {
        let Some(delays) = &by_path.one_way else {
            continue;
        };
        for (way, path, delay) in [
            ("out", &by_path.forward, &delays.forward),
            ("back", &by_path.reverse, &delays.reverse),
        ] {
            let mut row = vec![way.to_owned(), text::path(path.as_deref())];
            let values = [delay.min_ns, delay.p50_ns, delay.p99_ns, delay.max_ns];
            row.extend(values.map(text::millis));
            row.push(text::millis(delays.bound_ns));
            table.row(row);
        }
    }
    if !table.is_empty() {
        page.lines(table.lines("  "));
    }
}

pub(super) fn counts(page: &mut Page, findings: &Findings) {
    page.heading("PROBES");
    for session in &findings.sessions {
        let c = &session.counts;
        page.line(format!(
            "{} ({} -> {}), {}",
            text::ascii(&session.session),
            text::ascii(&session.from),
            text::ascii(&session.to),
            text::plural(
                u64::try_from(session.flows.len()).unwrap_or(u64::MAX),
                "flow",
                "flows"
            ),
        ));
        page.lines(text::wrap(
            &format!(
                "sent {}, answered {} ({}), lost forward {} ({}), lost in reverse {} ({}), lost in \
                 unknown direction {}",
                c.sent,
                c.answered,
                text::percent(c.answered, c.sent),
                c.lost_forward,
                text::percent(c.lost_forward, c.sent),
                c.lost_reverse,
                text::percent(c.lost_reverse, c.sent),
                c.lost_unknown,
            ),
            super::WIDTH,
            "  ",
        ));
        page.lines(text::wrap(&rest(c, session), super::WIDTH, "  "));
    }
}

fn rest(c: &Counts, session: &SessionFindings) -> String {
    let periods: usize = session.flows.iter().map(|f| f.background.len()).sum();
    format!(
        "late {}, duplicated {}, reordered forward {} and in reverse {}; refused by the sender's \
         kernel {}, slots skipped {}, dropped by the reflector's policy {}, no data {}, too \
         recent to judge {}; loss periods outside of any outage {}",
        c.late,
        c.duplicated,
        c.reordered_forward,
        c.reordered_reverse,
        c.refused,
        c.skipped,
        c.dropped_by_policy,
        c.no_data,
        c.pending,
        periods
    )
}

pub(super) fn asymmetries(page: &mut Page, findings: &Findings) {
    let mut table = Table::new([
        ("session", Align::Left),
        ("flows", Align::Left),
        ("forward", Align::Left),
        ("reverse", Align::Left),
        ("from", Align::Left),
        ("lasted", Align::Left),
    ]);
    for session in &findings.sessions {
        for group in story::asymmetries(session) {
            let Some(first) = group.iter().min_by_key(|a| a.first.sent) else {
                continue;
            };
            let lasted = || group.iter().map(|a| a.lasted_ns);
            let (low, high) = (lasted().min(), lasted().max());
            table.row([
                text::ascii(&session.session),
                text::ports(group.iter().map(|a| u16::from(a.flow))),
                text::path(first.forward.as_deref()),
                text::path(first.reverse.as_deref()),
                text::clock(first.first.sent),
                story::ranged(low.unwrap_or_default(), high.unwrap_or_default()),
            ]);
        }
    }
    if table.is_empty() {
        return;
    }
    page.heading("ASYMMETRIC INTERVALS (the two directions took different paths)");
    page.lines(table.lines(""));
}

pub(super) fn echoes(page: &mut Page, findings: &Findings) {
    if findings.echoes.is_empty() {
        return;
    }
    page.heading("ICMP ECHO OF TARGETS WITHOUT AN AGENT (user-space times)");
    let mut table = Table::new([
        ("target", Align::Left),
        ("address", Align::Left),
        ("asked by", Align::Left),
        ("answered", Align::Right),
        ("p50 ms", Align::Right),
        ("silent", Align::Left),
    ]);
    for echo in &findings.echoes {
        let silent: Vec<String> = echo
            .silent
            .iter()
            .map(|w| format!("{}-{}", text::clock(w.from), text::clock(w.to)))
            .collect();
        table.row([
            text::ascii(&echo.target),
            text::ascii(&echo.address),
            text::ascii(&echo.from),
            format!("{}/{}", echo.answered, echo.sent),
            echo.round_trip
                .map_or_else(|| "-".to_owned(), |l| text::millis(l.p50_ns)),
            match (story::never_answered(echo), silent.len()) {
                (Some(never), _) => never,
                (None, 0) => "no".to_owned(),
                (None, 1) => silent.concat(),
                (None, n) => format!("{n} times, first {}", silent.first().map_or("", |s| s)),
            },
        ]);
    }
    page.lines(table.lines(""));
    for echo in &findings.echoes {
        if let Some(said) = story::echo_errors(echo) {
            let head = format!("  {}: ", text::ascii(&echo.target));
            page.lines(text::wrap(&text::ascii(&said), super::WIDTH, &head));
        }
    }
}

pub(super) fn markers(page: &mut Page, findings: &Findings) {
    if findings.markers.is_empty() {
        return;
    }
    page.heading("MARKERS (the collector's clock)");
    for marker in &findings.markers {
        page.lines(text::wrap(
            &text::ascii(&marker.text),
            super::WIDTH,
            &format!(
                "  {}  {:<9} ",
                text::clock(marker.at),
                text::marker(marker.kind)
            ),
        ));
    }
}

pub(super) fn every_outage(page: &mut Page, findings: &Findings) {
    let mut any = false;
    for session in &findings.sessions {
        let mut table = Table::new([
            ("port", Align::Right),
            ("dir", Align::Left),
            ("last good", Align::Left),
            ("first lost", Align::Left),
            ("last lost", Align::Left),
            ("first good", Align::Left),
            ("at least", Align::Right),
            ("at most", Align::Right),
            ("lost", Align::Right),
        ]);
        for flow in &session.flows {
            for outage in &flow.outages {
                table.row(outage_row(flow.source_port, outage));
            }
        }
        if table.is_empty() {
            continue;
        }
        if !any {
            page.heading("EVERY OUTAGE OF EVERY FLOW");
            any = true;
        }
        page.line(text::ascii(&session.session));
        page.lines(table.lines(""));
    }
}

fn outage_row(source_port: u16, outage: &Outage) -> [String; 9] {
    let or = |at: Option<Utc>| at.map_or_else(|| "-".to_owned(), text::clock);
    [
        source_port.to_string(),
        match outage.direction {
            Direction::Forward => "fwd",
            Direction::Reverse => "rev",
            Direction::Unknown => "?",
        }
        .to_owned(),
        or(outage.last_good.map(|p| p.sent)),
        text::clock(outage.first_lost.sent),
        text::clock(outage.last_lost.sent),
        or(outage.first_good.map(|p| p.sent)),
        text::lower(outage.at_least_ns),
        outage
            .at_most_ns
            .map_or_else(|| "-".to_owned(), |n: Nanos| text::upper(n)),
        outage.lost.to_string(),
    ]
}
