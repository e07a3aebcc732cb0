//! Where the programs under test are, built by the first test that asks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The other implementation's version: its options and its behaviour are as of this one.
const STAMP_SUITE: &str = "1.0.0";

/// One of hopgap's programs, of this checkout and of the tests' own build profile.
pub(crate) fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        if crate::world::is_inside() {
            return;
        }
        let profile = match name_of(profile_dir()) {
            "debug" => "dev",
            other => other,
        };
        cargo(
            &[
                "build",
                "--profile",
                profile,
                // Of the whole workspace: with other features everything would be compiled again.
                "--workspace",
                "--bin",
                "hopgap-agent",
                "--bin",
                "hopgap-collector",
            ],
            target_dir(),
        );
    });
    existing(profile_dir().join(name))
}

/// stamp-suite, a STAMP sender and reflector that knows nothing of hopgap.
pub(crate) fn stamp_suite() -> PathBuf {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let root = target_dir().join("tools");
    let path = root.join("bin/stamp-suite");
    INSTALLED.get_or_init(|| {
        if crate::world::is_inside() || version_of(&path).as_deref() == Some(STAMP_SUITE) {
            return;
        }
        let root_name = root.to_str().expect("the build directory has a plain name");
        cargo(
            &[
                "install",
                "stamp-suite",
                "--version",
                STAMP_SUITE,
                "--locked",
                "--root",
                root_name,
            ],
            &root.join("build"),
        );
    });
    existing(path)
}

fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().nth(1)?.to_owned())
}

fn cargo(arguments: &[&str], target_dir: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    // Of the tests' own package: build scripts that look at it would run anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo
        .args(arguments)
        .env("CARGO_TARGET_DIR", target_dir)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `TARGET/PROFILE`, of `TARGET/PROFILE/deps/e2e-…`.
fn profile_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let exe = std::env::current_exe().expect("the tests' program has a path");
        let deps = exe.parent().expect("it is in a directory");
        deps.parent().expect("cargo puts it into deps").to_owned()
    })
}

fn target_dir() -> &'static Path {
    profile_dir()
        .parent()
        .expect("a profile has a directory in the build directory")
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|n| n.to_str())
        .expect("a plain name")
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} was not built", path.display());
    path
}
