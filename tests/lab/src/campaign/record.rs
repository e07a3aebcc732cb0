//! What is known of a run besides the wire's logs.

use super::clock::HostClock;
use super::program::Program;
use super::scenario::Host;
use super::world::side_of;
use hopgap_proto::time::{Mono, Span};
use serde::{Deserialize, Serialize};

/// What is known of a run besides the wire's logs, in `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The scenario's name; its text is in `scenario.toml`.
    pub(super) scenario: String,
    /// The seed of this run.
    pub(super) seed: u64,
    /// When the program began, on the monotonic clock in nanoseconds.
    pub(super) begin_ns: i64,
    /// The wall clock minus the monotonic clock.
    pub(super) wall_minus_mono_ns: i64,
    /// What happened.
    pub(super) program: Program,
    /// When agents did not run.
    #[serde(default)]
    pub(super) downs: Vec<Down>,
    /// When the drill was started and stopped, which is the question that the report
    /// answers; `None` in records of before this was kept.
    #[serde(default)]
    pub(super) asked: Option<[Told; 2]>,
    /// When hosts had no route.
    #[serde(default)]
    pub(super) no_routes: Vec<NoRoute>,
    /// The clocks of `b`, where they are not the machine's.
    #[serde(default)]
    pub(super) clock: Option<HostClock>,
}

/// When an agent did not run, counted from the beginning of the program.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Down {
    /// When it was told to end, or was killed.
    pub(super) from: Span,
    /// When the next one was started; its orderly end may have taken long.
    pub(super) until: Span,
    /// Whether it was killed.
    pub(super) killed: bool,
    /// Whose agent; `None` in records of before this was kept.
    #[serde(default)]
    pub(super) side: Option<usize>,
}

/// An instant between two readings of the monotonic clock: before a command was given and
/// after it had returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Not before, in nanoseconds.
    pub(super) earliest_ns: i64,
    /// Not after, in nanoseconds.
    pub(super) latest_ns: i64,
}

/// When a host had no route to the other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct NoRoute {
    /// Which host.
    pub(super) side: usize,
    /// When its route was taken away.
    pub(super) from: Told,
    /// When it was given back; `None` to the end.
    pub(super) until: Option<Told>,
}

impl Record {
    /// When the program began.
    pub(super) fn begin(&self) -> Mono {
        Mono::from_nanos(self.begin_ns)
    }

    /// The clocks of the host on this side, where they are not the machine's.
    pub(super) fn clock_of(&self, side: usize) -> Option<&HostClock> {
        self.clock.as_ref().filter(|_| side == side_of(Host::B))
    }
}
