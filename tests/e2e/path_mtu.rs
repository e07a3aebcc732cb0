//! The path MTU, as the network really has it.

use crate::programs::program;
use crate::replanned::{HEAD, collector, findings, serve, session, start};
use crate::world::{Host, STAMP, World, sealed};
use serde_json::{Value, json};
use std::time::Duration;

fn agent() -> std::path::PathBuf {
    program("hopgap-agent")
}

/// Two hosts with a router between, whose link to the second one carries 1400 bytes.
fn narrow(world: &World) -> [Host; 3] {
    let hosts = world.row(["here", "between", "there"]);
    hosts[1].ip("link set right mtu 1400");
    hosts[2].ip("link set left mtu 1400");
    hosts
}

/// What `measure` finds in so many seconds.
fn found(here: &Host, target: &str, seconds: u32) -> Value {
    let line = format!(
        "measure {target} --flows 1 --interval 20ms --path-mtu-interval 1s --duration {seconds}s --json"
    );
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let said = here.finish(&agent(), &arguments).success();
    let said: Value = serde_json::from_str(&said).unwrap();
    let findings = said.get("findings").unwrap_or(&said);
    let session = &findings["sessions"][0];
    assert_eq!(
        session["counts"]["lost_forward"], 0,
        "probes themselves are small: {session:#}"
    );
    let mtu = &session["path_mtu"][0];
    json!([mtu["bytes"], mtu["limit"], mtu["router"], mtu["router_mtu"]])
}

#[test]
fn it_is_the_interface_s_where_nothing_is_narrower() {
    sealed(&[&agent], |world| {
        let [here, _, there] = world.row(["here", "between", "there"]);
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let mtu = found(&here, "10.0.1.2", 4);
        assert_eq!(mtu, json!([1500, "interface", null, null]));
    });
}

#[test]
fn the_router_that_says_so_is_named() {
    sealed(&[&agent], |world| {
        let [here, _, there] = narrow(world);
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let mtu = found(&here, "10.0.1.2", 4);
        assert_eq!(mtu, json!([1400, "router", "10.0.0.2", 1400]));
        // It answers on IPv6, too.
        let mtu = found(&here, "fd00:1::2", 4);
        assert_eq!(mtu, json!([1400, "router", "fd00::2", 1400]));
    });
}

#[test]
fn a_black_hole_is_found_where_no_router_says_anything() {
    sealed(&[&agent], |world| {
        let [here, between, there] = narrow(world);
        between.nft(
            "table inet e2e { chain out {
                type filter hook output priority 0;
                icmp type destination-unreachable drop
            }
            }",
        );
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let mtu = found(&here, "10.0.1.2", 18);
        assert_eq!(mtu, json!([1400, "silent", null, null]));
    });
}

/// Asked often, and waited for long.
fn echo(name: &str, target: &str) -> String {
    format!(
        "\n[[echo]]\nname = \"{name}\"\nfrom = \"a\"\ntarget = \"{target}\"\ninterval = \"100ms\"\ntimeout = \"2s\"\n"
    )
}

/// In one world, as it takes its time to start: what is limited on the way back, and an
/// echo target that a router says is not there.
#[test]
fn what_routers_tell_the_far_end_and_of_echoes_is_on_the_report() {
    sealed(&[&collector, &agent], |world| {
        let [a, m, b] = world.row(["a", "m", "b"]);
        // An address that is not the default route's own.
        a.ip("address add 10.0.7.1/32 dev lo");
        m.ip("route add 10.0.7.1 via 10.0.0.1");
        a.ip("route add 10.0.9.0/24 via 10.0.0.2 src 10.0.7.1");
        m.ip("route replace 10.0.0.0/24 dev left mtu lock 1400");
        m.nft(
            "table inet e2e {
                counter asked {}
                chain passing {
                    type filter hook forward priority 0;
                    ip daddr 10.0.9.9 ip saddr 10.0.0.1 icmp type echo-request counter name asked
                    ip daddr 10.0.9.9 reject with icmp type host-unreachable
                    ip daddr 10.0.9.8 drop
                }
            }",
        );
        m.ip("route add 10.0.9.0/24 via 10.0.1.2");
        let plan = HEAD.replace("address = \"10.0.0.2\"", "address = \"10.0.1.2\"")
            + &session("out", "a", "b", "20ms", 50_000)
            + "path_mtu_interval = \"1s\"\n"
            + &session("back", "b", "a", "20ms", 50_000)
            + &echo("gone", "10.0.9.9")
            + &echo("void", "10.0.9.8");
        let _serving = serve(world, &a, &plan);
        let agents = [
            start(world, &a, "a", "secret"),
            start(world, &b, "b", "secret-b"),
        ];
        let drill = |arguments: &[&str]| {
            let url = ["--url", "http://10.0.0.1:8620"];
            let arguments = [&["drill"], arguments, &url].concat();
            a.finish(&collector(), &arguments).success();
        };
        drill(&["start", "night"]);
        m.wait_for_packets("asked", 30);
        std::thread::sleep(Duration::from_secs(5));
        for agent in agents {
            agent.interrupt();
        }
        drill(&["stop"]);
        let report = findings(&a);
        let sessions = report["findings"]["sessions"].as_array().unwrap();
        let out = sessions.iter().find(|s| s["session"] == "out").unwrap();
        let mtu = &out["path_mtu"][0];
        let shown = json!([mtu["bytes"], mtu["limit"], mtu["router"]]);
        assert_eq!(shown, json!([1400, "router", "10.0.1.1"]), "{mtu:#}");
        assert_eq!(mtu["out"]["bytes"], 1500, "{mtu:#}");
        assert_eq!(mtu["back"]["bytes"], 1400, "{mtu:#}");
        assert_eq!(mtu["back"]["router_mtu"], 1400, "{mtu:#}");
        let caveats = report["findings"]["caveats"].to_string();
        assert!(!caveats.contains("black hole"), "{caveats}");

        // Each request is one that was not answered, and none waited for another.
        let [echo, void] = [0, 1].map(|i| &report["findings"]["echoes"][i]);
        assert_eq!(void["answered"], 0, "{void:#}");
        assert!(void["sent"].as_u64().unwrap() >= 15, "{void:#}");
        assert_eq!(void["errors"], json!([]), "{void:#}");
        assert_eq!(echo["answered"], 0, "{echo:#}");
        assert!(echo["sent"].as_u64().unwrap() >= 25, "{echo:#}");
        let error = &echo["errors"][0];
        assert_eq!(error["meaning"], "host unreachable", "{echo:#}");
        assert!(error["count"].as_u64().unwrap() >= 25, "{echo:#}");
    });
}
