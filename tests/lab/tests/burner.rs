//! Burners end with whoever started them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_burner_burns_until_its_starter_is_gone() {
    let mut burner = Command::new(env!("CARGO_BIN_EXE_hopgap-lab"))
        .arg("burn")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stat = format!("/proc/{}/stat", burner.id());
    // Its user time, in hundredths of a second.
    let used = || -> u64 {
        let stat = std::fs::read_to_string(&stat).unwrap();
        let (_, after) = stat.rsplit_once(')').unwrap();
        after.split_whitespace().nth(11).unwrap().parse().unwrap()
    };
    let begun = Instant::now();
    while used() < 5 {
        assert!(burner.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not burn"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // As the kernel does when the starter goes, by whatever signal.
    drop(burner.stdin.take());
    let begun = Instant::now();
    while burner.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            burner.kill().unwrap();
            panic!("it goes on burning");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
