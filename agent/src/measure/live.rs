//! The live line of `measure`: what the last second was like.

use crate::recorder::Batch;
use hopgap_analysis::schema::Nanos;
use hopgap_analysis::text;
use hopgap_proto::record::{Probe, ProbeFate};
use hopgap_proto::time::{Mono, Span};
use std::io::Write as _;

const EVERY: Span = Span::from_secs(1);

/// Counts for the line. Loss is known only after Tmax, so it is shown as total.
#[derive(Debug)]
pub(super) struct Live {
    timeout: Span,
    shown: Option<Mono>,
    answered: u64,
    unanswered: u64,
    refused: u64,
    /// Round trips since the line was shown.
    recent: Vec<Span>,
    hops: Option<(u8, u8)>,
    /// Since when nothing has come back.
    last_reply: Option<Mono>,
}

impl Live {
    pub(super) fn new(timeout: Span) -> Self {
        Self {
            timeout,
            shown: None,
            answered: 0,
            unanswered: 0,
            refused: 0,
            recent: Vec::new(),
            hops: None,
            last_reply: None,
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
                self.last_reply = self.last_reply.max(Some(reply.received.at));
                if let (Some(forward), Some(reverse)) = (reply.forward_ttl, reply.reverse_ttl) {
                    self.hops = Some((255 - forward, initial_ttl(reverse) - reverse));
                }
            }
            ProbeFate::Unanswered => self.unanswered += 1,
            ProbeFate::Refused(_) => self.refused += 1,
        }
    }

    /// Shows the line once a second.
    pub(super) fn show(&mut self, now: Mono) {
        if self.shown.is_some_and(|shown| now - shown < EVERY) {
            return;
        }
        self.shown = Some(now);
        let line = self.line(now);
        self.recent.clear();
        // A terminal that is gone is no reason to end the measurement.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        let _ = std::io::stderr().flush();
    }

    /// Leaves the line behind.
    pub(super) fn finish(&mut self) {
        let _ = writeln!(std::io::stderr(), "\r\x1b[K");
    }

    fn line(&mut self, now: Mono) -> String {
        self.recent.sort_unstable();
        let at = |quantile: usize| {
            let index = self.recent.len().saturating_sub(1) * quantile / 100;
            self.recent.get(index).map(|s| text::millis(Nanos(*s)))
        };
        let latency = match (at(50), at(99)) {
            (Some(p50), Some(p99)) => format!("round trip p50 {p50} p99 {p99} ms"),
            _ => "no reply in the last second".to_owned(),
        };
        let hops = self.hops.map_or_else(String::new, |(forward, reverse)| {
            format!("  routers out {forward} back {reverse}")
        });
        let silence = match self.last_reply {
            Some(last) if now - last > self.timeout.min(EVERY) => {
                format!("  SILENT for {}", text::span(Nanos(now - last)))
            }
            _ => String::new(),
        };
        let refused = if self.refused > 0 {
            format!("  refused here {}", self.refused)
        } else {
            String::new()
        };
        format!(
            "answered {}  lost {}{refused}  {latency}{hops}{silence}",
            self.answered, self.unanswered
        )
    }
}

/// The TTL that a reply most likely set out with.
fn initial_ttl(seen: u8) -> u8 {
    [64, 128]
        .into_iter()
        .find(|initial| seen <= *initial)
        .unwrap_or(255)
}
