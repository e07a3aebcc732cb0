//! Answers the TLVs of a request in place: RFC 8972 section 4.

use super::{Numbering, ReplyContext};
use crate::stamp::layout::put;
use crate::stamp::tlv::{
    Body, ClassOfService, Flags, FollowUpTelemetry, HEADER_LEN, LOCATION_FIXED_LEN, Scan, SubType,
    TlvType, Tlvs, seal_extension,
};
use crate::stamp::{Security, SenderPacket, Seq, Timestamp};
use core::net::{IpAddr, SocketAddr};

/// What became of the bytes after the base packet of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing.
    Absent,
    /// They were no TLVs, and were copied.
    Padding,
    /// TLVs were answered.
    Answered,
    /// TLVs were answered up to one that is malformed.
    Malformed,
    /// Their HMAC failed: they were copied with the I flag.
    IntegrityFailed,
}

/// Turns the copy of a request's TLVs in `extension` into the reply's. Also returns the DSCP
/// that the reply must have, where they decide it.
pub(super) fn answer(
    extension: &mut [u8],
    request: &SenderPacket,
    reply_sequence: Seq,
    security: Security<'_>,
    context: &ReplyContext,
) -> (Outcome, Option<u8>) {
    let tlvs = Tlvs::new(extension);
    if !tlvs.is_request() {
        return (Outcome::Padding, None);
    }
    let scan = Scan::of(tlvs);
    let keys = security.tlv_keys();
    let request_key = keys.map(|keys| keys.request);
    if scan.verify(tlvs, request.sequence, request_key).is_err() {
        mark_all(extension, scan.malformed);
        return (Outcome::IntegrityFailed, None);
    }
    let mut dscp = None;
    let mut at = 0;
    while scan.malformed != Some(at)
        && let Some(Ok(tlv)) = Tlvs::new(&extension[at..]).iter().next()
    {
        let (kind, len) = (tlv.kind, tlv.value.len());
        let next = at + HEADER_LEN + len;
        let understood = answer_one(
            kind,
            &mut extension[at + HEADER_LEN..next],
            context,
            &mut dscp,
        );
        extension[at] = if understood { 0 } else { Flags::UNRECOGNISED.0 };
        at = next;
    }
    if let Some(at) = scan.malformed {
        mark_malformed(extension, at);
    }
    if let Some(keys) = keys.filter(|_| scan.hmac.is_some()) {
        seal_extension(extension, reply_sequence, keys.reply);
    }
    let outcome = if scan.malformed.is_some() {
        Outcome::Malformed
    } else {
        Outcome::Answered
    };
    (outcome, dscp)
}

/// Sets I on every TLV, and leaves all values as they came.
fn mark_all(extension: &mut [u8], malformed: Option<usize>) {
    let mut at = 0;
    while let Some(first) = Tlvs::new(&extension[at..]).iter().next() {
        let len = first.map(|tlv| HEADER_LEN + tlv.value.len());
        let mut flags = unrecognised(extension[at + 1]).with(Flags::INTEGRITY_FAILED);
        if malformed == Some(at) {
            flags = flags.with(Flags::MALFORMED);
        }
        extension[at] = flags.0;
        let Ok(len) = len else { return };
        at += len;
    }
}

/// U where the type is not one of RFC 8972.
fn unrecognised(kind: u8) -> Flags {
    match Body::parse(TlvType(kind), &[]) {
        Ok(Body::Opaque(..)) => Flags::UNRECOGNISED,
        _ => Flags(0),
    }
}

fn mark_malformed(extension: &mut [u8], at: usize) {
    let kind = extension[at + 1];
    extension[at] = unrecognised(kind).with(Flags::MALFORMED).0;
    if TlvType(kind) == TlvType::FOLLOW_UP_TELEMETRY
        && let Some(Ok(tlv)) = Tlvs::new(&extension[at..]).iter().next()
    {
        // Section 4.7 with erratum 8339: a wrong Length zeroes the fields.
        let value = at + HEADER_LEN..at + HEADER_LEN + tlv.value.len();
        extension[value].fill(0);
    }
}

/// Answers one well-formed TLV; `false` where it is not understood.
fn answer_one(
    kind: TlvType,
    value: &mut [u8],
    context: &ReplyContext,
    dscp: &mut Option<u8>,
) -> bool {
    match Body::parse(kind, value) {
        Ok(Body::ExtraPadding(_) | Body::Hmac(_)) => true,
        Ok(Body::Location(_)) => match context.addresses {
            Some((source, destination)) => {
                answer_location(value, source, destination);
                true
            }
            None => false,
        },
        Ok(Body::TimestampInformation(_)) => match context.timestamps {
            Some(information) => {
                put(value, 0, information.to_octets());
                true
            }
            None => false,
        },
        Ok(Body::ClassOfService(asked)) => match context.received_tos {
            Some(tos) => {
                let received_dscp = tos >> 2;
                let permitted = context.permitted_dscp.contains(asked.reply_dscp);
                *dscp = Some(if permitted {
                    asked.reply_dscp
                } else {
                    received_dscp
                });
                let answer = ClassOfService {
                    reply_dscp: asked.reply_dscp,
                    received_dscp,
                    received_ecn: tos & 0b11,
                    reverse_path: u8::from(!permitted),
                };
                put(value, 0, answer.to_octets());
                true
            }
            None => false,
        },
        Ok(Body::DirectMeasurement(_)) => match context.counters {
            Some((received, sent)) => {
                put(value, 4, received.to_be_bytes());
                put(value, 8, sent.to_be_bytes());
                true
            }
            None => false,
        },
        // Section 4.6: other identifiers are invalid, and not taken.
        Ok(Body::AccessReport(report)) => matches!(report.access_id, 1 | 2),
        Ok(Body::FollowUpTelemetry(_)) => {
            let answer = match context.numbering {
                Numbering::Stateful {
                    follow_up: Some(previous),
                    ..
                } => FollowUpTelemetry {
                    sequence: previous.sequence,
                    timestamp: Timestamp::from_wall(
                        previous.sent_at,
                        context.error_estimate.format(),
                    )
                    .raw,
                    method: previous.method,
                },
                Numbering::Stateful {
                    follow_up: None, ..
                }
                | Numbering::Stateless => FollowUpTelemetry::default(),
            };
            put(value, 0, answer.to_octets());
            true
        }
        Ok(Body::Opaque(..)) | Err(_) => false,
    }
}

/// Section 4.2.2: turns the general sub-TLVs of a request into those of what was seen. The
/// source's MAC address is not known above the socket, which an EUI-64 of zeros says.
fn answer_location(value: &mut [u8], source: SocketAddr, destination: SocketAddr) {
    put(value, 0, destination.port().to_be_bytes());
    put(value, 2, source.port().to_be_bytes());
    // A socket for both families sees IPv4 as mapped addresses.
    let (source, destination) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mut at = LOCATION_FIXED_LEN;
    while let Some(Ok(field)) = Tlvs::new(&value[at..]).iter().next() {
        let next = at + HEADER_LEN + field.value.len();
        let asked = SubType(field.kind.0);
        let sub_tlv = &mut value[at..next];
        let answer = match asked {
            SubType::SOURCE_MAC => Some(SubType::SOURCE_EUI64),
            SubType::DESTINATION_IP => Some(family(
                destination,
                SubType::DESTINATION_IPV4,
                SubType::DESTINATION_IPV6,
            )),
            SubType::SOURCE_IP => Some(family(source, SubType::SOURCE_IPV4, SubType::SOURCE_IPV6)),
            _ => None,
        };
        match answer {
            Some(kind) => {
                sub_tlv[0] = 0;
                sub_tlv[1] = kind.0;
                sub_tlv[HEADER_LEN..].fill(0);
                match asked {
                    SubType::DESTINATION_IP => put_address(sub_tlv, destination),
                    SubType::SOURCE_IP => put_address(sub_tlv, source),
                    _ => {}
                }
            }
            None => sub_tlv[0] = Flags::UNRECOGNISED.0,
        }
        at = next;
    }
}

const fn family(address: IpAddr, v4: SubType, v6: SubType) -> SubType {
    if address.is_ipv4() { v4 } else { v6 }
}

fn put_address(sub_tlv: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(address) => put(sub_tlv, HEADER_LEN, address.octets()),
        IpAddr::V6(address) => put(sub_tlv, HEADER_LEN, address.octets()),
    }
}
