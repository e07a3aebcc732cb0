//! The programs under test, built with the profile of this one.

use crate::burner;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `hopgap-agent` and `hopgap-collector` are.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
    /// Whether they run beside burners, with the same right to the processor.
    ordinary: bool,
}

impl Programs {
    /// Builds them; inside of the sandbox they are taken as they are.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn ready() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let dir = program
            .parent()
            .context("this program's file has no folder")?;
        // A test's program lies one folder deeper.
        let dir = if dir.ends_with("deps") {
            dir.parent().unwrap_or(dir)
        } else {
            dir
        };
        let programs = Self {
            dir: dir.to_owned(),
            ordinary: false,
        };
        if !Sandbox::is_inside() {
            build(dir)?;
        }
        for program in [programs.agent(), programs.collector()] {
            if !program.exists() {
                bail!("{} is not there after the build", program.display());
            }
        }
        Ok(programs)
    }

    /// Runs them at the ordinary priority, if there are so many burners beside them.
    #[must_use]
    pub fn beside(self, burners: u32) -> Self {
        Self {
            ordinary: burners > 0,
            ..self
        }
    }

    /// Starts the agent.
    pub(crate) fn run_agent(&self) -> Command {
        self.command(&self.agent())
    }

    /// Starts the collector.
    pub(crate) fn run_collector(&self) -> Command {
        self.command(&self.collector())
    }

    fn command(&self, program: &Path) -> Command {
        if self.ordinary {
            burner::ordinary(program)
        } else {
            Command::new(program)
        }
    }

    /// The agent.
    pub fn agent(&self) -> PathBuf {
        self.dir.join("hopgap-agent")
    }

    /// The collector.
    pub fn collector(&self) -> PathBuf {
        self.dir.join("hopgap-collector")
    }
}

/// Of the whole workspace, as `cargo lab` itself: with other features everything would be
/// compiled again.
fn build(dir: &Path) -> Result<()> {
    let mut cargo = crate::suite::cargo();
    cargo.args([
        "build",
        "--locked",
        "--bin",
        "hopgap-agent",
        "--bin",
        "hopgap-collector",
    ]);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    if let Some(target) = dir.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("building the agent and the collector failed");
    }
    Ok(())
}
