//! The article's topology: nodes, addresses, links, and the wires in them.
//!
//! ```text
//! server ~onprem~ fw ── ce1 ~er1~ msee1 ── ergw ─┐
//!                  ├─── ce2 ~er2~ msee2 ──┘      azure ~vnet~ vm
//!                  └~internet~ internet ─ vpngw1 ┤ (bridge)
//!                              (bridge) └ vpngw2 ┘
//! ```
//!
//! `~name~` is a [wire](crate::wire), which delays, drops and logs. Addresses that
//! the article does not give are 169.254.11.0/30 inside Microsoft's network and
//! 203.0.113.0/24 for the internet.

use hopgap_proto::time::Span;
use std::fmt;
use std::net::Ipv4Addr;

/// The on-premises test server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 11, 10);
/// The test VM in the spoke.
pub const VM: Ipv4Addr = Ipv4Addr::new(10, 17, 11, 132);
/// The primary MSEE's end of circuit 1.
pub const MSEE1: Ipv4Addr = Ipv4Addr::new(192, 168, 11, 18);
/// The secondary MSEE's end of circuit 2.
pub const MSEE2: Ipv4Addr = Ipv4Addr::new(192, 168, 11, 22);
/// The firewall's address for BGP over the tunnels.
pub const FW_BGP: Ipv4Addr = Ipv4Addr::new(192, 168, 11, 88);
/// The VPN gateway's two instances.
pub const VPN_GATEWAYS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 17, 11, 76), Ipv4Addr::new(10, 17, 11, 77)];
/// The ExpressRoute gateway.
pub const ER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 17, 11, 69);
/// The firewall's public address, then those of the VPN gateway's instances.
pub const PUBLIC: [Ipv4Addr; 3] = [
    Ipv4Addr::new(203, 0, 113, 88),
    Ipv4Addr::new(203, 0, 113, 76),
    Ipv4Addr::new(203, 0, 113, 77),
];

/// One way of each ExpressRoute circuit.
const CIRCUIT_DELAY: Span = Span::from_micros(2_400);
/// One way through the internet.
const INTERNET_DELAY: Span = Span::from_micros(3_900);

/// A network namespace of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Node {
    /// The on-premises test server.
    Server,
    /// The on-premises firewall, AS 65020.
    Fw,
    /// The primary customer edge router, AS 65020.
    Ce1,
    /// The secondary customer edge router.
    Ce2,
    /// The primary Microsoft Enterprise Edge router, AS 12076.
    Msee1,
    /// The secondary one.
    Msee2,
    /// The ExpressRoute gateway, AS 65515.
    ErGw,
    /// The VPN gateway's first instance, AS 65515.
    VpnGw1,
    /// Its second instance.
    VpnGw2,
    /// The test VM in the spoke virtual network.
    Vm,
    /// The virtual network: a bridge.
    Azure,
    /// What the tunnels run over: a bridge.
    Internet,
    /// Both ends of every wire.
    Wires,
}

impl Node {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Server,
        Self::Fw,
        Self::Ce1,
        Self::Ce2,
        Self::Msee1,
        Self::Msee2,
        Self::ErGw,
        Self::VpnGw1,
        Self::VpnGw2,
        Self::Vm,
        Self::Azure,
        Self::Internet,
        Self::Wires,
    ];

    /// Its name, also of the network namespace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Fw => "fw",
            Self::Ce1 => "ce1",
            Self::Ce2 => "ce2",
            Self::Msee1 => "msee1",
            Self::Msee2 => "msee2",
            Self::ErGw => "ergw",
            Self::VpnGw1 => "vpngw1",
            Self::VpnGw2 => "vpngw2",
            Self::Vm => "vm",
            Self::Azure => "azure",
            Self::Internet => "internet",
            Self::Wires => "wires",
        }
    }

    /// Whether it forwards packets.
    pub(crate) fn is_router(self) -> bool {
        !matches!(
            self,
            Self::Server | Self::Vm | Self::Azure | Self::Internet | Self::Wires
        )
    }

    /// Whether it is a bridge.
    pub(crate) fn is_bridge(self) -> bool {
        matches!(self, Self::Azure | Self::Internet)
    }

    /// Whether it answers no traceroute, as the article's gateways.
    pub(crate) fn is_silent(self) -> bool {
        matches!(self, Self::ErGw | Self::VpnGw1 | Self::VpnGw2)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) node: Node,
    pub(crate) interface: &'static str,
    /// With its prefix length.
    pub(crate) address: Option<&'static str>,
}

/// A wire's place and delay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireSpec {
    pub(crate) name: &'static str,
    /// Its interface towards the on-premises side.
    pub(crate) onprem: &'static str,
    /// Its interface towards the Azure side.
    pub(crate) azure: &'static str,
    /// One way.
    pub(crate) delay: Span,
}

/// A link between two nodes; `a` is the end nearer to the on-premises server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) a: End,
    pub(crate) b: End,
    pub(crate) wire: Option<WireSpec>,
}

const fn end(node: Node, interface: &'static str, address: &'static str) -> End {
    End {
        node,
        interface,
        address: Some(address),
    }
}

const fn port(node: Node, interface: &'static str) -> End {
    End {
        node,
        interface,
        address: None,
    }
}

const fn plain(a: End, b: End) -> Link {
    Link { a, b, wire: None }
}

macro_rules! wired {
    ($name:literal, $delay:expr, $a:expr, $b:expr) => {
        Link {
            a: $a,
            b: $b,
            wire: Some(WireSpec {
                name: $name,
                onprem: concat!($name, ".a"),
                azure: concat!($name, ".b"),
                delay: $delay,
            }),
        }
    };
}

/// Every link of the lab.
pub(crate) const LINKS: [Link; 14] = [
    wired!(
        "onprem",
        Span::ZERO,
        end(Node::Server, "eth0", "10.1.11.10/25"),
        end(Node::Fw, "lan", "10.1.11.1/25")
    ),
    plain(
        end(Node::Fw, "ce1", "192.168.11.1/31"),
        end(Node::Ce1, "fw", "192.168.11.0/31"),
    ),
    plain(
        end(Node::Fw, "ce2", "192.168.11.3/31"),
        end(Node::Ce2, "fw", "192.168.11.2/31"),
    ),
    wired!(
        "er1",
        CIRCUIT_DELAY,
        end(Node::Ce1, "er", "192.168.11.17/30"),
        end(Node::Msee1, "er", "192.168.11.18/30")
    ),
    wired!(
        "er2",
        CIRCUIT_DELAY,
        end(Node::Ce2, "er", "192.168.11.21/30"),
        end(Node::Msee2, "er", "192.168.11.22/30")
    ),
    plain(
        end(Node::Msee1, "gw", "169.254.11.0/31"),
        end(Node::ErGw, "msee1", "169.254.11.1/31"),
    ),
    plain(
        end(Node::Msee2, "gw", "169.254.11.2/31"),
        end(Node::ErGw, "msee2", "169.254.11.3/31"),
    ),
    wired!(
        "internet",
        INTERNET_DELAY,
        end(Node::Fw, "wan", "203.0.113.88/24"),
        port(Node::Internet, "fw")
    ),
    plain(
        port(Node::Internet, "vpngw1"),
        end(Node::VpnGw1, "wan", "203.0.113.76/24"),
    ),
    plain(
        port(Node::Internet, "vpngw2"),
        end(Node::VpnGw2, "wan", "203.0.113.77/24"),
    ),
    plain(
        end(Node::ErGw, "vnet", "10.17.11.69/24"),
        port(Node::Azure, "ergw"),
    ),
    plain(
        end(Node::VpnGw1, "vnet", "10.17.11.76/24"),
        port(Node::Azure, "vpngw1"),
    ),
    plain(
        end(Node::VpnGw2, "vnet", "10.17.11.77/24"),
        port(Node::Azure, "vpngw2"),
    ),
    wired!(
        "vnet",
        Span::ZERO,
        port(Node::Azure, "vm"),
        end(Node::Vm, "eth0", "10.17.11.132/24")
    ),
];

/// All wires.
pub(crate) fn wires() -> impl Iterator<Item = WireSpec> {
    LINKS.into_iter().filter_map(|link| link.wire)
}
