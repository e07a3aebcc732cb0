//! What was measured: one type per kind of observation, each time with its
//! clock and its source.
//!
//! A record states what one agent saw, not what it concluded. The same probe may be recorded
//! more than once (an unanswered probe whose reply comes late is recorded again as answered;
//! a duplicated reply makes a second answered record): analysis takes the set, in any order.
//!
//! All [`Mono`] times of a record are on the monotonic clock of the agent that
//! made it. [`ClockReading`] events tie that clock to its wall clock.

mod block;
mod event;
mod fault;
mod name;
mod trace;

#[doc(hidden)]
pub use block::synthetic;
pub use block::{
    BLOCK_VERSION, Block, BlockBody, BlockError, BlockHeader, BlockKey, BlockKind, BlockSummary,
    FateKind, MAX_ROWS, ProbeColumns,
};
pub use event::{
    ClockReading, DropReason, EchoError, Event, EventKind, IcmpEvidence, MtuLimit, PathMtu,
    UnfitIcmp,
};
pub use fault::RunFault;
pub use name::{AgentName, FlowIndex, NameError, PathName, RunId, SessionName, TargetName};
pub use trace::{Hop, HopReply, HopReplyKind, Trace};

use crate::stamp::Seq;
use crate::time::{Mono, Span, Wall};
use serde::{Deserialize, Serialize};

/// Where a timestamp was taken. One kind is never passed off as another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum StampSource {
    /// By the kernel, as the packet passed it (`SO_TIMESTAMPING`, software).
    #[default]
    Kernel,
    /// By the network interface's own clock.
    Hardware,
    /// By the program, before its send call or after its receive call.
    User,
}

/// An instant on the recording agent's monotonic clock and how it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The instant.
    pub at: Mono,
    /// Where it was taken.
    pub source: StampSource,
}

/// A Session-Sender's account of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Probe {
    /// Which of the session's flows (5-tuples) it belongs to.
    pub flow: FlowIndex,
    /// Its Session-Sender Sequence Number.
    pub seq: Seq,
    /// When it was actually sent. For a refused probe: when the kernel refused it.
    pub sent: Stamp,
    /// What became of it, as far as the sender knows.
    pub fate: ProbeFate,
}

/// What a Session-Sender knows of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProbeFate {
    /// A reply came, in time or late.
    Answered(Reply),
    /// No reply came within the session's timeout.
    Unanswered,
    /// The kernel refused the send with this `errno`: the probe never left.
    Refused(i32),
}

/// What a Session-Reflector's reply said, and when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reply {
    /// T4: when it arrived, on the sender's clock.
    pub received: Stamp,
    /// T2: when the probe reached the reflector, on the reflector's wall clock.
    pub reflector_received: Wall,
    /// T3: when the reflector sent the reply, on the reflector's wall clock.
    pub reflector_sent: Wall,
    /// The reflector's own Sequence Number; counts receptions where it is stateful.
    pub reflector_seq: Seq,
    /// IP TTL or hop limit of the probe as the reflector received it (sent with 255).
    pub forward_ttl: Option<u8>,
    /// IP TTL or hop limit of the reply as the sender received it.
    pub reverse_ttl: Option<u8>,
}

impl Probe {
    /// Round-trip time without the reflector's residence: (T4 − T1) − (T3 − T2).
    /// Both differences are within one clock each. `None` unless answered.
    pub fn round_trip(&self) -> Option<Span> {
        match self.fate {
            ProbeFate::Answered(reply) => Some(
                (reply.received.at - self.sent.at)
                    - (reply.reflector_sent - reply.reflector_received),
            ),
            ProbeFate::Unanswered | ProbeFate::Refused(_) => None,
        }
    }
}

/// A Session-Reflector's account of one probe that reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reception {
    /// Which of the session's flows it belongs to.
    pub flow: FlowIndex,
    /// The Session-Sender Sequence Number that it carried.
    pub seq: Seq,
    /// When it arrived, on the reflector's clock.
    pub received: Stamp,
    /// IP TTL or hop limit on arrival.
    pub ttl: Option<u8>,
    /// The reflector's own Sequence Number in the reply; `None` where it sent
    /// none (its policy or its kernel refused).
    pub reflector_seq: Option<Seq>,
    /// When the reply left, on the same clock as `received`: the kernel's time if it gave
    /// one, else the program's just before its send call. For a reply that the kernel
    /// refused: when it refused it. `None` where no reply was made, and in records of
    /// versions without this field.
    pub departed: Option<Stamp>,
    /// The kernel refused to send the reply, with this `errno`.
    pub refused: Option<i32>,
}

impl Reception {
    /// How long the packet stayed at the reflector, on the reflector's own clock. `None`
    /// where no departure is on record.
    pub fn residence(&self) -> Option<Span> {
        self.departed.map(|left| left.at - self.received.at)
    }
}

/// One ICMP echo request to a target without an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Echo {
    /// ICMP echo sequence number.
    pub seq: u16,
    /// When the request was sent.
    pub sent: Stamp,
    /// Time to the reply, in user-space times; `None` when none came in time.
    pub round_trip: Option<Span>,
}
