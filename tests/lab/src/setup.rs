//! The programs that the lab runs, and the Debian packages they come in.

use crate::error::LabError;
use crate::tunnel::Tunnel;
use std::path::Path;
use std::process::Command;

struct Tool {
    /// A file of it, by its absolute path or its name in one of the usual places.
    file: &'static str,
    package: &'static str,
    /// Needed by strongSwan's tunnel only.
    ipsec: bool,
}

const fn tool(file: &'static str, package: &'static str) -> Tool {
    Tool {
        file,
        package,
        ipsec: false,
    }
}

const fn ipsec(file: &'static str, package: &'static str) -> Tool {
    Tool {
        file,
        package,
        ipsec: true,
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
    let here = |file: &str| {
        file.starts_with('/') && Path::new(file).exists()
            || PLACES
                .iter()
                .any(|place| Path::new(place).join(file).exists())
    };
    let mut packages: Vec<_> = TOOLS
        .iter()
        .filter(|tool| (tunnel == Tunnel::Ipsec || !tool.ipsec) && !here(tool.file))
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
    let missing = missing(tunnel);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::Refused(format!(
            "the lab needs packages that are not installed: run `sudo apt-get install -y {packages}`"
        )));
    }
    eprintln!("installing {packages}");
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&missing);
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
