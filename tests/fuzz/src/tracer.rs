//! What the target of the traceroute does with its bytes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use hopgap_engine::secret::Secret;
use hopgap_engine::tracer::{IcmpOutcome, Tracer, TracerConfig};
use hopgap_proto::icmp::{IcmpError, Version, ipv4_payload};
use hopgap_proto::record::FlowIndex;
use hopgap_proto::stamp::{ErrorEstimate, Ssid, TimestampFormat};
use hopgap_proto::time::{Mono, Span, Wall};

const FLOWS: u8 = 3;

/// What a raw socket gives while a traceroute is under way: two bytes of length and
/// an ICMP message, as often as there is more. A single byte stands for a true answer to
/// the packet of that number among those of the turn: nobody makes one up.
pub(crate) fn tracer(bytes: &[u8]) {
    for version in [Version::V4, Version::V6] {
        trace(version, bytes);
    }
}

fn trace(version: Version, bytes: &[u8]) {
    let (source, target): (IpAddr, IpAddr) = match version {
        Version::V4 => (
            Ipv4Addr::new(10, 1, 11, 10).into(),
            Ipv4Addr::new(10, 17, 11, 132).into(),
        ),
        Version::V6 => (
            Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1).into(),
        ),
    };
    let mut tracer = Tracer::new(TracerConfig {
        origin: Mono::from_nanos(0),
        interval: Span::from_secs(1),
        flows: FLOWS,
        source: (source, 50_000).into(),
        target: (target, 862).into(),
        ssid: Ssid(100),
        keys: None,
        error_estimate: ErrorEstimate::from_error(Span::from_millis(1), TimestampFormat::Ntp),
        dscp: 46,
        max_ttl: 30,
        attempts: 3,
        wait: Span::from_millis(100),
        secret: Secret::new([7; 16]),
    });
    let (mut payload, mut packet) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    let mut now = Mono::from_nanos(0);
    let wall = Wall::from_nanos(1_790_000_000_000_000_000);
    for _ in 0..64 {
        let mut quotes: Vec<Vec<u8>> = Vec::new();
        while let Some(sent) = tracer.poll_transmit(now, wall, &mut payload) {
            tracer.write_raw(&sent, &payload, &mut packet);
            assert!(packet.len() > payload.len());
            tracer.handle_sent(sent.flow, sent.seq, now);
            quotes.push(true_answer(version, &packet));
        }
        if let Some((length, more)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
            let (message, more) = more.split_at(length);
            rest = more;
            let truly = message.first().filter(|_| message.len() == 1);
            let truly = truly.and_then(|n| quotes.get(usize::from(*n)));
            if let (Some(message), Version::V4) = (truly, version)
                && let Ok(error) = IcmpError::parse(version, message)
            {
                let heard = tracer.handle_raw_icmp(source, &error, now);
                assert!(matches!(heard, IcmpOutcome::Answer(flow) if flow < FlowIndex(FLOWS)));
            }
            let (from, message) = match ipv4_payload(message) {
                Some((from, message)) if version == Version::V4 => (from.into(), message),
                _ => (source, message),
            };
            if let Ok(error) = IcmpError::parse(version, message) {
                let heard = tracer.handle_raw_icmp(from, &error, now);
                assert!(!matches!(heard, IcmpOutcome::Answer(flow) if flow >= FlowIndex(FLOWS)));
            }
        }
        now += Span::from_millis(50);
        tracer.handle_timeout(now);
        while let Some(trace) = tracer.poll_trace() {
            assert!(trace.flow < FlowIndex(FLOWS));
            assert!(trace.hops.len() <= 30);
        }
    }
}

/// 'Time exceeded' with the whole packet.
fn true_answer(version: Version, packet: &[u8]) -> Vec<u8> {
    let kind = match version {
        Version::V4 => 11,
        Version::V6 => 3,
    };
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(packet);
    message
}
