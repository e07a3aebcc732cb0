//! By which names and addresses agents may reach this collector.

use rcgen::SanType;
use rustls::pki_types::ServerName;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A DNS name or an IP address, checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerNameText(String);

impl FromStr for ServerNameText {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        ServerName::try_from(s)
            .map(|_| Self(s.to_owned()))
            .map_err(|_| {
                format!("`{s}` is no DNS name and no IP address; write one such as \"collector.example\" or \"10.1.11.10\"")
            })
    }
}

impl fmt::Display for ServerNameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ServerNameText {
    pub(super) fn to_san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self.0.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(self.0.as_str().try_into()?),
        })
    }
}

/// The names of the plan, this host's name, and every address that it has now.
pub fn server_names(planned: &[ServerNameText]) -> Vec<ServerNameText> {
    let mut names: BTreeSet<ServerNameText> = planned.iter().cloned().collect();
    let mut add = |text: String| {
        // A host name that is no DNS name nobody can reach it by.
        names.extend(text.parse::<ServerNameText>());
    };
    for here in ["localhost", "127.0.0.1", "::1"] {
        add(here.to_owned());
    }
    if let Ok(host) = nix::unistd::gethostname()
        && let Ok(host) = host.into_string()
    {
        add(host);
    }
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else {
            continue;
        };
        if let Some(v4) = address.as_sockaddr_in() {
            add(v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            add(v6.ip().to_string());
        }
    }
    names.into_iter().collect()
}
