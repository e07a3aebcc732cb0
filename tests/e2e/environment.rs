//! What surrounds the programs: signals and readers that go away, proxies, names with several
//! addresses, rights of the file, memory.

use crate::measured::Measured;
use crate::programs::program;
use crate::world::{Host, PATIENCE, Running, STAMP, World, sealed, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn agent() -> PathBuf {
    program("hopgap-agent")
}

fn collector() -> PathBuf {
    program("hopgap-collector")
}

/// The agent by `sh`, for what only a shell does.
fn shell(host: &Host, line: &str) -> Running {
    let line = line.replace("AGENT", agent().to_str().unwrap());
    host.start(Path::new("sh"), &["-c", &line])
}

/// Counts the replies to probes and those to traceroutes, apart by the SSID's first bit.
fn count_replies(host: &Host) {
    host.nft(
        "table inet e2e {
            counter replies {}
            counter traced {}
            chain in {
                type filter hook input priority 0;
                udp sport 862 @th,176,16 & 0x8000 == 0 counter name replies accept
                udp sport 862 counter name traced
            }
        }",
    );
}

#[test]
fn a_session_that_dies_ends_all_in_order_with_what_was_found() {
    sealed(&[&agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        count_replies(&a);
        let reflecting = b.serve(&agent(), &["reflect"], STAMP);
        let measuring = a.start(&agent(), &["measure", "10.0.0.2", "--json"]);
        a.wait_for_packets("replies", 450);
        // A session's end sends it more than once.
        measuring.hang_up();
        measuring.hang_up();
        let done = measuring.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(Measured::of(&done.stdout).count("answered") >= 400);

        // Under nohup it is ignored.
        let nohup = ["measure", "10.0.0.2", "--json", "--duration", "3s"];
        let kept = agent();
        let line = [&[kept.to_str().unwrap()], &nohup[..]].concat();
        let kept = a.start(Path::new("nohup"), &line);
        a.wait_for_packets("replies", 400);
        kept.hang_up();
        let done = kept.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        let answered = Measured::of(&done.stdout).count("answered");
        assert!(answered > 1_200, "{answered} of 2,400 of three seconds");

        let tracing = a.start(&agent(), &["trace", "10.0.0.2", "--count", "0"]);
        a.wait_for_packets("traced", 2);
        tracing.hang_up();
        tracing.finish().success();

        // Whoever reads has gone: there is nobody to measure for.
        let begun = Instant::now();
        let ended = shell(&a, "AGENT measure 10.0.0.2 --json | true").finish();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let heard = "AGENT reflect --listen 10.0.0.2:8862 2>&1 | head -n 1";
        let ended = shell(&b, heard).finish();
        assert!(ended.stdout.contains("10.0.0.2:8862"), "{ended:?}");
        assert!(!ended.stdout.contains("panicked"), "{ended:?}");
        assert!(begun.elapsed() < PATIENCE * 2);

        reflecting.hang_up();
        let done = reflecting.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.contains("\nanswered "), "{done:?}");
    });
}

const PLAN: &str = r#"
[collector]
listen = "10.0.0.1:8620"
plain_http = true

[[agent]]
name = "a"
address = "10.0.0.1"
secret_file = "/run/scratch/secret"

[[session]]
name = "out"
from = "a"
to = "10.0.0.2:862"
interval = "10ms"
flows = 1
"#;

#[test]
fn services_end_in_order_on_sighup_and_proxies_of_the_environment_are_not_theirs() {
    sealed(&[&collector, &agent], |world| {
        let [a, _b] = world.row(["a", "b"]);
        world.file("secret", "0123456789abcdef0123");
        let plan = world.file("plan.toml", PLAN);
        let serve = [
            "serve",
            "--plan",
            plan.to_str().unwrap(),
            "--store",
            "/run/scratch/store",
        ];
        let mut serving = a.start(&collector(), &serve);
        wait_until("the collector answers", || {
            serving.assert_runs();
            !a.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
        });
        let config = world.file(
            "a.toml",
            "name = \"a\"\ncollector = \"http://10.0.0.1:8620\"\nsecret_file = \"/run/scratch/secret\"\nstate_dir = \"/run/scratch/a\"\nblock = \"500ms\"\n",
        );
        let agent = agent();
        // Nobody answers there.
        let line = [
            "http_proxy=http://10.0.0.9:3128",
            "https_proxy=http://10.0.0.9:3128",
            "ALL_PROXY=http://10.0.0.9:3128",
            agent.to_str().unwrap(),
            "run",
            "--config",
            config.to_str().unwrap(),
        ];
        let mut running = a.start(Path::new("env"), &line);
        wait_until("the plan has come", || {
            running.assert_runs();
            Path::new("/run/scratch/a/plan.json").exists()
        });
        running.hang_up();
        let done = running.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(
            done.stderr.contains("https_proxy is set and not used"),
            "{done:?}"
        );
        assert!(done.stderr.contains("agent a ends"), "{done:?}");
        assert!(!done.stderr.contains("cannot reach"), "{done:?}");
        serving.hang_up();
        let done = serving.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.contains("stopped"), "{done:?}");
    });
}

/// A name with an address of each family.
fn name_the_far_end(world: &World, host: &Host) {
    let hosts = world.file("hosts", "fd00:1::2 far\n10.0.1.2 far\n");
    host.run("chmod", &["0644", hosts.to_str().unwrap()]);
    host.run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
}

fn findings(done: crate::world::Finished) -> (Value, String) {
    let stderr = done.stderr.clone();
    let json = done.success();
    (serde_json::from_str(&json).unwrap(), stderr)
}

#[test]
fn of_a_names_addresses_the_one_that_answers_is_measured() {
    sealed(&[&agent], |world| {
        let [a, _r, b] = world.row(["a", "r", "b"]);
        name_the_far_end(world, &a);
        let measure = |more: &[&str]| {
            let words = [
                "measure",
                "--json",
                "--duration",
                "500ms",
                "--timeout",
                "1s",
            ];
            a.finish(&agent(), &[&words[..], more].concat())
        };
        let to = |found: &Value| found["sessions"][0]["to"].as_str().unwrap().to_owned();

        let only_v4 = b.serve(&agent(), &["reflect", "-4"], STAMP);
        let (found, said) = findings(measure(&["far"]));
        assert_eq!(to(&found), "10.0.1.2:862");
        assert!(
            said.contains("far: going to 10.0.1.2, which answered"),
            "{said}"
        );
        assert!(
            said.contains("fd00:1::2 has nothing that listens"),
            "{said}"
        );
        let refused = measure(&["far", "-6"]);
        assert!(
            refused.stderr.contains("no reply from [fd00:1::2]:862"),
            "{refused:?}"
        );
        only_v4.interrupt();

        // Both families, and an IPv4 peer is one.
        let both = b.serve(
            &agent(),
            &["reflect", "--from", "10.0.0.1", "--from", "fd00::1"],
            STAMP,
        );
        wait_until("both families are open", || {
            b.run("ss", &["-Hlun", "sport = :862"]).lines().count() == 2
        });
        assert_eq!(to(&findings(measure(&["-4", "far"])).0), "10.0.1.2:862");
        assert_eq!(to(&findings(measure(&["-6", "far"])).0), "[fd00:1::2]:862");
        let (found, _) = findings(measure(&["::ffff:10.0.1.2"]));
        assert_eq!(to(&found), "10.0.1.2:862");
        let traced = a.finish(&agent(), &["trace", "-4", "far", "--source", "0.0.0.0"]);
        assert!(traced.success().contains("10.0.1.2  (reflector)"));
        let told = both.interrupt().stderr;
        assert!(told.contains("UDP 0.0.0.0:862 and [::]:862"), "{told}");
        assert!(told.contains("did not answer 0 packets"), "{told}");
    });
}

#[test]
fn link_local_ends_closed_ports_and_refusals_are_told_as_what_they_are() {
    sealed(&[&agent], |world| {
        let [a, r, _b] = world.row(["a", "r", "b"]);
        let shown = r.run(
            "ip",
            &[
                "-o", "-6", "address", "show", "dev", "left", "scope", "link",
            ],
        );
        let mut words = shown.split_whitespace().skip_while(|w| *w != "inet6");
        let near = words.nth(1).unwrap().split('/').next().unwrap().to_owned();
        let reflecting = r.serve(&agent(), &["reflect"], STAMP);
        let zoned = format!("{near}%right");
        let short = ["--json", "--duration", "500ms", "--timeout", "1s"];
        let measured = a.finish(&agent(), &[&["measure", &zoned][..], &short].concat());
        let (found, _) = findings(measured);
        assert!(found["sessions"][0]["counts"]["answered"].as_u64().unwrap() > 50);
        let traced = a.finish(&agent(), &["trace", &zoned]).success();
        assert!(traced.contains("(reflector)"), "{traced}");
        let refused = a.finish(&agent(), &["measure", &near]).sentence();
        assert!(refused.contains("link-local address"), "{refused}");
        assert!(refused.contains(&format!("{near}%eth0")), "{refused}");
        reflecting.interrupt();

        for target in ["10.0.1.2", "fd00:1::2"] {
            let traced = a.finish(&agent(), &["trace", target]).success();
            assert!(
                traced.contains(&format!("{target}  (reached, nothing listens on the port)")),
                "{traced}"
            );
            assert!(!traced.contains("did not answer"), "{traced}");
        }
        r.nft(
            "table inet refusing {
                chain on_the_way {
                    type filter hook forward priority 0;
                    ip daddr 10.0.1.2 udp dport 99 reject with icmp type admin-prohibited
                    ip6 daddr fd00:1::2 udp dport 99 reject with icmpv6 type admin-prohibited
                }
            }",
        );
        for (target, router, name) in [
            (
                "10.0.1.2:99",
                "10.0.0.2",
                "communication administratively prohibited",
            ),
            ("[fd00:1::2]:99", "fd00::2", "administratively prohibited"),
        ] {
            let traced = a.finish(&agent(), &["trace", target]).success();
            assert_eq!(
                traced.matches(name).count(),
                2,
                "once, and at the end: {traced}"
            );
            assert!(traced.contains(&format!("{router}  ({name})")), "{traced}");
            let end = format!("{router} passes nothing on to the target: {name}\n");
            assert!(traced.ends_with(&end), "{traced}");
            assert_eq!(traced.lines().count(), 4, "{traced}");
        }
    });
}

/// A copy of the agent that carries capabilities, and is started without root's own.
fn with_file_rights(host: &Host, rights: &str, bounding: &str, arguments: &[&str]) -> Running {
    let copy = "/run/scratch/hopgap-agent";
    std::fs::copy(agent(), copy).unwrap();
    host.run("setcap", &[rights, copy]);
    let words = [
        "--securebits",
        "+noroot",
        "--inh-caps",
        "-all",
        "--bounding-set",
        bounding,
        copy,
    ];
    host.start(Path::new("setpriv"), &[&words[..], arguments].concat())
}

#[test]
fn the_program_raises_what_its_file_permits_and_starts_where_nothing_is_permitted() {
    sealed(&[&agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let _reflecting = b.serve(&agent(), &["reflect"], STAMP);
        let readme = include_str!("../../README.md");
        let rights = "cap_net_raw,cap_net_bind_service+p";
        assert!(readme.contains(&format!("setcap {rights} /usr/local/bin/hopgap-agent")));
        assert!(readme.contains("install -g hopgap -m 0750 hopgap-agent /usr/local/bin/"));
        let raw = "without CAP_NET_RAW";

        let traced = with_file_rights(&a, rights, "+all", &["trace", "10.0.0.2"]).finish();
        assert!(!traced.stderr.contains(raw), "{traced:?}");
        assert!(traced.success().contains("(reflector)"));
        // As in a container: the kernel would not start a file with `+ep`.
        let version = with_file_rights(&a, rights, "-all", &["--version"]).finish();
        assert!(version.success().starts_with("hopgap-agent "));
        let traced = with_file_rights(&a, rights, "-all", &["trace", "10.0.0.2"]).finish();
        assert!(traced.stderr.contains(raw), "{traced:?}");
        assert!(traced.success().contains("(reflector)"));
    });
}

#[test]
fn a_measurement_that_fills_its_memory_ends_with_what_it_found() {
    sealed(&[&agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        let _reflecting = b.serve(&agent(), &["reflect"], STAMP);
        let words = "measure 10.0.0.2 --json --interval 1ms --timeout 200ms --duration 60s --max-memory 32MB";
        let words: Vec<&str> = words.split(' ').collect();
        let done = a.finish(&agent(), &words);
        assert!(done.stderr.contains("ended early"), "{done:?}");
        let (found, _) = findings(done);
        let found = Measured(found);
        assert!(found.count("answered") > 100);
        assert!(found.caveats()[0].contains("32 MB of memory hold no more"));
    });
}
