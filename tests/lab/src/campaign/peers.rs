//! What people use today, beside hopgap: in the same run, over the same wire, around each
//! outage, each in the way its users do.
//!
//! | program | started | the outage's length, by it | its direction |
//! |---|---|---|---|
//! | `fping -l -o -p 10 -t 1000 b` | [`LEAD`] before, Ctrl-C [`TAIL`] after | `outage(ms)` of its last line | not told |
//! | `irtt client -i 10ms b` | the same | from the first lost send of the longest loss to the next answered, in its JSON | the larger of upstream and downstream loss of its summary |
//! | `ping -D -O -n -i 0.01 b` | the same | between the stamps of the two answers around the longest gap, less one interval | not told |
//! | `mtr -n -r -j -i 0.1 b` | the same, ended by its `-c` | lost of the last hop, times the interval | not told |
//!
//! The interval is 10 ms as hopgap's here, but for mtr, which asks each hop in turn and takes
//! no less than 100 ms in practice. hopgap runs all the time, as it is meant to.

mod compare;
mod output;
mod table;

pub(super) use compare::{Compared, DIR, Told, compare, told};
pub(super) use table::PeerTable;

use super::program::{Act, Program};
use super::scenario::Way;
use super::world::World;
use crate::drill::stage::Process;
use anyhow::{Context, Result};
use hopgap_proto::time::Span;
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// From their start to the outage's.
pub(super) const LEAD: Span = Span::from_millis(1_000);
/// From the outage's end to theirs.
pub(super) const TAIL: Span = Span::from_millis(1_500);
/// Time between two packets.
pub(super) const INTERVAL: Span = Span::from_millis(10);
/// The same of mtr.
pub(super) const MTR_INTERVAL: Span = Span::from_millis(100);
/// The last of them ends by itself within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that people measure outages with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Peer {
    Fping,
    Irtt,
    Ping,
    Mtr,
}

impl Peer {
    /// All.
    pub(super) const ALL: [Self; 4] = [Self::Fping, Self::Irtt, Self::Ping, Self::Mtr];

    /// How its users start it.
    fn command(self, target: &str, lasts: Span, json: &Path) -> Command {
        let program = match self {
            Self::Fping => "fping",
            Self::Irtt => "irtt",
            Self::Ping => "ping",
            Self::Mtr => "mtr",
        };
        let mut command = Command::new(program);
        match self {
            // Without `-t` it waits no longer than `-p`, and loses all on a longer path.
            Self::Fping => drop(command.args(["-l", "-o", "-p", "10", "-t", "1000"])),
            Self::Irtt => {
                command.args(["client", "-i", "10ms", "-d", "1h", "-q", "-o"]);
                command.arg(json);
            }
            Self::Ping => drop(command.args(["-D", "-O", "-n", "-i", "0.01"])),
            Self::Mtr => {
                let cycles = (lasts + LEAD + TAIL).as_nanos() / MTR_INTERVAL.as_nanos();
                command.args(["-n", "-r", "-j", "-i", "0.1", "-G", "1", "-c"]);
                command.arg(cycles.to_string());
            }
        }
        command.arg(target);
        command
    }

    /// Its name in tables and of its files.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fping => "fping",
            Self::Irtt => "irtt",
            Self::Ping => "ping",
            Self::Mtr => "mtr",
        }
    }
}

/// An outage that the program makes: everything of one direction is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// From the beginning of the measurement.
    pub(super) from: Span,
    /// The same.
    pub(super) until: Span,
    /// Which way.
    pub(super) way: Way,
}

/// All outages of a program, in the order of time.
pub(super) fn cuts(program: &Program) -> Vec<Cut> {
    let drops = program.steps.iter().filter(|s| s.act == Act::Drop);
    drops
        .filter_map(|step| {
            Some(Cut {
                from: step.from,
                until: step.until?,
                way: step.way,
            })
        })
        .collect()
}

/// The peers of one run.
#[derive(Debug, Default)]
pub(super) struct Peers {
    server: Option<Process>,
    running: Vec<(Peer, Process)>,
    ending: Vec<Process>,
}

impl Peers {
    /// Starts what must be there before any client is: the server of irtt.
    pub(super) fn start(world: &World) -> Result<Self> {
        let mut command = Command::new("irtt");
        command.args(["server", "-b", &world.address(1)]);
        Ok(Self {
            server: Some(world.measure(1, command, "irtt-server")?),
            ..Self::default()
        })
    }

    /// Starts all for this outage.
    pub(super) fn begin(&mut self, world: &World, number: usize, lasts: Span) -> Result<()> {
        for peer in Peer::ALL {
            let name = file(number, peer);
            let json = world.measured(&format!("{name}.json"));
            let command = peer.command(&world.address(1), lasts, &json);
            let process = world.measure(0, command, &name)?;
            self.running.push((peer, process));
        }
        Ok(())
    }

    /// Ends them as their users do, by Ctrl-C; mtr ends by itself.
    pub(super) fn end(&mut self) {
        for (peer, process) in self.running.drain(..) {
            if peer != Peer::Mtr {
                process.signal(Signal::SIGINT);
            }
            self.ending.push(process);
        }
    }

    /// Waits until all have ended.
    pub(super) fn finish(mut self) -> Result<()> {
        self.end();
        let start = Instant::now();
        while self.ending.iter_mut().any(|process| !process.has_ended()) {
            if start.elapsed() > PATIENCE {
                anyhow::bail!("a peer did not end within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(
            self.server
                .take()
                .context("the server of irtt was not started")?,
        );
        Ok(())
    }
}

/// The file, without its ending, of what `peer` says of outage `number`.
fn file(number: usize, peer: Peer) -> String {
    format!("{number:03}-{}", peer.name())
}

/// What tells the version of each, for who publishes the table.
pub(super) fn versions() -> Vec<String> {
    let of = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().next()?.trim().to_owned();
        Some(line)
    };
    [
        ("fping", &["--version"][..]),
        ("irtt", &["version"]),
        ("ping", &["-V"]),
        ("mtr", &["--version"]),
    ]
    .into_iter()
    .map(|(program, arguments)| match of(program, arguments) {
        Some(line) if line.starts_with(program) => line,
        Some(line) => format!("{program}: {line}"),
        None => format!("{program}: unknown version"),
    })
    .collect()
}
