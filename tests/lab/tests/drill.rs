//! Every fault over every tunnel: the report of the real programs agrees with what
//! truly happened. Each test is the README's first command.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::path::PathBuf;
use std::process::Command;

/// Runs `cargo lab drill` and requires its exit code 0, which it gives only if every
/// true outage lies within the report's bounds, none is invented and the paths are right.
fn drill(fault: &str, tunnel: &str, more: &[&str]) {
    let name = format!("drill-{fault}-{tunnel}{}", more.concat());
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_hopgap-lab"))
        .args(["drill", "--fault", fault, "--tunnel", tunnel, "--out"])
        .arg(&out)
        .args(more)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for file in ["report.html", "report.json", "report.txt", "truth.jsonl"] {
        let length = std::fs::metadata(out.join(file)).unwrap().len();
        assert!(length > 0, "{file} is empty");
    }
}

macro_rules! drills {
    ($($name:ident: $fault:literal over $tunnel:literal $(, $more:literal)*;)*) => {
        $(#[test]
        fn $name() {
            drill($fault, $tunnel, &[$($more),*]);
        })*
    };
}

drills! {
    admin_over_vxlan: "admin" over "vxlan";
    link_over_vxlan: "link" over "vxlan";
    blackhole_over_vxlan: "blackhole" over "vxlan";
    grey_over_vxlan: "grey" over "vxlan";
    one_msee_over_vxlan: "one-msee" over "vxlan";
    // The hold timer takes up to 9 s, and the VPN then has the traffic for some time.
    blackhole_found_by_the_hold_timer: "blackhole" over "vxlan", "--no-bfd", "--hold=20s";
    // The first instance is found by its hold timer, too.
    one_vpn_instance_over_vxlan: "one-vpn" over "vxlan", "--hold=16s";
    admin_over_ipsec: "admin" over "ipsec";
    link_over_ipsec: "link" over "ipsec";
    blackhole_over_ipsec: "blackhole" over "ipsec";
    grey_over_ipsec: "grey" over "ipsec";
    one_msee_over_ipsec: "one-msee" over "ipsec";
}
