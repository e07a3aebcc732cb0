//! The programs that the lab runs, and the Debian packages they come in.

use crate::error::LabError;
use crate::tunnel::Tunnel;
use std::path::Path;
use std::process::Command;

struct Tool {
    /// A file of it, by its absolute path or its name in one of the usual places.
    file: &'static str,
    package: &'static str,
    needed_by: NeededBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NeededBy {
    /// Every lab.
    Lab,
    /// Labs with strongSwan's tunnel.
    Ipsec,
    /// Tests that hold our packets against what others make of them.
    Tests,
    /// Campaigns with the programs that people use today.
    Peers,
}

const fn tool(file: &'static str, package: &'static str) -> Tool {
    Tool {
        file,
        package,
        needed_by: NeededBy::Lab,
    }
}

const fn ipsec(file: &'static str, package: &'static str) -> Tool {
    Tool {
        file,
        package,
        needed_by: NeededBy::Ipsec,
    }
}

const fn for_tests(file: &'static str, package: &'static str) -> Tool {
    Tool {
        file,
        package,
        needed_by: NeededBy::Tests,
    }
}

const fn peer(file: &'static str, package: &'static str) -> Tool {
    Tool {
        file,
        package,
        needed_by: NeededBy::Peers,
    }
}

const TOOLS: &[Tool] = &[
    tool("ip", "iproute2"),
    tool("unshare", "util-linux"),
    tool("nsenter", "util-linux"),
    tool("bird", "bird2"),
    tool("birdc", "bird2"),
    tool("nft", "nftables"),
    tool("ethtool", "ethtool"),
    tool("traceroute", "traceroute"),
    ipsec("/usr/lib/ipsec/charon", "strongswan-charon"),
    ipsec("swanctl", "strongswan-swanctl"),
    ipsec(
        "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
        "libcharon-extra-plugins",
    ),
    ipsec(
        "/usr/lib/ipsec/plugins/libstrongswan-openssl.so",
        "libstrongswan-standard-plugins",
    ),
    for_tests("ping", "iputils-ping"),
    for_tests("tshark", "tshark"),
    for_tests("tcpdump", "tcpdump"),
    for_tests("systemd-analyze", "systemd"),
    for_tests("strace", "strace"),
    for_tests("setcap", "libcap2-bin"),
    for_tests("prometheus", "prometheus"),
    for_tests(
        "/usr/lib/python3/dist-packages/scapy/contrib/stamp.py",
        "python3-scapy",
    ),
    peer("fping", "fping"),
    peer("irtt", "irtt"),
    peer("mtr", "mtr-tiny"),
    peer("ping", "iputils-ping"),
];

/// The system's own programs are often not in an ordinary user's PATH.
const PLACES: &[&str] = &[
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// The packages that are missing for labs with `tunnel`.
pub fn missing(tunnel: Tunnel) -> Vec<&'static str> {
    packages(|needed_by| match needed_by {
        NeededBy::Lab => true,
        NeededBy::Ipsec => tunnel == Tunnel::Ipsec,
        NeededBy::Tests | NeededBy::Peers => false,
    })
}

fn packages(wanted: impl Fn(NeededBy) -> bool) -> Vec<&'static str> {
    let here = |file: &str| {
        file.starts_with('/') && Path::new(file).exists()
            || PLACES
                .iter()
                .any(|place| Path::new(place).join(file).exists())
    };
    let mut packages: Vec<_> = TOOLS
        .iter()
        .filter(|tool| wanted(tool.needed_by) && !here(tool.file))
        .map(|tool| tool.package)
        .collect();
    packages.dedup();
    packages
}

/// Sees to it that everything is there for labs with `tunnel`: installs what is
/// missing when run as root.
///
/// # Errors
/// The command that would install it, or what apt said.
pub fn ensure(tunnel: Tunnel) -> Result<(), LabError> {
    install(&missing(tunnel), "the lab needs")
}

/// The same for all tests.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_for_tests() -> Result<(), LabError> {
    let missing = packages(|needed_by| needed_by != NeededBy::Peers);
    install(&missing, "the tests need")
}

/// The same for `cargo lab campaign --peers`.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_for_peers() -> Result<(), LabError> {
    let missing = packages(|needed_by| matches!(needed_by, NeededBy::Lab | NeededBy::Peers));
    install(&missing, "the peers of the campaign need")
}

fn install(missing: &[&str], who: &str) -> Result<(), LabError> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::Refused(format!(
            "{who} packages that are not installed: run `sudo apt-get install -y {packages}`"
        )));
    }
    eprintln!("installing {packages}");
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<(), LabError> {
    let mut command = Command::new("apt-get");
    // No service is to start: the lab runs its own daemons.
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    let output = crate::namespace::output(&mut command)?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Command {
        at: "setup".to_owned(),
        command: format!("apt-get {}", arguments.join(" ")),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
