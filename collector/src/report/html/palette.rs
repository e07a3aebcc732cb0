//! Which colour stands for which named path: one for the whole page.

use super::escape::{Esc, put};
use hopgap_analysis::findings::{Findings, TransitionKind};
use hopgap_analysis::text::UNNAMED;
use plotters::style::RGBColor;

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

/// The named paths that occur, primary paths first as far as the transitions tell.
pub(super) struct Palette {
    names: Vec<String>,
}

impl Palette {
    pub(super) fn new(findings: &Findings) -> Self {
        let mut names = Vec::new();
        let mut add = |name: &Option<String>| {
            if let Some(name) = name
                && !names.contains(name)
            {
                names.push(name.clone());
            }
        };
        for transition in &findings.transitions {
            let rows = || transition.directions.iter().flat_map(|d| &d.rows);
            match transition.kind {
                TransitionKind::Failover => rows().for_each(|r| add(&r.path_before)),
                TransitionKind::Failback => rows().for_each(|r| add(&r.path_after)),
                TransitionKind::Reroute | TransitionKind::Interruption => {}
            }
        }
        for flow in findings.sessions.iter().flat_map(|s| &s.flows) {
            let epochs = flow.forward_paths.iter().chain(&flow.reverse_paths);
            epochs.for_each(|e| add(&e.path));
        }
        for row in findings
            .transitions
            .iter()
            .flat_map(|t| &t.directions)
            .flat_map(|d| &d.rows)
        {
            add(&row.path_before);
            add(&row.path_after);
        }
        Self { names }
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

    /// All paths, for a legend.
    pub(super) fn legend(&self) -> String {
        let mut out = String::new();
        for name in &self.names {
            put!(out, "{} ", self.label(Some(name)));
        }
        out
    }
}
