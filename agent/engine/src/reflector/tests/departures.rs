//! Departures of replies: awaited from the kernel, recorded, told to a sender that asks.

use super::*;
use hopgap_proto::stamp::OPEN_LEN;
use hopgap_proto::stamp::tlv::{Body, FollowUpTelemetry, TimestampMethod, Tlvs, Writer};

fn ticket((verdict, _): (Verdict, Vec<u8>)) -> Ticket {
    match verdict {
        Verdict::Reply { ticket, .. } => ticket,
        Verdict::Drop(_) => panic!("{verdict:?}"),
    }
}

fn receptions(r: &mut Reflector) -> Vec<Reception> {
    let outputs = drain(r).into_iter();
    outputs
        .filter_map(|o| match o {
            Output::Reception(_, reception) => Some(reception),
            Output::Event(..) => None,
        })
        .collect()
}

fn stamp(ms: i64, source: StampSource) -> Stamp {
    Stamp { at: at(ms), source }
}

#[test]
fn a_reception_has_the_kernels_departure() {
    let mut r = reflector(vec![session()], None);
    let bytes = request(0, 100, Mode::Open);
    let first = ticket(give(&mut r, &bytes, (PEER, 50_000), 1));
    let second = ticket(give(&mut r, &bytes, (PEER, 50_000), 2));
    assert!(first.wants_departure());
    r.handle_sent(first, at(3), true);
    r.handle_sent(second, at(3), true);
    r.handle_timeout(at(4));
    assert_eq!(receptions(&mut r), [], "the stamp may still come");
    // Only the second stamp came: order is kept.
    r.handle_departed(second, stamp(6, StampSource::Kernel), WALL);
    assert_eq!(receptions(&mut r), []);
    r.handle_departed(first, stamp(5, StampSource::Kernel), WALL);
    let departed: Vec<_> = receptions(&mut r).iter().map(|r| r.departed).collect();
    let kernel = |ms| Some(stamp(ms, StampSource::Kernel));
    assert_eq!(departed, [kernel(5), kernel(6)]);
    // Too late to matter, and harmless.
    r.handle_departed(first, stamp(9, StampSource::Kernel), WALL);
}

#[test]
fn without_the_kernels_word_it_is_the_programs_and_says_so() {
    let mut r = reflector(vec![session()], None);
    let bytes = request(0, 100, Mode::Open);
    let first = ticket(give(&mut r, &bytes, (PEER, 50_000), 1));
    r.handle_sent(first, at(3), true);
    r.handle_timeout(at(52));
    assert_eq!(receptions(&mut r), []);
    r.handle_timeout(at(53));
    let user = Some(stamp(3, StampSource::User));
    let found = receptions(&mut r);
    assert_eq!(found.iter().map(|r| r.departed).collect::<Vec<_>>(), [user]);
    // No stamp was asked for, so there is no wait.
    let second = ticket(give(&mut r, &bytes, (PEER, 50_000), 60));
    r.handle_sent(second, at(61), false);
    assert_eq!(receptions(&mut r).len(), 1);
    // At the end there is no wait either.
    let third = ticket(give(&mut r, &bytes, (PEER, 50_000), 70));
    r.handle_sent(third, at(71), true);
    assert_eq!(receptions(&mut r), []);
    r.finish(at(72));
    assert_eq!(receptions(&mut r).len(), 1);
}

fn asking(seq: u32) -> Vec<u8> {
    let base = request(seq, 100, Mode::Open);
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Mode::Open)
        .push(&Body::FollowUpTelemetry(FollowUpTelemetry::default()))
        .unwrap();
    bytes[..OPEN_LEN].copy_from_slice(&base);
    bytes
}

fn told(reply: &[u8]) -> FollowUpTelemetry {
    let tlv = Tlvs::new(&reply[OPEN_LEN..])
        .iter()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(tlv.flags.0, 0, "understood, and well formed");
    match tlv.body().unwrap() {
        Body::FollowUpTelemetry(told) => told,
        other => panic!("{other:?}"),
    }
}

/// RFC 8972 section 4.7: the number and the departure of the reply before.
#[test]
fn follow_up_telemetry_has_the_kernels_departure_of_the_reply_before() {
    for (sessions, open) in [(vec![session()], None), (vec![], Some(open_mode()))] {
        let mut r = reflector(sessions, open);
        let from = (PEER, 50_000);
        let (verdict, reply) = give(&mut r, &asking(0), from, 1);
        assert_eq!(
            told(&reply),
            FollowUpTelemetry::default(),
            "nothing was before"
        );
        let first = ticket((verdict, reply));
        assert!(first.wants_departure());
        r.handle_sent(first, at(2), true);
        r.handle_departed(first, stamp(3, StampSource::Kernel), WALL + MS * 3);

        let (verdict, reply) = give(&mut r, &asking(1), from, 10);
        let follow_up = told(&reply);
        assert_eq!(follow_up.sequence, Seq(0));
        assert_eq!(follow_up.method, TimestampMethod::SOFTWARE);
        let wall = |raw| {
            Timestamp {
                raw,
                format: TimestampFormat::Ntp,
            }
            .to_wall(WALL)
        };
        assert_eq!(wall(follow_up.timestamp), WALL + MS * 3);
        ticket((verdict, reply));
        // The kernel has not reported the second one yet: the program's own time is used,
        // which is software as well.
        let (_, reply) = give(&mut r, &asking(2), from, 20);
        let follow_up = told(&reply);
        assert_eq!(
            (follow_up.sequence, wall(follow_up.timestamp)),
            (Seq(1), WALL + MS * 11)
        );
    }
}

#[test]
fn a_stamp_after_a_change_of_the_plan_is_no_other_sessions() {
    let mut r = reflector(vec![session()], None);
    let from = (PEER, 50_000);
    let first = ticket(give(&mut r, &asking(0), from, 1));
    r.set_sessions(vec![session()], at(2));
    r.handle_departed(first, stamp(9, StampSource::Kernel), WALL + MS * 99);
    let (_, reply) = give(&mut r, &asking(1), from, 10);
    let follow_up = told(&reply);
    assert_eq!(follow_up.sequence, Seq(0));
}
