//! The report as JSON, and the JSON Schema that describes it.

use super::{Report, ReportError};

/// The report, indented for people, with a newline at its end.
pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// The JSON Schema of the JSON report, as committed in
/// `collector/schema/report.schema.json`.
///
/// # Errors
///
/// [`ReportError::Json`] where the schema has no JSON form.
pub fn schema() -> Result<String, ReportError> {
    // Described as written: a field that is always written is required.
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<Report>();
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}
