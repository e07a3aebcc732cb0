use crate::reflector::{Datagram, Rate, ReflectedSession, Reflector, ReflectorConfig, Verdict};
use hopgap_proto::icmp::{IcmpError, Version};
use hopgap_proto::record::{
    Event, EventKind, FlowIndex, IcmpEvidence, Stamp, StampSource, UnfitIcmp,
};
use hopgap_proto::stamp::{
    ErrorEstimate, Mode, SenderPacket, Seq, Ssid, Timestamp, TimestampFormat, tlv::Writer,
};
use hopgap_proto::time::{Mono, Span, Wall};
use std::net::{IpAddr, SocketAddr};

const WALL: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
const ROUTER: &str = "10.0.1.1";
const HERE: &str = "10.0.1.2:862";
const THERE: &str = "10.0.0.1:50001";

fn at(ms: i64) -> Mono {
    Mono::from_nanos(1_000_000_000) + Span::from_millis(1) * ms
}

fn estimate() -> ErrorEstimate {
    ErrorEstimate::from_error(Span::from_millis(1), TimestampFormat::Ntp)
}

fn reflector() -> Reflector {
    let mut config = ReflectorConfig::new(862, estimate());
    config.sessions = vec![ReflectedSession {
        name: "a-b".parse().unwrap(),
        from: "10.0.0.1".parse().unwrap(),
        reflector_port: 862,
        source_port: 50_000,
        ssid: Ssid(100),
        flows: 8,
        keys: None,
        rate: Rate { per_second: 1_000 },
    }];
    Reflector::new(config)
}

/// A request of the session's flow 1, as long as an IP packet of `size` has room for.
fn request(seq: u32, ssid: u16, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Mode::Open)
        .pad(size - 28 - 48)
        .unwrap();
    let packet = SenderPacket {
        sequence: Seq(seq),
        timestamp: Timestamp::from_wall(WALL, TimestampFormat::Ntp),
        error_estimate: estimate(),
        ssid: Ssid(ssid),
    };
    packet.write(Mode::Open, &mut bytes).unwrap();
    bytes
}

fn answer(reflector: &mut Reflector, bytes: &[u8], ms: i64) -> Vec<u8> {
    let datagram = Datagram {
        bytes,
        from: THERE.parse().unwrap(),
        to: HERE.parse().unwrap(),
        ttl: Some(254),
        tos: Some(0),
        received: Stamp {
            at: at(ms),
            source: StampSource::Kernel,
        },
        received_wall: WALL,
    };
    let mut reply = Vec::new();
    let verdict = reflector.handle(&datagram, WALL, &mut reply);
    assert!(matches!(verdict, Verdict::Reply { .. }), "{verdict:?}");
    reply
}

/// 'Fragmentation needed' that quotes the reply so far, as a router makes it.
fn too_big(reply: &[u8], quoted: usize, mtu: u16) -> Vec<u8> {
    let [from, to]: [SocketAddr; 2] = [HERE, THERE].map(|a| a.parse().unwrap());
    let octets = |a: SocketAddr| match a.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => unreachable!("IPv4 here"),
    };
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend([0x45, 0]);
    message.extend(length(28 + reply.len()));
    message.extend([0x12, 0x34, 0x40, 0, 254, 17, 0, 0]);
    message.extend(octets(from));
    message.extend(octets(to));
    let mut udp = Vec::new();
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(length(8 + reply.len()));
    udp.extend([0, 0]);
    udp.extend(reply);
    let mut pseudo = [&octets(from)[..], &octets(to), &[0, 17], &length(udp.len())].concat();
    pseudo.extend(&udp);
    if pseudo.len() % 2 == 1 {
        pseudo.push(0);
    }
    let mut sum: u32 = pseudo
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    udp[6..8].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    message.extend(&udp[..quoted.min(udp.len())]);
    message
}

fn hear(reflector: &mut Reflector, message: &[u8], ms: i64) {
    let error = IcmpError::parse(Version::V4, message).unwrap();
    reflector.handle_icmp(ROUTER.parse().unwrap(), &error, at(ms));
}

fn told(reflector: &mut Reflector) -> Vec<Event> {
    std::iter::from_fn(|| reflector.poll_size_event())
        .inspect(|(name, _)| assert_eq!(name.as_str(), "a-b"))
        .map(|(_, event)| event)
        .collect()
}

#[test]
fn a_size_that_arrives_is_recorded_and_what_is_said_of_its_reply() {
    let mut reflector = reflector();
    // A probe, and a traceroute packet: no sizes.
    answer(&mut reflector, &request(5, 101, 100), 0);
    answer(&mut reflector, &request(0x8000_0105, 0x8000 | 101, 100), 0);
    assert_eq!(told(&mut reflector), []);

    let seq = 0x8000_02ff;
    let reply = answer(&mut reflector, &request(seq, 0x8000 | 101, 1500), 1);
    let (flow, seq) = (FlowIndex(1), Seq(seq));
    let kind = EventKind::SizeProbeArrived {
        flow,
        seq,
        bytes: 1500,
    };
    assert_eq!(told(&mut reflector), [Event { at: at(1), kind }]);

    // As Linux quotes it.
    hear(&mut reflector, &too_big(&reply, 548, 1400), 2);
    let kind = EventKind::Icmp(IcmpEvidence {
        flow,
        seq: Some(seq),
        from: ROUTER.parse().unwrap(),
        icmp_type: 3,
        code: 4,
        mtu: Some(1400),
    });
    assert_eq!(told(&mut reflector), [Event { at: at(2), kind }]);
}

#[test]
fn a_forged_too_big_is_counted_and_no_evidence() {
    let mut reflector = reflector();
    let bytes = request(0x8000_02ff, 0x8000 | 101, 1500);
    let reply = answer(&mut reflector, &bytes, 1);
    told(&mut reflector);
    let mut other = reply.clone();
    other[11] ^= 1;
    // A wrong time in the payload, no payload in the quote, an MTU with room for the reply.
    hear(&mut reflector, &too_big(&other, 548, 1400), 2);
    hear(&mut reflector, &too_big(&reply, 8, 1400), 2);
    hear(&mut reflector, &too_big(&reply, 548, 1600), 2);
    assert_eq!(told(&mut reflector), []);
    reflector.handle_timeout(at(1_000));
    let what = UnfitIcmp::TooBig;
    let kind = EventKind::UnfitIcmp { what, count: 3 };
    let unfit = Event {
        at: at(1_000),
        kind,
    };
    assert_eq!(told(&mut reflector), [unfit]);
}

#[test]
fn a_flood_of_sizes_does_not_fill_the_spool() {
    let mut reflector = reflector();
    for i in 0..500 {
        answer(
            &mut reflector,
            &request(0x8000_00ff | i << 8, 0x8000 | 101, 200),
            1,
        );
    }
    assert_eq!(told(&mut reflector).len(), 128);
    answer(
        &mut reflector,
        &request(0x8fff_ffff, 0x8000 | 101, 200),
        1_001,
    );
    assert_eq!(told(&mut reflector).len(), 1);
}
