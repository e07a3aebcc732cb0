//! Socket addresses as the kernel writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

const V4_LEN: usize = size_of::<libc::sockaddr_in>();
const V6_LEN: usize = size_of::<libc::sockaddr_in6>();

/// A `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, Default)]
#[repr(align(8))]
pub(crate) struct Name {
    bytes: [u8; V6_LEN],
    len: u8,
}

impl Name {
    /// The bytes to pass to the kernel; empty for a connected or bound socket's own.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl From<SocketAddr> for Name {
    fn from(addr: SocketAddr) -> Self {
        let mut bytes = [0; V6_LEN];
        let len = match addr {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&family(libc::AF_INET));
                bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                V4_LEN
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&family(libc::AF_INET6));
                bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                V6_LEN
            }
        };
        Self {
            bytes,
            len: u8::try_from(len).unwrap_or(0),
        }
    }
}

fn family(family: libc::c_int) -> [u8; 2] {
    libc::sa_family_t::try_from(family)
        .unwrap_or(0)
        .to_ne_bytes()
}

/// The address in `bytes`, or `None` where they hold no address of IPv4 or IPv6.
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes(array(bytes, 0)?));
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match family {
        libc::AF_INET => {
            Some(SocketAddrV4::new(Ipv4Addr::from(array::<4>(bytes, 4)?), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(array(bytes, 4)?);
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(array(bytes, 24)?);
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

/// The IP address of 4 or 16 bytes.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => array::<4>(bytes, 0).map(IpAddr::from),
        16 => array::<16>(bytes, 0).map(IpAddr::from),
        _ => None,
    }
}

/// `N` bytes at `at`.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
