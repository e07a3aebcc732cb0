//! A sealed world for one test: hosts are network namespaces, joined by veth pairs.

mod running;

pub(crate) use running::{Finished, Running};

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that is inside.
const INSIDE: &str = "HOPGAP_E2E_INSIDE";
/// Whoever waits longer than this waits for something that will not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// STAMP's port.
pub(crate) const STAMP: u16 = 862;
/// Private to one world: a tmpfs.
const SCRATCH: &str = "/run/scratch";

/// Whether this process is inside a world, where nothing can be built or fetched.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs `test`, which must be a closure in the calling test, in a sealed world: as
/// another process, whose failure is this one's. Programs are built before, outside.
pub(crate) fn sealed<F: FnOnce(&World)>(programs: &[&dyn Fn() -> PathBuf], test: F) {
    if is_inside() {
        return test(&World::new());
    }
    for program in programs {
        program();
    }
    let name = std::any::type_name::<F>();
    let name = name.strip_prefix("e2e::").expect("a test of this binary");
    let name = name
        .strip_suffix("::{{closure}}")
        .expect("a closure in a test");
    // The kernel ends everything inside when the test ends, however it ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !nix::unistd::geteuid().is_root() {
        command.arg("-Ur");
    }
    let output = command
        .args([
            "-n",
            "-m",
            "-p",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(std::env::current_exe().expect("the tests' program has a path"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv and unshare (util-linux) are installed");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{name} in its world: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Proof of being inside.
pub(crate) struct World(());

impl World {
    fn new() -> Self {
        execute(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]));
        std::fs::create_dir(SCRATCH).expect("/run is writable");
        ip("link set lo up");
        Self(())
    }

    /// A host without links but its loopback.
    pub(crate) fn host(&self, name: &'static str) -> Host {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        let netns = File::open(format!("/run/netns/{name}")).expect("ip netns add made it");
        let host = Host { name, netns };
        // Addresses are there at once, link-local ones too: no other host has them.
        host.sysctl("ipv6/conf/default/accept_dad", "0");
        host
    }

    /// Hosts in a row. Link `i` (from 0) has the networks 10.0.`i`.0/24 and
    /// fd00:`i`::/64, with .1 (::1) at its left end and .2 (::2) at its right.
    /// The inner ones forward, the outer two send everything inwards.
    pub(crate) fn row<const N: usize>(&self, names: [&'static str; N]) -> [Host; N] {
        let hosts = names.map(|name| self.host(name));
        for (i, pair) in hosts.windows(2).enumerate() {
            let [left, right] = pair else { continue };
            let (l, r) = (left.name, right.name);
            ip(&format!(
                "link add right netns {l} type veth peer name left netns {r}"
            ));
            for (host, interface, end) in [(l, "right", 1), (r, "left", 2)] {
                ip(&format!(
                    "-n {host} address add 10.0.{i}.{end}/24 dev {interface}"
                ));
                ip(&format!(
                    "-n {host} address add fd00:{i}::{end}/64 dev {interface}"
                ));
                ip(&format!("-n {host} link set {interface} up"));
            }
            left.passes_packets("right");
            right.passes_packets("left");
        }
        for (i, host) in hosts.iter().enumerate() {
            if i > 0 && i + 1 < N {
                host.sysctl("ipv4/ip_forward", "1");
                host.sysctl("ipv6/conf/all/forwarding", "1");
            }
            // ICMP errors come as often as they are due.
            host.sysctl("ipv4/icmp_ratelimit", "0");
            host.sysctl("ipv6/icmp/ratelimit", "0");
            let last = N - 2;
            for to in 0..=last {
                let (near_right, near_left) = (i, i.wrapping_sub(1));
                if to > near_right {
                    host.route(to, near_right, 2);
                } else if i > 0 && to < near_left {
                    host.route(to, near_left, 1);
                }
            }
        }
        hosts
    }

    /// A file with this content that only its owner can read.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = Path::new(SCRATCH).join(name);
        std::fs::write(&path, content).expect("the scratch directory is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .expect("its owner may");
        path
    }
}

/// A network namespace.
pub(crate) struct Host {
    name: &'static str,
    netns: File,
}

impl Host {
    /// Does `work` in this host's network. Processes and sockets made there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.netns, CloneFlags::CLONE_NEWNET).expect("the host exists");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a program here.
    pub(crate) fn start(&self, program: &Path, arguments: &[&str]) -> Running {
        let mut command = Command::new(program);
        command.args(arguments);
        self.inside(|| Running::start(command))
    }

    /// Starts a program here and waits until it listens on this UDP port.
    pub(crate) fn serve(&self, program: &Path, arguments: &[&str], port: u16) -> Running {
        let mut running = self.start(program, arguments);
        wait_until(&format!("{} listens on {port}", program.display()), || {
            running.assert_runs();
            let filter = format!("sport = :{port}");
            !self.run("ss", &["-Hlun", &filter]).is_empty()
        });
        running
    }

    /// Runs a program here to its end.
    pub(crate) fn finish(&self, program: &Path, arguments: &[&str]) -> Finished {
        self.start(program, arguments).finish()
    }

    /// Runs a system's tool here, which must succeed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.inside(|| execute(Command::new(program).args(arguments)))
    }

    /// Runs `ip` here.
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Loads nft rules here.
    pub(crate) fn nft(&self, rules: &str) {
        self.run("nft", &[rules]);
    }

    /// Packets of the nft counter `name` of the table `inet e2e`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let shown = self.run("nft", &["list", "counter", "inet", "e2e", name]);
        let mut words = shown.split_whitespace().skip_while(|w| *w != "packets");
        words
            .nth(1)
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no count in {shown}"))
    }

    /// Waits until this many more packets are counted.
    pub(crate) fn wait_for_packets(&self, counter: &str, more: u64) {
        let before = self.counter(counter);
        wait_until(&format!("{more} packets in {counter}"), || {
            self.counter(counter) >= before + more
        });
    }

    /// Sets a sysctl, given as a path below /proc/sys/net.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        self.inside(|| {
            std::fs::write(format!("/proc/sys/net/{name}"), value)
                .unwrap_or_else(|e| panic!("{name} = {value}: {e}"));
        });
    }

    /// A socket of this host.
    pub(crate) fn socket(&self, address: &str) -> UdpSocket {
        let socket = self
            .inside(|| UdpSocket::bind(address))
            .expect("the address is free");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a plain time");
        socket
    }

    fn route(&self, to: usize, via: usize, end: u8) {
        self.ip(&format!("route add 10.0.{to}.0/24 via 10.0.{via}.{end}"));
        self.ip(&format!(
            "-6 route add fd00:{to}::/64 via fd00:{via}::{end}"
        ));
    }

    /// For moments after an interface is set up the kernel drops what is sent on it.
    fn passes_packets(&self, interface: &str) {
        wait_until(&format!("{interface} of {} is up", self.name), || {
            let shown = self.run("ip", &["-details", "link", "show", interface]);
            shown.contains("state UP") && shown.contains("qdisc noqueue")
        });
    }
}

/// Waits for something that must come.
pub(crate) fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ip(arguments: &str) {
    execute(Command::new("ip").args(arguments.split_whitespace()));
}

fn execute(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
