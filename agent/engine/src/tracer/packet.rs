//! What identifies a traceroute packet, and its complete form for a raw socket.
//!
//! An ICMP error may quote no more than 8 bytes beyond the IP header, so that
//! each of three things alone tells which packet it was: the STAMP Sequence
//! Number, the IPv4 Identification, the UDP checksum (as it was computed).

use core::net::{IpAddr, SocketAddr};
use hopgap_proto::stamp::Seq;
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::udp::{self, MutableUdpPacket};

const TRACE: u32 = 1 << 31;
const ROUNDS: u32 = 1 << 21;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;

/// The greatest TTL that a packet's identity has room for.
pub(super) const GREATEST_TTL: u8 = 63;
/// How often one TTL can be asked in one round.
pub(super) const MOST_ATTEMPTS: u8 = 4;

/// Whether a Sequence Number has the form of a traceroute packet's. A probe's has it
/// too once a flow has sent 2^31 of them, so that the SSID decides where it is known.
pub(crate) fn is_trace_seq(seq: Seq) -> bool {
    seq.0 & TRACE != 0
}

/// Which packet of a flow's traceroutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketId {
    pub(super) round: u32,
    pub(super) attempt: u8,
    pub(super) ttl: u8,
}

impl PacketId {
    pub(super) fn seq(self) -> Seq {
        Seq(TRACE
            | (self.round % ROUNDS) << 10
            | u32::from(self.attempt % MOST_ATTEMPTS) << 8
            | u32::from(self.ttl))
    }

    /// Never zero, which the kernel would replace by a number of its own.
    pub(super) fn ip_id(self) -> u16 {
        u16::from_be_bytes([
            self.round.to_be_bytes()[3],
            (self.attempt % MOST_ATTEMPTS) << 6 | (self.ttl & GREATEST_TTL),
        ])
    }

    pub(super) fn has_seq(self, seq: Seq) -> bool {
        self.seq() == seq
    }
}

/// One end to the other, and what else the IP header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) ttl: u8,
    pub(super) dscp: u8,
    pub(super) ip_id: u16,
}

/// The checksum that the packet's UDP header has; as sent, so never zero.
pub(super) fn udp_checksum(header: &Header, payload: &[u8], scratch: &mut Vec<u8>) -> u16 {
    scratch.clear();
    put_udp(header, payload, scratch)
}

/// Writes the packet for a raw socket: IPv4 header, UDP header and payload for
/// IPv4; UDP header and payload for IPv6, whose header the kernel writes.
pub(super) fn write(header: &Header, payload: &[u8], out: &mut Vec<u8>) {
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
            ip.set_flags(Ipv4Flags::DontFragment);
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
