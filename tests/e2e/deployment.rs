//! The README's steps for two real hosts, as far as they need no root.

use crate::programs::program;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
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
    for name in ["onprem", "azure"] {
        let secret = dir.write(&format!("{name}.secret"), &name.repeat(8));
        std::fs::set_permissions(secret, Permissions::from_mode(0o600)).unwrap();
    }
    let plan = dir.write(
        "plan.toml",
        include_str!("../../collector/examples/plan.toml"),
    );
    run(&dir, "server", "sed -i");
    assert!(dir.read("plan.toml").contains("listen = \"0.0.0.0:8620\""));
    let said = check("hopgap-collector", "check-plan", &plan);
    assert!(
        said.contains("is good: 2 agents, 2 sessions, 6 echo targets, 3 paths;"),
        "{said}"
    );

    let config = dir.write(
        "agent.toml",
        include_str!("../../agent/examples/agent.toml"),
    );
    run(&dir, "azure", "sed -i");
    let here = dir.0.to_str().unwrap();
    let edited = dir.read("agent.toml").replace("/etc/hopgap", here);
    assert!(edited.contains("name = \"azure\"") && edited.contains("/azure.secret"));
    dir.write("agent.toml", &edited);
    let said = check("hopgap-agent", "check-config", &config);
    assert!(said.contains("is good: agent `azure`"), "{said}");
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
    let plan = include_str!("../../collector/examples/plan.toml");
    assert!(plan.contains("store = \"/var/lib/hopgap\""));
}
