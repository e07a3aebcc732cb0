//! Packets written out by hand from the layouts of RFC 8762 and RFC 8972. The
//! HMACs were computed with Python's `hmac` over the octets shown.

use super::*;
use crate::time::{Span, Wall};

fn sender(format: TimestampFormat) -> SenderPacket {
    let (raw, bits) = match format {
        TimestampFormat::Ntp => (0xe9ab_cdef_8000_0000, 0x8f84),
        TimestampFormat::Ptp => (0x68a1_b2c3_3b9a_c9ff, 0x4f84),
    };
    SenderPacket {
        sequence: Seq(0x0102_0304),
        timestamp: Timestamp { raw, format },
        error_estimate: ErrorEstimate::from_bits(bits).unwrap(),
        ssid: Ssid(0xbeef),
    }
}

/// A reflector with NTP answers a sender with PTP: each field has its own format.
fn reflector() -> ReflectorPacket {
    let ntp = TimestampFormat::Ntp;
    let asked = sender(TimestampFormat::Ptp);
    ReflectorPacket {
        sequence: Seq(0x11),
        timestamp: Timestamp {
            raw: 0xe9ab_cdef_c000_0000,
            format: ntp,
        },
        error_estimate: ErrorEstimate::from_bits(0x8f84).unwrap(),
        ssid: Some(Ssid(0xbeef)),
        receive_timestamp: Timestamp {
            raw: 0xe9ab_cdef_8000_0000,
            format: ntp,
        },
        sender_sequence: asked.sequence,
        sender_timestamp: asked.timestamp,
        sender_error_estimate: asked.error_estimate,
        sender_ttl: Some(250),
    }
}

fn open_sender() -> Vec<u8> {
    hex(&[
        "01020304",         // 0  Sequence Number
        "e9abcdef80000000", // 4  Timestamp: NTP
        "8f84",             // 12 Error Estimate: S=1 Z=0 Scale=15 Multiplier=132
        "beef",             // 14 SSID
        &zeros(28),         // 16 MBZ
    ])
}

fn authenticated_sender() -> Vec<u8> {
    hex(&[
        "01020304",                         // 0  Sequence Number
        &zeros(12),                         // 4  MBZ
        "68a1b2c33b9ac9ff",                 // 16 Timestamp: PTP
        "4f84",                             // 24 Error Estimate: S=0 Z=1 Scale=15 Multiplier=132
        "beef",                             // 26 SSID
        &zeros(68),                         // 28 MBZ
        "0e2532e1f4e4179eb0cb9eea1a99df93", // 96 HMAC
    ])
}

fn open_reflector() -> Vec<u8> {
    hex(&[
        "00000011",         // 0  Sequence Number
        "e9abcdefc0000000", // 4  Timestamp: NTP
        "8f84",             // 12 Error Estimate: Z=0
        "beef",             // 14 SSID
        "e9abcdef80000000", // 16 Receive Timestamp: NTP
        "01020304",         // 24 Session-Sender Sequence Number
        "68a1b2c33b9ac9ff", // 28 Session-Sender Timestamp: PTP
        "4f84",             // 36 Session-Sender Error Estimate: Z=1
        "0000",             // 38 MBZ
        "fa",               // 40 Session-Sender TTL
        "000000",           // 41 MBZ
    ])
}

fn authenticated_reflector() -> Vec<u8> {
    hex(&[
        "00000011",                         // 0  Sequence Number
        &zeros(12),                         // 4  MBZ
        "e9abcdefc0000000",                 // 16 Timestamp: NTP
        "8f84",                             // 24 Error Estimate: Z=0
        "beef",                             // 26 SSID
        &zeros(4),                          // 28 MBZ
        "e9abcdef80000000",                 // 32 Receive Timestamp: NTP
        &zeros(8),                          // 40 MBZ
        "01020304",                         // 48 Session-Sender Sequence Number
        &zeros(12),                         // 52 MBZ
        "68a1b2c33b9ac9ff",                 // 64 Session-Sender Timestamp: PTP
        "4f84",                             // 72 Session-Sender Error Estimate: Z=1
        &zeros(6),                          // 74 MBZ
        "fa",                               // 80 Session-Sender TTL
        &zeros(15),                         // 81 MBZ
        "4f467da6b8cfb5156dbdc765098bbcb1", // 96 HMAC
    ])
}

#[test]
fn a_request_is_written_as_the_rfc_lays_it_out() {
    let mut out = [0xff; 44];
    assert_eq!(
        sender(TimestampFormat::Ntp).write(Mode::Open, &mut out),
        Ok(44)
    );
    assert_eq!(out.as_slice(), open_sender());
    let mut out = [0xff; 112];
    let key = key();
    let mode = Mode::Authenticated(&key);
    assert_eq!(sender(TimestampFormat::Ptp).write(mode, &mut out), Ok(112));
    assert_eq!(out.as_slice(), authenticated_sender());
}

#[test]
fn a_request_is_read_as_the_rfc_lays_it_out() {
    let bytes = open_sender();
    let (packet, tlvs) = SenderPacket::parse(&bytes, Mode::Open, Compatibility::Strict).unwrap();
    assert_eq!(
        (packet, tlvs.is_empty()),
        (sender(TimestampFormat::Ntp), true)
    );
    let (bytes, key) = (authenticated_sender(), key());
    let mode = Mode::Authenticated(&key);
    let (packet, tlvs) = SenderPacket::parse(&bytes, mode, Compatibility::Strict).unwrap();
    assert_eq!(
        (packet, tlvs.is_empty()),
        (sender(TimestampFormat::Ptp), true)
    );
    assert_eq!(claimed_ssid(&bytes, true), Some(Ssid(0xbeef)));
    assert_eq!(claimed_ssid(&open_sender(), false), Some(Ssid(0xbeef)));
    assert_eq!(claimed_ssid(&open_sender(), true), None);
}

#[test]
fn a_reply_is_written_as_the_rfc_lays_it_out() {
    let mut out = [0xff; 44];
    assert_eq!(reflector().write(Mode::Open, &mut out), Ok(44));
    assert_eq!(out.as_slice(), open_reflector());
    let mut out = [0xff; 112];
    let key = key();
    assert_eq!(
        reflector().write(Mode::Authenticated(&key), &mut out),
        Ok(112)
    );
    assert_eq!(out.as_slice(), authenticated_reflector());
}

#[test]
fn a_reply_is_read_as_the_rfc_lays_it_out() {
    let bytes = open_reflector();
    let (packet, _) = ReflectorPacket::parse(&bytes, Mode::Open, Compatibility::Strict).unwrap();
    assert_eq!(packet, reflector());
    let (bytes, key) = (authenticated_reflector(), key());
    let mode = Mode::Authenticated(&key);
    let (packet, _) = ReflectorPacket::parse(&bytes, mode, Compatibility::Strict).unwrap();
    assert_eq!(packet, reflector());
}

#[test]
fn each_timestamp_is_read_by_its_own_format() {
    let packet = reflector();
    let near = Wall::from_nanos(1_755_000_000_000_000_000);
    // 0x68a1b2c3 = 1755427523 s since 1970, and 999,999,999 ns.
    let t1 = packet.sender_timestamp.to_wall(near);
    assert_eq!(t1, Wall::from_nanos(1_755_427_523_999_999_999));
    // 0xe9abcdef = 3920350703 s since 1900, 2208988800 s before 1970.
    let t2 = packet.receive_timestamp.to_wall(near);
    assert_eq!(
        t2,
        Wall::from_nanos((3_920_350_703 - 2_208_988_800) * 1_000_000_000 + 500_000_000)
    );
    assert_eq!(packet.timestamp.to_wall(near) - t2, Span::from_millis(250));
}

#[test]
fn replies_of_twamp_light_say_what_they_have() {
    for (len, ttl) in [(38, None), (39, None), (41, Some(250)), (43, Some(250))] {
        let bytes = &open_reflector()[..len];
        assert_eq!(
            ReflectorPacket::parse(bytes, Mode::Open, Compatibility::Strict).unwrap_err(),
            ParseError::TooShort { len, need: 44 },
        );
        let (packet, tlvs) =
            ReflectorPacket::parse(bytes, Mode::Open, Compatibility::TwampLight).unwrap();
        let expected = ReflectorPacket {
            ssid: None,
            sender_ttl: ttl,
            ..reflector()
        };
        assert_eq!((packet, tlvs.is_empty()), (expected, true), "{len}");
    }
    let short = ReflectorPacket::parse(&[0; 37], Mode::Open, Compatibility::TwampLight);
    assert_eq!(
        short.unwrap_err(),
        ParseError::TooShort { len: 37, need: 38 }
    );
    // Compatibility does not weaken authentication.
    let (key, bytes) = (key(), authenticated_reflector());
    let mode = Mode::Authenticated(&key);
    let cut = ReflectorPacket::parse(&bytes[..111], mode, Compatibility::TwampLight);
    assert_eq!(
        cut.unwrap_err(),
        ParseError::TooShort {
            len: 111,
            need: 112
        }
    );
}

#[test]
fn a_multiplier_of_zero_marks_a_corrupt_packet() {
    let mut bytes = open_sender();
    bytes[13] = 0;
    assert_eq!(
        SenderPacket::parse(&bytes, Mode::Open, Compatibility::Strict).unwrap_err(),
        ParseError::ZeroMultiplier(ErrorEstimateField::Own),
    );
    for (at, field) in [
        (13, ErrorEstimateField::Own),
        (37, ErrorEstimateField::Sender),
    ] {
        let mut bytes = open_reflector();
        bytes[at] = 0;
        assert_eq!(
            ReflectorPacket::parse(&bytes, Mode::Open, Compatibility::Strict).unwrap_err(),
            ParseError::ZeroMultiplier(field),
        );
    }
}

#[test]
fn the_wrong_key_is_refused() {
    let other = AuthKey::from_bytes(&[7; 32]).unwrap();
    let bytes = authenticated_sender();
    assert_eq!(
        SenderPacket::parse(&bytes, Mode::Authenticated(&other), Compatibility::Strict)
            .unwrap_err(),
        ParseError::WrongHmac,
    );
}

#[test]
fn a_buffer_too_small_is_refused_and_left_alone() {
    let mut out = [0xff; 43];
    assert_eq!(
        reflector().write(Mode::Open, &mut out),
        Err(BufferTooSmall { len: 43, need: 44 }),
    );
    assert_eq!(out, [0xff; 43]);
}

#[test]
fn error_estimates_are_the_smallest_that_hold_the_error() {
    let of = |span: Span| ErrorEstimate::from_error(span, TimestampFormat::Ntp);
    // 1 ms = 4294967.296 units of 2^-32 s: 132 · 2^15 = 4325376 is the next above.
    let one = of(Span::from_millis(1));
    assert_eq!(
        (one.scale(), one.multiplier(), one.to_bits()),
        (15, 132, 0x0f84)
    );
    assert_eq!(one.as_span(), Span::from_nanos(1_007_081));
    // 255 units need no scale.
    assert_eq!(of(Span::from_nanos(59)).to_bits(), 254);
    assert_eq!(of(Span::from_nanos(60)).to_bits(), 0x0100 | 129);
    for none in [Span::ZERO, Span::from_nanos(-5)] {
        assert_eq!(of(none).to_bits(), 1);
    }
    assert_eq!(of(Span::MAX).as_span(), Span::MAX);
    assert_eq!(ErrorEstimate::from_bits(0x8f00), Err(ZeroMultiplier));
    assert!(one.with_synchronised(true).synchronised());
    assert_eq!(one.with_synchronised(true).to_bits(), 0x8f84);
}

/// `HMAC(HMAC(key, label || 01), octets 0 to 95)`, by the same program.
#[test]
fn the_keys_of_each_direction_are_derived_as_written() {
    let key = key();
    let keys = SessionKeys::per_direction(&key);
    let tag = |key: &AuthKey| {
        let mut bytes = [0; AUTHENTICATED_LEN];
        sender(TimestampFormat::Ntp)
            .write(Mode::Authenticated(key), &mut bytes)
            .unwrap();
        bytes[96..]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    assert_eq!(
        [tag(keys.keys().request), tag(keys.keys().reply)],
        [
            "3248d8285ebbf84aa3c38bb0930b8e6f",
            "bb77e7c46b112657d285f109be58c3b6"
        ]
    );
    assert!(keys.is_same(&SessionKeys::per_direction(&key)));
    assert!(!keys.is_same(&SessionKeys::shared(key)));
}

#[test]
fn keys_are_checked_and_never_shown() {
    assert_eq!(
        AuthKey::from_bytes(&[1; 15]).unwrap_err(),
        KeyError::TooShort(15)
    );
    assert_eq!(
        "00ff".parse::<AuthKey>().unwrap_err(),
        KeyError::TooShort(2)
    );
    assert_eq!(
        "0x0f".repeat(9).parse::<AuthKey>().unwrap_err(),
        KeyError::NotHex
    );
    assert_eq!(
        "0".repeat(33).parse::<AuthKey>().unwrap_err(),
        KeyError::NotHex
    );
    assert_eq!(
        "é".repeat(32).parse::<AuthKey>().unwrap_err(),
        KeyError::NotHex
    );
    assert_eq!(format!("{:?}", key()), "AuthKey(redacted)");
}
