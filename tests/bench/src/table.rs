//! How a benchmark says what it found.

use anyhow::bail;

/// What a row must satisfy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The figure must be at least this.
    AtLeast(f64),
    /// The figure must be at most this.
    AtMost(f64),
    /// It is only shown.
    Shown,
}

impl Target {
    fn text(self) -> String {
        match self {
            Self::AtLeast(x) => format!("≥ {}", number(x)),
            Self::AtMost(x) => format!("≤ {}", number(x)),
            Self::Shown => String::new(),
        }
    }

    fn holds(self, x: f64) -> bool {
        match self {
            Self::AtLeast(least) => x >= least,
            Self::AtMost(most) => x <= most,
            Self::Shown => true,
        }
    }
}

/// A benchmark's findings.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    rows: Vec<[String; 6]>,
    missed: Vec<String>,
}

impl Table {
    /// A table for the benchmark of this name; tells what it will measure and how busy
    /// the machine is before.
    pub fn begin(name: &'static str, what: &str) -> Self {
        println!("\n{name}: {what}");
        println!("{}", load());
        Self {
            name,
            rows: Vec::new(),
            missed: Vec::new(),
        }
    }

    /// Our figure beside that of `peer`; the target is for the ratio ours / peer's.
    pub fn ratio(
        &mut self,
        what: &str,
        unit: &str,
        ours: f64,
        (peer, theirs): (&str, f64),
        target: Target,
    ) {
        let ratio = ours / theirs;
        self.row(
            what,
            [unit, peer],
            [ours, theirs],
            (&number(ratio), ratio),
            ("ratio ", target),
        );
    }

    /// Our figure beside that of `peer`; the target is for our figure.
    pub fn figure(
        &mut self,
        what: &str,
        unit: &str,
        ours: f64,
        (peer, theirs): (&str, f64),
        target: Target,
    ) {
        let ratio = number(ours / theirs);
        self.row(
            what,
            [unit, peer],
            [ours, theirs],
            (&ratio, ours),
            ("", target),
        );
    }

    /// Our figure where there is nothing to compare it with but its target.
    pub fn alone(&mut self, what: &str, unit: &str, ours: f64, target: Target) {
        self.row(
            what,
            [unit, "–"],
            [ours, f64::NAN],
            ("", ours),
            ("", target),
        );
    }

    fn row(
        &mut self,
        what: &str,
        [unit, peer]: [&str; 2],
        [ours, theirs]: [f64; 2],
        (ratio, judged): (&str, f64),
        (of, target): (&str, Target),
    ) {
        let verdict = match target {
            Target::Shown => String::new(),
            _ if target.holds(judged) => format!("{of}{} met", target.text()),
            _ => {
                self.missed.push(what.to_owned());
                format!("{of}{} MISSED", target.text())
            }
        };
        let theirs = if theirs.is_nan() {
            String::new()
        } else {
            number(theirs)
        };
        self.rows.push([
            format!("{what} [{unit}]"),
            number(ours),
            theirs,
            peer.to_owned(),
            ratio.to_owned(),
            verdict,
        ]);
    }

    /// Prints the table.
    ///
    /// # Errors
    /// With `strict`, when a target was missed.
    pub fn end(self, strict: bool) -> anyhow::Result<()> {
        let head = ["", "hopgap", "peer", "which", "ratio", "target"].map(str::to_owned);
        let rows: Vec<&[String; 6]> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in rows {
            let [what, ours, theirs, which, ratio, target] = row;
            let [a, b, c, d, e, _] = widths;
            println!("  {what:a$}  {ours:>b$}  {theirs:>c$}  {which:d$}  {ratio:>e$}  {target}");
        }
        println!("{}", load());
        if strict && !self.missed.is_empty() {
            bail!("{}: missed: {}", self.name, self.missed.join("; "));
        }
        Ok(())
    }
}

/// What shared the machine: the kernel's load averages.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = averages.split_whitespace().take(3).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("  ({cores} cores, load {})", averages.join(" "))
}

/// Three significant digits, with a thousands sign.
fn number(x: f64) -> String {
    if !x.is_finite() {
        return "–".to_owned();
    }
    let size = x.abs();
    if size >= 10_000.0 {
        let digits = format!("{size:.0}");
        let mut text = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push('\u{202f}');
            }
            text.push(digit);
        }
        if x < 0.0 { format!("-{text}") } else { text }
    } else if size >= 100.0 || x == x.trunc() {
        format!("{x:.0}")
    } else if size >= 10.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.704, 4.96, 12.34, 250.4, 123_456.7, f64::NAN].map(number);
        assert_eq!(
            texts,
            ["0", "0.70", "4.96", "12.3", "250", "123\u{202f}457", "–"]
        );
    }

    #[test]
    fn a_missed_target_fails_only_when_strict() {
        let table = || {
            let mut table = Table::begin("test", "nothing");
            table.ratio("x", "s", 1.0, ("bare", 2.0), Target::AtLeast(0.7));
            table
        };
        assert!(table().end(false).is_ok());
        assert!(table().end(true).is_err());
    }
}
