//! Agents whose collector is away, or whose disk is: they go on, and nothing is lost.

use crate::programs::program;
use crate::world::{Host, Running, STAMP, World, sealed, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn collector() -> PathBuf {
    program("hopgap-collector")
}

pub(crate) fn agent() -> PathBuf {
    program("hopgap-agent")
}

const PLAN: &str = r#"
[collector]
listen = "10.0.0.1:8620"
plain_http = true

[[agent]]
name = "a"
address = "10.0.0.1"
secret_file = "/run/scratch/secret-a"

[[agent]]
name = "b"
address = "10.0.0.2"
secret_file = "/run/scratch/secret-b"

[[session]]
name = "out"
from = "a"
to = "b"
interval = "10ms"
flows = 2
timeout = "500ms"
"#;

pub(crate) fn serve(world: &World, a: &Host) -> Running {
    world.file("secret-a", "0123456789abcdef0123");
    world.file("secret-b", "fedcba9876543210fedc");
    let plan = world.file("plan.toml", PLAN);
    let store = "/run/scratch/store";
    let plan = plan.to_str().unwrap();
    let mut serving = a.start(&collector(), &["serve", "--plan", plan, "--store", store]);
    wait_until("the collector answers", || {
        serving.assert_runs();
        !a.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
    });
    serving
}

fn start(world: &World, host: &Host, name: &str, spool: &str) -> Running {
    let config = format!(
        "name = \"{name}\"\ncollector = \"http://10.0.0.1:8620\"\nsecret_file = \"/run/scratch/secret-{name}\"\nstate_dir = \"/run/scratch/{name}\"\nblock = \"500ms\"\n[spool]\n{spool}"
    );
    let config = world.file(&format!("{name}.toml"), &config);
    host.start(&agent(), &["run", "--config", config.to_str().unwrap()])
}

/// Starts agent `b` and waits until it reflects, then agent `a`.
pub(crate) fn start_both(world: &World, a: &Host, b: &Host) -> [Running; 2] {
    let mut far = start(world, b, "b", "");
    let listens = format!("sport = :{STAMP}");
    wait_until("agent b reflects", || {
        far.assert_runs();
        !b.run("ss", &["-Hlun", &listens]).is_empty()
    });
    [start(world, a, "a", ""), far]
}

/// Bytes of records in an agent's spool that the collector has not acknowledged.
fn waiting(name: &str) -> u64 {
    let spool = Path::new("/run/scratch").join(name).join("spool");
    let cursor = std::fs::read_to_string(spool.join("cursor")).unwrap_or_default();
    let mut words = cursor.split_whitespace();
    let [segment, offset] = [(); 2].map(|()| words.next().unwrap_or("0").parse::<u64>().unwrap());
    let Ok(entries) = std::fs::read_dir(spool) else {
        return 0;
    };
    let bytes = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u64 = name.strip_suffix(".seg")?.parse().ok()?;
        let length = entry.metadata().ok()?.len();
        match number.cmp(&segment) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => length.checked_sub(offset),
            std::cmp::Ordering::Greater => Some(length),
        }
    });
    bytes.sum()
}

/// The findings over all that was stored.
pub(crate) fn findings(a: &Host) -> Value {
    let store = "/run/scratch/store";
    let window = ["report", "--from", "-10m", "--format", "json"];
    let report = a.finish(&collector(), &[&window[..], &["--store", store]].concat());
    serde_json::from_str(&report.stdout).unwrap_or_else(|e| panic!("{e}: {report:?}"))
}

/// Every probe was answered, more than `least` of them, and each was recorded once.
fn assert_whole(report: &Value, least: u64) {
    let counts = &report["findings"]["sessions"][0]["counts"];
    assert!(counts["answered"].as_u64().unwrap() > least, "{counts}");
    for bad in ["lost_forward", "lost_reverse", "lost_unknown", "duplicated"] {
        assert_eq!(counts[bad], 0, "{bad}: {counts}");
    }
    let caveats = report["findings"]["caveats"].to_string();
    for wrong in ["no record of", "were lost by the agent itself"] {
        assert!(!caveats.contains(wrong), "{caveats}");
    }
}

#[test]
fn an_agent_that_restarts_without_its_collector_probes_by_the_cached_plan() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let serving = serve(world, &a);
        let mut agents = [start(world, &a, "a", ""), start(world, &b, "b", "")];
        wait_until("both have the plan", || {
            agents.iter_mut().for_each(Running::assert_runs);
            ["a", "b"]
                .iter()
                .all(|n| Path::new(&format!("/run/scratch/{n}/plan.json")).exists())
        });
        // As a loss of power does: nobody says goodbye.
        drop(agents);
        drop(serving);

        let mut agents = start_both(world, &a, &b);
        let before = waiting("a");
        wait_until("records wait in the spool", || {
            agents.iter_mut().for_each(Running::assert_runs);
            waiting("a") > before + 3_000 && waiting("b") > 0
        });
        let serving = serve(world, &a);
        wait_until("what waited is delivered", || {
            agents.iter_mut().for_each(Running::assert_runs);
            waiting("a") < 3_000
        });
        // They end in order: all of it is delivered then.
        let ended = agents.map(Running::interrupt);
        for agent in &ended {
            assert!(
                agent
                    .stderr
                    .contains("records wait in the spool: cannot reach"),
                "{agent:?}"
            );
            assert!(
                agent.stderr.contains("the collector takes records again"),
                "{agent:?}"
            );
        }
        serving.interrupt();
        assert_whole(&findings(&a), 200);
    });
}

#[test]
fn a_cached_plan_that_cannot_be_read_is_said_and_replaced() {
    sealed(&[&collector, &agent], |world| {
        let [a, _b] = world.row(["a", "b"]);
        let _serving = serve(world, &a);
        let plan = Path::new("/run/scratch/a/plan.json");
        std::fs::create_dir("/run/scratch/a").unwrap();
        std::fs::write(plan, "{\"revision\":\"00").unwrap();
        let mut running = start(world, &a, "a", "");
        wait_until("the plan is there again", || {
            running.assert_runs();
            let text = std::fs::read_to_string(plan).unwrap_or_default();
            serde_json::from_str::<Value>(&text).is_ok_and(|p| p["plan"]["session"].is_array())
        });
        let said = running.interrupt();
        assert!(
            said.stderr
                .contains("cannot read the cached plan /run/scratch/a/plan.json")
                && said
                    .stderr
                    .contains("it is replaced when the collector answers"),
            "{said:?}"
        );
    });
}

#[test]
fn an_agent_whose_disk_is_full_goes_on_and_loses_nothing() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        std::fs::create_dir("/run/scratch/a").unwrap();
        a.run(
            "mount",
            &["-t", "tmpfs", "-o", "size=128k", "tmpfs", "/run/scratch/a"],
        );
        let serving = serve(world, &a);
        let mut agents = [start(world, &a, "a", ""), start(world, &b, "b", "")];
        wait_until("both have the plan", || {
            agents.iter_mut().for_each(Running::assert_runs);
            ["a", "b"]
                .iter()
                .all(|n| Path::new(&format!("/run/scratch/{n}/plan.json")).exists())
        });
        drop(agents);
        drop(serving);
        // All that was left of the disk is somebody else's.
        let hog = "/run/scratch/a/hog";
        let full = a.start(
            Path::new("dd"),
            &["if=/dev/zero", &format!("of={hog}"), "bs=1k"],
        );
        assert!(full.finish().stderr.contains("No space left"));
        let agents = start_both(world, &a, &b);
        std::thread::sleep(Duration::from_secs(4));
        std::fs::remove_file(hog).unwrap();
        wait_until("records are written to the disk again", || {
            waiting("a") > 1_000
        });
        let serving = serve(world, &a);
        wait_until("they are delivered", || waiting("a") < 1_000);
        let [near, far] = agents.map(Running::interrupt);
        assert!(near.stderr.contains("No space left on device"), "{near:?}");
        assert!(
            near.stderr.contains("the spool's disk takes records again"),
            "{near:?}"
        );
        assert!(!far.stderr.contains("No space left"), "{far:?}");
        serving.interrupt();
        assert_whole(&findings(&a), 600);
    });
}
