//! Raw sockets of the tracer: they send packets built elsewhere as they are, and receive
//! whole ICMP errors. They need `CAP_NET_RAW`.

use crate::error::NetError;
use crate::error_queue::{self, ErrorMessage};
pub use crate::family::Family;
use crate::family::{self, PacketField};
use crate::outbox::{Outbox, TxStamps};
use crate::refusal::Refusal;
use crate::sys;
use crate::sys::batch::{self, Inbox};
use crate::sys::cmsg;
use crate::token::SendToken;
use hopgap_proto::time::Wall;
use socket2::{Protocol, SockFilter, Socket, Type};
use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// The longest ICMP message that is received whole: quotes are shorter.
const MESSAGE_MAX: usize = 2048;
const BUFFER: c_int = 4 << 20;

/// Sends UDP packets whose headers were built elsewhere.
pub struct RawSender {
    socket: Socket,
    family: Family,
    outbox: Outbox,
    inbox: Inbox,
}

/// A packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPacket<'a> {
    /// IPv4: the whole packet from its IP header on; the kernel fills in the total
    /// length and the header checksum. IPv6: UDP header, checksum included, and
    /// payload; the kernel writes the IP header.
    pub bytes: &'a [u8],
    /// The source address. IPv4 takes it from the packet.
    pub from: IpAddr,
    /// The destination.
    pub to: IpAddr,
    /// The hop limit. IPv4 takes the TTL from the packet.
    pub ttl: u8,
    /// The traffic class. IPv4 takes the TOS from the packet.
    pub tos: u8,
}

impl RawSender {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetError::NeedsNetRaw`], or the kernel's reason.
    pub fn open(family: Family, tx_stamps: TxStamps) -> Result<Self, NetError> {
        let (what, protocol) = match family {
            Family::V4 => (
                "a raw IPv4 socket for traceroute",
                Protocol::from(libc::IPPROTO_RAW),
            ),
            Family::V6 => ("a raw IPv6 socket for traceroute", Protocol::UDP),
        };
        let socket = open(family, protocol, what)?;
        let fd = socket.as_fd();
        let failed = |option| {
            move |source| NetError::Option {
                what: what.to_owned(),
                option,
                source,
            }
        };
        // Otherwise the IPv6 socket would get a copy of all UDP that arrives.
        let nothing = SockFilter::new(RETURN, 0, 0, 0);
        socket
            .attach_filter(&[nothing])
            .map_err(failed("SO_ATTACH_FILTER"))?;
        family
            .plain_flow_label(fd)
            .map_err(failed("IPV6_AUTOFLOWLABEL"))?;
        // The packets' own headers set DF. The kernel refuses what is longer than the
        // interface's MTU, and believes no MTU of a path.
        let (name, level, option) = family.options().mtu_discover;
        sys::set_int(fd, level, option, libc::IP_PMTUDISC_INTERFACE).map_err(failed(name))?;
        let outbox = Outbox::new(fd, tx_stamps).map_err(failed("SO_TIMESTAMPING"))?;
        Ok(Self {
            socket,
            family,
            outbox,
            inbox: Inbox::new(MESSAGE_MAX),
        })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// The kernel refused: the packet never left.
    pub fn send(&mut self, packet: &RawPacket<'_>) -> Result<SendToken, Refusal> {
        let mut control = cmsg::Outgoing::EMPTY;
        if self.family == Family::V6 {
            let (ttl, tos) = (Some(packet.ttl), Some(packet.tos));
            family::say(&mut control, Some(packet.from), ttl, tos, self.family);
        }
        // The port field would name the protocol, which the socket knows.
        let name = SocketAddr::from((packet.to, 0)).into();
        self.outbox
            .send(self.socket.as_fd(), packet.bytes, name, control)
    }

    /// Passes to `f` the transmit stamps that have come; returns how many.
    ///
    /// # Errors
    /// The kernel's, when the socket itself failed.
    pub fn drain_errors(&mut self, f: impl FnMut(ErrorMessage<'_>)) -> io::Result<usize> {
        let fd = self.socket.as_fd();
        error_queue::drain(fd, &mut self.inbox, self.outbox.tokens(), f)
    }
}

impl AsFd for RawSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives the ICMP errors of one family that reach this network namespace,
/// whoever caused them.
pub struct IcmpSocket {
    socket: Socket,
    inbox: Inbox,
}

/// An ICMP error that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpReceived<'a> {
    /// IPv4: the packet from its IP header on. IPv6: the ICMPv6 message.
    pub packet: &'a [u8],
    /// Who sent it.
    pub from: IpAddr,
    /// TTL or hop limit with which it arrived.
    pub ttl: Option<u8>,
    /// When the kernel took it from the driver; `None` where the kernel did not say.
    pub stamp: Option<Wall>,
}

impl IcmpSocket {
    /// Opens a socket in the calling thread's network namespace. It receives only time
    /// exceeded and destination unreachable, and for IPv6 packet too big, which in IPv4 is an
    /// unreachable.
    ///
    /// # Errors
    /// [`NetError::NeedsNetRaw`], or the kernel's reason.
    pub fn open(family: Family) -> Result<Self, NetError> {
        let what = match family {
            Family::V4 => "a raw ICMPv4 socket for traceroute",
            Family::V6 => "a raw ICMPv6 socket for traceroute",
        };
        let socket = open(family, family.icmp(), what)?;
        let fd = socket.as_fd();
        let failed = |option| {
            move |source| NetError::Option {
                what: what.to_owned(),
                option,
                source,
            }
        };
        let types = match family {
            Family::V4 => &[3, 11][..],
            Family::V6 => &[1, 2, 3][..],
        };
        filter_icmp(fd, family, types).map_err(failed("ICMP_FILTER"))?;
        let (name, level, option) = family.options().recv_ttl;
        sys::set_int(fd, level, option, 1).map_err(failed(name))?;
        sys::receive_buffer(fd, BUFFER).map_err(failed("SO_RCVBUF"))?;
        Outbox::new(fd, TxStamps::Off).map_err(failed("SO_TIMESTAMPING"))?;
        Ok(Self {
            socket,
            inbox: Inbox::new(MESSAGE_MAX),
        })
    }

    /// Passes to `f` up to 64 errors that have arrived; returns how many. 0: none
    /// is left.
    ///
    /// # Errors
    /// The kernel's, when the socket itself failed.
    pub fn recv_batch(&mut self, mut f: impl FnMut(IcmpReceived<'_>)) -> io::Result<usize> {
        let count = match self.inbox.receive(self.socket.as_fd(), 0) {
            Ok(count) => count,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => return Ok(0),
                _ => return Err(error),
            },
        };
        for message in self.inbox.messages(count) {
            let Some(from) = message.addr() else { continue };
            let packet = message.bytes;
            let mut received = IcmpReceived {
                packet,
                from: from.ip(),
                ttl: None,
                stamp: None,
            };
            for control in message.controls() {
                if batch::holds_stamps(control.level, control.kind) {
                    received.stamp = batch::stamp(control.data);
                } else if let Some(PacketField::Ttl(ttl)) = family::said(&control) {
                    received.ttl = ttl;
                }
            }
            f(received);
        }
        Ok(count)
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(family: Family, protocol: Protocol, what: &'static str) -> Result<Socket, NetError> {
    Socket::new(family.domain(), Type::RAW, Some(protocol))
        .map_err(|source| NetError::raw(what, source))
}

/// Lets a raw socket of ICMP receive only messages of these types.
pub(crate) fn filter_icmp(fd: BorrowedFd<'_>, family: Family, types: &[u8]) -> io::Result<()> {
    // In both filters a set bit blocks the type.
    let mut blocked = [u32::MAX; 8];
    for kind in types {
        if let Some(word) = blocked.get_mut(usize::from(kind / 32)) {
            *word &= !(1 << (kind % 32));
        }
    }
    match family {
        // The filter has 32 bits: IPv4 types beyond are no answers.
        Family::V4 => sys::set_flags(fd, SOL_RAW, ICMP_FILTER, blocked[0]),
        Family::V6 => sys::set_bits(fd, libc::IPPROTO_ICMPV6, ICMP6_FILTER, blocked),
    }
}

// Kernel numbers that libc lacks.
const SOL_RAW: c_int = 255;
const ICMP_FILTER: c_int = 1;
const ICMP6_FILTER: c_int = 1;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;

#[cfg(test)]
mod tests;
