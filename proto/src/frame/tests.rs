use super::*;
use proptest::prelude::*;

fn stream(payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for payload in payloads {
        append(&mut out, FrameKind::Block, payload).unwrap();
    }
    out
}

fn whole(input: &[u8]) -> Vec<&[u8]> {
    FrameReader::new(input)
        .filter_map(Result::ok)
        .map(|f| f.payload)
        .collect()
}

/// Sets a header's checksum right after a change to it.
fn reseal(frame: &mut [u8]) {
    let crc = crc32fast::hash(&frame[..16]);
    frame[16..20].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn the_layout_is_the_documented_one() {
    // CRC-32 of "123456789" is the check value of the polynomial's catalogue.
    let frame = stream(&[b"123456789"]);
    assert_eq!(&frame[..8], b"hgap\x01\x01\x00\x00");
    assert_eq!(&frame[8..12], [9, 0, 0, 0]);
    assert_eq!(&frame[12..16], 0xCBF4_3926_u32.to_le_bytes());
    assert_eq!(&frame[20..], b"123456789");
}

#[test]
fn frames_come_out_as_they_went_in() {
    let bytes = stream(&[b"one", b"", b"three"]);
    let frames: Vec<_> = FrameReader::new(&bytes).map(Result::unwrap).collect();
    assert_eq!(
        frames.iter().map(|f| f.payload).collect::<Vec<_>>(),
        [&b"one"[..], b"", b"three"]
    );
    assert_eq!(frames[1].offset, frames[0].end());
    assert_eq!(
        frames.iter().map(|f| f.raw).collect::<Vec<_>>().concat(),
        bytes
    );
}

#[test]
fn a_payload_beyond_the_maximum_is_refused() {
    let mut out = vec![7];
    let large = vec![0; MAX_PAYLOAD + 1];
    assert_eq!(
        append(&mut out, FrameKind::Block, &large),
        Err(PayloadTooLarge {
            length: MAX_PAYLOAD + 1
        })
    );
    assert_eq!(out, [7]);
    append(&mut out, FrameKind::Block, &large[1..]).unwrap();
    assert_eq!(out.len(), 1 + MAX_FRAME);
}

#[test]
fn every_cut_is_a_torn_tail_and_nothing_else() {
    let bytes = stream(&[b"first", b"second"]);
    let second = HEADER + 5;
    for cut in 1..bytes.len() {
        let mut reader = FrameReader::new(&bytes[..cut]);
        let got: Vec<_> = reader.by_ref().collect();
        let start = if cut < second { 0 } else { second };
        assert_eq!(reader.consumed(), start, "cut at {cut}");
        if cut == second {
            assert!(got.iter().all(Result::is_ok));
        } else {
            let Some(Err(FrameError::Torn { offset, missing })) = got.last() else {
                panic!("cut at {cut}: {got:?}");
            };
            assert_eq!(*offset, start);
            assert!(*missing > 0 && cut + missing <= bytes.len(), "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_its_own_frame_only() {
    let bytes = stream(&[b"before", b"hit hgap hit", b"after"]);
    let hit = HEADER + 6..2 * HEADER + 18;
    for at in hit.clone() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            assert_eq!(
                whole(&bytes),
                [&b"before"[..], b"after"],
                "byte {at} bit {bit}"
            );
            let damage: Vec<_> = FrameReader::new(&bytes).filter_map(Result::err).collect();
            assert!(
                matches!(damage[..], [FrameError::Corrupt { offset, length, .. }]
                    if offset == hit.start && length == hit.len()),
                "byte {at} bit {bit}: {damage:?}"
            );
        }
    }
}

#[test]
fn frames_are_found_behind_and_before_garbage() {
    let frame = stream(&[b"here"]);
    let bytes = [
        &b"garbage hgap garbage hga"[..],
        &frame,
        &[0; 4096],
        &frame,
        b"h",
    ]
    .concat();
    assert_eq!(whole(&bytes), [&b"here"[..], b"here"]);
    let errors: Vec<_> = FrameReader::new(&bytes).filter_map(Result::err).collect();
    assert_eq!(
        errors,
        [
            FrameError::Corrupt {
                offset: 0,
                length: 24,
                what: Corruption::Header
            },
            FrameError::Corrupt {
                offset: 48,
                length: 4096,
                what: Corruption::Header
            },
            FrameError::Torn {
                offset: bytes.len() - 1,
                missing: HEADER - 1
            },
        ]
    );
}

#[test]
fn a_newer_version_is_told_so_and_stepped_over() {
    let mut bytes = stream(&[b"future", b"now"]);
    bytes[4] = VERSION + 1;
    reseal(&mut bytes);
    let got: Vec<_> = FrameReader::new(&bytes).collect();
    assert_eq!(
        got[0],
        Err(FrameError::NewerVersion {
            offset: 0,
            length: 26,
            version: 2
        })
    );
    assert_eq!(got[1].unwrap().payload, b"now");
    assert_eq!(
        got[0].unwrap_err().to_string(),
        "the frame at byte 0 is of version 2, but this program reads versions up to 1; use a newer program"
    );
}

#[test]
fn an_unknown_kind_is_told_so_and_stepped_over() {
    let mut bytes = stream(&[b"strange", b"now"]);
    bytes[5] = 200;
    reseal(&mut bytes);
    let got: Vec<_> = FrameReader::new(&bytes).collect();
    assert_eq!(
        got[0],
        Err(FrameError::UnknownKind {
            offset: 0,
            length: 27,
            kind: 200
        })
    );
    assert_eq!(got[1].unwrap().payload, b"now");
}

#[test]
fn a_length_out_of_range_is_damage_even_under_a_good_checksum() {
    let mut bytes = stream(&[b"long", b"now"]);
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    reseal(&mut bytes);
    let got: Vec<_> = FrameReader::new(&bytes).collect();
    assert_eq!(
        got[0],
        Err(FrameError::Corrupt {
            offset: 0,
            length: 24,
            what: Corruption::Length
        })
    );
    assert_eq!(got[1].unwrap().payload, b"now");
}

#[test]
fn a_stream_is_read_as_it_comes() {
    let bytes = stream(&[b"one", b"two", b"three"]);
    let (mut buffer, mut got) = (Vec::new(), Vec::new());
    for byte in bytes {
        buffer.push(byte);
        let mut reader = FrameReader::new(&buffer);
        got.extend(reader.by_ref().flatten().map(|f| f.payload.to_vec()));
        let consumed = reader.consumed();
        buffer.drain(..consumed);
    }
    assert_eq!(got, [&b"one"[..], b"two", b"three"]);
    assert!(buffer.is_empty());
}

proptest! {
    /// Every byte is accounted for once, in order, whatever the input is.
    #[test]
    fn any_input_is_covered_without_gaps(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40).prop_map(|p| stream(&[&p])),
                proptest::collection::vec(any::<u8>(), 0..40),
                Just(b"hgap".to_vec()),
            ],
            0..12,
        ),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..4),
    ) {
        let mut bytes = pieces.concat();
        for (at, bit) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
        }
        let mut at = 0;
        let mut reader = FrameReader::new(&bytes);
        for item in reader.by_ref() {
            let (offset, length) = match item {
                Ok(frame) => (frame.offset, frame.raw.len()),
                Err(FrameError::Corrupt { offset, length, .. }
                    | FrameError::NewerVersion { offset, length, .. }
                    | FrameError::UnknownKind { offset, length, .. }) => (offset, length),
                Err(FrameError::Torn { offset, .. }) => (offset, bytes.len() - offset),
            };
            prop_assert_eq!(offset, at);
            prop_assert!(length > 0);
            at += length;
        }
        prop_assert_eq!(at, bytes.len());
    }
}
