use crate::plan::{Plan, PlanError};
use serde_json::{Value, json};

/// A plan of two agents with a session each way, changed by `change`.
fn plan(change: impl FnOnce(&mut Value)) -> Plan {
    let mut plan = json!({
        "agent": [
            {"name": "a", "address": "10.0.0.1"},
            {"name": "b", "address": "10.0.1.2"},
        ],
        "session": [
            {"name": "a-b", "from": "a", "to": "b"},
            {"name": "b-a", "from": "b", "to": "a"},
        ],
        "echo": [{"name": "r", "from": "a", "target": "10.0.0.2"}],
        "path": [{"name": "direct", "role": "primary", "target_at_hop": 2}],
    });
    change(&mut plan);
    serde_json::from_value(plan).unwrap()
}

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    plan(change).checked_whole().unwrap_err().to_string()
}

#[test]
fn a_good_plan_is_good() {
    plan(|_| {}).checked_whole().unwrap();
    plan(|p| p["session"][0]["to"] = json!("[fe80::1%2]:862"))
        .checked_whole()
        .expect_err("of another family");
    plan(|p| {
        p["agent"][0]["address"] = json!("fd00::1");
        p["agent"][1]["address"] = json!("fd00:1::2");
        p["session"][0]["to"] = json!("[fe80::1%2]:862");
        p["echo"][0]["target"] = json!("fd00::2");
        p["path"][0]["passes"] = json!(["fe80::1"]);
    })
    .checked_whole()
    .unwrap();
}

#[test]
fn an_address_must_be_one_hosts() {
    for (address, range) in [
        ("255.255.255.255", "the address of one host"),
        (
            "::ffff:10.0.0.1",
            "written as an IPv4 address, without `::ffff:`",
        ),
        (
            "fe80::1",
            "an address that is good beyond one link: a link-local one needs an interface",
        ),
    ] {
        assert_eq!(
            refusal(|p| p["agent"][0]["address"] = json!(address)),
            format!("agent `a`: address is {address}, but must be {range}")
        );
        assert_eq!(
            refusal(|p| p["echo"][0]["target"] = json!(address)),
            format!("echo `r`: target is {address}, but must be {range}")
        );
        let with_port = match address.contains(':') {
            true => format!("[{address}]:862"),
            false => format!("{address}:862"),
        };
        assert_eq!(
            refusal(|p| p["session"][0]["to"] = json!(with_port)),
            format!("session `a-b`: to is {address}, but must be {range}")
        );
    }
    for address in ["0.0.0.0", "::", "224.0.0.1", "239.1.2.3", "ff02::1"] {
        for (of, key) in [("agent", "address"), ("echo", "target")] {
            let said = refusal(|p| p[of][0][key] = json!(address));
            assert!(
                said.contains(&format!("{key} is {address}, but must be")),
                "{said}"
            );
        }
        assert!(
            refusal(|p| p["path"][0]["passes"] = json!([address]))
                .starts_with(&format!("path `direct`: passes is {address}, but must be"))
        );
    }
}

#[test]
fn both_ends_are_of_one_family() {
    assert_eq!(
        refusal(|p| p["agent"][0]["address"] = json!("fd00::1")),
        "session `a-b` goes from fd00::1 to 10.0.1.2, but no packet goes from an IPv6 to an \
         IPv4 address; give both ends addresses of one family"
    );
    let said = refusal(|p| p["session"][1]["to"] = json!("[fd00::1]:862"));
    assert!(said.contains("from 10.0.1.2 to fd00::1"), "{said}");
}

#[test]
fn an_echo_asks_a_target_of_its_agents_family() {
    assert_eq!(
        refusal(|p| p["echo"][0]["target"] = json!("fd00::2")),
        "echo `r` goes from 10.0.0.1 to fd00::2, but no packet goes from an IPv4 to an IPv6 \
         address; name an address of the target of the agent's family"
    );
    // The other agents' families do not matter.
    plan(|p| {
        let c = json!({"name": "c", "address": "fd00::3"});
        p["agent"].as_array_mut().unwrap().push(c);
        let echo = json!({"name": "s", "from": "c", "target": "fd00::2"});
        p["echo"].as_array_mut().unwrap().push(echo);
    })
    .checked_whole()
    .unwrap();
}

#[test]
fn a_plan_that_measures_nothing_is_refused() {
    plan(|_| {}).measures().unwrap();
    let empty = plan(|p| p["session"] = json!([]));
    assert_eq!(
        empty.measures().unwrap_err().to_string(),
        "the plan has no session, so nothing would be measured; add a [[session]]"
    );
    // An agent's part may have none, and a collector may wait for its first.
    empty.checked_whole().unwrap();
}

#[test]
fn no_target_is_at_hop_0() {
    assert_eq!(
        refusal(|p| p["path"][0]["target_at_hop"] = json!(0)),
        "path `direct`: target_at_hop is 0, but must be 1 to 255, the number that a traceroute \
         shows for the target"
    );
}

#[test]
fn agents_of_one_host_share_no_port() {
    let one_host = |p: &mut Value| {
        p["agent"][1] = json!({"name": "b", "address": "10.0.0.1", "reflector_port": 863});
    };
    assert_eq!(
        refusal(one_host),
        "sessions `a-b` and `b-a` of agent `a` share source ports at 10.0.0.1; give one of \
         them another `source_port`"
    );
    plan(|p| {
        one_host(p);
        p["session"][1]["source_port"] = json!(51_000);
    })
    .checked_whole()
    .unwrap();
    let error = plan(|p| {
        one_host(p);
        p["session"][1]["source_port"] = json!(51_000);
        p["agent"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "c", "address": "10.0.0.1", "reflector_port": 50_007}));
    });
    assert!(matches!(
        error.checked_whole(),
        Err(PlanError::SendsFromReflector { port: 50_007, .. })
    ));
}
