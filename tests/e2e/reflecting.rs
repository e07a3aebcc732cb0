//! `reflect` under what should not come, and `measure` when its own kernel refuses.

use crate::guarded::attacker::{Raw, packet};
use crate::measured::{Measured, Mode, Pair, REFLECTOR};
use crate::programs::program;
use crate::world::{STAMP, sealed};
use std::net::UdpSocket;
use std::time::Duration;

fn agent() -> std::path::PathBuf {
    program("hopgap-agent")
}

/// An unauthenticated probe, whole (RFC 8762 section 4.2.1).
fn probe(seq: u8) -> [u8; 44] {
    let mut packet = [0; 44];
    packet[3] = seq;
    // The Error Estimate's multiplier must not be zero.
    packet[13] = 1;
    packet
}

/// The number that the reflector gave its reply, or that it gave none.
fn ask(socket: &UdpSocket, packet: &[u8]) -> Option<u8> {
    socket.send_to(packet, (REFLECTOR, STAMP)).unwrap();
    let mut reply = [0; 2048];
    let (len, from) = socket.recv_from(&mut reply).ok()?;
    assert_eq!(from, format!("{REFLECTOR}:862").parse().unwrap());
    assert!(
        len <= packet.len(),
        "a reply is never larger than its request"
    );
    Some(reply[3])
}

/// Octets that look random and are the same in every run.
fn noise(len: usize, mut state: u32) -> Vec<u8> {
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}

#[test]
fn what_is_no_probe_is_counted_and_the_next_probe_answered() {
    sealed(&[&agent], |world| {
        let [here, _, there] = world.row(["here", "between", "there"]);
        let reflect = there.serve(&agent(), &["reflect"], STAMP);
        let socket = here.socket("10.0.0.1:50000");
        assert_eq!(ask(&socket, &probe(7)), Some(0));

        let mut bad: Vec<Vec<u8>> = (0..14).map(|len| probe(1)[..len].to_vec()).collect();
        // A multiplier of zero means an estimate that is void (RFC 4656 section 4.1.2).
        bad.push(vec![0; 44]);
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        for packet in &bad {
            assert_eq!(ask(&socket, packet), None, "{packet:?}");
        }
        // From the reflectors' own port: two reflectors would answer each other for ever.
        let looping = here.socket("10.0.0.1:862");
        looping
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert_eq!(ask(&looping, &probe(2)), None);
        // Noise may be a probe by chance; whatever it is, no answer outgrows it.
        let mut answered = 0;
        for (state, len) in (0..200).zip((0..=1_400).step_by(7)) {
            let noise = noise(len, state);
            answered += u32::from(ask(&socket, &noise).is_some());
        }

        socket
            .set_read_timeout(Some(crate::world::PATIENCE))
            .unwrap();
        assert!(ask(&socket, &probe(8)).is_some(), "it goes on");
        let told = reflect.interrupt().stderr;
        let of = |before: &str| -> u32 {
            let rest = told
                .split_once(before)
                .unwrap_or_else(|| panic!("{told}"))
                .1;
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (probes, traced) = (of("answered "), of(", and "));
        assert_eq!(probes + traced, 2 + answered, "{told}");
        let sent = u32::try_from(bad.len()).unwrap() + 1 + 200 + 2;
        assert_eq!(of("did not answer "), sent - 2 - answered, "{told}");
    });
}

#[test]
fn each_session_is_numbered_from_zero_however_the_probes_are() {
    sealed(&[&agent], |world| {
        let [here, _, there] = world.row(["here", "between", "there"]);
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let (one, other) = (here.socket("10.0.0.1:50000"), here.socket("10.0.0.1:50001"));
        assert_eq!(ask(&one, &probe(40)), Some(0));
        assert_eq!(ask(&one, &probe(90)), Some(1));
        assert_eq!(ask(&other, &probe(3)), Some(0));
        // Another SSID from the same port is another session (RFC 8972 section 3).
        let mut traced = probe(1);
        traced[14] = 0x80;
        assert_eq!(ask(&one, &traced), Some(0));
        assert_eq!(ask(&one, &probe(91)), Some(2));
    });
}

#[test]
fn sends_that_the_kernel_refused_are_not_loss() {
    sealed(&[&agent], |world| {
        let pair = Pair::new(world, Mode::Open);
        let _reflect = pair.reflector.serve(&agent(), &["reflect"], STAMP);
        let measure = pair.measure(&["--flows", "2", "--trace-interval", "100ms"]);
        pair.answers(60);
        pair.sender.ip("route del 10.0.1.0/24 via 10.0.0.2");
        std::thread::sleep(Duration::from_millis(400));
        pair.sender.ip("route add 10.0.1.0/24 via 10.0.0.2");
        pair.answers(60);
        let found = Measured::of(&measure.interrupt().success());

        assert!(found.count("refused") >= 10, "{}", found.0);
        assert_eq!(found.count("sent"), pair.sender.counter("probes"));
        assert_eq!(found.count("answered"), found.count("sent"));
        for flow in found.flows() {
            // No loss, and yet an outage: the host itself says that there was no way.
            let outages = flow["outages"].as_array().unwrap();
            assert_eq!(outages.len(), 1, "{flow}");
            let outage = &outages[0];
            assert_eq!(outage["cause"]["code"], "no_route", "{flow}");
            assert_eq!(outage["direction"], "forward", "{flow}");
            assert_eq!(outage["lost"], 0, "{flow}");
            assert_eq!(outage["refused"], flow["counts"]["refused"], "{flow}");
            assert_eq!(flow["background"], serde_json::json!([]), "{flow}");
        }
        let caveats = found.caveats();
        assert!(caveats.iter().any(|c| c.contains("refused")), "{caveats:?}");
    });
}

/// Senders that somebody makes up, one packet each, of as many networks as they like.
fn made_up(count: u16) -> Vec<Vec<u8>> {
    let of = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let from = format!("198.18.{high}.{low}:{}", 20_000 + n);
        packet(&from, &format!("{REFLECTOR}:{STAMP}"), &probe(0))
    };
    (0..count).map(of).collect()
}

/// 4,200 spoofed packets locked newcomers out for ten minutes, and cost a running session 855
/// probes, which were called forward loss.
#[test]
fn a_crowd_of_made_up_senders_shuts_nobody_out_and_costs_no_probe() {
    sealed(&[&agent], |world| {
        let [here, between, there] = world.row(["here", "between", "there"]);
        // What is answered to the crowd goes nowhere.
        there.ip("route add 198.18.0.0/15 via 10.0.1.1");
        between.ip("route add blackhole 198.18.0.0/15");
        let reflect = there.serve(&agent(), &["reflect"], STAMP);
        let measure = |ports: &str, duration: &str| {
            let line = format!(
                "measure {REFLECTOR} --flows 2 --source-port {ports} --interval 10ms --duration {duration} --json"
            );
            let words: Vec<&str> = line.split(' ').collect();
            here.start(&agent(), &words)
        };
        let staying = measure("50000", "9s");
        // Until it is one that goes on.
        std::thread::sleep(Duration::from_secs(4));
        let raw = Raw::on(&between);
        let crowd = made_up(6_000);
        for some in crowd.chunks(40) {
            for packet in some {
                raw.send(packet).unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nobody has a place for them, and each is answered.
        let newcomer = here.socket("10.0.0.1:60000");
        for seq in [3, 8, 9] {
            assert_eq!(ask(&newcomer, &probe(seq)), Some(seq));
        }
        let late = Measured::of(&measure("52000", "1s").finish().success());
        let staying = Measured::of(&staying.finish().success());
        for (found, direction, least) in [(&staying, "reflector_counter", 800), (&late, "none", 80)]
        {
            assert!(found.count("sent") >= least, "{}", found.0);
            assert_eq!(found.count("answered"), found.count("sent"), "{}", found.0);
            assert_eq!(found.direction_source(), direction, "{}", found.0);
        }
        let told = reflect.interrupt().stderr;
        assert!(told.contains("without a count, because too many"), "{told}");
    });
}
