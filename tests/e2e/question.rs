//! A report answers what was asked: while the path under test carries neither probes nor
//! deliveries, it says what it does not know, and waits for it.

use crate::replanned::{HEAD, agent, collector, serve, session, start};
use crate::world::{Finished, Host, sealed, wait_until};
use serde_json::Value;

const OBJECTIVE: &str = "\n[objective]\noutage = \"1s\"\nstable = \"1s\"\n";

/// Everything towards `b` is dropped, and counted.
const CUT: &str = "table inet e2e {
  counter cut { }
  chain c {
    type filter hook forward priority 0;
    oifname \"right\" meta l4proto { tcp, udp } counter name cut drop
  }
}";

fn report(a: &Host, more: &[&str]) -> Finished {
    let store = ["report", "--store", "/run/scratch/store"];
    a.finish(&collector(), &[&store[..], more].concat())
}

fn json(report: &Finished) -> Value {
    serde_json::from_str(&report.stdout).unwrap_or_else(|e| panic!("{e}: {report:?}"))
}

/// Whether both sessions have delivered answered probes of the time asked for.
fn both_deliver(a: &Host, more: &[&str]) -> bool {
    let made = report(a, &[more, &["--format", "json"]].concat());
    let answered = |found: &Value, i: usize| found["sessions"][i]["counts"]["answered"].as_u64();
    made.code == Some(0) && {
        let found = &json(&made)["findings"];
        (0..2).all(|i| answered(found, i).is_some_and(|n| n > 50))
    }
}

#[test]
fn a_total_outage_is_undecided_until_the_records_are_in() {
    sealed(&[&collector, &agent], |world| {
        let [a, r, b] = world.row(["a", "r", "b"]);
        let plan = HEAD.replace("10.0.0.2", "10.0.1.2")
            + OBJECTIVE
            + &session("a-b", "a", "b", "10ms", 50_000)
            + &session("b-a", "b", "a", "10ms", 51_000);
        let _serving = serve(world, &a, &plan);
        let _agents = [
            start(world, &b, "b", "secret-b"),
            start(world, &a, "a", "secret"),
        ];
        wait_until("both deliver", || both_deliver(&a, &["--from", "-1m"]));
        let drill = |words: &[&str]| {
            let server = ["--url", "http://10.0.0.1:8620"];
            a.finish(&collector(), &[&["drill"], words, &server].concat())
                .success()
        };
        drill(&["start", "night"]);
        drill(&["mark", "--failover", "pulled"]);
        wait_until("both deliver in the drill", || both_deliver(&a, &["night"]));

        r.nft(CUT);
        // Two flows each way: some 400 packets a second.
        r.wait_for_packets("cut", 1_200);
        let stopped = drill(&["stop"]);
        assert!(stopped.contains("report 'night' --store"), "{stopped}");
        assert!(stopped.contains("--wait\n"), "{stopped}");
        let early = report(&a, &["night", "--exit-code"]);
        assert_eq!(early.code, Some(6), "{early:?}");
        // Wherever lines are broken.
        let shown: Vec<&str> = early.stdout.split_whitespace().collect();
        let shown = shown.join(" ");
        for said in [
            "PRELIMINARY",
            "VERDICT UNDECIDED",
            "data up to",
            "of `b` there is",
            "`b` has not delivered",
        ] {
            assert!(shown.contains(said), "{said}: {}", early.stdout);
        }
        for wrong in [
            "there was no outage",
            "no interruption in this stretch",
            "NOT TESTED",
        ] {
            assert!(!shown.contains(wrong), "{wrong}: {}", early.stdout);
        }

        r.nft("delete table inet e2e");
        let ask = ["night", "--wait=15s", "--exit-code", "--format", "json"];
        let mut waited = report(&a, &ask);
        for _ in 0..3 {
            // A loaded host delivers late.
            if waited.code == Some(6) {
                waited = report(&a, &ask);
            }
        }
        assert!(waited.stderr.contains("waiting: of `"), "{}", waited.stderr);
        assert_eq!(waited.code, Some(3), "{waited:?}");
        let found = &json(&waited)["findings"];
        assert_eq!(found["verdict"]["result"], "missed");
        assert_eq!(found["verdict"]["reason"]["code"], "outage_too_long");
        assert_eq!(found["coverage"]["preliminary"], false);
    });
}
