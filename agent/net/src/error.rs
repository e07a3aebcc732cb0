//! Why a socket could not be opened, and what to do about it.

use std::io;
use std::net::SocketAddr;

/// Why a socket could not be opened. Each message is one sentence: what, where,
/// and what to do.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// `CAP_NET_RAW` is missing.
    #[error(
        "{what} needs the capability CAP_NET_RAW: run \
         `sudo setcap cap_net_raw+p $(command -v hopgap-agent)`, or start as root"
    )]
    NeedsNetRaw {
        /// What was to be opened.
        what: &'static str,
    },
    /// No such interface in the current network namespace.
    #[error("no network interface is named {interface}: `ip -brief link` lists those that exist")]
    NoInterface {
        /// The name that was asked for.
        interface: String,
    },
    /// Another socket has the address and port.
    #[error(
        "UDP {addr} is already in use: choose another port, \
         or find its owner with `ss -lunp 'sport = :{}'`",
        addr.port()
    )]
    PortInUse {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// A port below `net.ipv4.ip_unprivileged_port_start`.
    #[error(
        "UDP {addr} is a privileged port: run \
         `sudo setcap cap_net_raw,cap_net_bind_service+p $(command -v hopgap-agent)` or \
         `sudo sysctl net.ipv4.ip_unprivileged_port_start={}`, or choose a port from 1024 up",
        addr.port()
    )]
    PrivilegedPort {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The address belongs to no interface of this host.
    #[error(
        "{} is not an address of this host: `ip -brief address` lists those that are",
        addr.ip()
    )]
    AddressNotHere {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The kernel lacks the address family.
    #[error(
        "this kernel has no {family}: use addresses of the other family, \
         or enable {family} and start again"
    )]
    NoFamily {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A socket option was refused.
    #[error("the kernel refused the socket option {option} on {what}: {source}")]
    Option {
        /// The socket.
        what: String,
        /// The option's name in the kernel's documentation.
        option: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot open {what}: {source}")]
    Open {
        /// The socket.
        what: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl NetError {
    /// Why binding UDP `addr` failed.
    pub(crate) fn bind(addr: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::PortInUse { addr },
            Some(libc::EACCES | libc::EPERM) => Self::PrivilegedPort { addr },
            Some(libc::EADDRNOTAVAIL) => Self::AddressNotHere { addr },
            _ => Self::Open {
                what: format!("UDP {addr}"),
                source,
            },
        }
    }

    /// Why opening the raw socket `what` failed.
    pub(crate) fn raw(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NeedsNetRaw { what },
            Some(libc::EAFNOSUPPORT) => Self::NoFamily {
                family: if what.contains("v6") { "IPv6" } else { "IPv4" },
            },
            _ => Self::Open {
                what: what.to_owned(),
                source,
            },
        }
    }
}
