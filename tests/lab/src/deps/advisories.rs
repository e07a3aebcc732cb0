//! Known vulnerabilities of what is built, by a pinned record of the RustSec database.
//!
//! The record is committed, so that a check gives the same today and tomorrow and needs
//! no network. Each check says how old the record is, and warns when that is more than
//! [`STALE`] days. `cargo lab advisories` clones <https://github.com/RustSec/advisory-db>
//! and makes the record anew; `--from DIR` takes a clone that is there. The database's texts
//! are in the public domain (CC0); only what tells which versions are affected is kept.

use anyhow::{Context, Result, bail, ensure};
use jiff::Unit;
use jiff::civil::Date;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the record is.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/advisories.toml");

/// Where the database is.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";

/// Days after which the record is too old to be relied on.
const STALE: i32 = 60;

/// Both lock files of the project, from the lab's folder.
const LOCKS: [&str; 2] = ["../../Cargo.lock", "../fuzz/Cargo.lock"];

/// Advisories that are no vulnerability (unmaintained, unsound), each with why it is
/// accepted. One that no longer applies is an error, so that the list shrinks.
const ACCEPTED: &[(&str, &str)] = &[];

/// What is known of one fault of one crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    id: String,
    package: String,
    /// Versions of these ranges are mended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patched: Vec<VersionReq>,
    /// Versions of these ranges never had it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unaffected: Vec<VersionReq>,
    /// What it is where it is no vulnerability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    informational: Option<String>,
}

impl Advisory {
    fn affects(&self, package: &Locked) -> bool {
        let within = |ranges: &[VersionReq]| ranges.iter().any(|r| r.matches(&package.version));
        self.package == package.name && !within(&self.patched) && !within(&self.unaffected)
    }
}

/// The whole database, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The database's commit.
    commit: String,
    /// The day of that commit, such as 2026-11-23.
    date: String,
    #[serde(rename = "advisory")]
    advisories: Vec<Advisory>,
}

/// One package of a lock file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Locked {
    name: String,
    version: Version,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// Checks everything that either lock file names. Says on success how old the record is,
/// with a warning where it is older than [`STALE`] days.
///
/// # Errors
/// One line for each advisory that is not accepted.
pub(super) fn check(today: Date) -> Result<String> {
    let text = std::fs::read_to_string(RECORD).with_context(|| format!("cannot read {RECORD}"))?;
    let record: Record = toml::from_str(&text).with_context(|| format!("in {RECORD}"))?;
    let mut packages = BTreeSet::new();
    for lock in LOCKS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(lock);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lock: Lock = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        packages.extend(lock.package);
    }
    let complaints = complaints(&packages, &record.advisories, ACCEPTED);
    if complaints.is_empty() {
        return Ok(format!(
            "{} packages: none has a fault among the {} advisories that RustSec knew on {}\n{}",
            packages.len(),
            record.advisories.len(),
            record.date,
            age(record.date.parse()?, today)?
        ));
    }
    bail!(
        "advisories that are not accepted:\n  {}",
        complaints.join("\n  ")
    );
}

/// How old a record of `date` is today, in words.
fn age(date: Date, today: Date) -> Result<String> {
    let days = date.until((Unit::Day, today))?.get_days();
    let count = match days {
        1 => "1 day".to_owned(),
        _ => format!("{days} days"),
    };
    Ok(if days < 0 {
        format!(
            "warning: the record of advisories is dated {date}, which is after today ({today}): check this machine's clock"
        )
    } else if days > STALE {
        format!(
            "warning: the record of advisories is {count} old, so that faults found since are not seen; renew it with `cargo lab advisories`"
        )
    } else {
        format!("the record of advisories is {count} old")
    })
}

fn complaints(
    packages: &BTreeSet<Locked>,
    advisories: &[Advisory],
    accepted: &[(&str, &str)],
) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for advisory in advisories {
        for package in packages.iter().filter(|p| advisory.affects(p)) {
            let excused = accepted.iter().any(|(id, _)| *id == advisory.id);
            if excused && advisory.informational.is_some() {
                used.insert(advisory.id.as_str());
                continue;
            }
            complaints.push(format!(
                "{} {}: {} ({}); see https://rustsec.org/advisories/{}",
                package.name,
                package.version,
                advisory.id,
                advisory
                    .informational
                    .as_deref()
                    .unwrap_or("a vulnerability"),
                advisory.id
            ));
        }
    }
    let unused = accepted.iter().filter(|(id, _)| !used.contains(id));
    complaints.extend(unused.map(|(id, _)| format!("{id} does not apply; take it off the list")));
    complaints
}

/// Makes the record anew, from the clone of the database in `from`, or from one that it
/// makes itself and removes again.
///
/// # Errors
/// When the database cannot be cloned or read, or the record not written.
pub fn renew(from: Option<&Path>) -> Result<()> {
    match from {
        Some(clone) => extract(clone),
        None => {
            let clone = Clone::new(DATABASE)?;
            extract(&clone.0)
        }
    }
}

/// A clone in a folder of its own, removed when dropped.
struct Clone(PathBuf);

impl Clone {
    fn new(url: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("hopgap-advisories-{}", std::process::id()));
        // Fails where somebody made it before: nothing of theirs is read or removed.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        let clone = Self(dir);
        println!("cloning {url}");
        let status = Command::new("git")
            .args(["clone", "--quiet", "--depth", "1", url])
            .arg(&clone.0)
            .status()
            .context("cannot run git; install it with `sudo apt-get install -y git`")?;
        ensure!(
            status.success(),
            "cannot clone {url}; clone it elsewhere, and run `cargo lab advisories --from DIR` with the clone's folder"
        );
        Ok(clone)
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn extract(from: &Path) -> Result<()> {
    let git = |format: &str| -> Result<String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(from)
            .args(["log", "-1", &format!("--format={format}")])
            .output()
            .context("cannot run git")?;
        ensure!(
            output.status.success(),
            "{} is no clone of the advisory database: {}",
            from.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let mut advisories = Vec::new();
    for path in files(&from.join("crates"))? {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let found = parse(&text).with_context(|| format!("in {}", path.display()))?;
        advisories.extend(found);
    }
    ensure!(
        !advisories.is_empty(),
        "{} has no advisories",
        from.display()
    );
    advisories.sort_by(|a, b| (&a.package, &a.id).cmp(&(&b.package, &b.id)));
    let record = Record {
        commit: git("%H")?,
        date: git("%cs")?,
        advisories,
    };
    let text = format!(
        "# Made by `cargo lab advisories`; not to be edited.\n{}",
        toml::to_string(&record)?
    );
    std::fs::write(RECORD, text).with_context(|| format!("cannot write {RECORD}"))?;
    println!("{} advisories of {}", record.advisories.len(), record.date);
    Ok(())
}

/// Every advisory below a folder that has one folder for each crate.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = |dir: &Path| -> Result<Vec<PathBuf>> {
        let entries =
            std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    };
    let mut files = Vec::new();
    for package in list(dir)?.iter().filter(|path| path.is_dir()) {
        let all = list(package)?.into_iter();
        files.extend(all.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    Ok(files)
}

/// The part of an advisory's head that is kept; `None` where it was withdrawn.
fn parse(text: &str) -> Result<Option<Advisory>> {
    #[derive(Deserialize)]
    struct Head {
        advisory: About,
        versions: Versions,
    }
    #[derive(Deserialize)]
    struct About {
        id: String,
        package: String,
        withdrawn: Option<toml::Value>,
        informational: Option<String>,
    }
    #[derive(Deserialize)]
    struct Versions {
        #[serde(default)]
        patched: Vec<VersionReq>,
        #[serde(default)]
        unaffected: Vec<VersionReq>,
    }
    let head = text
        .strip_prefix("```toml")
        .and_then(|rest| rest.split("\n```").next())
        .context("it does not begin with a TOML block")?;
    let Head { advisory, versions } = toml::from_str(head)?;
    Ok(advisory.withdrawn.is_none().then_some(Advisory {
        id: advisory.id,
        package: advisory.package,
        patched: versions.patched,
        unaffected: versions.unaffected,
        informational: advisory.informational,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Advisory, Clone, Locked, age, complaints, extract, parse};
    use std::collections::BTreeSet;

    const TEXT: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2020-0071\"\npackage = \"time\"\n\
        date = \"2020-11-18\"\ncategories = []\n[versions]\npatched = [\">= 0.2.23\"]\n\
        unaffected = [\"=0.2.0\"]\n```\n\n# A segfault\n";

    fn advisory(more: &str) -> Advisory {
        let text = TEXT.replace("date =", &format!("{more}\ndate ="));
        parse(&text).expect("right").expect("not withdrawn")
    }

    fn locked(version: &str) -> BTreeSet<Locked> {
        let text = format!("name = \"time\"\nversion = \"{version}\"\n");
        BTreeSet::from([toml::from_str(&text).expect("a package")])
    }

    #[test]
    fn an_affected_version_is_named_and_others_are_not() {
        let all = [advisory("")];
        for (version, affected) in [("0.2.22", true), ("0.2.23", false), ("0.2.0", false)] {
            let found = complaints(&locked(version), &all, &[]);
            assert_eq!(!found.is_empty(), affected, "{version}: {found:?}");
        }
    }

    #[test]
    fn only_what_is_no_vulnerability_can_be_accepted() {
        let accepted = [("RUSTSEC-2020-0071", "its functions are not used")];
        let found = |advisory, version| complaints(&locked(version), &[advisory], &accepted).len();
        let unsound = || advisory("informational = \"unsound\"");
        assert_eq!(found(unsound(), "0.2.22"), 0);
        // The vulnerability, and an acceptance that excuses nothing.
        assert_eq!(found(advisory(""), "0.2.22"), 2);
        assert_eq!(found(unsound(), "0.2.23"), 1);
    }

    #[test]
    fn a_record_tells_its_age_and_warns_when_it_is_old() {
        let age = |date: &str| {
            let today = "2026-11-26".parse().expect("a date");
            age(date.parse().expect("a date"), today).expect("an age")
        };
        assert_eq!(age("2026-11-26"), "the record of advisories is 0 days old");
        assert_eq!(age("2026-11-25"), "the record of advisories is 1 day old");
        assert_eq!(age("2026-09-27"), "the record of advisories is 60 days old");
        let old = age("2026-09-26");
        assert!(
            old.starts_with("warning: ") && old.contains("61 days"),
            "{old}"
        );
        assert!(old.contains("`cargo lab advisories`"), "{old}");
        assert!(age("2025-02-24").contains("640 days"));
        assert!(age("2026-11-27").contains("after today"));
    }

    #[test]
    fn a_database_that_cannot_be_cloned_says_what_to_do_and_leaves_nothing() {
        let error = Clone::new("file:///nowhere/at/all")
            .err()
            .expect("an error");
        assert!(error.to_string().contains("--from DIR"), "{error}");
        let dir = std::env::temp_dir().join(format!("hopgap-advisories-{}", std::process::id()));
        assert!(!dir.exists());
        assert!(extract(&dir).is_err());
    }

    #[test]
    fn what_was_withdrawn_is_left_out() {
        let text = TEXT.replace("date =", "withdrawn = \"2021-01-01\"\ndate =");
        assert_eq!(parse(&text).expect("right"), None);
        assert!(parse("# nothing").is_err());
    }
}
