//! The agent and a foreign STAMP implementation, stamp-suite, run for real in two
//! network namespaces. What was dropped is counted by nftables, not by either.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends where it fails"
)]

use hopgap_lab::drill::Programs;
use hopgap_lab::setup;
use hopgap_lab::tunnel::Tunnel;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two hosts, a and b, with a link; everything ends with the outer process.
const WORLD: &str = r#"
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
for n in a b; do ip netns add $n; ip -n $n link set lo up; done
ip link add va type veth peer name vb
ip link set va netns a
ip link set vb netns b
ip -n a addr add 10.9.0.1/24 dev va
ip -n b addr add 10.9.0.2/24 dev vb
ip -n a link set va up
ip -n b link set vb up
sleep 1
drop() { # HOST WHAT: drops for a second, then prints how many packets that were
  printf 'table ip t {\n chain c {\n type filter hook input priority 0\n %s counter drop\n }\n}\n' "$2" | ip netns exec $1 nft -f -
  sleep 1
  # First nothing is dropped any more, then the count is read.
  ip netns exec $1 nft insert rule ip t c accept
  ip netns exec $1 nft list ruleset | sed -n 's/.*counter packets \([0-9]*\) .*/\1/p' >> "$COUNTS"
  ip netns exec $1 nft flush ruleset
}
in_a() { ip netns exec a "$@"; }
in_b() { ip netns exec b "$@"; }
"#;

/// stamp-suite, built on the first use.
fn stamp_suite() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let program = root.join("bin/stamp-suite");
    if !program.exists() {
        let status = Command::new(env!("CARGO"))
            .args([
                "install",
                "--quiet",
                "--locked",
                "stamp-suite",
                "--version",
                "1.0.0",
                "--root",
            ])
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("target"))
            .status()
            .unwrap();
        assert!(status.success(), "`cargo install stamp-suite` failed");
    }
    program
}

/// Runs `script` in the world of two hosts, with the programs in variables.
fn in_world(name: &str, script: &str) -> (Output, Vec<u64>) {
    setup::ensure(Tunnel::Vxlan).unwrap();
    let programs = Programs::ready().unwrap();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let counts = dir.join("counts");
    std::fs::write(&counts, "").unwrap();
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("-Ur");
    }
    let output = unshare
        .args([
            "-n",
            "-m",
            "-p",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            "sh",
            "-c",
        ])
        .arg(format!("{WORLD}\n{script}"))
        .current_dir(&dir)
        .env("AGENT", programs.agent())
        .env("SUITE", stamp_suite())
        .env("COUNTS", &counts)
        .output()
        .unwrap();
    let counts = std::fs::read_to_string(&counts).unwrap();
    let counts = counts.lines().map(|l| l.parse().unwrap()).collect();
    (output, counts)
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let err = String::from_utf8_lossy(&output.stderr);
        panic!(
            "{error}: {}\n{err}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

#[test]
fn loss_per_direction_is_exact_against_a_stateful_reflector() {
    let (output, dropped) = in_world(
        "stateful",
        r#"
in_b "$SUITE" -i --stateful-reflector -S 10.9.0.2 -o 862 --session-timeout 0 >/dev/null 2>&1 &
sleep 1
(sleep 2; drop b 'udp dport 862'; sleep 2; drop a 'udp sport 862') &
in_a "$AGENT" measure 10.9.0.2 --flows 4 --duration 9s --trace-interval 0s --json
"#,
    );
    let found = json(&output);
    let session = &found["sessions"][0];
    assert_eq!(session["direction_source"], "reflector_counter");
    let counts = &session["counts"];
    assert!(
        dropped.len() == 2 && dropped.iter().all(|n| *n > 100),
        "{dropped:?}"
    );
    assert_eq!(counts["lost_forward"], dropped[0], "{counts}");
    assert_eq!(counts["lost_reverse"], dropped[1], "{counts}");
    assert_eq!(counts["lost_unknown"], 0, "{counts}");
    for flow in session["flows"].as_array().unwrap() {
        let outages = flow["outages"].as_array().unwrap();
        let directions: Vec<_> = outages
            .iter()
            .map(|o| o["direction"].as_str().unwrap())
            .collect();
        assert_eq!(directions, ["forward", "reverse"], "{flow}");
    }
}

#[test]
fn traceroutes_do_not_disturb_the_peers_counter() {
    let (output, _) = in_world(
        "traced",
        r#"
in_b "$SUITE" -i --stateful-reflector -S 10.9.0.2 -o 862 --session-timeout 0 >/dev/null 2>&1 &
sleep 1
in_a "$AGENT" measure 10.9.0.2 --flows 4 --duration 4s --trace-interval 200ms --json
"#,
    );
    let counts = &json(&output)["sessions"][0]["counts"];
    assert!(counts["answered"].as_u64().unwrap() > 1_000, "{counts}");
    for lost in ["lost_forward", "lost_reverse", "lost_unknown"] {
        assert_eq!(counts[lost], 0, "{counts}");
    }
}

#[test]
fn no_direction_is_claimed_against_a_stateless_reflector() {
    let (output, dropped) = in_world(
        "stateless",
        r#"
in_b "$SUITE" -i -S 10.9.0.2 -o 862 >/dev/null 2>&1 &
sleep 1
(sleep 2; drop b 'udp dport 862') &
in_a "$AGENT" measure 10.9.0.2 --flows 2 --duration 6s --trace-interval 0s --json
"#,
    );
    let found = json(&output);
    let session = &found["sessions"][0];
    assert_eq!(session["direction_source"], "none");
    assert_eq!(session["counts"]["lost_unknown"], dropped[0]);
    assert_eq!(session["counts"]["lost_forward"], 0);
}

#[test]
fn both_authenticate_each_other() {
    let (output, _) = in_world(
        "authenticated",
        r#"
KEY=00112233445566778899aabbccddeeff
umask 077; echo $KEY > key
in_b "$SUITE" -i --stateful-reflector -S 10.9.0.2 -o 862 -A A --hmac-key $KEY >/dev/null 2>&1 &
sleep 1
in_a "$AGENT" measure 10.9.0.2 --flows 2 --duration 2s --key-file key --json
"#,
    );
    let counts = &json(&output)["sessions"][0]["counts"];
    assert_eq!(counts["answered"], counts["sent"], "{counts}");
    assert!(counts["sent"].as_u64().unwrap() > 300, "{counts}");
}

#[test]
fn a_wrong_key_is_one_clear_sentence() {
    let (output, _) = in_world(
        "wrong-key",
        r#"
umask 077; echo 00112233445566778899aabbccddeeff > key; echo ffeeddccbbaa99887766554433221100 > other
in_b "$AGENT" reflect --listen 10.9.0.2:862 --key-file key --duration 6s >/dev/null 2>&1 &
sleep 1
in_a "$AGENT" measure 10.9.0.2 --flows 1 --duration 1s --key-file other
"#,
    );
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.trim().lines().last().unwrap();
    assert!(
        last.starts_with("hopgap-agent: no reply from 10.9.0.2:862:"),
        "{error}"
    );
    assert!(last.contains("same key"), "{error}");
}

#[test]
fn their_sender_is_answered_by_our_reflector() {
    let (output, _) = in_world(
        "sender",
        r#"
KEY=00112233445566778899aabbccddeeff
umask 077; echo $KEY > key
in_b "$AGENT" reflect --listen 10.9.0.2:862 --duration 20s 2>/dev/null &
in_b "$AGENT" reflect --listen 10.9.0.2:863 --key-file key --duration 20s 2>/dev/null &
sleep 1
in_a "$SUITE" -r 10.9.0.2 -c 100 -d 10 -R 2>&1 | grep -c 'rtt='
in_a "$SUITE" -r 10.9.0.2 -p 863 -c 50 -d 10 -R -A A --hmac-key $KEY 2>&1 | grep -c 'rtt='
"#,
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let answered: Vec<&str> = text.lines().collect();
    assert_eq!(
        answered,
        ["100", "50"],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
