//! The collector's metrics, read by Prometheus itself.

use crate::api::{READ, settings_of};
use crate::programs::program;
use crate::replanned::{collector, session, start};
use crate::world::{Host, PATIENCE, Running, World, sealed, wait_until};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

fn agent() -> PathBuf {
    program("hopgap-agent")
}

const THERE: &str = "10.0.0.1:8620";
const PROMETHEUS: &str = "127.0.0.1:9090";

/// A collector with a read token, and the agents `a` and `b` that measure to each other.
fn collecting(world: &World, a: &Host, b: &Host) -> [Running; 3] {
    world.file("secret", "0123456789abcdef0123");
    world.file("secret-b", "fedcba9876543210fedc");
    let agents = r#"
[[agent]]
name = "a"
address = "10.0.0.1"
secret_file = "/run/scratch/secret"

[[agent]]
name = "b"
address = "10.0.0.2"
secret_file = "/run/scratch/secret-b"
"#;
    let settings = [
        crate::api::TOKENS,
        agents,
        &session("out", "a", "b", "10ms", 50_000),
    ];
    let plan = settings_of(world, &settings.concat());
    let mut serving = a.start(&collector(), &["serve", "--plan", plan.to_str().unwrap()]);
    wait_until("the collector listens", || {
        serving.assert_runs();
        !a.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
    });
    let first = start(world, a, "a", "secret");
    let second = start(world, b, "b", "secret-b");
    [serving, first, second]
}

/// One request: the answer's head and body.
fn get(host: &Host, to: &str, path: &str, lines: &str) -> (String, String) {
    let mut stream = host.inside(|| TcpStream::connect(to)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// Prometheus on `host`, as `collector/examples/prometheus.yml` has it.
fn prometheus(world: &World, host: &Host) -> Running {
    let token = world.file("prometheus.token", READ);
    let example = include_str!("../../collector/examples/prometheus.yml");
    let config = example
        .replace("YOUR-SERVER:8620", THERE)
        .replace("/etc/prometheus/hopgap.token", token.to_str().unwrap())
        .replace("15s", "1s");
    assert!(config.contains(THERE) && config.contains("prometheus.token"));
    let config = world.file("prometheus.yml", &config);
    let config = format!("--config.file={}", config.display());
    let listen = format!("--web.listen-address={PROMETHEUS}");
    let words = [
        config.as_str(),
        "--storage.tsdb.path=/run/scratch/prometheus",
        &listen,
    ];
    let mut running = host.start(Path::new("prometheus"), &words);
    wait_until("Prometheus listens", || {
        running.assert_runs();
        !host.run("ss", &["-Hltn", "sport = :9090"]).is_empty()
    });
    running
}

/// The newest value of one series that Prometheus has; `None` where it has none.
fn value(host: &Host, query: &str) -> Option<f64> {
    let encoded: String = query
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect();
    // HTTP/1.0, so that the body comes in one piece.
    let mut stream = host.inside(|| TcpStream::connect(PROMETHEUS)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    // It says 503 until it has begun.
    if !head.contains(" 200 ") {
        return None;
    }
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    let results = body["data"]["result"].as_array().unwrap();
    assert!(results.len() < 2, "{query}: {results:?}");
    let value = results.first()?["value"][1].as_str().unwrap();
    Some(value.parse().unwrap())
}

/// What the status says of agent `a`'s deliveries.
fn taken(a: &Host) -> Value {
    let status = a.finish(&collector(), &["status", "--json"]).success();
    let status: Value = serde_json::from_str(&status).unwrap();
    let agents = status["agents"].as_array().unwrap();
    let found = agents.iter().find(|agent| agent["name"] == "a").unwrap();
    found["taken"].clone()
}

#[test]
fn prometheus_reads_the_same_numbers_as_the_status() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let _running = collecting(world, &a, &b);
        // Who shows no token from another host gets nothing, and is counted.
        let (refused, _) = get(&b, THERE, "/metrics", "");
        assert!(refused.starts_with("http/1.1 401 "), "{refused}");
        let _prometheus = prometheus(world, &b);
        wait_until("Prometheus has read it", || {
            value(&b, "up{job=\"hopgap\"}") == Some(1.0)
                && value(&b, "hopgap_agent_delivered_rows_total{agent=\"a\"}") > Some(100.0)
        });
        for counter in ["bytes", "rows", "frames"] {
            let name = format!("hopgap_agent_delivered_{counter}_total{{agent=\"a\"}}");
            let before = taken(&a)[counter].as_f64().unwrap();
            wait_until("Prometheus is up to date", || {
                value(&b, &name) >= Some(before)
            });
            let read = value(&b, &name).unwrap();
            let after = taken(&a)[counter].as_f64().unwrap();
            assert!(
                (before..=after).contains(&read),
                "{name}: {before} {read} {after}"
            );
        }
        let refused = "hopgap_refused_requests_total{cause=\"token\"}";
        assert_eq!(value(&b, refused), Some(1.0));
        let frames = "sum(hopgap_agent_refused_frames_total{agent=\"a\"})";
        assert_eq!(value(&b, frames), Some(0.0));
        for known in [
            "hopgap_plan_in_force",
            "hopgap_disk_free_bytes",
            "hopgap_store_busy_seconds_total",
            "hopgap_agent_spool_limit_bytes{agent=\"b\"}",
            "time() - hopgap_agent_last_seen_timestamp_seconds{agent=\"a\"} < 60",
        ] {
            assert!(value(&b, known) > Some(0.0), "{known}");
        }
        is_clean(world, &a);
    });
}

/// Whether Prometheus' own linter finds nothing, in the format that it reads.
fn is_clean(world: &World, a: &Host) {
    let (head, text) = get(a, "127.0.0.1:8620", "/metrics", "");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let file = world.file("metrics", &text);
    let line = format!("promtool check metrics < {}", file.display());
    let linted = a.finish(Path::new("sh"), &["-c", &line]);
    assert_eq!(linted.code, Some(0), "{linted:?}\n{text}");
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (head, text) = get(a, "127.0.0.1:8620", "/metrics", accept);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}
