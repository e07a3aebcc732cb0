//! `cargo lab campaign`: many small worlds, each of which tries to prove the analysis
//! wrong.
//!
//! In each, two hosts run the real agents and one the real collector; between them a
//! wire emulates a network with two paths and whatever a scenario does to it, by
//! chance but reproducibly. The report is judged by the wire's own log.

mod clock;
mod edit;
mod emulation;
mod judge;
mod peers;
mod program;
mod record;
mod run;
mod scenario;
mod table;
mod truth;
mod wire;
mod world;

use crate::burner::Burners;
use crate::drill::Programs;
use crate::error::LabError;
use crate::sandbox::{NEW_NAMESPACES, Sandbox};
use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use judge::Judgement;
use program::seed_of;
use run::Beside;
use scenario::{Folder, Scenario};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use table::Table;

/// A scenario that takes minutes runs once where others run this often.
const SELDOM: u32 = 4;

/// What to try.
#[derive(Clone, Debug, clap::Args)]
pub struct CampaignOptions {
    /// Runs of each scenario; those that take minutes run a quarter as often
    #[arg(long, default_value_t = 4, value_name = "N")]
    runs: u32,
    /// Leave the scenarios out that take minutes
    #[arg(long)]
    quick: bool,
    /// Of the whole campaign: the same seed makes the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where tables and disagreeing runs go
    #[arg(long, default_value = "campaign", value_name = "DIR")]
    out: PathBuf,
    /// Only this scenario, a file or a name; may be repeated
    #[arg(long, value_name = "FILE|NAME")]
    scenario: Vec<String>,
    /// Runs at a time
    #[arg(long, default_value_t = 4, value_name = "J")]
    jobs: usize,
    /// Let what people use today measure the same outages: fping, irtt, ping and mtr; other
    /// scenarios, made for this
    #[arg(long)]
    peers: bool,
    /// Keep the processor busy with so many loops meanwhile
    #[arg(long, default_value_t = 0, value_name = "N")]
    burn: u32,
    /// Keep the recordings of runs that agree, too
    #[arg(long)]
    keep: bool,
    /// Report and judge this recording again, without a network
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
    /// One run with this seed, in the namespaces of this process
    #[arg(long, hide = true, value_name = "SEED")]
    one: Option<u64>,
}

impl CampaignOptions {
    fn beside(&self) -> Beside {
        Beside {
            burners: self.burn,
            peers: self.peers,
        }
    }
}

/// Runs the campaign; the exit code is 0 only if what must hold held in every run.
///
/// # Errors
/// When it could not be carried out.
pub fn run(options: &CampaignOptions) -> Result<ExitCode> {
    if let Some(dir) = &options.replay {
        let judgement = run::report_and_judge(&Programs::ready()?, dir)?;
        print_judgement(&judgement);
        return Ok(exit_code(judgement.agrees()));
    }
    let scenarios = if options.scenario.is_empty() {
        let mut all = Scenario::all(if options.peers {
            Folder::Peers
        } else {
            Folder::Campaign
        })?;
        all.retain(|scenario| !(options.quick && scenario.seldom));
        all
    } else {
        let named = options.scenario.iter();
        named
            .map(|name| Scenario::read(name))
            .collect::<Result<_>>()?
    };
    if let Some(seed) = options.one {
        let scenario = scenarios.first().context("there is no scenario")?;
        let sandbox = Sandbox::enter()?;
        run::carry_out(&sandbox, scenario, seed, &options.out, options.beside())?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(options.jobs > 0, "--jobs must be at least 1");
    if options.peers && !Sandbox::is_inside() {
        setup::ensure_for_peers()?;
    }
    // Outside, where they can be built.
    Programs::ready()?;
    let sandbox = Sandbox::enter()?;
    for part in ["runs", "failed"] {
        let path = options.out.join(part);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
    }
    let burners = Burners::start(options.burn)?;
    let table = all(&sandbox, options, &scenarios)?;
    drop(burners);
    for (name, text) in [
        ("campaign.md", table.to_string()),
        ("campaign.json", serde_json::to_string_pretty(&table)?),
    ] {
        let path = options.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{table}");
    Ok(exit_code(table.holds()))
}

fn exit_code(right: bool) -> ExitCode {
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_judgement(judgement: &Judgement) {
    println!("{}, seed {}:", judgement.scenario, judgement.seed);
    for fault in &judgement.faults {
        println!("  - {fault}");
    }
    if judgement.agrees() {
        println!("  the report agrees with the truth");
    }
}

/// Every run of every scenario, some at a time.
fn all(sandbox: &Sandbox, options: &CampaignOptions, scenarios: &[Scenario]) -> Result<Table> {
    let plan = (0..options.runs)
        .flat_map(|run| scenarios.iter().map(move |s| (s, run)))
        .filter(|(s, run)| !s.seldom || run.is_multiple_of(SELDOM));
    let plan = Mutex::new(plan);
    let table = Mutex::new(Table::new(options.seed, scenarios));
    let locked = || plan.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        while let Some((scenario, number)) = locked() {
            if sandbox.stopping() {
                return;
            }
            let seed = seed_of(options.seed, &scenario.name, number);
            let result = one(scenario, seed, options);
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(judgement) => {
                    let says = match judgement.faults.len() {
                        0 => "agrees".to_owned(),
                        count => format!("is wrong on {count} points"),
                    };
                    eprintln!("{}-{seed}: the report {says}", scenario.name);
                    table.take(judgement);
                }
                Err(error) => {
                    eprintln!("{}-{seed}: {error:#}", scenario.name);
                    table.broken(&scenario.name, seed, &format!("{error:#}"));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(worker);
        }
    });
    if sandbox.stopping() {
        return Err(LabError::Interrupted.into());
    }
    Ok(table.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One run as a process in namespaces of its own.
fn one(scenario: &Scenario, seed: u64, options: &CampaignOptions) -> Result<Judgement> {
    let name = format!("{}-{seed}", scenario.name);
    let dir = options.out.join("runs").join(&name);
    let failed = options.out.join("failed").join(&name);
    for old in [&dir, &failed] {
        remove(old)?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut command = Command::new("unshare");
    command
        .args(NEW_NAMESPACES)
        .arg(program)
        .args(["campaign", "--one", &seed.to_string(), "--scenario"])
        .arg(&scenario.file)
        .arg("--out")
        .arg(&dir)
        .args(["--burn", &options.burn.to_string()])
        .args(options.peers.then_some("--peers"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start unshare")?;
    // Held open: at its end the run stops.
    let lifeline = child.stdin.take();
    let output = child.wait_with_output().context("cannot wait for a run")?;
    drop(lifeline);
    if !output.status.success() {
        keep(&dir, &failed)?;
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let path = dir.join("judgement.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let judgement: Judgement = serde_json::from_slice(&text)?;
    if !judgement.agrees() {
        keep(&dir, &failed)?;
        let path = failed.join("wrong.txt");
        std::fs::write(&path, judgement.faults.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    } else if !options.keep {
        remove(&dir)?;
    }
    Ok(judgement)
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

fn keep(dir: &Path, failed: &Path) -> Result<()> {
    std::fs::rename(dir, failed).with_context(|| format!("cannot move {}", dir.display()))
}
