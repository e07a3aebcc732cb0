//! Runs a test inside a network namespace of its own, without root.

use std::process::Command;

const INSIDE: &str = "HOPGAP_NET_TEST_INSIDE";

/// True inside a fresh user and network namespace whose loopback is up. Outside
/// it runs the calling test there, fails as that does, and returns false.
pub(crate) fn enter() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("the test harness names its threads");
    let binary = std::env::current_exe().expect("the test binary has a path");
    let output = Command::new("unshare")
        .args(["-Urn", "--"])
        .arg(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) is installed");
    assert!(
        output.status.success(),
        "{test} inside its namespace: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{test} did not run inside its namespace"
    );
    false
}

/// Runs `ip` with `arguments`.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip (iproute2) is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
