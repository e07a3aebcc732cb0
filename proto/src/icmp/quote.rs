//! The beginning of a datagram, as an ICMP error quotes it.

use super::{LEGACY_QUOTE_LEN, Version};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const UDP: u8 = 17;
/// IPv6 extension headers that a quote is read past (RFC 8200 section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// The datagram an ICMP error is about, as the router that sent the error saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedDatagram<'a> {
    /// Its source: this host, unless a NAT is between.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// The protocol of its payload, past IPv6 extension headers.
    pub protocol: u8,
    /// IPv4 Identification; `None` for IPv6.
    pub ip_id: Option<u16>,
    /// TTL or Hop Limit on arrival at the router.
    pub ttl: u8,
    /// TOS or Traffic Class octet: DSCP and ECN on arrival at the router.
    pub tos: u8,
    /// Its whole length, headers included, as its IP header says.
    pub total_len: u32,
    /// The UDP header; `None` if the packet is not UDP, is a later fragment, or its header is cut.
    pub udp: Option<QuotedUdp>,
    /// What is quoted past the UDP header, or past the IP header where there is
    /// no `udp`. Often empty: a router need quote only eight bytes.
    pub payload: &'a [u8],
}

/// A quoted UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotedUdp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length of header and payload, as sent rather than as quoted.
    pub len: u16,
    /// Checksum. A NAT on the way may have changed it.
    pub checksum: u16,
}

impl<'a> QuotedDatagram<'a> {
    /// `None` where the quote ends within the fixed IP header, or the header is
    /// not of `version`.
    pub(super) fn parse(version: Version, quote: &'a [u8]) -> Option<Self> {
        match version {
            Version::V4 => Self::parse_v4(quote),
            Version::V6 => Self::parse_v6(quote),
        }
    }

    fn parse_v4(quote: &'a [u8]) -> Option<Self> {
        let header = quote.first_chunk::<20>()?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || header_len < 20 {
            return None;
        }
        let total_len = u16::from_be_bytes([header[2], header[3]]);
        let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        let protocol = header[9];
        let rest = quote.get(header_len..).unwrap_or_default();
        let rest = cut(quote, rest, header_len, usize::from(total_len));
        let (udp, payload) = transport(protocol, fragment_offset == 0, rest);
        Some(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol,
            ip_id: Some(u16::from_be_bytes([header[4], header[5]])),
            ttl: header[8],
            tos: header[1],
            total_len: u32::from(total_len),
            udp,
            payload,
        })
    }

    fn parse_v6(quote: &'a [u8]) -> Option<Self> {
        let (header, rest) = quote.split_first_chunk::<40>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let address = |at: usize| {
            let octets: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        };
        let total_len = 40 + u32::from(u16::from_be_bytes([header[4], header[5]]));
        let rest = cut(quote, rest, 40, usize::try_from(total_len).ok()?);
        let (protocol, first, rest) = past_extension_headers(header[6], rest);
        let (udp, payload) = transport(protocol, first, rest);
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            protocol,
            ip_id: None,
            ttl: header[7],
            tos: header[0] << 4 | header[1] >> 4,
            total_len,
            udp,
            payload,
        })
    }
}

/// `rest` of `quote` without what lies beyond the datagram's own length: padding up to 128
/// bytes, and extensions of routers that do not state a length. A length that cannot be
/// right, as some routers quote, is ignored.
fn cut<'a>(quote: &[u8], rest: &'a [u8], header_len: usize, total_len: usize) -> &'a [u8] {
    const UDP_HEADER_LEN: usize = 8;
    match total_len.checked_sub(header_len) {
        Some(len) if len >= UDP_HEADER_LEN => &rest[..len.min(rest.len())],
        _ if quote.len() > LEGACY_QUOTE_LEN => {
            let len = LEGACY_QUOTE_LEN.saturating_sub(header_len);
            &rest[..len.min(rest.len())]
        }
        _ => rest,
    }
}

/// The protocol behind IPv6 extension headers, whether this is the beginning of
/// its datagram (not a later fragment), and its bytes. Stops where the quote
/// ends.
fn past_extension_headers(first: u8, bytes: &[u8]) -> (u8, bool, &[u8]) {
    let (mut next, mut rest, mut beginning) = (first, bytes, true);
    while let HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS = next {
        let &[following, length, high, low, ..] = rest else {
            break;
        };
        let len = match next {
            FRAGMENT => {
                beginning &= u16::from_be_bytes([high, low]) & 0xfff8 == 0;
                8
            }
            // In units of four octets, less two (RFC 4302 section 2.2).
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        let Some(behind) = rest.get(len..) else {
            break;
        };
        (next, rest) = (following, behind);
        if !beginning {
            break;
        }
    }
    (next, beginning, rest)
}

fn transport(protocol: u8, beginning: bool, bytes: &[u8]) -> (Option<QuotedUdp>, &[u8]) {
    match bytes.split_first_chunk::<8>() {
        Some((header, payload)) if protocol == UDP && beginning => {
            let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
            let udp = QuotedUdp {
                source_port: field(0),
                destination_port: field(2),
                len: field(4),
                checksum: field(6),
            };
            (Some(udp), payload)
        }
        _ => (None, bytes),
    }
}
