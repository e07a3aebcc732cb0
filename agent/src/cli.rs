//! The command line.

use crate::output;
use crate::secret::SecretError;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use hopgap_analysis::findings::VerdictResult;
use hopgap_proto::time::Span;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const STATUS: &str =
    "Exit status: 0 for success, 1 for failure, 2 for a command line that is wrong";
const MEASURE_STATUS: &str = "\
Exit status: by the verdict, as of `hopgap-collector report --exit-code`: 0 met, 3 missed,
4 undecided; 1 when nothing was measured, 2 for a command line that is wrong";

/// Measures the gap in traffic while the hops change: continuous STAMP probes
/// and traceroutes between two hosts.
#[derive(Debug, Parser)]
#[command(name = "hopgap-agent", version, propagate_version = true, after_help = STATUS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure to a host now, without a collector: a live line, then a summary
    #[command(after_help = MEASURE_STATUS)]
    Measure(Box<MeasureArgs>),
    /// Answer probes, without a collector
    Reflect(ReflectArgs),
    /// Trace the path of a probe flow
    Trace(TraceArgs),
    /// Join a collector with a one-time token, so that it knows this host by a certificate
    Join(JoinArgs),
    /// Run as a service by the collector's plan
    Run(RunArgs),
    /// Check a configuration file and say what is wrong with it
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

impl Command {
    /// Whether it sends and receives packets, for which there are rights to be raised.
    fn opens_sockets(&self) -> bool {
        match self {
            Self::Measure(_) | Self::Reflect(_) | Self::Trace(_) | Self::Run(_) => true,
            Self::Join(_) | Self::CheckConfig { .. } | Self::Completions { .. } | Self::Man => {
                false
            }
        }
    }
}

/// Which address families are used.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct FamilyArgs {
    /// IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "v6")]
    pub v4: bool,
    /// IPv6 only
    #[arg(short = '6', long = "ipv6")]
    pub v6: bool,
}

impl FamilyArgs {
    /// Whether this address may be used.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => !self.v6,
            IpAddr::V6(_) => !self.v4,
        }
    }
}

/// Options of `measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// The host whose Session-Reflector answers: name or address, with `:PORT` unless it is 862.
    /// Of a name with several addresses the first that answers is measured. A link-local address
    /// is written with its interface, such as fe80::1%eth0
    pub host: String,
    /// `-4` and `-6`.
    #[command(flatten)]
    pub family: FamilyArgs,
    /// Time between two probes of one flow (1ms to 10s)
    #[arg(short, long, default_value = "10ms")]
    pub interval: Span,
    /// Flows: probes leave from this many source ports, as ECMP may treat each its own way
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub flows: u8,
    /// Stop after this long; without it, on Ctrl-C
    #[arg(short, long)]
    pub duration: Option<Span>,
    /// Source port of the first flow; the others use the ports above it. Without it, the first
    /// free ones from 50000 on
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..))]
    pub source_port: Option<u16>,
    /// Send from this local address
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<IpAddr>,
    /// A probe without reply for this long is lost; replies after it are late
    #[arg(long, default_value = "2s")]
    pub timeout: Span,
    /// Authenticated mode: file with the hexadecimal HMAC-SHA-256 key
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Time between two traceroutes of one flow; `0s` for none
    #[arg(long, default_value = "1s")]
    pub trace_interval: Span,
    /// Time between two searches for the largest packet that gets through; a reflector that
    /// does not know SSIDs would count these packets among the probes
    #[arg(long, default_value = "0s")]
    pub path_mtu_interval: Span,
    /// Name a path: `NAME=ADDRESS` when a traceroute passes the address, `NAME=hop:N` when the
    /// host is at hop N. May be repeated, for one name too: it then takes one of the addresses
    /// and the hop. The first that fits names the way out. The way back, which no traceroute
    /// shows, is named by `hop:N` alone
    #[arg(long = "path", value_name = "NAME=CONDITION")]
    pub paths: Vec<PathOption>,
    /// Judge outages against this
    #[arg(long, default_value = "10s")]
    pub objective: Span,
    /// Most memory, such as 300MB. Every probe is kept until the end, and takes about 330 bytes
    /// with its analysis: where they fill this, the run ends in order with what was found so
    /// far, and says so [default: three quarters of what the host and its control groups leave]
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<crate::measure::budget::Bytes>,
    /// Differentiated Services Code Point of the probes
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=63))]
    pub dscp: u8,
    /// Spin before each send: exact send times for a share of a core
    #[arg(long)]
    pub precise: bool,
    /// Print the findings as JSON instead of a summary
    #[arg(long)]
    pub json: bool,
    /// No live line and no lines of events on standard error
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `reflect`.
#[derive(Debug, Args)]
pub struct ReflectArgs {
    /// Address and port to answer on; `[::]` means all addresses, IPv4 ones too
    #[arg(short, long, default_value = "[::]:862")]
    pub listen: SocketAddr,
    /// `-4` and `-6`.
    #[command(flatten)]
    pub family: FamilyArgs,
    /// Answer this address only; may be repeated
    #[arg(long = "from", value_name = "ADDRESS")]
    pub peers: Vec<IpAddr>,
    /// Authenticated mode: file with the hexadecimal HMAC-SHA-256 key
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Most probes answered per second and source address
    #[arg(long, default_value_t = 100_000)]
    pub rate: u32,
    /// Stop after this long; without it, on Ctrl-C
    #[arg(short, long)]
    pub duration: Option<Span>,
}

/// Options of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The host: name or address, with `:PORT` unless the probes go to 862. Of a name with several
    /// addresses the first that answers is traced
    pub host: String,
    /// `-4` and `-6`.
    #[command(flatten)]
    pub family: FamilyArgs,
    /// Source port, as the probes to be traced have it. Without it, the first free one from 50000
    /// on
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..))]
    pub source_port: Option<u16>,
    /// Send from this local address
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<IpAddr>,
    /// How many traceroutes; 0 for no end
    #[arg(short, long, default_value_t = 1)]
    pub count: u32,
    /// Time between two traceroutes
    #[arg(short, long, default_value = "1s")]
    pub interval: Span,
    /// Most hops (1 to 63)
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=63))]
    pub max_hops: u8,
    /// Print one JSON object for each traceroute
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file
    #[arg(short, long, default_value = "/etc/hopgap/agent.toml")]
    pub config: PathBuf,
}

/// Options of `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The collector, such as `https://10.1.11.10:8621`
    pub url: String,
    /// `-` to read the token from standard input; a token itself is refused here, where
    /// everyone on this host would see it
    #[arg(long, value_name = "-", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// File with the token, which nobody else may read
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Go through this HTTP proxy, such as `http://10.1.11.3:3128`; those that the environment
    /// names are not used
    #[arg(long, value_name = "URL")]
    pub proxy: Option<crate::uplink::ProxyUrl>,
    /// Replace the identity that this host has
    #[arg(long)]
    pub again: bool,
    /// The agent's `state_dir`
    #[arg(long, value_name = "DIR", default_value = crate::config::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// A named path on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOption {
    /// Its name.
    pub name: hopgap_proto::record::PathName,
    /// What a route must satisfy.
    pub condition: PathCondition,
}

/// What a route must satisfy to be a named path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathCondition {
    /// This address answers at some hop.
    Passes(IpAddr),
    /// The target is the hop with this number.
    TargetAtHop(u8),
}

impl std::str::FromStr for PathOption {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let how = "write NAME=ADDRESS or NAME=hop:N, such as vpn=hop:3";
        let (name, condition) = s.split_once('=').ok_or(how)?;
        let condition = match condition.strip_prefix("hop:") {
            Some(hop) => PathCondition::TargetAtHop(hop.parse().map_err(|_| how)?),
            None => PathCondition::Passes(condition.parse().map_err(|_| how)?),
        };
        let name = name
            .parse()
            .map_err(|e: hopgap_proto::record::NameError| e.to_string())?;
        Ok(Self { name, condition })
    }
}

/// Runs the command line; what went wrong is one sentence on standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command.opens_sockets() {
        crate::privilege::raise_for_sockets();
    }
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::note(&format!("hopgap-agent: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, in one sentence.
type Failure = Box<dyn std::error::Error>;

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Measure(args) => {
            let verdict = crate::measure::run(&args)?;
            return Ok(ExitCode::from(status_of(verdict)));
        }
        Command::Reflect(args) => crate::reflector::run(&args)?,
        Command::Trace(args) => crate::trace::run(&args)?,
        Command::Join(args) => print(&crate::join::run(&args)?)?,
        Command::Run(args) => crate::service::run(&args)?,
        Command::CheckConfig { file } => print(&check_config(&file)?)?,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hopgap-agent", &mut text);
            print(&String::from_utf8_lossy(&text))?;
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Who reads the status only shall take neither a missed objective nor one of which nobody can
/// say for a met one. The same numbers as of `hopgap-collector report --exit-code`.
const fn status_of(verdict: VerdictResult) -> u8 {
    match verdict {
        VerdictResult::Met => 0,
        VerdictResult::Missed => 3,
        VerdictResult::Undecided => 4,
        VerdictResult::NotTested => 5,
    }
}

fn print(text: &str) -> Result<(), Failure> {
    output::quiet(output::print(text))
        .map_err(|error| format!("cannot write to standard output: {error}").into())
}

/// What is good of a configuration file.
fn check_config(file: &Path) -> Result<String, Failure> {
    let config = crate::config::Config::load(file)?;
    let mut said = String::new();
    if config.uses_tls() {
        said = joined(&config)?;
    }
    match config.secret_file.as_deref().map(crate::secret::shared) {
        // It is the service's to read, and whoever checks may be another user.
        Some(Err(SecretError::Read { path, source }))
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            said = format!(
                "{} is not this user's to read, and unchecked\n",
                path.display()
            );
        }
        checked => drop(checked.transpose()?),
    }
    Ok(format!(
        "{said}{} is good: agent `{}`, collector {}\n",
        file.display(),
        config.name,
        config.collector
    ))
}

/// Whether this host has the identity that the configuration needs.
fn joined(config: &crate::config::Config) -> Result<String, Failure> {
    use crate::identity::{IdentityError, IdentityStore};
    match IdentityStore::new(&config.state_dir).load() {
        Ok(identity) if identity.agent != config.name => {
            let (name, joined) = (&config.name, &identity.agent);
            Err(IdentityError::OtherName {
                name: name.clone(),
                joined: joined.clone(),
            }
            .into())
        }
        Ok(identity) => Ok(format!(
            "joined, with a certificate until {}\n",
            hopgap_analysis::schema::Utc(identity.not_after)
        )),
        Err(error @ IdentityError::NotJoined { .. }) => Ok(format!("{error}\n")),
        // As with a secret.
        Err(IdentityError::File { path, source })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(format!(
                "{} is not this user's to read, and unchecked\n",
                path.display()
            ))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
