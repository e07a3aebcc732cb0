//! Resolves a host given on the command line: name or address, with or without a port.

use crate::cli::FamilyArgs;
use crate::output;
use crate::reach::{self, Counts};
use hopgap_net::{NetError, interface};
use hopgap_proto::stamp::SessionKeys;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _, UdpSocket,
};

/// STAMP's port (RFC 8762 section 4.1).
const STAMP_PORT: u16 = 862;

/// Why a host cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The name has no address.
    #[error(
        "cannot find the host `{host}`: {source}; give its name or address, with :PORT unless it is 862"
    )]
    Unknown {
        /// As it was written.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The host has no address of the source address's family.
    #[error(
        "the host `{host}` has no address of the family of {source_address}; leave out --source or give one of the other family"
    )]
    Family {
        /// As it was written.
        host: String,
        /// The source address.
        source_address: IpAddr,
    },
    /// The host has no address of the family that `-4` or `-6` asks for.
    #[error("the host `{host}` has no {family} address; leave out {option}")]
    Excluded {
        /// As it was written.
        host: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The option.
        option: &'static str,
    },
    /// A link-local address without its interface.
    #[error(
        "`{host}` is a link-local address, of which every interface may have one: write the interface, too, such as {address}%eth0 (`ip -brief link` lists them)"
    )]
    NoZone {
        /// As it was written.
        host: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// An interface is given for an address that is not link-local.
    #[error(
        "`{host}` names an interface, which only a link-local address needs (fe80::/10); leave out the `%` and what follows it"
    )]
    ZoneForNothing {
        /// As it was written.
        host: String,
    },
    /// The interface does not exist.
    #[error(transparent)]
    Interface(NetError),
    /// The source is link-local, and the host is not.
    #[error(
        "the source address {source_address} is link-local and reaches only link-local addresses, not {destination}; leave out --source"
    )]
    SourceZone {
        /// The source address.
        source_address: IpAddr,
        /// Where to.
        destination: SocketAddr,
    },
    /// There is no route to it.
    #[error("no route to {destination}: {source}; `ip route get {}` shows what the kernel knows", destination.ip())]
    NoRoute {
        /// Where to.
        destination: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What the command line says about a host and how to reach it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Name or address, with or without a port.
    pub host: &'a str,
    /// Address to send from; an unspecified address selects only its family.
    pub source: Option<IpAddr>,
    /// `-4` and `-6`.
    pub family: FamilyArgs,
}

/// Where to send, and from which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The source address of the packets.
    pub source: IpAddr,
    /// The reflector.
    pub destination: SocketAddr,
}

/// Returns the source and the destination. If the host has several addresses, probes them and
/// prints which one it chose, unless `quiet`.
///
/// # Errors
/// When the host has no usable address, or none can be reached.
pub fn find(
    wanted: Wanted<'_>,
    keys: Option<&SessionKeys>,
    counts: Counts,
    quiet: bool,
) -> Result<Ends, DestinationError> {
    let (first, all) = resolve(wanted)?;
    let source = wanted
        .source
        .map(|s| s.to_canonical())
        .filter(|s| !s.is_unspecified());
    let choice = reach::choose(first, &all, source, keys, counts);
    if let Some(told) = reach::told(wanted.host, &choice).filter(|_| !quiet) {
        output::note(&told);
    }
    let destination = choice.destination;
    let source = match source {
        Some(source) => source,
        None => source_towards(destination)?,
    };
    let link_local = |ip| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if link_local(source) && !link_local(destination.ip()) {
        return Err(DestinationError::SourceZone {
            source_address: source,
            destination,
        });
    }
    Ok(Ends {
        source,
        destination,
    })
}

/// Returns the first usable address and all of them, in the resolver's order.
fn resolve(wanted: Wanted<'_>) -> Result<(SocketAddr, Vec<SocketAddr>), DestinationError> {
    let Wanted {
        host,
        source,
        family,
    } = wanted;
    let unknown = |source| DestinationError::Unknown {
        host: host.to_owned(),
        source,
    };
    let mut addresses: Vec<SocketAddr> = match literal(host)? {
        Some(address) => vec![address],
        None => named(host).to_socket_addrs().map_err(unknown)?.collect(),
    };
    for address in &mut addresses {
        // `::ffff:10.0.0.1` is 10.0.0.1.
        if let IpAddr::V4(v4) = address.ip().to_canonical() {
            *address = SocketAddr::new(v4.into(), address.port());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|a| seen.insert(*a));
    if addresses.is_empty() {
        return Err(unknown(std::io::ErrorKind::NotFound.into()));
    }
    addresses.retain(|a| family.allows(a.ip()));
    if addresses.is_empty() {
        let (family, option) = match family.v4 {
            true => ("IPv4", "-4"),
            false => ("IPv6", "-6"),
        };
        return Err(DestinationError::Excluded {
            host: host.to_owned(),
            family,
            option,
        });
    }
    if let Some(source_address) = source.map(|s| s.to_canonical()) {
        addresses.retain(|a| a.is_ipv4() == source_address.is_ipv4());
        if addresses.is_empty() {
            return Err(DestinationError::Family {
                host: host.to_owned(),
                source_address,
            });
        }
    }
    match addresses.first() {
        Some(first) => Ok((*first, addresses)),
        None => Err(unknown(std::io::ErrorKind::NotFound.into())),
    }
}

/// Splits a name from its port.
fn named(host: &str) -> (&str, u16) {
    match host.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (name, port),
            Err(_) => (host, STAMP_PORT),
        },
        None => (host, STAMP_PORT),
    }
}

/// Parses `host` as an address, with or without brackets, zone and port; `None` if it is a name.
fn literal(host: &str) -> Result<Option<SocketAddr>, DestinationError> {
    let (inner, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, "")) => (inner, STAMP_PORT),
        Some((inner, rest)) => match rest.strip_prefix(':').map(str::parse) {
            Some(Ok(port)) => (inner, port),
            _ => return Ok(None),
        },
        None => match host.parse::<SocketAddr>() {
            Ok(address) => return Ok(Some(address)),
            Err(_) => (host, STAMP_PORT),
        },
    };
    let (address, zone) = match inner.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (inner, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Ok(None);
    };
    let (v6, link_local) = match address {
        IpAddr::V6(v6) => (v6, v6.is_unicast_link_local()),
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), false),
    };
    let host = host.to_owned();
    match zone {
        None if link_local => Err(DestinationError::NoZone { host, address: v6 }),
        None => Ok(Some(SocketAddr::new(address, port))),
        Some(_) if !link_local => Err(DestinationError::ZoneForNothing { host }),
        Some(zone) => {
            let index = match zone.parse() {
                Ok(index) => index,
                Err(_) => interface::index_of(zone).map_err(DestinationError::Interface)?,
            };
            Ok(Some(SocketAddrV6::new(v6, port, 0, index).into()))
        }
    }
}

/// Returns the address that the kernel would send from. Connects a UDP socket to find out, which
/// sends nothing.
///
/// # Errors
/// When there is no route.
pub fn source_towards(destination: SocketAddr) -> Result<IpAddr, DestinationError> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let ask = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(destination)?;
        socket.local_addr().map(|a| a.ip())
    };
    ask().map_err(|source| DestinationError::NoRoute {
        destination,
        source,
    })
}

#[cfg(test)]
mod tests;
