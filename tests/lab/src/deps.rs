//! `cargo lab deps`: every dependency's licence and source, crates that the build
//! carries in more than one version, and known faults.
//!
//! A small stand-in for cargo-deny that needs nothing to be installed. What is
//! accepted stands in this file, so that accepting more is a reviewed change.

mod advisories;

pub use advisories::renew as renew_advisories;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences that MIT OR Apache-2.0 software can be distributed with, unmodified.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that are built in two versions because their users have not met yet.
/// An entry that is no longer needed is an error, so that the list shrinks.
const DUPLICATES: &[&str] = &[
    "embedded-io", // postcard carries both for its optional readers; neither is compiled in
    "getrandom",   // of ahash (parquet), ring and proptest
    "num-bigint",  // of x509-parser (signing requests) and of parquet
    "rand_core",   // of pco's rand_xoshiro and of rand 0.10
    "syn",         // derive macros that have moved to syn 3 and those that have not
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks the whole locked dependency graph for this platform.
///
/// # Errors
/// One sentence for each thing that is not accepted.
pub fn check() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--all-features",
        ])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let complaints = complaints(&metadata.packages, DUPLICATES);
    if complaints.is_empty() {
        println!(
            "{} packages: licences, sources and versions are accepted",
            metadata.packages.len()
        );
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        println!("{}", advisories::check(today)?);
        return Ok(());
    }
    bail!(
        "dependencies are not accepted:\n  {}",
        complaints.join("\n  ")
    );
}

fn complaints(packages: &[Package], duplicates: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
        let of = format!("{} {}", package.name, package.version);
        match &package.license {
            None => complaints.push(format!("{of} states no licence")),
            Some(licence) if !accepted(licence) => {
                complaints.push(format!("{of} has the licence `{licence}`"));
            }
            Some(_) => {}
        }
        if package
            .source
            .as_deref()
            .is_some_and(|s| !s.starts_with("registry+"))
        {
            complaints.push(format!("{of} does not come from the registry"));
        }
    }
    for (name, versions) in &versions {
        let list = versions.iter().copied().collect::<Vec<_>>().join(", ");
        match (versions.len() > 1, duplicates.contains(name)) {
            (true, false) => {
                complaints.push(format!("{name} is built in several versions: {list}"))
            }
            (false, true) => complaints.push(format!(
                "{name} has one version only; take it off the list of duplicates"
            )),
            _ => {}
        }
    }
    for name in duplicates {
        if !versions.contains_key(name) {
            complaints.push(format!(
                "{name} is not used; take it off the list of duplicates"
            ));
        }
    }
    complaints
}

/// Whether one alternative of an SPDX expression is accepted whole. Parentheses
/// are only ever around alternatives in practice, and are read as such.
fn accepted(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let alternatives: Vec<&str> = flat.split(" OR ").collect();
    // `A AND (B OR C)` flattens to `A AND B OR C`: right, as long as A is accepted too.
    alternatives.iter().any(|alternative| {
        alternative
            .split(" AND ")
            .all(|l| LICENCES.contains(&l.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::{Package, accepted, complaints};

    fn package(name: &str, version: &str, license: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.map(str::to_owned),
            source: None,
        }
    }

    #[test]
    fn one_accepted_alternative_is_enough() {
        assert!(accepted("MIT OR GPL-3.0"));
        assert!(accepted("MIT/Apache-2.0"));
        assert!(accepted("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!accepted("GPL-3.0"));
        assert!(!accepted("MIT AND GPL-3.0"));
    }

    #[test]
    fn every_fault_is_named() {
        let found = complaints(
            &[
                package("a", "1.0.0", Some("GPL-3.0")),
                package("b", "1.0.0", None),
                package("c", "1.0.0", Some("MIT")),
                package("c", "2.0.0", Some("MIT")),
                Package {
                    source: Some("git+https://x".to_owned()),
                    ..package("d", "1.0.0", Some("MIT"))
                },
            ],
            &["e"],
        );
        assert_eq!(found.len(), 5, "{found:?}");
    }
}
