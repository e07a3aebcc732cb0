//! How a Session-Reflector answers: RFC 8762 section 4.3, RFC 8972 section 4.

mod extension;

pub use extension::Outcome as ExtensionOutcome;

use super::layout::OPEN_LEN;
use super::tlv::{TimestampInformation, TimestampMethod, Tlvs};
use super::{
    BufferTooSmall, Compatibility, ErrorEstimate, ParseError, ReflectorPacket, Security,
    SenderPacket, Seq, Timestamp,
};
use crate::time::Wall;
use core::net::SocketAddr;

/// A request that may be answered: its length, its HMAC and its Error Estimate are right. The
/// caller must decide whether its session is provisioned and its source within its rate,
/// before it answers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, 'k> {
    packet: SenderPacket,
    tlvs: Tlvs<'a>,
    len: usize,
    security: Security<'k>,
}

impl<'a, 'k> Request<'a, 'k> {
    /// Reads a whole datagram as it was received.
    ///
    /// # Errors
    /// As [`SenderPacket::parse`].
    pub fn parse(
        datagram: &'a [u8],
        security: Security<'k>,
        compatibility: Compatibility,
    ) -> Result<Self, ParseError> {
        let (packet, tlvs) = SenderPacket::parse(datagram, security.request(), compatibility)?;
        Ok(Self {
            packet,
            tlvs,
            len: datagram.len(),
            security,
        })
    }

    /// Its base packet.
    pub const fn packet(&self) -> &SenderPacket {
        &self.packet
    }

    /// Whether it is authenticated (RFC 8762 section 4.2.2).
    pub const fn is_authenticated(&self) -> bool {
        self.security.request().is_authenticated()
    }

    /// What follows its base packet.
    pub const fn tlvs(&self) -> Tlvs<'a> {
        self.tlvs
    }

    /// Writes the reply, of exactly the request's size, at the start of `out`.
    ///
    /// TLVs are answered as far as `context` knows the answer. Those that it does not know,
    /// and types that are not of RFC 8972, go back with U = 1. Bytes that are no TLVs, such
    /// as padding of TWAMP Light, go back unchanged.
    ///
    /// # Errors
    /// Where `out` is shorter than the request.
    pub fn reply(&self, context: &ReplyContext, out: &mut [u8]) -> Result<Reply, BufferTooSmall> {
        let (len, need) = (out.len(), self.len);
        let out = out.get_mut(..need).ok_or(BufferTooSmall { len, need })?;
        let base = self.base_packet(context);
        let mode = self.security.reply();
        if need < OPEN_LEN {
            // TWAMP Light: the first bytes of what would be the whole reply.
            let mut whole = [0; OPEN_LEN];
            base.write(mode, &mut whole)?;
            out.copy_from_slice(&whole[..need]);
            return Ok(Reply {
                len: need,
                dscp: None,
                extension: ExtensionOutcome::Absent,
            });
        }
        let base_len = base.write(mode, out)?;
        if self.tlvs.is_empty() {
            return Ok(Reply {
                len: need,
                dscp: None,
                extension: ExtensionOutcome::Absent,
            });
        }
        let extension = &mut out[base_len..];
        extension.copy_from_slice(self.tlvs.as_bytes());
        let (outcome, dscp) = extension::answer(
            extension,
            &self.packet,
            base.sequence,
            self.security,
            context,
        );
        Ok(Reply {
            len: need,
            dscp,
            extension: outcome,
        })
    }

    fn base_packet(&self, context: &ReplyContext) -> ReflectorPacket {
        let stamp = |wall| Timestamp::from_wall(wall, context.error_estimate.format());
        ReflectorPacket {
            sequence: match context.numbering {
                Numbering::Stateless => self.packet.sequence,
                Numbering::Stateful { sequence, .. } => sequence,
            },
            timestamp: stamp(context.sent_at),
            error_estimate: context.error_estimate,
            ssid: Some(self.packet.ssid),
            receive_timestamp: stamp(context.received_at),
            sender_sequence: self.packet.sequence,
            sender_timestamp: self.packet.timestamp,
            sender_error_estimate: self.packet.error_estimate,
            sender_ttl: context.received_ttl,
        }
    }
}

/// What the reflector knows when it answers. A `None` is unknown, and nothing is made up for it.
#[derive(Clone, Copy, Debug)]
pub struct ReplyContext {
    /// T2, when the request was received.
    pub received_at: Wall,
    /// T3, when the reply is handed to the kernel.
    pub sent_at: Wall,
    /// The error of both, which also decides the format they are written in.
    pub error_estimate: ErrorEstimate,
    /// How the reply is numbered.
    pub numbering: Numbering,
    /// TTL or Hop Limit of the request; written as zero where unknown.
    pub received_ttl: Option<u8>,
    /// The TOS or Traffic Class octet of the request: DSCP and ECN.
    pub received_tos: Option<u8>,
    /// How T2 and T3 are made, for the Timestamp Information TLV.
    pub timestamps: Option<TimestampInformation>,
    /// Packets of this session, for the Direct Measurement TLV: received
    /// (this one included) and sent.
    pub counters: Option<(u32, u32)>,
    /// Source and destination of the request, for the Location TLV.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Which DSCP a sender may ask its replies to have.
    pub permitted_dscp: DscpSet,
}

impl ReplyContext {
    /// The context of a stateless reflector that knows only the times.
    pub const fn stateless(received_at: Wall, sent_at: Wall, error: ErrorEstimate) -> Self {
        Self {
            received_at,
            sent_at,
            error_estimate: error,
            numbering: Numbering::Stateless,
            received_ttl: None,
            received_tos: None,
            timestamps: None,
            counters: None,
            addresses: None,
            permitted_dscp: DscpSet::NONE,
        }
    }
}

/// What Sequence Number a reply has (RFC 8762 section 4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// The request's: the sender learns of round-trip loss only.
    Stateless,
    /// The session's own count of replies: loss splits by direction.
    Stateful {
        /// The number of this reply.
        sequence: Seq,
        /// The reply before it, for the Follow-Up Telemetry TLV.
        follow_up: Option<FollowUp>,
    },
}

/// When the session's previous reply left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// Its Sequence Number.
    pub sequence: Seq,
    /// When it left.
    pub sent_at: Wall,
    /// How that is known.
    pub method: TimestampMethod,
}

/// A set of Differentiated Services code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DscpSet(u64);

impl DscpSet {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All 64 of them.
    pub const ALL: Self = Self(u64::MAX);

    /// This set with `dscp` added, of which the lower six bits count.
    #[must_use]
    pub const fn with(self, dscp: u8) -> Self {
        Self(self.0 | 1 << (dscp & 0x3f))
    }

    /// Whether `dscp` is in the set.
    pub const fn contains(self, dscp: u8) -> bool {
        dscp < 64 && self.0 >> dscp & 1 == 1
    }
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its size, which is the request's.
    pub len: usize,
    /// The DSCP it must be sent with, where a Class of Service TLV decides it.
    pub dscp: Option<u8>,
    /// What became of the TLVs.
    pub extension: ExtensionOutcome,
}
