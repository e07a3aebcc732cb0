//! A host on the command line: name or address, with or without a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

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
    /// It has none of the source address's family.
    #[error(
        "the host `{host}` has no address of the family of {source_address}; leave out --source or give one of the other family"
    )]
    Family {
        /// As it was written.
        host: String,
        /// The source address.
        source_address: IpAddr,
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

/// The address that `host` means, of the family of `source` where that is given.
///
/// # Errors
/// When it has none.
pub fn resolve(host: &str, source: Option<IpAddr>) -> Result<SocketAddr, DestinationError> {
    let fits = |a: &SocketAddr| source.is_none_or(|s| s.is_ipv4() == a.is_ipv4());
    let unknown = |source| DestinationError::Unknown {
        host: host.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = if let Ok(address) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(address, STAMP_PORT)]
    } else if let Ok(address) = host.parse::<SocketAddr>() {
        vec![address]
    } else {
        let named = match host.rsplit_once(':') {
            Some((name, port)) => match port.parse::<u16>() {
                Ok(port) => (name, port),
                Err(_) => (host, STAMP_PORT),
            },
            None => (host, STAMP_PORT),
        };
        named.to_socket_addrs().map_err(unknown)?.collect()
    };
    if addresses.is_empty() {
        return Err(unknown(std::io::ErrorKind::NotFound.into()));
    }
    addresses
        .into_iter()
        .find(fits)
        .ok_or_else(|| DestinationError::Family {
            host: host.to_owned(),
            source_address: source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        })
}

/// The address that the kernel would send from. Asked by connecting a socket,
/// which sends nothing.
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
mod tests {
    use super::{resolve, source_towards};

    #[test]
    fn addresses_with_and_without_port() {
        assert_eq!(
            resolve("10.17.11.132", None).unwrap().to_string(),
            "10.17.11.132:862"
        );
        assert_eq!(resolve("10.17.11.132:8620", None).unwrap().port(), 8620);
        assert_eq!(resolve("::1", None).unwrap().to_string(), "[::1]:862");
        assert_eq!(resolve("[::1]:5", None).unwrap().port(), 5);
    }

    #[test]
    fn families_must_agree() {
        let error = resolve("::1", Some("127.0.0.1".parse().unwrap()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no address of the family of 127.0.0.1"),
            "{error}"
        );
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        let source = source_towards("127.0.0.1:862".parse().unwrap()).unwrap();
        assert_eq!(source.to_string(), "127.0.0.1");
    }
}
