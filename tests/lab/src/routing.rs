//! Which way the routes point at the moment.

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::topology::Node;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::Command;

/// A way between the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// The primary ExpressRoute circuit.
    Circuit1,
    /// The secondary one.
    Circuit2,
    /// The tunnel to the VPN gateway's first instance.
    Vpn1,
    /// The tunnel to its second instance.
    Vpn2,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Circuit1 => "circuit 1",
            Self::Circuit2 => "circuit 2",
            Self::Vpn1 => "VPN 1",
            Self::Vpn2 => "VPN 2",
        })
    }
}

/// The ways in use in each direction; a flow takes one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// By the firewall's table.
    pub to_azure: BTreeSet<Way>,
    /// By the VM's and the ExpressRoute gateway's tables.
    pub to_onprem: BTreeSet<Way>,
}

const CIRCUITS: [Way; 2] = [Way::Circuit1, Way::Circuit2];
const VPN: [Way; 2] = [Way::Vpn1, Way::Vpn2];

impl Routing {
    /// Both circuits in both directions.
    pub fn is_steady(&self) -> bool {
        self.is(&CIRCUITS)
    }

    /// The VPN alone, in both directions.
    pub fn is_vpn(&self) -> bool {
        self.is(&VPN)
    }

    /// Exactly these ways in both directions.
    pub fn is(&self, ways: &[Way]) -> bool {
        let ways: BTreeSet<Way> = ways.iter().copied().collect();
        self.to_azure == ways && self.to_onprem == ways
    }

    /// Asks the kernel of each node.
    pub(crate) fn read(namespaces: &BTreeMap<Node, Namespace>) -> Result<Self, LabError> {
        let hops = |node: Node, prefix: &str| match namespaces.get(&node) {
            Some(namespace) => next_hops(namespace, prefix),
            None => Ok(Vec::new()),
        };
        let to_azure = hops(Node::Fw, "10.17.11.128/26")?
            .iter()
            .filter_map(|gateway| way(gateway))
            .collect();
        let mut to_onprem = BTreeSet::new();
        for gateway in hops(Node::Vm, "10.1.11.0/25")? {
            if gateway == "10.17.11.69" {
                let circuits = hops(Node::ErGw, "10.1.11.0/25")?;
                to_onprem.extend(circuits.iter().filter_map(|gateway| way(gateway)));
            } else {
                to_onprem.extend(way(&gateway));
            }
        }
        Ok(Self {
            to_azure,
            to_onprem,
        })
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ways: &BTreeSet<Way>| match ways.len() {
            0 => "no route".to_owned(),
            _ if ways.iter().copied().eq(CIRCUITS) => "ExpressRoute".to_owned(),
            _ if ways.iter().copied().eq(VPN) => "VPN".to_owned(),
            _ => ways
                .iter()
                .map(Way::to_string)
                .collect::<Vec<_>>()
                .join(" + "),
        };
        write!(
            f,
            "to Azure: {}, to on-premises: {}",
            list(&self.to_azure),
            list(&self.to_onprem)
        )
    }
}

/// By the next hop's address, or by the interface where that is point to point.
fn way(hop: &str) -> Option<Way> {
    Some(match hop {
        "192.168.11.0" | "169.254.11.0" => Way::Circuit1,
        "192.168.11.2" | "169.254.11.2" => Way::Circuit2,
        "10.17.11.76" | "ipsec0" => Way::Vpn1,
        "10.17.11.77" | "ipsec1" => Way::Vpn2,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Route {
    #[serde(flatten)]
    only: NextHop,
    #[serde(default)]
    nexthops: Vec<NextHop>,
}

#[derive(Deserialize)]
struct NextHop {
    gateway: Option<String>,
    dev: Option<String>,
}

fn next_hops(namespace: &Namespace, prefix: &str) -> Result<Vec<String>, LabError> {
    let mut command = Command::new("ip");
    command.args(["-4", "-j", "route", "show", "exact", prefix]);
    Ok(parse(&namespace.run(&mut command)?))
}

/// The address of each next hop, or its interface where it has none.
fn parse(json: &str) -> Vec<String> {
    // `ip` prints nothing at all, or `[ ]`, where it has no route.
    let routes: Vec<Route> = serde_json::from_str(json.trim()).unwrap_or_default();
    routes
        .into_iter()
        .flat_map(|route| std::iter::once(route.only).chain(route.nexthops))
        .filter_map(|hop| hop.gateway.or(hop.dev))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn one_several_and_no_next_hop() {
        let one = r#"[{"dst":"10.1.11.0/25","gateway":"10.17.11.69","dev":"eth0","protocol":"bird","metric":32,"flags":[]}]"#;
        assert_eq!(parse(one), ["10.17.11.69"]);
        let two = r#"[{"dst":"10.17.11.128/26","protocol":"bird","metric":32,"flags":[],"nexthops":[{"gateway":"192.168.11.0","dev":"ce1","weight":1,"flags":[]},{"gateway":"192.168.11.2","dev":"ce2","weight":1,"flags":[]}]}]"#;
        assert_eq!(parse(two), ["192.168.11.0", "192.168.11.2"]);
        let direct = r#"[{"dst":"10.17.11.128/26","protocol":"bird","scope":"link","metric":32,"flags":[],"nexthops":[{"dev":"ipsec0","weight":1,"flags":[]},{"dev":"ipsec1","weight":1,"flags":[]}]}]"#;
        assert_eq!(parse(direct), ["ipsec0", "ipsec1"]);
        assert!(parse("[ ]").is_empty());
        assert!(parse("").is_empty());
    }
}
