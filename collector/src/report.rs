//! The report of a drill or of any other stretch of time: what
//! [`Findings`] say, as text for a change ticket, as one page of HTML, as JSON
//! with a published schema, and as CSV.
//!
//! Each format is one file below, a pure function from a [`Report`] to text.
//! None computes a figure of its own: every number comes from the findings.

mod csv;
mod files;
mod html;
mod json;
mod story;
mod text;

use files::Directory;
use hopgap_analysis::findings::Findings;
use hopgap_analysis::schema::Utc;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub use json::schema;

/// The version of the JSON report's schema. It grows with every change that a
/// reader of the former version could trip over.
pub const SCHEMA_VERSION: u32 = 2;

/// What wrote the report.
const GENERATED_BY: &str = concat!("hopgap-collector ", env!("CARGO_PKG_VERSION"));

/// Findings with what a reader needs to file them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// The version of this document's schema.
    schema_version: u32,
    /// The program that wrote it, with its version.
    generated_by: String,
    /// When it was written.
    pub generated_at: Utc,
    /// Its title, for people.
    pub title: String,
    /// The drill's name; `None` for a report on a stretch of time without a drill.
    pub drill: Option<String>,
    /// Everything found.
    pub findings: Findings,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Plain ASCII of at most 100 columns, for a change ticket.
    Text,
    /// JSON by `collector/schema/report.schema.json`.
    Json,
    /// One row for each outage.
    Csv,
    /// One self-contained page.
    Html,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Text, Self::Json, Self::Csv, Self::Html];

    /// Its name at the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }

    /// Its media type, for HTTP.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|f| f.name() == s)
            .ok_or_else(|| UnknownFormat(s.to_owned()))
    }
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no report format; use text, json, csv or html")]
pub struct UnknownFormat(pub String);

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The directory cannot be made.
    #[error("cannot create the report's directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write the report to {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The findings have no JSON form.
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A plot could not be drawn.
    #[error("cannot draw the report's plots: {0}")]
    Plot(String),
}

impl Report {
    /// A report on `findings`, written at `generated_at`.
    pub fn new(
        title: impl Into<String>,
        drill: Option<String>,
        findings: Findings,
        generated_at: Utc,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            generated_by: GENERATED_BY.to_owned(),
            generated_at,
            title: title.into(),
            drill,
            findings,
        }
    }

    /// The report in one format.
    ///
    /// # Errors
    ///
    /// [`ReportError::Json`] or [`ReportError::Plot`], for JSON and HTML only.
    pub fn render(&self, format: Format) -> Result<String, ReportError> {
        match format {
            Format::Text => Ok(text::render(self)),
            Format::Json => json::render(self),
            Format::Csv => Ok(csv::outages(&self.findings)),
            Format::Html => html::render(self),
        }
    }

    /// Writes the report in one format to a file. A symbolic link is replaced, not followed.
    ///
    /// # Errors
    ///
    /// [`ReportError::File`], or those of [`Report::render`].
    pub fn write_one(&self, format: Format, path: &Path) -> Result<(), ReportError> {
        let content = self.render(format)?;
        files::write(path, content.as_bytes()).map_err(|source| ReportError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes `report.html`, `report.json`, `report.txt`, `outages.csv`,
    /// `seconds.csv`, `paths.csv` and `coverage.csv` into `dir`, which is made where it is missing,
    /// and says what was written. A file that exists is replaced, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// The first that occurs; files written before it stay.
    pub fn write_all(&self, dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let directory = Directory::create(dir).map_err(|source| ReportError::Directory {
            path: dir.to_owned(),
            source,
        })?;
        let files = [
            ("report.html", self.render(Format::Html)?),
            ("report.json", self.render(Format::Json)?),
            ("report.txt", self.render(Format::Text)?),
            ("outages.csv", csv::outages(&self.findings)),
            ("seconds.csv", csv::seconds(&self.findings)),
            ("paths.csv", csv::paths(&self.findings)),
            ("coverage.csv", csv::coverage(&self.findings)),
        ];
        let mut written = Vec::with_capacity(files.len());
        for (name, content) in files {
            let path = directory
                .write(name, content.as_bytes())
                .map_err(|source| ReportError::File {
                    path: dir.join(name),
                    source,
                })?;
            written.push(path);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests;
