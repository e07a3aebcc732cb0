//! Hours that were sealed into files, and files that are not as they were sealed.

use crate::api::settings_of;
use crate::programs::program;
use crate::world::{Host, PATIENCE, Running, World, sealed, wait_until};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::record::{Block, BlockBody, ProbeFate, RunId};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{AGENT_HEADER, BLOCKS_PATH};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::SystemTime;

fn collector() -> PathBuf {
    program("hopgap-collector")
}

pub(crate) const STORE: &str = "/run/scratch/store";
/// Two sessions of agents that are not there: their blocks are made up.
pub(crate) const SESSIONS: [(&str, &str, &str); 2] = [("out", "a", "b"), ("back", "b", "a")];
/// Probes of a flow in ten seconds, and flows.
const PROBES: u32 = 1_000;
const FLOWS: u8 = 2;
/// Stretches of ten seconds.
const STRETCHES: u32 = 6;

/// What an agent shows.
fn secret(agent: &str) -> String {
    format!("{agent}-0123456789abcdef0123")
}

fn plan() -> String {
    let mut text = "seal_after = \"1s\"\n".to_owned();
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        text += &format!(
            "\n[[agent]]\nname = \"{name}\"\naddress = \"{address}\"\nsecret_file = \"secret-{name}\"\n"
        );
    }
    for (name, from, to) in SESSIONS {
        text += &format!(
            "\n[[session]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\ninterval = \"10ms\"\nflows = 2\nauthenticated = false\n"
        );
    }
    text
}

pub(crate) fn serve(world: &World, server: &Host) -> Running {
    for agent in ["a", "b"] {
        world.file(&format!("secret-{agent}"), &secret(agent));
    }
    let plan = settings_of(world, &plan());
    let mut serving = server.start(&collector(), &["serve", "--plan", plan.to_str().unwrap()]);
    wait_until("the collector listens", || {
        serving.assert_runs();
        !server.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
    });
    serving
}

/// Ten minutes into an hour that is over for two hours at least.
pub(crate) fn then() -> Wall {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let hours = i64::try_from(since.as_secs()).unwrap() / 3_600 - 3;
    Wall::ZERO + Span::from_secs(hours * 3_600 + 600)
}

/// A minute of a session from `begin`, as its sender and its reflector recorded it.
pub(crate) fn minute((session, from, to): (&str, &str, &str), begin: Wall) -> Vec<Block> {
    let mut made_up = Synthetic::new(7, FLOWS, Span::from_millis(10)).unwrap();
    let mut shift = None;
    let mut blocks = Vec::new();
    for number in 0..STRETCHES {
        let stretch = made_up.stretch(PROBES);
        let (mut probes, mut receptions) = (stretch.probes, stretch.receptions);
        let closed = probes.header.closed.wall - Span::from_secs(10);
        let shift = *shift.get_or_insert(begin - closed);
        for (block, agent) in [(&mut probes, from), (&mut receptions, to)] {
            block.header.key.agent = agent.parse().unwrap();
            // A run for each of its two sessions.
            block.header.key.run =
                RunId(begin.as_nanos().unsigned_abs() + u64::from(from == agent));
            block.header.key.number = u64::from(number);
            block.header.session = Some(session.parse().unwrap());
            block.header.closed.wall += shift;
        }
        if let BlockBody::Probes(probes) = &mut probes.body {
            for probe in probes {
                if let ProbeFate::Answered(reply) = &mut probe.fate {
                    reply.reflector_received += shift;
                    reply.reflector_sent += shift;
                }
            }
        }
        blocks.extend([probes, receptions]);
    }
    blocks
}

/// Delivers a block as its agent would.
pub(crate) fn deliver(server: &Host, block: &Block) {
    let payload = block.encode(Span::from_nanos(100)).unwrap();
    let mut body = Vec::new();
    frame::append(&mut body, FrameKind::Block, &payload).unwrap();
    let mut stream = server
        .inside(|| TcpStream::connect("10.0.0.1:8620"))
        .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST {BLOCKS_PATH} HTTP/1.1\r\nhost: 10.0.0.1:8620\r\n{AGENT_HEADER}: {}\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        block.header.key.agent,
        secret(block.header.key.agent.as_str()),
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), &body].concat())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let stored = answer.starts_with("HTTP/1.1 200") && answer.contains("\"stored\":1");
    assert!(stored, "{answer}");
}

/// The sealed file of a session's probes or receptions.
fn file(kind: &str, session: &str) -> PathBuf {
    let dir = PathBuf::from(STORE).join("sealed").join(kind).join(session);
    let found = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = found.map(|f| f.path()).collect();
    assert_eq!(files.len(), 1, "{}", dir.display());
    files.remove(0)
}

/// When that minute begins and ends, as a command line has it.
pub(crate) fn bounds(host: &Host, begin: Wall) -> [String; 2] {
    [begin, begin + Span::from_secs(60)].map(|at| {
        let seconds = format!("@{}", at.as_nanos() / 1_000_000_000);
        let text = host.run("date", &["-u", "+%FT%TZ", "-d", &seconds]);
        text.trim_end().to_owned()
    })
}

/// A report on the minute, which is made whatever is damaged.
fn report(server: &Host, begin: Wall) -> (Value, String) {
    let [from, to] = bounds(server, begin);
    let asked = [
        "report", "--store", STORE, "--from", &from, "--to", &to, "--format",
    ];
    let json = server.finish(&collector(), &[&asked[..], &["json"]].concat());
    assert_eq!(json.code, Some(0), "{json:?}");
    let text = server.finish(&collector(), &[&asked[..], &["text"]].concat());
    assert_eq!(text.code, Some(0), "{text:?}");
    (serde_json::from_str(&json.stdout).unwrap(), text.stdout)
}

fn counts<'a>(report: &'a Value, session: &str) -> &'a Value {
    let sessions = report["findings"]["sessions"].as_array().unwrap();
    let found = sessions.iter().find(|s| s["session"] == session);
    found.map_or(&Value::Null, |s| &s["counts"])
}

/// Whether the probes of `session` are all there, and those that were answered counted.
fn assert_is_there(report: &Value, session: &str) {
    let counts = counts(report, session);
    let all = u64::from(PROBES * STRETCHES) * u64::from(FLOWS);
    assert!(
        counts["sent"].as_u64() > Some(all - 100),
        "{session}: {counts}"
    );
    assert!(
        counts["answered"].as_u64() > Some(all - 200),
        "{session}: {counts}"
    );
}

/// Whether nothing of `session` is believed, and the report says why.
fn assert_is_no_data(report: &(Value, String), session: &str, agent: &str) {
    let (json, text) = report;
    let answered = counts(json, session)["answered"].as_u64().unwrap_or(0);
    assert_eq!(answered, 0, "{session}: {}", counts(json, session));
    for lost in ["lost_forward", "lost_reverse", "lost_unknown"] {
        let lost = counts(json, session)[lost].as_u64().unwrap_or(0);
        assert_eq!(lost, 0, "{session}: {}", counts(json, session));
    }
    // Lines are broken as they come.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = format!("`{agent}` made records that were lost");
    assert!(text.contains(&why), "{text}");
}

#[test]
fn a_sealed_file_that_is_missing_exchanged_or_damaged_is_no_data_and_ends_no_report() {
    sealed(&[&collector], |world| {
        let [server, _] = world.row(["server", "other"]);
        let begin = then();
        let serving = serve(world, &server);
        for session in SESSIONS {
            for block in minute(session, begin) {
                deliver(&server, &block);
            }
        }
        // It looks for hours to seal when it starts.
        serving.interrupt().success();
        let serving = serve(world, &server);
        wait_until("the hour is sealed", || {
            ["probes", "receptions"].iter().all(|kind| {
                SESSIONS.iter().all(|(session, ..)| {
                    let dir = PathBuf::from(STORE).join("sealed").join(kind).join(session);
                    std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some())
                })
            })
        });
        serving.interrupt().success();
        let whole = report(&server, begin);
        for (session, ..) in SESSIONS {
            assert_is_there(&whole.0, session);
        }
        assert!(!whole.1.contains("records that were lost"), "{}", whole.1);

        let (probes, other) = (file("probes", "out"), file("probes", "back"));
        let bytes = std::fs::read(&probes).unwrap();
        std::fs::remove_file(&probes).unwrap();
        let missing = report(&server, begin);
        assert_is_no_data(&missing, "out", "a");
        assert_is_there(&missing.0, "back");

        std::fs::copy(&other, &probes).unwrap();
        assert_is_no_data(&report(&server, begin), "out", "a");

        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        std::fs::write(&probes, &flipped).unwrap();
        let damaged = report(&server, begin);
        assert_is_no_data(&damaged, "out", "a");
        assert_is_there(&damaged.0, "back");
        let audit = server.finish(&collector(), &["audit", "--store", STORE]);
        assert_eq!(audit.code, Some(1), "{audit:?}");
        assert!(audit.stdout.contains("probes/out/"), "{}", audit.stdout);

        // Put back, everything is there again.
        std::fs::write(&probes, &bytes).unwrap();
        let again = report(&server, begin);
        assert_is_there(&again.0, "out");
        assert_eq!(counts(&again.0, "out"), counts(&whole.0, "out"));
    });
}
