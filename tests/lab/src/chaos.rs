//! `cargo lab chaos`: tries to make hopgap lose a record, or count one twice.
//!
//! Two real agents probe each other and deliver to a real collector. Meanwhile, by a
//! seed, agents and collector are killed (`SIGKILL`), the way to the collector is cut in
//! several ways, disks are filled, and bits in spools are flipped. Then faults end, what
//! waits is delivered, and every block that was ever seen on an agent's disk or on its
//! way to the collector is looked for in the store.
//!
//! What was recorded is known without asking the programs: every spool segment gets a
//! second name (a hard link) as soon as it is there, which the agent's removing it does
//! not take away (`truth`), and the proxy that cuts the way keeps every frame that
//! passes (`proxy`). The numbers of blocks show that nothing was missed.

mod faults;
mod judge;
mod proxy;
mod truth;
mod world;

use crate::drill::Programs;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What to try.
#[derive(Clone, Debug, clap::Args)]
pub struct ChaosOptions {
    /// How long faults are made
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// The same seed draws the same faults; when exactly they hit is up to the machine
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the table and the logs go, and the disks of a run that failed
    #[arg(long, default_value = "chaos", value_name = "DIR")]
    out: PathBuf,
    /// Flip no bits in spools
    #[arg(long)]
    no_flips: bool,
}

/// Carries the run out; the exit code is 0 only if nothing was lost and nothing doubled.
///
/// # Errors
/// When it could not be carried out.
pub fn run(options: &ChaosOptions) -> Result<ExitCode> {
    ensure!(
        options.minutes > 0.0 && options.minutes <= 24.0 * 60.0,
        "--minutes must be more than 0 and at most 1440"
    );
    let programs = Programs::ready()?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot create {}", options.out.display()))?;
    let dir = options
        .out
        .canonicalize()
        .with_context(|| format!("cannot find {}", options.out.display()))?;
    ensure!(
        !dir.starts_with("/run"),
        "{} is under /run, which is private inside the lab: give another folder",
        dir.display()
    );
    let sandbox = Sandbox::enter()?;
    let world = world::World::make(programs, &dir)?;
    let lasts = Duration::from_secs_f64(options.minutes * 60.0);
    let counts = faults::carry_out(&sandbox, &world, options.seed, lasts, !options.no_flips)?;
    let judgement = judge::judge(&world, counts)?;
    let table = judgement.table(options.seed, options.minutes);
    let path = dir.join("chaos.md");
    std::fs::write(&path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    print!("{table}");
    if judgement.holds() {
        Ok(ExitCode::SUCCESS)
    } else {
        world.keep_disks()?;
        Ok(ExitCode::FAILURE)
    }
}
