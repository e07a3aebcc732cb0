//! Everybody beside everybody, one row for each scenario and program.

use super::compare::Told;
use super::{Compared, Peer, versions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Between a kernel's stamp and the wire's, both edges together, in nanoseconds.
const SLACK_NS: i64 = 1_000_000;
/// Nanoseconds of a millisecond.
const MILLI: f64 = 1e6;

/// What was said of all outages of each scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::campaign) struct PeerTable {
    scenarios: BTreeMap<String, Vec<Compared>>,
}

/// What one program said of all outages of a scenario.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    outages: usize,
    seen: usize,
    /// Errors of the length in milliseconds, without sign, of what was seen.
    errors: Vec<f64>,
    /// Outages whose direction was told: rightly, and wrongly.
    told: (usize, usize),
    /// Flows with bounds, and those whose bounds hold the true length.
    bounds: (usize, usize),
}

impl Row {
    fn take(&mut self, outage: &Compared, said: &[Told]) {
        self.outages += 1;
        self.seen += usize::from(!said.is_empty() && said.iter().all(|t| t.bounds_ns.is_some()));
        let lengths = said.iter().filter_map(Told::length_ns);
        self.errors.extend(lengths.map(|length| {
            #[expect(clippy::cast_precision_loss, reason = "an error of years is none")]
            let error = (length - outage.lasted_ns).abs() as f64;
            error / MILLI
        }));
        let ways: Vec<_> = said.iter().filter_map(|told| told.way).collect();
        let right = ways.iter().all(|way| *way == outage.way);
        if !right {
            self.told.1 += 1;
        } else if ways.len() == said.len() && !ways.is_empty() {
            self.told.0 += 1;
        }
        for (least, most) in said.iter().filter_map(|told| told.bounds_ns) {
            let holds = least <= outage.lasted_ns + SLACK_NS && outage.lasted_ns <= most + SLACK_NS;
            self.bounds.0 += 1;
            self.bounds.1 += usize::from(holds);
        }
    }

    fn error(&self) -> String {
        let mut errors = self.errors.clone();
        errors.sort_by(f64::total_cmp);
        match (errors.get(errors.len() / 2), errors.last()) {
            (Some(median), Some(worst)) => format!("{median:.1} / {worst:.1}"),
            _ => "-".to_owned(),
        }
    }

    fn direction(&self) -> String {
        match self.told {
            (0, 0) => "no".to_owned(),
            (right, 0) => format!("{right}"),
            (right, wrong) => format!("{right}, wrongly {wrong}"),
        }
    }
}

impl PeerTable {
    /// Adds the outages of a run.
    pub(in crate::campaign) fn take(&mut self, scenario: &str, outages: Vec<Compared>) {
        if !outages.is_empty() {
            let all = self.scenarios.entry(scenario.to_owned()).or_default();
            all.extend(outages);
        }
    }

    /// Whether there is anything to compare.
    pub(in crate::campaign) fn is_empty(&self) -> bool {
        self.scenarios.is_empty()
    }

    fn rows(outages: &[Compared]) -> Vec<(&'static str, Row)> {
        let mut hopgap = Row::default();
        let mut peers: BTreeMap<Peer, Row> = BTreeMap::new();
        for outage in outages {
            hopgap.take(outage, &outage.hopgap);
            for (peer, told) in &outage.peers {
                peers.entry(*peer).or_default().take(outage, &[*told]);
            }
        }
        let peers = peers.into_iter().map(|(peer, row)| (peer.name(), row));
        std::iter::once(("hopgap", hopgap)).chain(peers).collect()
    }
}

impl fmt::Display for PeerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n# Beside the peers\n")?;
        writeln!(
            f,
            "Errors of an outage's length are in milliseconds, median / worst, of those that were seen; \
             hopgap's is of the middle of its bounds, of each flow. `direction` counts the outages whose \
             direction was told.\n"
        )?;
        for version in versions() {
            writeln!(f, "- {version}")?;
        }
        writeln!(
            f,
            "\n| scenario | program | outages | seen | direction | error | inside its bounds |\n|{}",
            "---|".repeat(7)
        )?;
        for (scenario, outages) in &self.scenarios {
            for (program, row) in Self::rows(outages) {
                let inside = match (program, row.bounds) {
                    ("hopgap", (all, right)) => format!("{right} of {all}"),
                    _ => "gives none".to_owned(),
                };
                writeln!(
                    f,
                    "| {scenario} | {program} | {} | {} | {} | {} | {inside} |",
                    row.outages,
                    row.seen,
                    row.direction(),
                    row.error(),
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{PeerTable, Row};
    use crate::campaign::peers::Peer;
    use crate::campaign::peers::compare::{Compared, Told};
    use crate::campaign::scenario::Way;

    const MILLI: i64 = 1_000_000;

    fn told(bounds: Option<(i64, i64)>, way: Option<Way>) -> Told {
        Told {
            bounds_ns: bounds.map(|(least, most)| (least * MILLI, most * MILLI)),
            way,
        }
    }

    fn outage(hopgap: Vec<Told>, fping: Told) -> Compared {
        Compared {
            way: Way::Reverse,
            lasted_ns: 300 * MILLI,
            hopgap,
            peers: vec![(Peer::Fping, fping)],
        }
    }

    #[test]
    fn what_was_not_seen_told_wrongly_or_left_open_is_counted() {
        let right = told(Some((290, 310)), Some(Way::Reverse));
        let late = told(Some((310, 330)), Some(Way::Forward));
        let outages = [
            outage(vec![right, right], told(Some((320, 320)), None)),
            outage(vec![right, told(None, None)], told(None, None)),
            outage(vec![right, late], told(Some((300, 300)), None)),
        ];
        let rows = PeerTable::rows(&outages);
        let (hopgap, fping) = (&rows[0].1, &rows[1].1);
        assert_eq!(
            *hopgap,
            Row {
                outages: 3,
                seen: 2,
                errors: vec![0.0, 0.0, 0.0, 0.0, 20.0],
                told: (1, 1),
                bounds: (5, 4),
            }
        );
        assert_eq!((fping.outages, fping.seen, fping.told), (3, 2, (0, 0)));
        assert_eq!(fping.error(), "20.0 / 20.0");
        let mut table = PeerTable::default();
        assert!(table.is_empty());
        table.take("x", outages.to_vec());
        let text = table.to_string();
        assert!(
            text.contains("| x | hopgap | 3 | 2 | 1, wrongly 1 | 0.0 / 20.0 | 4 of 5 |"),
            "{text}"
        );
        assert!(text.contains("| x | fping | 3 | 2 | no |"), "{text}");
    }
}
