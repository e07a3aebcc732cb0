//! Whole Ethernet frames of one interface.

use crate::error::NetError;
use crate::stamping::{self, Stamps};
use crate::sys;
use crate::sys::batch::{self, BATCH, Inbox, Packet};
use hopgap_proto::time::Wall;
use socket2::{Domain, Socket, Type};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Longest frame with its header, joined frames of offloading included.
const FRAME_MAX: usize = 65_536 + 64;
/// Room for about a second of 1 Gbit/s in small frames, in bytes.
const RECEIVE_BUFFER: c_int = 32 << 20;

/// A socket that takes every frame arriving at one interface, whatever its address, and sends
/// frames as they are.
///
/// It needs `CAP_NET_RAW` in the user namespace that owns the network namespace.
/// Frames of a sender on the same host may carry unfinished checksums and more
/// than one segment: turn tx, gso and tso off at the sending end (`ethtool -K`).
pub struct PacketSocket {
    socket: Socket,
    received: Inbox,
    overflows: u32,
}

impl PacketSocket {
    /// Opens `interface` of the calling thread's network namespace. The socket
    /// stays in that namespace, whichever the thread enters later.
    ///
    /// # Errors
    /// [`NetError::NoInterface`], [`NetError::NeedsNetRaw`], or the kernel's reason.
    pub fn open(interface: &str) -> Result<Self, NetError> {
        const WHAT: &str = "a packet socket (AF_PACKET)";
        let open = |source| NetError::Open {
            what: format!("{WHAT} on {interface}"),
            source,
        };
        let index = sys::interface_index(interface).map_err(|_| NetError::NoInterface {
            interface: interface.to_owned(),
        })?;
        // Protocol 0 receives nothing until the socket is bound to the interface,
        // so no frame of another interface slips in before.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)
            .map_err(|source| NetError::raw(WHAT, source))?;
        let option = |option, result: io::Result<()>| {
            result.map_err(|source| NetError::Option {
                what: format!("{WHAT} on {interface}"),
                option,
                source,
            })
        };
        let fd = socket.as_fd();
        option(
            "PACKET_IGNORE_OUTGOING",
            sys::set_int(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
        )?;
        option("PACKET_ADD_MEMBERSHIP", sys::set_promiscuous(fd, index))?;
        option("SO_RCVBUF", sys::receive_buffer(fd, RECEIVE_BUFFER))?;
        option("SO_SNDBUF", sys::send_buffer(fd, RECEIVE_BUFFER))?;
        option(
            "SO_RXQ_OVFL",
            sys::set_int(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1),
        )?;
        // A caller that asks for a link's frames needs the kernel's stamps.
        let stamped = stamping::enable(fd, 0).and_then(|granted| match granted.stamps() {
            Stamps::Kernel | Stamps::ReceiveOnly => Ok(()),
            Stamps::None => Err(io::ErrorKind::Unsupported.into()),
        });
        option("SO_TIMESTAMPING", stamped)?;
        socket.bind(&sys::link_address(index)).map_err(open)?;
        Ok(Self {
            socket,
            received: Inbox::new(FRAME_MAX),
            overflows: 0,
        })
    }

    /// Passes to `f` up to 64 frames that have arrived, each with the kernel's
    /// stamp of its arrival (`None` where it gave none), and returns how many; 0 when none has. Never waits.
    ///
    /// An interface that is down yields nothing, and frames again once it is up.
    ///
    /// # Errors
    /// The kernel's, when the socket itself failed.
    pub fn recv_batch(&mut self, mut f: impl FnMut(&[u8], Option<Wall>)) -> io::Result<usize> {
        let count = match self.received.receive(self.socket.as_fd(), 0) {
            Ok(count) => count,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => return Ok(0),
                _ => return Err(error),
            },
        };
        for message in self.received.messages(count) {
            let mut stamp = None;
            for control in message.controls() {
                match (control.level, control.kind) {
                    (level, kind) if batch::holds_stamps(level, kind) => {
                        stamp = batch::stamp(control.data);
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                        self.overflows = control.int().map_or(self.overflows, c_int::cast_unsigned);
                    }
                    _ => {}
                }
            }
            f(message.bytes, stamp);
        }
        Ok(count)
    }

    /// Sends `frames`, each with its Ethernet header, and returns how many the
    /// kernel took: all of them, or those before the first that it refused.
    ///
    /// # Errors
    /// The kernel's, when it refused the very first frame: `WouldBlock` when the
    /// send buffer is full, `ENETDOWN` when the interface is down, `EMSGSIZE`
    /// when the frame is longer than the interface's MTU allows.
    pub fn send_batch<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut frames = frames.peekable();
        let mut total = 0;
        while frames.peek().is_some() {
            let mut packets = [Packet::default(); BATCH];
            let mut filled = 0;
            for (packet, bytes) in packets.iter_mut().zip(&mut frames) {
                packet.bytes = bytes;
                filled += 1;
            }
            let mut rest = &packets[..filled];
            while !rest.is_empty() {
                match batch::send_many(self.socket.as_fd(), rest) {
                    Ok(sent) => {
                        total += sent;
                        rest = rest.get(sent..).unwrap_or_default();
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if total == 0 => return Err(error),
                    Err(_) => return Ok(total),
                }
            }
        }
        Ok(total)
    }

    /// Frames that the kernel threw away since the socket was opened because they
    /// were not fetched in time, as of the last frame received.
    pub fn overflows(&self) -> u32 {
        self.overflows
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
