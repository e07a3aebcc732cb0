//! One forged packet between two reflectors: how often they answer each other.

use super::*;

const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 17, 11, 132));

/// A reflector, where it is, and what it answers.
struct End {
    at: (IpAddr, u16),
    reflector: Reflector,
}

impl End {
    fn new(at: (IpAddr, u16), sessions: Vec<ReflectedSession>, open: Option<OpenMode>) -> Self {
        let mut config = ReflectorConfig::new(at.1, estimate());
        config.sessions = sessions;
        config.open = open;
        Self {
            at,
            reflector: Reflector::new(config),
        }
    }
}

/// Sends `first` to the second end as if from the first, from `port`, and passes on each
/// answer. Returns how many answers there were, at most a thousand.
fn answers(ends: &mut [End; 2], first: &[u8], port: u16) -> usize {
    let mut packet = first.to_vec();
    let (mut from, mut to) = ((ends[0].at.0, port), 1);
    for n in 0..1_000 {
        let (verdict, reply) = give(&mut ends[to].reflector, &packet, from, n);
        if !matches!(verdict, Verdict::Reply { .. }) {
            return usize::try_from(n).unwrap();
        }
        // The answer goes to whoever is at that port.
        let from_port = from.1;
        packet = reply;
        from = ends[to].at;
        to = 1 - to;
        if ends[to].at.1 != from_port {
            return usize::try_from(n + 1).unwrap();
        }
    }
    1_000
}

fn open(port: u16, at: IpAddr, key: Option<AuthKey>) -> End {
    let mode = OpenMode {
        key,
        rate: Rate {
            per_second: 1_000_000,
        },
        ..open_mode()
    };
    End::new((at, port), vec![], Some(mode))
}

#[test]
fn two_open_reflectors_do_not_answer_each_other() {
    for key in [None, Some(AuthKey::from_bytes(&[1; 32]).unwrap())] {
        let mode = key.as_ref().map_or(Mode::Open, Mode::Authenticated);
        let first = request(0, 0, mode);
        for (ports, most) in [
            // Both on STAMP's port, or both on another: no answer at all.
            ((862, 862), 0),
            ((8_862, 8_862), 0),
            // Only one can know the other's port: one answer, no more.
            ((862, 8_862), 0),
            ((8_862, 862), 1),
            ((8_862, 9_862), 1),
        ] {
            let mut ends = [
                open(ports.0, PEER, key.clone()),
                open(ports.1, HERE, key.clone()),
            ];
            let n = answers(&mut ends, &first, ports.0);
            assert!(n <= most, "{ports:?}: {n} answers");
        }
    }
}

#[test]
fn two_provisioned_reflectors_do_not_answer_each_other() {
    for authenticated in [false, true] {
        for ports in [
            (862, 862),
            (8_862, 8_862),
            (862, 8_862),
            (8_862, 862),
            (8_862, 9_862),
        ] {
            let keys = |octet| {
                let key = AuthKey::from_bytes(&[octet; 32]).unwrap();
                authenticated.then(|| SessionKeys::per_direction(&key))
            };
            let of = |from, reflector_port, octet| ReflectedSession {
                from,
                reflector_port,
                keys: keys(octet),
                ..session()
            };
            let mut ends = [
                End::new((PEER, ports.0), vec![of(HERE, ports.1, 1)], None),
                End::new((HERE, ports.1), vec![of(PEER, ports.0, 2)], None),
            ];
            let secret = keys(2);
            let mode = secret
                .as_ref()
                .map_or(Mode::Open, |k| Mode::Authenticated(k.keys().request));
            // Even with a packet whose HMAC is right.
            let n = answers(&mut ends, &request(0, 100, mode), ports.0);
            assert_eq!(n, 0, "{ports:?}");
        }
    }
}

#[test]
fn padding_that_is_no_time_is_no_reply() {
    // As TWAMP Light pads: zeros, a pattern, and its own bytes again.
    let mut r = reflector(vec![], Some(open_mode()));
    let zeros = request(0, 0, Mode::Open);
    let mut pattern = zeros.clone();
    pattern[16..].fill(0xab);
    let mut again = zeros.clone();
    again.copy_within(0..28, 16);
    for bytes in [&zeros, &pattern, &again] {
        assert!(ask(&mut r, bytes, (PEER, 50_000), 0).is_ok(), "{bytes:?}");
    }
}
