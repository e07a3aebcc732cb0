//! `trace` across three routers.

use crate::programs::program;
use crate::world::{Finished, Host, World, sealed};
use serde_json::{Value, json};
use std::path::Path;

fn agent() -> std::path::PathBuf {
    program("hopgap-agent")
}

fn route(world: &World) -> [Host; 5] {
    world.row(["here", "first", "second", "third", "there"])
}

/// What `trace --json` found, hop by hop: addresses that answered, and how.
fn hops(finished: Finished) -> Vec<Value> {
    let text = finished.success();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let hops = trace["hops"].as_array().unwrap();
    assert_eq!(trace["reached_at"], hops.len(), "{trace}");
    hops.iter()
        .enumerate()
        .map(|(i, hop)| {
            assert_eq!(hop["hop"], i + 1, "{trace}");
            let mut replies: Vec<Value> = hop["replies"].as_array().unwrap().clone();
            for reply in &mut replies {
                let reply = reply.as_object_mut().unwrap();
                let round_trip = reply.remove("round_trip_ns").unwrap().as_i64().unwrap();
                assert!((1..1_000_000_000).contains(&round_trip), "{trace}");
            }
            replies.dedup();
            Value::from(replies)
        })
        .collect()
}

fn passed(address: &str) -> Value {
    json!([{ "from": address, "kind": "time_exceeded" }])
}

fn closed(address: &str, code: u8) -> Value {
    json!([{ "from": address, "kind": "unreachable", "code": code, "meaning": "port unreachable" }])
}

fn reflected(address: &str) -> Value {
    json!([{ "from": address, "kind": "reflected" }])
}

#[test]
fn every_router_and_the_target_are_named_in_order() {
    sealed(&[&agent], |world| {
        let [here, .., there] = route(world);
        let expected = |target: Value| {
            [
                passed("10.0.0.2"),
                passed("10.0.1.2"),
                passed("10.0.2.2"),
                target,
            ]
        };
        // Without a reflector the target's refusal shows that it was reached.
        let found = here.finish(&agent(), &["trace", "10.0.3.2", "--json"]);
        assert_eq!(hops(found), expected(closed("10.0.3.2", 3)));
        let _reflect = there.serve(&agent(), &["reflect"], 862);
        let found = here.finish(&agent(), &["trace", "10.0.3.2", "--json"]);
        assert_eq!(hops(found), expected(reflected("10.0.3.2")));
    });
}

#[test]
fn every_router_is_named_in_order_over_ipv6_too() {
    sealed(&[&agent], |world| {
        let [here, .., there] = route(world);
        let expected = |target: Value| {
            [
                passed("fd00::2"),
                passed("fd00:1::2"),
                passed("fd00:2::2"),
                target,
            ]
        };
        // 'Port unreachable' has another code in ICMPv6.
        let found = here.finish(&agent(), &["trace", "fd00:3::2", "--json"]);
        assert_eq!(hops(found), expected(closed("fd00:3::2", 4)));
        let _reflect = there.serve(&agent(), &["reflect", "-6"], 862);
        let found = here.finish(&agent(), &["trace", "fd00:3::2", "--json"]);
        assert_eq!(hops(found), expected(reflected("fd00:3::2")));
    });
}

#[test]
fn a_silent_router_stays_a_gap_in_its_place() {
    sealed(&[&agent], |world| {
        let [here, _, second, _, there] = route(world);
        second.nft(
            "table inet e2e {
                counter silenced {}
                chain out {
                    type filter hook output priority 0;
                    icmp type time-exceeded counter name silenced drop
                }
            }",
        );
        let _reflect = there.serve(&agent(), &["reflect"], 862);
        let found = here.finish(&agent(), &["trace", "10.0.3.2", "--json"]);
        let expected = [
            passed("10.0.0.2"),
            json!([]),
            passed("10.0.2.2"),
            reflected("10.0.3.2"),
        ];
        assert_eq!(hops(found), expected);
        assert!(
            second.counter("silenced") > 0,
            "the router did want to answer"
        );

        let text = here.finish(&agent(), &["trace", "10.0.3.2"]).success();
        let silent = text.lines().nth(2).unwrap();
        assert!(
            silent.starts_with("  2         *     (no answer to "),
            "{text}"
        );
    });
}

#[test]
fn routes_are_traced_without_any_privilege() {
    sealed(&[&agent], |world| {
        let [here, .., there] = route(world);
        let _reflect = there.serve(&agent(), &["reflect", "-4"], 862);
        let setpriv = Path::new("setpriv");
        let without = ["--bounding-set=-all", "--inh-caps=-all"];
        let capabilities = [&without[..], &["grep", "CapEff", "/proc/self/status"]].concat();
        let capabilities = here.finish(setpriv, &capabilities).success();
        assert_eq!(
            capabilities.split_whitespace().nth(1),
            Some("0000000000000000")
        );

        let agent = agent();
        for (target, routers) in [
            ("10.0.3.2", ["10.0.0.2", "10.0.1.2", "10.0.2.2"]),
            ("fd00:3::2", ["fd00::2", "fd00:1::2", "fd00:2::2"]),
        ] {
            let trace = [agent.to_str().unwrap(), "trace", target, "--json"];
            let found = hops(here.finish(setpriv, &[&without[..], &trace].concat()));
            assert_eq!(found[..3], routers.map(passed));
            let last = if target == "10.0.3.2" {
                reflected(target)
            } else {
                // Only IPv4 has a reflector here.
                closed(target, 4)
            };
            assert_eq!(found[3..], [last]);
        }
    });
}

#[test]
fn a_target_behind_a_dead_router_is_not_said_to_be_reached() {
    sealed(&[&agent], |world| {
        let [here, _, second, ..] = route(world);
        second.sysctl("ipv4/ip_forward", "0");
        let found = here.finish(
            &agent(),
            &["trace", "10.0.3.2", "--json", "--max-hops", "6"],
        );
        let trace: Value = serde_json::from_str(&found.success()).unwrap();
        assert_eq!(trace["reached_at"], Value::Null, "{trace}");
        let text = here
            .finish(&agent(), &["trace", "10.0.3.2", "--max-hops", "6"])
            .success();
        assert!(
            text.contains("\n     the target did not answer\n"),
            "{text}"
        );
        assert!(text.contains("such as 10.0.3.2:33434)"), "{text}");
        assert!(text.contains("10.0.0.2"), "{text}");
        assert!(!text.contains("10.0.2.2"), "{text}");
    });
}
