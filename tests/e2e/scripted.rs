//! The agent in a script: exit codes, pipes and logs.

use crate::measured::{Measured, Mode, Pair, REFLECTOR};
use crate::programs::program;
use crate::world::{STAMP, sealed};
use std::path::{Path, PathBuf};

fn agent() -> PathBuf {
    program("hopgap-agent")
}

#[test]
fn a_missed_objective_is_told_by_the_exit_code() {
    sealed(&[&agent], |world| {
        let pair = Pair::new(world, Mode::Open);
        let _reflect = pair.reflector.serve(&agent(), &["reflect"], STAMP);
        let measure = pair.measure(&["--flows", "1", "--objective", "50ms"]);
        pair.answers(20);
        pair.lose_forward(30);
        pair.answers(20);
        let missed = measure.interrupt();
        assert_eq!(missed.code, Some(3), "{missed:?}");
        let found = Measured::of(&missed.stdout);
        assert_eq!(found.0["verdict"]["result"], "missed");

        let measure = pair.measure(&["--flows", "1"]);
        pair.answers(20);
        let met = measure.interrupt().success();
        assert_eq!(Measured::of(&met).0["verdict"]["result"], "met");
        let wrong = pair
            .sender
            .finish(&agent(), &["measure", "h", "--interval", "10"]);
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
    });
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_trace_quietly() {
    sealed(&[&agent], |world| {
        let [here, _, there] = world.row(["here", "between", "there"]);
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let endless = format!(
            "{} trace --json --count 0 --interval 100ms {REFLECTOR} | head -n 1; \
             echo \"$?${{PIPESTATUS[0]}}\"",
            agent().display()
        );
        let done = here.finish(Path::new("bash"), &["-c", &endless]);
        assert_eq!(done.stderr, "", "{done:?}");
        assert!(done.stdout.ends_with("}\n00\n"), "{done:?}");
    });
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    sealed(&[&agent], |world| {
        let [here, ..] = world.row(["here", "between", "there"]);
        let config = world.file(
            "agent.toml",
            "name = \"here\"\ncollector = \"http://127.0.0.1:8620\"\nstate_dir = \"/run/state\"\n",
        );
        let running = here.start(&agent(), &["run", "--config", config.to_str().unwrap()]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        let ended = running.interrupt();
        assert!(ended.stderr.contains("agent here begins"), "{ended:?}");
        assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
    });
}

#[test]
fn the_way_back_is_named_where_a_path_is_given_its_hop() {
    sealed(&[&agent], |world| {
        let [here, _, there] = world.row(["here", "between", "there"]);
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let by_address = "--path direct=10.0.0.2";
        let measure = |paths: &str| {
            let line = format!(
                "measure {REFLECTOR} --flows 1 --duration 2s --trace-interval 200ms {paths}"
            );
            let words: Vec<&str> = line.split_whitespace().collect();
            here.finish(&agent(), &words).success()
        };
        let told = measure(by_address);
        let hint = "the way back is named by its hop count alone: give `--path direct=hop:2`";
        assert!(told.contains(hint), "{told}");

        let both = format!("{by_address} --path direct=hop:2");
        let told = measure(&both);
        assert!(!told.contains("hop count alone"), "{told}");
        let found = Measured::of(&measure(&format!("{both} --json")));
        for way in ["forward_paths", "reverse_paths"] {
            assert_eq!(found.flows()[0][way][0]["path"], "direct", "{way}");
        }
    });
}
