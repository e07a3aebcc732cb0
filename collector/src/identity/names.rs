//! Names and addresses by which agents may reach this collector.

use nix::sys::socket::SockaddrStorage;
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

/// The addresses of this host could not be read, for example without a free descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the addresses of this host: {source}")]
pub struct AddressesUnknown {
    /// The names known without the addresses.
    pub known: Vec<ServerNameText>,
    /// Why.
    pub source: nix::Error,
}

/// Returns the names of the plan, this host's name, and all its present addresses.
///
/// # Errors
/// When the addresses cannot be read; the error holds the other names.
pub fn server_names(planned: &[ServerNameText]) -> Result<Vec<ServerNameText>, AddressesUnknown> {
    let interfaces = nix::ifaddrs::getifaddrs().map(|found| found.map(|i| i.address));
    let addresses = interfaces.map(|found| found.flatten().filter_map(|a| ip_of(&a)).collect());
    all_names(planned, addresses)
}

fn all_names(
    planned: &[ServerNameText],
    addresses: Result<Vec<IpAddr>, nix::Error>,
) -> Result<Vec<ServerNameText>, AddressesUnknown> {
    let mut names: BTreeSet<ServerNameText> = planned.iter().cloned().collect();
    let mut add = |text: String| {
        // Leaves out a host name that is no DNS name: nobody can use it.
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
    let unknown = match addresses {
        Ok(addresses) => {
            addresses.iter().for_each(|a| add(a.to_string()));
            None
        }
        Err(source) => Some(source),
    };
    let names = names.into_iter().collect();
    match unknown {
        None => Ok(names),
        Some(source) => Err(AddressesUnknown {
            known: names,
            source,
        }),
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::{AddressesUnknown, all_names};
    use nix::Error;

    #[test]
    fn names_are_never_taken_for_all_where_the_addresses_are_not_known() {
        let planned = ["collector.example".parse().unwrap()];
        let address = "10.1.11.10".parse().unwrap();
        let all = all_names(&planned, Ok(vec![address])).unwrap();
        assert!(all.iter().any(|n| n.to_string() == "10.1.11.10"), "{all:?}");
        let AddressesUnknown { known, source } =
            all_names(&planned, Err(Error::EMFILE)).unwrap_err();
        assert_eq!(source, Error::EMFILE);
        assert!(known.iter().any(|n| n.to_string() == "collector.example"));
        assert!(!known.iter().any(|n| n.to_string() == "10.1.11.10"));
    }
}
