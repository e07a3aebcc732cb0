//! A user of the collector's host, who may connect to it as often as he likes.

use crate::api::{TOKENS, ask, serve, settings_of};
use crate::joined::{self, PLAN_FILE, join, token};
use crate::programs::program;
use crate::world::{Finished, Host, Running, sealed, wait_until};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, setsockopt, socket,
    sockopt,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn collector() -> PathBuf {
    program("hopgap-collector")
}

fn agent() -> PathBuf {
    program("hopgap-agent")
}

/// The beginning of a request whose header never ends.
const HALF: &[u8] = b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nx: ";

/// A half-open connection to the collector of this host, from this loopback address.
fn half_open(server: &Host, from: [u8; 4]) -> TcpStream {
    let socket = server.inside(|| {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Tcp,
        )
        .unwrap();
        setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
        let address = |[a, b, c, d]: [u8; 4], port| SockaddrIn::new(a, b, c, d, port);
        bind(fd.as_raw_fd(), &address(from, 0)).unwrap();
        connect(fd.as_raw_fd(), &address([127, 0, 0, 1], 8_620)).unwrap();
        fd
    });
    let mut stream = TcpStream::from(socket);
    // Who was refused finds the other end closed.
    let _ = stream.write_all(HALF);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// How many of these connections are still open.
fn open(held: &mut [TcpStream]) -> usize {
    let is_open = |stream: &mut TcpStream| {
        let read = stream.read(&mut [0]);
        matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    held.iter_mut()
        .filter_map(|s| is_open(s).then_some(()))
        .count()
}

/// What a user does who is let in.
fn works(server: &Host, drill: &str) {
    let run = |words: &[&str]| -> Finished { server.finish(&collector(), words) };
    run(&["status"]).success();
    run(&["drill", "start", drill]).success();
    run(&["drill", "stop"]).success();
}

#[test]
fn half_open_connections_of_the_own_host_shut_nobody_out() {
    sealed(&[&collector], |world| {
        let [server, other] = world.row(["server", "other"]);
        let _serving = serve(world, &server, TOKENS);
        // As many as one source may have, of the source that the commands have, too.
        let own = [127, 0, 0, 1];
        let mut held: Vec<TcpStream> = (0..64).map(|_| half_open(&server, own)).collect();
        works(&server, "beside-one");
        // They did not wait until these were cut for taking too long.
        assert!(open(&mut held) > 50, "{}", open(&mut held));
        // More than all places, of many sources.
        let crowd = (0..40).flat_map(|source| std::iter::repeat_n([127, 0, 1, source], 8));
        held.extend(crowd.map(|from| half_open(&server, from)));
        works(&server, "beside-a-crowd");
        assert!(open(&mut held) > 200, "{}", open(&mut held));
        let status = server.finish(&collector(), &["status", "--json"]).success();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let refused = status["refused"]["connections"].as_u64().unwrap();
        assert!(refused > 64, "{}", status["refused"]);
        // Another host's are apart.
        let read = format!("authorization: Bearer {}", crate::api::READ);
        let status = "GET /api/v1/status";
        assert_eq!(ask(&other, "10.0.0.1:8620", status, &[&read], ""), 200);
    });
}

/// The limits of open files of a process: soft and hard.
fn limits(process: &Running) -> [u64; 2] {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    [words[3], words[4]].map(|word| word.parse().unwrap())
}

#[test]
fn a_crowd_of_the_own_host_uses_up_no_descriptors() {
    sealed(&[&collector], |world| {
        let [server, other] = world.row(["server", "other"]);
        let plan = settings_of(world, TOKENS);
        let program = collector();
        let line = format!(
            "ulimit -Sn 40; ulimit -Hn 128; exec {} serve --plan {}",
            program.display(),
            plan.display()
        );
        let mut serving = server.start(Path::new("sh"), &["-c", &line]);
        wait_until("the collector answers", || {
            serving.assert_runs();
            !server.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
        });
        assert_eq!(limits(&serving), [128, 128]);
        let crowd = (0..100).flat_map(|source| std::iter::repeat_n([127, 0, 1, source], 3));
        let _held: Vec<TcpStream> = crowd.map(|from| half_open(&server, from)).collect();
        let files = std::fs::read_dir(format!("/proc/{}/fd", serving.id())).unwrap();
        let files = files.count();
        assert!(files < 64, "{files} files are open");
        works(&server, "beside-a-crowd");
        let read = format!("authorization: Bearer {}", crate::api::READ);
        let there = "10.0.0.1:8620";
        assert_eq!(ask(&other, there, "GET /api/v1/status", &[&read], ""), 200);
        let said = serving.interrupt().stderr;
        assert!(!said.contains("cannot accept"), "{said}");
    });
}

/// Longer than the collector waits between two looks at its names.
const LOOK: Duration = Duration::from_secs(12);

#[test]
fn a_collector_without_descriptors_keeps_its_certificate() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        // It knows of its own address from its interfaces alone.
        let plan = joined::plan("").replace("10.0.0.1:8621", "0.0.0.0:8621");
        std::fs::write(PLAN_FILE, plan).unwrap();
        let serving = joined::serve(&a);
        let limit = |files: u64| {
            let (pid, files) = (serving.id().to_string(), format!("--nofile={files}:"));
            a.run("prlimit", &["--pid", &pid, &files]);
        };
        let first = token(&a, "--agent a");
        join(world, &a, "a", &first, &[]).success();
        let token = token(&a, "--agent b");
        limit(4);
        std::thread::sleep(LOOK);
        limit(1_024);
        // The agent checks the collector's certificate for that address.
        wait_until("an agent joins", || {
            let joined = join(world, &b, "b", &token, &[]);
            joined.code == Some(0) || {
                assert!(!joined.stderr.contains("certificate"), "{joined:?}");
                false
            }
        });
        let said = serving.interrupt().stderr;
        let kept = "cannot read the addresses of this host";
        assert!(said.contains(kept), "{said}");
        assert!(said.contains("the certificate before stays"), "{said}");
        assert!(!said.contains("certificate is renewed"), "{said}");
    });
}
