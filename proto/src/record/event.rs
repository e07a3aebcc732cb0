//! What happened to the measurement itself, and evidence from the network.

use super::{FlowIndex, RunFault, TargetName};
use crate::stamp::Seq;
use crate::time::{ClockPair, Mono, Span, Wall};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Something that happened, on the recording agent's clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Mono,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// The session began on this agent; its sequence numbers start here.
    SessionStarted,
    /// The session was ended in order; silence after it is not loss.
    SessionStopped,
    /// The two clocks read together, at the start and every ten seconds.
    Clock(ClockReading),
    /// The wall clock was stepped by this much.
    ClockStepped(Span),
    /// The sender was late by more than an interval and skipped these slots of its grid:
    /// nothing was sent in them.
    SlotsSkipped {
        /// The flow.
        flow: FlowIndex,
        /// When the first skipped slot was due.
        first: Mono,
        /// How many were skipped.
        count: u32,
    },
    /// An ICMP error came back for one of the session's probes; from a reflector: for one
    /// of its replies.
    Icmp(IcmpEvidence),
    /// The reflector's own counter went back: it was restarted.
    ReflectorRestarted {
        /// The flow on which it was noticed.
        flow: FlowIndex,
    },
    /// Replies that belong to no known probe, or that could not be read.
    StrayReplies {
        /// How many since the last such event.
        count: u32,
    },
    /// Probes that this agent's reflector did not answer, since the last such event.
    ReflectorDropped {
        /// Why.
        reason: DropReason,
        /// How many.
        count: u32,
    },
    /// Records lost by the agent itself: a spool that was full or failed.
    RecordsLost {
        /// How many blocks.
        blocks: u32,
    },
    /// The result of a search for the path MTU.
    PathMtu(PathMtu),
    /// Datagrams that had arrived and that this host dropped, because its program did not
    /// fetch them in time: this host's loss and not the path's. They arrived after `since`
    /// and before the event.
    ReceiveOverflow {
        /// The flow whose socket it was; `None`: the reflector's.
        flow: Option<FlowIndex>,
        /// When the last one before them arrived.
        since: Mono,
        /// How many.
        count: u32,
    },
    /// The reflector numbers its replies itself and does not copy the requests' numbers, so
    /// its numbers tell the direction of a loss (RFC 8762 section 4.3.1).
    ReflectorCounts,
    /// This agent's reflector ended in order: it has recorded all that reached it.
    ReflectorStopped,
    /// Blocks that were recorded and lost on their way: dropped by a full spool, or damaged
    /// on the disk. Their records are missing. They are older than the event itself, and
    /// perhaps of an earlier run.
    BlocksLost {
        /// How many at least; what can no longer be read counts as one.
        blocks: u32,
        /// They were closed at this time or later, by the agent's wall clock; `None` if unknown.
        from: Option<Wall>,
        /// They were closed at this time or earlier.
        to: Wall,
    },
    /// A thread of this agent that looks at its clock at least ten times a second did not do
    /// so from `since` until the event: its process was stopped, or its host had no processor
    /// for it, or the whole host stood still. It sent and answered nothing meanwhile.
    Stalled {
        /// When it last looked at its clock.
        since: Mono,
    },
    /// From `since` until the event the reflector asked the kernel for the departures of only
    /// one batch of replies in `of`, because packets came too fast for more. The departures
    /// of the others are the program's own time.
    DeparturesSampled {
        /// When that began.
        since: Mono,
        /// One batch in this many.
        of: u32,
    },
    // Add new kinds at the end: the position is what is on disk.
    /// Packets of the session came from an address other than the plan's, between `since` and
    /// the event. The session's HMAC proves that the other end made them: something on the
    /// way translates addresses.
    AddressTranslated {
        /// The address that they came from.
        address: IpAddr,
        /// When the first of them came.
        since: Mono,
        /// How many.
        count: u32,
    },
    /// A flow of the session, or the whole session, could not run from `since` to the event.
    /// Nothing was sent, and that is not loss.
    NotRunning {
        /// The flow; `None`: the session.
        flow: Option<FlowIndex>,
        /// Why.
        why: RunFault,
        /// When that began.
        since: Mono,
    },
    /// ICMP errors that quote addresses and ports of the session, or replies to its
    /// traceroute packets, that match nothing that was sent. Nothing was concluded from them:
    /// they are forged, too late, or changed on the way.
    UnfitIcmp {
        /// What does not match.
        what: UnfitIcmp,
        /// How many since the last such event.
        count: u32,
    },
    /// An echo request was answered by an ICMP error instead of a reply.
    EchoError(EchoError),
    /// A packet of a search for the path MTU reached this agent's reflector: the path to it
    /// carries its size.
    SizeProbeArrived {
        /// The flow.
        flow: FlowIndex,
        /// Its Session-Sender Sequence Number.
        seq: Seq,
        /// Size of the IP packet in bytes, headers included.
        bytes: u16,
    },
    /// The host slept: it was suspended, or hibernated, between `since` and the event. Its
    /// monotonic clock stopped meanwhile, so the two lie close together on it; the clock that
    /// counts sleep (`CLOCK_BOOTTIME`) went on.
    Suspended {
        /// When a thread of this agent last looked at its clocks before.
        since: Mono,
        /// How long it slept.
        lasted: Span,
    },
}

/// Why an ICMP error, or a reply to a traceroute packet, matches nothing that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnfitIcmp {
    /// It answers a traceroute packet that was never sent: a quoted field differs.
    Trace,
    /// It answers a traceroute packet before that was sent.
    TraceEarly,
    /// It answers a traceroute packet after the longest wait for answers.
    TraceLate,
    /// It says 'too big' of a packet that was never sent.
    TooBig,
    /// It is about a probe that was never sent.
    Probe,
    /// There were too many at once to read them all.
    Unread,
    // Add new ones at the end: the position is what is on disk.
}

/// An ICMP error that an echo request provoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EchoError {
    /// Whom the request was for.
    pub target: TargetName,
    /// Its ICMP echo sequence number.
    pub seq: u16,
    /// The router or host that sent the error.
    pub from: IpAddr,
    /// ICMP (or ICMPv6) type.
    pub icmp_type: u8,
    /// ICMP (or ICMPv6) code.
    pub code: u8,
}

/// The largest packet that a path carries both ways (RFC 8899's PLPMTU).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathMtu {
    /// The flow in whose 5-tuple it was tried.
    pub flow: FlowIndex,
    /// When the search began; the event itself is its end.
    pub since: Mono,
    /// Size of the largest IP packet that was answered, in bytes with its headers.
    pub bytes: u16,
    /// Why a packet of one byte more is not carried; `None` where none larger was tried.
    pub limit: Option<MtuLimit>,
}

/// What stops a packet that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MtuLimit {
    /// This host's own interface.
    Interface,
    /// A router that said so (RFC 792 'fragmentation needed', RFC 4443 'packet too big').
    Router {
        /// The router.
        from: IpAddr,
        /// The next hop's MTU as it said it, in bytes.
        mtu: Option<u32>,
    },
    /// No error came: the packet vanished, alone and repeatedly, on the way out or back.
    Silent,
}

/// Why a reflector did not answer a packet, or did not take it for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// It could not be read as a STAMP packet.
    Malformed,
    /// Its HMAC was absent or wrong.
    Unauthenticated,
    /// It came from the host of a provisioned session, but belonged to none.
    Unprovisioned,
    /// Its source port was a reflector's, or it was itself a reply: answering could loop.
    LoopGuard,
    /// Its source exceeded its rate.
    RateLimited,
    /// The kernel refused the reply.
    SendRefused,
    // Add new reasons at the end: the position is what is on disk.
    /// It was a copy of an earlier packet, by its number or its sender's time. Some are
    /// answered all the same, in case the sender's clock was set back; none is recorded
    /// as an arrival.
    Replayed,
    /// Its source is not the host of any provisioned session.
    Stranger,
}

/// An agent's two clocks, and what its kernel says of their quality (`adjtimex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClockReading {
    /// Both clocks at one instant.
    pub pair: ClockPair,
    /// Whether the kernel calls the wall clock synchronised.
    pub synchronised: bool,
    /// The kernel's bound on the wall clock's error; meaningless when not synchronised.
    pub max_error: Span,
}

/// An ICMP error that a probe provoked: which router lost the route, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IcmpEvidence {
    /// The flow of the probe.
    pub flow: FlowIndex,
    /// The probe, where enough of it was quoted.
    pub seq: Option<Seq>,
    /// The router that sent the error.
    pub from: IpAddr,
    /// ICMP (or ICMPv6) type.
    pub icmp_type: u8,
    /// ICMP (or ICMPv6) code.
    pub code: u8,
    /// The next hop's MTU in bytes, for 'too big' errors.
    pub mtu: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::{DropReason, EchoError, Event, EventKind, UnfitIcmp};
    use crate::record::FlowIndex;
    use crate::stamp::Seq;
    use crate::time::{Mono, Span};

    /// What is on disk stays readable: new reasons come after the old ones.
    #[test]
    fn reasons_keep_their_places() {
        let reasons = [
            DropReason::Malformed,
            DropReason::Unauthenticated,
            DropReason::Unprovisioned,
            DropReason::LoopGuard,
            DropReason::RateLimited,
            DropReason::SendRefused,
            DropReason::Replayed,
            DropReason::Stranger,
        ];
        for (place, reason) in (0_u8..).zip(reasons) {
            assert_eq!(postcard::to_allocvec(&reason).unwrap(), [place]);
        }
    }

    /// Bytes that older and newer programs of this version have on disk.
    #[test]
    fn kinds_keep_their_places() {
        let event = |kind| Event {
            at: Mono::from_nanos(1),
            kind,
        };
        let reflector_counts = event(EventKind::ReflectorCounts);
        assert_eq!(postcard::to_allocvec(&reflector_counts).unwrap(), [2, 12]);
        let unfit = EventKind::UnfitIcmp {
            what: UnfitIcmp::TooBig,
            count: 128,
        };
        let bytes = [2, 19, 3, 128, 1];
        assert_eq!(postcard::to_allocvec(&event(unfit)).unwrap(), bytes);
        let error = EventKind::EchoError(EchoError {
            target: "ce".parse().unwrap(),
            seq: 5,
            from: "10.0.0.2".parse().unwrap(),
            icmp_type: 3,
            code: 1,
        });
        let bytes = [2, 20, 2, b'c', b'e', 5, 0, 10, 0, 0, 2, 3, 1];
        assert_eq!(postcard::to_allocvec(&event(error)).unwrap(), bytes);
        let arrived = EventKind::SizeProbeArrived {
            flow: FlowIndex(1),
            seq: Seq(2),
            bytes: 1500,
        };
        let bytes = [2, 21, 1, 2, 220, 11];
        assert_eq!(postcard::to_allocvec(&event(arrived)).unwrap(), bytes);
        let suspended = EventKind::Suspended {
            since: Mono::from_nanos(1),
            lasted: Span::from_nanos(3),
        };
        assert_eq!(
            postcard::to_allocvec(&event(suspended)).unwrap(),
            [2, 22, 2, 6]
        );
    }
}
