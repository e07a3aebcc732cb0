//! A short chaos run. The long one is a command, `cargo lab chaos`; what it gave stands in
//! `CHAOS.md`.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn whatever_is_killed_cut_or_full_no_record_is_lost_or_doubled() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos");
    let output = Command::new(env!("CARGO_BIN_EXE_hopgap-lab"))
        .args(["chaos", "--minutes", "0.6", "--seed", "7", "--no-flips"])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    // It is no proof that nothing was lost where nothing happened.
    let count = |what: &str| -> u64 {
        let line = said.lines().find(|l| l.starts_with(&format!("| {what} |")));
        let number = line.and_then(|l| l.split('|').nth(2));
        number.unwrap_or_default().trim().parse().unwrap()
    };
    assert!(count("kills of agents") >= 10, "{said}");
    assert!(count("kills of the collector") >= 3, "{said}");
    assert!(count("probes stored") > 5_000, "{said}");
}
