//! Runs a test inside a network namespace of its own, without root.

use std::process::Command;

const INSIDE: &str = "HOPGAP_NET_TEST_INSIDE";

/// Runs `test`, which must be a closure in the calling test, in a fresh user and network
/// namespace whose loopback is up. It runs in another process, whose failure fails this one.
pub(crate) fn inside<F: FnOnce()>(test: F) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return test();
    }
    let name = std::any::type_name::<F>();
    let name = name
        .strip_prefix("hopgap_net::")
        .expect("a test of this crate");
    let name = name.strip_suffix("::{{closure}}").expect("a closure");
    let binary = std::env::current_exe().expect("the test binary has a path");
    let output = Command::new("unshare")
        .args(["-Urn", "--"])
        .arg(binary)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) is installed");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{name} inside its namespace: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
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

/// Makes the veth pair `left` and `right` and waits until it passes packets: just after an
/// interface is set up the kernel drops what is sent on it.
pub(crate) fn veth(left: &str, right: &str) {
    ip(&format!("link add {left} type veth peer name {right}"));
    ip(&format!("link set {left} up"));
    ip(&format!("link set {right} up"));
    passes_packets(left);
    passes_packets(right);
}

/// Waits until the interface passes packets.
pub(crate) fn passes_packets(interface: &str) {
    for _ in 0..500 {
        let shown = show(interface);
        if shown.contains("state UP") && shown.contains("qdisc noqueue") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{interface} does not come up");
}

/// Returns what `ip` shows of the interface.
pub(crate) fn show(interface: &str) -> String {
    let output = Command::new("ip")
        .args(["-details", "link", "show", interface])
        .output()
        .expect("ip (iproute2) is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
