//! The agent as a service: what stands in its way costs as little as it must, and is told
//! where people look.

use crate::replanned::{HEAD, agent, collector, findings, serve, start};
use crate::world::{Host, sealed, wait_until};
use serde_json::Value;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

const SESSIONS: &str = r#"
[[session]]
name = "a-b"
from = "a"
to = "b"
flows = 8
source_port = 50000
timeout = "500ms"

[[session]]
name = "b-a"
from = "b"
to = "a"
flows = 2
timeout = "500ms"

[[path]]
name = "row"
role = "primary"
target_at_hop = 2
"#;

const URL: [&str; 2] = ["--url", "http://10.0.0.1:8620"];

fn status(a: &Host) -> Value {
    // Below the pace at which the collector answers one address.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let told = a.finish(&collector(), &[&["status", "--json"], &URL[..]].concat());
    serde_json::from_str(&told.success()).expect("the status is JSON")
}

fn drill(a: &Host, command: &str, name: &[&str]) {
    let arguments = [&["drill", command], name, &URL[..]].concat();
    a.finish(&collector(), &arguments).success();
}

/// The address of `a` is translated on the way to `b`'s reflector, and back, as a gateway's
/// NAT does it.
const NAT: &str = "table ip nat {
    chain out {
        type filter hook postrouting priority 100;
        oifname right ip saddr 10.0.0.1 udp dport 862 counter ip saddr set 100.0.2.1
    }
    chain back {
        type filter hook prerouting priority -300;
        iifname right ip daddr 100.0.2.1 ip daddr set 10.0.0.1
    }
}";

fn caveat<'a>(report: &'a Value, words: &[&str]) -> &'a str {
    let caveats = report["findings"]["caveats"].as_array().unwrap();
    let mut caveats = caveats.iter().filter_map(Value::as_str);
    caveats
        .find(|c| words.iter().all(|w| c.contains(w)))
        .unwrap_or_else(|| panic!("{words:?} in {:#}", report["findings"]["caveats"]))
}

#[test]
fn a_nat_costs_no_probe_a_held_port_one_flow_and_a_full_disk_nothing() {
    sealed(&[&collector, &agent], |world| {
        let [a, m, b] = world.row(["a", "m", "b"]);
        b.ip("route add 100.0.2.0/24 via 10.0.1.1");
        let holder = a.socket("10.0.0.1:50003");
        small_disk();
        let plan = HEAD.replace("address = \"10.0.0.2\"", "address = \"10.0.1.2\"") + SESSIONS;
        let _serving = serve(world, &a, &plan);
        let mut agents = [
            start(world, &a, "a", "secret"),
            start(world, &b, "b", "secret-b"),
        ];
        let session = |status: &Value| status["sessions"][0].clone();
        wait_until("seven flows run, and all deliver", || {
            agents.iter_mut().for_each(|a| a.assert_runs());
            let status = status(&a);
            session(&status)["state"] == "partly"
                && session(&status)["answered"].as_u64() > Some(100)
                && status["sessions"][1]["state"] == "ok"
        });
        held_port_is_told(&a);
        drill(&a, "start", &["night"]);
        m.nft(NAT);
        std::thread::sleep(Duration::from_secs(4));
        m.nft("delete table ip nat");
        drop(holder);
        wait_until("the eighth flow runs", || {
            session(&status(&a))["running"] == 8
        });
        full_disk_is_told(&a);
        wait_until("all is well", || status(&a)["ok"] == true);
        let text = a.finish(&collector(), &[&["status"], &URL[..]].concat());
        let text = text.success();
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        drill(&a, "stop", &[]);
        for agent in agents {
            agent.interrupt();
        }
        report_tells_all(&findings(&a));
    });
}

fn held_port_is_told(a: &Host) {
    let status = status(a);
    let session = &status["sessions"][0];
    assert_eq!(session["running"], 7, "{session:#}");
    let fault = &session["faults"][0];
    assert_eq!(fault["flow"], 3, "{session:#}");
    assert_eq!(fault["why"]["port_in_use"]["port"], 50_003, "{session:#}");
    assert_eq!(session["paths"]["forward"][0], "row", "{session:#}");
    let text = a.finish(&collector(), &[&["status"], &URL[..]].concat());
    assert_eq!(text.code, Some(1), "{text:?}");
    let line = "session `a-b`: flow 3 does not run: UDP port 50003 is in use\n";
    assert!(text.stdout.contains(line), "{}", text.stdout);
}

/// The store gets a disk of its own, small enough to be filled.
fn small_disk() {
    std::fs::create_dir("/run/scratch/store").expect("the scratch directory is writable");
    let mut mount = Command::new("mount");
    mount.args([
        "-t",
        "tmpfs",
        "-o",
        "size=64m",
        "tmpfs",
        "/run/scratch/store",
    ]);
    assert!(mount.status().expect("mount is there").success());
}

fn full_disk_is_told(a: &Host) {
    let filler = "/run/scratch/store/filler";
    let mut file = std::fs::File::create(filler).expect("the disk has room");
    while file.write_all(&[0; 4096]).is_ok() {}
    wait_until("the status says that nothing is stored", || {
        let disk = status(a)["disk"].clone();
        disk["low"] == true && disk["error"]["since"].is_string()
    });
    let text = a.finish(&collector(), &[&["status"], &URL[..]].concat());
    assert!(
        text.stdout.contains("CANNOT STORE since "),
        "{}",
        text.stdout
    );
    std::fs::remove_file(filler).expect("it is there");
    drop(file);
    wait_until("it is stored again", || {
        status(a)["disk"]["error"]["since"].is_null()
    });
}

fn report_tells_all(report: &Value) {
    for (i, least) in [(0, 1_000), (1, 500)] {
        let session = &report["findings"]["sessions"][i];
        let counts = &session["counts"];
        assert!(counts["answered"].as_u64() > Some(least), "{counts}");
        for lost in ["lost_forward", "lost_reverse", "lost_unknown"] {
            assert_eq!(counts[lost], 0, "{counts}");
        }
        let flows = session["flows"].as_array().unwrap();
        assert!(
            flows
                .iter()
                .all(|f| f["outages"] == Value::Array(Vec::new()))
        );
    }
    let seen = &report["findings"]["sessions"][0]["translations"][0];
    assert_eq!(seen["address"], "100.0.2.1", "{seen}");
    assert!(seen["packets"].as_u64() > Some(100), "{seen}");
    caveat(
        report,
        &["`a-b`", "address of `a` is translated to 100.0.2.1"],
    );
    let held = caveat(report, &["`a-b`", "flow 3 (source port 50003) did not run"]);
    assert!(
        held.contains("another program has UDP 10.0.0.1 port 50003"),
        "{held}"
    );
}
