//! The commands.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use hopgap_lab::control::{self, Client, Request, Server};
use hopgap_lab::{Fault, Lab, LabError, Node, Options, Sandbox, Truth, Tunnel, setup};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The network of the failover article on this machine, in namespaces of its own.
///
/// No packet leaves it. It needs no root where user namespaces are allowed.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Cli {
    /// Where a running lab has its control socket [default: a folder of yours in /tmp]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Start the lab and keep it up until Ctrl-C or `cargo lab down`
    Up {
        /// What the tunnels are made of
        #[arg(long, default_value_t, value_enum)]
        tunnel: Tunnel,
        /// No BFD on the circuits: BGP's hold timer, 9 s here, finds what is silent
        #[arg(long)]
        no_bfd: bool,
        /// Where logs and truth.jsonl go [default: `out` beside the control socket]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Leave it running in the background
        #[arg(long)]
        detach: bool,
    },
    /// Measure a failover with the real programs and judge the report by the truth
    Drill(hopgap_lab::drill::DrillOptions),
    /// Try to prove the analysis wrong: many small networks, each judged by its truth
    Campaign(hopgap_lab::campaign::CampaignOptions),
    /// Try to make a record get lost: kill, cut and fill disks, then count
    Chaos(hopgap_lab::chaos::ChaosOptions),
    /// Make a fault in the running lab
    Fault {
        /// Which
        fault: Fault,
    },
    /// Heal all faults of the running lab
    Heal {
        /// Return only when traffic is back on both circuits and the VPN stands by
        #[arg(long)]
        wait: bool,
    },
    /// The article's traceroute, from the server to the VM
    Trace {
        /// From the VM to the server
        #[arg(long)]
        back: bool,
    },
    /// One line about the running lab
    Status,
    /// A shell at a node, or a command after `--`
    Shell {
        /// Where
        node: Node,
        /// What to run there
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// End the running lab
    Down,
    /// Install what the lab needs, or say how
    Setup,
    /// Run all tests, installing or naming what they need
    Test,
    /// Check every dependency's licence and source, and for known faults
    Deps,
    /// A busy loop, for as long as standard input is open: what `--burn` starts
    #[command(hide = true)]
    Burn,
    /// Renew the record of known faults from RustSec's advisory database
    Advisories {
        /// A clone of the database; without it, one is made and removed again
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
}

/// Parses the command line and does what it says.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    let dir = cli.dir.unwrap_or_else(control::default_dir);
    let client = Client::new(&dir);
    match cli.command {
        Cmd::Up {
            tunnel,
            no_bfd,
            out,
            detach,
        } => {
            setup::ensure(tunnel)?;
            let out = out.unwrap_or_else(|| dir.join("out"));
            if detach {
                return up_detached(&dir, &client);
            }
            let bfd = !no_bfd;
            up(&dir, Options { tunnel, bfd, out })?;
        }
        Cmd::Drill(options) => {
            setup::ensure(options.tunnel)?;
            return hopgap_lab::drill::run(&options);
        }
        Cmd::Campaign(options) => return hopgap_lab::campaign::run(&options),
        Cmd::Chaos(options) => return hopgap_lab::chaos::run(&options),
        Cmd::Fault { fault } => println!("{}", client.ask(Request::Fault(fault))?),
        Cmd::Heal { wait } => {
            println!("{}", client.ask(Request::Heal)?);
            if wait {
                println!("{}", client.ask(Request::Converged)?);
            }
        }
        Cmd::Trace { back } => print!("{}", client.ask(Request::Trace { back })?),
        Cmd::Status => println!("{}", client.ask(Request::Status)?),
        Cmd::Shell { node, command } => return shell(&client, node, &command),
        Cmd::Down => {
            println!("{}", client.ask(Request::Down)?);
            let start = Instant::now();
            while client.is_running() && start.elapsed() < Duration::from_secs(15) {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        Cmd::Setup => {
            setup::ensure(Tunnel::Ipsec)?;
            println!("everything that the lab needs is installed");
        }
        Cmd::Test => hopgap_lab::suite::run()?,
        Cmd::Deps => hopgap_lab::deps::check()?,
        Cmd::Burn => hopgap_lab::burner::burn(),
        Cmd::Advisories { from } => hopgap_lab::deps::renew_advisories(from.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(dir: &Path, options: Options) -> Result<()> {
    control::prepare(dir)?;
    if Client::new(dir).is_running() {
        return Err(LabError::Running {
            dir: dir.to_owned(),
        }
        .into());
    }
    // The inside has another /run.
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot create {}", options.out.display()))?;
    for path in [dir, &options.out] {
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        anyhow::ensure!(
            !path.starts_with("/run"),
            "{} is under /run, which is private inside the lab: give another folder",
            path.display()
        );
    }
    let sandbox = Sandbox::enter()?;
    let result = keep_up(&sandbox, dir, options);
    match result.as_ref().map_err(|error| error.downcast_ref()) {
        Err(Some(LabError::Interrupted)) => Ok(()),
        _ => result,
    }
}

fn keep_up(sandbox: &Sandbox, dir: &Path, options: Options) -> Result<()> {
    let start = Instant::now();
    println!("building the lab, tunnels over {}", options.tunnel);
    let lab = Lab::up(sandbox, options)?;
    lab.wait_converged()?;
    println!(
        "converged after {:.1} s; try `cargo lab trace`, `cargo lab fault admin`, \
         `cargo lab heal`, `cargo lab shell server`; Ctrl-C ends it",
        start.elapsed().as_secs_f64()
    );
    let server = Server::listen(dir)?;
    let result = std::thread::scope(|scope| {
        scope.spawn(|| show_status(&lab));
        server.serve(&lab)
    });
    let out = lab.finish()?;
    let truth = Truth::read(&out)?;
    truth.append(&out)?;
    drop(server);
    println!(
        "\n{truth}the lab is down; its logs are in {}",
        out.display()
    );
    Ok(result?)
}

/// A status line at a terminal; elsewhere a line at each change.
fn show_status(lab: &Lab) {
    let terminal = std::io::stdout().is_terminal();
    let mut last = String::new();
    loop {
        let line = control::status(lab).unwrap_or_else(|error| error.to_string());
        let mut out = std::io::stdout();
        // A terminal that went away is no reason to end the lab.
        let _ = match (terminal, line == last) {
            (true, _) => write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()),
            (false, false) => writeln!(out, "{line}"),
            (false, true) => Ok(()),
        };
        last = line;
        if lab.sandbox().sleep(Duration::from_secs(1)).is_err() {
            return;
        }
    }
}

fn up_detached(dir: &Path, client: &Client) -> Result<ExitCode> {
    control::prepare(dir)?;
    if client.is_running() {
        return Err(LabError::Running {
            dir: dir.to_owned(),
        }
        .into());
    }
    let log = dir.join("up.log");
    let file =
        std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut child = Command::new(program)
        .args(
            std::env::args_os()
                .skip(1)
                .filter(|argument| argument != "--detach"),
        )
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("cannot write the log")?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .context("cannot start the lab")?;
    loop {
        if let Ok(status) = client.ask(Request::Status) {
            println!("{status}");
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = child.try_wait().context("cannot wait for the lab")? {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            anyhow::bail!("the lab ended with {status}:\n{}", text.trim());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn shell(client: &Client, node: Node, command: &[OsString]) -> Result<ExitCode> {
    let pid = client.pid()?;
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--target={pid}"));
    if !nix::unistd::geteuid().is_root() {
        nsenter.args(["--user", "--preserve-credentials"]);
    }
    nsenter.args(["--mount", "--pid", "--net", "--", "nsenter"]);
    nsenter.arg(format!("--net=/run/netns/{node}")).arg("--");
    if command.is_empty() {
        if std::io::stdin().is_terminal() {
            eprintln!(
                "at {node}; the routing daemon, where it has one: birdc -s /run/bird/{node}.ctl"
            );
        }
        nsenter
            .arg(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()))
            .env("PS1", format!("{node}# "));
    } else {
        nsenter.args(command);
    }
    let status = nsenter.status().context("cannot run nsenter")?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
