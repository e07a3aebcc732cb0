//! The site-to-site tunnels from the firewall to the VPN gateway's two instances.

mod ipsec;

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::topology::{FW_BGP, Node, PUBLIC, VPN_GATEWAYS};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Child;

/// What the tunnels are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tunnel {
    /// The kernel's VXLAN: no encryption, an MTU of 1450
    #[default]
    Vxlan,
    /// strongSwan: IKEv2, and ESP in UDP in user space
    Ipsec,
}

impl Tunnel {
    /// The largest IP packet that fits into the tunnel, in bytes.
    pub fn mtu(self) -> u16 {
        match self {
            // Ethernet's 1500 less 50: the kernel would use more and fragment outside.
            Self::Vxlan => 1450,
            // That of kernel-libipsec's TUN device.
            Self::Ipsec => 1400,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Ipsec => "ipsec",
        })
    }
}

/// One of the two tunnels. The interface at the firewall has the article's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) interface: &'static str,
    pub(crate) gateway: Node,
    pub(crate) id: u32,
    /// 0 or 1.
    pub(crate) index: usize,
}

pub(crate) const TUNNELS: [Spec; 2] = [
    Spec {
        interface: "st0.118",
        gateway: Node::VpnGw1,
        id: 118,
        index: 0,
    },
    Spec {
        interface: "st0.119",
        gateway: Node::VpnGw2,
        id: 119,
        index: 1,
    },
];

/// The tunnel's interface at a VPN gateway.
pub(crate) const AT_GATEWAY: &str = "tunnel";

impl Tunnel {
    /// The names of the tunnel's interface at the firewall and at the gateway.
    pub(crate) fn interfaces(self, spec: Spec) -> (&'static str, &'static str) {
        match self {
            Self::Vxlan => (spec.interface, AT_GATEWAY),
            // The plugin knows its interfaces by these names only.
            Self::Ipsec => (ipsec::INTERFACES[spec.index], ipsec::INTERFACES[0]),
        }
    }

    /// Makes both tunnels and the routes to their BGP peers. Returns the daemons.
    pub(crate) fn start(
        self,
        namespaces: &BTreeMap<Node, Namespace>,
        out: &Path,
    ) -> Result<Vec<Child>, LabError> {
        let mut daemons = Vec::new();
        for spec in TUNNELS {
            let (Some(fw), Some(gateway)) =
                (namespaces.get(&Node::Fw), namespaces.get(&spec.gateway))
            else {
                continue;
            };
            match self {
                Self::Vxlan => {
                    let [a, b] = [PUBLIC[0], PUBLIC[spec.index + 1]];
                    for (end, name, local, remote) in
                        [(fw, spec.interface, a, b), (gateway, AT_GATEWAY, b, a)]
                    {
                        end.ip(&format!(
                            "link add {name} mtu {} type vxlan id {} local {local} \
                             remote {remote} dstport 4789\n",
                            self.mtu(),
                            spec.id
                        ))?;
                    }
                }
                Self::Ipsec => daemons.extend(ipsec::start(spec, fw, gateway, out)?),
            }
            let (at_fw, at_gateway) = self.interfaces(spec);
            let peer = VPN_GATEWAYS[spec.index];
            fw.ip(&format!(
                "link set {at_fw} up\nroute add {peer}/32 dev {at_fw} src {FW_BGP} proto static\n"
            ))?;
            gateway.ip(&format!(
                "link set {at_gateway} up\nroute add {FW_BGP}/32 dev {at_gateway} src {peer} \
                 proto static\n"
            ))?;
        }
        Ok(daemons)
    }
}
