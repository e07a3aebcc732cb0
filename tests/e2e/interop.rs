//! hopgap and stamp-suite measure each other: one RFC, two implementations.

use crate::measured::{Measured, Mode, Pair, REFLECTOR};
use crate::programs::{program, stamp_suite};
use crate::world::{Running, STAMP, World, sealed};

/// Thirty-two octets.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn agent() -> std::path::PathBuf {
    program("hopgap-agent")
}

fn their_reflector(pair: &Pair, options: &[&str]) -> Running {
    let mut arguments = vec!["-i", "-S", REFLECTOR, "-o", "862", "--session-timeout", "0"];
    arguments.extend(options);
    pair.reflector.serve(&stamp_suite(), &arguments, STAMP)
}

/// Loses packets one way, then the other, and compares with what was counted.
fn losses_are_found(world: &World, mode: Mode, reflector: &[&str], options: &[&str]) {
    let pair = Pair::new(world, mode);
    let _reflector = their_reflector(&pair, reflector);
    let mut all = vec![
        "--flows",
        "2",
        "--interval",
        "10ms",
        "--trace-interval",
        "100ms",
    ];
    all.extend(options);
    let measure = pair.measure(&all);
    pair.answers(60);
    pair.lose_forward(80);
    pair.answers(60);
    pair.lose_reverse(80);
    pair.answers(60);
    let found = Measured::of(&measure.interrupt().success());

    assert_eq!(found.count("sent"), pair.sender.counter("probes"));
    assert_eq!(found.count("answered"), pair.sender.counter("replies"));
    assert_eq!(
        found.count("lost_forward"),
        pair.reflector.counter("dropped")
    );
    assert_eq!(found.count("lost_reverse"), pair.sender.counter("dropped"));
    for none in [
        "lost_unknown",
        "late",
        "no_data",
        "pending",
        "refused",
        "duplicated",
    ] {
        assert_eq!(found.count(none), 0, "{none}");
    }
    assert_eq!(
        found.outages(),
        [["forward", "reverse"], ["forward", "reverse"]]
    );
    assert_eq!(found.direction_source(), "reflector_counter");
    assert!(
        pair.sender.counter("traces") > 20,
        "traceroutes ran all the time"
    );
    // Its TTLs say how far it is, both ways, for as long as the route stays the same.
    for flow in found.flows() {
        for way in ["forward_paths", "reverse_paths"] {
            let epochs = flow[way].as_array().unwrap();
            assert_eq!(epochs.len(), 1, "{flow}");
            assert_eq!(epochs[0]["target_at_hop"], 2, "{flow}");
        }
        let hops = serde_json::json!(["10.0.0.2", REFLECTOR]);
        assert_eq!(flow["forward_paths"][0]["hops"], hops, "{flow}");
    }
}

#[test]
fn losses_to_and_from_their_stateful_reflector_are_told_apart_to_the_packet() {
    sealed(&[&agent, &stamp_suite], |world| {
        losses_are_found(world, Mode::Open, &["--stateful-reflector"], &[]);
    });
}

/// Its counter says how many of a run were lost each way, and nothing says which.
#[test]
fn where_both_ways_of_their_stateful_reflector_lose_the_counts_are_right_and_the_place_unknown() {
    sealed(&[&agent, &stamp_suite], |world| {
        let pair = Pair::new(world, Mode::Open);
        let _reflector = their_reflector(&pair, &["--stateful-reflector"]);
        let measure = pair.measure(&["--flows", "2", "--interval", "10ms"]);
        pair.answers(60);
        pair.lose_one_way_then_the_other(40);
        pair.answers(60);
        let found = Measured::of(&measure.interrupt().success());

        assert_eq!(found.count("sent"), pair.sender.counter("probes"));
        assert_eq!(found.count("answered"), pair.sender.counter("replies"));
        let there = pair.reflector.counter("dropped");
        let back = pair.sender.counter("dropped");
        assert!(there >= 40 && back >= 40);
        assert_eq!(found.count("lost_forward"), there);
        assert_eq!(found.count("lost_reverse"), back);
        assert_eq!(found.count("lost_unknown"), 0);
        assert_eq!(found.outages(), [["unknown"], ["unknown"]]);
    });
}

#[test]
fn losses_are_told_apart_in_authenticated_mode_too() {
    sealed(&[&agent, &stamp_suite], |world| {
        let file = world.file("key", KEY);
        losses_are_found(
            world,
            Mode::Authenticated,
            &["--stateful-reflector", "-A", "A", "--hmac-key", KEY],
            &["--key-file", file.to_str().unwrap()],
        );
    });
}

#[test]
fn their_stateless_reflector_gives_no_loss_a_direction() {
    sealed(&[&agent, &stamp_suite], |world| {
        let pair = Pair::new(world, Mode::Open);
        let _reflector = their_reflector(&pair, &[]);
        let measure = pair.measure(&["--flows", "2", "--trace-interval", "100ms"]);
        pair.answers(60);
        pair.lose_forward(40);
        pair.answers(60);
        pair.lose_reverse(40);
        pair.answers(60);
        let found = Measured::of(&measure.interrupt().success());
        let dropped = pair.sender.counter("dropped") + pair.reflector.counter("dropped");
        assert_eq!(found.count("lost_unknown"), dropped);
        assert_eq!(found.count("lost_forward"), 0);
        assert_eq!(found.count("lost_reverse"), 0);
        assert_eq!(found.direction_source(), "none");
        assert_eq!(
            found.outages(),
            [["unknown", "unknown"], ["unknown", "unknown"]]
        );
    });
}

/// Their sender's own count of what our reflector answered.
fn their_sender_loses_nothing(world: &World, ours: &[&str], theirs: &[&str]) {
    let [sender, reflector] = world.row(["sender", "reflector"]);
    let mut arguments = vec!["reflect", "--listen", "10.0.0.2:862"];
    arguments.extend(ours);
    let reflect = reflector.serve(&agent(), &arguments, STAMP);
    let mut arguments = vec!["-r", "10.0.0.2", "-c", "200", "-d", "5", "-L", "1"];
    arguments.extend(["--output-format", "json", "--ssid", "7"]);
    arguments.extend(theirs);
    let said = sender.finish(&stamp_suite(), &arguments).success();
    let summary: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(summary["packets_sent"], 200, "{said}");
    assert_eq!(summary["packets_received"], 200, "{said}");
    assert_eq!(summary["packets_lost"], 0, "{said}");
    let told = reflect.interrupt().stderr;
    assert!(told.contains("answered 200 probes"), "{told}");
    assert!(told.contains("did not answer 0 packets"), "{told}");
}

#[test]
fn our_reflector_answers_every_probe_of_their_sender() {
    sealed(&[&agent, &stamp_suite], |world| {
        their_sender_loses_nothing(world, &[], &[]);
    });
}

#[test]
fn our_reflector_answers_every_authenticated_probe_of_their_sender() {
    sealed(&[&agent, &stamp_suite], |world| {
        let file = world.file("key", KEY);
        their_sender_loses_nothing(
            world,
            &["--key-file", file.to_str().unwrap()],
            &["-A", "A", "--hmac-key", KEY],
        );
    });
}

/// The extensions that both know, in one session (RFC 8972): theirs asks, ours answers,
/// and theirs says what it thinks of each.
fn their_sender_reads_our_extensions(world: &World, ours: &[&str], theirs: &[&str], hmac: u64) {
    let [sender, reflector] = world.row(["sender", "reflector"]);
    let mut arguments = vec!["reflect", "--listen", "10.0.0.2:862"];
    arguments.extend(ours);
    let _reflect = reflector.serve(&agent(), &arguments, STAMP);
    let mut arguments = vec!["-r", "10.0.0.2", "-c", "50", "-d", "5", "-L", "1"];
    arguments.extend(["--output-format", "json", "--ssid", "7"]);
    arguments.extend(["--cos", "--dscp", "10", "--timestamp-info", "--location"]);
    arguments.extend(["--direct-measurement", "--follow-up-telemetry"]);
    arguments.extend(["--access-report", "1", "--extra-padding", "64"]);
    arguments.extend(theirs);
    let said = sender.finish(&stamp_suite(), &arguments).success();
    let summary: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(summary["packets_received"], 50, "{said}");
    let tlvs = &summary["measurements"]["tlv_validation"];
    assert_eq!(tlvs["rejected_replies"], 0, "{tlvs:#}");
    assert_eq!(tlvs["hmac"]["verified"], hmac, "{tlvs:#}");
    assert_eq!(tlvs["hmac"]["failed"], 0, "{tlvs:#}");
    let types = tlvs["by_type"].as_object().unwrap();
    // Location, Class of Service, Direct Measurement, Access Report and Follow-Up
    // Telemetry are answered; Timestamp Information comes back as one that is not known.
    for (kind, unrecognized) in [("2", 0), ("3", 50), ("4", 0), ("5", 0), ("6", 0), ("7", 0)] {
        let flags = &types[kind]["flags"];
        assert_eq!(flags["unrecognized"], unrecognized, "{kind}: {tlvs:#}");
        assert_eq!(flags["malformed"], 0, "{kind}: {tlvs:#}");
        assert_eq!(flags["integrity_failed"], 0, "{kind}: {tlvs:#}");
    }
}

#[test]
fn their_sender_reads_our_answers_to_its_extensions() {
    sealed(&[&agent, &stamp_suite], |world| {
        their_sender_reads_our_extensions(world, &[], &[], 0);
    });
}

#[test]
fn their_sender_verifies_our_answers_to_its_extensions() {
    sealed(&[&agent, &stamp_suite], |world| {
        let file = world.file("key", KEY);
        their_sender_reads_our_extensions(
            world,
            &["--key-file", file.to_str().unwrap()],
            &["-A", "A", "--hmac-key", KEY, "--verify-tlv-hmac"],
            50,
        );
    });
}
