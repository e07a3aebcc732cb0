//! What identifies a traceroute packet.

use crate::packet::Marks;
use crate::secret::{Purpose, Secret};
use hopgap_proto::record::FlowIndex;
use hopgap_proto::stamp::Seq;

const TRACE: u32 = 1 << 31;
const ROUNDS: u32 = 1 << 21;

/// The greatest TTL that a packet's identity has room for.
pub(super) const GREATEST_TTL: u8 = 63;
/// How often one TTL can be asked in one round.
pub(super) const MOST_ATTEMPTS: u8 = 4;

/// Whether a Sequence Number has the form of a traceroute packet's. A probe's has it
/// too once a flow has sent 2^31 of them, so that the SSID decides where it is known.
pub(crate) fn is_trace_seq(seq: Seq) -> bool {
    seq.0 & TRACE != 0
}

/// Which packet of a flow's traceroutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketId {
    pub(super) round: u32,
    pub(super) attempt: u8,
    pub(super) ttl: u8,
}

impl PacketId {
    pub(super) fn seq(self) -> Seq {
        Seq(TRACE
            | (self.round % ROUNDS) << 10
            | u32::from(self.attempt % MOST_ATTEMPTS) << 8
            | u32::from(self.ttl))
    }

    /// Its unguessable fields.
    pub(super) fn marks(self, secret: &Secret, flow: FlowIndex) -> Marks {
        let number = u64::from(self.round) << 32
            | u64::from(flow.0) << 16
            | u64::from(self.attempt) << 8
            | u64::from(self.ttl);
        Marks::of(secret.draw(Purpose::TracePacket, number))
    }

    pub(super) fn has_seq(self, seq: Seq) -> bool {
        self.seq() == seq
    }
}

/// Returns the number of a flow's first round. It is in the lower half, so that the numbers
/// do not wrap for years.
pub(super) fn first_round(secret: &Secret, flow: FlowIndex) -> u32 {
    let [.., a, b, c, d] = secret
        .draw(Purpose::FirstRound, flow.0.into())
        .to_be_bytes();
    u32::from_be_bytes([a, b, c, d]) % (ROUNDS / 2)
}
