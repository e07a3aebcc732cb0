//! Traceroutes: the member route of one flow at one time (RFC 9198).

use super::FlowIndex;
use crate::time::{Mono, Span};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// One snapshot of a flow's forward path, all TTLs in flight at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trace {
    /// The flow whose 5-tuple it used.
    pub flow: FlowIndex,
    /// When its first packet was sent.
    pub started: Mono,
    /// When its last answer came or its waiting time ended.
    pub finished: Mono,
    /// Where it was heading.
    pub target: IpAddr,
    /// Hop `i` is at index `i − 1`. A silent hop has no replies. The list ends with the
    /// target where it was reached; with the first refusal where one router refused all that
    /// went further; else with the last TTL that was tried.
    pub hops: Vec<Hop>,
    /// Distance of the target in hops where it answered.
    pub reached_at: Option<u8>,
}

/// What answered at one TTL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hop {
    /// The TTL of the packets.
    pub ttl: u8,
    /// How many packets were sent with it.
    pub sent: u8,
    /// Answers in the order of their arrival; empty for a silent hop.
    pub replies: Vec<HopReply>,
}

/// One answer to one traceroute packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HopReply {
    /// Who answered.
    pub from: IpAddr,
    /// Time from the packet's send to the answer.
    pub round_trip: Span,
    /// What it said.
    pub kind: HopReplyKind,
}

/// What an answer to a traceroute packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HopReplyKind {
    /// ICMP Time Exceeded: a router on the way.
    TimeExceeded,
    /// ICMP Destination Unreachable with this code, from a router or the target.
    Unreachable(u8),
    /// The target's Session-Reflector replied.
    Reflected,
}
