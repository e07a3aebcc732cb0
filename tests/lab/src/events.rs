//! `truth.jsonl`: what happened in the lab, one JSON object per line, each with the
//! time on both clocks. Faults and heals are the lab's own; changes of routes and
//! routing sessions are as the kernel and the daemons tell them.

use crate::error::LabError;
use crate::fault::Fault;
use crate::topology::Node;
use crate::truth::FlowSummary;
use hopgap_net::clock::Clock;
use hopgap_proto::time::{ClockPair, Wall};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A line of `truth.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, on both clocks of the machine, in nanoseconds.
    #[serde(flatten)]
    pub at: ClockPair,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// The lab is up.
    Up {
        /// The tunnel's kind.
        tunnel: String,
    },
    /// A fault began to be made at this instant; it was made within `took_ns`.
    Fault {
        /// Which.
        fault: Fault,
        /// Nanoseconds.
        took_ns: i64,
    },
    /// A fault began to be healed at this instant; it was healed within `took_ns`.
    Heal {
        /// Which.
        fault: Fault,
        /// Nanoseconds.
        took_ns: i64,
    },
    /// The kernel's routing table of a node changed.
    Route {
        /// Where.
        node: String,
        /// As `ip monitor route` says it.
        change: String,
    },
    /// A routing session or a BFD session of a node changed.
    Routing {
        /// Where.
        node: String,
        /// As the daemon says it.
        change: String,
    },
    /// What became of one direction of one flow, found when the run was over; the
    /// time is that of its first packet.
    Flow(Box<FlowSummary>),
    /// The run's own note.
    Note {
        /// Its text.
        text: String,
    },
}

/// Where events are written.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    file: Arc<Mutex<File>>,
    path: PathBuf,
}

impl Events {
    pub(crate) fn create(out: &Path) -> Result<Self, LabError> {
        let path = path(out);
        let file =
            File::create(&path).map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
            path,
        })
    }

    /// Writes one event.
    pub(crate) fn write(&self, at: ClockPair, what: What) -> Result<(), LabError> {
        let failed = || LabError::io(format!("write {}", self.path.display()));
        let mut line =
            serde_json::to_vec(&Event { at, what }).map_err(|error| failed()(error.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(failed())
    }
}

/// The events' file.
pub fn path(out: &Path) -> PathBuf {
    out.join("truth.jsonl")
}

/// Reads the events of a run, in the order of time.
///
/// # Errors
/// [`LabError::Log`] names the line that cannot be read.
pub fn read(out: &Path) -> Result<Vec<Event>, LabError> {
    let path = path(out);
    let text =
        std::fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))?;
    let mut events = Vec::new();
    for (index, line) in text.lines().enumerate() {
        events.push(serde_json::from_str(line).map_err(|error| LabError::Log {
            file: path.clone(),
            line: index + 1,
            what: error.to_string(),
        })?);
    }
    events.sort_by_key(|event: &Event| event.at.mono);
    Ok(events)
}

/// Follows the kernel's routing table of a node.
#[derive(Debug)]
pub(crate) struct RouteMonitor {
    child: Child,
    reader: JoinHandle<Result<(), LabError>>,
}

impl RouteMonitor {
    pub(crate) fn start(
        node: Node,
        namespace: &crate::namespace::Namespace,
        events: Events,
    ) -> Result<Self, LabError> {
        let mut command = Command::new("ip");
        command
            .args(["-ts", "-o", "-4", "monitor", "route"])
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = namespace.spawn(&mut command)?;
        let stdout = child.stdout.take();
        let reader = std::thread::spawn(move || {
            for line in stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines())
            {
                let line = line.map_err(LabError::io("read from ip monitor"))?;
                let (at, change) = stamped(&line, '[', ']');
                // Local and multicast bookkeeping of interfaces is not routing.
                if change.contains("table local") || change.contains("proto kernel") {
                    continue;
                }
                let what = What::Route {
                    node: node.to_string(),
                    change: change.trim().to_owned(),
                };
                events.write(at, what)?;
            }
            Ok(())
        });
        Ok(Self { child, reader })
    }

    pub(crate) fn stop(mut self) -> Result<(), LabError> {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        match self.reader.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Copies what a routing daemon's log says of its sessions.
pub(crate) fn copy_sessions(node: Node, log: &Path, events: &Events) -> Result<(), LabError> {
    let text =
        std::fs::read_to_string(log).map_err(LabError::io(format!("read {}", log.display())))?;
    for line in text.lines() {
        let is_session = [
            "State changed to",
            "Session to",
            "BGP session",
            "Received: ",
            "Error: ",
        ]
        .iter()
        .any(|part| line.contains(part));
        if !is_session || line.contains("device1") || line.contains("kernel1") {
            continue;
        }
        let (at, change) = stamped(line, '\0', '<');
        let change = change.split_once("> ").map_or(change, |(_, rest)| rest);
        let what = What::Routing {
            node: node.to_string(),
            change: change.to_owned(),
        };
        events.write(at, what)?;
    }
    Ok(())
}

/// Splits a line into its time of day in UTC, which ends at `close`, and the rest.
/// A line without one is taken to be of now.
fn stamped(line: &str, open: char, close: char) -> (ClockPair, &str) {
    let now = Clock::pair();
    let parsed = line
        .trim_start_matches(open)
        .split_once(close)
        .and_then(|(time, rest)| {
            let time: DateTime = time.trim().parse().ok()?;
            let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
            let wall = Wall::from_nanos(i64::try_from(time.as_nanosecond()).ok()?);
            Some((wall, rest))
        });
    match parsed {
        Some((wall, rest)) => (
            ClockPair {
                mono: now.mono_of(wall),
                wall,
            },
            rest,
        ),
        None => (now, line),
    }
}

#[cfg(test)]
mod tests {
    use super::stamped;

    #[test]
    fn reads_the_times_of_iproute_and_bird() {
        let (at, rest) = stamped(
            "[2026-11-23T06:22:47.123456] default via 10.0.0.1",
            '[',
            ']',
        );
        assert_eq!(at.wall.as_nanos(), 1_795_414_967_123_456_000);
        assert_eq!(rest, " default via 10.0.0.1");
        let (at, rest) = stamped("2026-11-23 06:22:47.123456 <TRACE> fw: Neighbor", '\0', '<');
        assert_eq!(at.wall.as_nanos(), 1_795_414_967_123_456_000);
        assert_eq!(rest, "TRACE> fw: Neighbor");
    }
}
