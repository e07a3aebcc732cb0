//! How little the programs may do, and that it is enough.

use crate::joined::{self, PLAN_FILE, STORE, URL};
use crate::programs::program;
use crate::world::{Host, Running, World, sealed, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn agent() -> PathBuf {
    program("hopgap-agent")
}

fn collector() -> PathBuf {
    program("hopgap-collector")
}

/// The numbers of the capabilities that the service's unit gives, and of `CAP_NET_ADMIN`.
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

/// Starts a program with no capability but these, as `setpriv` names them.
fn limited(host: &Host, capabilities: &[&str], program: &Path, arguments: &[&str]) -> Running {
    let bounds = ["-all"].iter().chain(capabilities).copied();
    let bounds = bounds.collect::<Vec<_>>().join(",");
    let words = ["--bounding-set", &bounds, "--inh-caps", "-all"];
    let program = program.to_str().unwrap();
    let line = [&words[..], &[program], arguments].concat();
    host.start(Path::new("setpriv"), &line)
}

/// What `/proc` says of each thread, by the field's name.
fn rights(process: &Running) -> Vec<BTreeMap<String, u64>> {
    let tasks = format!("/proc/{}/task", process.id());
    let threads = std::fs::read_dir(tasks).unwrap();
    threads
        .map(|thread| {
            let file = thread.unwrap().path().join("status");
            let status = std::fs::read_to_string(file).unwrap();
            let fields = status.lines().filter_map(|line| line.split_once(":\t"));
            let rights =
                fields.filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs");
            rights
                .map(|(name, value)| (name.to_owned(), u64::from_str_radix(value, 16).unwrap()))
                .collect()
        })
        .collect()
}

/// Each thread has nothing beyond `most`, and can get nothing back.
fn assert_no_more_than(process: &Running, most: u64) {
    let threads = rights(process);
    assert!(!threads.is_empty());
    for thread in threads {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(thread[set] & !most, 0, "{set}: {thread:x?}");
        }
        assert_eq!(thread["NoNewPrivs"], 1, "{thread:?}");
    }
}

/// The user and group ids of each thread: real, effective, saved, and of the file system.
fn ids(process: &Running) -> Vec<[Vec<u32>; 2]> {
    let tasks = format!("/proc/{}/task", process.id());
    let threads = std::fs::read_dir(tasks).unwrap();
    threads
        .map(|thread| {
            let file = thread.unwrap().path().join("status");
            let status = std::fs::read_to_string(file).unwrap();
            ["Uid:", "Gid:"].map(|field| {
                let line = status.lines().find_map(|line| line.strip_prefix(field));
                let numbers = line.unwrap().split_whitespace();
                numbers.map(|n| n.parse().unwrap()).collect()
            })
        })
        .collect()
}

/// In every thread the one who called `sudo`, or nobody; root only in a user namespace that
/// has no other.
fn assert_is_not_root(process: &Running) {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u32>().unwrap());
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let alone = map.split_whitespace().nth(2) == Some("1");
    let expected = match (alone, number("SUDO_UID"), number("SUDO_GID")) {
        (true, ..) => [0, 0],
        (false, Some(user), Some(group)) if user != 0 => [user, group],
        _ => [65_534; 2],
    };
    for thread in ids(process) {
        assert_eq!(thread, expected.map(|id| vec![id; 4]));
    }
}

fn wait_for_port(host: &Host, process: &mut Running, port: &str) {
    let filter = format!("sport = :{port}");
    wait_until(&format!("UDP {port} is open"), || {
        process.assert_runs();
        !host.run("ss", &["-Hlun", &filter]).is_empty()
    });
}

/// An agent's configuration, of a host that has joined as `name`.
fn configure(world: &World, name: &str) -> String {
    let text = format!(
        "name = \"{name}\"\ncollector = \"{URL}\"\nstate_dir = \"/run/scratch/{name}\"\nblock = \"500ms\"\n"
    );
    let file = world.file(&format!("{name}.toml"), &text);
    file.to_str().unwrap().to_owned()
}

/// Lets both agents join, at a collector that listens.
fn join_both(world: &World, hosts: [&Host; 2], collecting: &mut Running) {
    let [a, _] = hosts;
    wait_until("the collector listens", || {
        collecting.assert_runs();
        !a.run("ss", &["-Hltn", "sport = :8621"]).is_empty()
    });
    for (host, name) in hosts.into_iter().zip(["a", "b"]) {
        let token = joined::token(a, &format!("--agent {name}"));
        joined::join(world, host, name, &token, &[]).success();
    }
}

/// The counts of the session `out` over all that was stored.
fn counts(a: &Host) -> Value {
    let report = [
        "report", "--store", STORE, "--from", "-90s", "--format", "json",
    ];
    let report = a.finish(&collector(), &report);
    let report: Value =
        serde_json::from_str(&report.stdout).unwrap_or_else(|e| panic!("{e}: {report:?}"));
    let sessions = report["findings"]["sessions"].as_array().unwrap();
    let out = sessions.iter().find(|s| s["session"] == "out");
    out.unwrap_or_else(|| panic!("{report}"))["counts"].clone()
}

fn assert_measured(counts: &Value) {
    assert!(counts["answered"].as_u64().unwrap() > 50, "{counts}");
    for lost in ["lost_forward", "lost_reverse", "lost_unknown"] {
        assert_eq!(counts[lost], 0, "{lost}: {counts}");
    }
}

/// An echo target beside the plan's sessions.
const ECHO: &str = "\n[[echo]]\nname = \"far\"\nfrom = \"a\"\ntarget = \"10.0.0.2\"\n";

#[test]
fn what_was_started_as_root_gives_up_its_rights() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let reflecting = b.serve(&agent(), &["reflect", "--listen", "10.0.0.2:862"], 862);
        assert_no_more_than(&reflecting, 0);
        assert_is_not_root(&reflecting);
        let mut measuring = a.start(&agent(), &["measure", "10.0.0.2"]);
        wait_for_port(&a, &mut measuring, "50007");
        wait_until("the session's thread runs", || rights(&measuring).len() > 2);
        assert_no_more_than(&measuring, 0);
        assert_is_not_root(&measuring);
        let traced = a.finish(&agent(), &["trace", "10.0.0.2"]);
        assert!(!traced.stderr.contains("CAP_NET_RAW"), "{traced:?}");
        let summary = measuring.interrupt();
        assert!(!summary.stderr.contains("CAP_NET_RAW"), "{summary:?}");
        drop(reflecting);

        std::fs::write(PLAN_FILE, joined::plan("")).unwrap();
        let mut collecting = a.start(&collector(), &["serve", "--plan", PLAN_FILE]);
        join_both(world, [&a, &b], &mut collecting);
        let config = configure(world, "b");
        let mut running = b.start(&agent(), &["run", "--config", &config]);
        wait_for_port(&b, &mut running, "862");
        assert_no_more_than(&running, NET_RAW | NET_BIND_SERVICE | NET_ADMIN);
        let now = rights(&running);
        assert!(now.iter().all(|t| t["CapEff"] & NET_RAW != 0), "{now:x?}");
    });
}

#[test]
fn without_any_right_it_measures_and_says_what_is_off() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let refused = limited(&b, &[], &agent(), &["reflect"]).finish().sentence();
        assert!(
            refused.contains("862 is a privileged port: run `sudo setcap"),
            "{refused}"
        );
        let open = ["reflect", "--listen", "10.0.0.2:8862"];
        let mut reflecting = limited(&b, &[], &agent(), &open);
        wait_for_port(&b, &mut reflecting, "8862");
        assert_no_more_than(&reflecting, 0);
        for what in [
            &["measure", "10.0.0.2:8862", "--duration", "1s"][..],
            &["trace", "10.0.0.2:8862"],
        ] {
            let done = limited(&a, &[], &agent(), what).finish();
            assert!(done.stderr.contains("without CAP_NET_RAW"), "{done:?}");
            assert!(done.stderr.contains("sudo setcap cap_net_raw"), "{done:?}");
            done.success();
        }
        drop(reflecting);

        std::fs::write(PLAN_FILE, joined::plan("") + ECHO).unwrap();
        let mut collecting = a.start(&collector(), &["serve", "--plan", PLAN_FILE]);
        join_both(world, [&a, &b], &mut collecting);
        let config = configure(world, "b");
        let mut far = b.start(&agent(), &["run", "--config", &config]);
        wait_for_port(&b, &mut far, "862");
        let config = configure(world, "a");
        let mut near = limited(&a, &[], &agent(), &["run", "--config", &config]);
        wait_until("probes are answered and stored", || {
            near.assert_runs();
            far.assert_runs();
            let report = [
                "report", "--store", STORE, "--from", "-90s", "--format", "json",
            ];
            let told = a.finish(&collector(), &report).stdout;
            told.contains("\"out\"") && counts(&a)["answered"].as_u64() > Some(100)
        });
        assert_no_more_than(&near, 0);
        let said = near.interrupt().stderr;
        assert_measured(&counts(&a));
        for off in [
            "without CAP_NET_RAW traceroutes",
            "862 is a privileged port",
            "cannot open an ICMP socket for the echo target `far`",
        ] {
            assert_eq!(said.matches(off).count(), 1, "{off}: {said}");
        }
        assert!(said.contains("net.ipv4.ping_group_range"), "{said}");
    });
}

/// systemd's sets of system calls, by name with the `@`.
fn sets() -> BTreeMap<String, Vec<String>> {
    let done = Command::new("systemd-analyze")
        .args(["syscall-filter", "--no-pager"])
        .output()
        .expect("systemd-analyze is there: `cargo lab test` installs it");
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in String::from_utf8(done.stdout).unwrap().lines() {
        let entry = line.trim();
        if line.starts_with('@') {
            current = entry.to_owned();
        } else if line.starts_with(' ') && !entry.starts_with('#') {
            sets.entry(current.clone())
                .or_default()
                .push(entry.to_owned());
        } else if !line.starts_with(' ') {
            current.clear();
        }
    }
    sets
}

fn expand(sets: &BTreeMap<String, Vec<String>>, name: &str, into: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        into.insert(name.to_owned());
        return;
    }
    let entries = sets
        .get(name)
        .unwrap_or_else(|| panic!("systemd has no {name}"));
    for entry in entries {
        expand(sets, entry, into);
    }
}

/// The system calls that a unit's filter lets through.
fn allowed(unit: &str) -> BTreeSet<String> {
    let sets = sets();
    let mut allowed = BTreeSet::new();
    // systemd lets these through always, so that it can start the program.
    expand(&sets, "@default", &mut allowed);
    allowed.insert("execve".to_owned());
    for line in unit.lines() {
        let Some(names) = line.strip_prefix("SystemCallFilter=") else {
            continue;
        };
        let mut named = BTreeSet::new();
        for name in names.trim_start_matches('~').split_whitespace() {
            expand(&sets, name, &mut named);
        }
        if names.starts_with('~') {
            allowed = &allowed - &named;
        } else {
            allowed.append(&mut named);
        }
    }
    allowed
}

/// A program under strace, which writes what it calls to this file.
fn traced<'a>(log: &'a str, program: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    // `-D`: the child is the program itself, to which signals go.
    let words = ["-D", "-f", "-e", "signal=none", "-o", log, program];
    [&words[..], arguments].concat()
}

/// The system calls in such a file, once all of the program has ended.
fn called(log: &str, id: u32) -> BTreeSet<String> {
    let end = format!("{id} ");
    let ended = |text: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(&end) && line.contains("+++ exited with 0 +++"))
    };
    wait_until(&format!("{log} is whole"), || {
        ended(&std::fs::read_to_string(log).unwrap_or_default())
    });
    let text = std::fs::read_to_string(log).unwrap();
    let calls = text.lines().filter_map(|line| {
        let call = line.split_once(' ')?.1.trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let name: String = call
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        (!name.is_empty()).then_some(name)
    });
    calls.collect()
}

/// A service can do all its work under its unit's filter. The filter is held against what
/// the programs call; only systemd itself could load it.
#[test]
fn the_services_call_nothing_that_their_units_forbid() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        std::fs::write(PLAN_FILE, joined::plan("") + ECHO).unwrap();
        let programs = [collector(), agent()];
        let [collecting, measuring] = programs.each_ref().map(|p| p.to_str().unwrap());
        let log = "/run/scratch/collector.calls";
        let serve = traced(log, collecting, &["serve", "--plan", PLAN_FILE]);
        let mut serving = limited(&a, &[], Path::new("strace"), &serve);
        join_both(world, [&a, &b], &mut serving);
        // Rights as the service's unit gives them.
        let given = ["+net_raw", "+net_bind_service"];
        let mut agents = [(&a, "a"), (&b, "b")].map(|(host, name)| {
            let config = configure(world, name);
            let log = format!("/run/scratch/{name}.calls");
            let run = traced(&log, measuring, &["run", "--config", &config]);
            limited(host, &given, Path::new("strace"), &run)
        });
        wait_until("probes are answered and stored", || {
            serving.assert_runs();
            agents.iter_mut().for_each(Running::assert_runs);
            let report = [
                "report", "--store", STORE, "--from", "-90s", "--format", "json",
            ];
            let told = a.finish(&collector(), &report).stdout;
            told.contains("\"out\"") && counts(&a)["answered"].as_u64() > Some(100)
        });
        let ids = agents.each_ref().map(Running::id);
        for ended in agents.map(Running::interrupt) {
            ended.success();
        }
        let id = serving.id();
        serving.interrupt().success();

        let unit = include_str!("../../agent/packaging/hopgap-agent.service");
        let filter = allowed(unit);
        for refused in [
            "mount",
            "bpf",
            "capset",
            "ptrace",
            "clock_settime",
            "setuid",
        ] {
            assert!(!filter.contains(refused), "{refused}");
        }
        for (name, id) in ["a", "b"].iter().zip(ids) {
            let called = called(&format!("/run/scratch/{name}.calls"), id);
            assert!(called.contains("recvmmsg"), "{called:?}");
            let refused: Vec<_> = called.difference(&filter).collect();
            assert!(refused.is_empty(), "agent {name}: {refused:?}");
        }
        let unit = include_str!("../../collector/packaging/hopgap-collector.service");
        let filter = allowed(unit);
        let called = called(log, id);
        assert!(called.contains("accept4"), "{called:?}");
        let mut refused: BTreeSet<_> = called.difference(&filter).cloned().collect();
        // SQLite calls it where it runs as root, as here and not in the service.
        refused.remove("fchown");
        assert!(refused.is_empty(), "collector: {refused:?}");
    });
}
