//! What each target does with its bytes. The unit tests of hopgap-proto run the
//! committed corpus through the same functions, with a stable compiler.
//!
//! They do not only look for panics: what is read must be written back alike,
//! and a reply must have the size of its request.

use hopgap_proto::icmp::{IcmpError, Version, ipv4_payload};
use hopgap_proto::stamp::tlv::{Body, Writer, seal};
use hopgap_proto::stamp::{
    AuthKey, Compatibility, DscpSet, ErrorEstimate, ExtensionOutcome, FollowUp, Keys, Mode,
    Numbering, ReflectorPacket, ReplyContext, Request, Security, SenderPacket, Seq,
    TimestampFormat, claimed_ssid, tlv,
};
use hopgap_proto::time::{Span, Wall};

const NOW: Wall = Wall::from_nanos(1_790_000_000_000_000_000);
const KEY: [u8; 32] = [7; 32];

fn key() -> AuthKey {
    match AuthKey::from_bytes(&KEY) {
        Ok(key) => key,
        Err(_) => unreachable!("it is long enough"),
    }
}

/// A request as it arrives at a reflector: parsed in every mode, and answered.
pub(crate) fn stamp_sender(bytes: &[u8]) {
    let key = key();
    let keys = Keys::shared(&key);
    let _ = claimed_ssid(bytes, false);
    let _ = claimed_ssid(bytes, true);
    for compatibility in [Compatibility::Strict, Compatibility::TwampLight] {
        for security in [Security::OPEN, Security::Open { tlv: Some(keys) }] {
            answer(bytes, security, compatibility);
        }
    }
    // As they are, these bytes have the right HMAC once in 2^128.
    answer(bytes, Security::Authenticated(keys), Compatibility::Strict);
    if bytes.len() >= 112 {
        let mut signed = bytes.to_vec();
        if let Ok((packet, _)) = SenderPacket::parse(bytes, Mode::Open, Compatibility::Strict) {
            let _ = packet.write(Mode::Authenticated(&key), &mut signed);
            seal(&mut signed, 112, &key);
            assert!(answer(
                &signed,
                Security::Authenticated(keys),
                Compatibility::Strict
            ));
        }
    }
}

fn answer(bytes: &[u8], security: Security<'_>, compatibility: Compatibility) -> bool {
    let Ok(request) = Request::parse(bytes, security, compatibility) else {
        return false;
    };
    let mut again = bytes.to_vec();
    if bytes.len() >= security.request().base_len() {
        // What must be zero is ignored when read, so only the fields compare.
        assert!(
            request
                .packet()
                .write(security.request(), &mut again)
                .is_ok()
        );
        let read = SenderPacket::parse(&again, security.request(), compatibility);
        assert_eq!(read.map(|(packet, _)| packet), Ok(*request.packet()));
    }
    for context in contexts() {
        let mut out = vec![0xee; bytes.len() + 8];
        let reply = request.reply(&context, &mut out);
        assert_eq!(reply.map(|reply| reply.len), Ok(bytes.len()));
        assert_eq!(out[bytes.len()..], [0xee; 8]);
        let read = ReflectorPacket::parse(&out[..bytes.len()], security.reply(), compatibility);
        let Ok((packet, tlvs)) = read else {
            unreachable!("our own reply must parse");
        };
        assert_eq!(packet.sender_sequence, request.packet().sequence);
        assert_eq!(packet.sender_timestamp, request.packet().timestamp);
        if let Ok(reply) = reply
            && reply.extension == ExtensionOutcome::Answered
        {
            let key = match security {
                Security::Open { tlv } => tlv.map(|keys| keys.reply),
                Security::Authenticated(keys) => Some(keys.reply),
            };
            assert!(tlvs.trusted(packet.sequence, key).is_ok());
        }
        assert!(
            request
                .reply(&context, &mut out[..bytes.len() - 1])
                .is_err()
        );
    }
    true
}

fn contexts() -> [ReplyContext; 2] {
    let estimate = ErrorEstimate::from_error(Span::from_millis(1), TimestampFormat::Ntp);
    let ignorant = ReplyContext::stateless(NOW, NOW, estimate);
    let knowing = ReplyContext {
        numbering: Numbering::Stateful {
            sequence: Seq(9),
            follow_up: Some(FollowUp {
                sequence: Seq(8),
                sent_at: NOW,
                method: tlv::TimestampMethod::SOFTWARE,
            }),
        },
        received_ttl: Some(250),
        received_tos: Some(0xb9),
        timestamps: Some(tlv::TimestampInformation::default()),
        counters: Some((10, 9)),
        addresses: Some((
            ([192, 0, 2, 1], 50_000).into(),
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 862).into(),
        )),
        permitted_dscp: DscpSet::NONE.with(46),
        ..ignorant
    };
    [ignorant, knowing]
}

/// A reply as it arrives at a sender.
pub(crate) fn stamp_reflector(bytes: &[u8]) {
    let key = key();
    for compatibility in [Compatibility::Strict, Compatibility::TwampLight] {
        let Ok((packet, tlvs)) = ReflectorPacket::parse(bytes, Mode::Open, compatibility) else {
            continue;
        };
        for key in [None, Some(&key)] {
            let _ = tlvs.trusted(packet.sequence, key).map(Iterator::count);
        }
        let _ = packet.timestamp.to_wall(NOW);
        let _ = packet.receive_timestamp.to_wall(NOW);
        let _ = packet.sender_timestamp.to_wall(NOW);
        if packet.ssid.is_none() {
            continue;
        }
        for mode in [Mode::Open, Mode::Authenticated(&key)] {
            let mut out = [0; 112];
            assert_eq!(packet.write(mode, &mut out), Ok(mode.base_len()));
            let read = ReflectorPacket::parse(&out[..mode.base_len()], mode, Compatibility::Strict);
            assert_eq!(read.map(|(packet, _)| packet), Ok(packet));
        }
    }
    let _ = ReflectorPacket::parse(bytes, Mode::Authenticated(&key), Compatibility::Strict);
}

/// What follows a base packet.
pub(crate) fn tlv(bytes: &[u8]) {
    let key = key();
    let tlvs = tlv::Tlvs::new(bytes);
    let mut again = Vec::new();
    let mut writer = Writer::new(&mut again, Mode::Open);
    let mut taken = 0;
    for tlv in tlvs {
        let Ok(tlv) = tlv else { break };
        taken += tlv::HEADER_LEN + tlv.value.len();
        match tlv.body() {
            Ok(body) => {
                if let Body::Location(location) = body {
                    let _ = (location.source(), location.destination());
                }
                assert_eq!(body.kind(), tlv.kind);
                assert!(writer.push(&body).is_ok());
            }
            Err(_) => assert!(writer.push(&Body::Opaque(tlv.kind, tlv.value)).is_ok()),
        }
    }
    assert!(taken <= bytes.len());
    // Written again, the same bodies come out.
    let bodies = |bytes| {
        tlv::Tlvs::new(bytes)
            .iter()
            .map_while(Result::ok)
            .map(|tlv| tlv.body().map_err(|_| (tlv.kind, tlv.value)))
            .collect::<Vec<_>>()
    };
    assert_eq!(bodies(&again[44..]), bodies(bytes));
    let _ = tlvs.trusted(Seq(1), None).map(Iterator::count);
    if seal(&mut again, 44, &key) {
        let _ = tlv::Tlvs::new(&again[44..])
            .trusted(Seq(0), Some(&key))
            .map(Iterator::count);
    }
}

/// An ICMP message as a raw socket gives it.
pub(crate) fn icmp_quote(bytes: &[u8]) {
    for version in [Version::V4, Version::V6] {
        if let Ok(error) = IcmpError::parse(version, bytes) {
            let quoted = error.quoted;
            assert!(quoted.payload.len() <= bytes.len());
            assert_eq!(quoted.source.is_ipv4(), version == Version::V4);
            assert_eq!(quoted.ip_id.is_some(), version == Version::V4);
        }
    }
    if let Some((_, payload)) = ipv4_payload(bytes) {
        assert!(payload.len() + 20 <= bytes.len());
        let _ = IcmpError::parse(Version::V4, payload);
    }
}
