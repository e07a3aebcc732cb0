//! The reflector against a host on the way that reads, repeats, forges and floods.

pub(crate) mod attacker;

use crate::replanned::{HEAD, agent, collector, counts, findings, serve, session, start};
use crate::world::{Host, Running, STAMP, World, sealed};
use attacker::{Raw, capture, packet, payload};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// `a` measures to `b`, and `b` to `a`; `m` is the router between them.
fn row(world: &World) -> [Host; 3] {
    world.row(["a", "m", "b"])
}

fn head() -> String {
    HEAD.replace("address = \"10.0.0.2\"", "address = \"10.0.1.2\"")
}

/// A plan's session whose packets are not authenticated.
fn bare(name: &str, from: &str, to: &str, port: u16) -> String {
    session(name, from, to, "10ms", port) + "authenticated = false\n"
}

/// An unauthenticated probe (RFC 8762 section 4.2.1, RFC 8972 section 3).
fn probe(ssid: u16) -> Vec<u8> {
    let mut probe = vec![0; 44];
    // The Error Estimate's multiplier must not be zero.
    probe[13] = 1;
    probe[14..16].copy_from_slice(&ssid.to_be_bytes());
    probe
}

/// Both agents and the collector, with a drill that has begun.
struct Service {
    _serving: Running,
    agents: [Running; 2],
}

impl Service {
    fn start(world: &World, a: &Host, b: &Host, plan: &str) -> Self {
        let serving = serve(world, a, plan);
        let agents = [
            start(world, a, "a", "secret"),
            start(world, b, "b", "secret-b"),
        ];
        drill(a, &["start", "night"]);
        std::thread::sleep(Duration::from_secs(3));
        Self {
            _serving: serving,
            agents,
        }
    }

    /// Ends the drill and the agents; the report.
    fn report(self, a: &Host) -> Value {
        std::thread::sleep(Duration::from_secs(2));
        for agent in self.agents {
            agent.interrupt();
        }
        drill(a, &["stop"]);
        findings(a)
    }
}

fn drill(a: &Host, arguments: &[&str]) {
    let url = ["--url", "http://10.0.0.1:8620"];
    let arguments = [&["drill"], arguments, &url].concat();
    a.finish(&collector(), &arguments).success();
}

fn lost(counts: &Value) -> u64 {
    ["lost_forward", "lost_reverse", "lost_unknown"]
        .iter()
        .map(|l| counts[l].as_u64().unwrap())
        .sum()
}

fn caveats(report: &Value) -> Vec<&str> {
    let caveats = report["findings"]["caveats"].as_array().unwrap();
    caveats.iter().filter_map(Value::as_str).collect()
}

/// How many packets the report says were turned away in `session` for this reason.
fn turned_away(report: &Value, session: &str, reason: &str) -> u64 {
    let said = caveats(report)
        .into_iter()
        .find(|c| c.starts_with(&format!("Session `{session}`:")) && c.contains(reason));
    let Some(said) = said else { return 0 };
    let mut words = said.split_whitespace();
    words
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number in {said}"))
}

/// Counts on `m` what passes between ports from which reflectors answer.
fn count_between(m: &Host, ports: &str) {
    m.nft(&format!(
        "table inet e2e {{
            counter looping {{}}
            chain passing {{
                type filter hook forward priority 0;
                udp sport {{ {ports} }} udp dport {{ {ports} }} counter name looping
            }}
        }}"
    ));
}

#[test]
fn one_made_up_packet_makes_no_two_open_reflectors_answer_each_other() {
    sealed(&[&agent], |world| {
        let [a, m, b] = row(world);
        let key = "000102030405060708090a0b0c0d0e0f";
        let key = world.file("key", key).to_str().unwrap().to_owned();
        let reflect = |host: &Host, at: &str, port: u16, keyed: bool| {
            let at = format!("{at}:{port}");
            let mut arguments = vec!["reflect", "--listen", &at];
            if keyed {
                arguments.extend(["--key-file", &key]);
            }
            host.serve(&agent(), &arguments, port)
        };
        let _reflectors = [
            reflect(&a, "10.0.0.1", STAMP, false),
            reflect(&b, "10.0.1.2", STAMP, false),
            reflect(&a, "10.0.0.1", 8_862, false),
            reflect(&b, "10.0.1.2", 8_862, false),
            reflect(&b, "10.0.1.2", 9_862, false),
            reflect(&a, "10.0.0.1", 7_862, true),
            reflect(&b, "10.0.1.2", 7_862, true),
            reflect(&b, "10.0.1.2", 6_862, true),
        ];
        count_between(&m, "862, 8862, 9862, 7862, 6862");
        // A probe with a good HMAC, read on its way.
        let host = "10.0.1.2:7862";
        let measure = a.start(
            &agent(),
            &[
                "measure",
                host,
                "--key-file",
                &key,
                "--json",
                "--duration",
                "1s",
            ],
        );
        let sealed = payload(&capture(&m, host, 1)[0]).to_vec();
        assert_eq!(sealed.len(), 112);
        measure.finish();

        let raw = Raw::on(&m);
        for (from, to, payload) in [
            ("10.0.0.1:862", "10.0.1.2:862", &probe(0)),
            ("10.0.0.1:8862", "10.0.1.2:8862", &probe(0)),
            ("10.0.0.1:862", "10.0.1.2:9862", &probe(0)),
            ("10.0.0.1:7862", "10.0.1.2:7862", &sealed),
            // These two cannot know that the other port is a reflector's, and answer once.
            ("10.0.0.1:8862", "10.0.1.2:9862", &probe(0)),
            ("10.0.0.1:7862", "10.0.1.2:6862", &sealed),
        ] {
            raw.send(&packet(from, to, payload)).unwrap();
        }
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(m.counter("looping"), 2);
    });
}

#[test]
fn one_made_up_packet_makes_no_two_agents_answer_each_other() {
    sealed(&[&collector, &agent], |world| {
        let [a, m, b] = row(world);
        let head = head().replace(
            "address = \"10.0.0.1\"",
            "address = \"10.0.0.1\"\nreflector_port = 8862",
        );
        let plan = [
            head,
            session("out", "a", "b", "10ms", 50_000),
            session("back", "b", "a", "10ms", 50_000),
            bare("bare-out", "a", "b", 51_000),
            bare("bare-back", "b", "a", 51_000),
        ];
        let service = Service::start(world, &a, &b, &plan.concat());
        count_between(&m, "862, 8862");
        // Each agent's own packets, and replies to it, of both kinds of sessions.
        let requests = [
            capture(&m, "10.0.1.2:862", 20),
            capture(&m, "10.0.0.1:8862", 20),
        ]
        .concat();
        let replies = [
            capture(&m, "10.0.0.1:50000", 4),
            capture(&m, "10.0.1.2:51000", 4),
        ]
        .concat();
        let raw = Raw::on(&m);
        for captured in requests.iter().chain(&replies) {
            for from in ["10.0.0.1:862", "10.0.0.1:8862"] {
                raw.send(&packet(from, "10.0.1.2:862", payload(captured)))
                    .unwrap();
            }
            for from in ["10.0.1.2:862", "10.0.1.2:8862"] {
                raw.send(&packet(from, "10.0.0.1:8862", payload(captured)))
                    .unwrap();
            }
        }
        // Replies as if the sender had sent them: one HMAC key would let them in.
        for captured in &replies {
            raw.send(&packet("10.0.0.1:50000", "10.0.1.2:862", payload(captured)))
                .unwrap();
            raw.send(&packet(
                "10.0.1.2:50000",
                "10.0.0.1:8862",
                payload(captured),
            ))
            .unwrap();
        }
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(m.counter("looping"), 0);

        let report = service.report(&a);
        for name in ["out", "back", "bare-out", "bare-back"] {
            let counts = counts(&report, name);
            assert_eq!(lost(counts), 0, "{name}: {counts}");
            assert_eq!(counts["duplicated"], 0, "{name}: {counts}");
        }
        let said = caveats(&report).concat();
        assert!(
            said.contains("it came from a reflector's port, or was itself a reply"),
            "{said}"
        );
        assert!(!said.contains("belong to no probe"), "{said}");
    });
}

#[test]
fn recorded_packets_sent_again_are_counted_and_no_arrivals() {
    sealed(&[&collector, &agent], |world| {
        let [a, m, b] = row(world);
        let plan = head() + &session("out", "a", "b", "10ms", 50_000);
        let service = Service::start(world, &a, &b, &plan);
        let raw = Raw::on(&m);
        let recorded = capture(&m, "10.0.1.2:862", 200);
        // At once a copy is what networks make of packets now and then.
        let newest = recorded.last().unwrap();
        raw.send(newest).unwrap();
        std::thread::sleep(Duration::from_secs(6));
        for packet in &recorded {
            raw.send(packet).unwrap();
        }
        // And through another door, as a NAT would open.
        for recorded in recorded.iter().take(50) {
            raw.send(&packet("10.0.0.1:61234", "10.0.1.2:862", payload(recorded)))
                .unwrap();
        }
        let report = service.report(&a);
        let counts = counts(&report, "out");
        assert_eq!(lost(counts), 0, "{counts}");
        // Some of what was recorded was of a traceroute.
        let replayed = turned_away(&report, "out", "copies of earlier ones");
        assert!((200..=250).contains(&replayed), "{:?}", caveats(&report));
        let said = caveats(&report).concat();
        assert!(!said.contains("belong to no probe"), "{said}");
    });
}

#[test]
fn damaged_packets_are_not_taken_for_a_full_queue() {
    sealed(&[&collector, &agent], |world| {
        let [a, m, b] = row(world);
        let plan = head() + &session("out", "a", "b", "10ms", 50_000);
        let service = Service::start(world, &a, &b, &plan);
        let mut damaged = capture(&m, "10.0.1.2:862", 1).remove(0);
        // A checksum that is there, and wrong.
        damaged[26..28].copy_from_slice(&[0x12, 0x34]);
        let raw = Raw::on(&m);
        for _ in 0..300 {
            raw.send(&damaged).unwrap();
        }
        let report = service.report(&a);
        assert_eq!(lost(counts(&report, "out")), 0);
        let said = caveats(&report).concat();
        assert!(!said.contains("threw away"), "{said}");
    });
}

/// Whether what became of the probes of `session` is told, and none is called lost.
fn nothing_is_lost(report: &Value, session: &str, least: u64) {
    let counts = counts(report, session);
    let n = |key: &str| counts[key].as_u64().unwrap();
    assert_eq!(
        lost(counts),
        0,
        "{session}: {counts} {:#?}",
        caveats(report)
    );
    let known = [
        "answered",
        "late",
        "dropped_by_policy",
        "no_data",
        "pending",
    ];
    assert_eq!(
        n("sent"),
        known.iter().map(|k| n(k)).sum::<u64>(),
        "{counts}"
    );
    assert!(n("answered") >= least, "{session}: {counts}");
}

/// Longer than a queue takes to fill, and shorter than the sessions' timeout.
const PAUSE: Duration = Duration::from_millis(200);

/// Two seconds of a flood that `packets` makes, beside an authenticated session from `a`
/// to `b` and one from `m`, which is not. Now and then the reflecting agent is held up for
/// [`PAUSE`], so that the flood fills what queue it can.
fn flooded(world: &World, packets: impl FnOnce(&Host) -> Vec<Vec<u8>>) -> Value {
    let [a, m, b] = row(world);
    let plan = [
        head(),
        // A third host with a session of its own, which nothing but the flood sends.
        "\n[[agent]]\nname = \"m\"\naddress = \"10.0.1.1\"\nsecret_file = \"/run/scratch/secret-m\"\n"
            .to_owned(),
        session("out", "a", "b", "10ms", 50_000),
        bare("loud", "m", "b", 50_000),
    ];
    world.file("secret-m", "00112233445566778899");
    let service = Service::start(world, &a, &b, &plan.concat());
    let packets = packets(&m);
    let raw = Raw::on(&m);
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| raw.flood(&packets, Duration::from_secs(2)));
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(400));
            service.agents[1].hold_up(PAUSE);
        }
        flood.join().unwrap()
    });
    assert!(sent > 20_000, "no flood: {sent}");
    service.report(&a)
}

#[test]
fn a_strangers_flood_takes_no_probe_from_a_session() {
    sealed(&[&collector, &agent], |world| {
        let report = flooded(world, |_| {
            let of = |n: u16| {
                packet(
                    &format!("192.0.2.{}:{}", n % 250, 1_024 + n),
                    "10.0.1.2:862",
                    &probe(1),
                )
            };
            (0..1_000).map(of).collect()
        });
        nothing_is_lost(&report, "out", 1_000);
        assert_eq!(counts(&report, "out")["dropped_by_policy"], 0);
        let strangers = turned_away(&report, "out", "of which no session is planned");
        assert!(strangers > 10_000, "{:#?}", caveats(&report));
    });
}

#[test]
fn a_flood_in_the_name_of_a_session_is_no_loss_of_it() {
    sealed(&[&collector, &agent], |world| {
        let report = flooded(world, |m| {
            // Its own packets, each with another number: all but the HMAC is right.
            let genuine = capture(m, "10.0.1.2:862", 1).remove(0);
            (0..1_000_u32)
                .map(|n| {
                    let mut forged = genuine.clone();
                    forged[28..32].copy_from_slice(&(n * 7).to_be_bytes());
                    forged[26..28].fill(0);
                    forged
                })
                .collect()
        });
        nothing_is_lost(&report, "out", 500);
        let forged = turned_away(&report, "out", "HMAC was absent or wrong");
        assert!(forged > 5_000, "{:#?}", caveats(&report));
    });
}

#[test]
fn a_flood_of_another_session_takes_no_probe_from_this_one() {
    sealed(&[&collector, &agent], |world| {
        let report = flooded(world, |_| {
            // The second session of the plan: its SSIDs begin at 65.
            let of = |n: u16| {
                packet(
                    &format!("10.0.1.1:{}", 50_000 + n),
                    "10.0.1.2:862",
                    &probe(65 + n),
                )
            };
            (0..2).map(of).collect()
        });
        nothing_is_lost(&report, "out", 1_000);
        assert_eq!(counts(&report, "out")["dropped_by_policy"], 0);
    });
}

#[test]
fn nothing_that_a_reflector_turned_away_is_called_loss() {
    sealed(&[&collector, &agent], |world| {
        let [a, m, b] = row(world);
        let plan = [
            head(),
            session("hmac", "a", "b", "10ms", 50_000),
            bare("estimate", "a", "b", 51_000),
            bare("ssid", "a", "b", 52_000),
            bare("port", "a", "b", 53_000),
            bare("refused", "a", "b", 54_000),
        ];
        let service = Service::start(world, &a, &b, &plan.concat());
        // For two seconds something on the way changes the packets of each, and the last
        // one's replies may not leave.
        m.nft(
            "table inet e2e {
                chain passing {
                    type filter hook forward priority 0;
                    udp dport 862 udp sport 50000-50001 @th,928,16 set 0x1234
                    udp dport 862 udp sport 51000-51001 @th,160,16 set 0
                    udp dport 862 udp sport 52000-52001 @th,176,16 set 0x7000
                    udp dport 862 udp sport 53000-53001 udp sport set 862
                }
            }",
        );
        b.nft(
            "table inet e2e {
                chain out {
                    type filter hook output priority 0;
                    udp sport 862 udp dport 54000-54001 drop
                }
            }",
        );
        std::thread::sleep(Duration::from_secs(2));
        m.nft("delete table inet e2e");
        b.nft("delete table inet e2e");
        let report = service.report(&a);
        for (name, reason) in [
            ("hmac", "HMAC was absent or wrong"),
            ("estimate", "could not be read as a STAMP packet"),
            ("ssid", "belonged to no provisioned session"),
            ("port", "from a reflector's port"),
            ("refused", "own kernel refused the reply"),
        ] {
            nothing_is_lost(&report, name, 500);
            let counts = counts(&report, name);
            let dropped = counts["dropped_by_policy"].as_u64().unwrap();
            assert!(dropped > 200, "{name}: {counts}");
            let told = turned_away(&report, name, reason);
            assert!(told >= dropped, "{name}: {told} told, {counts}");
        }
    });
}

#[test]
fn the_keys_are_in_one_file_and_in_no_other_place() {
    sealed(&[&collector, &agent], |world| {
        let [a, _, b] = row(world);
        let plan = head() + &session("out", "a", "b", "10ms", 50_000);
        let service = Service::start(world, &a, &b, &plan);
        let status = a.finish(
            &collector(),
            &["status", "--json", "--url", "http://10.0.0.1:8620"],
        );
        let status = status.success();
        let store = PathBuf::from("/run/scratch/store");
        let kept = std::fs::read_to_string(store.join("session-keys.json")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        let key = kept[0]["key"].as_str().unwrap().to_owned();
        assert_eq!(key.len(), 64);
        let [first, second] = service.agents;
        let logs = [first.interrupt(), second.interrupt()].map(|f| f.stdout + &f.stderr);
        drill(&a, &["stop"]);
        let report = findings(&a).to_string();
        for (what, text) in [("status", &status), ("report", &report)]
            .into_iter()
            .chain(logs.iter().map(|log| ("log", log)))
        {
            assert!(!text.contains(&key), "the key is in the {what}");
        }
        for file in std::fs::read_dir(&store).unwrap() {
            let path = file.unwrap().path();
            if path.ends_with("session-keys.json") || path.is_dir() {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(key.len()).any(|w| w == key.as_bytes());
            assert!(!found, "the key is in {}", path.display());
        }
    });
}
