//! As much of a frame as a wire has to understand.

use crate::wire::log::{Flow, Stamp};
use std::net::{Ipv4Addr, SocketAddrV4};

const ETHERNET: usize = 14;
const UDP: u8 = 17;
/// STAMP's port (RFC 8762, section 4.1).
const STAMP_PORT: u16 = 862;

/// An IPv4 packet in its Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ttl: u8,
    protocol: u8,
    fragment: bool,
    payload: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(u32_at(bytes, at)?))
}

impl<'a> Frame<'a> {
    /// `None` for anything but IPv4.
    pub(crate) fn parse(frame: &'a [u8]) -> Option<Self> {
        if u16_at(frame, 12)? != 0x0800 {
            return None;
        }
        let ip = frame.get(ETHERNET..)?;
        let header = usize::from(ip.first()? & 0x0f) * 4;
        let total = usize::from(u16_at(ip, 2)?);
        Some(Self {
            source: address_at(ip, 12)?,
            destination: address_at(ip, 16)?,
            ttl: *ip.get(8)?,
            protocol: *ip.get(9)?,
            fragment: u16_at(ip, 6)? & 0x1fff != 0,
            payload: ip.get(header..total)?,
        })
    }

    /// Whether it goes between the on-premises LAN and the virtual networks.
    pub(crate) fn is_data(&self) -> bool {
        let lan = |address: Ipv4Addr| address.octets()[..3] == [10, 1, 11];
        let azure = |address: Ipv4Addr| address.octets()[..3] == [10, 17, 11];
        (lan(self.source) && azure(self.destination))
            || (azure(self.source) && lan(self.destination))
    }

    /// As it is on the wire.
    pub(crate) fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Source and destination port of a UDP datagram that is no later fragment.
    pub(crate) fn ports(&self) -> Option<(u16, u16)> {
        if self.protocol != UDP || self.fragment {
            return None;
        }
        Some((u16_at(self.payload, 0)?, u16_at(self.payload, 2)?))
    }

    /// What a STAMP packet says of itself, by RFC 8762's layout.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let (from, to) = self.ports()?;
        if from != STAMP_PORT && to != STAMP_PORT {
            return None;
        }
        let stamp = self.payload.get(8..)?;
        // A timestamp is never zero; the authenticated form has zeroes in its place.
        let authenticated = stamp.len() >= 112 && stamp.get(4..16)?.iter().all(|byte| *byte == 0);
        let (ssid, echo) = if authenticated { (26, 48) } else { (14, 24) };
        Some(Stamp {
            flow: Flow {
                source: SocketAddrV4::new(self.source, from),
                destination: SocketAddrV4::new(self.destination, to),
                ssid: u16_at(stamp, ssid).unwrap_or(0),
            },
            seq: u32_at(stamp, 0)?,
            echo: if from == STAMP_PORT {
                u32_at(stamp, echo)
            } else {
                None
            },
            ttl: self.ttl,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(
            u16::try_from(28 + payload.len())
                .expect("short")
                .to_be_bytes(),
        );
        frame.extend([0, 1, 0x40, 0, 255, 17, 0, 0]);
        frame.extend(source);
        frame.extend(destination);
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(payload);
        // The kernel pads short frames on real links.
        frame.extend([0; 6]);
        frame
    }

    #[test]
    fn reads_requests_and_replies_in_both_modes() {
        let mut plain = [0; 44];
        plain[..4].copy_from_slice(&7_u32.to_be_bytes());
        plain[4..12].fill(1);
        plain[14..16].copy_from_slice(&300_u16.to_be_bytes());
        plain[24..28].copy_from_slice(&9_u32.to_be_bytes());
        let request = udp([10, 1, 11, 10], [10, 17, 11, 132], (50_000, 862), &plain);
        let stamp = Frame::parse(&request)
            .and_then(|f| f.stamp())
            .expect("a request");
        assert_eq!(
            (stamp.seq, stamp.flow.ssid, stamp.echo, stamp.ttl),
            (7, 300, None, 255)
        );
        assert_eq!(stamp.flow.source.to_string(), "10.1.11.10:50000");
        let reply = udp([10, 17, 11, 132], [10, 1, 11, 10], (862, 50_000), &plain);
        let stamp = Frame::parse(&reply)
            .and_then(|f| f.stamp())
            .expect("a reply");
        assert_eq!((stamp.seq, stamp.echo), (7, Some(9)));

        let mut sealed = [0; 112];
        sealed[..4].copy_from_slice(&7_u32.to_be_bytes());
        sealed[16..24].fill(1);
        sealed[26..28].copy_from_slice(&300_u16.to_be_bytes());
        sealed[48..52].copy_from_slice(&9_u32.to_be_bytes());
        let reply = udp([10, 17, 11, 132], [10, 1, 11, 10], (862, 50_000), &sealed);
        let stamp = Frame::parse(&reply)
            .and_then(|f| f.stamp())
            .expect("a sealed reply");
        assert_eq!((stamp.seq, stamp.flow.ssid, stamp.echo), (7, 300, Some(9)));
    }

    #[test]
    fn only_what_goes_end_to_end_is_data() {
        let is_data = |source, destination| {
            let frame = udp(source, destination, (1, 2), &[]);
            Frame::parse(&frame).expect("IPv4").is_data()
        };
        assert!(is_data([10, 1, 11, 10], [10, 17, 11, 132]));
        assert!(is_data([10, 17, 11, 132], [10, 1, 11, 10]));
        assert!(!is_data([192, 168, 11, 18], [10, 1, 11, 10]));
        assert!(!is_data([192, 168, 11, 17], [192, 168, 11, 18]));
    }

    #[test]
    fn anything_else_and_anything_short_is_left_alone() {
        let whole = udp([10, 1, 11, 10], [10, 17, 11, 132], (50_000, 862), &[1; 44]);
        for length in 0..whole.len() {
            let _ = Frame::parse(&whole[..length]).map(|frame| frame.stamp());
        }
        assert!(Frame::parse(&whole[..40]).is_none());
        let other = udp([10, 1, 11, 10], [10, 17, 11, 132], (50_000, 53), &[1; 44]);
        assert!(Frame::parse(&other).expect("IPv4").stamp().is_none());
    }
}
