//! A short campaign: every scenario once, but for those that take minutes. The long one is a command, `cargo lab campaign`.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_scenario_agrees_with_its_truth() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("campaign");
    let output = Command::new(env!("CARGO_BIN_EXE_hopgap-lab"))
        .args(["campaign", "--quick", "--runs", "1"])
        .args(["--seed", "862", "--jobs", "2"])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let table = std::fs::read_to_string(out.join("campaign.md")).unwrap();
    assert!(table.contains("| outage | 1 |"), "{table}");
}
