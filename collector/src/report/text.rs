//! The report as plain text for a change ticket: ASCII, at most 100 columns,
//! the verdict first.

mod coverage;
mod sections;
mod transition;
mod unnamed;

use super::Report;
use hopgap_analysis::findings::Findings;
use hopgap_analysis::schema::Nanos;
use hopgap_analysis::text::{self, Align, Table};

const WIDTH: usize = 100;

/// The lines of the page so far.
#[derive(Default)]
struct Page {
    lines: Vec<String>,
}

impl Page {
    fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn lines(&mut self, lines: impl IntoIterator<Item = String>) {
        self.lines.extend(lines);
    }

    fn blank(&mut self) {
        self.line("");
    }

    fn heading(&mut self, heading: &str) {
        self.blank();
        self.line(heading);
        self.line("=".repeat(WIDTH.min(heading.len())));
    }

    fn item(&mut self, text: &str) {
        self.lines(text::wrap(&text::ascii(text), WIDTH, "  - "));
    }

    fn field(&mut self, name: &str, value: &str) {
        self.lines(text::wrap(value, WIDTH, &format!("{name:<11}")));
    }
}

pub(super) fn render(report: &Report) -> String {
    let findings = &report.findings;
    let mut page = Page::default();
    head(&mut page, report);
    summary(&mut page, findings);
    for (i, transition) in findings.transitions.iter().enumerate() {
        transition::section(&mut page, i + 1, transition);
    }
    if !findings.sessions.is_empty() {
        sections::latency(&mut page, findings);
        sections::counts(&mut page, findings);
    }
    sections::asymmetries(&mut page, findings);
    sections::echoes(&mut page, findings);
    sections::markers(&mut page, findings);
    unnamed::section(&mut page, findings);
    sections::every_outage(&mut page, findings);
    how_to_read(&mut page, findings);
    let mut out = page.lines.join("\n");
    out.push('\n');
    out
}

fn head(page: &mut Page, report: &Report) {
    let findings = &report.findings;
    let verdict = &findings.verdict;
    page.line(text::ascii(&report.title));
    page.line("=".repeat(WIDTH));
    coverage::preliminary(page, findings);
    page.line(format!("VERDICT    {}", text::verdict(verdict.result)));
    page.field("", &text::ascii(&verdict.sentence));
    page.blank();
    if let Some(drill) = &report.drill {
        page.field("Drill", &text::ascii(drill));
    }
    match &findings.window {
        Some(window) => page.field(
            "Window",
            &format!(
                "{} to {} UTC ({})",
                text::date_time(window.from),
                text::date_time(window.to),
                text::span(Nanos(window.to.0 - window.from.0))
            ),
        ),
        None => page.field("Window", "no data"),
    }
    coverage::seen(page, findings);
    page.field(
        "Objective",
        &format!(
            "no flow without connectivity for longer than {}",
            text::span(verdict.objective_ns)
        ),
    );
    page.field(
        "Written",
        &format!(
            "{} UTC by {}",
            text::date_seconds(report.generated_at),
            text::ascii(&report.generated_by)
        ),
    );
    if !findings.caveats.is_empty() {
        page.heading("BEFORE YOU BELIEVE THE REST");
        for caveat in &findings.caveats {
            page.item(caveat);
        }
    }
}

fn summary(page: &mut Page, findings: &Findings) {
    page.heading("SUMMARY (times are UTC)");
    if findings.transitions.is_empty() {
        page.lines(text::wrap(
            &super::story::no_transition(findings),
            WIDTH,
            "",
        ));
        return;
    }
    let mut table = Table::new([
        ("#", Align::Right),
        ("what", Align::Left),
        ("started", Align::Left),
        ("recovered", Align::Left),
        ("longest outage of a flow", Align::Left),
        ("flows with an outage", Align::Left),
    ]);
    for (i, transition) in findings.transitions.iter().enumerate() {
        let (affected, flows) = super::story::affected(transition);
        table.row([
            (i + 1).to_string(),
            text::transition(transition.kind).to_owned(),
            text::clock(transition.started),
            transition
                .recovered
                .map_or_else(|| "not seen".to_owned(), text::clock),
            if affected == 0 {
                super::story::none_seen(transition).to_owned()
            } else {
                text::bounds(transition.worst_at_least_ns, transition.worst_at_most_ns)
            },
            format!("{affected} of {flows}"),
        ]);
    }
    page.lines(table.lines(""));
}

fn how_to_read(page: &mut Page, findings: &Findings) {
    page.heading("HOW TO READ THE NUMBERS");
    for line in super::story::READING {
        page.item(line);
    }
    for session in &findings.sessions {
        page.item(&format!(
            "{}: one probe every {} in each flow. {}",
            session.session,
            text::span(session.interval_ns),
            super::story::source(session.direction_source)
        ));
    }
}
