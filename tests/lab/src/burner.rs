//! Busy loops beside the lab: what only holds on a quiet machine does not hold beside them.
//!
//! Each is a process of its own, of this program. It ends when it is told to, when the
//! process that started it is gone, however that went (its standard input ends then), and
//! at last by itself.

use crate::drill::stage::Process;
use anyhow::{Context, Result, ensure};
use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// No burner runs for longer than this.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);
/// Between two looks at the time, in turns of the loop.
const TURNS: u64 = 10_000_000;
/// More processes than this load no machine any more than they do.
const MOST: u32 = 64;

/// Burners that run. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Burners(Vec<(Process, Option<ChildStdin>)>);

impl Burners {
    /// Starts so many, at the ordinary priority.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(count: u32) -> Result<Self> {
        ensure!(count <= MOST, "--burn takes at most {MOST}");
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut burners = Self::default();
        for number in 1..=count {
            let mut command = ordinary(&program);
            command
                .arg("burn")
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            let mut child = command.spawn().context("cannot start a burner")?;
            let lifeline = child.stdin.take();
            let process = Process::of(child, &format!("burner {number}"));
            burners.0.push((process, lifeline));
        }
        Ok(burners)
    }
}

/// Loops until standard input ends, which it does with whoever started this, and for six
/// hours at most.
pub fn burn() {
    let end = Instant::now() + LONGEST;
    std::thread::spawn(|| {
        // Nothing is ever written to it.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut number = 1_u64;
    while Instant::now() < end {
        for _ in 0..TURNS {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) + 1);
        }
    }
}

/// A command that runs `program` at the ordinary priority, where this process has a better
/// one: the test bed is favoured so that its wires keep time, but neither burners nor, beside
/// them, the programs under test. It keeps the process's id.
pub(crate) fn ordinary(program: &Path) -> Command {
    match favour() {
        better if better < 0 => {
            let mut command = Command::new("nice");
            command
                .arg(format!("--adjustment={}", -better))
                .arg(program);
            command
        }
        _ => Command::new(program),
    }
}

/// This process's nice value; 0 where the system does not tell.
fn favour() -> i32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    nice_of(&stat).unwrap_or(0)
}

/// The nice value in the text of `/proc/PID/stat`, whose second field may hold blanks.
fn nice_of(stat: &str) -> Option<i32> {
    // Its 19th field; the third is the first after the name.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(16)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::nice_of;

    #[test]
    fn the_nice_value_is_found_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 100 0 0 0 7 8 0 0 20 -10 3 0 4242";
        assert_eq!(nice_of(&format!("42 (hopgap-lab) {rest}")), Some(-10));
        assert_eq!(nice_of(&format!("42 (a ) b (c) {rest}")), Some(-10));
        assert_eq!(nice_of("42 (short) S 1"), None);
        let own = std::fs::read_to_string("/proc/self/stat").expect("every process has one");
        assert!(nice_of(&own).is_some_and(|nice| (-20..=19).contains(&nice)));
    }
}
