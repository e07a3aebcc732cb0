//! Which colour stands for which named path: one for the whole page.

use super::escape::{Esc, put};
use hopgap_analysis::findings::Findings;
use hopgap_analysis::text::UNNAMED;
use plotters::style::RGBColor;
use std::collections::BTreeSet;

/// Colours that people with any of the usual colour-vision deficiencies can tell
/// apart, in the order of use. The style sheet brightens them in dark mode, by
/// these very values (`style.css`).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x7a, 0x5a, 0xb8),
];
const UNNAMED_COLOUR: RGBColor = RGBColor(0x8a, 0x92, 0x9c);

/// The named paths. Colours follow the plan's order, so that a path has the same colour in
/// every report.
pub(super) struct Palette {
    /// The plan's paths, then any that it lacks.
    names: Vec<String>,
    /// The paths that the page shows, as indices into `names`.
    shown: BTreeSet<usize>,
}

impl Palette {
    pub(super) fn new(findings: &Findings) -> Self {
        let mut palette = Self {
            names: findings.paths.clone(),
            shown: BTreeSet::new(),
        };
        for flow in findings.sessions.iter().flat_map(|s| &s.flows) {
            let epochs = flow.forward_paths.iter().chain(&flow.reverse_paths);
            epochs.for_each(|e| palette.show(e.path.as_deref()));
        }
        let directions = findings.transitions.iter().flat_map(|t| &t.directions);
        for row in directions.flat_map(|d| &d.rows) {
            palette.show(row.path_before.as_deref());
            palette.show(row.path_after.as_deref());
        }
        palette
    }

    fn show(&mut self, path: Option<&str>) {
        let Some(path) = path else { return };
        let at = self.names.iter().position(|n| n == path);
        let at = at.unwrap_or_else(|| {
            self.names.push(path.to_owned());
            self.names.len() - 1
        });
        self.shown.insert(at);
    }

    fn index(&self, path: Option<&str>) -> Option<usize> {
        let path = path?;
        let at = self.names.iter().position(|n| n == path)?;
        Some(at % COLOURS.len())
    }

    /// The class that colours an element for this path.
    pub(super) fn class(&self, path: Option<&str>) -> String {
        self.index(path)
            .map_or_else(|| "pu".to_owned(), |i| format!("p{i}"))
    }

    /// The colour itself, for plots.
    pub(super) fn colour(&self, path: Option<&str>) -> RGBColor {
        self.index(path)
            .and_then(|i| COLOURS.get(i).copied())
            .unwrap_or(UNNAMED_COLOUR)
    }

    /// The path's name with a swatch of its colour before it.
    pub(super) fn label(&self, path: Option<&str>) -> String {
        format!(
            "<span class=\"path\"><i class=\"sw {}\"></i>{}</span>",
            self.class(path),
            Esc(path.unwrap_or(UNNAMED))
        )
    }

    /// `a → b`, or the one path where both are the same.
    pub(super) fn change(&self, before: Option<&str>, after: Option<&str>) -> String {
        if before == after {
            return self.label(before);
        }
        format!("{} → {}", self.label(before), self.label(after))
    }

    /// The paths that occur, for a legend.
    pub(super) fn legend(&self) -> String {
        let mut out = String::new();
        for name in self.shown.iter().filter_map(|at| self.names.get(*at)) {
            put!(out, "{} ", self.label(Some(name)));
        }
        out
    }
}

#[cfg(test)]
mod tests;
