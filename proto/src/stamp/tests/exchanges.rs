//! Exchanges with stamp-suite 1.0.0 over loopback: the requests are what this
//! codec wrote, the replies what `stamp-suite -i --stateful-reflector -S
//! 127.0.0.1` answered (with `-A A --hmac-key` 00 to 1f where authenticated).

use super::properties::context;
use super::tlv::{Body, SyncSource, TimestampInformation, TimestampMethod};
use super::*;
use crate::time::Wall;

struct Exchange {
    name: &'static str,
    request: &'static [&'static str],
    reply: &'static [&'static str],
}

const OPEN: &[Exchange] = &[
    Exchange {
        name: "base",
        request: &[
            "00000000eeae58598a71239e0f841234000000000000000000000000000000000000000000000000",
            "00000000",
        ],
        reply: &[
            "00000000eeae58598a80eeb400011234eeae58598a804b3600000000eeae58598a71239e0f840000",
            "40000000",
        ],
    },
    Exchange {
        name: "base, PTP",
        request: &[
            "0000000d6b03d9d9206f85674f841234000000000000000000000000000000000000000000000000",
            "00000000",
        ],
        reply: &[
            "0000000deeae58598b55032f00011234eeae58598b54ecab0000000d6b03d9d9206f85674f840000",
            "40000000",
        ],
    },
    Exchange {
        name: "location",
        request: &[
            "00000002eeae58598aedc54d0f841234000000000000000000000000000000000000000000000000",
            "000000008002002c0000000080040010000000000000000000000000000000008007001000000000",
            "000000000000000000000000",
        ],
        reply: &[
            "00000002eeae58598af3c4d900011234eeae58598af30f0d00000002eeae58598aedc54d0f840000",
            "400000000002002c21accb6a000500107f000001000000000000000000000000000800107f000001",
            "000000000000000000000000",
        ],
    },
    Exchange {
        name: "timestamp information",
        request: &[
            "00000003eeae58598af93b740f841234000000000000000000000000000000000000000000000000",
            "000000008003000400000000",
        ],
        reply: &[
            "00000003eeae58598afd23db00011234eeae58598afceb9200000003eeae58598af93b740f840000",
            "400000000003000405020502",
        ],
    },
    Exchange {
        name: "class of service",
        request: &[
            "00000004eeae58598b00a6c40f841234000000000000000000000000000000000000000000000000",
            "0000000080040004b8000000",
        ],
        reply: &[
            "00000004eeae58598b042ab200011234eeae58598b04018600000004eeae58598b00a6c40f840000",
            "4000000000040004b8003000",
        ],
    },
    Exchange {
        name: "direct measurement",
        request: &[
            "00000005eeae58598b08d7550f841234000000000000000000000000000000000000000000000000",
            "000000008005000c000000060000000000000000",
        ],
        reply: &[
            "00000005eeae58598b0c9f4e00011234eeae58598b0c72f300000005eeae58598b08d7550f840000",
            "400000000005000c000000060000000600000005",
        ],
    },
    Exchange {
        name: "access report",
        request: &[
            "00000006eeae58598b10763d0f841234000000000000000000000000000000000000000000000000",
            "000000008006000410010000",
        ],
        reply: &[
            "00000006eeae58598b1a636100011234eeae58598b1a41c600000006eeae58598b10763d0f840000",
            "400000000006000410010000",
        ],
    },
    Exchange {
        name: "access report, invalid",
        request: &[
            "00000007eeae58598b1e6d0b0f841234000000000000000000000000000000000000000000000000",
            "000000008006000430010000",
        ],
        reply: &[
            "00000007eeae58598b21ff6a00011234eeae58598b21ddcf00000007eeae58598b1e6d0b0f840000",
            "400000008006000430010000",
        ],
    },
    Exchange {
        name: "follow-up",
        request: &[
            "00000008eeae58598b2566460f841234000000000000000000000000000000000000000000000000",
            "000000008007001000000000000000000000000000000000",
        ],
        reply: &[
            "00000008eeae58598b28fdad00011234eeae58598b28d6b400000008eeae58598b2566460f840000",
            "400000000007001000000007eeae58598b21ff6a02000000",
        ],
    },
    Exchange {
        name: "padding",
        request: &[
            "00000009eeae58598b2d3b190f841234000000000000000000000000000000000000000000000000",
            "000000008001000caaaaaaaaaaaaaaaaaaaaaaaa",
        ],
        reply: &[
            "00000009eeae58598b30cfd200011234eeae58598b30a62500000009eeae58598b2d3b190f840000",
            "400000000001000caaaaaaaaaaaaaaaaaaaaaaaa",
        ],
    },
    Exchange {
        name: "unknown type",
        request: &[
            "0000000aeeae58598b348eba0f841234000000000000000000000000000000000000000000000000",
            "0000000080c8000401020304",
        ],
        reply: &[
            "0000000aeeae58598b37e4c400011234eeae58598b37c7050000000aeeae58598b348eba0f840000",
            "4000000080c8000401020304",
        ],
    },
    Exchange {
        name: "unverifiable HMAC",
        request: &[
            "0000000ceeae58598b44561c0f841234000000000000000000000000000000000000000000000000",
            "000000008002002c0000000080040010000000000000000000000000000000008007001000000000",
            "000000000000000000000000800300040000000080040004000000008005000c0000000000000000",
            "00000000800700100000000000000000000000000000000080080010000000000000000000000000",
            "00000000",
        ],
        reply: &[
            "0000000ceeae58598b4949a800011234eeae58598b49097c0000000ceeae58598b44561c0f840000",
            "400000002002002c0000000080040010000000000000000000000000000000008007001000000000",
            "000000000000000000000000200300040000000020040004000000002005000c0000000000000000",
            "00000000200700100000000000000000000000000000000020080010000000000000000000000000",
            "00000000",
        ],
    },
];

const AUTHENTICATED: &[Exchange] = &[
    Exchange {
        name: "base",
        request: &[
            "00000001000000000000000000000000eeae58598cb18a700f841234000000000000000000000000",
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000039fcaa4e3d38ed8d0759e06c7718f054",
        ],
        reply: &[
            "00000001000000000000000000000000eeae58598cb5c2a20001123400000000eeae58598cb5961b",
            "000000000000000000000001000000000000000000000000eeae58598cb18a700f84000000000000",
            "400000000000000000000000000000001e86b53695df629a4c422b78317201e6",
        ],
    },
    Exchange {
        name: "no HMAC TLV",
        request: &[
            "0000000a000000000000000000000000eeae58598d0c49dd0f841234000000000000000000000000",
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "000000000000000000000000000000009d7a3e25bb3377eefc20726e2f38861980c8000401020304",
        ],
        reply: &[
            "0000000a000000000000000000000000eeae58598d10c8240001123400000000eeae58598d10a3da",
            "00000000000000000000000a000000000000000000000000eeae58598d0c49dd0f84000000000000",
            "40000000000000000000000000000000c17d1be368df771bb7c650ad8dd4c279a0c8000401020304",
        ],
    },
    Exchange {
        name: "all",
        request: &[
            "0000000c000000000000000000000000eeae58598d232e1d0f841234000000000000000000000000",
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "000000000000000000000000000000001b4fa69a0753ff551d8e30d4661e36388002002c00000000",
            "80040010000000000000000000000000000000008007001000000000000000000000000000000000",
            "800300040000000080040004000000008005000c0000000000000000000000008007001000000000",
            "000000000000000000000000800800107dc8fb80b53d0e442286914a8528c037",
        ],
        reply: &[
            "0000000c000000000000000000000000eeae58598d2aa4540001123400000000eeae58598d2a2ab2",
            "00000000000000000000000c000000000000000000000000eeae58598d232e1d0f84000000000000",
            "40000000000000000000000000000000d058c25d5717fac129828de99e011e9e0002002c21ad94f2",
            "000500107f000001000000000000000000000000000800107f000001000000000000000000000000",
            "000300040502050200040004000030000005000c000000000000000d0000000c000700100000000b",
            "eeae58598d1bf0540200000000080010e22928fc61f37624900fabbb0a88f72e",
        ],
    },
];

/// Exchanges where stamp-suite adds or moves its HMAC TLV, for which other answers are also right.
const REARRANGED: &[Exchange] = &[
    Exchange {
        name: "padding",
        request: &[
            "00000009000000000000000000000000eeae58598cfffa4c0f841234000000000000000000000000",
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "00000000000000000000000000000000d559fd969c0e99db5c9fa2bb7d226e528001000caaaaaaaa",
            "aaaaaaaaaaaaaaaa",
        ],
        reply: &[
            "00000009000000000000000000000000eeae58598d050cc40001123400000000eeae58598d04929d",
            "000000000000000000000009000000000000000000000000eeae58598cfffa4c0f84000000000000",
            "40000000000000000000000000000000f8c71280aef0d3e1ae52f6df64e444b90001000caaaaaaaa",
            "aaaaaaaaaaaaaaaa000800103eea3bb869ea5975419adf7c1f921b57",
        ],
    },
    Exchange {
        name: "HMAC before padding",
        request: &[
            "0000000b000000000000000000000000eeae58598d15a2aa0f841234000000000000000000000000",
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "00000000000000000000000000000000ae623d298c5b1f886b289161c700927f8007001000000000",
            "00000000000000000000000080080010c79132b59db4036149c4fdb7e0ff8ac68001000800000000",
            "00000000",
        ],
        reply: &[
            "0000000b000000000000000000000000eeae58598d1bf0540001123400000000eeae58598d1ba693",
            "00000000000000000000000b000000000000000000000000eeae58598d15a2aa0f84000000000000",
            "400000000000000000000000000000009f1d61aa7d3b793c3458156ba03ac22d000700100000000a",
            "eeae58598d10c82402000000000100080000000000000000000800104bea2ce5c02f560bec9723f2",
            "f73e5883",
        ],
    },
];

/// A request of stamp-suite's sender, with every TLV that it knows to send.
const ITS_REQUEST: &[&str] = &[
    "00000000000000000000000000000000eeae5892d299318300010000000000000000000000000000",
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "00000000000000000000000000000000ba5ba4fd9360a6fec70ca2ed467c5b738004000400000000",
    "80030004000000008002002c00000000800700100000000000000000000000000000000080040010",
    "0000000000000000000000000000000080070010000000000000000000000000000000008005000c",
    "000000010000000000000000800600041001000080080010985193607d691fce00e96efc10bd2453",
];

const NOW: Wall = Wall::from_nanos(1_795_000_000_000_000_000);

/// What stamp-suite knew when it answered, as its reply tells.
fn its_context(packet: &ReflectorPacket, tlvs: tlv::Tlvs<'_>, port: u16) -> ReplyContext {
    let follow_up = |body| match body {
        Body::FollowUpTelemetry(previous) => Some(FollowUp {
            sequence: previous.sequence,
            sent_at: Timestamp {
                raw: previous.timestamp,
                format: TimestampFormat::Ntp,
            }
            .to_wall(NOW),
            method: previous.method,
        }),
        _ => None,
    };
    let mut bodies = tlvs.iter().map(|tlv| tlv.unwrap().body().unwrap());
    let source_port = bodies.clone().find_map(|body| match body {
        Body::Location(location) => Some(location.source_port),
        _ => None,
    });
    let counters = bodies.clone().find_map(|body| match body {
        Body::DirectMeasurement(counters) => Some((counters.reflector_rx, counters.reflector_tx)),
        _ => None,
    });
    ReplyContext {
        numbering: Numbering::Stateful {
            sequence: packet.sequence,
            follow_up: bodies.find_map(follow_up),
        },
        received_ttl: Some(64),
        received_tos: Some(0),
        timestamps: Some(TimestampInformation {
            sync_source_in: SyncSource::LOCAL,
            method_in: TimestampMethod::SOFTWARE,
            sync_source_out: SyncSource::LOCAL,
            method_out: TimestampMethod::SOFTWARE,
        }),
        counters,
        addresses: source_port.map(|source| {
            (
                ([127, 0, 0, 1], source).into(),
                ([127, 0, 0, 1], port).into(),
            )
        }),
        permitted_dscp: DscpSet::ALL,
        ..ReplyContext::stateless(
            packet.receive_timestamp.to_wall(NOW),
            packet.timestamp.to_wall(NOW),
            packet.error_estimate,
        )
    }
}

/// stamp-suite's timestamps have fractions of a nanosecond, ours do not: if `ours` is within
/// two nanoseconds of `theirs`, it becomes theirs.
fn adopt_timestamp(ours: &mut [u8], theirs: &[u8], at: usize) {
    let read = |bytes: &[u8]| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert!(
        read(ours).abs_diff(read(theirs)) <= 9,
        "{:x} {:x}",
        read(ours),
        read(theirs)
    );
    ours[at..at + 8].copy_from_slice(&theirs[at..at + 8]);
}

/// Returns the offset of the value of the first TLV with this Type and Length.
fn value_at(bytes: &[u8], base_len: usize, header: [u8; 3]) -> Option<usize> {
    let found = bytes[base_len..]
        .windows(3)
        .position(|window| window == header)?;
    Some(base_len + found + 3)
}

fn adopt_extension(ours: &mut [u8], theirs: &[u8], base_len: usize) {
    if let Some(at) = value_at(theirs, base_len, [7, 0, 16]) {
        adopt_timestamp(ours, theirs, at + 4);
    }
    // Following draft-ietf-ippm-stamp-cos-ecn it writes into bits that RFC 8972 reserves.
    if let Some(at) = value_at(theirs, base_len, [4, 0, 4]) {
        assert_eq!((ours[at + 2], theirs[at + 2]), (0, 0x30));
        ours[at + 2] = theirs[at + 2];
    }
}

#[test]
fn we_answer_as_stamp_suite_answers() {
    for Exchange {
        name,
        request,
        reply,
    } in OPEN
    {
        let (request, theirs) = (hex(request), hex(reply));
        let (packet, tlvs) =
            ReflectorPacket::parse(&theirs, Mode::Open, Compatibility::Strict).unwrap();
        assert_eq!(packet.ssid, Some(Ssid(0x1234)));
        assert_eq!(packet.sender_ttl, Some(64));
        let context = its_context(&packet, tlvs, 8620);
        let request = Request::parse(&request, Security::OPEN, Compatibility::Strict).unwrap();
        let mut ours = vec![0; theirs.len()];
        let written = request.reply(&context, &mut ours).unwrap();
        assert_eq!(written.len, theirs.len());
        adopt_timestamp(&mut ours, &theirs, 4);
        adopt_timestamp(&mut ours, &theirs, 16);
        // Where it could not verify the HMAC TLV, it left all values alone.
        if written.extension != ExtensionOutcome::IntegrityFailed {
            adopt_extension(&mut ours, &theirs, 44);
        }
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn we_answer_as_stamp_suite_answers_authenticated() {
    let key = key();
    let security = Security::Authenticated(Keys::shared(&key));
    for Exchange {
        name,
        request,
        reply,
    } in AUTHENTICATED
    {
        let (request, theirs) = (hex(request), hex(reply));
        let (packet, tlvs) =
            ReflectorPacket::parse(&theirs, security.reply(), Compatibility::Strict).unwrap();
        let context = its_context(&packet, tlvs, 8621);
        let request = Request::parse(&request, security, Compatibility::Strict).unwrap();
        let mut ours = vec![0; theirs.len()];
        let written = request.reply(&context, &mut ours).unwrap();
        assert_eq!(written.len, theirs.len());
        adopt_timestamp(&mut ours, &theirs, 16);
        adopt_timestamp(&mut ours, &theirs, 32);
        if written.extension != ExtensionOutcome::IntegrityFailed {
            adopt_extension(&mut ours, &theirs, 112);
        }
        // With its timestamps, the HMACs come out as its own, too.
        security.reply().sign(&mut ours[..112]);
        if written.extension == ExtensionOutcome::Answered {
            tlv::seal(&mut ours, 112, &key);
        }
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn its_rearranged_replies_are_trusted() {
    let key = key();
    for Exchange { name, reply, .. } in REARRANGED {
        let reply = hex(reply);
        let mode = Mode::Authenticated(&key);
        let (packet, tlvs) = ReflectorPacket::parse(&reply, mode, Compatibility::Strict).unwrap();
        let trusted: Vec<_> = tlvs.trusted(packet.sequence, Some(&key)).unwrap().collect();
        assert!(
            matches!(trusted[..], [.., Body::ExtraPadding(_), Body::Hmac(_)]),
            "{name}"
        );
    }
}

#[test]
fn the_requests_are_what_we_still_write() {
    let key = key();
    let cases = OPEN.iter().map(|exchange| (exchange, Mode::Open)).chain(
        AUTHENTICATED
            .iter()
            .chain(REARRANGED)
            .map(|exchange| (exchange, Mode::Authenticated(&key))),
    );
    for (exchange, mode) in cases {
        let request = hex(exchange.request);
        let (packet, tlvs) = SenderPacket::parse(&request, mode, Compatibility::Strict).unwrap();
        let mut again = Vec::new();
        let mut writer = tlv::Writer::new(&mut again, mode);
        for tlv in tlvs {
            writer.push(&tlv.unwrap().body().unwrap()).unwrap();
        }
        packet.write(mode, &mut again).unwrap();
        assert_eq!(again, request, "{}", exchange.name);
        if let Mode::Authenticated(key) = mode {
            tlv::seal(&mut again, mode.base_len(), key);
            assert_eq!(again, request, "{}", exchange.name);
        }
    }
}

#[test]
fn its_sender_is_answered_in_full() {
    let (key, request) = (key(), hex(ITS_REQUEST));
    let security = Security::Authenticated(Keys::shared(&key));
    let request = Request::parse(&request, security, Compatibility::Strict).unwrap();
    assert_eq!(request.packet().sequence, Seq(0), "it counts from zero");
    let mut reply = vec![0; 1024];
    let written = request.reply(&context(), &mut reply).unwrap();
    assert_eq!(written.extension, ExtensionOutcome::Answered);
    let (packet, tlvs) = ReflectorPacket::parse(
        &reply[..written.len],
        security.reply(),
        Compatibility::Strict,
    )
    .unwrap();
    let kinds: Vec<_> = tlvs
        .trusted(packet.sequence, Some(&key))
        .unwrap()
        .map(|body| body.kind().0)
        .collect();
    assert_eq!(kinds, [4, 3, 2, 7, 5, 6, 8], "every one was understood");
}
