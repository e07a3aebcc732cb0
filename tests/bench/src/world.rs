//! Two hosts, which are network namespaces, joined by a veth pair; nothing else is in
//! reach, and no packet leaves.

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that is inside.
const INSIDE: &str = "HOPGAP_BENCH_INSIDE";
/// A tmpfs of the world's own.
const SCRATCH: &str = "/run/bench";
/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does `prepare` outside (builds; looks for tools), then `bench` as another process in a
/// world of its own, which the kernel ends with this one.
pub fn sealed(
    prepare: impl FnOnce() -> anyhow::Result<()>,
    bench: impl FnOnce(&World) -> anyhow::Result<()>,
) -> ExitCode {
    let result = if std::env::var_os(INSIDE).is_some() {
        World::new().and_then(|world| bench(&world))
    } else {
        prepare().and_then(|()| enter())
    };
    report(result)
}

/// A benchmark's end: what went wrong, in one sentence.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn enter() -> anyhow::Result<()> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !geteuid().is_root() {
        // tcpdump changes its groups, which needs more than one user to be mapped.
        command.args(["-Ur", "--map-auto"]);
    }
    let status = command
        .args(["-nmp", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .context("setpriv and unshare (package util-linux) are needed")?;
    if !status.success() {
        bail!(
            "the benchmark failed inside its namespaces ({status}); without root they need user \
             namespaces and the package uidmap"
        );
    }
    Ok(())
}

/// Two hosts: `near` is 10.0.0.1, `far` is 10.0.0.2; each has the interface `wire`.
pub struct World {
    /// 10.0.0.1
    pub near: Host,
    /// 10.0.0.2
    pub far: Host,
}

/// A network namespace.
pub struct Host {
    netns: File,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        run("mount", "-t tmpfs tmpfs /run")?;
        std::fs::create_dir(SCRATCH)?;
        run("ip", "link set lo up")?;
        run("ip", "netns add near")?;
        run("ip", "netns add far")?;
        run(
            "ip",
            "link add wire netns near type veth peer name wire netns far",
        )?;
        for (host, address) in [("near", "10.0.0.1/24"), ("far", "10.0.0.2/24")] {
            run("ip", &format!("-n {host} address add {address} dev wire"))?;
            run("ip", &format!("-n {host} link set lo up"))?;
            run("ip", &format!("-n {host} link set wire up"))?;
        }
        let host = |name: &str| -> anyhow::Result<Host> {
            // For moments after an interface is set up the kernel drops what is sent on it.
            wait_until("the link is up", || {
                let shown = run("ip", &format!("-n {name} -details link show wire"))?;
                Ok(shown.contains("state UP") && shown.contains("qdisc noqueue"))
            })?;
            let netns = File::open(format!("/run/netns/{name}"))?;
            Ok(Host { netns })
        };
        Ok(Self {
            near: host("near")?,
            far: host("far")?,
        })
    }

    /// A path for a file that is gone with the world, in memory.
    pub fn scratch(&self, name: &str) -> PathBuf {
        Path::new(SCRATCH).join(name)
    }
}

impl Host {
    /// Does `work` in this host's network; processes and sockets made there stay there.
    ///
    /// # Errors
    /// What `work` says.
    pub fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.netns, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a program here, silently but for its standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[A],
    ) -> anyhow::Result<Running> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let name = program.display().to_string();
        let child = self.inside(move || Ok(command.spawn()?));
        let child = child.with_context(|| format!("cannot run {name}"))?;
        Ok(Running {
            name,
            child: Some(child),
        })
    }

    /// Starts a program here and waits until it listens on this port.
    ///
    /// # Errors
    /// When it cannot be started or does not listen.
    pub fn serve<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[A],
        (protocol, port): (&str, u16),
    ) -> anyhow::Result<Running> {
        let mut running = self.start(program, arguments)?;
        let option = if protocol == "udp" { "-Hlun" } else { "-Hltn" };
        let filter = format!("{option} sport = :{port}");
        wait_until(&format!("{} listens on {port}", running.name), || {
            running.check()?;
            let found = self.inside(|| run("ss", &filter))?;
            Ok(!found.is_empty())
        })?;
        Ok(running)
    }

    /// Runs a program here to its end and returns its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn finish<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[A],
    ) -> anyhow::Result<String> {
        self.start(program, arguments)?.finish()
    }
}

/// A process; killed when dropped.
pub struct Running {
    name: String,
    child: Option<Child>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        if child.try_wait()?.is_some() {
            let name = self.name.clone();
            let Some(child) = self.child.take() else {
                return Ok(());
            };
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{name} ended ({}): {}", output.status, said.trim());
        }
        Ok(())
    }

    /// Ends it as Ctrl-C does and returns its standard output.
    ///
    /// # Errors
    /// When it does not end in order.
    pub fn interrupt(self) -> anyhow::Result<String> {
        kill(Pid::from_raw(self.pid().try_into()?), Signal::SIGINT)?;
        self.finish()
    }

    /// Waits for its end and returns its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn finish(mut self) -> anyhow::Result<String> {
        let Some(child) = self.child.take() else {
            return Ok(String::new());
        };
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} failed ({}): {}", self.name, output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for something that must come.
///
/// # Errors
/// When it does not, or `there` fails.
pub fn wait_until(what: &str, there: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    wait_for(PATIENCE, what, there)
}

/// Waits so long at most for something that must come.
///
/// # Errors
/// When it does not, or `there` fails.
pub fn wait_for(
    patience: Duration,
    what: &str,
    mut there: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + patience;
    while !there()? {
        if Instant::now() > end {
            bail!("in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} is needed"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {arguments}: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
