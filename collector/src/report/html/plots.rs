//! Latency and loss over time, as SVG by plotters. Its colours are fixed values
//! that the style sheet turns into those of the light or the dark page.

mod axis;

use super::palette::Palette;
use crate::report::ReportError;
use axis::TimeAxis;
use hopgap_analysis::findings::{Findings, MarkerKind, Second, SessionFindings};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const LOSS: RGBColor = RGBColor(0xc8, 0x10, 0x2e);
const BACK: RGBColor = RGBColor(0x7d, 0x21, 0x81);
const INK: RGBColor = RGBColor(0x15, 0x20, 0x2b);
const GREY: RGBColor = RGBColor(0x80, 0x88, 0x91);
const FONT: &str = "system-ui";
const WIDTH: u32 = 1000;
/// More points than this cannot be told apart at the width of a page.
const MAX_POINTS: usize = 900;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<TimeAxis, RangedCoordf64>>;

/// One point of a plot: one second, or several in a long report.
struct Point {
    at: i64,
    to: i64,
    p50: Option<f64>,
    p99: Option<f64>,
    path: Option<String>,
    forward: f64,
    reverse: f64,
    unknown: f64,
}

/// The plots of one session.
pub(super) struct Plots {
    /// Round trip over time.
    pub latency: String,
    /// Loss over time.
    pub loss: String,
    /// How many seconds one point covers.
    pub seconds_per_point: usize,
    /// The largest p99 where it lies beyond the plot.
    pub cut_at: Option<Nanos>,
}

/// Draws the plots of `session`; `None` without a second.
pub(super) fn draw(
    session: &SessionFindings,
    findings: &Findings,
    palette: &Palette,
) -> Result<Option<Plots>, ReportError> {
    let per_point = session.seconds.len().div_ceil(MAX_POINTS).max(1);
    let points: Vec<Point> = session.seconds.chunks(per_point).map(point).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Ok(None);
    };
    let time = TimeAxis::new(first.at, last.to);
    let peak = points.iter().filter_map(|p| p.p99).fold(0.0, f64::max);
    let top = ceiling(&points, peak);
    let latency = svg(240, &format!("Round trip of {}", session.session), |area| {
        latency_plot(
            &area,
            &points,
            time.clone(),
            top,
            (session, findings, palette),
        )
    })?;
    let loss = svg(130, &format!("Loss of {}", session.session), |area| {
        loss_plot(&area, &points, time.clone(), findings)
    })?;
    let cut_at = (peak > top)
        .then(|| session.seconds.iter().filter_map(|s| s.p99_ns).max())
        .flatten();
    Ok(Some(Plots {
        latency,
        loss,
        seconds_per_point: per_point,
        cut_at,
    }))
}

fn point(seconds: &[Second]) -> Point {
    let mut p50: Vec<Nanos> = seconds.iter().filter_map(|s| s.p50_ns).collect();
    p50.sort_unstable();
    let p99 = seconds.iter().filter_map(|s| s.p99_ns).max();
    let sum = |of: fn(&Second) -> u64| seconds.iter().map(of).sum::<u64>();
    let sent = sum(|s| s.sent);
    let share = |lost: u64| {
        if sent == 0 {
            0.0
        } else {
            100.0 * to_f64(lost) / to_f64(sent)
        }
    };
    let nanos = |s: Option<&Second>| s.map_or(0, |s| s.at.0.as_nanos());
    Point {
        at: nanos(seconds.first()),
        to: nanos(seconds.last()).saturating_add(1_000_000_000),
        p50: p50.get(p50.len() / 2).map(|n| n.0.as_millis_f64()),
        p99: p99.map(|n| n.0.as_millis_f64()),
        path: seconds.iter().find_map(|s| s.path.clone()),
        forward: share(sum(|s| s.lost_forward)),
        reverse: share(sum(|s| s.lost_reverse)),
        unknown: share(sum(|s| s.lost_unknown)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of packets, for a plot")]
fn to_f64(n: u64) -> f64 {
    n as f64
}

/// The upper end of the latency axis: a few peaks must not flatten all the rest.
fn ceiling(points: &[Point], peak: f64) -> f64 {
    let mut p99: Vec<f64> = points.iter().filter_map(|p| p.p99).collect();
    p99.sort_by(f64::total_cmp);
    let usual = p99.get(p99.len() * 95 / 100).copied().unwrap_or(peak);
    (peak.min(usual * 3.0) * 1.12).max(0.01)
}

/// The SVG that `draw` makes.
fn svg<F>(height: u32, about: &str, draw: F) -> Result<String, ReportError>
where
    F: for<'a> FnOnce(Area<'a>) -> Result<(), String>,
{
    let mut out = String::new();
    draw(SVGBackend::with_string(&mut out, (WIDTH, height)).into_drawing_area())
        .map_err(ReportError::Plot)?;
    // Drops the root element: the page sets the size, and the name for screen readers.
    let body = out.split_once('>').map_or("", |(_, body)| body);
    Ok(format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{}\">{body}",
        super::escape::Esc(about)
    ))
}

fn chart<'a>(
    area: &Area<'a>,
    time: TimeAxis,
    y: std::ops::Range<f64>,
    unit: &str,
    labels: usize,
) -> Result<Chart<'a>, String> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(18)
        .margin_right(12)
        .margin_bottom(2)
        .x_label_area_size(22)
        .y_label_area_size(58)
        .build_cartesian_2d(time, y)
        .map_err(|e| e.to_string())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .label_style((FONT, 13).into_font().color(&GREY))
        .x_labels(10)
        .y_labels(labels)
        .y_label_formatter(&|v: &f64| format!("{} {unit}", number(v.abs())))
        .draw()
        .map_err(|e| e.to_string())?;
    Ok(chart)
}

fn number(v: f64) -> String {
    let text = format!("{v:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Draws markers as lines, which the style sheet dashes, with their text above.
fn markers(chart: &mut Chart<'_>, findings: &Findings, y: (f64, f64)) -> Result<(), String> {
    let style = (FONT, 13)
        .into_font()
        .color(&GREY)
        .pos(Pos::new(HPos::Center, VPos::Bottom));
    for marker in &findings.markers {
        let at = marker.at.0.as_nanos();
        if !chart.x_range().contains(&at) {
            continue;
        }
        let line = PathElement::new(vec![(at, y.0), (at, y.1)], INK);
        chart
            .draw_series(std::iter::once(line))
            .map_err(|e| e.to_string())?;
        if marker.kind != MarkerKind::Note {
            chart
                .draw_series(std::iter::once(Text::new(
                    text::marker(marker.kind),
                    (at, y.1),
                    style.clone(),
                )))
                .map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Stretches in which some flow of the session had an outage, merged.
fn outages(session: &SessionFindings, end: i64) -> Vec<(i64, i64)> {
    let nanos = |at: Utc| at.0.as_nanos();
    let mut spans: Vec<(i64, i64)> = session
        .flows
        .iter()
        .flat_map(|f| &f.outages)
        .map(|o| {
            let from = nanos(o.last_good.unwrap_or(o.first_lost).sent);
            (from, o.first_good.map_or(end, |p| nanos(p.sent)))
        })
        .collect();
    spans.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

fn latency_plot(
    area: &Area<'_>,
    points: &[Point],
    time: TimeAxis,
    top: f64,
    (session, findings, palette): (&SessionFindings, &Findings, &Palette),
) -> Result<(), String> {
    let end = time.end();
    let mut chart = chart(area, time, 0.0..top, "ms", 6)?;
    let shades = outages(session, end)
        .into_iter()
        .map(|(from, to)| Rectangle::new([(from, 0.0), (to, top)], LOSS.mix(0.22).filled()));
    chart.draw_series(shades).map_err(|e| e.to_string())?;
    for run in runs(points) {
        let path = run.first().and_then(|p| p.path.as_deref());
        let colour = palette.colour(path);
        let line = |of: fn(&Point) -> Option<f64>| -> Vec<(i64, f64)> {
            run.iter()
                .filter_map(|p| Some((i64::midpoint(p.at, p.to), of(p)?.min(top))))
                .collect()
        };
        let (p50, p99) = (line(|p| p.p50), line(|p| p.p99));
        if run.len() == 1 {
            let dots = p50.iter().map(|&at| Circle::new(at, 2, colour.filled()));
            chart.draw_series(dots).map_err(|e| e.to_string())?;
        }
        chart
            .draw_series(LineSeries::new(p99, colour.mix(0.75).stroke_width(1)))
            .map_err(|e| e.to_string())?;
        chart
            .draw_series(LineSeries::new(p50, colour.stroke_width(3)))
            .map_err(|e| e.to_string())?;
    }
    markers(&mut chart, findings, (0.0, top))?;
    area.present().map_err(|e| e.to_string())
}

/// Neighbouring points of one path.
fn runs(points: &[Point]) -> impl Iterator<Item = &[Point]> {
    points
        .chunk_by(|a, b| a.path == b.path && a.p50.is_some() == b.p50.is_some() && b.at <= a.to)
        .filter(|run| run.first().is_some_and(|p| p.p50.is_some()))
}

fn loss_plot(
    area: &Area<'_>,
    points: &[Point],
    time: TimeAxis,
    findings: &Findings,
) -> Result<(), String> {
    let most = |of: fn(&Point) -> f64| points.iter().map(of).fold(1.0, f64::max) * 1.15;
    let up = most(|p| p.forward + p.unknown);
    let down = most(|p| p.reverse);
    let mut chart = chart(area, time, -down..up, "%", 4)?;
    let mut bars: Vec<Rectangle<(i64, f64)>> = Vec::new();
    let mut bar = |p: &Point, from: f64, to: f64, colour: RGBColor| {
        if (to - from).abs() > 0.0 {
            bars.push(Rectangle::new([(p.at, from), (p.to, to)], colour.filled()));
        }
    };
    for p in points {
        bar(p, 0.0, p.forward, LOSS);
        bar(p, p.forward, p.forward + p.unknown, GREY);
        bar(p, 0.0, -p.reverse, BACK);
    }
    chart.draw_series(bars).map_err(|e| e.to_string())?;
    let range = chart.x_range();
    let zero = PathElement::new(vec![(range.start, 0.0), (range.end, 0.0)], GREY);
    chart
        .draw_series(std::iter::once(zero))
        .map_err(|e| e.to_string())?;
    markers(&mut chart, findings, (-down, up))?;
    area.present().map_err(|e| e.to_string())
}
