//! What routers do to a frame: its TTL, its ports, and ICMP errors about it.

use std::net::Ipv4Addr;

const ETHERNET: usize = 14;
/// Of the offending packet an ICMP error quotes at most this much (RFC 1812).
const QUOTE: usize = 548;

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Time exceeded in transit.
    Expired,
    /// Fragmentation needed, and the next hop's MTU.
    TooBig(u16),
}

/// Which end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    /// Where its address is in the IP header.
    const fn at(self) -> usize {
        match self {
            Self::Source => 12,
            Self::Destination => 16,
        }
    }
}

/// Sets the addresses of the Ethernet header.
pub(super) fn readdress(frame: &mut [u8], to: [u8; 6], from: [u8; 6]) {
    if let Some(header) = frame.first_chunk_mut::<12>() {
        header[..6].copy_from_slice(&to);
        header[6..].copy_from_slice(&from);
    }
}

/// Sets the TTL and, incrementally, the header's checksum (RFC 1624).
pub(super) fn set_ttl(frame: &mut [u8], ttl: u8) {
    let Some(ip) = frame.get_mut(ETHERNET..ETHERNET + 20) else {
        return;
    };
    let old = u16::from_be_bytes([ip[8], ip[9]]);
    ip[8] = ttl;
    let new = u16::from_be_bytes([ip[8], ip[9]]);
    let sum = u16::from_be_bytes([ip[10], ip[11]]);
    ip[10..12].copy_from_slice(&renewed(sum, old, new).to_be_bytes());
}

/// Sets the UDP source port (`which` 0) or destination port (1), and the checksum.
pub(super) fn set_port(frame: &mut [u8], which: usize, port: u16) {
    let header = frame.get(ETHERNET).map_or(5, |b| usize::from(b & 0x0f)) * 4;
    let Some(udp) = frame.get_mut(ETHERNET + header..ETHERNET + header + 8) else {
        return;
    };
    let at = which * 2;
    let old = u16::from_be_bytes([udp[at], udp[at + 1]]);
    udp[at..at + 2].copy_from_slice(&port.to_be_bytes());
    let sum = u16::from_be_bytes([udp[6], udp[7]]);
    if sum != 0 {
        udp[6..8].copy_from_slice(&renewed(sum, old, port).to_be_bytes());
    }
}

/// The IP address of this end.
pub(super) fn address(frame: &[u8], end: End) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = *frame.get(ETHERNET + end.at()..)?.first_chunk()?;
    Some(Ipv4Addr::from(bytes))
}

/// Sets the IP address of this end, and the checksums that cover it: the header's and,
/// in a UDP datagram that has one, UDP's.
pub(super) fn set_address(frame: &mut [u8], end: End, to: Ipv4Addr) {
    let (Some(from), Some(ip)) = (address(frame, end), frame.get_mut(ETHERNET..)) else {
        return;
    };
    let words = |a: Ipv4Addr| {
        let [a, b, c, d] = a.octets();
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    };
    let (old, new) = (words(from), words(to));
    let follow = |bytes: &mut [u8], at: usize| {
        if let Some(sum) = bytes.get_mut(at..at + 2) {
            let mut value = u16::from_be_bytes([sum[0], sum[1]]);
            for (old, new) in old.into_iter().zip(new) {
                value = renewed(value, old, new);
            }
            sum.copy_from_slice(&value.to_be_bytes());
        }
    };
    follow(ip, 10);
    let udp = ip.first().map_or(20, |b| usize::from(b & 0x0f) * 4);
    let has_sum = ip.get(9) == Some(&17) && ip.get(udp + 6..udp + 8) != Some(&[0, 0]);
    if has_sum {
        follow(ip, udp + 6);
    }
    if let Some(place) = ip.get_mut(end.at()..end.at() + 4) {
        place.copy_from_slice(&to.octets());
    }
}

/// Whether the packet must not be fragmented.
pub(super) fn must_stay_whole(frame: &[u8]) -> bool {
    frame.get(ETHERNET + 6).is_some_and(|byte| byte & 0x40 != 0)
}

/// Length of the IP packet, without the Ethernet header and its padding.
pub(super) fn ip_length(frame: &[u8]) -> u16 {
    match frame.get(ETHERNET + 2..ETHERNET + 4) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

/// The router's ICMP error about `frame`, in a frame to whoever sent it.
pub(super) fn error(frame: &[u8], router: Ipv4Addr, trouble: Trouble) -> Option<Vec<u8>> {
    let ip = frame.get(ETHERNET..)?;
    let quoted = ip.get(..usize::from(ip_length(frame)).min(QUOTE).min(ip.len()))?;
    let sender = ip.get(12..16)?;
    let (kind, code, mtu) = match trouble {
        Trouble::Expired => (11, 0, 0),
        Trouble::TooBig(mtu) => (3, 4, mtu),
    };
    let mut icmp = vec![kind, code, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut out = Vec::with_capacity(ETHERNET + 20 + icmp.len());
    // Back to where it came from.
    out.extend(frame.get(6..12)?);
    out.extend(frame.get(..6)?);
    out.extend([0x08, 0x00, 0x45, 0xc0]);
    out.extend(u16::try_from(20 + icmp.len()).ok()?.to_be_bytes());
    out.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    out.extend(router.octets());
    out.extend(sender);
    let sum = checksum(&out[ETHERNET..]);
    out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    out.extend(icmp);
    Some(out)
}

/// The checksum `sum` after `old` has become `new`.
fn renewed(sum: u16, old: u16, new: u16) -> u16 {
    !folded(u32::from(!sum) + u32::from(!old) + u32::from(new))
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    !folded(words.sum())
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ETHERNET, End, Trouble, address, checksum, error, set_address, set_port, set_ttl};
    use std::net::Ipv4Addr;

    /// A probe from 10.1.0.10:50000, with its header's checksum.
    pub(in super::super) fn frame(ttl: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 10, 0x08, 0x00];
        frame.extend([0x45, 0]);
        frame.extend(u16::try_from(length).expect("short").to_be_bytes());
        frame.extend([0, 1, 0x40, 0, ttl, 17, 0, 0, 10, 1, 0, 10, 10, 2, 0, 10]);
        let sum = checksum(&frame[ETHERNET..]);
        frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        frame.extend([0xc3, 0x50, 0x03, 0x5e]);
        frame.extend(u16::try_from(length - 20).expect("short").to_be_bytes());
        frame.extend([0x12, 0x34]);
        frame.resize(ETHERNET + length, 1);
        frame
    }

    fn header_is_right(frame: &[u8]) -> bool {
        checksum(&frame[ETHERNET..ETHERNET + 20]) == 0
    }

    #[test]
    fn the_checksum_follows_the_ttl() {
        for ttl in [255, 64, 2] {
            let mut frame = frame(ttl, 72);
            assert!(header_is_right(&frame));
            set_ttl(&mut frame, ttl - 1);
            assert!(header_is_right(&frame), "{ttl}");
        }
    }

    #[test]
    fn the_checksum_follows_the_port() {
        let mut frame = frame(64, 72);
        let sum = |f: &[u8]| checksum(&f[ETHERNET + 20..]);
        let before = sum(&frame);
        set_port(&mut frame, 0, 60_000);
        assert_eq!(sum(&frame), before);
        assert_eq!(&frame[ETHERNET + 20..ETHERNET + 22], &[0xea, 0x60]);
    }

    #[test]
    fn the_checksums_follow_the_address() {
        let mut frame = frame(64, 72);
        // The sum over the datagram and the addresses is UDP's, up to its constant part.
        let sum = |f: &[u8]| checksum(&f[ETHERNET + 12..]);
        let before = sum(&frame);
        for (end, to) in [
            (End::Source, Ipv4Addr::new(100, 64, 2, 1)),
            (End::Destination, Ipv4Addr::new(10, 1, 0, 10)),
        ] {
            set_address(&mut frame, end, to);
            assert_eq!(address(&frame, end), Some(to));
            assert!(header_is_right(&frame), "{end:?}");
            assert_eq!(sum(&frame), before, "{end:?}");
        }
    }

    #[test]
    fn an_error_quotes_the_packet_and_is_whole() {
        let frame = frame(1, 72);
        let router = Ipv4Addr::new(172, 16, 1, 1);
        let error = error(&frame, router, Trouble::TooBig(1450)).expect("an error");
        assert!(header_is_right(&error));
        assert_eq!(checksum(&error[ETHERNET + 20..]), 0);
        assert_eq!(&error[ETHERNET + 28..], &frame[ETHERNET..]);
        assert_eq!(&error[..6], &frame[6..12]);
    }
}
