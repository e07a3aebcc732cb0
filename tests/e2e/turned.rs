//! An agent that was let in, and turned: it has a certificate, and sends what it likes.

mod hostile;

use crate::joined::{PLAN_FILE, STORE, join, plan, run, serve, status, token};
use crate::programs::program;
use crate::world::{Host, Running, World, sealed, wait_until};
use hopgap_proto::record::{BlockBody, FlowIndex, MAX_ROWS, Probe, ProbeFate, Stamp, StampSource};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{BLOCKS_PATH, HELLO_PATH};
use hostile::{Hostile, bodies, mono, now, unreadable};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn collector() -> PathBuf {
    program("hopgap-collector")
}

fn agent() -> PathBuf {
    program("hopgap-agent")
}

/// Agents `a` and `b`, which measure to each other, and `m`, whose session `own` goes to `a`.
struct Stage {
    a: Host,
    _running: [Running; 3],
    m: Hostile,
}

impl Stage {
    fn set(world: &World) -> Self {
        let [a, b, m] = world.row(["a", "b", "m"]);
        let third = "\n[[agent]]\nname = \"m\"\naddress = \"10.0.1.2\"\n\n[[session]]\nname = \"own\"\nfrom = \"m\"\nto = \"a\"\ninterval = \"10ms\"\nflows = 2\nsource_port = 51000\n";
        std::fs::write(PLAN_FILE, plan("") + third).unwrap();
        let serving = serve(&a);
        for (name, host) in [("a", &a), ("b", &b), ("m", &m)] {
            let token = token(&a, &format!("--agent {name}"));
            join(world, host, name, &token, &[]).success();
        }
        let agents = [run(world, &a, "a", "a"), run(world, &b, "b", "b")];
        let [first, second] = agents;
        let stage = Self {
            m: Hostile::new(m, "m"),
            a,
            _running: [serving, first, second],
        };
        wait_until("blocks of both agents", || {
            stage.number("a", "blocks") > 2 && stage.number("b", "blocks") > 2
        });
        stage
    }

    fn agent(&self, name: &str) -> Value {
        let status = status(&self.a);
        let agents = status["agents"].as_array().unwrap();
        let agent = agents.iter().find(|agent| agent["name"] == name);
        agent.unwrap_or_else(|| panic!("{status:#}")).clone()
    }

    fn number(&self, name: &str, key: &str) -> u64 {
        self.agent(name)[key].as_u64().unwrap()
    }

    fn ask(&self, words: &[&str]) -> crate::world::Finished {
        self.a.finish(&collector(), words)
    }
}

/// As many probes as a block may have, a second ago; some hundred bytes.
fn dense() -> BlockBody {
    let at = mono() - Span::from_secs(1);
    let probe = |i: u32| Probe {
        flow: FlowIndex(0),
        seq: Seq(i),
        sent: Stamp {
            at,
            source: StampSource::Kernel,
        },
        fate: ProbeFate::Unanswered,
    };
    BlockBody::Probes((0..u32::try_from(MAX_ROWS).unwrap()).map(probe).collect())
}

/// 59 kB of blocks held the writer for half a minute, 100 kB of frames that nobody can read
/// for ten seconds; a drill that was said not to have started started later.
#[test]
fn an_agent_that_turned_holds_up_nobodys_records_and_no_command() {
    sealed(&[&collector, &agent], |world| {
        let stage = Stage::set(world);
        let dense = bodies("m", "own", now(), &dense(), 600);
        let noise = unreadable(5_000);
        assert!(dense.len() < 100_000, "{}", dense.len());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for body in [&dense, &noise] {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        stage.m.try_ask(BLOCKS_PATH, body);
                    }
                });
            }
            wait_until("the attack", || {
                let taken = stage.agent("m")["taken"].clone();
                taken["rows"].as_u64() > Some(1_000_000)
                    && taken["unreadable"].as_u64() > Some(2_000)
            });
            let before = ["a", "b"].map(|name| stage.number(name, "blocks"));
            let begun = Instant::now();
            let started = stage.ask(&["drill", "start", "night"]);
            let took = begun.elapsed();
            wait_until("others' blocks during the attack", || {
                let now = ["a", "b"].map(|name| stage.number(name, "blocks"));
                now[0] >= before[0] + 4 && now[1] >= before[1] + 4
            });
            over.store(true, Ordering::Relaxed);
            started.success();
            assert!(took < Duration::from_secs(10), "{took:?}");
        });
        let drills = stage.ask(&["drill", "list", "--json"]).success();
        let drills: Value = serde_json::from_str(&drills).unwrap();
        assert_eq!(drills.as_array().unwrap().len(), 1, "{drills}");
        // What it was made to wait for, and what was refused, is told.
        let m = stage.agent("m");
        let n = |key: &str| m["taken"][key].as_u64().unwrap();
        assert!(n("held_ms") + n("too_much") > 0, "{m:#}");
        assert_eq!(n("no_part"), 0, "{m:#}");
        assert!(m["refused"].as_u64() >= Some(n("unreadable")), "{m:#}");
        for name in ["a", "b"] {
            let taken = stage.agent(name)["taken"].clone();
            assert_eq!(taken["unreadable"], 0, "{taken}");
            assert!(taken["rows"].as_u64() > Some(100), "{taken}");
        }
    });
}

/// 20 kB made every report of the hour impossible, 198 kB took 24 GB.
#[test]
fn an_agent_that_turned_makes_no_report_impossible() {
    sealed(&[&collector, &agent], |world| {
        let stage = Stage::set(world);
        // Of a session of others: refused, before it is decoded.
        let foreign = bodies("m", "out", now(), &dense(), 200);
        let (code, answer) = stage.m.ask(BLOCKS_PATH, &foreign);
        assert_eq!(code, 200, "{answer}");
        assert!(
            answer.contains("does not let agent `m` send session `out`"),
            "{answer}"
        );
        let m = stage.agent("m");
        assert_eq!(
            (&m["taken"]["no_part"], &m["taken"]["rows"]),
            (&200.into(), &0.into())
        );
        assert_eq!(m["blocks"], 0);
        // Of its own: as much as it may.
        let own = bodies("m", "own", now(), &dense(), 4);
        assert_eq!(stage.m.ask(BLOCKS_PATH, &own).0, 200);
        let records = stage.number("m", "records");
        assert_eq!(records, 4 * MAX_ROWS as u64);
        std::thread::sleep(Duration::from_secs(2));
        let program = collector();
        let report = format!(
            "ulimit -v 2000000; exec {} report --store {STORE} --from -60s --format json --max-memory 200M",
            program.display()
        );
        let report = stage.a.finish(Path::new("sh"), &["-c", &report]);
        assert!(!report.stdout.is_empty(), "{report:?}");
        let report: Value = serde_json::from_str(&report.stdout).unwrap();
        let sessions = report["findings"]["sessions"].as_array().unwrap();
        let out = sessions.iter().find(|s| s["session"] == "out").unwrap();
        assert!(
            out["counts"]["answered"].as_u64() > Some(100),
            "{}",
            out["counts"]
        );
        let said = report["findings"]["caveats"].to_string();
        assert!(
            said.contains("Session `own`: agent `m` delivered 1048576 records of that time"),
            "{said}"
        );
    });
}

/// 78 bytes dated 2262 set another session's newest probe, for ever.
#[test]
fn an_agent_that_turned_forges_no_status() {
    sealed(&[&collector, &agent], |world| {
        let stage = Stage::set(world);
        let far = Wall::from_nanos(i64::MAX - 1_000_000_000);
        let one = |session: &str, at: Wall| {
            let BlockBody::Probes(mut probes) = dense() else {
                panic!("probes");
            };
            probes.truncate(1);
            let body = bodies("m", session, at, &BlockBody::Probes(probes), 1);
            stage.m.ask(BLOCKS_PATH, &body).1
        };
        let refused = one("out", far);
        assert!(refused.contains("does not let agent `m`"), "{refused}");
        let refused = one("own", far);
        assert!(
            refused.contains("after this delivery, by its agent's clock"),
            "{refused}"
        );
        let taken = stage.agent("m")["taken"].clone();
        assert_eq!((&taken["no_part"], &taken["time"]), (&1.into(), &1.into()));
        let newest = |name: &str| {
            let status = status(&stage.a);
            let sessions = status["sessions"].as_array().unwrap().clone();
            let session = sessions.into_iter().find(|s| s["name"] == name).unwrap();
            session["newest"].clone()
        };
        assert_eq!(newest("own"), Value::Null);
        let out = newest("out");
        assert!(out.as_str().unwrap().starts_with("20"), "{out}");
        // What it may deliver is delivered.
        assert!(!one("own", now()).contains("refused"));
        assert!(newest("own").as_str().unwrap().starts_with("20"));
    });
}

#[test]
fn what_an_agent_says_of_itself_moves_no_terminals_cursor() {
    sealed(&[&collector, &agent], |world| {
        let stage = Stage::set(world);
        let hello = |version: &str| {
            let version = serde_json::to_string(version).unwrap();
            let body = format!(
                "{{\"agent\":\"m\",\"run\":7,\"version\":{version},\"protocol\":{{\"oldest\":1,\"newest\":1}}}}"
            );
            stage.m.ask(HELLO_PATH, body.as_bytes())
        };
        for version in [
            "0.1\u{1b}[2J",
            "0.1\nb  OK",
            "0.1\u{202e}",
            "",
            &"9".repeat(65),
        ] {
            let (code, answer) = hello(version);
            assert_eq!(code, 400, "{version:?}: {answer}");
            assert!(answer.contains("the program's version is none"), "{answer}");
        }
        assert_eq!(hello("0.1.0-rc.1").0, 200);
        // It exits 1: the hostile agent's own session has no data.
        let told = stage.ask(&["status"]).stdout;
        assert!(told.contains("0.1.0-rc.1"), "{told}");
        let plain = |text: &str| text.chars().all(|c| !c.is_control() || c == '\n');
        assert!(plain(&told), "{told:?}");
        // Names and notes of people, too.
        let refused = stage.ask(&["drill", "start", "night\u{202e}"]).sentence();
        assert!(
            refused.contains("another control character or an invisible one"),
            "{refused}"
        );
        assert!(
            plain(&refused) && !refused.contains('\u{202e}'),
            "{refused:?}"
        );
    });
}
