//! A reflecting host that stands still: late is late, and a loss on the way back is dated
//! by when the replies left.

use crate::unplugged::{agent, collector, findings, serve, start_both};
use crate::world::sealed;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Whether nothing can be told of loss or delay by a path alone.
fn counts(report: &Value) -> (u64, u64, u64) {
    let counts = &report["findings"]["sessions"][0]["counts"];
    let of = |what: &str| counts[what].as_u64().unwrap();
    assert_eq!(of("lost_forward") + of("lost_unknown"), 0, "{counts}");
    (of("answered"), of("late"), of("lost_reverse"))
}

/// All that was sent to b was seen; what it did not send while it stood still was not.
fn seen_but_what_b_did_not_send(report: &Value) {
    let coverage = &report["findings"]["coverage"];
    let stalls_from = |name: &str| -> Vec<u64> {
        let directions = coverage["directions"].as_array().unwrap().iter();
        let missing = directions.filter(|d| d["from"] == name);
        let missing = missing.flat_map(|d| d["missing"].as_array().unwrap());
        let stalls = missing.filter(|m| m["cause"]["code"] == "host_stalled");
        stalls.map(|m| m["lasted_ns"].as_u64().unwrap()).collect()
    };
    let long = |nanos: &&u64| **nanos > 1_800_000_000;
    assert_eq!(
        stalls_from("b").iter().filter(long).count(),
        2,
        "{coverage}"
    );
    assert_eq!(
        stalls_from("a").iter().filter(long).count(),
        0,
        "{coverage}"
    );
}

#[test]
fn a_reflector_that_stood_still_is_no_outage_and_the_one_at_its_end_is_short() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let _serving = serve(world, &a);
        a.nft(
            "table inet e2e {
                counter replies {}
                counter dropped {}
                chain cut { udp sport 862 counter name dropped drop; }
                chain drops {}
                chain in {
                    type filter hook input priority 0;
                    jump drops
                    udp sport 862 counter name replies
                }
            }",
        );
        let [near, far] = start_both(world, &a, &b);
        a.wait_for_packets("replies", 100);

        // Nothing is lost: all that came meanwhile is answered late.
        far.hold_up(Duration::from_secs(2));
        // The 400 of these two seconds, and others that are answered in time.
        a.wait_for_packets("replies", 600);

        // All that came meanwhile is answered, and lost on the way back.
        far.hold();
        std::thread::sleep(Duration::from_secs(2));
        let begins = Instant::now();
        a.nft("add rule inet e2e drops jump cut");
        let (cut, sure) = (begins, Instant::now());
        far.let_go();
        a.wait_for_packets("dropped", 350);
        let healing = Instant::now();
        a.nft("flush chain inet e2e drops");
        let (surely, at_most) = (healing - sure, cut.elapsed());
        a.wait_for_packets("replies", 100);
        near.interrupt();
        far.interrupt();

        let report = findings(&a);
        let (answered, late, lost) = counts(&report);
        assert!(answered > 200, "{answered}");
        assert!(late > 200, "{late} are late");
        assert!(lost >= 300, "{lost}");
        let session = &report["findings"]["sessions"][0];
        for flow in session["flows"].as_array().unwrap() {
            let outages = flow["outages"].as_array().unwrap();
            let [outage] = outages.as_slice() else {
                panic!("{outages:?}")
            };
            assert_eq!(outage["direction"], "reverse");
            let nanos = |what: &str| Duration::from_nanos(outage[what].as_u64().unwrap());
            let (least, most) = (nanos("at_least_ns"), nanos("at_most_ns"));
            assert!(least <= at_most, "{least:?}, truly {at_most:?} at most");
            assert!(most >= surely, "{most:?}, truly {surely:?} at least");
        }
        let stalls = session["host_stalls"].as_array().unwrap();
        let of_b = stalls
            .iter()
            .filter(|s| s["agent"] == "b" && s["reflects"] == true);
        assert!(of_b.count() >= 2, "{stalls:?}");
        seen_but_what_b_did_not_send(&report);
        let caveats = report["findings"]["caveats"].to_string();
        assert!(caveats.contains("the host of `b` stood still"), "{caveats}");
    });
}
