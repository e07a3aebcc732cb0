//! The live output of `measure`: a line that is redrawn, and a dated line for each event.
//! Pure: takes records and the time, returns text.
//!
//! The live output rests on silence so far and is provisional; the summary at the end rests
//! on every probe's fate.

use super::watch::{Change, Watch, Way};
use crate::cli::{PathCondition, PathOption};
use crate::recorder::Batch;
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text;
use hopgap_proto::record::{Probe, ProbeFate};
use hopgap_proto::time::{ClockPair, Mono, Span};

/// How often the line is redrawn; in an outage, whose time it counts, more often.
const EVERY: Span = Span::from_secs(1);
const EVERY_IN_OUTAGE: Span = Span::from_millis(200);

/// Most events shown one by one at a time; more are counted.
const MOST_AT_ONCE: usize = 6;

/// Counts for the line. Loss is known only after Tmax, so only its total is shown.
#[derive(Debug)]
pub(super) struct Live {
    watch: Watch,
    flows: usize,
    /// Names of paths, by the target's hop.
    names: Vec<(u8, String)>,
    shown: Option<Mono>,
    answered: u64,
    unanswered: u64,
    refused: u64,
    /// Round trips since the line was last shown.
    recent: Vec<Span>,
}

impl Live {
    /// Begins at `now` for `flows` that each send a probe every `interval`.
    pub(super) fn new(flows: u8, interval: Span, paths: &[PathOption], now: Mono) -> Self {
        let names = paths.iter().filter_map(|p| match p.condition {
            PathCondition::TargetAtHop(hop) => Some((hop, p.name.to_string())),
            PathCondition::Passes(_) => None,
        });
        Self {
            watch: Watch::new(flows, interval, now),
            flows: usize::from(flows),
            names: names.collect(),
            shown: None,
            answered: 0,
            unanswered: 0,
            refused: 0,
            recent: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, batch: &Batch) {
        for probe in &batch.probes {
            self.take_probe(probe);
        }
    }

    fn take_probe(&mut self, probe: &Probe) {
        match probe.fate {
            ProbeFate::Answered(reply) => {
                self.answered += 1;
                self.recent.extend(probe.round_trip());
                self.watch.replied(probe.flow, &reply);
            }
            ProbeFate::Unanswered => self.unanswered += 1,
            ProbeFate::Refused(_) => self.refused += 1,
        }
    }

    /// Returns the dated lines of events since the last call.
    pub(super) fn events(&mut self, now: ClockPair) -> Vec<String> {
        let mut changes = self.watch.turn(now.mono);
        let more = changes.len().saturating_sub(MOST_AT_ONCE);
        changes.truncate(MOST_AT_ONCE);
        let mut lines: Vec<String> = changes
            .iter()
            .map(|(at, change)| {
                let wall = now.wall - (now.mono - *at);
                format!("{} UTC  {}", text::date_time(Utc(wall)), self.words(change))
            })
            .collect();
        if more > 0 {
            lines.push(format!("and {more} more changes at once"));
        }
        if !lines.is_empty() {
            // Redraws the line at once.
            self.shown = None;
        }
        lines
    }

    fn words(&self, change: &Change) -> String {
        let all = self.flows;
        let on = |flows: usize| match flows == all {
            true => String::new(),
            false => format!(" on {flows} of {all} flows"),
        };
        match *change {
            Change::Down { flows } => format!("DOWN{}: no reply since then", on(flows)),
            Change::Up { flows, after } => {
                format!("UP{} after {}", on(flows), tenths(after))
            }
            Change::Path {
                way,
                from,
                to,
                flows,
            } => format!(
                "PATH {}: {} -> {}{}",
                match way {
                    Way::Out => "out",
                    Way::Back => "back",
                },
                self.path(from),
                self.path(to),
                on(flows)
            ),
        }
    }

    /// Describes a path by the hop of its end, with its name where it has one.
    fn path(&self, hop: u8) -> String {
        match self.names.iter().find(|(h, _)| *h == hop) {
            Some((_, name)) => format!("{} (hop {hop})", text::ascii(name)),
            None => format!("hop {hop}"),
        }
    }

    /// Returns the line for a terminal of this width, where it is due.
    pub(super) fn due(&mut self, now: Mono, width: usize) -> Option<String> {
        let every = match self.watch.down_for(now) {
            Some(_) => EVERY_IN_OUTAGE,
            None => EVERY,
        };
        if self.shown.is_some_and(|shown| now - shown < every) {
            return None;
        }
        let line = self.line(now, width);
        self.shown = Some(now);
        self.recent.clear();
        Some(line)
    }

    /// Returns as much of the line as fits, the most important first.
    fn line(&mut self, now: Mono, width: usize) -> String {
        self.recent.sort_unstable();
        let mut parts = Vec::new();
        let down = self.watch.down_for(now);
        if let Some((span, flows)) = down {
            parts.push(match flows == self.flows {
                true => format!("DOWN {}", tenths(span)),
                false => format!("DOWN {} on {flows} of {} flows", tenths(span), self.flows),
            });
        }
        parts.push(format!("answered {}", self.answered));
        // In an outage the newest are still waited for.
        let so_far = if down.is_some() { " so far" } else { "" };
        parts.push(format!("lost {}{so_far}", self.unanswered));
        if self.refused > 0 {
            parts.push(format!("refused here {}", self.refused));
        }
        let at = |quantile: usize| {
            let index = self.recent.len().saturating_sub(1) * quantile / 100;
            self.recent.get(index).map(|s| text::millis(Nanos(*s)))
        };
        match (at(50), at(99)) {
            (Some(p50), Some(p99)) => parts.push(format!("rtt p50 {p50} p99 {p99} ms")),
            _ if down.is_none() && self.answered == 0 => parts.push("no reply yet".to_owned()),
            _ => {}
        }
        if let Some((out, back)) = self.watch.hops() {
            parts.push(format!("out {} back {}", self.path(out), self.path(back)));
        }
        // Leaves the last column free: some terminals wrap as soon as it is written.
        fit(&parts, width.saturating_sub(1))
    }
}

/// Joins the parts that fit into `width` characters, in order; cuts the first if need be.
fn fit(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let part: String = part.chars().filter(|c| !c.is_control()).collect();
        let length = part.chars().count();
        if line.is_empty() {
            line = part.chars().take(width).collect();
        } else if line.chars().count() + 2 + length <= width {
            line.push_str("  ");
            line.push_str(&part);
        } else {
            // A less important part must not replace one that did not fit.
            break;
        }
    }
    line
}

/// Formats seconds with one decimal, truncated: `3.2 s`; longer times in minutes or hours.
fn tenths(span: Span) -> String {
    let tenths = span.as_nanos().max(0) / 100_000_000;
    let (seconds, tenth) = (tenths / 10, tenths % 10);
    match seconds {
        0..120 => format!("{seconds}.{tenth} s"),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests;
