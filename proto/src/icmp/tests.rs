use super::*;
use proptest::prelude::*;

/// Reads hexadecimal text, written field by field.
fn hex(fields: &[&str]) -> Vec<u8> {
    let digits = fields.concat();
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// An IPv4 header and a UDP header as quoted, with `payload` in hexadecimal.
fn quote_v4(payload: &str) -> Vec<u8> {
    hex(&[
        "45", "b8", "0048", // version and length, TOS, total length 72
        "abcd", "4000", // identification, don't fragment
        "01", "11", "0000", // TTL 1, UDP, checksum
        "0a010b0a", "0a110b84", // 10.1.11.10 to 10.17.11.132
        "c350", "035e", "0034", "beef", // ports 50000 and 862, length 52, checksum
        payload,
    ])
}

fn message(header: &str, quote: &[u8]) -> Vec<u8> {
    let mut bytes = hex(&[header]);
    bytes.extend_from_slice(quote);
    bytes
}

const UDP: QuotedUdp = QuotedUdp {
    source_port: 50000,
    destination_port: 862,
    len: 52,
    checksum: 0xbeef,
};

#[test]
fn time_exceeded_quotes_the_probe() {
    let bytes = message("0b00f00d00000000", &quote_v4("00000007"));
    let error = IcmpError::parse(Version::V4, &bytes).unwrap();
    assert_eq!(
        (error.kind, error.icmp_type, error.code),
        (IcmpErrorKind::TimeExceeded, 11, 0)
    );
    let expected = QuotedDatagram {
        source: "10.1.11.10".parse().unwrap(),
        destination: "10.17.11.132".parse().unwrap(),
        protocol: 17,
        ip_id: Some(0xabcd),
        ttl: 1,
        tos: 0xb8,
        total_len: 72,
        udp: Some(UDP),
        payload: &[0, 0, 0, 7],
    };
    assert_eq!(error.quoted, expected);
}

#[test]
fn unreachables_say_why() {
    let kind = |version, header: &str, quote: &[u8]| {
        IcmpError::parse(version, &message(header, quote))
            .unwrap()
            .kind
    };
    let unreachable = IcmpErrorKind::DestinationUnreachable;
    let v4 = |header: &str| kind(Version::V4, header, &quote_v4(""));
    assert_eq!(v4("0300000000000000"), unreachable(Unreachable::Network));
    assert_eq!(v4("0301000000000000"), unreachable(Unreachable::Host));
    assert_eq!(v4("0303000000000000"), unreachable(Unreachable::Port));
    assert_eq!(v4("030d000000000000"), unreachable(Unreachable::Prohibited));
    assert_eq!(v4("0305000000000000"), unreachable(Unreachable::Other));
    assert_eq!(
        v4("03040000000005aa"),
        IcmpErrorKind::PacketTooBig { mtu: 1450 }
    );
    assert_eq!(v4("0b01000000000000"), IcmpErrorKind::Other);
    let v6 = |header: &str| kind(Version::V6, header, &quote_v6("11", ""));
    assert_eq!(v6("0100000000000000"), unreachable(Unreachable::Network));
    assert_eq!(v6("0101000000000000"), unreachable(Unreachable::Prohibited));
    assert_eq!(v6("0103000000000000"), unreachable(Unreachable::Host));
    assert_eq!(v6("0104000000000000"), unreachable(Unreachable::Port));
    assert_eq!(
        v6("0200000000000500"),
        IcmpErrorKind::PacketTooBig { mtu: 1280 }
    );
    assert_eq!(v6("0300000000000000"), IcmpErrorKind::TimeExceeded);
    assert_eq!(v6("0400000000000000"), IcmpErrorKind::Other);
}

/// An IPv6 header whose Next Header is `next`, extension headers, and a UDP header.
fn quote_v6(next: &str, extensions: &str) -> Vec<u8> {
    let payload_len = 52 + extensions.len() / 2;
    hex(&[
        "6b8fffff",
        &format!("{payload_len:04x}"),
        next,
        "03",                               // class b8, length, hop limit 3
        "20010db8000000000000000000000001", // 2001:db8::1
        "20010db8000000000000000000000002", // 2001:db8::2
        extensions,
        "c350",
        "035e",
        "0034",
        "beef",     // UDP
        "00000007", // payload
    ])
}

#[test]
fn ipv6_is_read_past_extension_headers() {
    let cases = [
        ("11", "", 92),
        ("00", "1100000000000000", 100), // hop-by-hop options
        ("3c", "2b000000000000001100000000000000", 108), // destination options, routing
        (
            "33",
            "1104000000000000000000000000000000000000000000aa",
            116,
        ), // authentication
        ("2c", "1100000100000009", 100), // first fragment
    ];
    for (next, extensions, total_len) in cases {
        let bytes = message("0300000000000000", &quote_v6(next, extensions));
        let quoted = IcmpError::parse(Version::V6, &bytes).unwrap().quoted;
        let expected = QuotedDatagram {
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
            protocol: 17,
            ip_id: None,
            ttl: 3,
            tos: 0xb8,
            total_len,
            udp: Some(UDP),
            payload: &[0, 0, 0, 7],
        };
        assert_eq!(quoted, expected, "{next} {extensions}");
    }
}

#[test]
fn later_fragments_have_no_ports() {
    let mut quote = quote_v4("");
    quote[7] = 1; // fragment offset 8
    let bytes = message("0b00000000000000", &quote);
    let quoted = IcmpError::parse(Version::V4, &bytes).unwrap().quoted;
    assert_eq!((quoted.udp, quoted.payload.len()), (None, 8));
    let bytes = message("0300000000000000", &quote_v6("2c", "1100000900000009"));
    let quoted = IcmpError::parse(Version::V6, &bytes).unwrap().quoted;
    assert_eq!((quoted.protocol, quoted.udp), (17, None));
}

#[test]
fn extensions_are_cut_off_by_their_length() {
    // RFC 4884: 128 octets of quote (32 words), then an MPLS label stack.
    let mut quote = quote_v4(&"00".repeat(100));
    quote[3] = 228; // as it was sent: 228 bytes, more than is quoted
    quote.extend(hex(&["2000dead", "00080101", "00010101"]));
    assert_eq!(quote.len(), 140);
    let bytes = message("0b00000000200000", &quote);
    let error = IcmpError::parse(Version::V4, &bytes).unwrap();
    assert_eq!(error.quoted.payload, [0; 100]);
    // ICMPv6 has its length elsewhere, in words of eight octets.
    let mut quote = quote_v6("11", "");
    quote[5] = 200;
    quote.resize(128, 0);
    quote.extend(hex(&["2000dead", "00080101", "00010101"]));
    let bytes = message("0300000010000000", &quote);
    assert_eq!(
        IcmpError::parse(Version::V6, &bytes)
            .unwrap()
            .quoted
            .payload
            .len(),
        80
    );
    // A length beyond the message is cut with it; types without a length have none.
    let bytes = message("0b00000000ff0000", &quote_v4("0102"));
    assert_eq!(
        IcmpError::parse(Version::V4, &bytes)
            .unwrap()
            .quoted
            .payload,
        [1, 2]
    );
    let bytes = message("0400000000010000", &quote_v4("0102"));
    assert_eq!(
        IcmpError::parse(Version::V4, &bytes)
            .unwrap()
            .quoted
            .payload,
        [1, 2]
    );
}

#[test]
fn padding_after_a_short_probe_is_cut_off() {
    // A probe of 72 bytes, padded to 128 by the router, and an extension that
    // no length announces.
    let mut quote = quote_v4(&"11".repeat(44));
    quote.resize(128, 0);
    quote.extend(hex(&["2000dead", "00080101", "00010101"]));
    let bytes = message("0b00000000000000", &quote);
    assert_eq!(
        IcmpError::parse(Version::V4, &bytes)
            .unwrap()
            .quoted
            .payload,
        [0x11; 44]
    );
    // The same from a router that quotes no sensible total length.
    quote[2..4].copy_from_slice(&[0, 0]);
    let bytes = message("0b00000000000000", &quote);
    assert_eq!(
        IcmpError::parse(Version::V4, &bytes)
            .unwrap()
            .quoted
            .payload
            .len(),
        100
    );
}

#[test]
fn what_is_no_error_is_named() {
    let parse = |version, header: &str, quote: &[u8]| {
        IcmpError::parse(version, &message(header, quote)).unwrap_err()
    };
    assert_eq!(
        IcmpError::parse(Version::V4, &[11; 7]),
        Err(IcmpParseError::TooShort(7))
    );
    assert_eq!(
        parse(Version::V4, "0000000000000000", &[]),
        IcmpParseError::NotAnError(0)
    );
    assert_eq!(
        parse(Version::V6, "8100000000000000", &[]),
        IcmpParseError::NotAnError(129)
    );
    let quote = quote_v4("");
    assert_eq!(
        parse(Version::V4, "0b00000000000000", &quote[..19]),
        IcmpParseError::NoQuote
    );
    assert_eq!(
        parse(Version::V6, "0300000000000000", &quote),
        IcmpParseError::NoQuote
    );
}

#[test]
fn quotes_of_the_least_size_are_enough() {
    let quote = quote_v4("");
    let bytes = message("0b00000000000000", &quote);
    let quoted = IcmpError::parse(Version::V4, &bytes).unwrap().quoted;
    assert_eq!((quoted.udp, quoted.payload), (Some(UDP), &[][..]));
    let bytes = message("0b00000000000000", &quote[..24]);
    let quoted = IcmpError::parse(Version::V4, &bytes).unwrap().quoted;
    assert_eq!((quoted.udp, quoted.payload.len()), (None, 4));
}

#[test]
fn an_ip_header_is_stripped_with_its_options() {
    let mut packet = quote_v4("");
    assert_eq!(
        ipv4_payload(&packet).map(|(source, rest)| (source.to_string(), rest.len())),
        Some(("10.1.11.10".to_owned(), 8)),
    );
    packet[0] = 0x46;
    assert_eq!(ipv4_payload(&packet).map(|(_, rest)| rest.len()), Some(4));
    for wrong in [0x65, 0x44, 0x4f] {
        packet[0] = wrong;
        assert_eq!(ipv4_payload(&packet), None, "{wrong:x}");
    }
}

proptest! {
    #[test]
    fn no_message_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), plausible: bool, six: bool) {
        if plausible && let Some(header) = bytes.first_chunk_mut::<15>() {
            header[0] = if six { 3 } else { 11 };
            header[8] = if six { 0x60 } else { 0x45 };
            header[14] %= 64;
        }
        for version in [Version::V4, Version::V6] {
            let _ = IcmpError::parse(version, &bytes);
        }
        let _ = ipv4_payload(&bytes);
    }

    #[test]
    fn quotes_cut_anywhere_do_not_panic(len in 0usize..140, next in prop_oneof![Just("00"), Just("2b"), Just("2c"), Just("33"), Just("3c")]) {
        let bytes = message("0300000000000000", &quote_v6(next, &next.repeat(64)));
        let _ = IcmpError::parse(Version::V6, &bytes[..len.min(bytes.len())]);
    }
}
