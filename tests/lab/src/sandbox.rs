//! The namespaces around everything.
//!
//! The program starts itself again under `unshare`: new network, mount and PID
//! namespaces, and a user namespace where it is not root. It is the first process
//! of its PID namespace, so that however it ends the kernel ends all its daemons
//! and takes the network with them. The outer process holds a pipe (the inner
//! one's standard input): when the outer process goes, by whatever signal, the
//! inner one reads the pipe's end and stops.

use crate::error::LabError;
use nix::mount::{MsFlags, mount};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Holds the outer network namespace's identity; set means: this is the inner process.
const INSIDE: &str = "HOPGAP_LAB_OUTER_NETNS";
/// How long an orderly end may take once it was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// As an argument of `nice`.
const FAVOUR: &str = "--adjustment=-10";
/// The kernel makes these in every network namespace where their module is loaded.
/// They lead nowhere.
const FALLBACK_LINKS: &[&str] = &[
    "lo", "tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0",
    "ip6_vti0",
];

/// Proof of being inside, and the request to stop.
#[derive(Clone, Debug)]
pub struct Sandbox {
    stop: Arc<Stop>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Sandbox {
    /// Returns inside the namespaces. Called outside it starts this program with
    /// these arguments inside, waits, and exits with its status: it returns only
    /// when that could not be done.
    ///
    /// # Errors
    /// [`LabError::NoNamespaces`], [`LabError::NotIsolated`], or the system's reason.
    pub fn enter() -> Result<Self, LabError> {
        match std::env::var(INSIDE) {
            Ok(outer) => Self::inside(&outer),
            Err(_) => Err(outside()),
        }
    }

    /// Whether this process is the inner one, before it has entered.
    pub fn is_inside() -> bool {
        std::env::var_os(INSIDE).is_some()
    }

    fn inside(outer: &str) -> Result<Self, LabError> {
        if outer == netns()? {
            return Err(LabError::NotIsolated(format!(
                "{INSIDE} is set, yet this is the outer network namespace"
            )));
        }
        let links = links()?;
        if let Some(foreign) = links
            .iter()
            .find(|name| !FALLBACK_LINKS.contains(&name.as_str()))
        {
            return Err(LabError::NotIsolated(format!(
                "the new network namespace has a foreign link, {foreign}"
            )));
        }
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=755"),
        )
        .map_err(|errno| LabError::io("mount a private /run")(errno.into()))?;

        let stop = Arc::new(Stop::default());
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(LabError::io("catch signals"))?;
        let asked = Arc::clone(&stop);
        std::thread::spawn(move || {
            for (count, _) in signals.forever().enumerate() {
                asked.ask();
                if count > 0 {
                    std::process::exit(130);
                }
            }
        });
        let asked = Arc::clone(&stop);
        std::thread::spawn(move || {
            // Nothing is ever written to the pipe.
            let _ = io::stdin().read(&mut [0]);
            asked.ask();
            std::thread::sleep(GRACE);
            std::process::exit(130);
        });
        Ok(Self { stop })
    }

    /// Whether the run is to end.
    pub fn stopping(&self) -> bool {
        *self
            .stop
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the run to end.
    pub fn stop(&self) {
        self.stop.ask();
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// [`LabError::Interrupted`] as soon as the run is to end.
    pub fn sleep(&self, time: Duration) -> Result<(), LabError> {
        let end = Instant::now() + time;
        let mut asked = self
            .stop
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if *asked {
                return Err(LabError::Interrupted);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            asked = self
                .stop
                .changed
                .wait_timeout(asked, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The identity of this network namespace.
fn netns() -> Result<String, LabError> {
    let link =
        std::fs::read_link("/proc/self/ns/net").map_err(LabError::io("read /proc/self/ns/net"))?;
    Ok(link.to_string_lossy().into_owned())
}

fn links() -> Result<Vec<String>, LabError> {
    // Not /sys/class/net: that shows the namespace in which /sys was mounted.
    let text = std::fs::read_to_string("/proc/self/net/dev")
        .map_err(LabError::io("read /proc/self/net/dev"))?;
    Ok(text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect())
}

/// What `unshare` is told, before the program: new network, mount and PID namespaces whose
/// first process takes all others with it.
pub(crate) const NEW_NAMESPACES: [&str; 7] = [
    "-n",
    "-m",
    "-p",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--",
];

/// The command that starts `program` in new namespaces.
fn unshare(program: &std::path::Path) -> Result<Command, LabError> {
    let mut command = if favoured() {
        let mut command = Command::new("nice");
        command.args([FAVOUR, "unshare"]);
        command
    } else {
        Command::new("unshare")
    };
    if !nix::unistd::geteuid().is_root() {
        command.arg("-Ur");
    }
    command
        .args(NEW_NAMESPACES)
        .arg(program)
        .env(INSIDE, netns()?);
    Ok(command)
}

/// Whether this process may take precedence over the rest of a busy machine, which
/// could otherwise hold up the wires for longer than BFD allows.
fn favoured() -> bool {
    // It complains, yet succeeds, where it may not.
    let trial = Command::new("nice").args([FAVOUR, "true"]).output();
    trial.is_ok_and(|output| output.status.success() && output.stderr.is_empty())
}

fn outside() -> LabError {
    match run_inside() {
        Ok(code) => std::process::exit(code),
        Err(error) => error,
    }
}

fn run_inside() -> Result<i32, LabError> {
    let program = std::env::current_exe().map_err(LabError::io("find this program's file"))?;
    // Asked first, so that a refusal comes with its remedy.
    let start = |source| LabError::Start {
        program: "unshare".to_owned(),
        source,
    };
    let trial = unshare("true".as_ref())?.output().map_err(start)?;
    if !trial.status.success() {
        return Err(LabError::NoNamespaces {
            reason: String::from_utf8_lossy(&trial.stderr).trim().to_owned(),
        });
    }
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(LabError::io("catch signals"))?;
    let mut child = unshare(&program)?
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(start)?;
    // Out of `child`, because its `wait` would close it.
    let mut lifeline = child.stdin.take();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            drop(lifeline.take());
        }
    });
    let status = child.wait().map_err(LabError::io("wait for the lab"))?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
