use super::*;
use hopgap_proto::icmp::{IcmpError, Version, ipv4_payload};
use hopgap_proto::record::{EventKind, Hop, Stamp, StampSource};
use hopgap_proto::stamp::TimestampFormat;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: Span = Span::from_millis(1);
const WALL: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
const TARGET: &str = "10.17.11.132";

fn at(ms: i64) -> Mono {
    Mono::from_nanos(1_000_000_000) + MS * ms
}

fn config(flows: u8) -> TracerConfig {
    TracerConfig {
        origin: at(0),
        interval: MS * 1_000,
        flows,
        source: "10.1.11.10:50000".parse().unwrap(),
        target: format!("{TARGET}:862").parse().unwrap(),
        ssid: Ssid(100),
        keys: None,
        error_estimate: ErrorEstimate::from_error(MS, TimestampFormat::Ntp),
        dscp: 46,
        max_ttl: 30,
        attempts: 3,
        wait: MS * 1_000,
        secret: Secret::new([7; 16]),
    }
}

/// How much of a packet a router quotes.
#[derive(Clone, Copy, PartialEq)]
enum Quote {
    All,
    EightBytes,
}

/// A router by its last octet, or a silent one.
#[derive(Clone)]
struct Net {
    routers: Vec<Option<&'static str>>,
    target_answers: bool,
    round_trip: Span,
    quote: Quote,
    /// Answers that a router gives in a second, where it limits them.
    limit: Option<u32>,
}

fn expressroute() -> Net {
    Net {
        routers: vec![
            Some("10.1.11.1"),
            Some("192.168.11.0"),
            Some("192.168.11.18"),
            None,
        ],
        target_answers: true,
        round_trip: MS * 5,
        quote: Quote::All,
        limit: None,
    }
}

fn vpn() -> Net {
    Net {
        routers: vec![Some("10.1.11.1"), None],
        round_trip: MS * 8,
        ..expressroute()
    }
}

enum Answer {
    Icmp(IpAddr, Vec<u8>),
    Reply(TraceReply),
}

struct World {
    tracer: Tracer,
    now: Mono,
    flight: BTreeMap<(Mono, u32), Answer>,
    packets: u32,
    answered: BTreeMap<(usize, i64), u32>,
    traces: Vec<Trace>,
    /// TTLs of the packets sent since this was last emptied.
    sent: Vec<u8>,
}

impl World {
    fn new(config: TracerConfig) -> Self {
        Self {
            now: config.origin,
            tracer: Tracer::new(config),
            flight: BTreeMap::new(),
            packets: 0,
            answered: BTreeMap::new(),
            traces: vec![],
            sent: vec![],
        }
    }

    fn run(&mut self, net: &Net, until: Mono) {
        loop {
            let wake = self.tracer.poll_timeout().unwrap_or(Mono::MAX);
            let arrival = self.flight.keys().next().map_or(Mono::MAX, |(at, _)| *at);
            let next = wake.min(arrival);
            if next >= until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            self.send(net);
            while let Some(entry) = self.flight.first_entry() {
                let (when, _) = *entry.key();
                if when > self.now {
                    break;
                }
                match entry.remove() {
                    Answer::Icmp(from, message) => {
                        let error = IcmpError::parse(Version::V4, &message).unwrap();
                        let heard = self.tracer.handle_raw_icmp(from, &error, when);
                        assert!(matches!(heard, IcmpOutcome::Answer(_)), "{heard:?}");
                    }
                    Answer::Reply(reply) => assert!(self.tracer.handle_reply(&reply)),
                }
            }
            self.tracer.handle_timeout(self.now);
            self.traces
                .extend(std::iter::from_fn(|| self.tracer.poll_trace()));
        }
    }

    fn send(&mut self, net: &Net) {
        let (mut payload, mut packet) = (vec![], vec![]);
        while let Some(t) = self.tracer.poll_transmit(self.now, WALL, &mut payload) {
            self.tracer.write_raw(&t, &payload, &mut packet);
            self.sent.push(t.ttl);
            self.tracer.handle_sent(t.flow, t.seq, self.now);
            self.packets += 1;
            let key = (self.now + net.round_trip, self.packets);
            let hop = usize::from(t.ttl) - 1;
            match net.routers.get(hop) {
                Some(None) => {}
                Some(Some(router)) => {
                    let second = (hop, (self.now - at(0)).as_nanos() / 1_000_000_000);
                    let count = self.answered.entry(second).or_default();
                    *count += 1;
                    if net.limit.is_none_or(|limit| *count <= limit) {
                        let from = router.parse().unwrap();
                        let message = time_exceeded(&packet, net.quote);
                        self.flight.insert(key, Answer::Icmp(from, message));
                    }
                }
                None if net.target_answers => {
                    let received = Stamp {
                        at: key.0,
                        source: StampSource::Kernel,
                    };
                    let reply = TraceReply {
                        flow: t.flow,
                        seq: t.seq,
                        t1: t1(&payload),
                        received,
                        forward_ttl: Some(1),
                    };
                    self.flight.insert(key, Answer::Reply(reply));
                }
                None => {}
            }
        }
    }
}

fn time_exceeded(packet: &[u8], quote: Quote) -> Vec<u8> {
    let mut message = vec![11, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(match quote {
        Quote::All => packet,
        Quote::EightBytes => &packet[..28],
    });
    message
}

/// What a forger changes.
type Change<'a> = &'a dyn Fn(&mut [u8]);

/// T1 of an unauthenticated request.
fn t1(payload: &[u8]) -> u64 {
    u64::from_be_bytes(*payload[4..].first_chunk().unwrap())
}

/// A trace as people write it.
fn shown(trace: &Trace) -> String {
    let hops = trace.hops.iter().map(|hop| match hop.replies.first() {
        Some(reply) => reply.from.to_string(),
        None if hop.sent == 0 => "?".to_owned(),
        None => "*".to_owned(),
    });
    hops.collect::<Vec<_>>().join(" ")
}

const BY_EXPRESSROUTE: &str = "10.1.11.1 192.168.11.0 192.168.11.18 * 10.17.11.132";
const BY_VPN: &str = "10.1.11.1 * 10.17.11.132";

#[test]
fn the_articles_paths_are_seen_change_and_return() {
    for quote in [Quote::All, Quote::EightBytes] {
        let with = |net: Net| Net { quote, ..net };
        let mut world = World::new(config(1));
        world.run(&with(expressroute()), at(10_000));
        let steady = std::mem::take(&mut world.traces);
        assert_eq!(steady.len(), 10);
        assert!(
            steady
                .iter()
                .all(|t| shown(t) == BY_EXPRESSROUTE && t.reached_at == Some(5))
        );
        world.run(&with(vpn()), at(20_000));
        let over_vpn = std::mem::take(&mut world.traces);
        assert!(
            over_vpn
                .iter()
                .all(|t| shown(t) == BY_VPN && t.reached_at == Some(3))
        );
        world.run(&with(expressroute()), at(30_000));
        assert!(
            world.traces.iter().all(|t| shown(t) == BY_EXPRESSROUTE),
            "the longer path at once"
        );
    }
}

#[test]
fn a_snapshot_takes_a_round_trip_where_all_hops_answer() {
    let mut net = expressroute();
    net.routers[3] = Some("10.17.11.69");
    let mut world = World::new(config(1));
    world.run(&net, at(5_000));
    for trace in &world.traces {
        assert_eq!(trace.finished - trace.started, MS * 5);
        let asked: Vec<u8> = trace.hops.iter().map(|h| h.sent).collect();
        assert_eq!(asked, [1; 5]);
        for Hop { replies, .. } in &trace.hops {
            assert_eq!(replies[0].round_trip, MS * 5);
        }
    }
}

#[test]
fn a_hop_that_never_answers_soon_costs_one_packet_and_a_short_wait() {
    let mut world = World::new(config(1));
    world.run(&expressroute(), at(15_000));
    let first = &world.traces[0];
    assert_eq!(first.hops[3].sent, 3, "silent only after every attempt");
    let settled = &world.traces[12];
    assert_eq!(settled.hops[3].sent, 1);
    assert!(settled.finished - settled.started <= MS * 110);
}

#[test]
fn ttls_reach_one_beyond_the_target_and_all_the_way_when_it_is_gone() {
    let mut world = World::new(config(1));
    world.run(&expressroute(), at(5_900));
    world.sent.clear();
    world.run(&expressroute(), at(6_900));
    assert_eq!(world.sent.iter().max(), Some(&6));
    let gone = Net {
        routers: vec![Some("10.1.11.1")],
        target_answers: false,
        ..expressroute()
    };
    world.traces.clear();
    world.run(&gone, at(7_900));
    assert_eq!(world.sent.iter().max(), Some(&30));
    assert_eq!(world.traces.len(), 1);
    assert_eq!(world.traces[0].reached_at, None);
    assert_eq!(world.traces[0].hops.len(), 30);
    assert!(world.traces[0].finished - world.traces[0].started < MS * 400);
}

#[test]
fn probes_hint_where_the_target_is() {
    let mut world = World::new(config(1));
    world.tracer.hint_distance(FlowIndex(0), 5);
    let silent_target = Net {
        target_answers: false,
        ..expressroute()
    };
    world.run(&silent_target, at(900));
    world.tracer.hint_distance(FlowIndex(0), 5);
    world.run(&silent_target, at(1_900));
    assert_eq!(
        world.sent.iter().max(),
        Some(&6),
        "a target that answers probes only"
    );
    world.tracer.hint_distance(FlowIndex(0), 0);
    world.tracer.hint_distance(FlowIndex(7), 200);
}

#[test]
fn a_peer_that_always_says_255_does_not_shorten_the_trace() {
    let mut world = World::new(config(1));
    for s in 1..5 {
        world.tracer.hint_distance(FlowIndex(0), 1);
        world.run(&expressroute(), at(s * 1_000));
    }
    assert!(world.traces.iter().all(|t| shown(t) == BY_EXPRESSROUTE));
}

#[test]
fn an_answer_that_was_held_back_is_asked_for_again() {
    let mut world = World::new(config(1));
    world.run(&expressroute(), at(4_900));
    world.traces.clear();
    // Two routers answer nothing for a moment.
    let mute = Net {
        routers: vec![None, None, Some("192.168.11.18"), None],
        ..expressroute()
    };
    world.run(&mute, at(5_050));
    world.run(&expressroute(), at(5_900));
    assert_eq!(world.traces.len(), 1);
    assert_eq!(shown(&world.traces[0]), BY_EXPRESSROUTE);
    assert_eq!(world.traces[0].hops[0].sent, 2);
}

#[test]
fn a_limit_on_icmp_is_not_taken_for_silence() {
    let mut world = World::new(config(8));
    let limited = Net {
        limit: Some(1),
        ..expressroute()
    };
    world.run(&limited, at(60_000));
    let late = world.traces.iter().filter(|t| t.started > at(10_000));
    let hops: Vec<&Hop> = late.flat_map(|t| &t.hops[..3]).collect();
    let asked = hops.iter().filter(|h| h.sent > 0).count();
    let silent = hops
        .iter()
        .filter(|h| h.sent > 0 && h.replies.is_empty())
        .count();
    // At best each of three hops answers once a second for fifty seconds.
    assert!(asked - silent >= 120, "{asked} asked, {silent} silent");
    assert!(silent * 4 <= asked, "{asked} asked, {silent} silent");
    // A path that became shorter is recognised, though its last hop was asked seldom.
    world.traces.clear();
    world.run(&vpn(), at(70_000));
    assert!(world.traces.len() > 70);
    let distances = world.traces.iter().map(|t| t.reached_at);
    assert!(
        distances.clone().all(|d| d == Some(3)),
        "{:?}",
        distances.collect::<Vec<_>>()
    );
    // Without a limit all are asked as planned again.
    world.traces.clear();
    world.run(&expressroute(), at(90_000));
    let late = world.traces.iter().filter(|t| t.started > at(80_000));
    assert!(late.clone().count() > 70);
    assert!(late.clone().all(|t| shown(t) == BY_EXPRESSROUTE));
}

#[test]
fn flows_take_turns_and_keep_their_ports() {
    let mut world = World::new(config(4));
    world.run(&vpn(), at(990));
    let starts: Vec<_> = world
        .traces
        .iter()
        .map(|t| (t.flow.0, (t.started - at(0)).as_nanos() / 1_000_000))
        .collect();
    assert_eq!(
        starts,
        [(0, 0), (1, 250), (2, 500), (3, 750)][..starts.len()]
    );
    assert!(starts.len() >= 3);
}

#[test]
fn packets_are_what_the_probes_are() {
    let mut tracer = Tracer::new(config(2));
    let (mut payload, mut packet) = (vec![], vec![]);
    let t = tracer.poll_transmit(at(0), WALL, &mut payload).unwrap();
    tracer.write_raw(&t, &payload, &mut packet);
    let message = time_exceeded(&packet, Quote::All);
    let error = IcmpError::parse(Version::V4, &message).unwrap();
    let quoted = error.quoted;
    assert_eq!(quoted.source, "10.1.11.10".parse::<IpAddr>().unwrap());
    assert_eq!(quoted.destination, TARGET.parse::<IpAddr>().unwrap());
    assert_eq!((quoted.ttl, quoted.tos), (1, 46 << 2));
    assert_eq!(quoted.total_len, 20 + 8 + 44);
    let udp = quoted.udp.unwrap();
    assert_eq!((udp.source_port, udp.destination_port), (50_000, 862));
    assert_eq!(quoted.payload, payload);
    assert_eq!(
        ones_complement(&packet[..20]),
        0xffff,
        "the IP header's checksum"
    );
    assert_eq!(ipv4_payload(&packet).unwrap().1, &packet[20..]);
    let (request, _) = SenderPacket::parse(
        &payload,
        hopgap_proto::stamp::Mode::Open,
        hopgap_proto::stamp::Compatibility::Strict,
    )
    .unwrap();
    assert_eq!(request.ssid, Ssid(100 | TRACE_SSID_BIT));
    assert!(is_trace_seq(request.sequence));
}

fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

#[test]
fn udp_checksums_are_right_in_both_families() {
    for (source, target) in [
        ("10.1.11.10:50000", "10.17.11.132:862"),
        ("[fd00:1::10]:50000", "[fd00:17::132]:862"),
    ] {
        let mut config = config(1);
        config.source = source.parse().unwrap();
        config.target = target.parse().unwrap();
        let mut tracer = Tracer::new(config);
        let (mut payload, mut packet) = (vec![], vec![]);
        let t = tracer.poll_transmit(at(0), WALL, &mut payload).unwrap();
        tracer.write_raw(&t, &payload, &mut packet);
        let mut pseudo = vec![];
        let ips = [source, target].map(|a| a.parse::<SocketAddr>().unwrap().ip());
        for ip in ips {
            match ip {
                IpAddr::V4(ip) => pseudo.extend(ip.octets()),
                IpAddr::V6(ip) => pseudo.extend(ip.octets()),
            }
        }
        let udp = if ips[0].is_ipv4() {
            &packet[20..]
        } else {
            &packet[..]
        };
        pseudo.extend([0, 17, 0, 52]);
        pseudo.extend(udp);
        assert_eq!(udp.len(), 52);
        assert_eq!(ones_complement(&pseudo), 0xffff);
    }
}

#[test]
fn an_unreachable_is_kept_and_ends_the_search() {
    let mut tracer = Tracer::new(config(1));
    let mut payload = vec![];
    while let Some(t) = tracer.poll_transmit(at(0), WALL, &mut payload) {
        let from = "192.168.11.88".parse().unwrap();
        let error = TraceError {
            from,
            icmp_type: 3,
            code: 0,
            at: at(2),
            quoted: Quoted {
                payload: &payload,
                ..Quoted::default()
            },
        };
        assert_eq!(
            tracer.handle_icmp(t.flow, &error),
            IcmpOutcome::Answer(t.flow)
        );
        // The same answer twice is one answer.
        assert_eq!(
            tracer.handle_icmp(t.flow, &error),
            IcmpOutcome::Answer(t.flow)
        );
    }
    tracer.handle_timeout(at(2_000));
    let trace = tracer.poll_trace().unwrap();
    assert_eq!(trace.reached_at, None);
    assert!(
        trace
            .hops
            .iter()
            .all(|h| h.replies.len() == 1 && h.replies[0].kind == HopReplyKind::Unreachable(0))
    );
    assert_eq!(trace.hops.len(), 1, "told once");
}

/// Answers every packet under way: TTLs below `refused_from` each by a router of its own, the
/// others by one that refuses, except those that are `silent`.
fn answer_all(tracer: &mut Tracer, ms: i64, refused_from: u8, silent: &[u8]) -> Vec<u8> {
    let mut asked = vec![];
    let mut payload = vec![];
    while let Some(t) = tracer.poll_transmit(at(ms), WALL, &mut payload) {
        asked.push(t.ttl);
        if silent.contains(&t.ttl) {
            continue;
        }
        let (from, icmp_type, code) = match t.ttl < refused_from {
            true => (format!("10.9.{}.1", t.ttl), 11, 0),
            false => ("10.9.2.1".to_owned(), 3, 13),
        };
        let error = TraceError {
            from: from.parse().unwrap(),
            icmp_type,
            code,
            at: at(ms + 2),
            quoted: Quoted {
                payload: &payload,
                ..Quoted::default()
            },
        };
        assert_eq!(
            tracer.handle_icmp(t.flow, &error),
            IcmpOutcome::Answer(t.flow)
        );
    }
    asked
}

#[test]
fn a_refusal_that_repeats_ends_the_trace_at_its_first() {
    let mut tracer = Tracer::new(config(1));
    // The router's rate limit suppressed some of its refusals.
    answer_all(&mut tracer, 0, 3, &[4, 7, 20]);
    tracer.handle_timeout(at(2_000));
    let trace = tracer.poll_trace().expect("nothing is asked again");
    assert_eq!((trace.hops.len(), trace.reached_at), (3, None));
    assert_eq!(trace.hops[2].replies[0].kind, HopReplyKind::Unreachable(13));

    // A silent TTL before the refusal is asked again; an answer beyond it is no repetition.
    let mut tracer = Tracer::new(config(1));
    answer_all(&mut tracer, 0, 3, &[2]);
    tracer.handle_timeout(at(2_000));
    assert_eq!(answer_all(&mut tracer, 2_000, 3, &[]), [2]);
}

#[test]
fn refused_packets_do_not_count_as_sent() {
    let mut tracer = Tracer::new(config(1));
    let mut payload = vec![];
    while let Some(t) = tracer.poll_transmit(at(0), WALL, &mut payload) {
        tracer.handle_refused(t.flow, t.seq);
    }
    let mut trace = None;
    for s in 1..20 {
        tracer.handle_timeout(at(s * 1_100));
        while let Some(t) = tracer.poll_transmit(at(s * 1_100), WALL, &mut payload) {
            tracer.handle_refused(t.flow, t.seq);
        }
        trace = trace.or(tracer.poll_trace());
    }
    assert!(
        trace
            .unwrap()
            .hops
            .iter()
            .all(|h| h.sent == 0 && h.replies.is_empty())
    );
}

/// The packets of one round, as they are on the wire.
fn round(secret: Secret) -> (Tracer, Vec<(TraceTransmit, Vec<u8>)>) {
    let mut tracer = Tracer::new(TracerConfig {
        secret,
        ..config(1)
    });
    let (mut payload, mut packet) = (vec![], vec![]);
    let mut sent = vec![];
    while let Some(t) = tracer.poll_transmit(at(0), WALL, &mut payload) {
        tracer.handle_sent(t.flow, t.seq, at(0));
        tracer.write_raw(&t, &payload, &mut packet);
        sent.push((t, packet.clone()));
    }
    (tracer, sent)
}

#[test]
fn nobody_guesses_what_the_shortest_quote_holds() {
    let mut ids = std::collections::BTreeSet::new();
    let mut sums = std::collections::BTreeSet::new();
    for n in 0..200 {
        let (_, sent) = round(Secret::new([n; 16]));
        let (t, packet) = &sent[0];
        assert!(is_trace_seq(t.seq) && t.ip_id != 0);
        ids.insert(packet[4..6].to_vec());
        sums.insert(packet[26..28].to_vec());
    }
    // Of 200 draws of 16 bits hardly any two are the same.
    assert!(ids.len() > 190 && sums.len() > 190, "{ids:?} {sums:?}");
}

#[test]
fn an_answer_counts_where_every_quoted_field_is_right() {
    let (mut tracer, sent) = round(Secret::new([7; 16]));
    let router: IpAddr = "10.1.11.1".parse().unwrap();
    let (t, packet) = &sent[2];
    let forged = |change: Change<'_>| {
        let mut message = time_exceeded(packet, Quote::All);
        change(&mut message[8..]);
        message
    };
    // Identification; length, checksum, T1 of the datagram; its very last byte.
    let changes: [Change<'_>; 5] = [
        &|p| p[5] ^= 1,
        &|p| p[25] ^= 4,
        &|p| p[27] ^= 1,
        &|p| p[28 + 11] ^= 1,
        &|p| p[28 + 43] ^= 1,
    ];
    for change in changes {
        let message = forged(change);
        let error = IcmpError::parse(Version::V4, &message).unwrap();
        let heard = tracer.handle_raw_icmp(router, &error, at(1));
        assert_eq!(heard, IcmpOutcome::Unfit, "{:?}", error.quoted);
    }
    // With other addresses or ports the error is not about this session at all.
    for place in [15, 19, 21, 23] {
        let message = forged(&|p| p[place] ^= 0x80);
        let error = IcmpError::parse(Version::V4, &message).unwrap();
        assert_eq!(
            tracer.handle_raw_icmp(router, &error, at(1)),
            IcmpOutcome::Other
        );
    }
    // All fields right, but before the packet was sent, or after the wait.
    let message = forged(&|_| ());
    let error = IcmpError::parse(Version::V4, &message).unwrap();
    for ms in [-2, 1_001] {
        assert_eq!(
            tracer.handle_raw_icmp(router, &error, at(ms)),
            IcmpOutcome::Unfit
        );
    }
    let heard = tracer.handle_raw_icmp(router, &error, at(1));
    assert_eq!(heard, IcmpOutcome::Answer(t.flow));
    // Earlier by no more than the clocks' conversion error is not too early.
    let (t, packet) = &sent[3];
    let message = time_exceeded(packet, Quote::EightBytes);
    let error = IcmpError::parse(Version::V4, &message).unwrap();
    let early = at(0) - Span::from_micros(50);
    let heard = tracer.handle_raw_icmp(router, &error, early);
    assert_eq!(heard, IcmpOutcome::Answer(t.flow));

    tracer.handle_timeout(at(2));
    let told: Vec<_> = std::iter::from_fn(|| tracer.poll_event())
        .map(|event| event.kind)
        .collect();
    let counted = |what, count| EventKind::UnfitIcmp { what, count };
    assert_eq!(
        told,
        [
            counted(UnfitIcmp::Trace, 5),
            counted(UnfitIcmp::TraceEarly, 1),
            counted(UnfitIcmp::TraceLate, 1)
        ]
    );
    tracer.stop();
    for s in 1..9 {
        tracer.handle_timeout(at(s * 1_100));
        while tracer
            .poll_transmit(at(s * 1_100), WALL, &mut vec![])
            .is_some()
        {}
    }
    let trace = tracer.poll_trace().unwrap();
    let answered: Vec<_> = trace
        .hops
        .iter()
        .flat_map(|h| h.replies.iter().map(|r| (h.ttl, r.round_trip)))
        .collect();
    assert_eq!(answered, [(3, MS), (4, Span::ZERO)]);
}

#[test]
fn a_reply_with_another_time_is_no_answer() {
    let (mut tracer, sent) = round(Secret::new([7; 16]));
    let (t, packet) = &sent[4];
    let reply = |t1| TraceReply {
        flow: t.flow,
        seq: t.seq,
        t1,
        received: Stamp {
            at: at(5),
            source: StampSource::Kernel,
        },
        forward_ttl: Some(251),
    };
    let t1 = t1(&packet[28..]);
    assert!(!tracer.handle_reply(&reply(t1 ^ 1)));
    assert!(tracer.handle_reply(&reply(t1)));
}

#[test]
fn a_blind_flood_names_no_hop() {
    // Everything that can be known is right: addresses, ports, lengths; the rest is guessed.
    let (mut tracer, sent) = round(Secret::new([7; 16]));
    let (_, packet) = &sent[0];
    let mut message = time_exceeded(packet, Quote::EightBytes);
    for id in 0..=u16::MAX {
        message[8 + 4..8 + 6].copy_from_slice(&id.to_be_bytes());
        message[8 + 26..8 + 28].copy_from_slice(&id.wrapping_mul(7).to_be_bytes());
        let error = IcmpError::parse(Version::V4, &message).unwrap();
        let heard = tracer.handle_raw_icmp("203.0.113.9".parse().unwrap(), &error, at(1));
        assert_eq!(heard, IcmpOutcome::Unfit);
    }
    tracer.handle_timeout(at(2));
    let told = tracer.poll_event().map(|event| event.kind);
    let what = UnfitIcmp::Trace;
    assert_eq!(
        told,
        Some(EventKind::UnfitIcmp {
            what,
            count: 65_536
        })
    );
}

proptest! {
    /// No input makes it panic; a snapshot never shows more answers than packets.
    #[test]
    fn any_input_in_any_order_is_survived(
        steps in proptest::collection::vec((0u8..7, any::<u32>(), 0i64..9_000, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..200),
        max_ttl: u8,
        attempts: u8,
    ) {
        let mut tracer = Tracer::new(TracerConfig { max_ttl, attempts, ..config(3) });
        let mut payload = vec![];
        let mut sent = vec![];
        for (step, word, ms, kind, bytes) in steps {
            let flow = FlowIndex(u8::try_from(word % 4).unwrap());
            let seq = if sent.is_empty() { Seq(word) } else { sent[usize::try_from(word).unwrap() % sent.len()] };
            let own = [&seq.0.to_be_bytes()[..], &bytes].concat();
            match step {
                0 => {
                    while let Some(t) = tracer.poll_transmit(at(ms), WALL, &mut payload) {
                        sent.push(t.seq);
                    }
                }
                1 => tracer.handle_sent(flow, seq, at(ms)),
                2 => tracer.handle_refused(flow, seq),
                3 => tracer.handle_timeout(at(ms)),
                4 => tracer.hint_distance(flow, kind),
                5 => {
                    let received = Stamp { at: at(ms), source: StampSource::User };
                    tracer.handle_reply(&TraceReply { flow, seq, t1: word.into(), received, forward_ttl: None });
                }
                _ => {
                    let quoted = Quoted { ip_id: Some(word.to_be_bytes()[0].into()), payload: &own, ..Quoted::default() };
                    let from = if word % 2 == 0 { TARGET } else { "fd00::1" }.parse().unwrap();
                    tracer.handle_icmp(flow, &TraceError { from, icmp_type: kind % 12, code: kind, at: at(ms), quoted });
                }
            }
            while let Some(trace) = tracer.poll_trace() {
                for (ttl, hop) in (1..).zip(&trace.hops) {
                    prop_assert_eq!(hop.ttl, ttl);
                    prop_assert!(hop.replies.len() <= usize::from(hop.sent));
                }
            }
            tracer.poll_timeout();
        }
    }
}
