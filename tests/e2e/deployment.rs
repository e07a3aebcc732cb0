//! The README's steps for two real hosts, as far as they need no root.

use crate::programs::program;
use crate::world::{sealed, wait_until};
use std::path::{Path, PathBuf};
use std::process::Command;

const README: &str = include_str!("../../README.md");
const UNITS: [(&str, &str); 2] = [
    (
        "hopgap-agent",
        include_str!("../../agent/packaging/hopgap-agent.service"),
    ),
    (
        "hopgap-collector",
        include_str!("../../collector/packaging/hopgap-collector.service"),
    ),
];

/// A directory of this test's own, removed with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let name = format!("hopgap-deployment-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The README's commands on `host` that contain `what`.
fn commands(host: &str, what: &str) -> Vec<String> {
    README
        .lines()
        .filter_map(|line| line.strip_prefix(host)?.strip_prefix('$'))
        .map(|line| line.trim().to_owned())
        .filter(|line| line.contains(what))
        .collect()
}

/// The one such command, run in `dir`.
fn run(dir: &Dir, host: &str, what: &str) {
    let found = commands(host, what);
    let [command] = found.as_slice() else {
        panic!("{host} {what}: {found:?}");
    };
    let done = Command::new("sh")
        .args(["-c", command])
        .current_dir(&dir.0)
        .output()
        .unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
}

fn check(name: &str, what: &str, file: &Path) -> String {
    let done = Command::new(program(name))
        .arg(what)
        .arg(file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_readmes_edits_make_the_examples_fit_for_two_hosts() {
    let dir = Dir::new();
    let plan = dir.write(
        "plan.toml",
        include_str!("../../collector/examples/plan.toml"),
    );
    run(&dir, "server", "sed -i");
    assert!(
        dir.read("plan.toml")
            .contains("\nlisten = \"0.0.0.0:8621\"")
    );
    let said = check("hopgap-collector", "check-plan", &plan);
    assert!(
        said.contains("is good: 2 agents, 2 sessions, 6 echo targets, 3 paths;"),
        "{said}"
    );
    assert!(
        said.contains("agents come by TLS to 0.0.0.0:8621"),
        "{said}"
    );

    let config = dir.write(
        "agent.toml",
        include_str!("../../agent/examples/agent.toml"),
    );
    run(&dir, "azure", "sed -i");
    assert!(dir.read("agent.toml").contains("name = \"azure\""));
    let said = check("hopgap-agent", "check-config", &config);
    assert!(said.contains("is good: agent `azure`"), "{said}");
}

/// The README's line as the test's user runs it, with files of the test's own.
fn unprivileged(line: &str) -> String {
    line.replace("sudo -u hopgap ", "")
        .replace("token create", "token create --plan /run/plan.toml")
        .replace("join", "join --state-dir /run/agent")
        .replace("YOUR-SERVER", "10.0.0.1")
}

fn one(host: &str, what: &str) -> String {
    let found = commands(host, what);
    assert_eq!(found.len(), 1, "{host} {what}: {found:?}");
    unprivileged(&found[0])
}

#[test]
fn the_readmes_lines_let_both_agents_join() {
    let collector = || program("hopgap-collector");
    let agent = || program("hopgap-agent");
    sealed(&[&collector, &agent], |world| {
        let [server, azure] = world.row(["server", "azure"]);
        let example = include_str!("../../collector/examples/plan.toml")
            .replace("\"/var/lib/hopgap\"", "\"/run/store\"");
        std::fs::write("/run/plan.toml", example).unwrap();
        let edit = one("server", "sed -i").replace("plan.toml", "/run/plan.toml");
        server.run("sh", &["-c", &edit]);
        let serve = ["serve", "--plan", "/run/plan.toml"];
        let mut serving = server.start(&collector(), &serve);
        wait_until("the collector listens", || {
            serving.assert_runs();
            !server.run("ss", &["-Hltn", "sport = :8621"]).is_empty()
        });
        let dir = collector();
        let path = format!("PATH={}:$PATH", dir.parent().unwrap().display());
        let make = |what: &str| one("both", what).replace("-o hopgap -g hopgap ", "");
        let folder = make("-m 0700 /var/lib/hopgap-agent")
            .replace("sudo ", "")
            .replace("/var/lib/hopgap-agent", "/run/agent");
        let at = |host: &crate::world::Host, line: &str| {
            let line = format!("{path}; {line}");
            host.run("bash", &["-o", "pipefail", "-c", &line])
        };
        at(&server, &folder);
        let joined = at(&server, &one("server", "--agent onprem"));
        assert!(joined.starts_with("joined as agent `onprem`"), "{joined}");
        // The VM has a disk of its own.
        std::fs::rename("/run/agent", "/run/onprem").unwrap();
        at(&azure, &folder);
        let token = at(&server, &one("server", "--agent azure"));
        let pasted = format!("echo {} | {}", token.trim_end(), one("azure", "join"));
        let joined = at(&azure, &pasted);
        assert!(joined.starts_with("joined as agent `azure`"), "{joined}");
    });
}

#[test]
fn the_services_are_what_the_readme_prepares() {
    let made = commands("both", "useradd").concat();
    let has = |unit: &str, line: &str| {
        assert!(unit.lines().any(|l| l == line), "no {line} in {unit}");
    };
    for (name, unit) in UNITS {
        assert!(made.ends_with(" hopgap"), "{made}");
        has(unit, "User=hopgap");
        let installed = format!("{name}.service /etc/systemd/system/");
        assert!(README.contains(&installed), "{installed}");
        assert!(README.contains(&format!("enable --now {name}")));
        assert!(unit.contains(&format!("ExecStart=/usr/local/bin/{name} ")));
    }
    let [(_, agent), (_, collector)] = UNITS;
    has(
        agent,
        "ExecStart=/usr/local/bin/hopgap-agent run --config /etc/hopgap/agent.toml",
    );
    has(agent, "StateDirectory=hopgap-agent");
    let config = include_str!("../../agent/examples/agent.toml");
    assert!(config.contains("state_dir = \"/var/lib/hopgap-agent\""));
    has(
        collector,
        "ExecStart=/usr/local/bin/hopgap-collector serve --plan /etc/hopgap/plan.toml",
    );
    has(collector, "StateDirectory=hopgap");
    // Without it the collector would not know its own addresses.
    assert!(collector.contains(" AF_NETLINK\n"));
    let plan = include_str!("../../collector/examples/plan.toml");
    assert!(plan.contains("store = \"/var/lib/hopgap\""));
}

/// systemd's own measure of how much a service could do, from 0 to 10.
fn exposure(dir: &Dir, name: &str, unit: &str) -> f64 {
    let file = dir.write(&format!("{name}.service"), unit);
    let done = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&file)
        .output()
        .expect("systemd-analyze is there: `cargo lab test` installs it");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let overall = said
        .lines()
        .find_map(|line| {
            line.split_once("Overall exposure level for")?
                .1
                .split_once(": ")
        })
        .unwrap_or_else(|| panic!("{name}: {said}{}", String::from_utf8_lossy(&done.stderr)));
    let figure = overall.1.split_whitespace().next().unwrap_or_default();
    figure
        .parse()
        .unwrap_or_else(|_| panic!("{name}: {overall:?}"))
}

#[test]
fn units_stay_hardened() {
    let dir = Dir::new();
    for (name, unit) in UNITS {
        let figure = exposure(&dir, name, unit);
        assert!(figure < 2.5, "{name}: {figure}");
        // The measure measures: without the filter it is more.
        let open = unit.replace("SystemCallFilter=", "#");
        let worse = exposure(&dir, name, &open);
        assert!(
            worse > figure,
            "{name}: {worse} without a filter, {figure} with it"
        );
    }
}
