//! Authenticated sessions: which packets are believed.

use super::*;
use hopgap_proto::plan::TRACE_SSID_BIT;

pub(super) fn key(octet: u8) -> AuthKey {
    AuthKey::from_bytes(&[octet; 32]).unwrap()
}

pub(super) fn keyed(key: &AuthKey) -> ReflectedSession {
    ReflectedSession {
        keys: Some(SessionKeys::per_direction(key)),
        ..session()
    }
}

/// A probe of flow 0 with T1 `ms` after the start.
pub(super) fn probe(keys: &SessionKeys, seq: u32, ms: i64) -> Vec<u8> {
    let mode = Mode::Authenticated(keys.keys().request);
    let mut bytes = vec![0; mode.base_len()];
    request_at(seq, 100, WALL + MS * ms, mode, &mut bytes);
    bytes
}

fn receptions(reflector: &mut Reflector) -> usize {
    let outputs = drain(reflector);
    let receptions = outputs
        .iter()
        .filter(|o| matches!(o, Output::Reception(..)));
    receptions.count()
}

const FROM: (IpAddr, u16) = (PEER, 50_000);

#[test]
fn a_session_answers_its_own_key_only() {
    let mut r = reflector(vec![keyed(&key(1))], None);
    let own = SessionKeys::per_direction(&key(1));
    for other in [
        SessionKeys::per_direction(&key(2)),
        // The key itself, as a foreign sender would use it.
        SessionKeys::shared(key(1)),
    ] {
        assert_eq!(
            ask(&mut r, &probe(&other, 0, 0), FROM, 1),
            Err(DropReason::Unauthenticated)
        );
    }
    assert_eq!(ask(&mut r, &probe(&own, 0, 0), FROM, 1), Ok(0));
    assert_eq!(receptions(&mut r), 1);
}

#[test]
fn one_bit_anywhere_in_what_the_hmac_covers_is_noticed() {
    let own = SessionKeys::per_direction(&key(1));
    for bit in 0..112 * 8 {
        let mut r = reflector(vec![keyed(&key(1))], None);
        let mut bytes = probe(&own, 0, 0);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(ask(&mut r, &bytes, FROM, 1).is_err(), "bit {bit}");
        assert_eq!(receptions(&mut r), 0);
    }
}

/// Both sides of two sessions, one each way, with the keys that a plan gives them.
fn two_agents(authenticated: bool) -> [(Reflector, ReflectedSession); 2] {
    let here = "10.17.11.132".parse().unwrap();
    [(PEER, 1), (here, 2)].map(|(from, octet)| {
        let session = ReflectedSession {
            name: format!("from-{octet}").parse().unwrap(),
            from,
            reflector_port: 862,
            keys: authenticated.then(|| SessionKeys::per_direction(&key(octet))),
            ssid: Ssid(100),
            ..session()
        };
        (reflector(vec![session.clone()], None), session)
    })
}

#[test]
fn a_reply_is_no_request_at_either_reflector() {
    for authenticated in [true, false] {
        let [(mut azure, out), (mut onprem, back)] = two_agents(authenticated);
        let mode = match &out.keys {
            Some(keys) => Mode::Authenticated(keys.keys().request),
            None => Mode::Open,
        };
        let asked = request(3, 100, mode);
        let (verdict, reply) = give(&mut azure, &asked, (out.from, 50_000), 1);
        assert!(matches!(verdict, Verdict::Reply { .. }), "{verdict:?}");
        receptions(&mut azure);
        // As it comes, and forged as from every port and address that is answered.
        for reflector in [&mut azure, &mut onprem] {
            for from in [out.from, back.from] {
                for port in [862, 8_620, 50_000, 50_001, 61_234] {
                    let (verdict, _) = give(reflector, &reply, (from, port), 2);
                    assert!(
                        matches!(verdict, Verdict::Drop(_)),
                        "{from} {port}: {verdict:?}"
                    );
                }
            }
            assert_eq!(receptions(reflector), 0);
        }
    }
}

#[test]
fn the_keys_alone_tell_a_reply_from_a_request() {
    // A reply to our sender without the time that gives it away as a reply: only the key of
    // its direction is left to tell.
    let keys = SessionKeys::per_direction(&key(1));
    let mut forged = vec![0; 112];
    let mode = Mode::Authenticated(keys.keys().reply);
    request_at(3, 100, WALL, mode, &mut forged);
    let mut r = reflector(vec![keyed(&key(1))], None);
    assert_eq!(
        ask(&mut r, &forged, FROM, 1),
        Err(DropReason::Unauthenticated)
    );
    // One key for both directions would let it in.
    let shared = ReflectedSession {
        keys: Some(SessionKeys::shared(key(1))),
        ..session()
    };
    let mode = key(1);
    request_at(3, 100, WALL, Mode::Authenticated(&mode), &mut forged);
    let mut r = reflector(vec![shared], None);
    assert_eq!(ask(&mut r, &forged, FROM, 1), Ok(0));
}

#[test]
fn a_packet_of_the_other_session_is_refused() {
    let [(mut azure, out), (_, back)] = two_agents(true);
    let of_back = probe(back.keys.as_ref().unwrap(), 0, 0);
    assert_eq!(
        ask(&mut azure, &of_back, (out.from, 50_000), 1),
        Err(DropReason::Unauthenticated)
    );
}

#[test]
fn a_new_key_turns_no_probe_away_while_its_sender_may_not_know_it() {
    let (old, new) = (key(1), key(2));
    let [before, after] = [&old, &new].map(SessionKeys::per_direction);
    let mut r = reflector(vec![keyed(&old)], None);
    assert_eq!(ask(&mut r, &probe(&before, 0, 0), FROM, 0), Ok(0));
    r.set_sessions(vec![keyed(&new)], at(10));
    assert_eq!(
        ask(&mut r, &probe(&before, 1, 20), FROM, 20),
        Ok(1),
        "it counts on"
    );
    assert_eq!(ask(&mut r, &probe(&after, 2, 30), FROM, 30), Ok(2));
    // Setting the same plan again prolongs nothing.
    r.set_sessions(vec![keyed(&new)], at(20_000));
    assert_eq!(
        ask(&mut r, &probe(&before, 3, 30_011), FROM, 30_011),
        Err(DropReason::Unauthenticated)
    );
    assert_eq!(ask(&mut r, &probe(&after, 3, 30_012), FROM, 30_012), Ok(3));
}

#[test]
fn authentication_can_be_switched_on_and_off_without_loss() {
    let keys = SessionKeys::per_direction(&key(1));
    let open = |seq| request(seq, 100, Mode::Open);
    let mut r = reflector(vec![session()], None);
    assert_eq!(ask(&mut r, &open(0), FROM, 0), Ok(0));
    r.set_sessions(vec![keyed(&key(1))], at(10));
    assert_eq!(ask(&mut r, &open(1), FROM, 20), Ok(1));
    assert_eq!(ask(&mut r, &probe(&keys, 2, 30), FROM, 30), Ok(2));
    // Also from a port that a NAT gave it.
    assert_eq!(ask(&mut r, &open(3), (PEER, 61_234), 35), Ok(3));
    r.set_sessions(vec![session()], at(40_000));
    assert_eq!(ask(&mut r, &probe(&keys, 4, 40_001), FROM, 40_001), Ok(4));
    assert_eq!(ask(&mut r, &open(5), FROM, 40_002), Ok(5));
    assert_eq!(
        ask(&mut r, &probe(&keys, 6, 70_001), FROM, 70_001),
        Err(DropReason::Unprovisioned)
    );
}

#[test]
fn a_replay_is_counted_and_no_arrival() {
    let keys = SessionKeys::per_direction(&key(1));
    let mut r = reflector(vec![keyed(&key(1))], None);
    drops(&mut r, 0);
    let recorded: Vec<_> = (0..1_000)
        .map(|n| probe(&keys, n, i64::from(n) * 10))
        .collect();
    for (n, bytes) in (0..).zip(&recorded) {
        assert_eq!(
            ask(&mut r, bytes, FROM, 100 + n * 10),
            Ok(u32::try_from(n).unwrap())
        );
    }
    assert_eq!(receptions(&mut r), 1_000);
    // Sent at once it counts as a copy made by the network, and is recorded as one.
    assert!(ask(&mut r, &recorded[999], FROM, 10_095).is_ok());
    assert_eq!(receptions(&mut r), 1);
    // All of it again, as fast as the line allows.
    for bytes in &recorded[..400] {
        let _ = ask(&mut r, bytes, FROM, 10_096);
    }
    assert_eq!(receptions(&mut r), 0);
    assert_eq!(drops(&mut r, 10_200), [(true, DropReason::Replayed, 400)]);
    // The session's own numbers went on undisturbed.
    assert_eq!(
        ask(&mut r, &probe(&keys, 1_000, 10_100), FROM, 10_205),
        Ok(1_001)
    );
}

#[test]
fn replayed_traceroutes_are_counted_and_take_nothing_from_the_sessions_own() {
    let keys = SessionKeys::per_direction(&key(1));
    let traced = |seq: u32, ms: i64| {
        let mode = Mode::Authenticated(keys.keys().request);
        let mut bytes = vec![0; mode.base_len()];
        let ssid = 100 | TRACE_SSID_BIT;
        request_at(0x8000_0000 | seq, ssid, WALL + MS * ms, mode, &mut bytes);
        bytes
    };
    let mut r = reflector(vec![keyed(&key(1))], None);
    drops(&mut r, 0);
    let recorded: Vec<_> = (0..10).map(|n| traced(n, i64::from(n) * 1_000)).collect();
    for (n, bytes) in (0..).zip(&recorded) {
        assert!(ask(&mut r, bytes, FROM, n * 1_000 + 5).is_ok());
    }
    for _ in 0..1_000 {
        let _ = ask(&mut r, &recorded[0], FROM, 10_000);
    }
    assert_eq!(drops(&mut r, 10_200), [(true, DropReason::Replayed, 1_000)]);
    assert!(ask(&mut r, &traced(10, 10_200), FROM, 10_205).is_ok());
    assert_eq!(receptions(&mut r), 0);
}

/// Each kind begins its numbers at random, so they have nothing to do with each other.
#[test]
fn packets_of_a_size_between_those_of_traceroutes_are_no_replays() {
    let keys = SessionKeys::per_direction(&key(1));
    let beside = |seq: u32, ms: i64| {
        let mode = Mode::Authenticated(keys.keys().request);
        let mut bytes = vec![0; mode.base_len()];
        let ssid = 100 | TRACE_SSID_BIT;
        request_at(0x8000_0000 | seq, ssid, WALL + MS * ms, mode, &mut bytes);
        bytes
    };
    let mut r = reflector(vec![keyed(&key(1))], None);
    drops(&mut r, 0);
    for n in 0..100 {
        let ms = i64::from(n) * 10;
        // The size probe left a moment before the other packet, and arrives after it.
        let (trace, size) = (
            beside((400_000 + n) << 10 | 1, ms),
            beside(n << 8 | 0xff, ms - 1),
        );
        assert!(ask(&mut r, &trace, FROM, ms + 5).is_ok());
        assert!(ask(&mut r, &size, FROM, ms + 5).is_ok());
    }
    assert_eq!(drops(&mut r, 10_200), []);
}

#[test]
fn a_replay_in_a_session_that_is_not_authenticated_cannot_be_told_from_a_probe() {
    let mut r = reflector(vec![session()], None);
    let bytes = request(0, 100, Mode::Open);
    for ms in [0, 10_000, 20_000] {
        assert!(ask(&mut r, &bytes, FROM, ms).is_ok());
    }
    assert_eq!(receptions(&mut r), 3);
}
