use super::*;
use crate::clock::Clock;
use crate::link::PacketSocket;
use crate::namespace;
use crate::probe::{ProbeOptions, ProbeSocket};
use crate::timer::sleep_until;
use hopgap_proto::time::Span;

const PAYLOAD: &[u8] = b"traceroute";

/// A UDP packet from port 40000 as [`RawSender`] takes it.
fn packet(from: IpAddr, to: IpAddr, port: u16, ttl: u8, tos: u8) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(40_000u16.to_be_bytes());
    udp.extend(port.to_be_bytes());
    udp.extend(18u16.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(PAYLOAD);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut ip = vec![0x45, tos, 0, 0, 0x12, 0x34, 0, 0, ttl, 17, 0, 0];
            ip.extend(from.octets());
            ip.extend(to.octets());
            ip.extend(udp);
            ip
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut sum: u32 = 17 + 18;
            let addresses = [from.octets(), to.octets()].concat();
            for pair in addresses.chunks(2).chain(udp.chunks(2)) {
                sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            udp[6..8].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
            udp
        }
        _ => unreachable!("two families"),
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let deadline = Clock::now() + Span::from_nanos(5_000_000_000);
    while !done() {
        assert!(Clock::now() < deadline, "nothing came");
        sleep_until(Clock::now() + Span::from_nanos(100_000), false);
    }
}

#[test]
fn a_built_packet_arrives_as_built_and_its_errors_come_back_whole() {
    namespace::inside(|| {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let family = Family::from(ip);
            let mut raw = RawSender::open(family, TxStamps::Sent).unwrap();
            let mut icmp = IcmpSocket::open(family).unwrap();
            let local = SocketAddr::new(ip, 0);
            let mut target = ProbeSocket::open(&ProbeOptions::reflector(local)).unwrap();
            let port = target.local_addr().unwrap().port();

            let mut send = |port, ttl, tos| {
                let bytes = packet(ip, ip, port, ttl, tos);
                let before = Clock::wall();
                let packet = RawPacket {
                    bytes: &bytes,
                    from: ip,
                    to: ip,
                    ttl,
                    tos,
                };
                let token = raw.send(&packet).unwrap();
                let mut stamped = None;
                until(|| {
                    raw.drain_errors(|message| {
                        if let ErrorMessage::TxStamp {
                            token: of, stamp, ..
                        } = message
                        {
                            assert_eq!(of, token);
                            stamped = Some(stamp);
                        }
                    })
                    .unwrap();
                    stamped.is_some()
                });
                assert!(stamped >= Some(before));
                stamped
            };

            let sent = send(port, 9, 0x20);
            let mut arrived = false;
            until(|| {
                target
                    .recv_batch(|received| {
                        assert_eq!(received.bytes, PAYLOAD);
                        assert_eq!(received.from, SocketAddr::new(ip, 40_000));
                        assert_eq!((received.ttl, received.tos), (Some(9), Some(0x20)));
                        assert!(received.stamp >= sent);
                        arrived = true;
                    })
                    .unwrap();
                arrived
            });

            // Port 1 is closed in the namespace: unreachable, with our packet in it.
            let sent = send(1, 9, 0);
            let mut errors = 0;
            until(|| {
                icmp.recv_batch(|received| {
                    let message = match family {
                        Family::V4 => &received.packet[20..],
                        Family::V6 => received.packet,
                    };
                    let expected: &[u8] = if family == Family::V4 {
                        &[3, 3]
                    } else {
                        &[1, 4]
                    };
                    assert_eq!(&message[..2], expected);
                    assert!(message.windows(PAYLOAD.len()).any(|part| part == PAYLOAD));
                    assert_eq!(received.from, ip);
                    assert!(received.ttl.is_some());
                    assert!(received.stamp.is_some() && received.stamp >= sent);
                    errors += 1;
                })
                .unwrap();
                errors > 0
            });
            assert_eq!(errors, 1);
        }
    });
}

#[test]
fn routers_cannot_tell_a_traceroute_from_its_probe() {
    namespace::inside(|| {
        namespace::veth("probe", "far");
        namespace::ip("address add 10.1.11.10/24 dev probe");
        namespace::ip("address add fd00:11::10/64 dev probe nodad");
        for (from, to) in [("10.1.11.10", "10.1.11.11"), ("fd00:11::10", "fd00:11::11")] {
            namespace::ip(&format!(
                "neighbour add {to} lladdr 02:00:00:00:00:01 dev probe"
            ));
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let family = Family::from(from);
            let mut wire = PacketSocket::open("far").unwrap();
            let mut options = ProbeOptions::sender(SocketAddr::new(from, 40_000));
            options.tos = 0x28;
            let mut probe = ProbeSocket::open(&options).unwrap();
            let mut raw = RawSender::open(family, TxStamps::Off).unwrap();

            probe.send_to(PAYLOAD, SocketAddr::new(to, 862)).unwrap();
            let bytes = packet(from, to, 862, 255, 0x28);
            raw.send(&RawPacket {
                bytes: &bytes,
                from,
                to,
                ttl: 255,
                tos: 0x28,
            })
            .unwrap();

            let mut frames = Vec::new();
            until(|| {
                wire.recv_batch(|frame, _| {
                    if frame.ends_with(PAYLOAD) {
                        frames.push(frame.to_vec());
                    }
                })
                .unwrap();
                frames.len() == 2
            });
            for frame in &mut frames {
                // These fields differ, and no router hashes them: IPv4's identification and
                // header checksum, and the UDP checksum.
                if family == Family::V4 {
                    frame[18..20].fill(0);
                    frame[24..26].fill(0);
                }
                let udp = frame.len() - PAYLOAD.len() - 8;
                frame[udp + 6..udp + 8].fill(0);
            }
            assert_eq!(frames[0], frames[1]);
            if family == Family::V6 {
                assert_eq!(frames[0][14..18], [0x62, 0x80, 0, 0], "class 0x28, label 0");
            }
        }
    });
}

#[test]
fn pings_do_not_pass_the_filter() {
    namespace::inside(|| {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let family = Family::from(ip);
            let mut icmp = IcmpSocket::open(family).unwrap();
            // An echo request, which the kernel answers: both would be seen unfiltered.
            let ping = Socket::new(family.domain(), Type::RAW, Some(family.icmp())).unwrap();
            let mut echo = match family {
                Family::V4 => [8, 0, 0xf7, 0xff, 0, 0, 0, 0],
                Family::V6 => [128, 0, 0, 0, 0, 0, 0, 0],
            };
            ping.send_to(&echo, &SocketAddr::new(ip, 0).into()).unwrap();
            ping.set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            io::Read::read(&mut &ping, &mut echo).expect("request or reply is seen unfiltered");
            assert_eq!(icmp.recv_batch(|_| panic!("a ping passed")).unwrap(), 0);
        }
    });
}

#[test]
fn a_missing_route_refuses() {
    namespace::inside(|| {
        for (from, to) in [("127.0.0.1", "10.9.9.9"), ("::1", "fd00:9::9")] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let mut raw = RawSender::open(Family::from(to), TxStamps::Off).unwrap();
            let bytes = packet(from, to, 1, 1, 0);
            let refused = raw.send(&RawPacket {
                bytes: &bytes,
                from,
                to,
                ttl: 1,
                tos: 0,
            });
            assert_eq!(
                refused,
                Err(Refusal {
                    errno: libc::ENETUNREACH
                })
            );
        }
    });
}

#[test]
fn a_missing_capability_names_the_remedy() {
    let error = NetError::raw(
        "a raw ICMPv4 socket for traceroute",
        io::Error::from_raw_os_error(libc::EPERM),
    );
    assert_eq!(
        error.to_string(),
        "a raw ICMPv4 socket for traceroute needs the capability CAP_NET_RAW: run \
         `sudo setcap cap_net_raw+p $(command -v hopgap-agent)`, or start as root"
    );
}
