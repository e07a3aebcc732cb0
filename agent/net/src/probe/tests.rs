use super::*;
use crate::clock::Clock;
use crate::namespace;
use crate::timer::{Ready, wait};
use crate::token::Tokens;
use hopgap_proto::time::Span;
use std::collections::BTreeMap;
use std::net::UdpSocket;

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

fn sender(local: &str) -> ProbeSocket {
    ProbeSocket::open(&ProbeOptions::sender(local.parse().unwrap())).unwrap()
}

fn reflector(local: &str) -> ProbeSocket {
    ProbeSocket::open(&ProbeOptions::reflector(local.parse().unwrap())).unwrap()
}

/// An owned copy of what was received.
#[derive(Clone, Debug)]
struct Got {
    bytes: Vec<u8>,
    truncated: bool,
    from: SocketAddr,
    to: Option<IpAddr>,
    ttl: Option<u8>,
    tos: Option<u8>,
    stamp: Wall,
    overflowed: u32,
}

fn receive(socket: &mut ProbeSocket, wanted: usize) -> Vec<Got> {
    let mut all = Vec::new();
    let deadline = Clock::now() + Span::from_nanos(5_000_000_000);
    while all.len() < wanted && Clock::now() < deadline {
        wait(Some(deadline), &[socket.as_fd()], &mut [Ready::NONE]).unwrap();
        socket
            .recv_batch(|r| {
                all.push(Got {
                    bytes: r.bytes.to_vec(),
                    truncated: r.truncated,
                    from: r.from,
                    to: r.to,
                    ttl: r.ttl,
                    tos: r.tos,
                    stamp: r.stamp.expect("a kernel stamp"),
                    overflowed: r.overflowed,
                });
            })
            .unwrap();
    }
    assert_eq!(all.len(), wanted);
    all
}

#[derive(Debug)]
struct GotIcmp {
    origin: Origin,
    icmp_type: u8,
    code: u8,
    mtu: Option<u32>,
    offender: Option<IpAddr>,
    dest: SocketAddr,
    payload: Vec<u8>,
    stamp: Option<Wall>,
}

#[derive(Default)]
struct Drained {
    sent: BTreeMap<u32, Wall>,
    scheduled: BTreeMap<u32, Wall>,
    icmp: Vec<GotIcmp>,
}

/// Drains until `enough`, or 5 s.
fn drain(socket: &mut ProbeSocket, enough: impl Fn(&Drained) -> bool) -> Drained {
    let mut drained = Drained::default();
    let deadline = Clock::now() + Span::from_nanos(5_000_000_000);
    while !enough(&drained) && Clock::now() < deadline {
        let soon = Clock::now() + Span::from_nanos(1_000_000);
        wait(Some(soon), &[socket.as_fd()], &mut [Ready::NONE]).unwrap();
        socket
            .drain_errors(|message| match message {
                ErrorMessage::TxStamp { token, stamp, kind } => {
                    let stamps = match kind {
                        TxKind::Sent => &mut drained.sent,
                        TxKind::Scheduled => &mut drained.scheduled,
                    };
                    assert_eq!(stamps.insert(token.0, stamp), None, "stamped twice");
                }
                ErrorMessage::Icmp(icmp) => drained.icmp.push(GotIcmp {
                    origin: icmp.origin,
                    icmp_type: icmp.icmp_type,
                    code: icmp.code,
                    mtu: icmp.mtu,
                    offender: icmp.offender,
                    dest: icmp.dest,
                    payload: icmp.payload.to_vec(),
                    stamp: icmp.stamp,
                }),
            })
            .unwrap();
    }
    assert!(enough(&drained), "not all has come");
    drained
}

#[test]
fn stamps_of_both_ends_arrive_in_order() {
    for local in [V4, V6] {
        let mut to = reflector(local);
        let mut options = ProbeOptions::sender(local.parse().unwrap());
        options.tx_stamps = TxStamps::SentAndScheduled;
        options.tos = 46 << 2;
        let mut from = ProbeSocket::open(&options).unwrap();
        let dest = to.local_addr().unwrap();
        for n in 0..100u32 {
            let before = Clock::wall();
            let token = from.send_to(&n.to_be_bytes(), dest).unwrap();
            assert_eq!(token, SendToken(n));
            let got = &receive(&mut to, 1)[0];
            let stamps = drain(&mut from, |d| d.sent.len() + d.scheduled.len() == 2);
            let (scheduled, sent) = (stamps.scheduled[&n], stamps.sent[&n]);
            let after = Clock::wall();
            let order = [before, scheduled, sent, got.stamp, after];
            assert!(order.is_sorted(), "{local}: {order:?}");
            assert_eq!(got.bytes, n.to_be_bytes());
            assert!(!got.truncated);
            assert_eq!(got.from, from.local_addr().unwrap());
            assert_eq!(got.to, Some(dest.ip()));
            assert_eq!(got.ttl, Some(255));
            assert_eq!(got.tos, Some(46 << 2));
        }
    }
}

#[test]
fn one_packet_can_differ_from_the_rest() {
    for local in [V4, V6] {
        let (mut from, mut to) = (sender(local), reflector(local));
        let mut packet = Outgoing::new(b"x", to.local_addr().unwrap());
        packet.ttl = Some(7);
        packet.tos = Some(8 << 2 | 1);
        from.send(&packet).unwrap();
        let got = &receive(&mut to, 1)[0];
        assert_eq!((got.ttl, got.tos), (Some(7), Some(8 << 2 | 1)));
        from.send_to(b"y", to.local_addr().unwrap()).unwrap();
        let got = &receive(&mut to, 1)[0];
        assert_eq!((got.ttl, got.tos), (Some(255), Some(0)));
    }
}

#[test]
fn a_reply_leaves_from_where_its_request_came_to() {
    for (all, asked) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
        let mut to = reflector(all);
        let asked: IpAddr = asked.parse().unwrap();
        let dest = SocketAddr::new(asked, to.local_addr().unwrap().port());
        let mut from = sender(if asked.is_ipv4() { V4 } else { V6 });
        from.send_to(b"?", dest).unwrap();
        let request = receive(&mut to, 1).remove(0);
        assert_eq!(request.to, Some(asked));
        let reply = Outgoing {
            from: request.to,
            ..Outgoing::new(b"!", request.from)
        };
        to.send_batch([reply].into_iter(), |sent| assert!(sent.is_ok()));
        assert_eq!(receive(&mut from, 1)[0].from, dest);
    }
}

#[test]
fn a_port_unreachable_is_told_and_refuses_nothing() {
    for local in [V4, V6] {
        let mut from = sender(local);
        let mut to = reflector(local);
        let open = to.local_addr().unwrap();
        // A port that is surely closed: bound and released.
        let closed = UdpSocket::bind(local).unwrap().local_addr().unwrap();
        for n in 0..50u32 {
            // On loopback the ICMP error is back before the call returns, so it is pending at
            // the next send.
            from.send_to(&(n | 0xdead_0000).to_be_bytes(), closed)
                .expect("not refused");
            from.send_to(&n.to_be_bytes(), open)
                .expect("no false refusal");
        }
        let got = receive(&mut to, 50);
        assert!(
            (0u32..)
                .zip(&got)
                .all(|(n, got)| got.bytes == n.to_be_bytes())
        );
        // A pending error does not disturb receiving either.
        from.send_to(&(50u32 | 0xdead_0000).to_be_bytes(), closed)
            .expect("not refused");
        assert_eq!(from.recv_batch(|_| {}).expect("no false failure"), 0);
        let drained = drain(&mut from, |d| d.sent.len() == 101 && d.icmp.len() == 51);
        let stamps: Vec<_> = drained.sent.values().collect();
        assert!(stamps.is_sorted(), "stamps follow the tokens");
        for (n, icmp) in (0u32..).zip(&drained.icmp) {
            let (origin, icmp_type, code) = match local {
                V4 => (Origin::V4, 3, 3),
                _ => (Origin::V6, 1, 4),
            };
            assert_eq!(
                (icmp.origin, icmp.icmp_type, icmp.code),
                (origin, icmp_type, code)
            );
            assert_eq!(icmp.payload, (n | 0xdead_0000).to_be_bytes());
            assert_eq!(icmp.offender, Some(closed.ip()));
            assert_eq!(
                (icmp.dest.ip(), icmp.dest.port()),
                (closed.ip(), closed.port())
            );
            assert_eq!(icmp.mtu, None);
            assert!(icmp.stamp.expect("a kernel stamp") >= drained.sent[&(2 * n)]);
        }
    }
}

#[test]
fn a_batch_goes_on_past_what_is_refused() {
    for local in [V4, V6] {
        let (mut from, mut to) = (sender(local), reflector(local));
        let dest = to.local_addr().unwrap();
        let payloads: Vec<_> = (0..150u32).map(u32::to_be_bytes).collect();
        // Loopback takes 65,536 bytes with the headers: the kernel says EMSGSIZE.
        let long = vec![0; 65_530];
        let packets = payloads
            .iter()
            .enumerate()
            .map(|(n, bytes)| Outgoing::new(if n % 10 == 3 { &long } else { bytes }, dest));
        let mut outcomes = Vec::new();
        from.send_batch(packets, |outcome| outcomes.push(outcome));
        assert_eq!(outcomes.len(), 150);
        for (n, outcome) in (0u32..).zip(&outcomes) {
            let expected = match n % 10 {
                3 => Err(Refusal {
                    errno: libc::EMSGSIZE,
                }),
                _ => Ok(SendToken(n)),
            };
            assert_eq!(*outcome, expected);
        }
        let got = receive(&mut to, 135);
        assert_eq!(got[0].bytes, payloads[0]);
        assert_eq!(got[134].bytes, payloads[149]);
        let drained = drain(&mut from, |d| d.sent.len() == 135);
        assert!(drained.sent.keys().all(|token| token % 10 != 3));
    }
}

#[test]
fn a_full_socket_loses_nothing_silently() {
    let (mut from, mut to) = (sender(V4), reflector(V4));
    let dest = to.local_addr().unwrap();
    sys::receive_buffer(to.as_fd(), 20_000).unwrap();
    for _ in 0..200 {
        from.send_to(&[0; 1000], dest).unwrap();
    }
    let mut received = 0;
    while to.recv_batch(|_| received += 1).unwrap() > 0 {}
    assert!(received < 200);
    // The count comes with the next received datagram.
    from.send_to(b"x", dest).unwrap();
    assert_eq!(receive(&mut to, 1)[0].overflowed, 200 - received);
    assert_eq!(to.overflows(), 200 - received);
    from.send_to(b"x", dest).unwrap();
    assert_eq!(receive(&mut to, 1)[0].overflowed, 0, "told once");
}

#[test]
fn a_datagram_too_long_says_so() {
    let (mut from, mut to) = (sender(V4), reflector(V4));
    let dest = to.local_addr().unwrap();
    from.send_to(&[7; DATAGRAM_MAX], dest).unwrap();
    from.send_to(&[7; DATAGRAM_MAX + 1], dest).unwrap();
    let got = receive(&mut to, 2);
    assert!(!got[0].truncated && got[1].truncated);
    assert_eq!(got[1].bytes.len(), DATAGRAM_MAX);
}

#[test]
fn a_port_in_use_is_explained() {
    let first = reflector(V4);
    let addr = first.local_addr().unwrap();
    let error = ProbeSocket::open(&ProbeOptions::reflector(addr))
        .err()
        .expect("in use");
    let port = addr.port();
    assert_eq!(
        error.to_string(),
        format!(
            "UDP 127.0.0.1:{port} is already in use: choose another port, \
             or find its owner with `ss -lunp 'sport = :{port}'`"
        )
    );
}

#[test]
fn a_foreign_address_is_explained() {
    // 192.0.2.0/24 and 2001:db8::/32 are for documentation and on no host.
    for (addr, ip) in [
        ("192.0.2.1:0", "192.0.2.1"),
        ("[2001:db8::1]:0", "2001:db8::1"),
    ] {
        let options = ProbeOptions::reflector(addr.parse().unwrap());
        let error = ProbeSocket::open(&options).err().expect("not here");
        assert_eq!(
            error.to_string(),
            format!(
                "{ip} is not an address of this host: `ip -brief address` lists those that are"
            )
        );
    }
}

#[test]
fn a_privileged_port_names_both_remedies() {
    let addr = "0.0.0.0:862".parse().unwrap();
    let error = NetError::bind(addr, io::Error::from_raw_os_error(libc::EACCES));
    assert_eq!(
        error.to_string(),
        "UDP 0.0.0.0:862 is a privileged port: run \
         `sudo setcap cap_net_raw,cap_net_bind_service+p $(command -v hopgap-agent)` or \
         `sudo sysctl net.ipv4.ip_unprivileged_port_start=862`, or choose a port from 1024 up"
    );
}

/// Routes that come and go between two namespaces' worth of addresses.
#[test]
fn a_missing_route_refuses_and_the_session_goes_on() {
    namespace::inside(|| {
        namespace::veth("probe", "far");
        namespace::ip("address add 10.1.11.10/24 dev probe");
        namespace::ip("address add fd00:11::10/64 dev probe nodad");
        for (local, dest, route) in [
            ("10.1.11.10:0", "10.17.11.132:862", "10.17.11.0/24"),
            ("[fd00:11::10]:0", "[fd00:17::132]:862", "fd00:17::/64"),
        ] {
            let dest: SocketAddr = dest.parse().unwrap();
            let mut socket = sender(local);
            for round in 0..3u32 {
                assert_eq!(
                    socket.send_to(b"no route", dest),
                    Err(Refusal {
                        errno: libc::ENETUNREACH
                    })
                );
                namespace::ip(&format!("route add {route} dev probe"));
                let dev_neighbour = format!(
                    "neighbour replace {} lladdr 02:00:00:00:00:01 dev probe",
                    dest.ip()
                );
                namespace::ip(&dev_neighbour);
                let token = socket.send_to(b"route", dest).unwrap();
                assert_eq!(token, SendToken(2 * round + 1));
                drain(&mut socket, |d| d.sent.contains_key(&token.0));
                namespace::ip(&format!("route del {route} dev probe"));
            }
            namespace::ip(&format!("route add prohibit {route}"));
            let refusal = socket.send_to(b"prohibited", dest).unwrap_err();
            assert_eq!(refusal.errno, libc::EACCES);
            assert_eq!(
                refusal.to_string(),
                "the kernel refused to send: a local firewall or policy forbids it (EACCES)"
            );
        }
    });
}

#[test]
fn a_send_counted_by_the_kernel_finds_its_stamp_after_any_failure() {
    namespace::inside(|| {
        for (local, nowhere) in [(V4, "10.9.9.9:9"), (V6, "[fd00:9::9]:9")] {
            let mut to = reflector(local);
            let dest = to.local_addr().unwrap();
            let closed = UdpSocket::bind(local).unwrap().local_addr().unwrap();
            let mut from = sender(local);
            // As on Linux before 6.13.
            from.outbox =
                Outbox::with_tokens(from.socket.as_fd(), TxStamps::Sent, Tokens::counted())
                    .unwrap();
            let long = vec![0; 65_530];
            let mut wanted = BTreeMap::new();
            for round in 0..40u32 {
                // A failure of each kind: no route, too long, a pending ICMP error.
                let failing = match round % 4 {
                    0 => {
                        from.send_to(b"x", nowhere.parse().unwrap())
                            .unwrap_err()
                            .errno
                    }
                    1 => from.send_to(&long, dest).unwrap_err().errno,
                    2 => from.send_to(b"x", closed).map_or(-1, |_| 0),
                    _ => 0,
                };
                assert_eq!(
                    failing,
                    [libc::ENETUNREACH, libc::EMSGSIZE, 0, 0][round as usize % 4]
                );
                let before = Clock::wall();
                let token = from.send_to(&round.to_be_bytes(), dest).unwrap();
                wanted.insert(token.0, (before, Clock::wall()));
                // Drained at once: on loopback the stamp is there when the call returns.
                let drained = drain(&mut from, |d| d.sent.contains_key(&token.0));
                let stamp = drained.sent[&token.0];
                let (before, after) = wanted[&token.0];
                assert!(before <= stamp && stamp <= after, "{local}, round {round}");
            }
            receive(&mut to, 40);
        }
    });
}

#[test]
fn a_path_too_narrow_is_told_with_its_mtu() {
    namespace::inside(|| {
        namespace::veth("probe", "far");
        namespace::ip("link set probe mtu 1400");
        namespace::ip("address add 10.1.11.10/24 dev probe");
        namespace::ip("address add fd00:11::10/64 dev probe nodad");
        for (local, dest) in [
            ("10.1.11.10:0", "10.1.11.11:862"),
            ("[fd00:11::10]:0", "[fd00:11::11]:862"),
        ] {
            let mut socket = sender(local);
            let refusal = socket
                .send_to(&[0; 1400], dest.parse().unwrap())
                .unwrap_err();
            assert_eq!(refusal.errno, libc::EMSGSIZE);
            let drained = drain(&mut socket, |d| !d.icmp.is_empty());
            let local_error = &drained.icmp[0];
            assert_eq!(
                (local_error.origin, local_error.mtu),
                (Origin::Local, Some(1400))
            );
            assert_eq!(local_error.offender, None);
        }
    });
}

#[test]
fn a_full_queue_refuses_and_stamps_stay_with_their_packets() {
    namespace::inside(|| {
        namespace::veth("probe", "far");
        namespace::ip("address add 10.1.11.10/24 dev probe");
        namespace::ip("neighbour add 10.1.11.11 lladdr 02:00:00:00:00:01 dev probe");
        // 100 kbit/s, and room for about three packets.
        let status = std::process::Command::new("tc")
            .args("qdisc add dev probe root tbf rate 100kbit burst 1600 limit 4000".split(' '))
            .status()
            .expect("tc (iproute2) is installed");
        assert!(status.success());
        let mut socket = sender("10.1.11.10:0");
        let dest = "10.1.11.11:862".parse().unwrap();
        let outcomes: Vec<_> = (0..10).map(|_| socket.send_to(&[0; 1200], dest)).collect();
        let went: Vec<_> = outcomes.iter().flatten().map(|token| token.0).collect();
        let refused: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| outcome.err())
            .collect();
        assert!(!went.is_empty() && !refused.is_empty());
        assert!(
            refused.iter().all(|refusal| refusal.errno == libc::ENOBUFS),
            "{refused:?}"
        );
        let drained = drain(&mut socket, |d| d.sent.len() >= went.len());
        assert_eq!(drained.sent.into_keys().collect::<Vec<_>>(), went);
    });
}
