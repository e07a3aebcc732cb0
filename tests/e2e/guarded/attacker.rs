//! A host on the way that reads what passes and sends what it likes, in anybody's name.

use crate::world::Host;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Sizes of the headers before a payload: IPv4 without options, UDP.
const IP: usize = 20;
const HEADERS: usize = IP + 8;

/// An IPv4 packet with a UDP datagram, in the name of `from`.
pub(crate) fn packet(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddrV4, SocketAddrV4) = (from.parse().unwrap(), to.parse().unwrap());
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    // Version 4, five words of header; TTL 255, UDP. The kernel fills in the checksum.
    let mut bytes = vec![0x45, 0];
    bytes.extend(length(HEADERS + payload.len()));
    bytes.extend([0, 0, 0, 0, 255, 17, 0, 0]);
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(length(8 + payload.len()));
    // A UDP checksum of zero is none (RFC 768).
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// The payload of a captured packet.
pub(crate) fn payload(packet: &[u8]) -> &[u8] {
    &packet[HEADERS..]
}

/// Sends whole packets from `host`.
pub(crate) struct Raw(OwnedFd);

impl Raw {
    pub(crate) fn on(host: &Host) -> Self {
        let fd = host.inside(|| {
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::empty(),
                SockProtocol::Raw,
            )
        });
        Self(fd.expect("a namespace's owner may"))
    }

    pub(crate) fn send(&self, packet: &[u8]) -> nix::Result<usize> {
        let [a, b, c, d] = *packet[16..].first_chunk().unwrap();
        let to = SockaddrIn::new(a, b, c, d, 0);
        sendto(self.0.as_raw_fd(), packet, &to, MsgFlags::empty())
    }

    /// Sends these in turn for as long, as fast as it can; how many left.
    pub(crate) fn flood(&self, packets: &[Vec<u8>], length: Duration) -> u64 {
        let end = Instant::now() + length;
        let mut sent = 0;
        for packet in packets.iter().cycle() {
            if sent % 64 == 0 && Instant::now() >= end {
                break;
            }
            // What its own queue refuses is simply not sent.
            let _ = self.send(packet);
            sent += 1;
        }
        sent
    }
}

/// Reads from `host` the next `count` packets that pass it to this address and port.
pub(crate) fn capture(host: &Host, to: &str, count: usize) -> Vec<Vec<u8>> {
    let to: SocketAddrV4 = to.parse().unwrap();
    let fd = host
        .inside(|| {
            socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::empty(),
                SockProtocol::EthIp,
            )
        })
        .expect("a namespace's owner may");
    let patience = TimeVal::new(20, 0);
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience).unwrap();
    let mut captured = Vec::new();
    let mut buffer = [0; 2048];
    while captured.len() < count {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("packets pass");
        let packet = &buffer[..length];
        let is_udp = packet[0] == 0x45 && packet[9] == 17;
        if is_udp && packet[16..20] == to.ip().octets() && packet[22..24] == to.port().to_be_bytes()
        {
            let mut packet = packet.to_vec();
            // The kernel may have left it to an interface, which a veth is not.
            packet[26..28].fill(0);
            captured.push(packet);
        }
    }
    captured
}
