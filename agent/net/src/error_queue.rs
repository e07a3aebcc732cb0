//! Reads a socket's error queue: when packets left, and which ICMP errors came back for them.

use crate::sys::batch::{self, Inbox, Message};
use crate::sys::name::{self, array};
use crate::token::{SendToken, Tokens};
use hopgap_proto::time::Wall;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

/// One message of the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorMessage<'a> {
    /// A packet left.
    TxStamp {
        /// Which.
        token: SendToken,
        /// When, by the kernel.
        stamp: Wall,
        /// Where in the kernel.
        kind: TxKind,
    },
    /// An ICMP error for a packet of this socket, or a local error of the same form.
    Icmp(IcmpMessage<'a>),
}

/// Where in the kernel a packet was stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxKind {
    /// When it was given to the queueing discipline.
    Scheduled,
    /// When the driver took it.
    Sent,
}

/// An error about a packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpMessage<'a> {
    /// Whose error it is.
    pub origin: Origin,
    /// ICMP or ICMPv6 type; 0 for local errors.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code; 0 for local errors.
    pub code: u8,
    /// The next hop's MTU in bytes, where the packet was too big.
    pub mtu: Option<u32>,
    /// The router or host that sent the error. `None` for local errors.
    pub offender: Option<IpAddr>,
    /// Where the packet was sent to.
    pub dest: SocketAddr,
    /// The packet's UDP payload, as much as is quoted.
    pub payload: &'a [u8],
    /// TTL or hop limit with which the error arrived.
    pub ttl: Option<u8>,
    /// When the error arrived, by the kernel.
    pub stamp: Option<Wall>,
}

/// Whose error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An ICMP error of IPv4.
    V4,
    /// An ICMPv6 error.
    V6,
    /// This host's own kernel, such as for a packet above the path's MTU.
    Local,
}

// `struct sock_extended_err`: errno, origin, type, code, pad, info, data.
const ORIGIN: usize = 4;
const TYPE: usize = 5;
const CODE: usize = 6;
const INFO: usize = 8;
const DATA: usize = 12;
const OFFENDER: usize = 16;

// Kernel numbers that libc lacks.
const SCM_TSTAMP_SND: u32 = 0;
const SCM_TSTAMP_SCHED: u32 = 1;

/// Most system calls of one draining, so that a flood of errors does not hold up the caller.
const ROUNDS: usize = 16;

/// Passes the messages of the error queue to `f`; returns how many there were.
pub(crate) fn drain(
    fd: BorrowedFd<'_>,
    inbox: &mut Inbox,
    tokens: &Tokens,
    mut f: impl FnMut(ErrorMessage<'_>),
) -> io::Result<usize> {
    let mut total = 0;
    for _ in 0..ROUNDS {
        let count = match inbox.receive(fd, libc::MSG_ERRQUEUE) {
            Ok(count) => count,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => break,
                io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            },
        };
        total += count;
        for message in inbox.messages(count) {
            if let Some(message) = decode(&message, tokens) {
                f(message);
            }
        }
    }
    Ok(total)
}

fn decode<'a>(message: &Message<'a>, tokens: &Tokens) -> Option<ErrorMessage<'a>> {
    let mut stamp = None;
    let mut ttl = None;
    let mut error: Option<&[u8]> = None;
    for control in message.controls() {
        match (control.level, control.kind) {
            (level, kind) if batch::holds_stamps(level, kind) => {
                stamp = batch::stamp(control.data);
            }
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                error = Some(control.data);
            }
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                ttl = control.small();
            }
            _ => {}
        }
    }
    let error = error?;
    let errno = i32::from_ne_bytes(array(error, 0)?);
    let info = u32::from_ne_bytes(array(error, INFO)?);
    let origin = match *error.get(ORIGIN)? {
        libc::SO_EE_ORIGIN_TIMESTAMPING => {
            let kind = match info {
                SCM_TSTAMP_SND => TxKind::Sent,
                SCM_TSTAMP_SCHED => TxKind::Scheduled,
                _ => return None,
            };
            let token = tokens.of(u32::from_ne_bytes(array(error, DATA)?));
            return Some(ErrorMessage::TxStamp {
                token,
                stamp: stamp?,
                kind,
            });
        }
        libc::SO_EE_ORIGIN_ICMP => Origin::V4,
        libc::SO_EE_ORIGIN_ICMP6 => Origin::V6,
        libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
        _ => return None,
    };
    Some(ErrorMessage::Icmp(IcmpMessage {
        origin,
        icmp_type: *error.get(TYPE)?,
        code: *error.get(CODE)?,
        mtu: (errno == libc::EMSGSIZE).then_some(info),
        offender: error
            .get(OFFENDER..)
            .and_then(name::decode)
            .map(|addr| addr.ip()),
        dest: message.addr()?,
        payload: message.bytes,
        ttl,
        stamp,
    }))
}
