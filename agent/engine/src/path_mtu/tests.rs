use super::{MAX_PROBES, PathMtuConfig, PathMtuProber, SizeProbe, TooBig, is_size_probe};
use crate::packet::Quoted;
use crate::secret::Secret;
use crate::sender::TraceReply;
use hopgap_proto::record::{
    EventKind, FlowIndex, MtuLimit, PathMtu, Stamp, StampSource, UnfitIcmp,
};
use hopgap_proto::stamp::{
    Compatibility, ErrorEstimate, Mode, SenderPacket, Ssid, TimestampFormat,
};
use hopgap_proto::time::{Mono, Span, Wall};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 11, 1));
const WAIT: Span = Span::from_secs(1);

fn config(flows: u8) -> PathMtuConfig {
    PathMtuConfig {
        origin: Mono::ZERO,
        interval: Span::from_secs(10),
        flows,
        source: "10.1.11.10:50000".parse().unwrap(),
        target: "10.17.11.132:862".parse().unwrap(),
        dscp: 0,
        ssid: Ssid(5),
        keys: None,
        error_estimate: ErrorEstimate::from_error(Span::ZERO, TimestampFormat::Ntp),
        wait: WAIT,
        secret: Secret::new([7; 16]),
    }
}

/// What a forger changes.
type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);

/// T1 of an unauthenticated request.
fn t1(payload: &[u8]) -> u64 {
    u64::from_be_bytes(*payload[4..].first_chunk().unwrap())
}

/// A network that carries packets of at most `mtu` bytes.
#[derive(Clone, Debug)]
struct Net {
    mtu: u16,
    interface: u16,
    /// Whether a router reports packets that are too large.
    tells: bool,
    /// Which packets are lost whatever their size (true), in a cycle.
    losses: Vec<bool>,
    /// Before this nothing comes back at all.
    up_from: Mono,
}

impl Net {
    fn of(mtu: u16) -> Self {
        Self {
            mtu,
            interface: 1500,
            tells: true,
            losses: vec![false],
            up_from: Mono::ZERO,
        }
    }

    /// Runs a prober for `length`; returns what it found and how many packets it sent.
    fn run(&self, length: Span) -> (Vec<PathMtu>, usize) {
        let mut prober = PathMtuProber::new(config(3));
        let (mut now, mut sent) = (Mono::ZERO, 0);
        let mut packet = Vec::new();
        let mut found = Vec::new();
        while now < Mono::ZERO + length {
            prober.handle_timeout(now);
            let mut answers: Vec<(SizeProbe, Vec<u8>)> = Vec::new();
            while let Some(probe) = prober.poll_transmit(now, Wall::ZERO, &mut packet) {
                let (request, _) =
                    SenderPacket::parse(&packet, Mode::Open, Compatibility::Strict).unwrap();
                assert_eq!(request.sequence, probe.seq);
                assert!(is_size_probe(probe.seq));
                assert_eq!(request.ssid.0, (5 + u16::from(probe.flow.0)) | 0x8000);
                let size = packet.len() + 28;
                if size > usize::from(self.interface) {
                    prober.handle_refused(&probe, true, now);
                    continue;
                }
                sent += 1;
                assert!(sent < 100_000, "a search must end");
                let lost = self.losses[sent % self.losses.len()];
                if !lost && now >= self.up_from {
                    answers.push((probe, packet.clone()));
                }
            }
            let arrived = now + Span::from_millis(5);
            for (probe, payload) in answers {
                if payload.len() + 28 <= usize::from(self.mtu) {
                    let received = Stamp {
                        at: arrived,
                        source: StampSource::Kernel,
                    };
                    let reply = TraceReply {
                        flow: probe.flow,
                        seq: probe.seq,
                        t1: t1(&payload),
                        received,
                        forward_ttl: None,
                    };
                    prober.handle_reply(&reply, arrived);
                } else if self.tells {
                    let mtu = Some(u32::from(self.mtu));
                    let quoted = Quoted {
                        payload: &payload,
                        ..Quoted::default()
                    };
                    let from = ROUTER;
                    let error = TooBig { from, mtu, quoted };
                    assert!(prober.handle_too_big(probe.flow, &error, arrived));
                }
            }
            while let Some(event) = prober.poll_event() {
                let EventKind::PathMtu(mtu) = event.kind else {
                    panic!("{event:?}");
                };
                found.push(mtu);
            }
            now = prober.poll_timeout().unwrap().max(arrived);
        }
        (found, sent)
    }
}

#[test]
fn what_the_interface_or_a_router_limits_is_found_in_an_instant() {
    let (found, sent) = Net::of(1500).run(Span::from_secs(9));
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].bytes, found[0].limit),
        (1500, Some(MtuLimit::Interface))
    );
    assert!(sent < 20, "{sent}");

    // A tunnel of VXLAN.
    let (found, sent) = Net::of(1450).run(Span::from_secs(9));
    let limit = MtuLimit::Router {
        from: ROUTER,
        mtu: Some(1450),
    };
    assert_eq!((found[0].bytes, found[0].limit), (1450, Some(limit)));
    assert!(sent < 20, "{sent}");
}

#[test]
fn a_black_hole_for_large_packets_is_found_by_its_silence() {
    let net = Net {
        tells: false,
        ..Net::of(1412)
    };
    let (found, _) = net.run(Span::from_secs(30));
    assert_eq!(
        (found[0].bytes, found[0].limit),
        (1412, Some(MtuLimit::Silent))
    );
}

#[test]
fn each_flow_has_its_turn_and_a_known_size_costs_one_step() {
    let (found, sent) = Net::of(1450).run(Span::from_secs(95));
    let flows: Vec<u8> = found.iter().map(|f| f.flow.0).collect();
    assert_eq!(flows, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    assert!(found.iter().all(|f| f.bytes == 1450));
    // The smallest, the known one and one byte more.
    assert!(sent <= 20 + 9 * 3, "{sent}");
}

#[test]
fn an_outage_says_nothing_of_sizes() {
    let net = Net {
        up_from: Mono::ZERO + Span::from_secs(25),
        ..Net::of(1450)
    };
    let (found, _) = net.run(Span::from_secs(40));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].bytes, 1450);
    assert!(found[0].since >= Mono::ZERO + Span::from_secs(30));
    let never = Net {
        up_from: Mono::MAX,
        ..Net::of(1450)
    };
    let (found, sent) = never.run(Span::from_secs(100));
    assert_eq!(found, []);
    assert!(sent <= 10 * 7 * usize::from(MAX_PROBES), "{sent}");
}

#[test]
fn a_stopped_prober_begins_no_search() {
    let mut prober = PathMtuProber::new(config(1));
    prober.stop();
    let now = Mono::ZERO + Span::from_secs(60);
    assert_eq!(prober.poll_timeout(), None);
    assert_eq!(prober.poll_transmit(now, Wall::ZERO, &mut Vec::new()), None);
    // An error that matches no search is counted and changes nothing.
    let quoted = Quoted {
        payload: &[0; 44],
        ..Quoted::default()
    };
    let error = TooBig {
        from: ROUTER,
        mtu: Some(0),
        quoted,
    };
    assert!(!prober.handle_too_big(FlowIndex(0), &error, now));
    prober.handle_timeout(now);
    let what = UnfitIcmp::TooBig;
    let told = prober.poll_event().map(|event| event.kind);
    assert_eq!(told, Some(EventKind::UnfitIcmp { what, count: 1 }));
}

/// What an attacker who does not see the path can send: all fields right but the unguessable ones.
#[test]
fn a_forged_too_big_settles_nothing_and_is_counted() {
    let mut prober = PathMtuProber::new(config(1));
    let (mut payload, mut packet) = (Vec::new(), Vec::new());
    let mut sent = Vec::new();
    while let Some(probe) = prober.poll_transmit(Mono::ZERO, Wall::ZERO, &mut payload) {
        prober.write_raw(&probe, &payload, &mut packet);
        sent.push((probe, payload.clone(), packet.clone()));
    }
    let later = Mono::ZERO + Span::from_millis(1);
    let (probe, payload, packet) = sent.last().unwrap();
    let quote = |edit: Edit<'_>| {
        // The shortest that there is: the IP header and 8 bytes (RFC 792).
        let mut message = vec![3, 4, 0, 0, 0, 0, 2, 88];
        message.extend_from_slice(&packet[..28]);
        edit(&mut message);
        message
    };
    let forged: [Edit<'_>; 4] = [
        // The identification, the checksum, the length of the datagram.
        &|m| m[8 + 4] ^= 1,
        &|m| m[8 + 27] ^= 1,
        &|m| m[8 + 25] ^= 1,
        // It has room for more than the packet.
        &|m| m[6..8].copy_from_slice(&9001_u16.to_be_bytes()),
    ];
    for edit in forged {
        let message = quote(edit);
        let error = hopgap_proto::icmp::IcmpError::parse(hopgap_proto::icmp::Version::V4, &message)
            .unwrap();
        assert!(prober.handle_raw_icmp(ROUTER, &error, later));
    }
    // T1 in the payload is wrong, and the IP and UDP headers are unseen, as the kernel gives
    // it without raw sockets.
    let mut wrong = payload.clone();
    wrong[11] ^= 1;
    for quoted in [&wrong[..], &payload[..8], &[]] {
        let quoted = Quoted {
            payload: quoted,
            ..Quoted::default()
        };
        let error = TooBig {
            from: ROUTER,
            mtu: Some(600),
            quoted,
        };
        assert!(!prober.handle_too_big(probe.flow, &error, later));
    }
    // The search goes on: all come back.
    for (probe, payload, _) in &sent {
        let reply = TraceReply {
            flow: probe.flow,
            seq: probe.seq,
            t1: t1(payload),
            received: Stamp {
                at: later,
                source: StampSource::Kernel,
            },
            forward_ttl: None,
        };
        prober.handle_reply(&reply, later);
    }
    prober.handle_timeout(later);
    let told: Vec<EventKind> = std::iter::from_fn(|| prober.poll_event())
        .map(|event| event.kind)
        .collect();
    let found = told.iter().find_map(|kind| match kind {
        EventKind::PathMtu(found) => Some((found.bytes, found.limit)),
        _ => None,
    });
    assert_eq!(found, Some((9000, None)), "{told:?}");
    let unfit = EventKind::UnfitIcmp {
        what: UnfitIcmp::TooBig,
        count: 7,
    };
    assert!(told.contains(&unfit), "{told:?}");

    // The true error is taken, even with the shortest quote.
    let mut prober = PathMtuProber::new(config(1));
    let mut fits = false;
    while let Some(probe) = prober.poll_transmit(Mono::ZERO, Wall::ZERO, &mut Vec::new()) {
        assert_ne!(probe.ip_id, 0);
        let message = quote(&|_| ());
        let error = hopgap_proto::icmp::IcmpError::parse(hopgap_proto::icmp::Version::V4, &message)
            .unwrap();
        prober.handle_raw_icmp(ROUTER, &error, later);
        fits |= probe.ip_id == sent.last().unwrap().0.ip_id;
    }
    assert!(fits, "the same secret makes the same packets");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_exact_size_is_found(mtu in 100_u16..=9000, interface in 100_u16..=9100, tells: bool) {
        let net = Net { interface, tells, ..Net::of(mtu) };
        let (found, _) = net.run(Span::from_secs(60));
        prop_assert!(!found.is_empty());
        for f in found {
            prop_assert_eq!(f.bytes, mtu.min(interface).min(9000));
        }
    }

    /// With one packet in ten lost, the result is never more than the truth, and mostly the truth.
    #[test]
    fn loss_is_not_taken_for_a_size(
        mtu in 600_u16..=1500,
        tells: bool,
        // More than the packets of all searches: a repeated pattern might hit the same step
        // each time.
        losses in prop::collection::vec(prop::bool::weighted(0.1), 2_000),
    ) {
        let net = Net { losses, tells, ..Net::of(mtu) };
        let (found, sent) = net.run(Span::from_secs(600));
        prop_assert!(sent < 2_000, "{sent}");
        prop_assert!(found.len() >= 10, "{}", found.len());
        prop_assert!(found.iter().all(|f| f.bytes <= mtu));
        let right = found.iter().filter(|f| f.bytes == mtu).count();
        prop_assert!(right * 10 >= found.len() * 8, "{right} of {}", found.len());
    }
}
