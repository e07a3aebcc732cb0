//! The command line.

mod audit;
mod drill;
mod identity;
mod report;
mod show;
mod status;
mod token;

use crate::client::{Client, ClientError};
use crate::clock::ParseTimeError;
use crate::plan::{CollectorPlan, DEFAULT_STORE, PlanFileError};
use crate::report::ReportError;
use crate::serve::{Options, ServeError, Service};
use crate::store::StoreError;
use crate::{clock, report as reports};
use clap::{Args, CommandFactory, Parser, Subcommand};
use hopgap_proto::printable::{Lines, OneLine};
use hopgap_proto::time::Wall;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

const STATUS: &str = "\
Exit status: 0 for success, 1 for failure, 2 for a command line that is wrong. `report --exit-code`
exits by the verdict: 0 met, 3 missed, 4 undecided, 5 not tested, 6 preliminary";

/// Takes in what hopgap agents measured, keeps it, and reports failover drills.
#[derive(Debug, Parser)]
#[command(name = "hopgap-collector", version, propagate_version = true, after_help = STATUS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take in what agents measure, by a plan
    Serve(ServeArgs),
    /// Check a plan file and say what is wrong with it
    CheckPlan {
        /// The plan file
        file: PathBuf,
    },
    /// Start, mark and stop drills
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// Report on a drill or on any stretch of time
    #[command(after_help = report::STATUS)]
    Report(report::ReportArgs),
    /// Check that everything that agents delivered is there, once and whole
    Audit(audit::AuditArgs),
    /// Let agents join: make, list and revoke tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List, revoke and rename the agents that have joined
    #[command(subcommand)]
    Agent(identity::AgentCommand),
    /// Show how the collector, its agents and their sessions are
    Status(status::StatusArgs),
    /// Print the JSON Schema of the JSON report
    Schema,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Options of `serve`.
#[derive(Debug, Args)]
struct ServeArgs {
    /// The plan file; it is read again whenever it changes
    #[arg(short, long, default_value = "/etc/hopgap/plan.toml")]
    plan: PathBuf,
    /// Listen here instead of where the plan says
    #[arg(short, long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Store here instead of where the plan says
    #[arg(short, long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// Which collector to ask.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The running collector
    #[arg(long, default_value = "http://127.0.0.1:8620")]
    url: String,
    /// Show the token in this file, where the collector asks for one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServerArgs {
    fn client(&self) -> Result<Client, ClientError> {
        let client = Client::new(&self.url);
        match &self.token_file {
            Some(file) => client.with_token_file(file),
            None => Ok(client),
        }
    }
}

/// Which store to read.
#[derive(Debug, Args)]
struct StoreArgs {
    /// The store's directory
    #[arg(short, long, default_value = DEFAULT_STORE, value_name = "DIR")]
    store: PathBuf,
}

/// Why a command failed: one sentence for people.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error("cannot write {}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Plan(#[from] PlanFileError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Query(#[from] crate::query::QueryError),
    #[error(transparent)]
    Spool(#[from] crate::store::audit::SpoolError),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotWhole(String),
}

/// An instant on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(Wall);

impl std::str::FromStr for Time {
    type Err = ParseTimeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        clock::parse(s).map(Self)
    }
}

/// Runs the command line; what went wrong is one sentence on standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(code) => code,
        // Treats a closed pipe as success.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Ignores a closed standard error.
            let _ = writeln!(std::io::stderr(), "hopgap-collector: {}", Lines(failure));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    let done = match command {
        Command::Status(args) => return status::run(&args),
        Command::Report(args) => return report::run(&args),
        Command::Serve(args) => serve(args),
        Command::CheckPlan { file } => {
            let plan = CollectorPlan::load(&file)?;
            plan.plan
                .measures()
                .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
            let transport = plan.may_listen_at(plan.settings.listen)?;
            print(&show::plan(&file, &plan, transport))
        }
        Command::Drill(command) => drill::run(command),
        Command::Audit(args) => audit::run(&args),
        Command::Token(command) => token::run(command),
        Command::Agent(command) => identity::run(command),
        Command::Schema => print(&reports::schema()?),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hopgap-collector", &mut text);
            Ok(std::io::stdout().write_all(&text)?)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            Ok(std::io::stdout().write_all(&text)?)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Writes to standard output for all commands, without anything that moves a terminal's
/// cursor.
fn print(text: &str) -> Result<(), Failure> {
    let text = Lines(text).to_string();
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn serve(args: ServeArgs) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOPGAP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours())
        .with_writer(std::io::stderr)
        .with_target(false)
        // Goes on when nobody reads the log any more.
        .log_internal_errors(false)
        .fmt_fields(one_line_fields())
        .init();
    hopgap_process::descriptors::raise_limit();
    // One thread serves all connections: slow work runs on the store's own thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::from)?;
    runtime.block_on(async {
        let stop = crate::signals::asked_to_end().map_err(ServeError::from)?;
        let service = Service::bind(Options {
            plan: args.plan,
            listen: args.listen,
            store: args.store,
        })
        .await?;
        let agents = service.address().map_err(ServeError::from)?;
        let here = service.api_address().map_err(ServeError::from)?;
        if agents == here {
            tracing::info!("listening on {agents}, without TLS");
        } else {
            tracing::info!("listening on {agents} for agents, by TLS, and on {here} for this host");
        }
        service.run(stop).await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Formats an event as one line in which quoted text cannot move the cursor.
fn one_line_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|to, field, value| match field.name() {
        "message" => write!(to, "{}", OneLine(format_args!("{value:?}"))),
        name => write!(to, "{name}={}", OneLine(format_args!("{value:?}"))),
    })
    .delimited(" ")
}

/// Whether the log may have colours: on a terminal, unless `NO_COLOR` says otherwise
/// (<https://no-color.org>).
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    std::io::stderr().is_terminal() && !unwanted
}

#[cfg(test)]
mod tests;
