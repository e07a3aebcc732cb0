//! Packets beside the probes, in the probes' own 5-tuple: their unguessable fields, their
//! complete form for a raw socket, and how to recognise them in what an ICMP error quotes.
//!
//! An ICMP error may quote as few as 8 bytes beyond the IP header. A forger who does not see
//! the packets must guess what it quotes: the IPv4 Identification is random for each packet,
//! and so are the lowest 16 bits of T1, which the UDP checksum covers. That makes 32 bits in
//! the shortest quote of IPv4. ICMPv6 quotes all of the packet (RFC 4443 section 2.4): T1's
//! bits, and those of the Sequence Number, which begins at random.
//!
//! None of this changes a packet's path: addresses, ports, protocol and flow label are the
//! probes' own, and routers hash nothing beyond them.

use core::net::{IpAddr, SocketAddr};
use hopgap_proto::stamp::{Timestamp, TimestampFormat};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::udp::{self, MutableUdpPacket};

const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// Offset of T1 in a request, unauthenticated and authenticated (RFC 8762 sections 4.2.1 and
/// 4.2.2), and its length; in bytes.
const T1: (usize, usize) = (4, 16);
const T1_LEN: usize = 8;
/// How many bytes of a payload are compared with a quote. They hold everything that is random
/// or made with a key; the rest is padding.
const COMPARED: usize = 112;

/// The unguessable fields of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// IPv4 Identification.
    pub(crate) ip_id: u16,
    time: u16,
}

impl Marks {
    /// Makes them from 64 bits drawn for the packet.
    pub(crate) fn of(drawn: u64) -> Self {
        let [a, b, c, d, ..] = drawn.to_be_bytes();
        Self {
            // The kernel would replace zero by a number of its own.
            ip_id: u16::from_be_bytes([a, b]).max(1),
            time: u16::from_be_bytes([c, d]),
        }
    }

    /// Replaces the lowest 16 bits of a sending time by random ones. That errs by 15 µs in
    /// NTP's format and 66 µs in PTP's; nothing is measured with it.
    pub(crate) fn blur(self, timestamp: Timestamp) -> Timestamp {
        let raw = timestamp.raw & !u64::from(u16::MAX) | u64::from(self.time);
        let raw = match timestamp.format {
            TimestampFormat::Ntp => raw,
            // Nanoseconds must stay below a second: then the time is left as it is.
            TimestampFormat::Ptp if raw & 0xffff_ffff >= 1_000_000_000 => timestamp.raw,
            TimestampFormat::Ptp => raw,
        };
        Timestamp { raw, ..timestamp }
    }
}

/// What an ICMP error quotes of the packet that provoked it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quoted<'a> {
    /// IPv4 Identification, where it was sent through a raw socket and is quoted.
    pub ip_id: Option<u16>,
    /// UDP length, where the UDP header is quoted whole.
    pub udp_len: Option<u16>,
    /// UDP checksum, where the UDP header is quoted whole.
    pub udp_checksum: Option<u16>,
    /// The UDP payload, as much of it as there is.
    pub payload: &'a [u8],
}

impl Quoted<'_> {
    /// Whether the whole quote matches the packet, and is long enough that nobody can guess it.
    pub(crate) fn fits(&self, packet: &Identity) -> bool {
        let length = self.payload.len().min(packet.payload.len());
        let telling =
            (self.ip_id.is_some() && self.udp_checksum.is_some()) || length >= packet.telling;
        telling
            && self.payload.get(..length) == packet.payload.get(..length)
            && self.ip_id.is_none_or(|id| id == packet.ip_id)
            && self.udp_checksum.is_none_or(|sum| sum == packet.checksum)
            && self.udp_len.is_none_or(|len| len == packet.udp_len)
    }
}

/// A packet as routers quote it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    ip_id: u16,
    udp_len: u16,
    checksum: u16,
    /// The beginning of its payload.
    payload: Box<[u8]>,
    t1: u64,
    /// A quote of this many payload bytes, up to the end of T1, holds all random bits, so
    /// nobody can guess it.
    telling: usize,
}

impl Identity {
    pub(crate) fn of(
        header: &Header,
        payload: &[u8],
        authenticated: bool,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let compared = payload.len().min(COMPARED);
        let at = if authenticated { T1.1 } else { T1.0 };
        let t1 = payload.get(at..).and_then(|rest| rest.first_chunk());
        Self {
            ip_id: header.ip_id,
            udp_len: u16::try_from(UDP_LEN + payload.len()).unwrap_or(u16::MAX),
            checksum: udp_checksum(header, payload, scratch),
            payload: payload.get(..compared).unwrap_or_default().into(),
            t1: t1.map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            telling: at + T1_LEN,
        }
    }

    /// T1 as it was written.
    pub(crate) fn t1(&self) -> u64 {
        self.t1
    }
}

/// The packet's two ends, and the other fields of its IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) dscp: u8,
    pub(crate) ip_id: u16,
    /// Whether routers must not fragment it, as for size probes only.
    pub(crate) dont_fragment: bool,
}

/// Returns the checksum of the packet's UDP header as sent, so never zero.
pub(crate) fn udp_checksum(header: &Header, payload: &[u8], scratch: &mut Vec<u8>) -> u16 {
    scratch.clear();
    put_udp(header, payload, scratch)
}

/// Writes the packet for a raw socket: IPv4 header, UDP header and payload for
/// IPv4; UDP header and payload for IPv6, whose header the kernel writes.
pub(crate) fn write(header: &Header, payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if let (IpAddr::V4(source), IpAddr::V4(target)) = (header.source.ip(), header.target.ip()) {
        out.resize(IPV4_LEN, 0);
        let total = u16::try_from(IPV4_LEN + UDP_LEN + payload.len()).unwrap_or(u16::MAX);
        if let Some(mut ip) = MutableIpv4Packet::new(out) {
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_dscp(header.dscp);
            ip.set_total_length(total);
            ip.set_identification(header.ip_id);
            if header.dont_fragment {
                ip.set_flags(Ipv4Flags::DontFragment);
            }
            ip.set_ttl(header.ttl);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
            ip.set_source(source);
            ip.set_destination(target);
            let checksum = ipv4::checksum(&ip.to_immutable());
            ip.set_checksum(checksum);
        }
    }
    put_udp(header, payload, out);
}

/// Appends UDP header and payload to `out`. Returns the checksum.
fn put_udp(header: &Header, payload: &[u8], out: &mut Vec<u8>) -> u16 {
    let start = out.len();
    out.resize(start + UDP_LEN, 0);
    out.extend_from_slice(payload);
    let length = u16::try_from(UDP_LEN + payload.len()).unwrap_or(u16::MAX);
    let Some(mut packet) = out.get_mut(start..).and_then(MutableUdpPacket::new) else {
        return 0;
    };
    packet.set_source(header.source.port());
    packet.set_destination(header.target.port());
    packet.set_length(length);
    let packet_now = packet.to_immutable();
    let checksum = match (header.source.ip(), header.target.ip()) {
        (IpAddr::V4(s), IpAddr::V4(t)) => udp::ipv4_checksum(&packet_now, &s, &t),
        (IpAddr::V6(s), IpAddr::V6(t)) => udp::ipv6_checksum(&packet_now, &s, &t),
        // The two ends of one flow are of one family.
        _ => 0,
    };
    // Zero means 'no checksum' (RFC 768).
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    packet.set_checksum(checksum);
    checksum
}
