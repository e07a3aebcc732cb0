//! What cannot work is said in one sentence that says what to do.

use crate::measured::REFLECTOR;
use crate::programs::program;
use crate::world::{Host, STAMP, World, sealed};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_KEY: &str = "0f0e0d0c0b0a09080706050403020100";

fn agent() -> std::path::PathBuf {
    program("hopgap-agent")
}

fn hosts(world: &World) -> [Host; 3] {
    world.row(["here", "between", "there"])
}

/// With what sentence the agent fails before it has measured anything.
fn refusal(host: &Host, line: &str) -> String {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let finished = host.finish(&agent(), &arguments);
    assert_eq!(finished.stdout, "", "nothing was measured");
    let said = finished.sentence();
    said.strip_prefix("hopgap-agent: ")
        .unwrap_or_else(|| panic!("{said}"))
        .to_owned()
}

#[test]
fn a_port_in_use_is_named_with_the_way_to_its_owner() {
    sealed(&[&agent], |world| {
        let [here, ..] = hosts(world);
        let _taken = [here.socket("10.0.0.1:50003"), here.socket("10.0.0.1:862")];
        let said = |port| {
            format!(
                "UDP 10.0.0.1:{port} is already in use: choose another port, or find its owner \
                 with `ss -lunp 'sport = :{port}'`"
            )
        };
        // Without the option it would take others.
        assert_eq!(
            refusal(&here, "measure 10.0.1.2 --flows 8 --source-port 50000"),
            said(50003)
        );
        assert_eq!(
            refusal(&here, "trace 10.0.1.2 --source-port 50003"),
            said(50003)
        );
        assert_eq!(refusal(&here, "reflect --listen 10.0.0.1:862"), said(862));
    });
}

#[test]
fn an_address_of_another_host_cannot_be_sent_from() {
    sealed(&[&agent], |world| {
        let [here, ..] = hosts(world);
        let said = "10.0.1.2 is not an address of this host: `ip -brief address` lists those \
                    that are";
        assert_eq!(refusal(&here, "measure 10.0.0.2 --source 10.0.1.2"), said);
        assert_eq!(refusal(&here, "trace 10.0.0.2 --source 10.0.1.2"), said);
        assert_eq!(refusal(&here, "reflect --listen 10.0.1.2:862"), said);
        assert_eq!(
            refusal(&here, "measure fd00:1::2 --source 10.0.0.1"),
            "the host `fd00:1::2` has no address of the family of 10.0.0.1; leave out --source \
             or give one of the other family"
        );
    });
}

#[test]
fn a_host_that_is_unknown_or_out_of_reach_is_named() {
    sealed(&[&agent], |world| {
        let [here, ..] = hosts(world);
        for command in ["measure", "trace"] {
            let said = refusal(&here, &format!("{command} nowhere.invalid"));
            assert!(
                said.starts_with("cannot find the host `nowhere.invalid`: "),
                "{said}"
            );
            assert!(said.ends_with("give its name or address, with :PORT unless it is 862"));
            assert_eq!(
                refusal(&here, &format!("{command} 192.0.2.1")),
                "no route to 192.0.2.1:862: Network is unreachable (os error 101); \
                 `ip route get 192.0.2.1` shows what the kernel knows"
            );
        }
    });
}

#[test]
fn a_key_that_cannot_be_used_is_refused_before_anything_is_sent() {
    sealed(&[&agent], |world| {
        use std::os::unix::fs::PermissionsExt as _;
        let [here, ..] = hosts(world);
        let wide = world.file("wide", KEY);
        let everybody = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&wide, everybody).unwrap();
        let files = [
            (
                "wide",
                "the secret file FILE can be read by others; run `chmod 600 FILE`",
            ),
            (
                "empty",
                "the secret file FILE is empty; write the secret into its first line",
            ),
            (
                "words",
                "the key in FILE cannot be used: the key is not hexadecimal: write two digits \
                 0-9 a-f for each byte, without spaces",
            ),
            (
                "short",
                "the key in FILE cannot be used: the key has 2 bytes; use at least 16 \
                 (`openssl rand -hex 32` makes a good one)",
            ),
            (
                "absent",
                "cannot read the secret file FILE: No such file or directory (os error 2)",
            ),
        ];
        world.file("empty", "");
        world.file("words", "correct horse");
        world.file("short", "0011");
        for (name, said) in files {
            let file = wide.with_file_name(name);
            let file = file.to_str().unwrap();
            let said = said.replace("FILE", file);
            assert_eq!(
                refusal(&here, &format!("measure 10.0.1.2 --key-file {file}")),
                said
            );
            assert_eq!(refusal(&here, &format!("reflect --key-file {file}")), said);
        }
    });
}

#[test]
fn options_out_of_range_are_named_with_the_range() {
    sealed(&[&agent], |world| {
        let [here, ..] = hosts(world);
        assert_eq!(
            refusal(&here, "measure 10.0.1.2 --interval 1us"),
            "session `measure`: interval is 1us, but must be 1ms to 10s"
        );
        assert_eq!(
            refusal(&here, "measure 10.0.1.2 --source-port 65530"),
            "session `measure`: source_port is 65530, but must be 1024 to 65535 for every flow"
        );
    });
}

/// What `measure` says of a reflector that answers nothing.
fn no_reply(here: &Host, options: &[&str]) {
    let mut arguments = vec!["measure", REFLECTOR, "--flows", "1", "--duration", "300ms"];
    arguments.extend(["--timeout", "300ms", "--json"]);
    arguments.extend(options);
    let finished = here.finish(&agent(), &arguments);
    let found: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    let counts = &found["sessions"][0]["counts"];
    assert_eq!(counts["answered"], 0, "{counts}");
    assert!(counts["sent"].as_u64().unwrap() > 0, "{counts}");
    assert_eq!(
        counts["lost_unknown"], counts["sent"],
        "nobody knows the direction"
    );
    assert_eq!(
        finished.sentence(),
        "hopgap-agent: no reply from 10.0.1.2:862: check that a STAMP reflector runs there \
         (`hopgap-agent reflect`, or a router's), that UDP to its port and back is let through, \
         and that both ends have the same key"
    );
}

#[test]
fn a_wrong_key_gets_no_answer_and_a_sentence_that_speaks_of_keys() {
    sealed(&[&agent], |world| {
        let [here, _, there] = hosts(world);
        let (key, other) = (world.file("key", KEY), world.file("other", OTHER_KEY));
        let (key, other) = (key.to_str().unwrap(), other.to_str().unwrap());
        let reflect = there.serve(&agent(), &["reflect", "--key-file", key], STAMP);
        no_reply(&here, &["--key-file", other]);
        no_reply(&here, &[]);
        let measure = ["measure", REFLECTOR, "--flows", "1", "--duration", "300ms"];
        let right = here.finish(&agent(), &[&measure[..], &["--key-file", key]].concat());
        assert!(
            right.success().contains("answered"),
            "the right key is answered"
        );
        let told = reflect.interrupt().stderr;
        assert!(!told.contains("did not answer 0 packets"), "{told}");
    });
}

#[test]
fn a_host_without_a_reflector_is_told_from_a_measurement() {
    sealed(&[&agent], |world| {
        let [here, ..] = hosts(world);
        no_reply(&here, &[]);
    });
}
