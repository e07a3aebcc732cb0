//! `cargo lab test`: everything that the tests need, then all of them.

use crate::setup;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// Installs or names what is missing, then runs all tests of the workspace: with
/// nextest where it is installed, else with cargo's own runner. The documentation's
/// examples come first, since nextest does not run them.
///
/// # Errors
/// When something is missing or a test fails.
pub fn run() -> Result<()> {
    setup::ensure_for_tests()?;
    step(&["test", "--workspace", "--doc", "--locked", "--quiet"])?;
    let nextest = cargo()
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if nextest {
        step(&["nextest", "run", "--workspace", "--locked"])
    } else {
        eprintln!(
            "cargo-nextest is not installed (`cargo install --locked cargo-nextest`): one test at a time"
        );
        // The drills and the interoperability tests share two cores with daemons and wires.
        step(&[
            "test",
            "--workspace",
            "--locked",
            "--lib",
            "--bins",
            "--tests",
            "--",
            "--test-threads=1",
        ])
    }
}

/// Cargo, started as from a terminal: what `cargo run` tells a program of its own package
/// would make build scripts that look at it, and all that depends on them, build anew.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command
}

fn step(arguments: &[&str]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = cargo()
        .args(arguments)
        .current_dir(root)
        .env("INSTA_UPDATE", "no")
        .status()
        .with_context(|| format!("cannot run cargo {}", arguments.join(" ")))?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}
