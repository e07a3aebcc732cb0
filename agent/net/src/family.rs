//! What differs between IPv4 and IPv6 in socket options and control messages.

use crate::sys::cmsg::{Control, Outgoing};
use crate::sys::name;
use crate::sys::{self, IPV6_AUTOFLOWLABEL};
use socket2::{Domain, Protocol};
use std::ffi::c_int;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<IpAddr> for Family {
    fn from(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An option's name in the documentation, level and number.
pub(crate) type Opt = (&'static str, c_int, c_int);

/// The options of one family that have a twin in the other.
pub(crate) struct Options {
    pub(crate) recv_ttl: Opt,
    pub(crate) recv_tos: Opt,
    pub(crate) recv_addr: Opt,
    pub(crate) recv_err: Opt,
    pub(crate) ttl: Opt,
    pub(crate) tos: Opt,
    pub(crate) mtu_discover: Opt,
}

const V4: Options = Options {
    recv_ttl: ("IP_RECVTTL", libc::SOL_IP, libc::IP_RECVTTL),
    recv_tos: ("IP_RECVTOS", libc::SOL_IP, libc::IP_RECVTOS),
    recv_addr: ("IP_PKTINFO", libc::SOL_IP, libc::IP_PKTINFO),
    recv_err: ("IP_RECVERR", libc::SOL_IP, libc::IP_RECVERR),
    ttl: ("IP_TTL", libc::SOL_IP, libc::IP_TTL),
    tos: ("IP_TOS", libc::SOL_IP, libc::IP_TOS),
    mtu_discover: ("IP_MTU_DISCOVER", libc::SOL_IP, libc::IP_MTU_DISCOVER),
};

const V6: Options = Options {
    recv_ttl: ("IPV6_RECVHOPLIMIT", libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT),
    recv_tos: ("IPV6_RECVTCLASS", libc::SOL_IPV6, libc::IPV6_RECVTCLASS),
    recv_addr: ("IPV6_RECVPKTINFO", libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
    recv_err: ("IPV6_RECVERR", libc::SOL_IPV6, libc::IPV6_RECVERR),
    ttl: ("IPV6_UNICAST_HOPS", libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS),
    tos: ("IPV6_TCLASS", libc::SOL_IPV6, libc::IPV6_TCLASS),
    mtu_discover: ("IPV6_MTU_DISCOVER", libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
};

impl Family {
    pub(crate) fn options(self) -> &'static Options {
        match self {
            Self::V4 => &V4,
            Self::V6 => &V6,
        }
    }

    pub(crate) fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }

    pub(crate) fn icmp(self) -> Protocol {
        match self {
            Self::V4 => Protocol::ICMPV4,
            Self::V6 => Protocol::ICMPV6,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Makes the socket send with flow label 0. Otherwise the kernel derives a label from
    /// what the socket knows of the flow, and a raw socket knows no ports. Routers that hash
    /// the label would then send a traceroute another way than its probes.
    pub(crate) fn plain_flow_label(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::V4 => Ok(()),
            Self::V6 => sys::set_int(fd, libc::SOL_IPV6, IPV6_AUTOFLOWLABEL, 0),
        }
    }
}

/// A property of a received packet, from a control message.
pub(crate) enum PacketField {
    Ttl(Option<u8>),
    Tos(Option<u8>),
    To(Option<IpAddr>),
}

/// Reads a control message of either family; `None` for any other.
pub(crate) fn said(control: &Control<'_>) -> Option<PacketField> {
    Some(match (control.level, control.kind) {
        (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
            PacketField::Ttl(control.small())
        }
        (libc::SOL_IP, libc::IP_TOS) | (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
            PacketField::Tos(control.small())
        }
        // in_pktinfo: interface, local address, destination address.
        (libc::SOL_IP, libc::IP_PKTINFO) => {
            PacketField::To(control.data.get(8..12).and_then(name::ip))
        }
        // in6_pktinfo: destination address, interface.
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
            PacketField::To(control.data.get(..16).and_then(name::ip))
        }
        _ => return None,
    })
}

/// Writes to `control` what one packet to send has different from its socket.
pub(crate) fn say(
    control: &mut Outgoing,
    from: Option<IpAddr>,
    ttl: Option<u8>,
    tos: Option<u8>,
    family: Family,
) {
    match from {
        None => {}
        Some(IpAddr::V4(ip)) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&ip.octets());
            control.push(libc::SOL_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(ip)) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&ip.octets());
            control.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
        }
    }
    let (ttl_kind, tos_kind, level) = match family {
        Family::V4 => (libc::IP_TTL, libc::IP_TOS, libc::SOL_IP),
        Family::V6 => (libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS, libc::SOL_IPV6),
    };
    if let Some(ttl) = ttl {
        control.push(level, ttl_kind, &c_int::from(ttl).to_ne_bytes());
    }
    if let Some(tos) = tos {
        control.push(level, tos_kind, &c_int::from(tos).to_ne_bytes());
    }
}
