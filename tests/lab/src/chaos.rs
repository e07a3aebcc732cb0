//! `cargo lab chaos`: tries to make hopgap lose a record, or count one twice.
//!
//! Two real agents probe each other and deliver to a real collector. Meanwhile, by a
//! seed, agents and collector are killed (`SIGKILL`), the way to the collector is cut in
//! several ways, disks are filled, and bits in spools are flipped. Then faults end, what
//! waits is delivered, and every block that was ever seen on an agent's disk or on its
//! way to the collector is looked for in the store.
//!
//! With `--hostile` an agent that was let in and turned sends what it likes meanwhile
//! (`hostile`).
//!
//! What was recorded is known without asking the programs: every spool segment gets a
//! second name (a hard link) as soon as it is there, which the agent's removing it does
//! not take away (`truth`), and the proxy that cuts the way keeps every frame that
//! passes (`proxy`). The numbers of blocks show that nothing was missed.

mod faults;
mod hostile;
mod judge;
mod proxy;
mod truth;
mod world;

use crate::drill::Programs;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use hopgap_net::clock::Clock;
use hopgap_proto::time::Wall;
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
    /// Begin so that an hour ends in the midst of the run: then hours are sealed while
    /// programs are killed and late records come
    #[arg(long)]
    across_the_hour: bool,
    /// Flip no bits in spools
    #[arg(long)]
    no_flips: bool,
    /// An agent that was let in sends what it likes meanwhile: nobody else may be delayed by
    /// more than a second, and reports must be made
    #[arg(long)]
    hostile: bool,
}

impl ChaosOptions {
    /// The command that carries out such a run.
    fn command(&self) -> String {
        let mut command = format!(
            "cargo lab chaos --minutes {} --seed {}",
            self.minutes, self.seed
        );
        for (given, flag) in [
            (self.across_the_hour, " --across-the-hour"),
            (self.no_flips, " --no-flips"),
            (self.hostile, " --hostile"),
        ] {
            command.push_str(if given { flag } else { "" });
        }
        command
    }
}

/// How long to wait for a run of this length to have the end of an hour of UTC in its midst.
fn until_across_the_hour(now: Wall, lasts: Duration) -> Duration {
    const HOUR: i64 = 3_600_000_000_000;
    let half = i64::try_from((lasts / 2).as_nanos()).unwrap_or(0) % HOUR;
    let wait = (HOUR - half - now.as_nanos().rem_euclid(HOUR)).rem_euclid(HOUR);
    Duration::from_nanos(wait.unsigned_abs())
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
    let lasts = Duration::from_secs_f64(options.minutes * 60.0);
    if options.across_the_hour {
        let wait = until_across_the_hour(Clock::pair().wall, lasts);
        eprintln!(
            "waiting for {} s, so that an hour ends in the midst of the run",
            wait.as_secs()
        );
        sandbox.sleep(wait)?;
    }
    let world = world::World::make(programs, &dir)?;
    let faults = faults::Plan {
        seed: options.seed,
        lasts,
        flips: !options.no_flips,
        hostile: options.hostile,
    };
    let counts = faults::carry_out(&sandbox, &world, faults)?;
    let judgement = judge::judge(&world, counts, options.across_the_hour)?;
    let table = judgement.table(&options.command());
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

#[cfg(test)]
mod tests {
    use super::until_across_the_hour;
    use hopgap_proto::time::{Span, Wall};
    use std::time::Duration;

    #[test]
    fn the_hour_ends_in_the_midst() {
        let at = |minutes: i64| Wall::ZERO + Span::from_secs(3600 * 500_000 + 60 * minutes);
        let six = Duration::from_secs(360);
        let minutes = |m: u64| Duration::from_secs(60 * m);
        assert_eq!(until_across_the_hour(at(0), six), minutes(57));
        assert_eq!(until_across_the_hour(at(57), six), minutes(0));
        assert_eq!(until_across_the_hour(at(58), six), minutes(59));
    }
}
