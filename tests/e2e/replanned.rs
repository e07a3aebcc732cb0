//! A plan that changes while agents probe by it, and an agent that comes late.

use crate::programs::program;
use crate::world::{Host, Running, World, sealed, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) fn collector() -> PathBuf {
    program("hopgap-collector")
}

pub(crate) fn agent() -> PathBuf {
    program("hopgap-agent")
}

pub(crate) const HEAD: &str = r#"
[collector]
listen = "10.0.0.1:8620"
plain_http = true

[[agent]]
name = "a"
address = "10.0.0.1"
secret_file = "/run/scratch/secret"

[[agent]]
name = "b"
address = "10.0.0.2"
secret_file = "/run/scratch/secret-b"
"#;

pub(crate) fn session(name: &str, from: &str, to: &str, interval: &str, port: u16) -> String {
    format!(
        "\n[[session]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\ninterval = \"{interval}\"\nflows = 2\nsource_port = {port}\ntimeout = \"500ms\"\n"
    )
}

/// A collector on `a`, whose plan is `plan`.
pub(crate) fn serve(world: &World, a: &Host, plan: &str) -> Running {
    world.file("secret", "0123456789abcdef0123");
    world.file("secret-b", "fedcba9876543210fedc");
    let plan = world.file("plan.toml", plan);
    let mut serving = a.start(
        &collector(),
        &[
            "serve",
            "--plan",
            plan.to_str().unwrap(),
            "--store",
            "/run/scratch/store",
        ],
    );
    wait_until("the collector answers", || {
        serving.assert_runs();
        !a.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
    });
    serving
}

pub(crate) fn start(world: &World, host: &Host, name: &str, secret: &str) -> Running {
    let config = format!(
        "name = \"{name}\"\ncollector = \"http://10.0.0.1:8620\"\nsecret_file = \"/run/scratch/{secret}\"\nstate_dir = \"/run/scratch/{name}\"\nblock = \"1s\"\n"
    );
    let config = world.file(&format!("{name}.toml"), &config);
    host.start(&agent(), &["run", "--config", config.to_str().unwrap()])
}

/// The findings over all that was stored.
pub(crate) fn findings(a: &Host) -> Value {
    let from = [
        "report",
        "--store",
        "/run/scratch/store",
        "--format",
        "json",
    ];
    let report = a.finish(&collector(), &from).stdout;
    serde_json::from_str(&report).expect("the report is JSON")
}

pub(crate) fn counts<'a>(report: &'a Value, session: &str) -> &'a Value {
    let sessions = report["findings"]["sessions"].as_array().unwrap();
    let found = sessions.iter().find(|s| s["session"] == session);
    &found.unwrap_or_else(|| panic!("no {session} in {report:#}"))["counts"]
}

#[test]
fn a_plan_that_changes_while_agents_run_loses_and_invents_nothing() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let out = |interval| session("out", "a", "b", interval, 50_000);
        let back = session("back", "b", "a", "10ms", 50_000);
        let first = format!("{HEAD}{}{back}", out("10ms"));
        let _serving = serve(world, &a, &first);
        let agents = [
            start(world, &a, "a", "secret"),
            start(world, &b, "b", "secret-b"),
        ];
        a.finish(
            &collector(),
            &["drill", "start", "night", "--url", "http://10.0.0.1:8620"],
        )
        .success();
        std::thread::sleep(Duration::from_secs(4));
        // Another session before the others: their places change, and with them the
        // SSIDs; and one of them has another pace.
        let new = session("new", "a", "b", "50ms", 51_000);
        world.file("plan.toml", &format!("{HEAD}{new}{}{back}", out("20ms")));
        std::thread::sleep(Duration::from_secs(7));
        for agent in agents {
            agent.interrupt();
        }
        a.finish(
            &collector(),
            &["drill", "stop", "--url", "http://10.0.0.1:8620"],
        )
        .success();

        let report = findings(&a);
        for name in ["out", "back", "new"] {
            let counts = counts(&report, name);
            let lost = ["lost_forward", "lost_reverse", "lost_unknown"];
            assert!(lost.iter().all(|l| counts[l] == 0), "{name}: {counts}");
            assert_eq!(counts["duplicated"], 0, "{name}: {counts}");
            assert!(
                counts["answered"].as_u64().unwrap() > 100,
                "{name}: {counts}"
            );
        }
        let caveats = report["findings"]["caveats"].to_string();
        for wrong in [
            "belong",
            "no record of",
            "not in the reflector's log",
            "did not answer",
        ] {
            assert!(!caveats.contains(wrong), "{caveats}");
        }
    });
}

#[test]
fn silence_before_the_other_agent_is_there_is_no_outage() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let plan = format!("{HEAD}{}", session("out", "a", "b", "10ms", 50_000));
        let _serving = serve(world, &a, &plan);
        let early = start(world, &a, "a", "secret");
        a.finish(
            &collector(),
            &["drill", "start", "night", "--url", "http://10.0.0.1:8620"],
        )
        .success();
        std::thread::sleep(Duration::from_secs(4));
        let late = start(world, &b, "b", "secret-b");
        std::thread::sleep(Duration::from_secs(4));
        late.interrupt();
        early.interrupt();
        a.finish(
            &collector(),
            &["drill", "stop", "--url", "http://10.0.0.1:8620"],
        )
        .success();

        let report = findings(&a);
        let counts = counts(&report, "out");
        let n = |key: &str| counts[key].as_u64().unwrap();
        assert!(n("no_data") > 300, "{counts}");
        assert_eq!(n("lost_unknown") + n("lost_reverse"), 0, "{counts}");
        let caveats = report["findings"]["caveats"].to_string();
        assert!(
            caveats.contains("before the first sign of the agent `b`"),
            "{caveats}"
        );
        let outages: Vec<&Value> = report["findings"]["sessions"][0]["flows"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|f| f["outages"].as_array().unwrap())
            .collect();
        assert!(outages.is_empty(), "{outages:#?}");
    });
}
