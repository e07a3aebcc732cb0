//! Agents join by a token and speak TLS: from the command line, as the README has it.

use crate::programs::program;
use crate::world::{Host, Running, World, sealed, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const URL: &str = "https://10.0.0.1:8621";
pub(crate) const STORE: &str = "/run/scratch/store";
pub(crate) const PLAN_FILE: &str = "/run/scratch/plan.toml";

fn collector() -> PathBuf {
    program("hopgap-collector")
}

fn agent() -> PathBuf {
    program("hopgap-agent")
}

/// A plan with agents `a` and `b`, and a session each way.
pub(crate) fn plan(settings: &str) -> String {
    let mut text =
        format!("[collector]\nlisten = \"10.0.0.1:8621\"\nstore = \"{STORE}\"\n{settings}\n");
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        text += &format!("\n[[agent]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    for (name, from, to) in [("out", "a", "b"), ("back", "b", "a")] {
        text += &format!(
            "\n[[session]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\ninterval = \"10ms\"\nflows = 2\ntimeout = \"500ms\"\n"
        );
    }
    text
}

/// A collector on host `a`.
pub(crate) fn serve(a: &Host) -> Running {
    let mut serving = a.start(
        Path::new("env"),
        &[
            "HOPGAP_LOG=trace",
            collector().to_str().unwrap(),
            "serve",
            "--plan",
            PLAN_FILE,
        ],
    );
    wait_until("the collector listens", || {
        serving.assert_runs();
        !a.run("ss", &["-Hltn", "sport = :8621"]).is_empty()
    });
    serving
}

/// Runs a command of the collector's program on its host.
fn ask(a: &Host, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').chain(["--plan", PLAN_FILE]).collect();
    a.finish(&collector(), &words).success()
}

pub(crate) fn token(a: &Host, line: &str) -> String {
    let text = ask(a, &format!("token create {line}"));
    assert!(
        text.starts_with("hopgap-join-1-") && text.lines().count() == 1,
        "{text}"
    );
    text.trim_end().to_owned()
}

/// `hopgap-agent join` for the agent `name`, whose `state_dir` is made as for a service.
pub(crate) fn join(
    world: &World,
    host: &Host,
    name: &str,
    token: &str,
    more: &[&str],
) -> crate::world::Finished {
    let state = format!("/run/scratch/{name}");
    std::fs::create_dir_all(&state).unwrap();
    let file = world.file("token", &format!("{token}\n"));
    let program = agent();
    let mut words = vec!["HOPGAP_LOG=trace", program.to_str().unwrap(), "join", URL];
    words.extend([
        "--state-dir",
        &state,
        "--token-file",
        file.to_str().unwrap(),
    ]);
    words.extend(more);
    host.finish(Path::new("env"), &words)
}

pub(crate) fn run(world: &World, host: &Host, state: &str, name: &str) -> Running {
    let config = format!(
        "name = \"{name}\"\ncollector = \"{URL}\"\nstate_dir = \"/run/scratch/{state}\"\nblock = \"1s\"\n"
    );
    let config = world.file(&format!("{name}.toml"), &config);
    host.start(
        Path::new("env"),
        &[
            "HOPGAP_LOG=trace",
            agent().to_str().unwrap(),
            "run",
            "--config",
            config.to_str().unwrap(),
        ],
    )
}

pub(crate) fn status(a: &Host) -> Value {
    // The API has a pace, which whoever waits for something keeps.
    std::thread::sleep(Duration::from_millis(100));
    let told = a.finish(&collector(), &["status", "--json"]).success();
    serde_json::from_str(&told).unwrap()
}

fn blocks(a: &Host, name: &str) -> u64 {
    let status = status(a);
    let agents = status["agents"].as_array().unwrap();
    let agent = agents.iter().find(|agent| agent["name"] == name);
    agent.map_or(0, |agent| agent["blocks"].as_u64().unwrap())
}

fn wait_for_blocks(a: &Host, name: &str, more: u64) {
    let before = blocks(a, name);
    wait_until(&format!("{more} more blocks of {name}"), || {
        blocks(a, name) >= before + more
    });
}

/// The counts of each session over all that was stored, `out` and `back`.
fn counts(a: &Host) -> [Value; 2] {
    let report = [
        "report", "--store", STORE, "--from", "-90s", "--format", "json",
    ];
    let report = a.finish(&collector(), &report).stdout;
    let report: Value = serde_json::from_str(&report).expect("the report is JSON");
    let sessions = report["findings"]["sessions"].as_array().unwrap().clone();
    ["out", "back"].map(|name| {
        let found = sessions.iter().find(|s| s["session"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {report:#}"))["counts"].clone()
    })
}

/// That probes were measured all the time, and none was lost or without an account.
fn assert_unbroken(a: &Host) {
    for counts in counts(a) {
        let n = |key: &str| counts[key].as_u64().unwrap();
        let lost = n("lost_forward") + n("lost_reverse") + n("lost_unknown");
        assert_eq!(lost, 0, "{counts}");
        assert!(n("answered") > 500, "{counts}");
    }
}

/// What the private key in an identity looks like, a line of it.
fn key_of(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/run/scratch/{name}/identity/identity.json"));
    let identity: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let key = identity["key"].as_str().unwrap();
    key.lines().nth(1).unwrap().to_owned()
}

/// The command lines and environments of all processes.
fn processes() -> String {
    let mut seen = String::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let process = entry.unwrap().path();
        for what in ["cmdline", "environ"] {
            // A process may have ended meanwhile; those that are no process have no such file.
            let bytes = std::fs::read(process.join(what)).unwrap_or_default();
            seen.push_str(&String::from_utf8_lossy(&bytes).replace('\0', " "));
            seen.push('\n');
        }
    }
    seen
}

#[test]
fn agents_join_and_deliver_and_no_secret_is_seen_anywhere() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        world.file("plan.toml", &plan(""));
        let serving = serve(&a);
        let tokens = ["a", "b"].map(|name| token(&a, &format!("--agent {name}")));
        let listed = ask(&a, "token list");
        assert_eq!(listed.matches("waits").count(), 2, "{listed}");

        // By standard input, from a pipe that keeps it waiting while we look.
        a.run("mkfifo", &["/run/scratch/fifo"]);
        std::fs::create_dir_all("/run/scratch/a").unwrap();
        let line = format!(
            "{} join {URL} --state-dir /run/scratch/a --token - < /run/scratch/fifo",
            agent().display()
        );
        let joining = a.start(Path::new("sh"), &["-c", &line]);
        let mut pipe = std::fs::File::options()
            .write(true)
            .open("/run/scratch/fifo")
            .unwrap();
        std::io::Write::write_all(&mut pipe, format!("{}\n", tokens[0]).as_bytes()).unwrap();
        let mut seen = processes();
        assert!(seen.contains("--token -"), "{seen}");
        drop(pipe);
        let told = joining.finish().success();
        assert!(told.starts_with("joined as agent `a`; "), "{told}");
        let second = join(world, &b, "b", &tokens[1], &[]);
        let mut said = format!("{told}{}{}", second.stdout, second.stderr);
        second.success();
        let again = join(world, &b, "b", &tokens[1], &[]).success();
        assert!(
            again.starts_with("this host joined already, as agent `b`"),
            "{again}"
        );

        let agents = [run(world, &a, "a", "a"), run(world, &b, "b", "b")];
        // An agent tells of itself in blocks of their own, beside those of its records.
        wait_for_blocks(&a, "a", 8);
        wait_for_blocks(&a, "b", 8);
        seen += &processes();
        let listed = ask(&a, "agent list");
        assert_eq!(listed.matches(" valid ").count(), 2, "{listed}");
        // A token for a name that a host has already tells whom it would shut out.
        for (name, told) in [("a", true), ("c", false)] {
            let words = format!("token create --agent {name} --store {STORE}");
            let words: Vec<&str> = words.split(' ').collect();
            let made = a.finish(&collector(), &words);
            let warned = made
                .stderr
                .contains(&format!("a host has joined as `{name}`"));
            assert_eq!(warned, told, "{made:?}");
            made.success();
        }
        let keys = ["a", "b"].map(key_of);
        for ended in agents.map(Running::interrupt) {
            said += &format!("{}{}", ended.stdout, ended.stderr);
        }
        let ended = serving.interrupt();
        said += &format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("agent `b` joined from 10.0.0.2"), "{said}");
        for secret in tokens
            .iter()
            .map(|t| &t["hopgap-join-1-".len() + 16..])
            .chain(keys.iter().map(String::as_str))
        {
            let part = &secret[..32];
            assert!(!said.contains(part), "a secret in what was said");
            assert!(!seen.contains(part), "a secret in /proc");
        }
        assert_unbroken(&a);
    });
}

#[test]
fn whoever_should_not_join_does_not() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        world.file("plan.toml", &plan(""));
        let serving = serve(&a);
        let sentence = |token: &str| join(world, &b, "b", token, &[]).sentence();
        let good = token(&a, "--agent b");

        let openly = b
            .finish(&agent(), &["join", URL, "--token", &good])
            .sentence();
        assert!(openly.contains("seen by everyone on this host"), "{openly}");
        assert!(!openly.contains(&good[20..40]), "{openly}");
        let damaged = good.replace("hopgap-join-1-", "hopgap-join-1-0");
        assert!(sentence(&damaged[..damaged.len() - 1]).contains("was changed on its way"));
        let typo = a
            .finish(
                &collector(),
                &["token", "create", "--agent", "moon", "--plan", PLAN_FILE],
            )
            .sentence();
        assert!(typo.contains("has no agent `moon`"), "{typo}");

        let short = token(&a, "--agent b --expires 1s");
        std::thread::sleep(Duration::from_millis(1100));
        assert!(sentence(&short).contains("has expired; make another"));
        let revoked = token(&a, "--agent b");
        let id = &revoked["hopgap-join-1-".len()..][..16];
        ask(&a, &format!("token revoke {id}"));
        assert!(sentence(&revoked).contains("was revoked; make another"));

        // Someone between, with an authority of his own and the same addresses.
        serving.interrupt().success();
        std::fs::rename(STORE, "/run/scratch/real").unwrap();
        let pretending = serve(&a);
        let told = sentence(&good);
        assert!(
            told.contains("its certificate is not of the collector that this agent trusts"),
            "{told}"
        );
        assert_eq!(
            status(&a)["tls"]["unknown_tokens"],
            0,
            "he never saw the token"
        );
        pretending.interrupt().success();
        std::fs::remove_dir_all(STORE).unwrap();
        std::fs::rename("/run/scratch/real", STORE).unwrap();
        let serving = serve(&a);

        // After all that the token is as good as new; and then it is used.
        join(world, &b, "b", &good, &[]).success();
        let used = join(world, &b, "other", &good, &[]).sentence();
        assert!(
            used.contains("this join token for agent `b` was used already"),
            "{used}"
        );

        // Its certificate is `b`'s, whatever its configuration says.
        let liar = run(world, &b, "b", "a");
        let refused = |what: &str| {
            let refusals = status(&a)["refusals"].to_string();
            refusals.contains(what)
        };
        wait_until("it is turned away", || {
            refused("the certificate is of agent `b`, but the request of `a`")
        });
        liar.interrupt();
        drop(serving);
    });
}

#[test]
fn a_name_that_the_collector_learns_is_in_its_certificate_without_a_restart() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        // What a name server would say.
        let hosts = world.file("hosts", "10.0.0.1 collector.example\n");
        a.run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
        world.file("plan.toml", &plan(""));
        let _serving = serve(&a);
        let token = token(&a, "--agent b");
        let file = world.file("token", &token);
        std::fs::create_dir("/run/scratch/b").unwrap();
        let join = || {
            let url = "https://collector.example:8621";
            let words = ["join", url, "--state-dir", "/run/scratch/b", "--token-file"];
            b.finish(&agent(), &[&words[..], &[file.to_str().unwrap()]].concat())
        };
        let unknown = join().sentence();
        assert!(
            unknown.ends_with("add the one in the URL to `names` under [collector] in its plan"),
            "{unknown}"
        );
        world.file("plan.toml", &plan("names = [\"collector.example\"]"));
        wait_until("the certificate has the name", || join().code == Some(0));
    });
}

#[test]
fn an_agent_that_cannot_prove_itself_says_what_to_run() {
    sealed(&[&collector, &agent], |world| {
        use std::os::unix::fs::PermissionsExt as _;
        let [a, b] = world.row(["a", "b"]);
        world.file("plan.toml", &plan(""));
        let _serving = serve(&a);
        let fails = || {
            let ended = run(world, &b, "b", "b").finish();
            assert_eq!(ended.code, Some(1), "{ended:?}");
            ended.stderr
        };
        assert!(fails().contains("`hopgap-agent join URL --token -`"));
        join(world, &b, "b", &token(&a, "--agent b"), &[]).success();
        let file = "/run/scratch/b/identity/identity.json";
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(fails().contains(&format!("run `chmod 600 {file}`")));

        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();

        // One that has expired goes on measuring, and says what would let it deliver.
        let mut text = std::fs::read_to_string(PLAN_FILE).unwrap();
        text = text.replace("[collector]", "[collector]\ncertificate_life = \"10s\"");
        world.file("plan.toml", &text);
        std::thread::sleep(Duration::from_secs(2));
        let again = token(&a, "--agent b");
        join(world, &b, "b", &again, &["--again"]).success();
        std::thread::sleep(Duration::from_secs(11));
        let late = run(world, &b, "b", "b");
        std::thread::sleep(Duration::from_secs(2));
        let said = late.interrupt();
        assert_eq!(said.code, Some(0), "{said:?}");
        let remedy = "this agent's certificate has expired; let it join again";
        assert!(said.stderr.contains(remedy), "{said:?}");

        // The collector's own key, too.
        let key = format!("{STORE}/identity/authority.pem");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        let list = ["agent", "list", "--store", STORE];
        let refused = a.finish(&collector(), &list).sentence();
        assert!(
            refused.contains(&format!("run `chmod 0600 {key}`")),
            "{refused}"
        );
    });
}

#[test]
fn certificates_change_while_probes_flow_and_a_revoked_agent_comes_back() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        world.file("plan.toml", &plan("certificate_life = \"12s\""));
        let _serving = serve(&a);
        for (host, name) in [(&a, "a"), (&b, "b")] {
            let token = token(&a, &format!("--agent {name}"));
            join(world, host, name, &token, &[]).success();
        }
        let first = key_of("b");
        let agents = [run(world, &a, "a", "a"), run(world, &b, "b", "b")];
        // Longer than a certificate lives, so that only a renewed one still delivers.
        std::thread::sleep(Duration::from_secs(16));
        wait_for_blocks(&a, "a", 2);
        wait_for_blocks(&a, "b", 2);
        assert_ne!(key_of("b"), first, "with a new key");

        ask(&a, "agent revoke b");
        wait_until("b is turned away", || {
            let refusals = status(&a)["refusals"].to_string();
            refusals.contains("the certificate of agent `b` was revoked")
        });
        let at = blocks(&a, "b");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(blocks(&a, "b"), at, "nothing of it is taken");
        // It joins again while it runs, and delivers what it measured meanwhile.
        let token = token(&a, "--agent b");
        join(world, &b, "b", &token, &["--again"]).success();
        wait_for_blocks(&a, "b", 3);
        for agent in agents {
            let ended = agent.interrupt();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert!(
                ended.stderr.contains("the certificate is renewed"),
                "{ended:?}"
            );
        }
        assert_unbroken(&a);
    });
}

#[test]
fn a_renamed_agent_keeps_its_certificate_and_its_history() {
    sealed(&[&collector, &agent], |world| {
        let [a, b] = world.row(["a", "b"]);
        world.file("plan.toml", &plan(""));
        let _serving = serve(&a);
        for (host, name) in [(&a, "a"), (&b, "b")] {
            let token = token(&a, &format!("--agent {name}"));
            join(world, host, name, &token, &[]).success();
        }
        let keeps = run(world, &a, "a", "a");
        let before = run(world, &b, "b", "b");
        wait_for_blocks(&a, "b", 3);
        let serial = |name: &str| {
            let listed = ask(&a, "agent list");
            let row = listed.lines().find(|l| l.starts_with(&format!("{name} ")));
            let row = row.unwrap_or_else(|| panic!("no {name} in {listed}"));
            row.split_whitespace().nth(1).unwrap().to_owned()
        };
        let had = serial("b");
        let told = ask(&a, "agent rename b dc2");
        assert!(told.contains("write `dc2` for `b` into the plan"), "{told}");
        let new = plan("").replace("\"b\"", "\"dc2\"");
        world.file("plan.toml", &new);
        // It still runs as `b`: what it delivers is of dc2.
        wait_for_blocks(&a, "dc2", 3);
        before.interrupt().success();
        let after = run(world, &b, "b", "dc2");
        wait_for_blocks(&a, "dc2", 3);
        assert_eq!(serial("dc2"), had, "the same certificate");
        after.interrupt().success();
        keeps.interrupt().success();
        assert_eq!(blocks(&a, "b"), 0);
        // The whole time is one history, under the new name.
        for counts in counts(&a) {
            assert!(counts["answered"].as_u64().unwrap() > 500, "{counts}");
        }
        let report = ["report", "--store", STORE, "--from", "-90s"];
        let text = a.finish(&collector(), &report).stdout;
        assert!(text.contains("dc2"), "{text}");
        assert!(!text.contains("`b`"), "{text}");
    });
}
