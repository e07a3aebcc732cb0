//! The drill's properties: its files, its processes, its progress line.

use super::{DrillOptions, Programs};
use crate::lab::Lab;
use crate::topology::Node;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The collector as the whole lab reaches it: at the server, so that the VM's agent
/// delivers through the path under test.
pub(super) const COLLECTOR_URL: &str = "https://10.1.11.10:8621";
/// The collector as its own host reaches it: drills are for programs there.
pub(super) const HERE: &str = "http://127.0.0.1:8620";

/// The example of the collector, which is what the README deploys.
const PLAN: &str = include_str!("../../../../collector/examples/plan.toml");

/// Shows how far the drill is.
pub(super) struct Stage {
    start: Instant,
    line: bool,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            line: std::io::stderr().is_terminal(),
        }
    }

    pub(super) fn says(&mut self, what: &str) {
        let at = self.start.elapsed().as_secs();
        let text = format!("[{:>2}:{:02}] {what}", at / 60, at % 60);
        let mut err = std::io::stderr();
        // A terminal that went away is no reason to end the drill.
        let _ = if self.line {
            write!(err, "\r\x1b[K{text}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{text}")
        };
        if self.line && what == "done" {
            let _ = writeln!(err);
        }
    }
}

/// What the programs are started with.
pub(super) struct Files {
    pub(super) plan: PathBuf,
    pub(super) agents: Vec<AgentFiles>,
    pub(super) store: PathBuf,
}

/// What an agent is started with.
pub(super) struct AgentFiles {
    pub(super) name: &'static str,
    pub(super) node: Node,
    pub(super) config: PathBuf,
    token: PathBuf,
    state: PathBuf,
}

impl AgentFiles {
    /// Joins the collector as the README has it: a token made at the collector, used on
    /// the agent's host, through the network.
    pub(super) fn join(&self, lab: &Lab, programs: &Programs, plan: &Path) -> Result<()> {
        let mut create = Command::new(programs.collector());
        create
            .args(["token", "create", "--agent", self.name, "--plan"])
            .arg(plan)
            .arg("--output")
            .arg(&self.token);
        let mut join = Command::new(programs.agent());
        join.args(["join", COLLECTOR_URL, "--token-file"])
            .arg(&self.token)
            .arg("--state-dir")
            .arg(&self.state);
        for (node, command) in [(Node::Server, &mut create), (self.node, &mut join)] {
            let output = lab.run(node, command)?;
            if !output.status.success() {
                bail!(
                    "{command:?} failed: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        Ok(())
    }
}

pub(super) fn write_files(out: &Path, options: &DrillOptions) -> Result<Files> {
    let etc = out.join("etc");
    let state = out.join("state");
    // Of an earlier drill in the same place.
    for old in [&etc, &state] {
        if old.exists() {
            std::fs::remove_dir_all(old)
                .with_context(|| format!("cannot remove {}", old.display()))?;
        }
        std::fs::create_dir_all(old).with_context(|| format!("cannot create {}", old.display()))?;
    }
    let store = state.join("store");
    let text = PLAN
        // The first one is `listen`, the second `api_listen`.
        .replacen("\"127.0.0.1:8620\"", "\"0.0.0.0:8621\"", 1)
        .replace("\"/var/lib/hopgap\"", &quoted(&store))
        .replace(
            "interval = \"10ms\"",
            &format!("interval = \"{}\"", options.interval.to_config_text()),
        )
        .replace("flows = 8", &format!("flows = {}", options.flows))
        // Often enough for a stay of seconds on a path.
        .replace(
            "trace_interval",
            "path_mtu_interval = \"2s\"\ntrace_interval",
        );
    let plan = etc.join("plan.toml");
    std::fs::write(&plan, text).with_context(|| format!("cannot write {}", plan.display()))?;
    let mut agents = Vec::new();
    for (name, node) in [("onprem", Node::Server), ("azure", Node::Vm)] {
        let state = state.join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&state)
            .with_context(|| format!("cannot create {}", state.display()))?;
        let config = etc.join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\ncollector = \"{COLLECTOR_URL}\"\nstate_dir = {}\nblock = \"2s\"\n",
            quoted(&state),
        );
        std::fs::write(&config, text)
            .with_context(|| format!("cannot write {}", config.display()))?;
        agents.push(AgentFiles {
            name,
            node,
            config,
            token: etc.join(format!("{name}.token")),
            state,
        });
    }
    Ok(Files {
        plan,
        agents,
        store,
    })
}

/// A path as a TOML string.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Whether the collector's status shows blocks of both agents.
pub(crate) fn both_deliver(status: &[u8]) -> Result<()> {
    let status: serde_json::Value =
        serde_json::from_slice(status).context("the collector's status is no JSON")?;
    let agents = status["agents"]
        .as_array()
        .context("the collector's status has no agents")?;
    let deliver = agents
        .iter()
        .filter(|a| a["blocks"].as_u64().is_some_and(|n| n > 0))
        .count();
    if deliver < 2 {
        bail!("{deliver} of 2 agents have delivered: {status}");
    }
    Ok(())
}

/// A program of the drill, ended by its own pid whatever happens.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    pub(crate) fn of(child: Child, name: &str) -> Self {
        Self {
            child,
            name: name.to_owned(),
        }
    }

    /// Asks it to end in order and waits.
    pub(crate) fn end(mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        loop {
            match self.child.try_wait().context("cannot wait for a program")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}; its log says why", self.name),
                None if start.elapsed() > limit => {
                    bail!("{} did not end within {} s", self.name, limit.as_secs())
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
