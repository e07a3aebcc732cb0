//! What a reflector answers, and what it records.

mod departures;
mod flood;
mod keys;
mod loops;
mod translated;

use super::*;
use hopgap_proto::plan::{Destination, Plan};
use hopgap_proto::record::{EventKind, FlowIndex, StampSource};
use hopgap_proto::stamp::{
    AuthKey, Compatibility, Mode, ReflectorPacket, SenderPacket, Seq, SessionKeys, Ssid, Timestamp,
    TimestampFormat,
};
use proptest::prelude::*;

const MS: Span = Span::from_millis(1);
const WALL: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
const PEER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 11, 10));

fn at(ms: i64) -> Mono {
    Mono::from_nanos(1_000_000_000) + MS * ms
}

fn estimate() -> ErrorEstimate {
    ErrorEstimate::from_error(MS, TimestampFormat::Ntp)
}

fn session() -> ReflectedSession {
    ReflectedSession {
        name: "onprem-to-azure".parse().unwrap(),
        from: PEER,
        reflector_port: 8_862,
        source_port: 50_000,
        ssid: Ssid(100),
        flows: 4,
        keys: None,
        rate: Rate { per_second: 1_000 },
    }
}

fn reflector(sessions: Vec<ReflectedSession>, open: Option<OpenMode>) -> Reflector {
    let mut config = ReflectorConfig::new(8_620, estimate());
    config.sessions = sessions;
    config.open = open;
    Reflector::new(config)
}

fn open_mode() -> OpenMode {
    OpenMode {
        max_sessions: 2,
        rate: Rate { per_second: 1_000 },
        key: None,
        compatibility: Compatibility::TwampLight,
    }
}

fn request(seq: u32, ssid: u16, mode: Mode<'_>) -> Vec<u8> {
    let mut bytes = vec![0; mode.base_len()];
    request_at(seq, ssid, WALL, mode, &mut bytes);
    bytes
}

fn request_at(seq: u32, ssid: u16, sent: Wall, mode: Mode<'_>, bytes: &mut [u8]) {
    let packet = SenderPacket {
        sequence: Seq(seq),
        timestamp: Timestamp::from_wall(sent, TimestampFormat::Ntp),
        error_estimate: estimate(),
        ssid: Ssid(ssid),
    };
    packet.write(mode, bytes).unwrap();
}

fn give(
    reflector: &mut Reflector,
    bytes: &[u8],
    from: (IpAddr, u16),
    ms: i64,
) -> (Verdict, Vec<u8>) {
    let datagram = Datagram {
        bytes,
        from: from.into(),
        to: "10.17.11.132:8620".parse().unwrap(),
        ttl: Some(251),
        tos: Some(0),
        received: Stamp {
            at: at(ms),
            source: StampSource::Kernel,
        },
        received_wall: WALL + MS * ms,
    };
    let mut reply = vec![0xff; 3];
    let verdict = reflector.handle(&datagram, WALL + MS * (ms + 1), &mut reply);
    (verdict, reply)
}

/// The reply's own sequence number, or why there was none.
fn ask(
    reflector: &mut Reflector,
    bytes: &[u8],
    from: (IpAddr, u16),
    ms: i64,
) -> Result<u32, DropReason> {
    match give(reflector, bytes, from, ms) {
        (Verdict::Drop(reason), reply) => {
            assert!(reply.is_empty());
            Err(reason)
        }
        (Verdict::Reply { .. }, reply) => {
            assert_eq!(reply.len(), bytes.len(), "a reply has its request's size");
            Ok(u32::from_be_bytes(reply[..4].try_into().unwrap()))
        }
    }
}

fn drain(reflector: &mut Reflector) -> Vec<Output> {
    std::iter::from_fn(|| reflector.poll_output()).collect()
}

fn drops(reflector: &mut Reflector, ms: i64) -> Vec<(bool, DropReason, u32)> {
    drain(reflector);
    reflector.handle_timeout(at(ms));
    drain(reflector)
        .into_iter()
        .filter_map(|o| match o {
            Output::Event(
                name,
                Event {
                    kind: EventKind::ReflectorDropped { reason, count },
                    ..
                },
            ) => Some((name.is_some(), reason, count)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_reply_says_what_was_received() {
    let mut r = reflector(vec![session()], None);
    let (verdict, reply) = give(&mut r, &request(9, 101, Mode::Open), (PEER, 50_001), 5);
    assert!(matches!(verdict, Verdict::Reply { dscp: Some(0), .. }));
    let (reply, _) = ReflectorPacket::parse(&reply, Mode::Open, Compatibility::Strict).unwrap();
    assert_eq!(reply.sender_sequence, Seq(9));
    assert_eq!(reply.sender_ttl, Some(251));
    assert_eq!(reply.ssid, Some(Ssid(101)));
    assert_eq!(reply.error_estimate, estimate());
    assert_eq!(reply.receive_timestamp.to_wall(WALL), WALL + MS * 5);
    assert_eq!(reply.timestamp.to_wall(WALL), WALL + MS * 6);
    let outputs = drain(&mut r);
    let Output::Reception(name, reception) = &outputs[0] else {
        panic!("{outputs:?}");
    };
    assert_eq!(name.as_str(), "onprem-to-azure");
    assert_eq!(
        (
            reception.flow,
            reception.seq,
            reception.ttl,
            reception.reflector_seq
        ),
        (FlowIndex(1), Seq(9), Some(251), Some(Seq(0)))
    );
}

#[test]
fn each_flow_and_its_traceroutes_count_apart() {
    let mut r = reflector(vec![session()], None);
    let probe = |flow: u16| (request(0, 100 + flow, Mode::Open), (PEER, 50_000 + flow));
    let trace = request(1 << 31, 100 | TRACE_BIT, Mode::Open);
    for i in 0..3 {
        for flow in 0..4 {
            let (bytes, from) = probe(flow);
            assert_eq!(ask(&mut r, &bytes, from, 1), Ok(i));
        }
        assert_eq!(ask(&mut r, &trace, (PEER, 50_000), 1), Ok(i));
    }
    assert_eq!(drain(&mut r).len(), 12, "traceroutes are no receptions");
    assert_eq!((r.totals().answered, r.totals().traced), (12, 3));
}

const TRACE_BIT: u16 = hopgap_proto::plan::TRACE_SSID_BIT;

#[test]
fn only_provisioned_sessions_are_answered() {
    let mut r = reflector(vec![session()], None);
    let stranger = ([10, 1, 11, 11].into(), 50_000);
    assert_eq!(
        ask(&mut r, &request(0, 100, Mode::Open), stranger, 1),
        Err(DropReason::Stranger)
    );
    let mut refused = |ssid, from| {
        assert_eq!(
            ask(&mut r, &request(0, ssid, Mode::Open), from, 1),
            Err(DropReason::Unprovisioned),
            "{ssid} {from:?}"
        );
    };
    refused(99, (PEER, 49_999));
    refused(104, (PEER, 50_004));
    refused(101, (PEER, 50_000));
    refused(0, (PEER, 50_000));
    assert_eq!(
        drops(&mut r, 2_000),
        [
            (false, DropReason::Stranger, 1),
            (true, DropReason::Unprovisioned, 4)
        ]
    );
}

#[test]
fn an_ipv4_peer_on_an_ipv6_socket_is_the_same_peer() {
    let mut r = reflector(vec![session()], None);
    let IpAddr::V4(peer) = PEER else { panic!() };
    let mapped = (IpAddr::V6(peer.to_ipv6_mapped()), 50_000);
    assert_eq!(ask(&mut r, &request(0, 100, Mode::Open), mapped, 1), Ok(0));
}

#[test]
fn what_could_loop_is_never_answered() {
    for open in [None, Some(open_mode())] {
        let mut r = reflector(vec![session()], open);
        for port in [862, 8_620, 0] {
            let verdict = ask(&mut r, &request(0, 100, Mode::Open), (PEER, port), 1);
            assert_eq!(verdict, Err(DropReason::LoopGuard));
        }
    }
}

#[test]
fn a_keyed_session_answers_its_key_only() {
    let key: AuthKey = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
    let other: AuthKey = "100102030405060708090a0b0c0d0e0f".parse().unwrap();
    let mut keyed = session();
    keyed.keys = Some(SessionKeys::shared(key.clone()));
    let mut r = reflector(vec![keyed], None);
    let from = (PEER, 50_000);
    let wrong = request(0, 100, Mode::Authenticated(&other));
    assert_eq!(
        ask(&mut r, &wrong, from, 1),
        Err(DropReason::Unauthenticated)
    );
    let bare = request(0, 100, Mode::Open);
    assert_eq!(ask(&mut r, &bare, from, 1), Err(DropReason::Malformed));
    let right = request(0, 100, Mode::Authenticated(&key));
    let (_, reply) = give(&mut r, &right, from, 1);
    let mode = Mode::Authenticated(&key);
    assert!(ReflectorPacket::parse(&reply, mode, Compatibility::Strict).is_ok());
}

#[test]
fn the_rate_is_limited_and_what_is_not_authentic_does_not_use_it_up() {
    let mut r = reflector(vec![session()], None);
    let from = (PEER, 50_000);
    for _ in 0..5_000 {
        assert!(ask(&mut r, &request(0, 7, Mode::Open), from, 0).is_err());
    }
    let admitted = (0..3_000)
        .filter(|_| ask(&mut r, &request(0, 100, Mode::Open), from, 0).is_ok())
        .count();
    assert_eq!(admitted, 1_000, "a second's worth at once");
    let later = ask(&mut r, &request(0, 100, Mode::Open), from, 1);
    assert_eq!(later, Ok(1_000), "what was dropped is not counted");
    let unanswered = drain(&mut r)
        .into_iter()
        .filter(
            |o| matches!(o, Output::Reception(_, reception) if reception.reflector_seq.is_none()),
        )
        .count();
    assert_eq!(unanswered, 1_000, "recorded as well, within the same rate");
    assert!(drops(&mut r, 2_000).contains(&(true, DropReason::RateLimited, 2_000)));
}

#[test]
fn a_refused_reply_is_recorded_as_none() {
    let mut r = reflector(vec![session()], None);
    let bytes = request(0, 100, Mode::Open);
    give(&mut r, &bytes, (PEER, 50_000), 1);
    drain(&mut r);
    let (verdict, _) = give(&mut r, &bytes, (PEER, 50_000), 1);
    give(&mut r, &bytes, (PEER, 50_000), 1);
    let Verdict::Reply { ticket, .. } = verdict else {
        panic!("{verdict:?}");
    };
    r.handle_refused(ticket, at(2), 101);
    let receptions: Vec<_> = drain(&mut r)
        .into_iter()
        .map(|o| match o {
            Output::Reception(_, reception) => reception,
            Output::Event(..) => panic!("{o:?}"),
        })
        .collect();
    let numbers: Vec<_> = receptions.iter().map(|r| r.reflector_seq).collect();
    assert_eq!(numbers, [None, Some(Seq(2))]);
    let refused: Vec<_> = receptions.iter().map(|r| r.refused).collect();
    assert_eq!(refused, [Some(101), None]);
    let refusal = Stamp {
        at: at(2),
        source: StampSource::User,
    };
    assert_eq!(receptions[0].departed, Some(refusal));
    assert_eq!(drops(&mut r, 2_000), [(true, DropReason::SendRefused, 1)]);
}

#[test]
fn counting_outlives_the_bgp_hold_time_and_a_new_plan() {
    let mut r = reflector(vec![session()], None);
    let (bytes, from) = (request(0, 100, Mode::Open), (PEER, 50_000));
    assert_eq!(ask(&mut r, &bytes, from, 0), Ok(0));
    assert_eq!(ask(&mut r, &bytes, from, 600_000), Ok(1));
    r.set_sessions(vec![session()], at(600_000));
    assert_eq!(ask(&mut r, &bytes, from, 600_001), Ok(2));
    assert_eq!(
        ask(&mut r, &bytes, from, 1_200_002),
        Ok(0),
        "idle for too long"
    );
    r.set_sessions(vec![], at(1_200_002));
    assert_eq!(
        ask(&mut r, &bytes, from, 1_200_003),
        Ok(1),
        "its sender may not know yet"
    );
    r.handle_timeout(at(1_232_002));
    assert_eq!(
        ask(&mut r, &bytes, from, 1_232_003),
        Err(DropReason::Stranger)
    );
}

#[test]
fn while_a_plan_changes_both_the_old_and_the_new_session_are_answered() {
    let mut r = reflector(vec![session()], None);
    let from = (PEER, 50_001);
    let old = request(0, 101, Mode::Open);
    assert_eq!(ask(&mut r, &old, from, 0), Ok(0));
    let renumbered = ReflectedSession {
        ssid: Ssid(164),
        ..session()
    };
    r.set_sessions(vec![renumbered.clone()], at(1));
    assert_eq!(ask(&mut r, &request(0, 165, Mode::Open), from, 2), Ok(0));
    assert_eq!(ask(&mut r, &old, from, 3), Ok(1), "it counts on");
    // Setting the same plan again prolongs nothing.
    r.set_sessions(vec![renumbered], at(20_000));
    r.handle_timeout(at(30_002));
    assert_eq!(
        ask(&mut r, &old, from, 30_003),
        Err(DropReason::Unprovisioned)
    );
    assert_eq!(
        ask(&mut r, &request(1, 165, Mode::Open), from, 30_004),
        Ok(1)
    );
}

#[test]
fn a_new_plan_loses_no_count_of_drops_and_the_end_reports_the_last() {
    let mut r = reflector(vec![session()], None);
    drops(&mut r, 0);
    ask(&mut r, &[0; 43], (PEER, 50_000), 1).unwrap_err();
    r.set_sessions(vec![session()], at(2));
    ask(&mut r, &[0; 43], (PEER, 50_000), 3).unwrap_err();
    r.set_sessions(vec![], at(4));
    ask(&mut r, &[0; 43], (PEER, 50_000), 5).unwrap_err();
    assert_eq!(
        drops(&mut r, 1_000),
        [
            (true, DropReason::Malformed, 2),
            (true, DropReason::Unprovisioned, 1)
        ]
    );
    ask(&mut r, &[0; 43], (PEER, 50_000), 1_001).unwrap_err();
    drain(&mut r);
    r.finish(at(1_002));
    assert_eq!(drain(&mut r).len(), 1);
}

#[test]
fn the_reply_travels_in_the_class_of_the_request() {
    let mut r = reflector(vec![session()], None);
    let bytes = request(0, 100, Mode::Open);
    let datagram = Datagram {
        bytes: &bytes,
        from: (PEER, 50_000).into(),
        to: "10.17.11.132:8620".parse().unwrap(),
        ttl: Some(251),
        tos: Some(46 << 2 | 1),
        received: Stamp {
            at: at(0),
            source: StampSource::Kernel,
        },
        received_wall: WALL,
    };
    let verdict = r.handle(&datagram, WALL, &mut Vec::new());
    assert!(matches!(verdict, Verdict::Reply { dscp: Some(46), .. }));
}

#[test]
fn open_mode_answers_no_well_known_port() {
    let mut r = reflector(vec![], Some(open_mode()));
    let bytes = request(0, 0, Mode::Open);
    for port in [7, 19, 53, 1023] {
        assert_eq!(
            ask(&mut r, &bytes, (PEER, port), 0),
            Err(DropReason::LoopGuard)
        );
    }
}

#[test]
fn one_network_does_not_take_all_places_of_open_mode() {
    let mut mode = open_mode();
    mode.max_sessions = 8;
    let mut r = reflector(vec![], Some(mode));
    let bytes = request(5, 0, Mode::Open);
    for port in 2_000..2_002 {
        assert_eq!(ask(&mut r, &bytes, (PEER, port), 0), Ok(0));
    }
    // The others of its network are answered without a count: with their own number.
    for port in 2_002..2_100 {
        assert_eq!(ask(&mut r, &bytes, (PEER, port), 0), Ok(5));
    }
    assert_eq!(r.totals().uncounted, 98);
    let other = "10.1.12.10".parse().unwrap();
    assert_eq!(ask(&mut r, &bytes, (other, 2_000), 1), Ok(0));
}

#[test]
fn open_mode_counts_a_limited_number_of_sessions() {
    let mut r = reflector(vec![], Some(open_mode()));
    let bytes = request(5, 0, Mode::Open);
    let other = |n: u8| IpAddr::V4(core::net::Ipv4Addr::new(10, 1, n, 1));
    assert_eq!(ask(&mut r, &bytes, (other(1), 2_000), 0), Ok(0));
    assert_eq!(ask(&mut r, &bytes, (other(2), 2_000), 0), Ok(0));
    assert_eq!(ask(&mut r, &bytes, (other(3), 2_000), 0), Ok(5));
    assert_eq!(ask(&mut r, &bytes, (other(2), 2_000), 1), Ok(1));
    // Once the others are idle there is room again.
    assert_eq!(ask(&mut r, &bytes, (other(3), 2_000), 700_000), Ok(0));
    assert!(
        drain(&mut r).is_empty(),
        "nobody's session, nobody's record"
    );
}

#[test]
fn drops_are_reported_at_most_once_a_second() {
    let mut r = reflector(vec![], None);
    assert_eq!(r.poll_timeout(), None);
    ask(&mut r, b"x", (PEER, 1_000), 0).unwrap_err();
    assert_eq!(drops(&mut r, 1).len(), 1);
    ask(&mut r, b"x", (PEER, 1_000), 2).unwrap_err();
    assert_eq!(r.poll_timeout(), Some(at(1_001)));
    assert_eq!(drops(&mut r, 1_000), []);
    assert_eq!(drops(&mut r, 1_001).len(), 1);
}

#[test]
fn the_plan_provisions_what_others_send_here() {
    let plan: Plan = Plan {
        agents: vec![
            agent("onprem", "10.1.11.10"),
            agent("azure", "10.17.11.132"),
        ],
        sessions: vec![
            planned("out", "onprem", "azure"),
            planned("back", "azure", "onprem"),
        ],
        ..Plan::default()
    };
    let plan = plan.checked().unwrap();
    let (here, unusable) = ReflectedSession::from_plan(&plan, &"azure".parse().unwrap());
    assert_eq!((here.len(), unusable.len()), (1, 0));
    assert_eq!((here[0].name.as_str(), here[0].from), ("out", PEER));
    assert_eq!(here[0].ssid, plan.sessions[0].ssid.unwrap());
}

#[test]
fn a_key_of_no_use_costs_its_own_session_alone() {
    let mut broken = planned("broken", "onprem", "azure");
    broken.authenticated = Some(true);
    broken.key = Some("no key at all".to_owned());
    let plan = Plan {
        agents: vec![
            agent("onprem", "10.1.11.10"),
            agent("azure", "10.17.11.132"),
        ],
        sessions: vec![
            broken,
            planned("out", "onprem", "azure"),
            planned("more", "onprem", "azure"),
        ],
        ..Plan::default()
    };
    let (here, unusable) = ReflectedSession::from_plan(&plan, &"azure".parse().unwrap());
    let names: Vec<_> = here.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["out", "more"]);
    let why: Vec<_> = unusable.iter().map(ToString::to_string).collect();
    assert!(why.len() == 1 && why[0].contains("broken"), "{why:?}");
}

fn agent(name: &str, address: &str) -> hopgap_proto::plan::AgentPlan {
    hopgap_proto::plan::AgentPlan {
        name: name.parse().unwrap(),
        address: address.parse().unwrap(),
        reflector_port: 862,
    }
}

fn planned(name: &str, from: &str, to: &str) -> hopgap_proto::plan::SessionPlan {
    hopgap_proto::plan::SessionPlan {
        name: name.parse().unwrap(),
        from: from.parse().unwrap(),
        to: Destination::Agent(to.parse().unwrap()),
        interval: MS * 10,
        flows: 8,
        source_port: 50_000,
        ssid: None,
        timeout: MS * 2_000,
        trace_interval: MS * 1_000,
        path_mtu_interval: None,
        dscp: 0,
        precise: false,
        time_unit: Span::from_nanos(100),
        authenticated: Some(false),
        key: None,
    }
}

proptest! {
    /// Whatever arrives, nothing panics, no reply is larger, and every datagram is either
    /// answered or counted.
    #[test]
    fn any_datagram_is_answered_or_counted(
        datagrams in proptest::collection::vec((0u8..4, any::<u16>(), 0i64..5_000, proptest::collection::vec(any::<u8>(), 0..200)), 0..100),
        open: bool,
    ) {
        let mut r = reflector(vec![session()], open.then(open_mode));
        let sent = u64::try_from(datagrams.len()).unwrap();
        for (kind, port, ms, mut bytes) in datagrams {
            if kind < 2 && bytes.len() >= 44 {
                bytes[..44].copy_from_slice(&request(1, 100 + port % 4, Mode::Open));
            }
            let port = if kind % 2 == 0 { 50_000 + port % 4 } else { port };
            let _ = ask(&mut r, &bytes, (PEER, port), ms);
            r.handle_timeout(at(ms));
        }
        let totals = r.totals();
        prop_assert_eq!(totals.answered + totals.traced + totals.dropped, sent);
    }
}

#[test]
fn a_session_is_known_by_its_ssid_where_a_nat_changes_its_ports() {
    let mut r = reflector(vec![session()], None);
    let own = request(7, 102, Mode::Open);
    assert_eq!(ask(&mut r, &own, (PEER, 50_002), 0), Ok(0));
    drain(&mut r);
    assert_eq!(ask(&mut r, &own, (PEER, 61_234), 1), Ok(1), "it counts on");
    let outputs = drain(&mut r);
    assert!(
        matches!(outputs[..], [Output::Reception(_, r)] if r.flow == FlowIndex(2)),
        "{outputs:?}"
    );
    let refused = [
        (PEER, 61_234, 104),
        (PEER, 61_234, 0),
        (PEER, 8_862, 102),
        (PEER, 1_023, 102),
        ("10.1.11.11".parse().unwrap(), 61_234, 102),
    ];
    for (from, port, ssid) in refused {
        let reason = if from == PEER {
            DropReason::Unprovisioned
        } else {
            DropReason::Stranger
        };
        assert_eq!(
            ask(&mut r, &request(8, ssid, Mode::Open), (from, port), 2),
            Err(reason)
        );
    }
    // Never a port on which a reflector answers.
    assert_eq!(
        ask(&mut r, &own, (PEER, 862), 3),
        Err(DropReason::LoopGuard)
    );
}
