//! ICMP errors and the datagrams they quote: RFC 792, RFC 4443, RFC 4884.
//!
//! A router that drops a probe may send an ICMP error, which quotes the beginning of the
//! dropped packet. The quote tells which probe it was.

mod quote;

pub use quote::{QuotedDatagram, QuotedUdp};

use core::net::IpAddr;

/// Size of an ICMP header, of both versions.
const HEADER_LEN: usize = 8;
/// Where extensions begin, if a router from before RFC 4884 appended them without a length
/// (RFC 4884 section 5).
const LEGACY_QUOTE_LEN: usize = 128;

/// The two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 792.
    V4,
    /// RFC 4443.
    V6,
}

impl Version {
    /// The version of `address`.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpErrorKind {
    /// The hop count ran out at the sender of this error, as traceroute intends. (Code 0; the
    /// other code is a reassembly timeout, [`Self::Other`].)
    TimeExceeded,
    /// The datagram cannot be delivered, for the reason in [`IcmpError::code`].
    DestinationUnreachable(Unreachable),
    /// The datagram is larger than the next link takes: ICMPv6 Packet Too Big,
    /// or ICMPv4's unreachable code 4.
    PacketTooBig {
        /// The largest that it does take; zero from routers that do not say.
        mtu: u32,
    },
    /// Another error: parameter problem, redirect, source quench.
    Other,
}

/// Why a destination is unreachable, in reasons that both protocols share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// There is no route: the sender of this error lost it.
    Network,
    /// The last router cannot reach the host.
    Host,
    /// Nobody listens there: the destination itself says so.
    Port,
    /// A firewall forbids it.
    Prohibited,
    /// Anything else.
    Other,
}

/// An ICMP error. Who sent it is in the IP header before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError<'a> {
    /// What it says.
    pub kind: IcmpErrorKind,
    /// Its type on the wire, whose meaning depends on the version.
    pub icmp_type: u8,
    /// Its code on the wire.
    pub code: u8,
    /// The beginning of the datagram that it is about.
    pub quoted: QuotedDatagram<'a>,
}

/// An ICMP message that is no error, or not a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcmpParseError {
    /// It is shorter than an ICMP header.
    #[error("{0} bytes are too few for an ICMP message")]
    TooShort(usize),
    /// It is a query or an answer, such as an echo reply.
    #[error("ICMP type {0} is no error")]
    NotAnError(u8),
    /// The quote ends before the addresses do, or is of another protocol.
    #[error("the ICMP error does not quote an IP header")]
    NoQuote,
}

impl<'a> IcmpError<'a> {
    /// Reads an ICMP message, without the IP header before it (see
    /// [`ipv4_payload`]). Checksums are left to the kernel. Extensions (RFC
    /// 4884), where there are any, are cut off and ignored.
    ///
    /// # Errors
    /// Where the message is no error, or quotes too little to identify the packet.
    pub fn parse(version: Version, message: &'a [u8]) -> Result<Self, IcmpParseError> {
        let (header, body) = message
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(IcmpParseError::TooShort(message.len()))?;
        let &[icmp_type, code, _, _, fifth, sixth, seventh, eighth] = header;
        let (kind, quote_len) = match version {
            Version::V4 => {
                let mtu = u32::from(u16::from_be_bytes([seventh, eighth]));
                let kind = kind_v4(icmp_type, code, mtu)?;
                (
                    kind,
                    has_length_v4(icmp_type).then_some(usize::from(sixth) * 4),
                )
            }
            Version::V6 => {
                let mtu = u32::from_be_bytes([fifth, sixth, seventh, eighth]);
                let kind = kind_v6(icmp_type, code, mtu)?;
                (
                    kind,
                    has_length_v6(icmp_type).then_some(usize::from(fifth) * 8),
                )
            }
        };
        let quoted = match quote_len {
            // Cut off the extensions. If the length is beyond the message, the message was
            // cut off on its way here.
            Some(len) if len > 0 => &body[..len.min(body.len())],
            Some(_) | None => body,
        };
        let quoted = QuotedDatagram::parse(version, quoted).ok_or(IcmpParseError::NoQuote)?;
        Ok(Self {
            kind,
            icmp_type,
            code,
            quoted,
        })
    }
}

fn kind_v4(icmp_type: u8, code: u8, mtu: u32) -> Result<IcmpErrorKind, IcmpParseError> {
    Ok(match (icmp_type, code) {
        (3, 4) => IcmpErrorKind::PacketTooBig { mtu },
        (3, code) => IcmpErrorKind::DestinationUnreachable(match code {
            0 | 6 | 11 => Unreachable::Network,
            1 | 7 | 12 => Unreachable::Host,
            3 => Unreachable::Port,
            9 | 10 | 13 => Unreachable::Prohibited,
            _ => Unreachable::Other,
        }),
        (11, 0) => IcmpErrorKind::TimeExceeded,
        (4 | 5 | 11 | 12, _) => IcmpErrorKind::Other,
        _ => return Err(IcmpParseError::NotAnError(icmp_type)),
    })
}

fn kind_v6(icmp_type: u8, code: u8, mtu: u32) -> Result<IcmpErrorKind, IcmpParseError> {
    Ok(match (icmp_type, code) {
        (1, code) => IcmpErrorKind::DestinationUnreachable(match code {
            0 => Unreachable::Network,
            3 => Unreachable::Host,
            4 => Unreachable::Port,
            1 | 5 | 6 => Unreachable::Prohibited,
            _ => Unreachable::Other,
        }),
        (2, _) => IcmpErrorKind::PacketTooBig { mtu },
        (3, 0) => IcmpErrorKind::TimeExceeded,
        // Section 2.1: types below 128 are errors.
        (3..128, _) => IcmpErrorKind::Other,
        _ => return Err(IcmpParseError::NotAnError(icmp_type)),
    })
}

/// RFC 4884 section 4: the types that may carry extensions, and so a length.
const fn has_length_v4(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 11 | 12)
}

const fn has_length_v6(icmp_type: u8) -> bool {
    matches!(icmp_type, 1 | 3)
}

/// The source address and the payload of an IPv4 packet as a raw socket gives
/// it, with its header. `None` where it is no whole IPv4 header.
pub fn ipv4_payload(packet: &[u8]) -> Option<(core::net::Ipv4Addr, &[u8])> {
    let header = packet.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let source = core::net::Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    Some((source, packet.get(header_len..)?))
}

#[cfg(test)]
mod tests;
