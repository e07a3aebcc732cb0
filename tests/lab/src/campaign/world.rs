//! The little world of one run: two hosts, the management network beside the
//! network under test, and the programs at the hosts.

use super::clock::{HostClock, Proxies};
use super::emulation::{HOST_MAC, HOSTS, PROBES, ROUTER_MAC, TRANSLATED, router};
use super::peers;
use super::scenario::{Host, Scenario};
use crate::drill::Programs;
use crate::drill::stage::{Process, quoted};
use crate::error::LabError;
use crate::namespace::{Namespace, ip_batch};
use anyhow::{Context, Result};
use hopgap_proto::time::Span;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The wire's interfaces, in the namespace of the run itself.
pub(super) const WIRES: [&str; 2] = ["to-a", "to-b"];
/// The hosts.
pub(super) const NAMES: [&str; 2] = ["a", "b"];
/// Their sessions.
pub(super) const SESSIONS: [&str; 2] = ["a-b", "b-a"];
const GATEWAYS: [&str; 2] = ["10.1.0.1", "10.2.0.1"];
/// A reply that comes later is late.
pub(super) const TIMEOUT: Span = Span::from_secs(1);
/// The collector, at `a`, by the management network and by its own host.
const COLLECTOR: &str = "10.9.0.1:8620";
/// What stands before it where a host has clocks of its own.
const PROXY: &str = "10.9.0.1:8622";
const HERE: &str = "http://127.0.0.1:8620";
const SECRETS: [&str; 2] = [
    "a-0123456789abcdef0123456789abcdef",
    "b-0123456789abcdef0123456789abcdef",
];

/// Two hosts, and where their files are.
pub(super) struct World {
    hosts: [Namespace; 2],
    programs: Programs,
    dir: PathBuf,
    starts: std::cell::Cell<u32>,
}

impl World {
    /// Makes it in this network namespace.
    pub(super) fn make(scenario: &Scenario, programs: Programs, dir: &Path) -> Result<Self> {
        let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let mut lines = String::new();
        for name in NAMES {
            let _ = writeln!(lines, "netns add {name}");
        }
        for (name, wire) in NAMES.iter().zip(WIRES) {
            let _ = writeln!(
                lines,
                "link add {wire} type veth peer name net netns {name}\nlink set {wire} up"
            );
        }
        lines.push_str("link add mgmt netns a type veth peer name mgmt netns b\n");
        ip_batch("the campaign", &lines)?;
        let hosts = [Namespace::open(NAMES[0])?, Namespace::open(NAMES[1])?];
        for (side, host) in hosts.iter().enumerate() {
            host.sysctls(&[
                ("ipv6/conf/all/disable_ipv6", "1"),
                ("ipv6/conf/default/disable_ipv6", "1"),
                ("ipv4/icmp_ratelimit", "0"),
            ])?;
            // Only group 0 exists in an unprivileged user namespace.
            host.sysctls(&[("ipv4/ping_group_range", "0 2147483647")])
                .or_else(|_| host.sysctls(&[("ipv4/ping_group_range", "0 0")]))?;
            host.ip(&format!(
                "link set lo up\n\
                 link set mgmt up\n\
                 address add 10.9.0.{}/24 dev mgmt\n\
                 link set net address {}\n\
                 link set net up\n\
                 address add {}/24 dev net\n\
                 neighbour add {gateway} lladdr {} dev net nud permanent\n\
                 {}\n\
                 route add {TRANSLATED}/32 via {gateway}\n",
                side + 1,
                mac(HOST_MAC[side]),
                HOSTS[side],
                mac(ROUTER_MAC[side]),
                route("add", side),
                gateway = GATEWAYS[side],
            ))?;
            // The wire must see whole frames with finished checksums.
            let mut ethtool = Command::new("ethtool");
            ethtool.args([
                "-K", "net", "tx", "off", "gso", "off", "tso", "off", "gro", "off",
            ]);
            host.run(&mut ethtool)?;
        }
        let world = Self {
            hosts,
            programs,
            dir: dir.to_owned(),
            starts: std::cell::Cell::new(0),
        };
        world.write_files(scenario)?;
        Ok(world)
    }

    fn write_files(&self, scenario: &Scenario) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let write = |name: &str, text: &str| {
            let path = self.dir.join("etc").join(name);
            std::fs::write(&path, text)
                .and_then(|()| {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                })
                .with_context(|| format!("cannot write {}", path.display()))
        };
        for part in ["etc", "state"] {
            let path = self.dir.join(part);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        write("plan.toml", &plan(scenario, &self.store()))?;
        for (name, secret) in NAMES.iter().zip(SECRETS) {
            write(&format!("{name}.secret"), secret)?;
            let collector = match scenario.clock.b {
                Some(_) => PROXY,
                None => COLLECTOR,
            };
            let text = format!(
                "name = \"{name}\"\ncollector = \"http://{collector}\"\nsecret_file = {}\nstate_dir = {}\nblock = \"1s\"\n",
                quoted(&self.dir.join("etc").join(format!("{name}.secret"))),
                quoted(&self.dir.join("state").join(name)),
            );
            write(&format!("{name}.toml"), &text)?;
        }
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.dir.join("state/store")
    }

    fn start(&self, side: usize, mut command: Command, name: &str) -> Result<Process> {
        let number = self.starts.get();
        self.starts.set(number + 1);
        let log = self.dir.join(format!("{name}.{number}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        Ok(Process::of(self.hosts[side].spawn(&mut command)?, name))
    }

    /// Starts the collector.
    pub(super) fn collector(&self) -> Result<Process> {
        let mut command = self.programs.run_collector();
        command.arg("serve").arg("--plan");
        command.arg(self.dir.join("etc/plan.toml"));
        self.start(0, command, "collector")
    }

    /// Stands between the agents and the collector, as hosts of which `b` has this clock.
    pub(super) fn proxies(&self, clock: HostClock) -> Result<Proxies> {
        let address = |text: &str| text.parse().context("not an address");
        let (listen, collector) = (address(PROXY)?, address(COLLECTOR)?);
        let started = self.hosts[0].inside(|| {
            Proxies::start(clock, listen, collector).map_err(LabError::io(format!(
                "listen on {listen} for the campaign's agents"
            )))
        });
        Ok(started?)
    }

    /// Starts the agent of this host.
    pub(super) fn agent(&self, side: usize) -> Result<Process> {
        let mut command = self.programs.run_agent();
        command.arg("run").arg("--config");
        command.arg(self.dir.join(format!("etc/{}.toml", NAMES[side])));
        self.start(side, command, &format!("agent-{}", NAMES[side]))
    }

    /// The address of this host, as text.
    pub(super) fn address(&self, side: usize) -> String {
        HOSTS[side].to_string()
    }

    /// Where a peer of this run writes a file of this name.
    pub(super) fn measured(&self, name: &str) -> PathBuf {
        self.dir.join(peers::DIR).join(name)
    }

    /// Starts a peer at this host; what it says goes to a file of this name.
    pub(super) fn measure(&self, side: usize, mut command: Command, name: &str) -> Result<Process> {
        let path = self.measured(&format!("{name}.txt"));
        std::fs::create_dir_all(self.measured(""))
            .with_context(|| format!("cannot create the folder of {}", path.display()))?;
        let write = || format!("cannot write {}", path.display());
        let file = File::create(&path).with_context(write)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().with_context(write)?)
            .stderr(file);
        Ok(Process::of(self.hosts[side].spawn(&mut command)?, name))
    }

    /// Asks the collector something, at its own host.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.programs.run_collector();
        command.args(arguments).args(["--url", HERE]);
        let output = self.hosts[0].output(&mut command)?;
        anyhow::ensure!(
            output.status.success(),
            "hopgap-collector {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output)
    }

    /// Takes a host's route to the other away, or gives it back.
    pub(super) fn set_route(&self, host: Host, there: bool) -> Result<()> {
        let side = side_of(host);
        self.hosts[side].ip(&route(if there { "add" } else { "del" }, side))?;
        Ok(())
    }
}

/// The place of a host in everything that has one for each side.
pub(super) fn side_of(host: Host) -> usize {
    match host {
        Host::A => 0,
        Host::B => 1,
    }
}

fn route(verb: &str, side: usize) -> String {
    format!("route {verb} {}/32 via {}", HOSTS[1 - side], GATEWAYS[side])
}

/// The collector's plan: the session of `a`, that of `b`, and every path by its
/// routers and its length.
fn plan(scenario: &Scenario, store: &Path) -> String {
    let mut text = format!(
        "[collector]\nlisten = \"0.0.0.0:8620\"\nplain_http = true\nstore = {}\n",
        quoted(store)
    );
    if let Some(objective) = scenario.objective {
        let _ = writeln!(
            text,
            "[objective]\noutage = \"{}\"",
            objective.to_config_text()
        );
    }
    for (name, address) in NAMES.iter().zip(HOSTS) {
        let _ = write!(
            text,
            "[[agent]]\nname = \"{name}\"\naddress = \"{address}\"\nsecret_file = \"{name}.secret\"\n"
        );
    }
    for (side, session) in SESSIONS.iter().enumerate() {
        if side == 1 && !scenario.both {
            break;
        }
        let _ = write!(
            text,
            "[[session]]\nname = \"{session}\"\nfrom = \"{}\"\nto = \"{}\"\ninterval = \"{}\"\n\
             flows = {}\nsource_port = {PROBES}\ntimeout = \"{}\"\ntrace_interval = \"{}\"\n\
             path_mtu_interval = \"{}\"\nauthenticated = {}\n",
            NAMES[side],
            NAMES[1 - side],
            scenario.interval.to_config_text(),
            scenario.flows,
            TIMEOUT.to_config_text(),
            scenario.trace_interval.to_config_text(),
            scenario.path_mtu_interval.to_config_text(),
            scenario.authenticated,
        );
    }
    for (number, path) in scenario.paths.iter().enumerate() {
        let routers: Vec<String> = (1..=path.routers)
            .map(|hop| format!("\"{}\"", router(number, hop)))
            .collect();
        let _ = write!(
            text,
            "[[path]]\nname = \"{}\"\nrole = \"{}\"\npasses = [{}]\ntarget_at_hop = {}\n",
            path.name,
            if number == 0 { "primary" } else { "backup" },
            routers.join(", "),
            path.routers + 1,
        );
    }
    text
}
