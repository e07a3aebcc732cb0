//! The collector's API: who may ask for what, and within which limits.

use crate::programs::program;
use crate::world::{Host, PATIENCE, Running, World, sealed, wait_until};
use serde_json::Value;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) const READ: &str = "0123456789abcdef0123456789abcdef";
const OPERATE: &str = "fedcba9876543210fedcba9876543210";
const WRONG: &str = "fedcba9876543210fedcba9876543211";
const STATUS: &str = "GET /api/v1/status";
const DRILLS: &str = "POST /api/v1/drills";
const DRILL: &str = "{\"name\":\"night\"}";
/// What every request that changes something carries.
const OURS: [&str; 2] = ["content-type: application/json", "x-hopgap: 1"];

fn collector() -> PathBuf {
    program("hopgap-collector")
}

/// A plan of a collector that others reach at 10.0.0.1, with these settings.
pub(crate) fn settings_of(world: &World, settings: &str) -> PathBuf {
    world.file("read", READ);
    world.file("operate", OPERATE);
    world.file("wrong", WRONG);
    let plan = format!(
        "[collector]\nlisten = \"0.0.0.0:8620\"\nplain_http = true\nstore = \"/run/scratch/store\"\n{settings}"
    );
    world.file("plan.toml", &plan)
}

/// A collector on `server` with these settings.
pub(crate) fn serve(world: &World, server: &Host, settings: &str) -> Running {
    let plan = settings_of(world, settings);
    let plan = plan.to_str().unwrap();
    let mut serving = server.start(&collector(), &["serve", "--plan", plan]);
    wait_until("the collector answers", || {
        serving.assert_runs();
        !server.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
    });
    serving
}

pub(crate) const TOKENS: &str = "read_token_file = \"read\"\noperate_token_file = \"operate\"\n";

/// The words of a command that asks the collector from another host.
fn from_there<'a>(command: &[&'a str], token: Option<&'a str>) -> Vec<&'a str> {
    let mut words = [command, &["--url", "http://10.0.0.1:8620"]].concat();
    if let Some(file) = token {
        words.extend(["--token-file", file]);
    }
    words
}

fn connect(host: &Host, to: &str) -> TcpStream {
    let stream = host
        .inside(|| TcpStream::connect(to))
        .expect("the collector listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a plain time");
    stream
}

/// The status of the answer to one request on a connection of its own.
pub(crate) fn ask(host: &Host, to: &str, first: &str, lines: &[&str], body: &str) -> u16 {
    let mut stream = connect(host, to);
    let mut text = format!("{first} HTTP/1.1\r\nconnection: close\r\n");
    if !lines.iter().any(|line| line.starts_with("host: ")) {
        text.push_str(&format!("host: {to}\r\n"));
    }
    for line in lines {
        text.push_str(&format!("{line}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    // Who is refused by the header may find the connection closed with the rest unread.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1);
    status
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"))
}

/// What the collector counted, told to its own host.
fn refused(server: &Host) -> Value {
    let status = server.finish(&collector(), &["status", "--json"]).success();
    let status: Value = serde_json::from_str(&status).unwrap();
    status["refused"].clone()
}

#[test]
fn who_may_look_from_another_host_cannot_operate_and_others_can_do_neither() {
    sealed(&[&collector], |world| {
        let [server, other] = world.row(["server", "other"]);
        let _serving = serve(world, &server, TOKENS);
        let [read, operate, wrong] =
            ["read", "operate", "wrong"].map(|name| format!("/run/scratch/{name}"));
        let run = |command: &[&str], token| other.finish(&collector(), &from_there(command, token));
        let start = ["drill", "start", "night"];
        assert_eq!(
            run(&["status"], None).sentence(),
            "hopgap-collector: programs of other hosts need a token here; show one, as with \
             --token-file"
        );
        assert_eq!(
            run(&["status"], Some(&wrong)).sentence(),
            "hopgap-collector: this is no token of this collector; show the content of its \
             `read_token_file` or `operate_token_file`"
        );
        assert_eq!(
            run(&start, Some(&read)).sentence(),
            "hopgap-collector: this token is for looking only; show the token for operating"
        );
        let seen = run(&["status"], Some(&read)).success();
        assert!(
            seen.contains(
                "\nrefused requests: rate 0, body 0, connections 0, time 0, token 3, cross-site 0\n"
            ),
            "{seen}"
        );
        assert_eq!(
            run(&["drill", "list"], Some(&read)).success(),
            "no drill yet; start one with: hopgap-collector drill start NAME\n"
        );
        let started = run(&start, Some(&operate)).success();
        assert!(
            started.starts_with("drill `night` started at "),
            "{started}"
        );
        // The collector's own host needs none, and still says it when it shows one.
        server.finish(&collector(), &["drill", "stop"]).success();
        let again = ["drill", "start", "again", "--token-file", &read];
        let again = server.finish(&collector(), &again).sentence();
        assert!(again.contains("for looking only"), "{again}");
        assert_eq!(refused(&server)["token"], 4);
    });
}

#[test]
fn without_tokens_the_api_is_for_its_own_host() {
    sealed(&[&collector], |world| {
        let [server, other] = world.row(["server", "other"]);
        let _serving = serve(world, &server, "");
        let command = from_there(&["status"], None);
        let said = other.finish(&collector(), &command).sentence();
        assert!(
            said.starts_with(
                "hopgap-collector: drills and status are for programs on the collector's own host"
            ),
            "{said}"
        );
        server.finish(&collector(), &command).success();
        assert_eq!(refused(&server)["token"], 1);
    });
}

#[test]
fn a_browser_on_the_collectors_host_cannot_be_used_by_other_sites() {
    sealed(&[&collector], |world| {
        let [server, _] = world.row(["server", "other"]);
        let _serving = serve(world, &server, TOKENS);
        let here = "127.0.0.1:8620";
        let start = |lines: &[&str]| ask(&server, here, DRILLS, lines, DRILL);
        let look = |line: &str| ask(&server, here, STATUS, &[line], "");
        // As a form sends it, as a script sends it, and as one that knows of the header.
        assert_eq!(start(&["content-type: text/plain"]), 403);
        assert_eq!(start(&[OURS[0]]), 403);
        let origin = "origin: https://rebound.example";
        assert_eq!(start(&[OURS[0], OURS[1], origin]), 403);
        assert_eq!(look("sec-fetch-site: cross-site"), 403);
        // A name that its owner lets lead to this host.
        assert_eq!(look("host: rebound.example:8620"), 403);
        let named = [OURS[0], OURS[1], "host: rebound.example:8620"];
        assert_eq!(start(&named), 403);
        let counted = refused(&server);
        assert_eq!(counted["cross_site"], 6, "{counted}");
        let drills = server
            .finish(&collector(), &["drill", "list", "--json"])
            .success();
        assert_eq!(drills, "[]\n", "none was started");
        assert_eq!(start(&OURS), 200, "what none of these is");
    });
}

#[test]
fn what_is_too_large_and_too_often_is_refused_and_counted() {
    sealed(&[&collector], |world| {
        let [server, other] = world.row(["server", "other"]);
        let _serving = serve(world, &server, TOKENS);
        let there = "10.0.0.1:8620";
        let (read, operate) = (
            format!("authorization: Bearer {READ}"),
            format!("authorization: Bearer {OPERATE}"),
        );
        let large = format!("{{\"name\":\"{}\"}}", "x".repeat(64 << 10));
        let lines = [OURS[0], OURS[1], &operate];
        assert_eq!(ask(&other, there, DRILLS, &lines, &large), 413);
        let mut statuses = (0..5_000).map(|_| ask(&other, there, STATUS, &[&read], ""));
        let refusal = statuses.find(|status| *status != 200);
        assert_eq!(refusal, Some(429));
        // One peer's haste is not another's.
        let counted = refused(&server);
        assert_eq!((&counted["body"], &counted["rate"]), (&1.into(), &1.into()));
        wait_until("the peer may ask again", || {
            ask(&other, there, STATUS, &[&read], "") == 200
        });
    });
}

#[test]
fn a_request_that_drips_in_is_cut_while_others_are_served() {
    sealed(&[&collector], |world| {
        let [server, other] = world.row(["server", "other"]);
        let _serving = serve(world, &server, TOKENS);
        let mut slow: Vec<TcpStream> = (0..64).map(|_| connect(&other, "10.0.0.1:8620")).collect();
        for stream in &mut slow {
            stream
                .write_all(b"GET /api/v1/status HTTP/1.1\r\nx: ")
                .unwrap();
            stream
                .set_nonblocking(true)
                .expect("a socket can wait or not");
        }
        // One more than a peer may have.
        let mut refusal = connect(&other, "10.0.0.1:8620");
        assert!(is_over(refusal.read(&mut [0])));
        let until = Instant::now() + PATIENCE;
        while !slow.is_empty() {
            assert!(Instant::now() < until, "{} are not cut", slow.len());
            std::thread::sleep(Duration::from_secs(1));
            slow.retain_mut(|stream| {
                stream.write_all(b"x").is_ok() && !is_over(stream.read(&mut [0]))
            });
            server.finish(&collector(), &["status"]).success();
        }
        let counted = refused(&server);
        assert_eq!(
            (&counted["time"], &counted["connections"]),
            (&64.into(), &1.into())
        );
        let read = format!("authorization: Bearer {READ}");
        let there = "10.0.0.1:8620";
        assert_eq!(ask(&other, there, STATUS, &[&read], ""), 200);
    });
}

/// Whether what a stream gave says that the other side has ended it.
fn is_over(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(0) => true,
        Ok(_) => panic!("nothing was asked that could be answered"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    }
}
