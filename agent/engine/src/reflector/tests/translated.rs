//! Sessions behind a NAT of addresses.

use super::keys::{key, keyed, probe};
use super::*;
use crate::reflector::translated::GUESSES;
use crate::translated::MOST_ADDRESSES;

/// Where the NAT translates [`PEER`] to.
const SEEN_AS: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(100, 0, 2, 1));
const FROM: (IpAddr, u16) = (PEER, 50_000);
const NATTED: (IpAddr, u16) = (SEEN_AS, 50_000);

fn own() -> SessionKeys {
    SessionKeys::per_direction(&key(1))
}

fn guarded() -> Reflector {
    reflector(vec![keyed(&key(1))], None)
}

fn translations(reflector: &mut Reflector, ms: i64) -> Vec<(IpAddr, i64, i64, u32)> {
    reflector.handle_timeout(at(ms));
    let ms_of = |t: Mono| (t - at(0)).as_nanos() / MS.as_nanos();
    drain(reflector)
        .into_iter()
        .filter_map(|output| match output {
            Output::Event(
                Some(_),
                Event {
                    at,
                    kind:
                        EventKind::AddressTranslated {
                            address,
                            since,
                            count,
                        },
                },
            ) => Some((address, ms_of(since), ms_of(at), count)),
            _ => None,
        })
        .collect()
}

#[test]
fn ssid_and_hmac_prove_a_session_from_any_address() {
    let mut r = guarded();
    for n in 0..30 {
        let ms = 10 * i64::from(n);
        // Ten probes as they are, ten translated, ten as they are.
        let from = if n / 10 == 1 { NATTED } else { FROM };
        // It counts on: nothing was lost.
        assert_eq!(ask(&mut r, &probe(&own(), n, ms), from, ms), Ok(n));
    }
    let outputs = drain(&mut r);
    let receptions = outputs
        .iter()
        .filter(|o| matches!(o, Output::Reception(..)))
        .count();
    assert_eq!(receptions, 30);
    assert_eq!(translations(&mut r, 1_000), [(SEEN_AS, 100, 190, 10)]);
    assert_eq!(translations(&mut r, 20_000), []);
}

#[test]
fn a_nat_may_change_the_port_too() {
    let mut r = guarded();
    for (seq, port) in [(0, 61_234), (1, 4_096), (2, 50_003)] {
        assert_eq!(
            ask(&mut r, &probe(&own(), seq, 0), (SEEN_AS, port), 1),
            Ok(seq)
        );
    }
    // Ports on which a reflector or a service answers are refused.
    for port in [862, 8_620, 8_862, 53, 0] {
        assert!(ask(&mut r, &probe(&own(), 3, 0), (SEEN_AS, port), 1).is_err());
    }
}

#[test]
fn what_proves_nothing_stays_a_strangers() {
    let mut r = guarded();
    let foreign = SessionKeys::per_direction(&key(2));
    let stranger = Err(DropReason::Stranger);
    assert_eq!(ask(&mut r, &probe(&foreign, 0, 0), NATTED, 1), stranger);
    assert_eq!(
        ask(&mut r, &request(0, 100, Mode::Open), NATTED, 1),
        stranger
    );
    assert_eq!(r.sources(), [PEER]);
    assert!(!r.take_sources_changed());
    assert_eq!(translations(&mut r, 1_000), []);

    // A session without authentication stays bound to its address.
    let mut open = reflector(vec![session()], None);
    assert_eq!(
        ask(&mut open, &request(0, 100, Mode::Open), NATTED, 1),
        stranger
    );
    assert_eq!(ask(&mut open, &request(0, 100, Mode::Open), FROM, 1), Ok(0));
}

#[test]
fn a_recorded_packet_is_answered_to_no_other_address() {
    let mut r = guarded();
    for n in 0..5 {
        ask(&mut r, &probe(&own(), n, 0), FROM, 1).unwrap();
    }
    for n in 0..5 {
        let (verdict, reply) = give(&mut r, &probe(&own(), n, 0), NATTED, 2);
        assert_eq!(verdict, Verdict::Drop(DropReason::Replayed));
        assert!(reply.is_empty());
    }
    assert_eq!(r.sources(), [PEER]);
    assert_eq!(drops(&mut r, 1_000), [(true, DropReason::Replayed, 5)]);
    // The network's copy of a translated packet is answered like any other.
    ask(&mut r, &probe(&own(), 5, 0), NATTED, 3).unwrap();
    ask(&mut r, &probe(&own(), 5, 0), NATTED, 3).unwrap();
}

#[test]
fn one_that_is_translated_to_anothers_address_is_told_from_it() {
    let mut other = keyed(&key(2));
    other.from = SEEN_AS;
    other.name = "other".parse().unwrap();
    other.ssid = Ssid(200);
    let mut r = reflector(vec![keyed(&key(1)), other], None);
    assert_eq!(ask(&mut r, &probe(&own(), 0, 0), NATTED, 1), Ok(0));
    let outputs = drain(&mut r);
    assert!(
        matches!(&outputs[..], [Output::Reception(name, _)] if name.as_str() == "onprem-to-azure"),
        "{outputs:?}"
    );
}

#[test]
fn an_address_that_proved_itself_has_the_queue_of_known_senders() {
    let mut r = guarded();
    ask(&mut r, &probe(&own(), 0, 0), NATTED, 1).unwrap();
    assert!(r.take_sources_changed());
    assert!(!r.take_sources_changed());
    assert_eq!(r.sources(), [PEER, SEEN_AS]);
    // Silent for longer than the idle timeout.
    r.handle_timeout(at(700_000));
    assert!(r.take_sources_changed());
    assert_eq!(r.sources(), [PEER]);
}

#[test]
fn guesses_and_addresses_are_bounded() {
    let mut r = guarded();
    let foreign = SessionKeys::per_direction(&key(2));
    // Known before the flood: it needs no guess.
    ask(&mut r, &probe(&own(), 0, 0), NATTED, 1).unwrap();
    let forged = probe(&foreign, 0, 0);
    for _ in 0..=GUESSES.per_second {
        ask(&mut r, &forged, (SEEN_AS, 50_001), 2).unwrap_err();
        let from = (IpAddr::from([203, 0, 113, 9]), 50_001);
        ask(&mut r, &forged, from, 2).unwrap_err();
    }
    let newcomer = (IpAddr::from([203, 0, 113, 10]), 50_000);
    assert_eq!(
        ask(&mut r, &probe(&own(), 1, 0), newcomer, 2),
        Err(DropReason::Stranger),
        "no HMAC is computed for it now"
    );
    ask(&mut r, &probe(&own(), 1, 0), NATTED, 2).unwrap();
    // A moment later there is room for another guess.
    ask(&mut r, &probe(&own(), 2, 0), newcomer, 20).unwrap();

    for n in 0..20 {
        let from = (IpAddr::from([198, 51, 100, n]), 50_000);
        let seq = 3 + u32::from(n);
        let ms = 100 * i64::from(n) + 1_000;
        ask(&mut r, &probe(&own(), seq, ms), from, ms).unwrap();
    }
    assert_eq!(r.sources().len(), 1 + MOST_ADDRESSES);
}
