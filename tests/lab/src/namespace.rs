//! Work inside one network namespace.

use crate::error::LabError;
use crate::topology::{LINKS, Node};
use nix::sched::{CloneFlags, setns};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

/// Where `ip netns` keeps its names, on the lab's private /run.
const NAMES: &str = "/run/netns";

/// With this seed at every node the eight flows between the server and the VM from
/// source ports 50000 to 50007 are four on each circuit, and ICMP is on the first, as
/// in the article. The kernel's hash is the same for both directions of a flow.
const HASH_SEED: &str = "12";

/// The bridge of a node that is one.
pub(crate) const BRIDGE: &str = "br0";

/// A node's network namespace, or another host's.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: &'static str,
    file: File,
}

impl Namespace {
    /// Opens the namespace that `ip netns add` made.
    pub(crate) fn open(name: &'static str) -> Result<Self, LabError> {
        let path = format!("{NAMES}/{name}");
        let file = File::open(&path).map_err(LabError::io(format!("open {path}")))?;
        Ok(Self { name, file })
    }

    /// Runs `work` in a thread that is inside. Processes that it starts are inside too.
    pub(crate) fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        let name = self.name;
        let entered = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| LabError::io(format!("enter {name}"))(errno.into()))?;
            work()
        };
        std::thread::scope(|scope| {
            scope
                .spawn(entered)
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `command` inside.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        self.inside(|| {
            command.spawn().map_err(|source| LabError::Start {
                program: command.get_program().to_string_lossy().into_owned(),
                source,
            })
        })
    }

    /// Runs `command` inside to its end, whatever its status.
    pub(crate) fn output(&self, command: &mut Command) -> Result<Output, LabError> {
        self.inside(|| output(command))
    }

    /// Runs `command` inside and returns what it printed.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String, LabError> {
        let output = self.output(command)?;
        succeeded(self.name, command, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets sysctls, given as paths below /proc/sys/net.
    pub(crate) fn sysctls(&self, settings: &[(&str, &str)]) -> Result<(), LabError> {
        self.inside(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/net/{name}");
                std::fs::write(&path, value)
                    .map_err(LabError::io(format!("write {value} to {path}")))?;
            }
            Ok(())
        })
    }

    /// Runs lines of `ip` commands.
    pub(crate) fn ip(&self, lines: &str) -> Result<(), LabError> {
        self.inside(|| ip_batch(self.name, lines))
    }
}

/// Runs `command` to its end, whatever its status.
pub(crate) fn output(command: &mut Command) -> Result<Output, LabError> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })
}

fn succeeded(at: &str, command: &Command, output: &Output) -> Result<(), LabError> {
    if output.status.success() {
        return Ok(());
    }
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        // Writing to a String cannot fail.
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    Err(LabError::Command {
        at: at.to_owned(),
        command: line,
        output: format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    })
}

/// Runs lines of `ip` commands in the calling thread's network namespace.
pub(crate) fn ip_batch(at: &str, lines: &str) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let start = |source| LabError::Start {
        program: "ip".to_owned(),
        source,
    };
    let mut child = command.spawn().map_err(start)?;
    if let Some(mut input) = child.stdin.take() {
        // What fails here shows in the status.
        let _ = input.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    succeeded(at, &command, &output)
}

/// Makes every namespace and link, without addresses.
pub(crate) fn build() -> Result<(), LabError> {
    let mut lines = String::new();
    for node in Node::ALL {
        let _ = writeln!(lines, "netns add {node}");
    }
    let mut veth = |a: (&str, Node), b: (&str, Node)| {
        let _ = writeln!(
            lines,
            "link add {} netns {} type veth peer name {} netns {}",
            a.0, a.1, b.0, b.1
        );
    };
    for link in LINKS {
        let (a, b) = (
            (link.a.interface, link.a.node),
            (link.b.interface, link.b.node),
        );
        match link.wire {
            None => veth(a, b),
            Some(wire) => {
                veth(a, (wire.onprem, Node::Wires));
                veth((wire.azure, Node::Wires), b);
            }
        }
    }
    ip_batch("lab", &lines)
}

/// Every interface of `node` that [`build`] made.
pub(crate) fn interfaces(node: Node) -> Vec<(&'static str, Option<&'static str>)> {
    let mut all = Vec::new();
    for link in LINKS {
        for end in [link.a, link.b] {
            if end.node == node {
                all.push((end.interface, end.address));
            }
        }
        if let (Node::Wires, Some(wire)) = (node, link.wire) {
            all.extend([(wire.onprem, None), (wire.azure, None)]);
        }
    }
    all
}

/// Gives `node` its addresses and settings, and brings its interfaces up.
pub(crate) fn configure(node: Node, namespace: &Namespace) -> Result<(), LabError> {
    let mut sysctls = vec![
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv4/icmp_errors_use_inbound_ifaddr", "1"),
        ("ipv4/fib_multipath_hash_policy", "1"),
    ];
    if node.is_router() {
        sysctls.push(("ipv4/ip_forward", "1"));
    }
    namespace.sysctls(&sysctls)?;
    // Kernels before 6.11 have none: flows are then spread at random.
    let _ = namespace.sysctls(&[("ipv4/fib_multipath_hash_seed", HASH_SEED)]);
    if matches!(node, Node::Server | Node::Vm) {
        // Only group 0 exists in an unprivileged user namespace.
        namespace
            .sysctls(&[("ipv4/ping_group_range", "0 2147483647")])
            .or_else(|_| namespace.sysctls(&[("ipv4/ping_group_range", "0 0")]))?;
    }

    let mut lines = "link set lo up\n".to_owned();
    if node.is_bridge() {
        let _ = writeln!(
            lines,
            "link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
             link set {BRIDGE} up"
        );
    }
    let interfaces = interfaces(node);
    for (interface, address) in &interfaces {
        if let Some(address) = address {
            let _ = writeln!(lines, "address add {address} dev {interface}");
        }
        if node.is_bridge() {
            let _ = writeln!(lines, "link set {interface} master {BRIDGE}");
        }
        let _ = writeln!(lines, "link set {interface} up");
    }
    match node {
        // The host itself runs no routing protocol.
        Node::Server => lines.push_str("route add default via 10.1.11.1\n"),
        Node::Fw => {
            let _ = writeln!(lines, "address add {}/32 dev lo", crate::topology::FW_BGP);
        }
        _ => {}
    }
    namespace.ip(&lines)?;
    for (interface, _) in &interfaces {
        // The article has IPv4 only; neighbour discovery would be noise.
        namespace.sysctls(&[(&format!("ipv6/conf/{interface}/disable_ipv6"), "1")])?;
        // A wire must see whole frames with finished checksums.
        let mut ethtool = Command::new("ethtool");
        ethtool.args([
            "-K", interface, "tx", "off", "gso", "off", "tso", "off", "gro", "off",
        ]);
        namespace.run(&mut ethtool)?;
    }
    if node.is_silent() {
        let mut nft = Command::new("nft");
        nft.arg(
            "add table ip lab; \
             add chain ip lab output { type filter hook output priority 0; }; \
             add rule ip lab output icmp type { time-exceeded, destination-unreachable } drop",
        );
        namespace.run(&mut nft)?;
    }
    Ok(())
}
