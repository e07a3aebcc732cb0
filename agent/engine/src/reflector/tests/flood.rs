//! Floods: a sender of too much takes nothing from others.

use super::keys::probe;
use super::*;

const FROM: (IpAddr, u16) = (PEER, 50_000);

fn key() -> AuthKey {
    AuthKey::from_bytes(&[1; 32]).unwrap()
}

fn keyed() -> ReflectedSession {
    ReflectedSession {
        keys: Some(SessionKeys::per_direction(&key())),
        rate: Rate { per_second: 400 },
        ..session()
    }
}

/// Sends probes at 100 a second for two seconds, with `flood` packets between each two.
/// Returns how many of the probes were answered in order.
fn probes_beside(reflector: &mut Reflector, mut flood: impl FnMut(&mut Reflector, i64)) -> usize {
    let keys = SessionKeys::per_direction(&key());
    let mut answered = 0;
    for n in 0..200 {
        let ms = i64::from(n) * 10;
        let reply = ask(reflector, &probe(&keys, n, ms), FROM, ms);
        answered += usize::from(reply == Ok(n));
        flood(reflector, ms + 5);
    }
    answered
}

#[test]
fn strangers_take_nothing_from_a_session() {
    let mut r = reflector(vec![keyed()], None);
    let bytes = request(0, 100, Mode::Open);
    let answered = probes_beside(&mut r, |r, ms| {
        for n in 0..500_u16 {
            let stranger = ([192, 0, 2, n.to_be_bytes()[1]].into(), 1_024 + n);
            assert_eq!(ask(r, &bytes, stranger, ms), Err(DropReason::Stranger));
        }
    });
    assert_eq!(answered, 200);
    assert!(drops(&mut r, 3_000).contains(&(false, DropReason::Stranger, 100_000)));
}

#[test]
fn forged_packets_of_the_session_take_nothing_from_it() {
    let mut r = reflector(vec![keyed()], None);
    let other = SessionKeys::per_direction(&AuthKey::from_bytes(&[9; 32]).unwrap());
    let forged = [
        (probe(&other, 7, 0), DropReason::Unauthenticated),
        (request(0, 100, Mode::Open), DropReason::Malformed),
        (vec![0; 112], DropReason::Unprovisioned),
        (vec![0xff; 1_400], DropReason::Unprovisioned),
    ];
    let answered = probes_beside(&mut r, |r, ms| {
        for (bytes, reason) in &forged {
            for _ in 0..100 {
                assert_eq!(ask(r, bytes, FROM, ms), Err(*reason));
            }
        }
    });
    assert_eq!(answered, 200);
    assert_eq!(
        drops(&mut r, 3_000),
        [
            (true, DropReason::Malformed, 20_000),
            (true, DropReason::Unauthenticated, 20_000),
            (true, DropReason::Unprovisioned, 40_000),
        ]
    );
}

#[test]
fn recorded_packets_of_the_session_take_nothing_from_it() {
    let keys = SessionKeys::per_direction(&key());
    let mut r = reflector(vec![keyed()], None);
    let mut newest = 0;
    let mode = Mode::Authenticated(keys.keys().request);
    let mut trace = vec![0; 112];
    request_at(1 << 31, 100 | TRACE_BIT, WALL, mode, &mut trace);
    let answered = probes_beside(&mut r, |r, ms| {
        // Copies of the newest and of the oldest probe, and of a traceroute's packet.
        for _ in 0..300 {
            for bytes in [&probe(&keys, newest, ms - 5), &probe(&keys, 0, 0), &trace] {
                let _ = ask(r, bytes, FROM, ms);
            }
        }
        newest += 1;
    });
    // Replayed copies are answered and counted like the network's copies: each probe's reply
    // has a number, but not in a row.
    assert!(answered < 200);
    let answers = drain(&mut r)
        .into_iter()
        .filter_map(|o| match o {
            Output::Reception(_, reception) => reception.reflector_seq.map(|_| reception.seq.0),
            Output::Event(..) => None,
        })
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(answers.len(), 200, "every probe was answered");
}

#[test]
fn one_session_takes_nothing_from_another() {
    let other = ReflectedSession {
        name: "loud".parse().unwrap(),
        from: "10.1.11.11".parse().unwrap(),
        keys: None,
        ..keyed()
    };
    let mut r = reflector(vec![keyed(), other], None);
    let bytes = request(0, 100, Mode::Open);
    let from = ("10.1.11.11".parse().unwrap(), 50_000);
    let answered = probes_beside(&mut r, |r, ms| {
        for _ in 0..1_000 {
            let _ = ask(r, &bytes, from, ms);
        }
    });
    assert_eq!(answered, 200);
    let counted = drops(&mut r, 3_000);
    assert!(
        matches!(counted[..], [(true, DropReason::RateLimited, n)] if n > 190_000),
        "{counted:?}"
    );
}

#[test]
fn made_up_sources_do_not_fill_the_memory_of_open_mode() {
    let mut r = reflector(vec![], Some(open_mode()));
    let bytes = request(0, 0, Mode::Open);
    for n in 0..200_000_u32 {
        let from = IpAddr::V4(core::net::Ipv4Addr::from(0x0a00_0000 + n));
        let _ = ask(&mut r, &bytes, (from, 50_000), 0);
    }
    // Beyond its most sessions it answers without a count; beyond its most sources it does
    // not answer.
    assert_eq!(r.totals().uncounted, 65_536 - 2);
    let counted = drops(&mut r, 1);
    assert_eq!(
        counted,
        [(false, DropReason::RateLimited, 200_000 - 65_536)]
    );
}

proptest! {
    /// An answer is never longer than its request. Packets shorter than a whole one are
    /// answered only in compatibility mode.
    #[test]
    fn no_answer_is_longer_than_its_request(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        shaped: bool,
        ssid in 98_u16..106,
        port in prop_oneof![Just(50_000_u16), Just(50_001), any::<u16>()],
        mode in 0_u8..6,
    ) {
        let light = OpenMode { key: None, ..open_mode() };
        let strict = OpenMode { compatibility: Compatibility::Strict, ..light.clone() };
        let sealed = OpenMode { key: Some(key()), ..light.clone() };
        let mut r = match mode {
            0 => reflector(vec![session()], None),
            1 => reflector(vec![keyed()], None),
            2 => reflector(vec![], Some(light)),
            3 => reflector(vec![], Some(strict)),
            4 => reflector(vec![], Some(sealed)),
            _ => reflector(vec![session(), keyed()], Some(light)),
        };
        let secret = key();
        let derived = SessionKeys::per_direction(&secret);
        if shaped {
            let base = match mode {
                1 => Mode::Authenticated(derived.keys().request),
                4 => Mode::Authenticated(&secret),
                _ => Mode::Open,
            };
            if let Some(room) = bytes.get_mut(..base.base_len()) {
                request_at(0, ssid, WALL, base, room);
            }
        }
        let (verdict, reply) = give(&mut r, &bytes, (PEER, port), 0);
        if matches!(verdict, Verdict::Reply { .. }) {
            prop_assert!(reply.len() <= bytes.len());
            let least = match mode { 1 | 4 => 112, 2 | 5 => 38, _ => 44 };
            prop_assert!(bytes.len() >= least, "{} bytes in mode {mode}", bytes.len());
        } else {
            prop_assert!(reply.is_empty());
        }
    }
}
