//! The timeline of one transition: a lane for each flow and direction, coloured
//! by path, with the outage as a gap. Drawn by hand, to scale.

use super::escape::{Esc, put};
use super::palette::Palette;
use hopgap_analysis::findings::{
    Direction, Findings, FlowFindings, Outage, PathEpoch, Transition, TransitionDirection,
    TransitionFlow,
};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text;
use hopgap_proto::time::Span;
use std::collections::BTreeSet;

const LEFT: f64 = 66.0;
const RIGHT: f64 = 846.0;
const WIDTH: f64 = 1000.0;
const TOP: f64 = 54.0;
/// More loss periods than this in one outage are drawn as one.
const MAX_PERIODS: usize = 200;

/// Where an instant lies on the page.
struct Scale {
    from: Utc,
    to: Utc,
}

impl Scale {
    /// From a little before the marker or the start to a little after the end. A marker
    /// far before the start is left out: it would press the rest together.
    fn of(transition: &Transition, findings: &Findings) -> Self {
        let start = transition.started;
        let rows = || transition.directions.iter().flat_map(|d| &d.rows);
        let outages = rows().flat_map(|r| &r.outages);
        let seen = outages
            .map(|o| o.first_good.unwrap_or(o.last_lost).sent)
            .chain(rows().filter_map(|r| r.first_on_new_path).map(|p| p.sent))
            .chain(transition.recovered)
            .max();
        let end = seen.unwrap_or(start).max(start);
        let length = end.0 - start.0;
        let room = (length * 3).max(Span::from_secs(5));
        let marker = transition.marker.as_ref().map(|m| m.at);
        let first = marker
            .filter(|&m| m <= start && start.0 - m.0 <= room)
            .unwrap_or(start);
        let pad = ((end.0 - first.0) / 8).max(Span::from_millis(20));
        let (mut from, mut to) = (Utc(first.0 - pad), Utc(end.0 + pad));
        if let Some(window) = findings.window {
            from = from.max(window.from.min(first));
            to = to.min(window.to.max(end));
        }
        if to.0 - from.0 < Span::from_millis(1) {
            to = Utc(from.0 + Span::from_millis(1));
        }
        Self { from, to }
    }

    fn shows(&self, at: Utc) -> bool {
        at >= self.from && at <= self.to
    }

    /// Its x, clipped to the lanes.
    fn x(&self, at: Utc) -> f64 {
        let share = (at.0 - self.from.0).as_secs_f64() / (self.to.0 - self.from.0).as_secs_f64();
        LEFT + (RIGHT - LEFT) * share.clamp(0.0, 1.0)
    }
}

/// Lane height and the room between two, by how many there are.
fn pitch(lanes: usize) -> (f64, f64) {
    match lanes {
        0..=40 => (12.0, 4.0),
        41..=96 => (8.0, 3.0),
        _ => (4.0, 2.0),
    }
}

/// The figure, as SVG.
pub(super) fn draw(
    number: usize,
    transition: &Transition,
    findings: &Findings,
    palette: &Palette,
) -> String {
    let scale = Scale::of(transition, findings);
    let lanes: usize = transition.directions.iter().map(|d| d.rows.len()).sum();
    let (high, gap) = pitch(lanes);
    let (mut body, mut headings) = (String::new(), String::new());
    let mut y = TOP;
    for direction in &transition.directions {
        y += 16.0;
        heading(&mut headings, direction, y);
        y += 7.0;
        for row in &direction.rows {
            let flow = flow_of(findings, direction, row);
            lane(
                &mut body,
                &scale,
                palette,
                (number, y, high),
                direction,
                row,
                flow,
            );
            y += high + gap;
        }
        y += 6.0;
    }
    let bottom = y;
    let mut out = String::new();
    put!(
        out,
        "<svg class=\"lanes\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"Timeline of \
         {} {number}: one lane for each flow and direction\">",
        bottom + 40.0,
        text::transition(transition.kind)
    );
    put!(
        out,
        "<defs>{}</defs>",
        kinds(transition)
            .into_iter()
            .map(|kind| pattern(number, kind))
            .collect::<String>()
    );
    axis(&mut out, &scale, transition, bottom);
    out.push_str(&body);
    events(&mut out, &scale, transition, bottom);
    out.push_str(&headings);
    out.push_str("</svg>");
    out
}

/// Which losses lanes show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Losses in a known direction.
    Known,
    /// Losses in one direction or the other.
    Unknown,
}

impl Kind {
    fn of(direction: Direction) -> Self {
        match direction {
            Direction::Forward | Direction::Reverse => Self::Known,
            Direction::Unknown => Self::Unknown,
        }
    }

    /// Returns the suffix of the names of drawn elements.
    fn suffix(self) -> &'static str {
        match self {
            Self::Known => "",
            Self::Unknown => "-u",
        }
    }
}

/// The kinds of lanes in a figure.
pub(super) fn kinds(transition: &Transition) -> BTreeSet<Kind> {
    let directions = transition.directions.iter();
    directions.map(|d| Kind::of(d.direction)).collect()
}

/// A swatch of an outage for the legend of figure `number`.
pub(super) fn swatch(number: usize, kind: Kind) -> String {
    let suffix = kind.suffix();
    format!(
        "<svg class=\"lanes\" viewBox=\"0 0 26 11\" style=\"display:inline;width:26px;\
         height:11px;vertical-align:-1px\"><rect class=\"may{suffix}\" x=\".5\" y=\".5\" \
         width=\"25\" height=\"10\"/><rect x=\"5\" y=\"1\" width=\"16\" height=\"9\" \
         fill=\"url(#hatch{suffix}{number})\"/></svg>"
    )
}

fn pattern(number: usize, kind: Kind) -> String {
    let suffix = kind.suffix();
    format!(
        "<pattern id=\"hatch{suffix}{number}\" width=\"6\" height=\"6\" \
         patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" \
         height=\"6\" class=\"hatch{suffix}\"/><line x1=\"3\" y1=\"-1\" x2=\"3\" y2=\"7\" \
         class=\"hatch-line{suffix}\"/></pattern>"
    )
}

fn flow_of<'a>(
    findings: &'a Findings,
    direction: &TransitionDirection,
    row: &TransitionFlow,
) -> Option<&'a FlowFindings> {
    findings
        .sessions
        .iter()
        .find(|s| s.session == direction.session)?
        .flows
        .iter()
        .find(|f| f.flow == row.flow)
}

fn heading(out: &mut String, direction: &TransitionDirection, y: f64) {
    put!(
        out,
        "<text class=\"dir\" x=\"0\" y=\"{y:.1}\">{}, {} <tspan> {} → {} · {} of {} with an \
         outage</tspan></text>",
        Esc(&direction.session),
        text::direction(direction.direction),
        Esc(&direction.from),
        Esc(&direction.to),
        direction.flows_affected,
        text::plural(direction.flows, "flow", "flows"),
    );
}

fn lane(
    out: &mut String,
    scale: &Scale,
    palette: &Palette,
    (number, y, high): (usize, f64, f64),
    direction: &TransitionDirection,
    row: &TransitionFlow,
    flow: Option<&FlowFindings>,
) {
    let rect = |class: &str, from: f64, to: f64, title: &str| {
        format!(
            "<rect class=\"{class}\" x=\"{from:.2}\" y=\"{y:.1}\" width=\"{:.2}\" \
             height=\"{high}\"><title>{}</title></rect>",
            (to - from).max(0.6),
            Esc(title)
        )
    };
    let small = high < 8.0;
    let base = y + high / 2.0 + 4.0;
    if !small {
        put!(
            out,
            "<text x=\"{:.0}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            row.source_port
        );
    }
    out.push_str(&rect("track", LEFT, RIGHT, "no probe seen"));
    for epoch in epochs(flow, direction.direction) {
        if epoch.last.sent < scale.from || epoch.first.sent > scale.to {
            continue;
        }
        let class = format!("ep {}", palette.class(epoch.path.as_deref()));
        out.push_str(&rect(
            &class,
            scale.x(epoch.first.sent),
            scale.x(epoch.last.sent),
            &about_epoch(row.source_port, epoch),
        ));
    }
    let suffix = Kind::of(direction.direction).suffix();
    for outage in &row.outages {
        let title = about_outage(row.source_port, outage);
        let from = outage.last_good.map_or(LEFT, |p| scale.x(p.sent));
        let to = outage.first_good.map_or(RIGHT, |p| scale.x(p.sent));
        out.push_str(&rect(&format!("may{suffix}"), from, to, &title));
        // Not by a class: the pattern's name differs from figure to figure.
        let mut sure = |from: f64, to: f64| {
            put!(
                out,
                "<rect x=\"{from:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{high}\" \
                 fill=\"url(#hatch{suffix}{number})\"><title>{}</title></rect>",
                (to - from).max(0.6),
                Esc(&title)
            );
        };
        if outage.loss_periods.is_empty() || outage.loss_periods.len() > MAX_PERIODS {
            sure(
                scale.x(outage.first_lost.sent),
                scale.x(outage.last_lost.sent),
            );
        } else {
            for period in &outage.loss_periods {
                sure(scale.x(period.first.sent), scale.x(period.last.sent));
            }
        }
    }
    if !small {
        let (class, said) = match row.outages.as_slice() {
            [] if row.untold > 0 => ("none", format!("unknown, {}", text::span(row.untold_ns))),
            [] => ("none", "no outage".to_owned()),
            [one] => ("got", text::bounds(one.at_least_ns, one.at_most_ns)),
            many => ("got", format!("{} outages", many.len())),
        };
        put!(
            out,
            "<text class=\"{class}\" x=\"{:.0}\" y=\"{base:.1}\">{said}</text>",
            RIGHT + 10.0
        );
    }
}

fn epochs(flow: Option<&FlowFindings>, direction: Direction) -> &[PathEpoch] {
    match (flow, direction) {
        (Some(flow), Direction::Reverse) => &flow.reverse_paths,
        (Some(flow), Direction::Forward | Direction::Unknown) => &flow.forward_paths,
        (None, _) => &[],
    }
}

fn about_epoch(port: u16, epoch: &PathEpoch) -> String {
    format!(
        "port {port}: {} from {} (probe {}) to {} (probe {}), {} seen, named by {}",
        epoch.path.as_deref().unwrap_or(text::UNNAMED),
        text::clock(epoch.first.sent),
        epoch.first.seq,
        text::clock(epoch.last.sent),
        epoch.last.seq,
        text::plural(epoch.probes, "probe", "probes"),
        text::named_by(epoch.named_by),
    )
}

fn about_outage(port: u16, outage: &Outage) -> String {
    let or = |p: Option<hopgap_analysis::findings::ProbePoint>| {
        p.map_or_else(|| "not seen".to_owned(), |p| text::clock(p.sent))
    };
    format!(
        "port {port}: outage of {}; last good {}, first lost {}, last lost {}, first good {}; {} lost",
        text::bounds(outage.at_least_ns, outage.at_most_ns),
        or(outage.last_good),
        text::clock(outage.first_lost.sent),
        text::clock(outage.last_lost.sent),
        or(outage.first_good),
        text::plural(outage.lost, "probe", "probes"),
    )
}

/// Returns the instant that the axis counts from, and its description.
fn origin(scale: &Scale, transition: &Transition) -> (Utc, &'static str) {
    match &transition.marker {
        Some(marker) if scale.shows(marker.at) => (marker.at, "the marker"),
        _ => (transition.started, "the start"),
    }
}

fn axis(out: &mut String, scale: &Scale, transition: &Transition, bottom: f64) {
    let (zero, name) = origin(scale, transition);
    let step = step((scale.to.0 - scale.from.0).as_nanos() / 9);
    let first = (scale.from.0 - zero.0).as_nanos().div_euclid(step) + 1;
    let last = (scale.to.0 - zero.0).as_nanos().div_euclid(step);
    for n in first..=last {
        let after = Span::from_nanos(n.saturating_mul(step));
        let x = scale.x(Utc(zero.0 + after));
        put!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}{}</text>",
            TOP,
            bottom + 14.0,
            if after > Span::ZERO { "+" } else { "" },
            text::span(Nanos(after)).replace("0 ms", if n == 0 { "0" } else { "0 ms" })
        );
    }
    put!(
        out,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">after {name}, {} UTC</text>",
        f64::midpoint(LEFT, RIGHT),
        bottom + 31.0,
        text::date_time(zero)
    );
}

/// The next of 1, 2, 5 and their multiples by ten, up to whole minutes.
fn step(at_least: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    const LONG: [i64; 11] = [10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 21_600, 86_400];
    let mut unit = 1_000;
    while unit <= SECOND {
        for step in [unit, 2 * unit, 5 * unit] {
            if step >= at_least {
                return step;
            }
        }
        unit *= 10;
    }
    let long = LONG.into_iter().map(|s| s * SECOND);
    long.into_iter()
        .find(|&s| s >= at_least)
        .unwrap_or_else(|| at_least.max(1))
}

fn events(out: &mut String, scale: &Scale, transition: &Transition, bottom: f64) {
    let marker = transition.marker.as_ref().map(|m| {
        let said = format!("marker: {} {}", text::marker(m.kind), text::clock(m.at));
        (m.at, "mk", said)
    });
    let started = Some((
        transition.started,
        "st",
        format!("started {}", text::clock(transition.started)),
    ));
    let recovered = transition
        .recovered
        .map(|at| (at, "rc", format!("recovered {}", text::clock(at))));
    let events = [marker, started, recovered].into_iter().enumerate();
    for (row, event) in events {
        let Some((at, class, said)) = event.filter(|e| scale.shows(e.0)) else {
            continue;
        };
        let x = scale.x(at);
        let y = 13.0 + 15.0 * f64::from(u8::try_from(row).unwrap_or(0));
        // Puts the label on the side with more room.
        let (dx, anchor) = if x > 640.0 {
            (-5.0, "end")
        } else {
            (5.0, "start")
        };
        put!(
            out,
            "<line class=\"{class}\" x1=\"{x:.2}\" y1=\"{:.0}\" x2=\"{x:.2}\" y2=\"{bottom:.0}\"/>\
             <text class=\"lab {class}\" x=\"{:.1}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{}</text>",
            y - 10.0,
            x + dx,
            Esc(said)
        );
    }
}
