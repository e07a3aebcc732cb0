//! The article's failover test, by the lab's own commands.

#![expect(
    clippy::expect_used,
    reason = "the lint knows test functions, but not those that they call"
)]

use hopgap_lab::events::What;
use hopgap_lab::truth::TruePath;
use hopgap_lab::{Fault, Truth};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Labs share the processor with their daemons and wires: one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A lab of its own, which ends with the test.
struct Running {
    dir: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Running {
    fn up(name: &str, arguments: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("hopgap-lab-{name}-{}", std::process::id()));
        let lab = Self::at(dir);
        lab.ask(&[&["up", "--detach"], arguments].concat());
        lab
    }

    fn at(dir: PathBuf) -> Self {
        let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { dir, _turn }
    }

    fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hopgap-lab"))
            .arg("--dir")
            .arg(&self.dir)
            .args(arguments)
            .output()
            .expect("the lab's program can be run")
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The last column of a traceroute.
    fn hops(&self) -> Vec<String> {
        self.ask(&["trace"])
            .lines()
            .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
            .map(|line| line.rsplit("  ").next().expect("a column").to_owned())
            .collect()
    }

    /// The whole of the status says so.
    fn wait_for(&self, text: &str) {
        let start = Instant::now();
        loop {
            let status = self.ask(&["status"]);
            if status.contains(text) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{text} is not in {status}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.command(&["down"]);
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

const SILENT: &str = "Request timed out.";
/// Over either circuit; which one depends on the kernel.
const EXPRESSROUTE: [[&str; 5]; 2] = [
    [
        "10.1.11.1",
        "192.168.11.0",
        "192.168.11.18",
        SILENT,
        "10.17.11.132",
    ],
    [
        "10.1.11.1",
        "192.168.11.2",
        "192.168.11.22",
        SILENT,
        "10.17.11.132",
    ],
];
const VPN: [&str; 3] = ["10.1.11.1", SILENT, "10.17.11.132"];

fn fails_over_and_back(tunnel: &str) {
    let lab = Running::up(tunnel, &["--tunnel", tunnel]);
    let hops = lab.hops();
    assert!(
        EXPRESSROUTE.iter().any(|path| hops == path),
        "in the steady state: {hops:?}"
    );

    lab.ask(&["fault", "admin"]);
    lab.wait_for("to Azure: VPN, to on-premises: VPN");
    assert_eq!(lab.hops(), VPN, "with both peerings disabled");

    lab.ask(&["heal", "--wait"]);
    assert_eq!(lab.hops(), hops, "with both peerings enabled again");
}

#[test]
fn the_three_traceroutes_of_the_article_over_vxlan() {
    fails_over_and_back("vxlan");
}

#[test]
fn the_three_traceroutes_of_the_article_over_ipsec() {
    fails_over_and_back("ipsec");
}

#[test]
fn each_fault_moves_the_routes_that_it_should() {
    let lab = Running::up("faults", &[]);
    for (fault, routes) in [
        ("link", "to Azure: VPN, to on-premises: VPN"),
        ("blackhole", "to Azure: VPN, to on-premises: VPN"),
        ("one-msee", "to Azure: circuit 2, to on-premises: circuit 2"),
    ] {
        lab.ask(&["fault", fault]);
        lab.wait_for(routes);
        lab.ask(&["heal", "--wait"]);
    }
    let ping = [
        "shell",
        "server",
        "--",
        "ping",
        "-c",
        "2",
        "-W",
        "1",
        "10.17.11.132",
    ];
    let before = lab.command(&ping);
    assert!(before.status.success(), "data passes: {before:?}");
    lab.ask(&["fault", "grey"]);
    assert!(!lab.command(&ping).status.success(), "data is dropped");
    // Longer than BFD would take to notice.
    std::thread::sleep(Duration::from_secs(1));
    lab.wait_for("to Azure: ExpressRoute, to on-premises: ExpressRoute");
    lab.ask(&["heal", "--wait"]);
    assert!(lab.command(&ping).status.success(), "data passes again");
}

/// Sends datagrams in the form of requests from the server, as one flow, with Sequence
/// Numbers from 11 (a 10 is a line feed, where bash would cut them in two). Nobody answers, which refuses every other send.
fn send(lab: &Running) {
    let script = r#"exec 3>/dev/udp/10.17.11.132/862
        for i in {11..50}; do
            printf "\\x00\\x00\\x00\\x$(printf %02x $i)0123456789012345678901234567890123456789" >&3
            sleep 0.01
        done 2>/dev/null; true"#;
    lab.ask(&["shell", "server", "--", "bash", "-c", script]);
}

#[test]
fn the_truth_tells_what_arrived_and_by_which_way() {
    let lab = Running::up("truth", &[]);
    send(&lab);
    lab.ask(&["fault", "grey"]);
    send(&lab);
    lab.ask(&["heal", "--wait"]);
    lab.ask(&["fault", "admin"]);
    lab.wait_for("to Azure: VPN, to on-premises: VPN");
    send(&lab);
    lab.ask(&["down"]);

    let truth = Truth::read(&lab.dir.join("out")).expect("the lab's logs");
    assert!(truth.complete && truth.overflows == 0);
    let mut flows: Vec<_> = truth.flows.values().collect();
    flows.sort_by_key(|flow| flow.packets[0].mark.enter);
    let [steady, grey, vpn] = flows[..] else {
        panic!("three flows, not {}", flows.len());
    };
    for flow in &flows {
        assert!(flow.packets.len() >= 10, "{flow}");
        assert!(
            flow.packets
                .iter()
                .all(|packet| (11..=50).contains(&packet.mark.seq))
        );
    }
    assert_eq!(
        (steady.lost(), steady.outages.len(), steady.paths.len()),
        (0, 0, 1)
    );
    assert_ne!(steady.path_names(), [TruePath::Vpn]);
    assert_eq!((grey.lost(), grey.outages.len()), (grey.packets.len(), 1));
    assert!(
        grey.packets.iter().all(|packet| packet.path.is_some()),
        "lost on a circuit"
    );
    assert_eq!((vpn.lost(), vpn.path_names()), (0, vec![TruePath::Vpn]));

    let at = |wanted: &dyn Fn(&What) -> bool| {
        let found = truth.events.iter().find(|event| wanted(&event.what));
        found.expect("an event").at.mono
    };
    let began = at(&|what| {
        matches!(
            what,
            What::Fault {
                fault: Fault::Grey,
                ..
            }
        )
    });
    let ended = at(&|what| {
        matches!(
            what,
            What::Heal {
                fault: Fault::Grey,
                ..
            }
        )
    });
    let outage = grey.outages[0];
    assert!(began < outage.first_lost.enter && outage.last_lost.enter < ended);
    let routed = at(
        &|what| matches!(what, What::Route { node, change } if node == "fw" && change.contains("st0.118")),
    );
    assert!(truth.events[0].at.mono < routed);
}

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    let dir = std::env::temp_dir().join(format!("hopgap-lab-killed-{}", std::process::id()));
    let lab = Running::at(dir.clone());
    let mut up = Command::new(env!("CARGO_BIN_EXE_hopgap-lab"))
        .arg("--dir")
        .arg(&dir)
        .arg("up")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the lab's program can be run");
    let start = Instant::now();
    while !lab.command(&["status"]).status.success() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the lab does not come up"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        !processes_with(&dir).is_empty(),
        "the daemons name the folder"
    );
    up.kill().expect("it runs");
    up.wait().expect("it ends");
    let start = Instant::now();
    loop {
        let left = processes_with(&dir);
        if left.is_empty() {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "still running: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Command lines of all processes with `dir` in them.
fn processes_with(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string();
    std::fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}
