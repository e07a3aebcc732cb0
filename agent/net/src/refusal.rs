//! Sends that the kernel refused.

use std::fmt;
use std::io;

/// The kernel refused to send: the packet never left. The socket still works, and the next
/// packet may be sent.
///
/// An ICMP error for an earlier packet is never taken for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The kernel's reason, as in errno(3).
    pub errno: i32,
}

impl Refusal {
    pub(crate) fn new(error: &io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    /// The reason's symbol, such as `ENETUNREACH`; `None` for one that is not
    /// expected of a send.
    pub fn symbol(self) -> Option<&'static str> {
        Some(match self.errno {
            libc::EACCES => "EACCES",
            libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            libc::EAGAIN => "EAGAIN",
            libc::EHOSTUNREACH => "EHOSTUNREACH",
            libc::EINVAL => "EINVAL",
            libc::EMSGSIZE => "EMSGSIZE",
            libc::ENETDOWN => "ENETDOWN",
            libc::ENETUNREACH => "ENETUNREACH",
            libc::ENOBUFS => "ENOBUFS",
            libc::ENODEV => "ENODEV",
            libc::ENOMEM => "ENOMEM",
            libc::EPERM => "EPERM",
            _ => return None,
        })
    }

    /// What the reason means for a probe, and where to look.
    fn meaning(self) -> Option<&'static str> {
        Some(match self.errno {
            libc::EACCES | libc::EPERM => "a local firewall or policy forbids it",
            libc::EADDRNOTAVAIL | libc::EINVAL => "the source address is not on this host any more",
            libc::EAFNOSUPPORT => "source and destination are of different address families",
            libc::EAGAIN => "the socket's send buffer is full",
            libc::EHOSTUNREACH => "the next hop does not answer or a route says unreachable",
            libc::EMSGSIZE => "it is longer than the interface's MTU",
            libc::ENETDOWN => "the interface is down",
            libc::ENETUNREACH => "there is no route",
            libc::ENOBUFS | libc::ENOMEM => "the interface's queue or the memory is full",
            libc::ENODEV => "the interface is gone",
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel refused to send: ")?;
        match (self.meaning(), self.symbol()) {
            (Some(meaning), Some(symbol)) => write!(f, "{meaning} ({symbol})"),
            _ => write!(f, "{}", io::Error::from_raw_os_error(self.errno)),
        }
    }
}

/// Whether `errno` is one that an ICMP error leaves pending on a socket. The next system call
/// returns it, whatever that call does.
pub(crate) fn may_be_pending(errno: i32) -> bool {
    matches!(
        errno,
        libc::EACCES
            | libc::ECONNREFUSED
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EMSGSIZE
            | libc::ENETUNREACH
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPROTO
    )
}
