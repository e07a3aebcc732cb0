//! How the reflector answers TLVs: RFC 8972 section 4.

use super::properties::context;
use super::tlv::{
    AccessReport, Body, ClassOfService, DirectMeasurement, Distrust, FollowUpTelemetry, Location,
    TimestampInformation, TlvType, Writer, seal,
};
use super::*;
use crate::time::Wall;

fn request(bodies: &[Body<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Mode::Open);
    for body in bodies {
        writer.push(body).unwrap();
    }
    base().write(Mode::Open, &mut bytes).unwrap();
    bytes
}

fn base() -> SenderPacket {
    SenderPacket {
        sequence: Seq(0x0102_0304),
        timestamp: Timestamp {
            raw: 5,
            format: TimestampFormat::Ntp,
        },
        error_estimate: ErrorEstimate::from_bits(1).unwrap(),
        ssid: Ssid(3),
    }
}

fn answer(bytes: &[u8], security: Security<'_>, context: &ReplyContext) -> (Reply, Vec<u8>) {
    let mut out = vec![0; bytes.len()];
    let request = Request::parse(bytes, security, Compatibility::Strict).unwrap();
    (request.reply(context, &mut out).unwrap(), out)
}

fn with(extension: &[&str]) -> Vec<u8> {
    let mut bytes = request(&[]);
    bytes.extend(hex(extension));
    bytes
}

#[test]
fn a_reply_is_known_as_one_and_a_request_is_not() {
    let key = key();
    for (mode, security) in [
        (Mode::Open, Security::OPEN),
        (
            Mode::Authenticated(&key),
            Security::Authenticated(Keys::shared(&key)),
        ),
    ] {
        for format in [TimestampFormat::Ntp, TimestampFormat::Ptp] {
            let error = ErrorEstimate::from_error(crate::time::Span::ZERO, format);
            let now = Wall::from_nanos(1_790_000_000_000_000_000);
            let mut asked = vec![0; mode.base_len()];
            let packet = SenderPacket {
                timestamp: Timestamp::from_wall(now, format),
                error_estimate: error,
                ..base()
            };
            packet.write(mode, &mut asked).unwrap();
            let authenticated = mode.is_authenticated();
            assert!(!SenderPacket::is_reply(&asked, authenticated));
            for held in [0, 59] {
                let sent = now + crate::time::Span::from_secs(held);
                let context = ReplyContext::stateless(now, sent, error);
                let (_, reply) = answer(&asked, security, &context);
                assert!(SenderPacket::is_reply(&reply, authenticated));
            }
        }
        // Whatever is shorter has no such place.
        for len in 0..mode.base_len() {
            assert!(!SenderPacket::is_reply(
                &vec![0; len],
                mode.is_authenticated()
            ));
        }
    }
}

#[test]
fn each_type_is_answered_by_what_the_reflector_knows() {
    let bytes = request(&[
        Body::Location(Location::REQUEST),
        Body::TimestampInformation(TimestampInformation::default()),
        Body::ClassOfService(ClassOfService {
            reply_dscp: 10,
            ..Default::default()
        }),
        Body::DirectMeasurement(DirectMeasurement {
            sender_tx: 7,
            ..Default::default()
        }),
        Body::AccessReport(AccessReport {
            access_id: 2,
            return_code: 1,
        }),
        Body::FollowUpTelemetry(FollowUpTelemetry::default()),
        Body::Opaque(TlvType(10), &[1, 2]),
        Body::ExtraPadding(&[0xaa; 3]),
    ]);
    let mut context = context();
    context.error_estimate = ErrorEstimate::from_bits(0x4001).unwrap();
    if let Numbering::Stateful {
        follow_up: Some(follow_up),
        ..
    } = &mut context.numbering
    {
        follow_up.sent_at = Wall::from_nanos(3_000_000_004);
    }
    let (reply, out) = answer(&bytes, Security::OPEN, &context);
    assert_eq!(
        (reply.extension, reply.dscp),
        (ExtensionOutcome::Answered, Some(10))
    );
    let expected = hex(&[
        "0002002c",
        "035e",
        "c350", // Location: destination port 862, source port 50000
        "00060010",
        "20010db8000000000000000000000001", // Destination IPv6 Address
        "00080010",
        "c0000201",
        &zeros(12), // Source IPv4 Address, MBZ
        "00030004",
        "00000000", // Timestamp Information
        "00040004",
        "2ae40000", // DSCP1 10, DSCP2 46, ECN 1, RP 0
        "0005000c",
        "00000007",
        "0000000a",
        "00000009", // Direct Measurement
        "00060004",
        "20010000", // Access Report
        "00070010",
        "00000008",
        "0000000300000004",
        "02000000", // Follow-Up: PTP, as Z says
        "800a0002",
        "0102", // not understood
        "00010003",
        "aaaaaa", // Extra Padding
    ]);
    assert_eq!(&out[44..], expected);
}

#[test]
fn what_is_not_known_is_not_made_up() {
    let bytes = request(&[
        Body::Location(Location::REQUEST),
        Body::TimestampInformation(TimestampInformation::default()),
        Body::ClassOfService(ClassOfService {
            reply_dscp: 10,
            ..Default::default()
        }),
        Body::DirectMeasurement(DirectMeasurement {
            sender_tx: 7,
            ..Default::default()
        }),
        Body::AccessReport(AccessReport {
            access_id: 3,
            return_code: 1,
        }),
    ]);
    let now = Wall::from_nanos(1);
    let ignorant = ReplyContext::stateless(now, now, ErrorEstimate::from_bits(1).unwrap());
    let (reply, out) = answer(&bytes, Security::OPEN, &ignorant);
    assert_eq!(
        (reply.extension, reply.dscp),
        (ExtensionOutcome::Answered, None)
    );
    assert_eq!(&out[44..], &bytes[44..], "all go back with U still set");
    assert_eq!(&out[40..44], [0; 4], "an unknown TTL is zero");
    let (packet, _) = ReflectorPacket::parse(&out, Mode::Open, Compatibility::Strict).unwrap();
    assert_eq!(
        packet.sequence,
        Seq(0x0102_0304),
        "a stateless reflector copies the number"
    );
}

#[test]
fn a_stateless_reflector_has_no_follow_up() {
    let bytes = with(&["80070010", "ffffffff", "ffffffffffffffff", "ff000000"]);
    let mut context = context();
    context.numbering = Numbering::Stateless;
    let (_, out) = answer(&bytes, Security::OPEN, &context);
    assert_eq!(&out[44..], hex(&["00070010", &zeros(16)]));
}

#[test]
fn a_dscp_that_is_not_permitted_is_refused() {
    let bytes = with(&["80040004", "b8000000"]);
    let mut context = context();
    context.permitted_dscp = DscpSet::NONE.with(0).with(10);
    context.received_tos = Some(0x28);
    let (reply, out) = answer(&bytes, Security::OPEN, &context);
    assert_eq!(reply.dscp, Some(10));
    assert_eq!(&out[44..], hex(&["00040004", "b8a10000"])); // DSCP1 46, DSCP2 10, ECN 0, RP 1
}

#[test]
fn processing_stops_at_what_is_malformed() {
    let bytes = with(&[
        "80030004",
        "00000000", // answered
        "80040003",
        "010203", // a Class of Service has 4 octets
        "8005000c",
        &zeros(12), // not reached
    ]);
    let (reply, out) = answer(&bytes, Security::OPEN, &context());
    assert_eq!(reply.extension, ExtensionOutcome::Malformed);
    let expected = hex(&[
        "00030004",
        "00000000",
        "40040003",
        "010203",
        "8005000c",
        &zeros(12),
    ]);
    assert_eq!(&out[44..], expected);

    let cases: [(&[&str], &[&str]); 5] = [
        // Length runs past the end.
        (&["8004001e", "010203"], &["4004001e", "010203"]),
        (&["80c8ffff", "010203"], &["c0c8ffff", "010203"]),
        // Erratum 8339: the fields of a malformed Follow-Up are zeroed.
        (
            &["8007000c", "0102030405060708090a0b0c"],
            &["4007000c", &"00".repeat(12)],
        ),
        // A sub-TLV of the wrong length.
        (
            &["8002000a", "00000000", "80040002", "0000"],
            &["4002000a", "00000000", "80040002", "0000"],
        ),
        (
            &["80020006", "00000000", "0000"],
            &["40020006", "00000000", "0000"],
        ),
    ];
    for (asked, expected) in cases {
        let (reply, out) = answer(&with(asked), Security::OPEN, &context());
        assert_eq!(reply.extension, ExtensionOutcome::Malformed, "{asked:?}");
        assert_eq!(&out[44..], hex(expected), "{asked:?}");
    }
}

#[test]
fn padding_goes_back_as_it_came() {
    let zero = zeros(20);
    for padding in [
        zero.as_str(),
        "00",
        "800400",
        "1f2e3d4c5b6a",
        "0004000400000000",
    ] {
        let bytes = with(&[padding]);
        let (reply, out) = answer(&bytes, Security::OPEN, &context());
        assert_eq!(reply.extension, ExtensionOutcome::Padding, "{padding}");
        assert_eq!(&out[44..], &bytes[44..]);
    }
    // Behind TLVs too.
    let (reply, out) = answer(&with(&["80010000", &zeros(9)]), Security::OPEN, &context());
    assert_eq!(reply.extension, ExtensionOutcome::Answered);
    assert_eq!(&out[44..], hex(&["00010000", &zeros(9)]));
}

#[test]
fn short_requests_are_answered_only_where_allowed_and_never_with_more() {
    let bytes = request(&[]);
    for len in 0..44 {
        let short = &bytes[..len];
        let strict = Request::parse(short, Security::OPEN, Compatibility::Strict);
        assert_eq!(strict.unwrap_err(), ParseError::TooShort { len, need: 44 });
        let lenient = Request::parse(short, Security::OPEN, Compatibility::TwampLight);
        if len < 38 {
            assert_eq!(lenient.unwrap_err(), ParseError::TooShort { len, need: 38 });
            continue;
        }
        let mut out = [0xee; 44];
        let reply = lenient.unwrap().reply(&context(), &mut out).unwrap();
        assert_eq!(reply.len, len);
        assert!(out[len..].iter().all(|octet| *octet == 0xee));
        let (packet, _) =
            ReflectorPacket::parse(&out[..len], Mode::Open, Compatibility::TwampLight).unwrap();
        assert_eq!(packet.sender_sequence, Seq(0x0102_0304));
        assert_eq!(packet.sender_ttl, (len > 40).then_some(250));
        assert_eq!(
            &out[14..16],
            [0, 0],
            "padding is not taken for an identifier"
        );
    }
}

#[test]
fn the_hmac_tlv_is_verified_and_made_anew() {
    // As computed with Python's hmac over the Sequence Number and both TLVs.
    let bytes = with(&[
        "8005000c",
        "00000007",
        &zeros(8), //
        "80070010",
        &zeros(16), //
        "80080010",
        "22a19ea87bc057237d86d4ff9829b0fa",
    ]);
    let mut same = request(&[
        Body::DirectMeasurement(DirectMeasurement {
            sender_tx: 7,
            ..Default::default()
        }),
        Body::FollowUpTelemetry(FollowUpTelemetry::default()),
        Body::Hmac([0; 16]),
    ]);
    let key = key();
    assert!(seal(&mut same, 44, &key));
    assert_eq!(bytes, same);

    let security = Security::Open {
        tlv: Some(Keys::shared(&key)),
    };
    let mut context = context();
    context.counters = Some((8, 6));
    context.numbering = Numbering::Stateful {
        sequence: Seq(0x11),
        follow_up: Some(FollowUp {
            sequence: Seq(0x10),
            sent_at: Timestamp {
                raw: 0xe9ab_cdef_0000_0000,
                format: TimestampFormat::Ntp,
            }
            .to_wall(Wall::from_nanos(1_755_000_000_000_000_000)),
            method: tlv::TimestampMethod::SOFTWARE,
        }),
    };
    let (reply, out) = answer(&bytes, security, &context);
    assert_eq!(reply.extension, ExtensionOutcome::Answered);
    let expected = hex(&[
        "0005000c",
        "00000007",
        "00000008",
        "00000006", //
        "00070010",
        "00000010",
        "e9abcdef00000000",
        "02000000", //
        "00080010",
        "872311b3a7be6c6816bfb865399ee91f",
    ]);
    assert_eq!(&out[44..], expected);
    let (packet, tlvs) = ReflectorPacket::parse(&out, Mode::Open, Compatibility::Strict).unwrap();
    assert_eq!(
        tlvs.trusted(packet.sequence, Some(&key)).unwrap().count(),
        3
    );
    // It covers the sequence number of its own packet only.
    assert_eq!(
        tlvs.trusted(Seq(0x12), Some(&key)).unwrap_err(),
        Distrust::WrongHmac
    );
    assert_eq!(
        tlvs.trusted(packet.sequence, None).unwrap_err(),
        Distrust::NoKey
    );
}

#[test]
fn each_direction_may_have_its_own_key() {
    let (there, back) = (key(), AuthKey::from_bytes(&[9; 16]).unwrap());
    let security = Security::Authenticated(Keys {
        request: &there,
        reply: &back,
    });
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, security.request())
        .push(&Body::DirectMeasurement(DirectMeasurement::default()))
        .unwrap()
        .push(&Body::Hmac([0; 16]))
        .unwrap();
    base().write(security.request(), &mut bytes).unwrap();
    seal(&mut bytes, 112, &there);
    let (reply, out) = answer(&bytes, security, &context());
    assert_eq!(reply.extension, ExtensionOutcome::Answered);
    let (packet, tlvs) =
        ReflectorPacket::parse(&out, security.reply(), Compatibility::Strict).unwrap();
    assert_eq!(
        tlvs.trusted(packet.sequence, Some(&back)).unwrap().count(),
        2
    );
    // A reply does not pass as a request, which prevents a loop between two reflectors.
    let looped = Request::parse(&out, security, Compatibility::Strict);
    assert_eq!(looped.unwrap_err(), ParseError::WrongHmac);
}

#[test]
fn where_integrity_fails_nothing_is_answered() {
    let key = key();
    let keyed = Security::Open {
        tlv: Some(Keys::shared(&key)),
    };
    let (hmac, zero) = (format!("80080010{}", "11".repeat(16)), zeros(12));
    let cases: [(&str, &[&str], &[&str], Security<'_>); 4] = [
        (
            "a wrong HMAC",
            &["8005000c", &zero, "80c80000", &hmac],
            &["2005000c", &zero, "a0c80000", &hmac.replacen("80", "20", 1)],
            keyed,
        ),
        (
            "an HMAC and no key",
            &[&hmac],
            &[&hmac.replacen("80", "20", 1)],
            Security::OPEN,
        ),
        (
            "an HMAC before another TLV",
            &[&hmac, "80030004", "00000000"],
            &[&hmac.replacen("80", "20", 1), "20030004", "00000000"],
            keyed,
        ),
        (
            "a malformed HMAC",
            &["80080002", "1111"],
            &["60080002", "1111"],
            keyed,
        ),
    ];
    for (name, asked, expected, security) in cases {
        let (reply, out) = answer(&with(asked), security, &context());
        assert_eq!(reply.extension, ExtensionOutcome::IntegrityFailed, "{name}");
        assert_eq!(&out[44..], hex(expected), "{name}");
        let (packet, tlvs) =
            ReflectorPacket::parse(&out, Mode::Open, Compatibility::Strict).unwrap();
        assert_eq!(
            tlvs.trusted(packet.sequence, Some(&key)).unwrap_err(),
            Distrust::RefusedByPeer,
            "{name}",
        );
    }
}

#[test]
fn authenticated_tlvs_need_an_hmac_but_for_padding() {
    let key = key();
    let security = Security::Authenticated(Keys::shared(&key));
    let ask = |body: &Body<'_>| {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, security.request())
            .push(body)
            .unwrap();
        base().write(security.request(), &mut bytes).unwrap();
        answer(&bytes, security, &context()).0.extension
    };
    assert_eq!(
        ask(&Body::ExtraPadding(&[0; 8])),
        ExtensionOutcome::Answered
    );
    let counters = Body::DirectMeasurement(DirectMeasurement::default());
    assert_eq!(ask(&counters), ExtensionOutcome::IntegrityFailed);
}
