//! How findings read as plain text: instants, lengths of time, bounds,
//! traceroutes and tables, in ASCII, for a terminal or a change ticket.
//!
//! Everything here is a pure function of its arguments. A bound is rounded
//! outwards (a lower bound down, an upper bound up), so that what is printed is
//! as true as what was measured.

mod coverage;
mod fault;
mod icmp;
mod table;

pub use coverage::{
    awaited, missing, missing_cause, no_outage, no_transition, share_seen, verdict_sentence,
};
pub(crate) use fault::errno_name;
pub use fault::{fault, fault_in_brief};
pub use icmp::unreachable;
pub use table::{Align, Table};

use crate::findings::{
    Direction, DirectionLimit, DirectionMtu, Latency, MarkerKind, MtuLimit, NamedBy, PathMtu,
    Route, TransitionKind, UnfitIcmp, VerdictResult,
};
use crate::schema::{Nanos, Utc};
use hopgap_proto::time::Span;
use jiff::Timestamp;

/// Shown for a path without a name.
pub const UNNAMED: &str = "(unnamed)";

/// Time of day with milliseconds, cut and not rounded: `02:12:00.412`.
pub fn clock(at: Utc) -> String {
    strftime(at, "%H:%M:%S%.3f")
}

/// Date and time with milliseconds: `2026-11-23 02:12:00.412`.
pub fn date_time(at: Utc) -> String {
    strftime(at, "%Y-%m-%d %H:%M:%S%.3f")
}

/// Date and time with nothing below the second: `2026-11-23 02:12:00`.
pub fn date_seconds(at: Utc) -> String {
    strftime(at, "%Y-%m-%d %H:%M:%S")
}

/// `at` by a `strftime` format; `%.3f` and its like cut and do not round.
pub fn strftime(at: Utc, format: &str) -> String {
    match Timestamp::from_nanosecond(i128::from(at.0.as_nanos())) {
        Ok(at) => at.strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}

#[derive(Clone, Copy)]
enum Rounding {
    Down,
    Nearest,
    Up,
}

/// How many times `quantum` goes into `size`, which is not negative.
fn steps(size: i64, quantum: i64, rounding: Rounding) -> i64 {
    let add = match rounding {
        Rounding::Down => 0,
        Rounding::Nearest => quantum / 2,
        Rounding::Up => quantum - 1,
    };
    size.saturating_add(add) / quantum
}

/// `nanos / unit` with `places` decimals.
fn decimal(nanos: i64, unit: i64, places: u32, rounding: Rounding) -> String {
    let tens = 10_i64.pow(places);
    let sign = if nanos < 0 { "-" } else { "" };
    let steps = steps(nanos.saturating_abs(), (unit / tens).max(1), rounding);
    if places == 0 {
        return format!("{sign}{steps}");
    }
    let width = usize::try_from(places).unwrap_or(0);
    format!("{sign}{}.{:0width$}", steps / tens, steps % tens)
}

fn length(span: Span, rounding: Rounding) -> String {
    const MINUTE: i64 = 60_000_000_000;
    let ns = span.as_nanos();
    let size = ns.saturating_abs();
    let sign = if ns < 0 { "-" } else { "" };
    match size {
        0 => "0 ms".to_owned(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => decimal(ns, 1_000, 0, rounding) + " us",
        1_000_000..1_000_000_000 => decimal(ns, 1_000_000, 1, rounding) + " ms",
        1_000_000_000..120_000_000_000 => decimal(ns, 1_000_000_000, 3, rounding) + " s",
        // Rounded before it is split: no '2 min 60 s'.
        120_000_000_000..7_200_000_000_000 => {
            let tenths = steps(size, MINUTE / 600, rounding);
            let (minutes, tenths) = (tenths / 600, tenths % 600);
            format!("{sign}{minutes} min {}.{} s", tenths / 10, tenths % 10)
        }
        _ => {
            let minutes = steps(size, MINUTE, rounding);
            format!("{sign}{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

/// A length of time, rounded to the nearest: `1.301 s`, `893.2 ms`, `10 s`, `41 us`.
pub fn span(span: Nanos) -> String {
    let text = length(span.0, Rounding::Nearest);
    match text.rsplit_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            let number = number.trim_end_matches('0').trim_end_matches('.');
            format!("{number} {unit}")
        }
        _ => text,
    }
}

/// A lower bound: rounded down.
pub fn lower(bound: Nanos) -> String {
    length(bound.0, Rounding::Down)
}

/// An upper bound: rounded up.
pub fn upper(bound: Nanos) -> String {
    length(bound.0, Rounding::Up)
}

/// Both bounds of an outage: `1.300 s to 1.321 s`, `up to 19.9 ms`, `at least 3.002 s`.
pub fn bounds(at_least: Nanos, at_most: Option<Nanos>) -> String {
    match at_most {
        None => format!("at least {}", lower(at_least)),
        Some(most) if at_least.0 <= Span::ZERO => format!("up to {}", upper(most)),
        Some(most) => {
            let (low, high) = (lower(at_least), upper(most));
            if low == high {
                return low;
            }
            // One unit said once reads better: '828.0 to 830.1 ms'.
            match (low.split_once(' '), high.split_once(' ')) {
                (Some((a, unit)), Some((b, other))) if unit == other && !unit.contains(' ') => {
                    format!("{a} to {b} {unit}")
                }
                _ => format!("{low} to {high}"),
            }
        }
    }
}

/// A round trip in milliseconds, three decimals and no unit, for a column.
pub fn millis(value: Nanos) -> String {
    decimal(value.0.as_nanos(), 1_000_000, 3, Rounding::Nearest)
}

/// The distribution of a latency in one line, in milliseconds.
pub fn latency(of: &Latency) -> String {
    if of.count == 0 {
        return "no value".to_owned();
    }
    format!(
        "min {}  p50 {}  p99 {}  max {} ms",
        millis(of.min_ns),
        millis(of.p50_ns),
        millis(of.p99_ns),
        millis(of.max_ns)
    )
}

/// `part` of `whole` in per cent. Something is never shown as nothing, nor nearly all as all.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let basis = u128::from(part) * 10_000 / u128::from(whole);
    match basis {
        0 if part > 0 => "<0.01 %".to_owned(),
        _ => format!("{}.{:02} %", basis / 100, basis % 100),
    }
}

/// Parts per million in per cent, with one decimal: `97.2 %`, `25 %`. Something is never
/// shown as nothing, nor nearly all as all.
pub fn percent_of_million(ppm: u32) -> String {
    match ppm {
        0 => "0 %".to_owned(),
        1..1_000 => "<0.1 %".to_owned(),
        999_001..1_000_000 => ">99.9 %".to_owned(),
        _ => {
            let tenths = ppm / 1_000;
            match tenths % 10 {
                0 => format!("{} %", tenths / 10),
                tenth => format!("{}.{tenth} %", tenths / 10),
            }
        }
    }
}

/// `1 flow`, `2 flows`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Source ports, with runs drawn together: `50000-50003, 50006`.
pub fn ports(ports: impl IntoIterator<Item = u16>) -> String {
    let mut sorted: Vec<u16> = ports.into_iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in sorted {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => runs.push((port, port)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(a, b)| match b - a {
            0 => a.to_string(),
            1 => format!("{a}, {b}"),
            _ => format!("{a}-{b}"),
        })
        .collect();
    runs.join(", ")
}

/// A path's name, or what stands for none.
pub fn path(name: Option<&str>) -> String {
    name.map_or_else(|| UNNAMED.to_owned(), ascii)
}

/// Text that is safe in a ticket or on a terminal: what is not printable ASCII
/// is shown as its escape.
pub fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            '\u{2013}' | '\u{2014}' => out.push('-'),
            '\u{2018}' | '\u{2019}' => out.push('\''),
            '\u{2192}' => out.push_str("->"),
            '\u{b5}' | '\u{3bc}' => out.push('u'),
            _ => out.extend(c.escape_default()),
        }
    }
    out
}

/// `text` broken at spaces to lines of at most `width` characters, the first
/// behind `first`, the others behind as many spaces. A longer word stays whole.
pub fn wrap(text: &str, width: usize, first: &str) -> Vec<String> {
    let indent = " ".repeat(first.len());
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.len() + 1 + word.len() > width {
            lines.push(core::mem::replace(&mut line, indent.clone()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

/// A traceroute's hops as `tracert` shows them, with one round trip each:
///
/// ```text
///   3   0.412 ms  192.168.11.18
///   4      *      Request timed out.
/// ```
pub fn route_lines(route: &Route) -> Vec<String> {
    let mut lines = Vec::with_capacity(route.hops.len());
    for hop in &route.hops {
        let time = hop
            .round_trip_ns
            .map_or_else(|| "*".to_owned(), |t| millis(t) + " ms");
        match &hop.address {
            None if !hop.asked => lines.push(format!("{:>3}      -      (not asked)", hop.hop)),
            None => lines.push(format!("{:>3}      *      Request timed out.", hop.hop)),
            Some(address) => lines.push(format!("{:>3} {time:>10}  {}", hop.hop, ascii(address))),
        }
        if let Some(said) = &hop.unreachable {
            lines.push(format!("      ! {}", ascii(said)));
        }
    }
    if !route.reached {
        lines.push("    (the target did not answer)".to_owned());
    }
    lines
}

/// Columns of lines beside each other where they fit into `width`, else below each other.
pub fn side_by_side(columns: &[Vec<String>], width: usize) -> Vec<String> {
    const GAP: &str = "  ";
    let widths: Vec<usize> = columns
        .iter()
        .map(|c| c.iter().map(String::len).max().unwrap_or(0))
        .collect();
    let total = widths.iter().sum::<usize>() + GAP.len() * columns.len().saturating_sub(1);
    if total > width {
        return columns.join(&String::new());
    }
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    (0..rows)
        .map(|row| {
            let cells: Vec<String> = columns
                .iter()
                .zip(&widths)
                .map(|(column, width)| {
                    let cell = column.get(row).map_or("", String::as_str);
                    format!("{cell:<width$}")
                })
                .collect();
            cells.join(GAP).trim_end().to_owned()
        })
        .collect()
}

/// A direction in one word.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Unknown => "unknown direction",
    }
}

/// A transition's kind in one word.
pub fn transition(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Failover => "failover",
        TransitionKind::Failback => "failback",
        TransitionKind::Reroute => "reroute",
        TransitionKind::Interruption => "interruption",
    }
}

/// A marker's kind in one word.
pub fn marker(kind: MarkerKind) -> &'static str {
    match kind {
        MarkerKind::Failover => "failover",
        MarkerKind::Failback => "failback",
        MarkerKind::Note => "note",
    }
}

/// A verdict in one word.
pub fn verdict(result: VerdictResult) -> &'static str {
    match result {
        VerdictResult::Met => "MET",
        VerdictResult::Missed => "MISSED",
        VerdictResult::Undecided => "UNDECIDED",
        VerdictResult::NotTested => "NOT TESTED",
    }
}

/// What limits a path MTU, in a few words.
pub fn mtu_limit(of: &PathMtu) -> String {
    let router = of.router.as_deref().map_or_else(String::new, ascii);
    match (of.limit, of.router_mtu) {
        (MtuLimit::NotReached, _) => "nothing: no larger packet was tried".to_owned(),
        (MtuLimit::Interface, _) => "the sender's interface".to_owned(),
        (MtuLimit::Router, Some(mtu)) => format!("{router}, which says {mtu}"),
        (MtuLimit::Router, None) => router,
        (MtuLimit::Silent, _) => "nobody says so: BLACK HOLE for larger packets".to_owned(),
    }
}

/// A path MTU by direction, if known: `out 1500, back 1400`.
pub fn mtu_directions(of: &PathMtu) -> Option<String> {
    let known = |d: &DirectionMtu| d.limit != DirectionLimit::Unknown;
    let way = |d: &DirectionMtu| match d.limit {
        DirectionLimit::Unknown => format!("{} or more", d.bytes),
        _ => d.bytes.to_string(),
    };
    let told = known(&of.out) || known(&of.back);
    (told && of.limit != MtuLimit::Interface)
        .then(|| format!("out {}, back {}", way(&of.out), way(&of.back)))
}

/// Says how many ICMP errors or traceroute answers match nothing sent, and a possible reason.
pub fn unfit_icmp(what: UnfitIcmp, count: u64) -> String {
    let answers = plural(count, "traceroute answer", "traceroute answers");
    match what {
        UnfitIcmp::Trace => format!(
            "{answers} that fit nothing that was sent: somebody forges them, or something on the way changes packets"
        ),
        UnfitIcmp::TraceEarly => format!(
            "{answers} that came before the packet was sent which they answer: they fit nothing"
        ),
        UnfitIcmp::TraceLate => {
            format!("{answers} that came when nobody waited for them any more")
        }
        UnfitIcmp::TooBig => format!(
            "{} that fit nothing that was sent: somebody forges them, or something on the way changes packets",
            plural(count, "ICMP message `too big`", "ICMP messages `too big`")
        ),
        UnfitIcmp::Probe => format!(
            "{} about probes that were never sent: somebody forges them, or something on the way changes packets",
            plural(count, "ICMP error", "ICMP errors")
        ),
        UnfitIcmp::Unread => format!(
            "{} that came too fast to be read",
            plural(count, "ICMP error", "ICMP errors")
        ),
    }
}

/// How a path's name was found, in a few words.
pub fn named_by(how: NamedBy) -> &'static str {
    match how {
        NamedBy::Trace => "traceroute",
        NamedBy::HopCount => "hop count",
        NamedBy::Nothing => "nothing fits",
    }
}

#[cfg(test)]
mod tests;
