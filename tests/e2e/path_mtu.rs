//! The path MTU, as the network really has it.

use crate::programs::program;
use crate::world::{Host, STAMP, World, sealed};
use serde_json::{Value, json};

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
        let _over_ipv6 = there.serve(&agent(), &["reflect", "--listen", "[fd00:1::2]:862"], STAMP);
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
