//! The routing daemons: BIRD with BGP and BFD, as the article configures its routers.

use crate::error::LabError;
use crate::namespace;
use crate::topology::{FW_BGP, Node, VPN_GATEWAYS};
use crate::tunnel::{TUNNELS, Tunnel};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What both gateways announce: the hub and the spoke.
const AZURE: &str = "10.17.11.0/25, 10.17.11.128/26";
const ONPREM: &str = "10.1.11.0/25";
/// Try again soon: a lab has no time for the two minutes of the default.
const TIMERS: &str = "connect delay time 1; connect retry time 2; error wait time 1, 4; \
                      error forget time 10;";

/// The MSEE's is 180 s; a lab has no time for that either. Three keepalives, as there.
const HOLD: &str = "hold time 9; keepalive time 3;";

/// The name of the protocol on an MSEE that speaks to its CE: the peering.
pub(crate) const PEERING: &str = "peering";

/// Where the daemon of `node` listens for birdc.
pub(crate) fn socket(node: Node) -> PathBuf {
    PathBuf::from(format!("/run/bird/{node}.ctl"))
}

/// The configuration of the daemon of `node`, if it has one; it logs to `log`.
pub(crate) fn config(node: Node, tunnel: Tunnel, bfd: bool, log: &Path) -> Option<String> {
    let [first, second] = TUNNELS.map(|spec| tunnel.interfaces(spec));
    let (id, body) = match node {
        Node::Fw => ("192.168.11.88", fw([first.0, second.0])),
        Node::Ce1 => (
            "192.168.11.0",
            ce(
                "192.168.11.0",
                "192.168.11.1",
                "192.168.11.17",
                "192.168.11.18",
                bfd,
            ),
        ),
        Node::Ce2 => (
            "192.168.11.2",
            ce(
                "192.168.11.2",
                "192.168.11.3",
                "192.168.11.21",
                "192.168.11.22",
                bfd,
            ),
        ),
        Node::Msee1 => (
            "192.168.11.18",
            msee(
                "192.168.11.18",
                "192.168.11.17",
                "169.254.11.0",
                "169.254.11.1",
                bfd,
            ),
        ),
        Node::Msee2 => (
            "192.168.11.22",
            msee(
                "192.168.11.22",
                "192.168.11.21",
                "169.254.11.2",
                "169.254.11.3",
                bfd,
            ),
        ),
        Node::ErGw => ("10.17.11.69", ergw()),
        Node::VpnGw1 => ("10.17.11.76", vpngw("10.17.11.76", first.1)),
        Node::VpnGw2 => ("10.17.11.77", vpngw("10.17.11.77", second.1)),
        Node::Vm => ("10.17.11.132", vm()),
        Node::Server | Node::Azure | Node::Internet | Node::Wires => return None,
    };
    Some(format!(
        r#"router id {id};
log "{log}" all;
timeformat log iso long us;
timeformat protocol iso long us;
debug protocols {{ states, events }};
protocol device {{ scan time 10; }}
protocol kernel {{ merge paths on; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
{body}"#,
        log = log.display(),
    ))
}

/// The article's firewall: ExpressRoute with the CEs' local preference of 150, the
/// VPN with the default of 100, static /32 routes to the gateway's two instances.
fn fw(tunnels: [&str; 2]) -> String {
    let mut text = format!(
        "protocol direct {{ ipv4; interface \"lan\"; }}
protocol static tunnels {{ ipv4; route {}/32 via \"{}\"; route {}/32 via \"{}\"; }}\n",
        VPN_GATEWAYS[0], tunnels[0], VPN_GATEWAYS[1], tunnels[1],
    );
    for (name, local, neighbor) in [
        ("ce1", "192.168.11.1", "192.168.11.0"),
        ("ce2", "192.168.11.3", "192.168.11.2"),
    ] {
        text += &format!(
            "protocol bgp {name} {{
  local {local} as 65020; neighbor {neighbor} as 65020; direct; {TIMERS}
  ipv4 {{ import all; gateway direct; next hop self; export where net = {ONPREM}; }};
}}\n"
        );
    }
    for (name, gateway) in [("vpn1", VPN_GATEWAYS[0]), ("vpn2", VPN_GATEWAYS[1])] {
        text += &format!(
            "protocol bgp {name} {{
  local {FW_BGP} as 65020; neighbor {gateway} as 65515; multihop 2; {HOLD} {TIMERS}
  ipv4 {{ import where net ~ [ {AZURE} ]; next hop self; export where net = {ONPREM}; }};
}}\n"
        );
    }
    text
}

fn ce(local: &str, fw: &str, er: &str, msee: &str, bfd: bool) -> String {
    let (watcher, watch) = watched(bfd);
    format!(
        "{watcher}
protocol bgp fw {{
  local {local} as 65020; neighbor {fw} as 65020; direct; {TIMERS}
  ipv4 {{
    import all; gateway direct; next hop self;
    export filter {{ if net ~ [ {AZURE} ] then {{ bgp_local_pref = 150; accept; }} reject; }};
  }};
}}
protocol bgp {PEERING} {{
  local {er} as 65020; neighbor {msee} as 12076; {watch} {TIMERS}
  ipv4 {{ import where net ~ [ {AZURE} ]; next hop self; export where net = {ONPREM}; }};
}}
"
    )
}

/// The article's `bfd-liveness-detection`.
const BFD: &str = "protocol bfd {
  interface \"er\" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; };
}";

/// What watches a peering: the daemon's BFD and the peering's use of it, or the hold timer
/// alone.
fn watched(bfd: bool) -> (&'static str, &'static str) {
    if bfd { (BFD, "bfd on;") } else { ("", HOLD) }
}

fn msee(er: &str, ce: &str, local: &str, gateway: &str, bfd: bool) -> String {
    let (watcher, watch) = watched(bfd);
    format!(
        "{watcher}
protocol bgp {PEERING} {{
  local {er} as 12076; neighbor {ce} as 65020; {watch} {TIMERS}
  ipv4 {{
    import where net = {ONPREM}; next hop self;
    # The article's routes have the path `12076 I`: private numbers are removed.
    export filter {{
      if net ~ [ {AZURE} ] then {{ bgp_path.delete([64512..65534]); accept; }} reject;
    }};
  }};
}}
protocol bgp ergw {{
  local {local} as 12076; neighbor {gateway} as 65515; {TIMERS}
  ipv4 {{ import where net ~ [ {AZURE} ]; next hop self; export where net = {ONPREM}; }};
}}
"
    )
}

/// What a gateway announces, and its session with the VM.
fn virtual_network(local: &str) -> String {
    format!(
        "protocol static vnet {{ ipv4; route 10.17.11.0/25 via \"vnet\"; route 10.17.11.128/26 via \"vnet\"; }}
protocol bgp vm {{
  local {local} as 65515; neighbor 10.17.11.132 as 65515; direct; {TIMERS}
  ipv4 {{ import none; next hop self; export where net = {ONPREM}; }};
}}
"
    )
}

fn ergw() -> String {
    let mut text = virtual_network("10.17.11.69");
    for (name, local, neighbor) in [
        ("msee1", "169.254.11.1", "169.254.11.0"),
        ("msee2", "169.254.11.3", "169.254.11.2"),
    ] {
        text += &format!(
            "protocol bgp {name} {{
  local {local} as 65515; neighbor {neighbor} as 12076; {TIMERS}
  ipv4 {{ import where net = {ONPREM}; next hop self; export where net ~ [ {AZURE} ]; }};
}}\n"
        );
    }
    text
}

fn vpngw(local: &str, tunnel: &str) -> String {
    format!(
        "{}protocol static tunnel {{ ipv4; route {FW_BGP}/32 via \"{tunnel}\"; }}
protocol bgp fw {{
  local {local} as 65515; neighbor {FW_BGP} as 65020; multihop 2; {HOLD} {TIMERS}
  ipv4 {{ import where net = {ONPREM}; next hop self; export where net ~ [ {AZURE} ]; }};
}}
",
        virtual_network(local)
    )
}

/// Azure prefers ExpressRoute where both have a route.
fn vm() -> String {
    let mut text = String::new();
    for (name, gateway, preference) in [
        ("ergw", "10.17.11.69", 150),
        ("vpngw1", "10.17.11.76", 100),
        ("vpngw2", "10.17.11.77", 100),
    ] {
        text += &format!(
            "protocol bgp {name} {{
  local 10.17.11.132 as 65515; neighbor {gateway} as 65515; direct; {TIMERS}
  ipv4 {{
    gateway direct; export none;
    import filter {{ bgp_local_pref = {preference}; accept; }};
  }};
}}\n"
        );
    }
    text
}

/// Gives the daemon of `node` a command, and returns its answer.
pub(crate) fn control(node: Node, words: &[&str]) -> Result<String, LabError> {
    let mut command = Command::new("birdc");
    command.arg("-s").arg(socket(node)).args(words);
    let output = namespace::output(&mut command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Command {
        at: node.to_string(),
        command: format!("birdc {}", words.join(" ")),
        output: format!(
            "{} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    })
}

/// The names of the daemon's BGP sessions that are established.
pub(crate) fn established(node: Node) -> Result<Vec<String>, LabError> {
    Ok(control(node, &["show", "protocols"])?
        .lines()
        .filter(|line| line.contains(" BGP ") && line.contains("Established"))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect())
}
