//! UDP sockets of probes and reflectors: kernel stamps both ways, TTL and traffic class of
//! every packet, ICMP errors with their quotes.

pub use crate::error_queue::{ErrorMessage, IcmpMessage, Origin, TxKind};
pub use crate::outbox::TxStamps;
pub use crate::refusal::Refusal;
pub use crate::stamping::Stamps;
pub use crate::token::SendToken;

use crate::error::NetError;
use crate::error_queue;
use crate::family::{self, Family, Opt, PacketField};
use crate::outbox::Outbox;
use crate::overflow::Overflow;
use crate::refusal;
use crate::sys;
use crate::sys::batch::{self, Inbox, Message};
use crate::sys::cmsg;
use crate::sys::name::Name;
use hopgap_proto::time::Wall;
use socket2::{Protocol, Socket, Type};
use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// How many datagrams are sent or fetched by one system call at most.
pub const BATCH: usize = batch::BATCH;

/// The longest datagram that is received whole, in bytes: jumbo frames. A longer one is no
/// probe; it is cut and marked as such.
pub const DATAGRAM_MAX: usize = 9216;

/// Socket buffers in bytes: tens of thousands of probes, more than a second at full rate.
const BUFFER: c_int = 8 << 20;

/// How many receives in a row a pending ICMP error may fail.
const PENDING_MAX: u32 = 8;

/// How to open a [`ProbeSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Address and port to bind; the unspecified address for all of its family,
    /// port 0 for any.
    pub local: SocketAddr,
    /// TTL or hop limit of what is sent.
    pub ttl: u8,
    /// TOS or traffic class of what is sent: DSCP in the upper 6 bits, ECN below.
    pub tos: u8,
    /// Forbid fragmentation and ignore the known MTU of the path: a packet that is too long
    /// for a hop is lost there, with an ICMP error.
    pub dont_fragment: bool,
    /// Let no ICMP 'too big' that quotes a packet of this socket change the kernel's MTU of
    /// the path (`IP_PMTUDISC_INTERFACE`). A forged one would change it for all programs of
    /// the host and for minutes. Over IPv4 packets then leave without DF, except after
    /// [`ProbeSocket::forbid_fragments`]; over IPv6 'too big' no longer comes by the error
    /// queue.
    pub ignore_too_big: bool,
    /// Which transmit stamps to take.
    pub tx_stamps: TxStamps,
    /// Whether to take ICMP errors. Without them the kernel is also silent about packets for
    /// which the interface's queue had no room (`ENOBUFS`).
    pub icmp_errors: bool,
}

impl ProbeOptions {
    /// For a sender: TTL 255, transmit stamps, ICMP errors.
    pub const fn sender(local: SocketAddr) -> Self {
        Self {
            local,
            ttl: 255,
            tos: 0,
            dont_fragment: true,
            ignore_too_big: local.is_ipv4(),
            tx_stamps: TxStamps::Sent,
            icmp_errors: true,
        }
    }

    /// For a reflector: TTL 255, transmit stamps, no ICMP errors.
    pub const fn reflector(local: SocketAddr) -> Self {
        Self {
            local,
            ttl: 255,
            tos: 0,
            dont_fragment: true,
            ignore_too_big: true,
            tx_stamps: TxStamps::Sent,
            icmp_errors: false,
        }
    }
}

/// A UDP socket for probes. Nothing here ever waits.
pub struct ProbeSocket {
    socket: Socket,
    family: Family,
    outbox: Outbox,
    inbox: Inbox,
    overflow: Overflow,
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// The datagram was longer than [`DATAGRAM_MAX`]; `bytes` is its beginning.
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// The destination address in its header.
    pub to: Option<IpAddr>,
    /// TTL or hop limit as it arrived.
    pub ttl: Option<u8>,
    /// TOS or traffic class as it arrived.
    pub tos: Option<u8>,
    /// When the kernel took it from the driver; `None` where the kernel did not say.
    pub stamp: Option<Wall>,
    /// How many datagrams the kernel dropped between the one before and this one, because
    /// they were not fetched in time. Does not count damaged ones, as far as the host's own
    /// counts show them.
    pub overflowed: u32,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// Where to.
    pub to: SocketAddr,
    /// Source address, where the socket is bound to all of the host's. A reply leaves from
    /// the address to which its request came.
    pub from: Option<IpAddr>,
    /// TTL or hop limit, where it differs from the socket's.
    pub ttl: Option<u8>,
    /// TOS or traffic class, where it differs from the socket's.
    pub tos: Option<u8>,
}

impl<'a> Outgoing<'a> {
    /// A datagram with the socket's own settings.
    pub const fn new(bytes: &'a [u8], to: SocketAddr) -> Self {
        Self {
            bytes,
            to,
            from: None,
            ttl: None,
            tos: None,
        }
    }
}

impl ProbeSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetError`] names the address and the remedy.
    pub fn open(options: &ProbeOptions) -> Result<Self, NetError> {
        Self::open_as(options, false)
    }

    /// As [`open`](Self::open), but shares address and port with other sockets of this user
    /// that agree to it (`SO_REUSEPORT`).
    pub(crate) fn open_shared(options: &ProbeOptions) -> Result<Self, NetError> {
        Self::open_as(options, true)
    }

    fn open_as(options: &ProbeOptions, shared: bool) -> Result<Self, NetError> {
        let family = Family::from(options.local.ip());
        let what = || format!("UDP {}", options.local);
        let socket =
            Socket::new(family.domain(), Type::DGRAM, Some(Protocol::UDP)).map_err(|source| {
                match source.raw_os_error() {
                    Some(libc::EAFNOSUPPORT) => NetError::NoFamily {
                        family: family.name(),
                    },
                    _ => NetError::Open {
                        what: what(),
                        source,
                    },
                }
            })?;
        let fd = socket.as_fd();
        let done = |option, result: io::Result<()>| {
            result.map_err(|source| NetError::Option {
                what: what(),
                option,
                source,
            })
        };
        let set = |(name, level, option): Opt, value: c_int| {
            done(name, sys::set_int(fd, level, option, value))
        };
        let names = family.options();
        if family == Family::V6 {
            // IPv4 uses separate sockets, with options of their own.
            set(("IPV6_V6ONLY", libc::SOL_IPV6, libc::IPV6_V6ONLY), 1)?;
        }
        done("IPV6_AUTOFLOWLABEL", family.plain_flow_label(fd))?;
        set(names.ttl, c_int::from(options.ttl))?;
        set(names.tos, c_int::from(options.tos))?;
        set(
            names.mtu_discover,
            match (options.dont_fragment, options.ignore_too_big) {
                (true, true) => libc::IP_PMTUDISC_INTERFACE,
                (true, false) => libc::IP_PMTUDISC_PROBE,
                (false, _) => libc::IP_PMTUDISC_DONT,
            },
        )?;
        set(names.recv_ttl, 1)?;
        set(names.recv_tos, 1)?;
        set(names.recv_addr, 1)?;
        set(names.recv_err, c_int::from(options.icmp_errors))?;
        if shared {
            set(("SO_REUSEPORT", libc::SOL_SOCKET, libc::SO_REUSEPORT), 1)?;
        }
        set(("SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL), 1)?;
        done("SO_RCVBUF", sys::receive_buffer(fd, BUFFER))?;
        done("SO_SNDBUF", sys::send_buffer(fd, BUFFER))?;
        let outbox = Outbox::new(fd, options.tx_stamps);
        let outbox = outbox.map_err(|source| NetError::Option {
            what: what(),
            option: "SO_TIMESTAMPING",
            source,
        })?;
        socket
            .bind(&options.local.into())
            .map_err(|source| NetError::bind(options.local, source))?;
        Ok(Self {
            socket,
            family,
            outbox,
            inbox: Inbox::new(DATAGRAM_MAX),
            overflow: Overflow::new(),
        })
    }

    /// Which stamps the kernel gives here.
    pub fn stamps(&self) -> Stamps {
        self.outbox.stamps()
    }

    /// Address and port the socket is bound to.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sends `bytes` to `dest`. Its transmit stamps come by
    /// [`drain_errors`](Self::drain_errors) with the token.
    ///
    /// # Errors
    /// The kernel refused: the packet never left.
    pub fn send_to(&mut self, bytes: &[u8], dest: SocketAddr) -> Result<SendToken, Refusal> {
        self.send(&Outgoing::new(bytes, dest))
    }

    /// Sets whether routers must not fragment later packets (DF), at a socket that
    /// [ignores](ProbeOptions::ignore_too_big) 'too big'. IPv6 never lets them fragment.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn forbid_fragments(&self, forbid: bool) -> io::Result<()> {
        if self.family == Family::V6 {
            return Ok(());
        }
        let (_, level, option) = self.family.options().mtu_discover;
        let value = if forbid {
            libc::IP_PMTUDISC_PROBE
        } else {
            libc::IP_PMTUDISC_INTERFACE
        };
        sys::set_int(self.socket.as_fd(), level, option, value)
    }

    /// As [`send_to`](Self::send_to), with settings for this packet.
    ///
    /// # Errors
    /// The kernel refused: the packet never left.
    pub fn send(&mut self, packet: &Outgoing<'_>) -> Result<SendToken, Refusal> {
        let (bytes, name, control) = envelope(packet, self.family);
        self.outbox.send(self.socket.as_fd(), bytes, name, control)
    }

    /// Sends `packets` in as few system calls as possible and passes the outcome of each to
    /// `f`, in their order. A refused packet does not hold up the next.
    pub fn send_batch<'a>(
        &mut self,
        packets: impl Iterator<Item = Outgoing<'a>>,
        f: impl FnMut(Result<SendToken, Refusal>),
    ) {
        let family = self.family;
        let packets = packets.map(|packet| envelope(&packet, family));
        self.outbox.send_many(self.socket.as_fd(), packets, f);
    }

    /// Passes to `f` up to [`BATCH`] datagrams that have arrived; returns how many.
    /// 0: none is left.
    ///
    /// # Errors
    /// The kernel's, when the socket itself failed. ICMP errors are not among them.
    pub fn recv_batch(&mut self, mut f: impl FnMut(Received<'_>)) -> io::Result<usize> {
        let mut pending = 0;
        let count = loop {
            let error = match self.inbox.receive(self.socket.as_fd(), 0) {
                Ok(count) => break count,
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(0),
                Some(libc::EINTR) => {}
                Some(errno) if refusal::may_be_pending(errno) && pending < PENDING_MAX => {
                    pending += 1;
                }
                _ => return Err(error),
            }
        };
        let fd = self.socket.as_fd();
        self.overflow.look_now_and_then(fd);
        for message in self.inbox.messages(count) {
            if let Some(received) = decode(&message, &mut self.overflow, fd) {
                f(received);
            }
        }
        Ok(count)
    }

    /// Passes to `f` transmit stamps and ICMP errors that have come; returns how
    /// many messages there were. As long as some are left, the descriptor polls as
    /// in error.
    ///
    /// # Errors
    /// The kernel's, when the socket itself failed.
    pub fn drain_errors(&mut self, f: impl FnMut(ErrorMessage<'_>)) -> io::Result<usize> {
        let fd = self.socket.as_fd();
        error_queue::drain(fd, &mut self.inbox, self.outbox.tokens(), f)
    }

    /// Turns transmit stamps on or off for later packets; stamps under way still come. For
    /// sockets that were opened with transmit stamps.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn take_departures(&mut self, on: bool) -> io::Result<()> {
        self.outbox.take_stamps(self.socket.as_fd(), on)
    }

    /// Returns how many datagrams the kernel dropped since the socket was opened, because
    /// they were not fetched in time, as of the last one received. They are this host's loss,
    /// not the path's.
    pub fn overflows(&self) -> u32 {
        self.overflow.total()
    }
}

impl ProbeSocket {
    /// Returns how many bytes of memory arrived datagrams may take, with the kernel's own
    /// book-keeping of more than half a kilobyte for each.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        self.socket.recv_buffer_size()
    }
}

impl AsFd for ProbeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn envelope<'a>(packet: &Outgoing<'a>, family: Family) -> (&'a [u8], Name, cmsg::Outgoing) {
    let mut control = cmsg::Outgoing::EMPTY;
    family::say(&mut control, packet.from, packet.ttl, packet.tos, family);
    (packet.bytes, packet.to.into(), control)
}

fn decode<'a>(
    message: &Message<'a>,
    overflow: &mut Overflow,
    socket: BorrowedFd<'_>,
) -> Option<Received<'a>> {
    let mut received = Received {
        bytes: message.bytes,
        truncated: message.truncated(),
        from: message.addr()?,
        to: None,
        ttl: None,
        tos: None,
        stamp: None,
        overflowed: 0,
    };
    for control in message.controls() {
        match (control.level, control.kind) {
            (level, kind) if batch::holds_stamps(level, kind) => {
                received.stamp = batch::stamp(control.data);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                if let Some(count) = control.int() {
                    received.overflowed = overflow.since(count.cast_unsigned(), socket);
                }
            }
            _ => match family::said(&control) {
                Some(PacketField::Ttl(ttl)) => received.ttl = ttl,
                Some(PacketField::Tos(tos)) => received.tos = tos,
                Some(PacketField::To(to)) => received.to = to,
                None => {}
            },
        }
    }
    Some(received)
}

#[cfg(test)]
mod tests;
