//! An agent that is to run more sessions than it may have files open.

use crate::joined::{self, PLAN_FILE, join, plan, run, status, token};
use crate::programs::program;
use crate::world::{Host, Running, World, sealed, wait_until};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn collector() -> PathBuf {
    program("hopgap-collector")
}

fn agent() -> PathBuf {
    program("hopgap-agent")
}

/// So many sessions from `a` beside those of the plan, of two flows each, with traceroutes.
const SESSIONS: usize = 50;
/// Fewer files than all their sockets, and more than some of them.
const FEW: u64 = 128;

fn many() -> String {
    let mut plan = plan("");
    for i in 0..SESSIONS {
        let _ = write!(
            plan,
            "\n[[session]]\nname = \"many-{i}\"\nfrom = \"a\"\nto = \"b\"\ninterval = \"200ms\"\nflows = 2\ntimeout = \"500ms\"\nsource_port = {}\n",
            51_000 + 2 * i
        );
    }
    plan
}

/// The agent `a` of the plan, with these limits of open files: soft and hard.
fn limited(world: &World, host: &Host, limits: &str) -> Running {
    let config = format!(
        "name = \"a\"\ncollector = \"{}\"\nstate_dir = \"/run/scratch/a\"\nblock = \"1s\"\n",
        joined::URL
    );
    let config = world.file("a.toml", &config);
    let (program, config) = (agent(), config.display().to_string());
    let line = format!("{limits}; exec {} run --config {config}", program.display());
    host.start(Path::new("sh"), &["-c", &line])
}

/// How many sessions of `a` run, and those that do not, as the status has them.
fn sessions(status: &Value) -> (usize, Vec<Value>) {
    let sessions = status["sessions"].as_array().unwrap().iter();
    let of_a = sessions.filter(|s| s["name"] != "back");
    let (run, rest): (Vec<_>, Vec<_>) = of_a.cloned().partition(|s| s["running"] == 2);
    (run.len(), rest)
}

fn blocks(status: &Value) -> u64 {
    let agents = status["agents"].as_array().unwrap();
    let a = agents.iter().find(|agent| agent["name"] == "a").unwrap();
    a["blocks"].as_u64().unwrap()
}

#[test]
fn what_does_not_fit_waits_and_what_was_measured_is_delivered() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        std::fs::write(PLAN_FILE, many()).unwrap();
        let serving = joined::serve(&a);
        for (name, host) in [("a", &a), ("b", &b)] {
            let token = token(&a, &format!("--agent {name}"));
            join(world, host, name, &token, &[]).success();
        }
        let _reflecting = run(world, &b, "b", "b");
        let mut few = limited(world, &a, &format!("ulimit -n {FEW}"));
        wait_until("some sessions run", || {
            few.assert_runs();
            let (run, rest) = sessions(&status(&a));
            run > 5 && rest.iter().all(|s| s["faults"] != Value::Array(Vec::new()))
        });
        let (_, rest) = sessions(&status(&a));
        assert!(!rest.is_empty());
        for session in &rest {
            let why = &session["faults"][0]["why"];
            // EMFILE.
            assert_eq!(why["refused"]["errno"], 24, "{session:#}");
        }
        // Each connection anew: those that are open already would hide it.
        serving.interrupt();
        let _serving = joined::serve(&a);
        let before = blocks(&status(&a));
        wait_until("what was measured is delivered", || {
            blocks(&status(&a)) > before + 50
        });
        // One socket for the traceroutes of all, beside that of the flows' ICMP errors.
        let raw = a.run("ss", &["-Hnwa"]);
        assert!(raw.lines().count() <= 4, "{raw}");
        few.interrupt();

        let mut all = limited(world, &a, &format!("ulimit -Sn {FEW}"));
        wait_until("all sessions run", || {
            all.assert_runs();
            sessions(&status(&a)).0 == SESSIONS + 1
        });
        let before = blocks(&status(&a));
        wait_until("they deliver", || blocks(&status(&a)) > before + 100);
    });
}
