use super::*;
use hopgap_proto::record::{ProbeFate, StampSource};
use hopgap_proto::stamp::TimestampFormat;
use proptest::prelude::*;

const MS: Span = Span::from_millis(1);
const WALL: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
const FLOW: FlowIndex = FlowIndex(0);

fn at(ms: i64) -> Mono {
    Mono::from_nanos(1_000_000_000) + MS * ms
}

fn kernel(ms: i64) -> Stamp {
    Stamp {
        at: at(ms),
        source: StampSource::Kernel,
    }
}

fn config() -> SenderConfig {
    SenderConfig {
        origin: at(0),
        interval: MS * 100,
        flows: 1,
        ssid: Ssid(5),
        timeout: MS * 500,
        late_window: MS * 1_000,
        stamp_grace: MS * 50,
        keys: None,
        error_estimate: ErrorEstimate::from_error(MS, TimestampFormat::Ntp),
        first_seq: Seq(0),
    }
}

/// A sender that has sent probe 0 with kernel stamp `at(0)`, and that probe.
fn sent_one() -> (Sender, SenderPacket) {
    let mut sender = Sender::new(config());
    let mut packet = vec![];
    sender.poll_transmit(at(0), WALL, &mut packet).unwrap();
    sender.handle_tx_stamp(FLOW, Seq(0), kernel(0));
    let (probe, _) = SenderPacket::parse(&packet, Mode::Open, Compatibility::Strict).unwrap();
    assert_eq!(
        sender.poll_output().map(|o| matches!(o, Output::Event(_))),
        Some(true)
    );
    (sender, probe)
}

fn reply_to(probe: &SenderPacket, sequence: Seq, received: Wall) -> ReflectorPacket {
    let stamp = |wall| Timestamp::from_wall(wall, TimestampFormat::Ntp);
    ReflectorPacket {
        sequence,
        timestamp: stamp(received),
        error_estimate: probe.error_estimate,
        ssid: Some(probe.ssid),
        receive_timestamp: stamp(received),
        sender_sequence: probe.sequence,
        sender_timestamp: probe.timestamp,
        sender_error_estimate: probe.error_estimate,
        sender_ttl: Some(251),
    }
}

fn bytes_of(reply: &ReflectorPacket) -> [u8; 44] {
    let mut bytes = [0; 44];
    reply.write(Mode::Open, &mut bytes).unwrap();
    bytes
}

fn give(sender: &mut Sender, reply: &ReflectorPacket, ms: i64) {
    sender.handle_datagram(FLOW, &bytes_of(reply), kernel(ms), Some(252));
}

fn drain(sender: &mut Sender) -> Vec<Output> {
    std::iter::from_fn(|| sender.poll_output()).collect()
}

fn answers(outputs: &[Output]) -> Vec<(u32, i64)> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Probe(Probe {
                seq,
                fate: ProbeFate::Answered(reply),
                ..
            }) => Some((seq.0, (reply.received.at - at(0)).as_nanos() / 1_000_000)),
            _ => None,
        })
        .collect()
}

fn strays(sender: &mut Sender) -> u32 {
    sender.handle_timeout(at(100_000));
    let outputs = drain(sender);
    assert_eq!(answers(&outputs), []);
    let counts = outputs.iter().map(|o| match o {
        Output::Event(Event {
            kind: EventKind::StrayReplies { count },
            ..
        }) => *count,
        _ => 0,
    });
    counts.sum()
}

#[test]
fn probes_are_stamp_packets_with_the_flows_ssid() {
    let mut sender = Sender::new(SenderConfig {
        flows: 3,
        ..config()
    });
    let mut packet = vec![];
    for i in 0..3u8 {
        let due = sender.poll_timeout().unwrap();
        let t = sender.poll_transmit(due, WALL, &mut packet).unwrap();
        assert_eq!((t.flow, t.seq), (FlowIndex(i), Seq(0)));
        let (probe, _) = SenderPacket::parse(&packet, Mode::Open, Compatibility::Strict).unwrap();
        assert_eq!(probe.ssid, Ssid(5 + u16::from(i)));
        assert_eq!(probe.timestamp.to_wall(WALL), WALL);
        assert_eq!(probe.error_estimate, config().error_estimate);
    }
}

#[test]
fn an_answer_waits_for_the_transmit_stamp_but_not_for_ever() {
    for stamped in [true, false] {
        let mut sender = Sender::new(config());
        let mut packet = vec![];
        sender.poll_transmit(at(0), WALL, &mut packet).unwrap();
        sender.handle_sent(FLOW, Seq(0), at(1));
        let (probe, _) = SenderPacket::parse(&packet, Mode::Open, Compatibility::Strict).unwrap();
        give(&mut sender, &reply_to(&probe, Seq(0), WALL), 9);
        assert_eq!(answers(&drain(&mut sender)), []);
        let expected = if stamped {
            sender.handle_tx_stamp(FLOW, Seq(0), kernel(2));
            kernel(2)
        } else {
            sender.handle_timeout(at(50));
            assert_eq!(answers(&drain(&mut sender)), []);
            assert_eq!(
                sender.poll_timeout(),
                Some(at(100)),
                "within reach of the next send"
            );
            sender.handle_timeout(at(51));
            Stamp {
                at: at(1),
                source: StampSource::User,
            }
        };
        let outputs = drain(&mut sender);
        assert!(
            matches!(outputs[..], [Output::Probe(p)] if p.sent == expected),
            "{outputs:?}"
        );
    }
}

#[test]
fn lateness_is_judged_by_stamps() {
    // Read long after Tmax, but received before it: answered, never called unanswered.
    let (mut sender, probe) = sent_one();
    give(&mut sender, &reply_to(&probe, Seq(0), WALL), 499);
    sender.handle_timeout(at(5_000));
    assert_eq!(drain(&mut sender).len(), 1);
}

#[test]
fn a_reply_beyond_the_late_window_is_a_stray() {
    let (mut sender, probe) = sent_one();
    sender.handle_timeout(at(500));
    let fates = drain(&mut sender);
    assert!(matches!(fates[..], [Output::Probe(p)] if p.fate == ProbeFate::Unanswered));
    sender.handle_timeout(at(1_499));
    give(&mut sender, &reply_to(&probe, Seq(0), WALL), 1_499);
    assert_eq!(answers(&drain(&mut sender)), [(0, 1_499)]);
    sender.handle_timeout(at(1_500));
    give(&mut sender, &reply_to(&probe, Seq(0), WALL), 1_500);
    assert_eq!(strays(&mut sender), 1);
}

#[test]
fn what_is_not_a_reply_to_our_probe_is_a_stray() {
    let (mut sender, probe) = sent_one();
    let good = reply_to(&probe, Seq(0), WALL);
    let wrong_ssid = ReflectorPacket {
        ssid: Some(Ssid(6)),
        ..good
    };
    let never_sent = ReflectorPacket {
        sender_sequence: Seq(1),
        ..good
    };
    let of_an_earlier_run = ReflectorPacket {
        sender_timestamp: Timestamp::from_wall(WALL - MS, TimestampFormat::Ntp),
        ..good
    };
    for reply in [wrong_ssid, never_sent, of_an_earlier_run] {
        give(&mut sender, &reply, 5);
    }
    sender.handle_datagram(FLOW, &[0; 44], kernel(5), None);
    sender.handle_datagram(FLOW, b"", kernel(5), None);
    sender.handle_datagram(FlowIndex(9), &bytes_of(&good), kernel(5), None);
    assert_eq!(strays(&mut sender), 6);
}

#[test]
fn a_peer_without_session_identifiers_is_understood() {
    let (mut sender, probe) = sent_one();
    let reply = ReflectorPacket {
        ssid: Some(Ssid(0)),
        sender_ttl: Some(0),
        ..reply_to(&probe, Seq(1), WALL)
    };
    give(&mut sender, &reply, 5);
    // TWAMP Light's shortest.
    sender.handle_datagram(FLOW, &bytes_of(&reply)[..38], kernel(6), None);
    let outputs = drain(&mut sender);
    assert_eq!(answers(&outputs), [(0, 5), (0, 6)]);
    for output in outputs {
        let Output::Probe(Probe {
            fate: ProbeFate::Answered(reply),
            ..
        }) = output
        else {
            panic!("{output:?}");
        };
        assert_eq!(reply.forward_ttl, None, "zero says nothing");
    }
}

/// Sends `count` probes and answers them in order with these counters, received in that order.
fn restarts(counters: &[u32], order: &[usize]) -> usize {
    let mut sender = Sender::new(config());
    let mut packet = vec![];
    let mut probes = vec![];
    for _ in counters {
        let due = sender.poll_timeout().unwrap();
        let t = sender.poll_transmit(due, WALL, &mut packet).unwrap();
        sender.handle_tx_stamp(FLOW, t.seq, kernel(0));
        probes.push(
            SenderPacket::parse(&packet, Mode::Open, Compatibility::Strict)
                .unwrap()
                .0,
        );
    }
    for &i in order {
        let received = WALL + MS * i64::try_from(i).unwrap();
        give(
            &mut sender,
            &reply_to(&probes[i], Seq(counters[i]), received),
            400,
        );
    }
    let restarted = EventKind::ReflectorRestarted { flow: FLOW };
    drain(&mut sender)
        .iter()
        .filter(|o| matches!(o, Output::Event(e) if e.kind == restarted))
        .count()
}

#[test]
fn a_counter_that_goes_back_is_a_restart() {
    assert_eq!(restarts(&[7, 8, 0, 1], &[0, 1, 2, 3]), 1);
    assert_eq!(restarts(&[7, 8, 9, 10], &[0, 1, 2, 3]), 0);
}

#[test]
fn replies_that_overtake_are_no_restart() {
    assert_eq!(restarts(&[7, 8, 9, 10], &[1, 0, 3, 2]), 0);
}

#[test]
fn a_counter_that_wraps_is_no_restart() {
    assert_eq!(restarts(&[u32::MAX - 1, u32::MAX, 0, 1], &[0, 1, 2, 3]), 0);
}

#[test]
fn a_stateless_reflector_never_restarts() {
    // The probes overtook on the way out: received in the order 0, 2, 1 and copied.
    let (mut sender, probe) = sent_one();
    let mut packet = vec![];
    for i in [1u32, 2] {
        sender.poll_transmit(at(100 * i64::from(i)), WALL, &mut packet);
        sender.handle_tx_stamp(FLOW, Seq(i), kernel(100 * i64::from(i)));
    }
    for (order, seq) in [0u32, 2, 1].into_iter().enumerate() {
        let received = WALL + MS * i64::try_from(order).unwrap();
        let reply = ReflectorPacket {
            sender_sequence: Seq(seq),
            ..reply_to(&probe, Seq(seq), received)
        };
        give(&mut sender, &reply, 250);
    }
    let outputs = drain(&mut sender);
    assert_eq!((outputs.len(), answers(&outputs).len()), (3, 3));
}

#[test]
fn duplicates_are_recorded_within_reason() {
    let (mut sender, probe) = sent_one();
    for _ in 0..1_000 {
        give(&mut sender, &reply_to(&probe, Seq(0), WALL), 5);
    }
    assert_eq!(answers(&drain(&mut sender)).len(), 64);
    assert_eq!(strays(&mut sender), 1_000 - 64);
}

#[test]
fn memory_is_bounded_even_if_nobody_calls_the_timeout() {
    let mut sender = Sender::new(SenderConfig {
        interval: MS,
        timeout: MS * 10,
        late_window: MS * 20,
        ..config()
    });
    let mut packet = vec![];
    for ms in 0..10_000 {
        sender.poll_transmit(at(ms), WALL, &mut packet).unwrap();
    }
    assert!(sender.flows[0].matcher.len() <= 46);
    let unanswered = drain(&mut sender).len() - 1;
    assert_eq!(unanswered, 10_000 - sender.flows[0].matcher.len());
}

fn icmp(payload: &[u8], ms: i64) -> IcmpError<'_> {
    IcmpError {
        quoted_payload: payload,
        from: [192, 168, 11, 88].into(),
        icmp_type: 3,
        code: 0,
        mtu: None,
        at: at(ms),
    }
}

#[test]
fn icmp_errors_are_evidence_at_a_bounded_rate() {
    let mut sender = Sender::new(SenderConfig {
        interval: MS,
        timeout: MS * 60_000,
        ..config()
    });
    let mut packet = vec![];
    for ms in 0..2_500 {
        sender.poll_transmit(at(ms), WALL, &mut packet).unwrap();
        assert_eq!(
            sender.handle_icmp(FLOW, &icmp(&packet, ms)),
            IcmpOwner::Probe
        );
    }
    sender.handle_timeout(at(4_000));
    let evidence: Vec<_> = drain(&mut sender)
        .into_iter()
        .filter_map(|o| match o {
            Output::Event(Event {
                at: when,
                kind: EventKind::Icmp(e),
            }) => Some(((when - at(0)).as_nanos() / 1_000_000, e.seq.unwrap().0)),
            _ => None,
        })
        .collect();
    assert_eq!(
        evidence,
        [(0, 0), (1_000, 1_000), (2_000, 2_000), (2_499, 2_499)]
    );
}

#[test]
fn icmp_errors_find_their_owner() {
    let (mut sender, _) = sent_one();
    let trace = SenderPacket {
        sequence: Seq(0x8000_0401),
        timestamp: Timestamp::from_wall(WALL, TimestampFormat::Ntp),
        error_estimate: config().error_estimate,
        ssid: Ssid(5 | TRACE_SSID_BIT),
    };
    let mut packet = [0; 44];
    trace.write(Mode::Open, &mut packet).unwrap();
    let owner =
        |sender: &mut Sender, len: usize| sender.handle_icmp(FLOW, &icmp(&packet[..len], 1));
    assert_eq!(owner(&mut sender, 44), IcmpOwner::Trace(trace.sequence));
    assert_eq!(owner(&mut sender, 4), IcmpOwner::Trace(trace.sequence));
    assert_eq!(owner(&mut sender, 3), IcmpOwner::Probe);
}

#[test]
fn traceroute_replies_go_to_the_tracer() {
    let (mut sender, probe) = sent_one();
    let trace = Seq(0x8000_0401);
    // A reply that copies the number, one that counts, and then replies that add nothing.
    for (ssid, number, told) in [
        (5 | TRACE_SSID_BIT, trace, false),
        (0, Seq(0), true),
        (5 | TRACE_SSID_BIT, Seq(1), false),
    ] {
        let reply = ReflectorPacket {
            ssid: Some(Ssid(ssid)),
            sender_sequence: trace,
            ..reply_to(&probe, number, WALL)
        };
        give(&mut sender, &reply, 3);
        let mut outputs = drain(&mut sender);
        if told {
            assert!(matches!(
                outputs.remove(0),
                Output::Event(Event {
                    kind: EventKind::ReflectorCounts,
                    ..
                })
            ));
        }
        assert!(
            matches!(outputs[..], [Output::TraceReply(r)] if r.seq == trace),
            "{outputs:?}"
        );
    }
}

#[test]
fn a_slow_session_wakes_for_its_timeouts() {
    let mut sender = Sender::new(SenderConfig {
        interval: MS * 10_000,
        ..config()
    });
    let mut packet = vec![];
    sender.poll_transmit(at(0), WALL, &mut packet).unwrap();
    assert_eq!(sender.poll_timeout(), Some(at(500)));
    sender.handle_timeout(at(500));
    assert_eq!(sender.poll_timeout(), Some(at(10_000)));
    sender.stop(at(600));
    assert_eq!((sender.poll_timeout(), sender.is_drained()), (None, true));
    assert_eq!(sender.poll_transmit(at(20_000), WALL, &mut packet), None);
}

proptest! {
    /// No input of a peer or a shell makes it panic, and a probe without a reply gets at most
    /// one verdict.
    #[test]
    fn any_input_in_any_order_is_survived(
        steps in proptest::collection::vec((0u8..9, any::<u32>(), 0i64..3_000, proptest::collection::vec(any::<u8>(), 0..130)), 0..200),
        flows in 1u8..4,
        first_seq: u32,
    ) {
        let mut sender = Sender::new(SenderConfig { flows, first_seq: Seq(first_seq), ..config() });
        let mut packet = vec![];
        let mut sent = 0usize;
        let mut probes = 0usize;
        for (step, word, ms, bytes) in steps {
            let flow = FlowIndex(u8::try_from(word % 5).unwrap());
            let seq = Seq(first_seq.wrapping_add(word % 50));
            match step {
                0 => sent += usize::from(sender.poll_transmit(at(ms), WALL, &mut packet).is_some()),
                1 => sender.handle_sent(flow, seq, at(ms)),
                2 => sender.handle_tx_stamp(flow, seq, kernel(ms)),
                3 => sender.handle_refused(flow, seq, at(ms), 1),
                4 => {
                    sender.handle_datagram(flow, &bytes, kernel(ms), None);
                }
                5 => { sender.handle_icmp(flow, &icmp(&bytes, ms)); }
                6 => sender.handle_timeout(at(ms)),
                7 => { sender.poll_timeout(); }
                _ if !packet.is_empty() => {
                    // A plausible reply: the last probe's own bytes come back.
                    let mut reply = packet.clone();
                    reply[24..38].copy_from_slice(&packet[0..14]);
                    sender.handle_datagram(flow, &reply, kernel(ms), Some(60));
                }
                _ => {}
            }
            probes += drain(&mut sender).iter().filter(|o| matches!(o, Output::Probe(p) if !matches!(p.fate, ProbeFate::Answered(_)))).count();
        }
        prop_assert!(probes <= sent);
        sender.stop(at(4_000));
        sender.handle_timeout(Mono::MAX);
        prop_assert!(sender.is_drained());
    }
}

#[test]
fn whoever_waits_no_longer_records_what_is_open_as_it_stands() {
    let (mut sender, probe) = sent_one();
    sender.stop(at(10));
    sender.handle_timeout(at(20));
    assert!(!sender.is_drained(), "its reply may still come");
    sender.give_up();
    let open: Vec<Probe> = drain(&mut sender)
        .into_iter()
        .filter_map(|o| match o {
            Output::Probe(probe) => Some(probe),
            _ => None,
        })
        .collect();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((open[0].seq, open[0].fate), (Seq(0), ProbeFate::Unanswered));
    assert_eq!(open[0].sent, kernel(0));
    assert!(sender.is_drained());
    // A second call changes nothing; a reply that comes all the same is recorded.
    sender.give_up();
    assert_eq!(drain(&mut sender).len(), 0);
    give(&mut sender, &reply_to(&probe, Seq(0), WALL), 30);
    assert_eq!(answers(&drain(&mut sender)).len(), 1);
}

#[test]
fn a_reply_that_waits_for_its_stamp_is_not_given_up() {
    let mut sender = Sender::new(config());
    let mut packet = vec![];
    sender.poll_transmit(at(0), WALL, &mut packet).unwrap();
    sender.handle_sent(FLOW, Seq(0), at(0));
    let (probe, _) = SenderPacket::parse(&packet, Mode::Open, Compatibility::Strict).unwrap();
    give(&mut sender, &reply_to(&probe, Seq(0), WALL), 2);
    drain(&mut sender);
    sender.stop(at(3));
    sender.give_up();
    assert_eq!(answers(&drain(&mut sender)).len(), 1);
    assert!(sender.is_drained());
}
