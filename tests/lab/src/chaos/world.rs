//! Two hosts with an agent each, the collector at the first, and three small disks.

use super::hostile::{Connect, HOSTILE, MADE_UP, secret};
use super::proxy::Proxy;
use super::truth::Truth;
use crate::drill::Programs;
use crate::drill::stage::{Process, quoted};
use crate::error::LabError;
use crate::namespace::{Namespace, ip_batch};
use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The agents.
pub(super) const AGENTS: [&str; 2] = ["a", "b"];
const ADDRESSES: [&str; 2] = ["10.1.0.1", "10.1.0.2"];
/// Where the collector listens, on its own host only.
const COLLECTOR: &str = "127.0.0.1:8620";
const HERE: &str = "http://127.0.0.1:8620";
/// Where agents deliver.
const PROXY: &str = "10.1.0.1:8622";
const SECRETS: [&str; 2] = [
    "a-0123456789abcdef0123456789abcdef",
    "b-0123456789abcdef0123456789abcdef",
];
/// Of each disk. What an agent recorded stays on it: segments keep their second names.
const DISK: &str = "size=256m,mode=0755";

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// The agent of this place in [`AGENTS`].
    Agent(usize),
    /// The collector.
    Collector,
}

impl Program {
    pub(super) const ALL: [Self; 3] = [Self::Agent(0), Self::Agent(1), Self::Collector];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Agent(side) => AGENTS[side],
            Self::Collector => "collector",
        }
    }
}

/// Everything but the processes.
pub(super) struct World {
    hosts: [Namespace; 2],
    programs: Programs,
    dir: PathBuf,
    pub(super) proxy: Proxy,
    pub(super) truth: Truth,
}

impl World {
    pub(super) fn make(programs: Programs, dir: &Path) -> Result<Self> {
        let mut lines = String::new();
        for name in AGENTS {
            let _ = writeln!(lines, "netns add {name}");
        }
        lines.push_str("link add net netns a type veth peer name net netns b\n");
        ip_batch("the chaos run", &lines)?;
        let hosts = [Namespace::open(AGENTS[0])?, Namespace::open(AGENTS[1])?];
        for (host, address) in hosts.iter().zip(ADDRESSES) {
            host.ip(&format!(
                "link set lo up\nlink set net up\naddress add {address}/24 dev net\n"
            ))?;
        }
        let create = |path: PathBuf| {
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))
        };
        for program in Program::ALL {
            let disk = disk(dir, program);
            create(disk.clone())?;
            mount(
                Some("tmpfs"),
                &disk,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(DISK),
            )
            .map_err(|errno| LabError::io("mount a disk for a program")(errno.into()))?;
        }
        for name in AGENTS {
            create(dir.join("state").join(name).join("kept"))?;
        }
        create(dir.join("etc"))?;
        let address = |text: &str| text.parse().context("not an address");
        let (listen, collector) = (address(PROXY)?, address(COLLECTOR)?);
        let truth = Truth::new(dir)?;
        let frames = truth.frames();
        let proxy = hosts[0].inside(|| {
            Proxy::start(listen, collector, frames)
                .map_err(LabError::io(format!("listen on {listen}")))
        })?;
        let world = Self {
            hosts,
            programs,
            dir: dir.to_owned(),
            proxy,
            truth,
        };
        world.write_files()?;
        Ok(world)
    }

    fn write_files(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let etc = self.dir.join("etc");
        let write = |name: &str, text: &str| {
            let path = etc.join(name);
            std::fs::write(&path, text)
                .and_then(|()| {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                })
                .with_context(|| format!("cannot write {}", path.display()))
        };
        let mut plan = format!(
            "[collector]\nlisten = \"{COLLECTOR}\"\nstore = {}\nseal_after = \"1s\"\n",
            quoted(&self.store())
        );
        for (side, name) in AGENTS.iter().enumerate() {
            let _ = write!(
                plan,
                "[[agent]]\nname = \"{name}\"\naddress = \"{}\"\nsecret_file = \"{name}.secret\"\n",
                ADDRESSES[side]
            );
            let to = AGENTS[1 - side];
            let _ = write!(
                plan,
                "[[session]]\nname = \"{name}-{to}\"\nfrom = \"{name}\"\nto = \"{to}\"\n\
                 interval = \"5ms\"\nflows = 2\ntimeout = \"300ms\"\nauthenticated = false\n"
            );
            write(&format!("{name}.secret"), SECRETS[side])?;
            write(
                &format!("{name}.toml"),
                &format!(
                    "name = \"{name}\"\ncollector = \"http://{PROXY}\"\nsecret_file = {}\nstate_dir = {}\nblock = \"500ms\"\n",
                    quoted(&etc.join(format!("{name}.secret"))),
                    quoted(&self.disk(Program::Agent(side)).join("agent")),
                ),
            )?;
        }
        for (at, name) in MADE_UP.into_iter().enumerate() {
            let _ = write!(
                plan,
                "[[agent]]\nname = \"{name}\"\naddress = \"10.1.0.{}\"\nsecret_file = \"{name}.secret\"\n",
                at + 11
            );
            write(&format!("{name}.secret"), &secret(name))?;
        }
        // Its own session; nothing probes in it.
        let _ = write!(
            plan,
            "[[session]]\nname = \"m-a\"\nfrom = \"{HOSTILE}\"\nto = \"{}\"\n\
             interval = \"5ms\"\nflows = 2\ntimeout = \"300ms\"\nauthenticated = false\n",
            AGENTS[0]
        );
        write("plan.toml", &plan)
    }

    /// What connects to the collector, on its own host.
    ///
    /// # Errors
    /// When that host cannot be entered.
    pub(super) fn connect(&self) -> Result<Connect> {
        let host = Namespace::open(AGENTS[0])?;
        Ok(Box::new(move || {
            let connected = host.inside(|| {
                TcpStream::connect(COLLECTOR).map_err(LabError::io("connect to the collector"))
            });
            connected.map_err(std::io::Error::other)
        }))
    }

    /// What makes a report on the last seconds, in little memory; whether it was made.
    pub(super) fn reporter(&self) -> Box<dyn Fn() -> bool + Send> {
        let (program, store) = (self.programs.collector(), self.store());
        let log = self.dir.join("reports.log");
        Box::new(move || {
            let mut command = Command::new(&program);
            command
                .args(["report", "--from", "-20s", "--format", "json"])
                .args(["--max-memory", "300M", "--store"])
                .arg(&store);
            let Ok(output) = command.stdin(Stdio::null()).output() else {
                return false;
            };
            let made = serde_json::from_slice::<serde_json::Value>(&output.stdout);
            if made.is_err() {
                // For whoever looks into why.
                let _ = std::fs::write(&log, &output.stderr);
            }
            made.is_ok()
        })
    }

    /// The disk of a program.
    pub(super) fn disk(&self, program: Program) -> PathBuf {
        disk(&self.dir, program)
    }

    /// The spool of an agent.
    pub(super) fn spool(&self, side: usize) -> PathBuf {
        spool(&self.dir, side)
    }

    /// The second names of an agent's segments.
    pub(super) fn kept(&self, side: usize) -> PathBuf {
        kept(&self.dir, side)
    }

    /// The collector's store.
    pub(super) fn store(&self) -> PathBuf {
        self.disk(Program::Collector).join("store")
    }

    /// Starts a program; what it says is added to its log.
    pub(super) fn start(&self, program: Program) -> Result<Process> {
        let etc = self.dir.join("etc");
        let (host, mut command) = match program {
            Program::Agent(side) => {
                let mut command = Command::new(self.programs.agent());
                let config = etc.join(format!("{}.toml", program.name()));
                command.args(["run", "--config"]).arg(config);
                (&self.hosts[side], command)
            }
            Program::Collector => {
                let mut command = Command::new(self.programs.collector());
                command.args(["serve", "--plan"]).arg(etc.join("plan.toml"));
                (&self.hosts[0], command)
            }
        };
        let log = self.dir.join(format!("{}.log", program.name()));
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        Ok(Process::of(host.spawn(&mut command)?, program.name()))
    }

    /// The collector's status.
    pub(super) fn status(&self) -> Result<Vec<u8>> {
        let mut command = Command::new(self.programs.collector());
        command.args(["status", "--json", "--url", HERE]);
        let output = self.hosts[0].output(&mut command)?;
        ensure!(output.status.success(), "the collector does not answer");
        Ok(output.stdout)
    }

    /// What `hopgap-collector audit` says of the store, and of all that agents wrote.
    pub(super) fn audit(&self) -> Result<Output> {
        let mut command = Command::new(self.programs.collector());
        command
            .args(["audit", "--json", "--store"])
            .arg(self.store());
        for side in 0..AGENTS.len() {
            command.arg("--spool").arg(self.spool(side));
            command.arg("--spool").arg(self.kept(side));
        }
        command
            .output()
            .context("cannot run hopgap-collector audit")
    }

    /// Copies the disks out of the namespace, which is gone after the run.
    pub(super) fn keep_disks(&self) -> Result<()> {
        let to = self.dir.join("disks");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.dir.join("state")).arg(&to);
        let status = copy.status().context("cannot run cp")?;
        ensure!(
            status.success(),
            "cannot copy the disks to {}",
            to.display()
        );
        Ok(())
    }
}

fn disk(dir: &Path, program: Program) -> PathBuf {
    dir.join("state").join(program.name())
}

pub(super) fn spool(dir: &Path, side: usize) -> PathBuf {
    disk(dir, Program::Agent(side)).join("agent/spool")
}

pub(super) fn kept(dir: &Path, side: usize) -> PathBuf {
    disk(dir, Program::Agent(side)).join("kept")
}
