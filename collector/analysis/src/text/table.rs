//! Tables of aligned columns.

/// On which side a column's cells are flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table of plain text: a header, a rule, rows; each column as wide as its widest cell.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no row.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        Self {
            columns: columns
                .into_iter()
                .map(|(name, align)| (name.to_owned(), align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty, cells beyond the columns are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines, each behind `indent`.
    pub fn lines(&self, indent: &str) -> Vec<String> {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let cells = self.rows.iter().filter_map(|r| r.get(i)).map(String::len);
                cells.chain([name.len()]).max().unwrap_or(0)
            })
            .collect();
        let line = |cell: &dyn Fn(usize) -> String| -> String {
            let cells: Vec<String> = self
                .columns
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(i, ((_, align), width))| match align {
                    Align::Left => format!("{:<width$}", cell(i)),
                    Align::Right => format!("{:>width$}", cell(i)),
                })
                .collect();
            format!("{indent}{}", cells.join("  "))
                .trim_end()
                .to_owned()
        };
        let mut lines = vec![
            line(&|i| self.columns.get(i).map_or(String::new(), |c| c.0.clone())),
            line(&|i| "-".repeat(widths.get(i).copied().unwrap_or(0))),
        ];
        for row in &self.rows {
            lines.push(line(&|i| row.get(i).cloned().unwrap_or_default()));
        }
        lines
    }
}
