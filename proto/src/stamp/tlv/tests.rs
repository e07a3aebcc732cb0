use super::*;

fn kinds(bytes: &[u8]) -> Vec<(u8, usize)> {
    Tlvs::new(bytes)
        .iter()
        .map(|tlv| tlv.map_or((0, 0), |tlv| (tlv.kind.0, tlv.value.len())))
        .collect()
}

#[test]
fn tlvs_are_walked_to_the_first_that_is_none() {
    assert_eq!(kinds(&[]), []);
    assert_eq!(kinds(&[0x80, 1, 0]), []);
    assert_eq!(kinds(&[0x80, 1, 0, 0]), [(1, 0)]);
    assert_eq!(
        kinds(&[0x80, 1, 0, 1, 9, 0, 200, 0, 0, 1, 2]),
        [(1, 1), (200, 0)]
    );
    assert_eq!(kinds(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0]), [(1, 0)]);
    let overrun = Tlvs::new(&[0x80, 4, 0, 4, 1, 2, 3]).iter().next();
    let truncated = Truncated {
        flags: Flags(0x80),
        kind: TlvType(4),
        claimed: 4,
        left: 3,
    };
    assert_eq!(overrun, Some(Err(truncated)));
}

#[test]
fn every_body_reads_back() {
    let bodies = [
        Body::ExtraPadding(&[1, 2, 3]),
        Body::Location(Location::REQUEST),
        Body::TimestampInformation(TimestampInformation {
            sync_source_in: SyncSource::NTP,
            method_in: TimestampMethod::HARDWARE,
            sync_source_out: SyncSource::PTP,
            method_out: TimestampMethod::SOFTWARE,
        }),
        Body::ClassOfService(ClassOfService {
            reply_dscp: 46,
            received_dscp: 63,
            received_ecn: 2,
            reverse_path: 1,
        }),
        Body::DirectMeasurement(DirectMeasurement {
            sender_tx: 1,
            reflector_rx: 2,
            reflector_tx: u32::MAX,
        }),
        Body::AccessReport(AccessReport {
            access_id: 2,
            return_code: 255,
        }),
        Body::FollowUpTelemetry(FollowUpTelemetry {
            sequence: crate::stamp::Seq(5),
            timestamp: u64::MAX - 1,
            method: TimestampMethod::CONTROL_PLANE,
        }),
        Body::Hmac([7; 16]),
        Body::Opaque(TlvType(77), &[]),
    ];
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, crate::stamp::Mode::Open);
    for body in &bodies {
        writer.push(body).unwrap();
    }
    let read: Vec<_> = Tlvs::new(&bytes[44..])
        .iter()
        .map(|tlv| tlv.unwrap().body().unwrap())
        .collect();
    assert_eq!(read, bodies);
    assert!(
        Tlvs::new(&bytes[44..])
            .iter()
            .all(|tlv| tlv.unwrap().flags == Flags::UNRECOGNISED)
    );
}

#[test]
fn a_value_too_long_is_not_appended() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, crate::stamp::Mode::Open);
    let value = vec![0; 65536];
    assert_eq!(
        writer.push(&Body::ExtraPadding(&value)).unwrap_err(),
        ValueTooLong(65536)
    );
    assert_eq!(writer.pad(65536).unwrap_err(), ValueTooLong(65536));
    writer.pad(65535).unwrap();
    assert_eq!(bytes.len(), 44 + 4 + 65535);
    assert_eq!(&bytes[44..48], [0x80, 1, 0xff, 0xff]);
}

#[test]
fn what_was_not_understood_is_not_used() {
    let reply = [
        0x80, 5, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, // not understood: skipped
        0x00, 6, 0, 4, 0x10, 1, 0, 0, // understood
        0x40, 3, 0, 3, 0, 0, 0, // malformed: the end
        0x00, 6, 0, 4, 0x20, 1, 0, 0,
    ];
    let used: Vec<_> = Tlvs::new(&reply)
        .trusted(crate::stamp::Seq(0), None)
        .unwrap()
        .collect();
    assert_eq!(
        used,
        [Body::AccessReport(AccessReport {
            access_id: 1,
            return_code: 1
        })]
    );
    // The same where the peer did not notice.
    let reply = [0, 3, 0, 3, 0, 0, 0, 0, 6, 0, 4, 0x20, 1, 0, 0];
    assert_eq!(
        Tlvs::new(&reply)
            .trusted(crate::stamp::Seq(0), None)
            .unwrap()
            .count(),
        0
    );
}
