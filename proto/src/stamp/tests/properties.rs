use super::tlv::{Body, Location, TlvType, Writer, seal};
use super::*;
use crate::time::{Span, Wall};
use proptest::prelude::*;

fn error_estimate() -> impl Strategy<Value = ErrorEstimate> {
    any::<u16>().prop_filter_map("multiplier 0", |bits| ErrorEstimate::from_bits(bits).ok())
}

fn sender() -> impl Strategy<Value = SenderPacket> {
    (any::<u32>(), any::<u64>(), error_estimate(), any::<u16>()).prop_map(
        |(sequence, raw, error_estimate, ssid)| SenderPacket {
            sequence: Seq(sequence),
            timestamp: Timestamp {
                raw,
                format: error_estimate.format(),
            },
            error_estimate,
            ssid: Ssid(ssid),
        },
    )
}

fn reflector() -> impl Strategy<Value = ReflectorPacket> {
    (sender(), sender(), any::<u64>(), any::<u8>()).prop_map(|(own, asked, received, ttl)| {
        ReflectorPacket {
            sequence: own.sequence,
            timestamp: own.timestamp,
            error_estimate: own.error_estimate,
            ssid: Some(asked.ssid),
            receive_timestamp: Timestamp {
                raw: received,
                format: own.error_estimate.format(),
            },
            sender_sequence: asked.sequence,
            sender_timestamp: asked.timestamp,
            sender_error_estimate: asked.error_estimate,
            sender_ttl: Some(ttl),
        }
    })
}

/// A context that knows everything, so that every answer is written.
pub(super) fn context() -> ReplyContext {
    let now = Wall::from_nanos(1_790_000_000_000_000_000);
    ReplyContext {
        numbering: Numbering::Stateful {
            sequence: Seq(9),
            follow_up: Some(FollowUp {
                sequence: Seq(8),
                sent_at: now,
                method: tlv::TimestampMethod::SOFTWARE,
            }),
        },
        received_ttl: Some(250),
        received_tos: Some(0xb9),
        timestamps: Some(tlv::TimestampInformation::default()),
        counters: Some((10, 9)),
        addresses: Some((
            "192.0.2.1:50000".parse().unwrap(),
            "[2001:db8::1]:862".parse().unwrap(),
        )),
        permitted_dscp: DscpSet::ALL,
        ..ReplyContext::stateless(
            now,
            now + Span::from_micros(3),
            ErrorEstimate::from_error(Span::from_millis(1), TimestampFormat::Ntp),
        )
    }
}

/// Extensions that look like TLVs more often than random bytes do.
fn extension() -> impl Strategy<Value = Vec<u8>> {
    let tlv = (
        0u8..16,
        prop_oneof![Just(0x80u8), any::<u8>()],
        0usize..24,
        0u16..3,
    )
        .prop_map(|(kind, flags, len, lie)| {
            let claimed = u16::try_from(len).unwrap() + lie / 2;
            let mut bytes = vec![flags, kind];
            bytes.extend_from_slice(&claimed.to_be_bytes());
            bytes.resize(4 + len, 0x04);
            bytes
        });
    prop_oneof![
        proptest::collection::vec(tlv, 0..6).prop_map(|tlvs| tlvs.concat()),
        proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #[test]
    fn requests_read_back(packet in sender(), authenticated: bool, extension in extension()) {
        let key = key();
        let mode = if authenticated { Mode::Authenticated(&key) } else { Mode::Open };
        let mut bytes = vec![0xff; mode.base_len()];
        packet.write(mode, &mut bytes).unwrap();
        bytes.extend_from_slice(&extension);
        let (read, tlvs) = SenderPacket::parse(&bytes, mode, Compatibility::Strict).unwrap();
        prop_assert_eq!(read, packet);
        prop_assert_eq!(tlvs.as_bytes(), extension);
    }

    #[test]
    fn replies_read_back(packet in reflector(), authenticated: bool) {
        let key = key();
        let mode = if authenticated { Mode::Authenticated(&key) } else { Mode::Open };
        let mut bytes = vec![0xff; mode.base_len()];
        packet.write(mode, &mut bytes).unwrap();
        let (read, _) = ReflectorPacket::parse(&bytes, mode, Compatibility::Strict).unwrap();
        prop_assert_eq!(read, packet);
    }

    #[test]
    fn a_flipped_bit_fails_an_authenticated_packet(packet in sender(), reply in reflector(), bit in 0usize..112 * 8) {
        let key = key();
        let mode = Mode::Authenticated(&key);
        let mut bytes = [0; 112];
        packet.write(mode, &mut bytes).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(SenderPacket::parse(&bytes, mode, Compatibility::Strict).unwrap_err(), ParseError::WrongHmac);
        reply.write(mode, &mut bytes).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(ReflectorPacket::parse(&bytes, mode, Compatibility::Strict).unwrap_err(), ParseError::WrongHmac);
    }

    #[test]
    fn a_flipped_bit_fails_protected_tlvs(packet in sender(), flip in 0usize..1000) {
        let key = key();
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, Mode::Open)
            .push(&Body::Location(Location::REQUEST)).unwrap()
            .push(&Body::Opaque(TlvType(99), b"opaque")).unwrap()
            .push(&Body::Hmac([0; 16])).unwrap();
        packet.write(Mode::Open, &mut bytes).unwrap();
        prop_assert!(seal(&mut bytes, 44, &key));
        let security = Security::Open { tlv: Some(Keys::shared(&key)) };
        let mut reply = vec![0; bytes.len()];
        let request = Request::parse(&bytes, security, Compatibility::Strict).unwrap();
        prop_assert_eq!(request.reply(&context(), &mut reply).unwrap().extension, ExtensionOutcome::Answered);
        // A flip anywhere in the TLVs, except in the HMAC TLV's own flags, which it does not
        // cover, is never answered as if nothing had happened.
        let at = 44 + flip % (bytes.len() - 44);
        prop_assume!(at != bytes.len() - 20);
        bytes[at] ^= 1 << (flip % 8);
        let request = Request::parse(&bytes, security, Compatibility::Strict).unwrap();
        let outcome = request.reply(&context(), &mut reply).unwrap().extension;
        prop_assert_ne!(outcome, ExtensionOutcome::Answered);
    }

    #[test]
    fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = key();
        for mode in [Mode::Open, Mode::Authenticated(&key)] {
            for compatibility in [Compatibility::Strict, Compatibility::TwampLight] {
                if let Ok((_, tlvs)) = SenderPacket::parse(&bytes, mode, compatibility) {
                    let _ = tlvs.trusted(Seq(0), Some(&key)).map(Iterator::count);
                }
                let _ = ReflectorPacket::parse(&bytes, mode, compatibility);
            }
        }
        let _ = claimed_ssid(&bytes, true);
        let mut sealed = bytes.clone();
        let _ = seal(&mut sealed, 44, &key);
    }

    #[test]
    fn every_request_is_answered_in_its_own_size(packet in sender(), extension in extension(), keyed: bool, authenticated: bool) {
        let key = key();
        let keys = Keys::shared(&key);
        let security = match (authenticated, keyed) {
            (true, _) => Security::Authenticated(keys),
            (false, true) => Security::Open { tlv: Some(keys) },
            (false, false) => Security::OPEN,
        };
        let mut bytes = vec![0; security.request().base_len()];
        packet.write(security.request(), &mut bytes).unwrap();
        bytes.extend_from_slice(&extension);
        seal(&mut bytes, security.request().base_len(), &key);
        let request = Request::parse(&bytes, security, Compatibility::Strict).unwrap();
        let mut out = vec![0xee; bytes.len() + 1];
        let reply = request.reply(&context(), &mut out).unwrap();
        prop_assert_eq!(reply.len, bytes.len());
        prop_assert_eq!(out.pop(), Some(0xee));
        let (read, tlvs) = ReflectorPacket::parse(&out, security.reply(), Compatibility::Strict).unwrap();
        prop_assert_eq!(read.sender_sequence, packet.sequence);
        prop_assert_eq!(read.sender_timestamp, packet.timestamp);
        match reply.extension {
            ExtensionOutcome::Answered => {
                let reply_key = security.tlv_keys().map(|keys| keys.reply);
                prop_assert!(tlvs.trusted(read.sequence, reply_key).is_ok());
            }
            // What follows it is the sender's, whatever flags it has.
            ExtensionOutcome::Malformed => {}
            ExtensionOutcome::IntegrityFailed => {
                prop_assert_eq!(tlvs.trusted(read.sequence, Some(&key)).unwrap_err(), tlv::Distrust::RefusedByPeer);
            }
            // As it was sent: sealing may have filled in an HMAC behind what ends the TLVs.
            ExtensionOutcome::Absent | ExtensionOutcome::Padding => {
                prop_assert_eq!(tlvs.as_bytes(), &bytes[security.request().base_len()..]);
            }
        }
        prop_assert!(request.reply(&context(), &mut out[1..]).is_err());
    }

    #[test]
    fn an_error_estimate_holds_its_error(nanos in 0..i64::MAX) {
        let error = Span::from_nanos(nanos);
        let estimate = ErrorEstimate::from_error(error, TimestampFormat::Ptp);
        prop_assert!(estimate.as_span() >= error);
        prop_assert_eq!(ErrorEstimate::from_bits(estimate.to_bits()), Ok(estimate));
        // The next smaller multiplier would not hold it.
        if let Ok(less) = ErrorEstimate::from_bits(estimate.to_bits() - 1)
            && estimate.as_span() < Span::MAX
        {
            prop_assert!(u128::from(less.multiplier()) << less.scale() < (u128::from(error.as_nanos().unsigned_abs()) << 32).div_ceil(1_000_000_000));
        }
    }
}
