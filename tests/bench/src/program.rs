//! The programs under test, of this checkout and this build profile.

use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds hopgap's programs as the benchmark itself was built and returns the
/// directory in which they are.
///
/// # Errors
/// When they do not compile.
pub fn build() -> anyhow::Result<PathBuf> {
    let dir = directory()?;
    let target = dir.parent().context("a profile's directory has a parent")?;
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => bail!("{} is no build directory", dir.display()),
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Of this benchmark's own package: build scripts that look at it would run anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .args(["build", "--profile", profile])
        // Of the whole workspace: with other features everything would be compiled again.
        .args([
            "--workspace",
            "--bin",
            "hopgap-agent",
            "--bin",
            "hopgap-collector",
        ])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stdin(Stdio::null())
        .status()
        .context("cargo cannot be run")?;
    if !status.success() {
        bail!("the programs do not compile");
    }
    Ok(dir)
}

/// One of hopgap's programs, which [`build`] built.
///
/// # Errors
/// When it is not there.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let path = directory()?.join(name);
    if !path.is_file() {
        bail!("{} was not built", path.display());
    }
    Ok(path)
}

/// Says whether a tool of the system is there, and how to get it.
///
/// # Errors
/// When it is not.
pub fn require(tool: &str, package: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()) {
        return Ok(());
    }
    bail!("{tool} is not installed: it is in the package {package} (apt install {package})")
}

/// `TARGET/PROFILE`, of `TARGET/PROFILE/deps/NAME-…`.
fn directory() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe.parent().and_then(Path::parent);
    Ok(dir
        .context("cargo puts benchmarks into TARGET/PROFILE/deps")?
        .to_owned())
}
