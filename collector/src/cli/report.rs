//! `report`: reads the store, beside a running collector or without one.

mod memory;

use super::{Failure, StoreArgs, Time, print};
use crate::plan::Judging;
use crate::report::{Format, Report, UnknownFormat};
use crate::store::{Drill, Reader};
use crate::{clock, query};
use clap::Args;
use hopgap_analysis::findings::{Awaited, Findings, VerdictResult};
use hopgap_analysis::input::End;
use hopgap_analysis::schema::Utc;
use hopgap_analysis::text;
use hopgap_proto::plan::Plan;
use hopgap_proto::time::{Span, Wall};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The end of the help of `report`.
pub(super) const STATUS: &str = "\
Exit status: 0 when the report was made, 1 for failure, 2 for a command line that is wrong.
With --exit-code the verdict decides: 0 MET, 3 MISSED, 4 UNDECIDED, 5 NOT TESTED (a failover was
marked and no flow left its path), 6 PRELIMINARY (records are still to come; a missed objective is
3 even so)";

/// Options of `report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The drill; without it and without --from, the newest
    #[arg(conflicts_with_all = ["from", "to"])]
    drill: Option<String>,
    /// Report from here: 2026-11-23T02:00:00Z, or a time ago such as -15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<Time>,
    /// Report to here instead of to now
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        requires = "from"
    )]
    to: Option<Time>,
    /// Name and judge by the paths and the objective of this plan file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// text, json, csv or html; without it text, and every format where --out is given
    #[arg(short, long)]
    format: Option<FormatArg>,
    /// Write to this directory, in every format; with --format to this file
    #[arg(short, long, value_name = "DIR|FILE")]
    out: Option<PathBuf>,
    /// Most memory that the records may take, such as 2G; without it three quarters of what
    /// is free, 10.8G at most
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<memory::Bytes>,
    /// Wait until the records of both ends are in, at most so long (60s without a time), then
    /// report
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s"
    )]
    wait: Option<Span>,
    /// Exit by the verdict: 0 met, 3 missed, 4 undecided, 5 not tested, 6 preliminary
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, Debug)]
struct FormatArg(Format);

impl std::str::FromStr for FormatArg {
    type Err = UnknownFormat;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// What the report covers.
struct Scope {
    title: String,
    drill: Option<String>,
    from: Wall,
    to: Wall,
}

pub(super) fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let reader = Reader::open(&args.store.store)?;
    let now = clock::now();
    let scope = scope(args, &reader, now)?;
    let mut plan = reader.plan_at(scope.to)?.unwrap_or_default();
    if let Some(file) = &args.plan {
        // Keeps the sessions and agents of the measured time.
        let judging = Judging::load(file)?;
        plan.paths = judging.paths;
        plan.objective = judging.objective;
    }
    check_out(args)?;
    let deadline = args.wait.map(|longest| now + longest);
    let findings = findings(args, &reader, &plan, &scope, deadline)?;
    let code = if args.exit_code {
        exit_code(&findings)
    } else {
        ExitCode::SUCCESS
    };
    let report = Report::new(scope.title, scope.drill, findings, Utc(clock::now()));
    match (&args.out, args.format) {
        (None, format) => print(&report.render(format.map_or(Format::Text, |f| f.0))?)?,
        (Some(file), Some(FormatArg(format))) => report.write_one(format, file)?,
        (Some(dir), None) => {
            let mut lines = String::new();
            for path in report.write_all(dir)? {
                lines.push_str(&path.display().to_string());
                lines.push('\n');
            }
            print(&lines)?;
        }
    }
    Ok(code)
}

/// Analyses what the store holds. With a `deadline` it first waits until all records have
/// arrived, or until that time.
fn findings(
    args: &ReportArgs,
    reader: &Reader,
    plan: &Plan,
    scope: &Scope,
    deadline: Option<Wall>,
) -> Result<Findings, Failure> {
    let most = args.max_memory.map_or_else(memory::usable, |bytes| bytes.0);
    let mut told = Vec::new();
    loop {
        let now = clock::now();
        let late = deadline.is_none_or(|deadline| now >= deadline);
        if !query::has_records(reader, scope.from, scope.to)? {
            if late {
                return Err(no_record(args, scope));
            }
            std::thread::sleep(POLL);
            continue;
        }
        let query::Read {
            mut input,
            left_out,
        } = query::read(reader, plan, (scope.from, scope.to), most)?;
        input.asked_at = Some(now);
        let mut findings = hopgap_analysis::analyse(&input);
        let left_out = left_out.iter().map(ToString::to_string);
        findings.caveats.splice(0..0, left_out);
        if late || !findings.coverage.preliminary {
            return Ok(findings);
        }
        // Ignores a closed standard error.
        let said = text::awaited(&findings.coverage);
        if told != said {
            for sentence in &said {
                let _ = writeln!(std::io::stderr(), "waiting: {}", text::ascii(sentence));
            }
            told = said;
        }
        drop((input, findings.sessions, findings.transitions));
        wait(reader, plan, scope, &findings.coverage.awaited, deadline)?;
    }
}

/// How often the store is checked.
const POLL: Duration = Duration::from_millis(300);

/// Waits until the awaited records have arrived, without reading them, or until the deadline.
fn wait(
    reader: &Reader,
    plan: &Plan,
    scope: &Scope,
    awaited: &[Awaited],
    deadline: Option<Wall>,
) -> Result<(), Failure> {
    let of = |end: &End| {
        awaited
            .iter()
            .any(|a| a.session == end.session.as_str() && a.end == end.end)
    };
    loop {
        std::thread::sleep(POLL);
        let ends = query::ends(reader, plan, (scope.from, scope.to))?;
        let mut missing = ends
            .iter()
            .filter(|e| of(e))
            .filter(|e| !e.is_in(plan, scope.to));
        let late = deadline.is_none_or(|deadline| clock::now() >= deadline);
        if late || missing.next().is_none() {
            return Ok(());
        }
    }
}

fn no_record(args: &ReportArgs, scope: &Scope) -> Failure {
    Failure::Usage(format!(
        "the store {} has no record from {} to {}; `hopgap-collector status` shows how far the agents' data reach, and --store names another store",
        args.store.store.display(),
        text::date_seconds(Utc(scope.from)),
        text::date_seconds(Utc(scope.to)),
    ))
}

/// Returns the exit code of a verdict with `--exit-code`. A missed objective stays missed,
/// whatever has still to arrive.
fn exit_code(findings: &Findings) -> ExitCode {
    ExitCode::from(match findings.verdict.result {
        VerdictResult::Missed => 3,
        _ if findings.coverage.preliminary => 6,
        VerdictResult::Met => 0,
        VerdictResult::Undecided => 4,
        VerdictResult::NotTested => 5,
    })
}

/// Checks whether `--out` fits a file or a directory before anything is computed.
fn check_out(args: &ReportArgs) -> Result<(), Failure> {
    let Some(out) = &args.out else {
        return Ok(());
    };
    let format = match out.extension().and_then(|e| e.to_str()) {
        Some("txt") => Some("text"),
        Some(name @ ("html" | "json" | "csv")) => Some(name),
        _ => None,
    };
    match (args.format, format) {
        (None, format) if out.is_file() || (format.is_some() && !out.is_dir()) => {
            Err(Failure::Usage(format!(
                "{} is a file, but all formats go into a directory; add --format {} for that file alone, or name a directory",
                out.display(),
                format.unwrap_or("text")
            )))
        }
        (Some(_), _) if out.is_dir() => Err(Failure::Usage(format!(
            "{} is a directory, but one format goes into a file; name a file, or leave out --format for all formats",
            out.display()
        ))),
        _ => Ok(()),
    }
}

fn scope(args: &ReportArgs, reader: &Reader, now: Wall) -> Result<Scope, Failure> {
    if let Some(Time(from)) = args.from {
        let to = args.to.map_or(now, |t| t.0);
        if to <= from {
            return Err(Failure::Usage(format!(
                "the time to report to ({}) is not after the one to report from ({}); swap or correct them",
                Utc(to),
                Utc(from)
            )));
        }
        return Ok(Scope {
            title: stretch(from, to),
            drill: None,
            from,
            to,
        });
    }
    let drill = match &args.drill {
        Some(name) => reader.drill(name)?,
        None => newest(reader)?,
    };
    Ok(Scope {
        title: format!("Drill {}", drill.name),
        to: drill.stopped.unwrap_or(now),
        from: drill.started,
        drill: Some(drill.name),
    })
}

/// Returns a title for a stretch of time: to the second, with the day only once.
fn stretch(from: Wall, to: Wall) -> String {
    let (from, to) = (Utc(from), Utc(to));
    let day = |at| text::strftime(at, "%Y-%m-%d");
    let end = if day(from) == day(to) {
        text::strftime(to, "%H:%M:%S")
    } else {
        text::date_seconds(to)
    };
    format!("{} to {end} UTC", text::date_seconds(from))
}

fn newest(reader: &Reader) -> Result<Drill, Failure> {
    reader.drills()?.into_iter().next().ok_or_else(|| {
        Failure::Usage(
            "the store has no drill; name a stretch of time with --from, such as --from -15m"
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{ReportArgs, check_out, stretch};
    use crate::clock::parse;
    use clap::{Args as _, FromArgMatches as _};

    #[test]
    fn a_stretch_of_time_is_titled_to_the_second() {
        let title = |from, to| stretch(parse(from).unwrap(), parse(to).unwrap());
        assert_eq!(
            title("2026-11-23T02:00:00.123456789Z", "2026-11-23T02:10:00.9Z"),
            "2026-11-23 02:00:00 to 02:10:00 UTC"
        );
        assert_eq!(
            title("2026-11-23T23:50:00Z", "2026-11-24T00:10:00Z"),
            "2026-11-23 23:50:00 to 2026-11-24 00:10:00 UTC"
        );
    }

    /// Returns what is wrong with the written `--out` and `--format`.
    fn refusal(line: &str) -> Option<String> {
        let command = ReportArgs::augment_args(clap::Command::new("report"));
        let words = std::iter::once("report").chain(line.split(' '));
        let matches = command.try_get_matches_from(words).unwrap();
        let args = ReportArgs::from_arg_matches(&matches).unwrap();
        check_out(&args).err().map(|e| e.to_string())
    }

    fn parsed(line: &str) -> ReportArgs {
        let command = ReportArgs::augment_args(clap::Command::new("report"));
        let words = std::iter::once("report").chain(line.split(' '));
        ReportArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    #[test]
    fn a_wait_is_bounded_and_takes_no_name_of_a_drill() {
        let seconds = |n| Some(hopgap_proto::time::Span::from_secs(n));
        assert_eq!(parsed("CHG0042").wait, None);
        let waits = parsed("--wait CHG0042");
        assert_eq!(
            (waits.wait, waits.drill.as_deref()),
            (seconds(60), Some("CHG0042"))
        );
        assert_eq!(parsed("CHG0042 --wait=5s").wait, seconds(5));
    }

    #[test]
    fn a_file_is_told_from_a_directory() {
        assert_eq!(
            refusal("--out report.txt").unwrap(),
            "report.txt is a file, but all formats go into a directory; add --format text for \
             that file alone, or name a directory"
        );
        assert!(refusal("--out r.html").unwrap().contains("--format html"));
        let here = concat!("--out ", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(refusal(here).unwrap().contains("Cargo.toml is a file"));
        let dir = concat!("--format csv --out ", env!("CARGO_MANIFEST_DIR"));
        assert!(
            refusal(dir)
                .unwrap()
                .contains("is a directory, but one format")
        );
        for good in [
            "--out CHG0042",
            "--out CHG0042.v2",
            "--format html --out r.html",
            "--format text",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
    }
}
