//! The running lab.

use crate::bird;
use crate::error::LabError;
use crate::events::{self, Events, RouteMonitor, What};
use crate::fault::Fault;
use crate::namespace::{self, BRIDGE, Namespace};
use crate::routing::Routing;
use crate::sandbox::Sandbox;
use crate::topology::{Node, SERVER, VM};
use crate::trace::{self, Trace};
use crate::tunnel::Tunnel;
use crate::wire::{Mode, Wires};
use hopgap_net::clock::Clock;
use hopgap_proto::time::ClockPair;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at the routes.
const LOOK: Duration = Duration::from_millis(100);
/// The VPN has taken over by then.
const SWITCHED: Duration = Duration::from_secs(20);
/// On the VPN, before one of its instances fails.
const ON_VPN: Duration = Duration::from_secs(6);
/// Where the VPN gateway's first instance is connected to the Internet's bridge.
const VPN_INSTANCE: &str = "vpngw1";

/// What lab to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the tunnels are made of.
    pub tunnel: Tunnel,
    /// Whether BFD watches the circuits; without it BGP's hold timer is all.
    pub bfd: bool,
    /// Where the logs and the truth go; it is created.
    pub out: PathBuf,
}

/// The lab, up. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    sandbox: Sandbox,
    options: Options,
    namespaces: BTreeMap<Node, Namespace>,
    wires: Wires,
    events: Events,
    monitors: Vec<RouteMonitor>,
    daemons: Mutex<Vec<Child>>,
    faults: Mutex<BTreeSet<Fault>>,
}

impl Lab {
    /// Builds the topology and starts its daemons. Routes take some seconds more:
    /// [`wait_converged`](Self::wait_converged).
    ///
    /// # Errors
    /// What could not be built, and why.
    pub fn up(sandbox: &Sandbox, options: Options) -> Result<Self, LabError> {
        std::fs::create_dir_all(&options.out)
            .map_err(LabError::io(format!("create {}", options.out.display())))?;
        let out = options
            .out
            .canonicalize()
            .map_err(LabError::io(format!("find {}", options.out.display())))?;
        let options = Options { out, ..options };
        let out = options.out.as_path();

        namespace::build()?;
        let mut namespaces = BTreeMap::new();
        for node in Node::ALL {
            namespaces.insert(node, Namespace::open(node.name())?);
        }
        let at = |node: Node| namespaces.get(&node).ok_or(LabError::NoDaemon { node });
        together(&Node::ALL, |node| namespace::configure(node, at(node)?))?;
        let events = Events::create(out)?;
        let wires = Wires::start(at(Node::Wires)?, out)?;
        let mut daemons = options.tunnel.start(&namespaces, out)?;
        let mut monitors = Vec::new();
        for node in [Node::Fw, Node::ErGw, Node::Vm] {
            monitors.push(RouteMonitor::start(node, at(node)?, events.clone())?);
        }
        std::fs::create_dir_all("/run/bird").map_err(LabError::io("create /run/bird"))?;
        for (node, namespace) in &namespaces {
            let log = bird_log(out, *node);
            let Some(config) = bird::config(*node, options.tunnel, options.bfd, &log) else {
                continue;
            };
            // Of an earlier lab in the same place.
            let _ = std::fs::remove_file(&log);
            let path = format!("/run/bird/{node}.conf");
            std::fs::write(&path, config).map_err(LabError::io(format!("write {path}")))?;
            let mut command = Command::new("bird");
            command
                .args(["-f", "-c", &path, "-s"])
                .arg(bird::socket(*node));
            command.env("TZ", "UTC");
            daemons.push(spawn(
                namespace,
                &mut command,
                &out.join(format!("bird-{node}.err")),
            )?);
        }
        let lab = Self {
            sandbox: sandbox.clone(),
            options,
            namespaces,
            wires,
            events,
            monitors,
            daemons: Mutex::new(daemons),
            faults: Mutex::new(BTreeSet::new()),
        };
        let tunnel = lab.options.tunnel.to_string();
        lab.events.write(Clock::pair(), What::Up { tunnel })?;
        Ok(lab)
    }

    /// Where the logs and the truth go.
    pub fn out(&self) -> &Path {
        &self.options.out
    }

    /// What the tunnels are made of.
    pub fn tunnel(&self) -> Tunnel {
        self.options.tunnel
    }

    /// What asks the run to stop.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn at(&self, node: Node) -> Result<&Namespace, LabError> {
        self.namespaces
            .get(&node)
            .ok_or(LabError::NoDaemon { node })
    }

    /// Waits until both circuits carry traffic both ways and the VPN stands by.
    ///
    /// # Errors
    /// [`LabError::Timeout`] after a minute, or [`LabError::Interrupted`].
    pub fn wait_converged(&self) -> Result<(), LabError> {
        self.wait(
            "both circuits and the standby",
            Duration::from_secs(60),
            |lab| Ok(lab.routing()?.is_steady() && lab.standby()?),
        )
    }

    /// Waits until `done`, looking every 100 ms. A daemon that does not answer yet
    /// is looked at again.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::DaemonEnded`], or [`LabError::Interrupted`].
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let start = Instant::now();
        loop {
            if matches!(done(self), Ok(true)) {
                return Ok(());
            }
            self.daemons_run()?;
            if start.elapsed() > limit {
                return Err(LabError::Timeout {
                    what: what.to_owned(),
                    after: limit,
                    logs: self.options.out.clone(),
                });
            }
            self.sandbox.sleep(LOOK)?;
        }
    }

    fn daemons_run(&self) -> Result<(), LabError> {
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        for daemon in daemons.iter_mut() {
            if let Ok(Some(status)) = daemon.try_wait() {
                return Err(LabError::DaemonEnded {
                    pid: daemon.id(),
                    status,
                    logs: self.options.out.clone(),
                });
            }
        }
        Ok(())
    }

    /// Which way the routes point.
    ///
    /// # Errors
    /// When a node cannot be asked.
    pub fn routing(&self) -> Result<Routing, LabError> {
        Routing::read(&self.namespaces)
    }

    /// Whether the VPN could take over: BGP over both tunnels, and to the VM.
    ///
    /// # Errors
    /// When a daemon cannot be asked.
    pub fn standby(&self) -> Result<bool, LabError> {
        let has = |node, names: &[&str]| {
            let up = bird::established(node)?;
            Ok::<_, LabError>(names.iter().all(|name| up.iter().any(|up| up == name)))
        };
        Ok(has(Node::Fw, &["ce1", "ce2", "vpn1", "vpn2"])?
            && has(Node::Vm, &["ergw", "vpngw1", "vpngw2"])?)
    }

    /// The faults that are on.
    pub fn faults(&self) -> BTreeSet<Fault> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes a fault; returns when that began. One that is on is made again.
    ///
    /// # Errors
    /// When it could not be made.
    pub fn fault(&self, fault: Fault) -> Result<ClockPair, LabError> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(fault);
        let (began, took_ns) = self.apply(fault, true)?;
        self.events.write(began, What::Fault { fault, took_ns })?;
        Ok(began)
    }

    /// Heals a fault; returns when that began.
    ///
    /// # Errors
    /// When it could not be healed.
    pub fn heal(&self, fault: Fault) -> Result<ClockPair, LabError> {
        let (began, took_ns) = self.apply(fault, false)?;
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&fault);
        self.events.write(began, What::Heal { fault, took_ns })?;
        Ok(began)
    }

    fn apply(&self, fault: Fault, on: bool) -> Result<(ClockPair, i64), LabError> {
        let began = Clock::pair();
        match fault {
            Fault::Admin => self.set_peerings(!on)?,
            Fault::OneVpn if on => {
                self.set_peerings(false)?;
                self.wait("the VPN", SWITCHED, |lab| Ok(lab.routing()?.is_vpn()))?;
                // Long enough to be a time of its own in the report.
                self.sandbox.sleep(ON_VPN)?;
                self.at(Node::Internet)?
                    .ip(&format!("link set {VPN_INSTANCE} nomaster\n"))?;
            }
            Fault::OneVpn => {
                self.at(Node::Internet)?
                    .ip(&format!("link set {VPN_INSTANCE} master {BRIDGE}\n"))?;
                self.set_peerings(true)?;
            }
            Fault::Link => {
                let state = if on { "down" } else { "up" };
                together(&[Node::Ce1, Node::Ce2, Node::Msee1, Node::Msee2], |node| {
                    self.at(node)?.ip(&format!("link set er {state}\n"))
                })?;
            }
            Fault::Blackhole | Fault::Grey | Fault::OneMsee => {
                let mut faults = self.faults();
                if on {
                    faults.insert(fault);
                } else {
                    faults.remove(&fault);
                }
                self.wires.set("er1", mode(&faults, Fault::OneMsee));
                self.wires.set("er2", mode(&faults, Fault::Blackhole));
            }
        }
        Ok((began, (Clock::now() - began.mono).as_nanos()))
    }

    /// Both peerings, administratively.
    fn set_peerings(&self, enabled: bool) -> Result<(), LabError> {
        let word = if enabled { "enable" } else { "disable" };
        together(&[Node::Msee1, Node::Msee2], |node| {
            bird::control(node, &[word, bird::PEERING]).map(|_| ())
        })
    }

    /// Writes a note into `truth.jsonl`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&self, text: &str) -> Result<(), LabError> {
        let text = text.to_owned();
        self.events.write(Clock::pair(), What::Note { text })
    }

    /// Starts `command` at `node`, in a process group of its own, its output in
    /// `LOG.log` in the lab's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, node: Node, command: &mut Command, log: &str) -> Result<Child, LabError> {
        spawn(
            self.at(node)?,
            command,
            &self.options.out.join(format!("{log}.log")),
        )
    }

    /// Runs `command` at `node` to its end, whatever its status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, node: Node, command: &mut Command) -> Result<Output, LabError> {
        self.at(node)?.output(command)
    }

    /// The article's traceroute, from the server to the VM.
    ///
    /// # Errors
    /// When traceroute cannot be run.
    pub fn traceroute(&self) -> Result<Trace, LabError> {
        self.trace(Node::Server, VM)
    }

    /// The same the other way.
    ///
    /// # Errors
    /// When traceroute cannot be run.
    pub fn traceroute_back(&self) -> Result<Trace, LabError> {
        self.trace(Node::Vm, SERVER)
    }

    fn trace(&self, from: Node, target: Ipv4Addr) -> Result<Trace, LabError> {
        let text = self.at(from)?.run(&mut trace::command(target))?;
        Trace::parse(target, &text)
    }

    /// Ends the lab and completes its logs.
    ///
    /// # Errors
    /// When a log could not be completed.
    pub fn finish(mut self) -> Result<PathBuf, LabError> {
        self.wires.stop()?;
        for monitor in self.monitors.drain(..) {
            monitor.stop()?;
        }
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        for daemon in daemons.iter_mut() {
            // Gone already is as good.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        drop(daemons);
        for node in self.namespaces.keys() {
            let log = bird_log(&self.options.out, *node);
            if log.exists() {
                events::copy_sessions(*node, &log, &self.events)?;
            }
        }
        Ok(self.options.out)
    }
}

/// What a circuit does under these faults, which its `own` fault is one of or not.
fn mode(faults: &BTreeSet<Fault>, own: Fault) -> Mode {
    if faults.contains(&Fault::Blackhole) || faults.contains(&own) {
        Mode::DropAll
    } else if faults.contains(&Fault::Grey) {
        Mode::DropData
    } else {
        Mode::Pass
    }
}

/// Does something at several nodes as nearly at once as it can be done.
fn together(
    nodes: &[Node],
    work: impl Fn(Node) -> Result<(), LabError> + Sync,
) -> Result<(), LabError> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || work(*node)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn bird_log(out: &Path, node: Node) -> PathBuf {
    out.join(format!("bird-{node}.log"))
}

/// Starts a daemon; a Ctrl-C at the terminal is not for it.
pub(crate) fn spawn(
    namespace: &Namespace,
    command: &mut Command,
    log: &Path,
) -> Result<Child, LabError> {
    let failed = || LabError::io(format!("write {}", log.display()));
    let file = File::create(log).map_err(failed())?;
    let copy = file.try_clone().map_err(failed())?;
    command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .process_group(0);
    namespace.spawn(command)
}

#[cfg(test)]
mod tests {
    use super::mode;
    use crate::fault::Fault;
    use crate::wire::Mode;
    use std::collections::BTreeSet;

    #[test]
    fn healing_one_fault_leaves_the_others() {
        let modes = |faults: &[Fault]| {
            let faults: BTreeSet<Fault> = faults.iter().copied().collect();
            (
                mode(&faults, Fault::OneMsee),
                mode(&faults, Fault::Blackhole),
            )
        };
        assert_eq!(modes(&[]), (Mode::Pass, Mode::Pass));
        assert_eq!(modes(&[Fault::OneMsee]), (Mode::DropAll, Mode::Pass));
        assert_eq!(
            modes(&[Fault::OneMsee, Fault::Grey]),
            (Mode::DropAll, Mode::DropData)
        );
        assert_eq!(
            modes(&[Fault::Blackhole, Fault::Grey]),
            (Mode::DropAll, Mode::DropAll)
        );
        assert_eq!(
            modes(&[Fault::Admin, Fault::Link]),
            (Mode::Pass, Mode::Pass)
        );
    }
}
