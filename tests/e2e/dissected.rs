//! What tools that know nothing of hopgap make of its packets, and it of theirs.

use crate::measured::{Measured, Mode, Pair};
use crate::programs::program;
use crate::world::{Host, STAMP, World, sealed, wait_until};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn agent() -> PathBuf {
    program("hopgap-agent")
}

/// What tshark reads of a STAMP packet, which it takes for one of TWAMP (RFC 5357): the
/// fields of the two stand in the same places.
#[derive(Debug)]
struct Dissected {
    source_port: u16,
    destination_port: u16,
    seq: u64,
    /// In a reply: the Session-Sender Sequence Number and TTL.
    echoed: Option<(u64, u8)>,
    timestamp: String,
    error_estimate: u16,
    length: usize,
}

const FIELDS: [&str; 8] = [
    "udp.srcport",
    "udp.dstport",
    "twamp.test.seq_number",
    "twamp.test.sender_seq_number",
    "twamp.test.sender_ttl",
    "twamp.test.timestamp",
    "twamp.test.error_estimate",
    "udp.length",
];

fn dissect(capture: &Path) -> Vec<Dissected> {
    let mut command = std::process::Command::new("tshark");
    command.arg("-r").arg(capture);
    command.args(["-d", "udp.port==862,twamp.test", "-Y", "udp.port==862"]);
    command.args(["-T", "fields", "-E", "separator=|"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command
        .output()
        .expect("tshark is installed (`apt-get install -y tshark`)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            let [from, to, seq, sender_seq, ttl, timestamp, estimate, length] = cells[..] else {
                panic!("{line}")
            };
            Dissected {
                source_port: from.parse().unwrap(),
                destination_port: to.parse().unwrap(),
                seq: seq.parse().unwrap_or_else(|_| panic!("no number: {line}")),
                echoed: sender_seq
                    .parse()
                    .ok()
                    .map(|seq| (seq, ttl.parse().unwrap_or(0))),
                timestamp: timestamp.to_owned(),
                error_estimate: estimate
                    .parse()
                    .unwrap_or_else(|_| panic!("no Error Estimate: {line}")),
                length: length.parse().unwrap(),
            }
        })
        .collect()
}

#[test]
fn tshark_reads_of_our_packets_what_we_wrote() {
    sealed(&[&agent], |world| {
        let pair = Pair::new(world, Mode::Open);
        let _reflector =
            pair.reflector
                .serve(&agent(), &["reflect", "--listen", "10.0.1.2:862"], STAMP);
        let capture = Path::new("/run/scratch/packets.pcap");
        let tcpdump = pair.sender.start(
            Path::new("tcpdump"),
            &[
                "--immediate-mode",
                "-i",
                "right",
                "-w",
                "/run/scratch/packets.pcap",
                "-U",
                "-Z",
                "root",
                "udp",
                "port",
                "862",
            ],
        );
        wait_until("tcpdump listens", || capture.exists());
        let measure = pair.measure(&[
            "--flows",
            "2",
            "--interval",
            "10ms",
            "--trace-interval",
            "0s",
        ]);
        pair.answers(50);
        let found = Measured::of(&measure.interrupt().success());
        tcpdump.interrupt();

        let packets = dissect(capture);
        let (requests, replies): (Vec<_>, Vec<_>) =
            packets.iter().partition(|p| p.destination_port == STAMP);
        assert_eq!(requests.len() as u64, found.count("sent"));
        assert_eq!(replies.len() as u64, found.count("answered"));
        let mut next: BTreeMap<u16, u64> = BTreeMap::new();
        for request in &requests {
            let next = next.entry(request.source_port).or_default();
            assert_eq!(request.seq, *next, "{request:?}");
            *next += 1;
            assert_eq!(request.length, 8 + 44, "{request:?}");
            // A multiplier of zero is forbidden (RFC 4656 section 4.1.2).
            assert_ne!(request.error_estimate & 0xff, 0, "{request:?}");
        }
        assert_eq!(next.len(), 2);
        let mut next: BTreeMap<u16, u64> = BTreeMap::new();
        for reply in &replies {
            let next = next.entry(reply.destination_port).or_default();
            // Sent with TTL 255, over one router.
            assert_eq!(reply.echoed, Some((*next, 254)), "{reply:?}");
            assert_eq!(reply.seq, *next, "{reply:?}");
            *next += 1;
            assert_ne!(reply.error_estimate & 0xff, 0, "{reply:?}");
        }
        // Times of this year, as a person reads them.
        let year = pair.sender.run("date", &["+%Y"]);
        for packet in &packets {
            assert!(packet.timestamp.contains(year.trim()), "{packet:?}");
        }
    });
}

/// Runs a script of scapy's on `host`.
fn scapy(world: &World, host: &Host, script: &str) -> String {
    let file = world.file("script.py", script);
    host.run("/usr/bin/python3", &[file.to_str().unwrap()])
}

/// scapy's own STAMP packets, and a socket to send them from.
const HEAD: &str = r#"
import socket, struct, time
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated as Request
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated as Reply
from scapy.contrib.stamp import ErrorEstimate
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.0.0.1", 5000))
s.connect(("10.0.0.2", 862))
def ask(data, wait=0.3):
    s.settimeout(wait)
    s.send(bytes(data))
    try:
        return s.recv(65535)
    except TimeoutError:
        return None
"#;

#[test]
fn scapys_requests_are_answered_with_what_scapy_reads_as_a_reply() {
    sealed(&[&agent], |world| {
        let [sender, reflector] = world.row(["sender", "reflector"]);
        let reflect = reflector.serve(&agent(), &["reflect", "--listen", "10.0.0.2:862"], STAMP);
        let script = format!(
            r#"{HEAD}
for n in range(20):
    sent = time.time() + 2208988800  # from 1900, as NTP counts
    request = Request(seq=n, ts=sent, err_estimate=ErrorEstimate(S=1, Z=0, scale=0, multiplier=1), ssid=77)
    answer = ask(request, 5)
    reply = Reply(answer)
    assert len(answer) == 44, len(answer)
    assert reply.seq == n, reply.show(dump=True)
    assert reply.seq_sender == n, reply.show(dump=True)
    assert reply.ttl_sender == 64, reply.show(dump=True)
    assert reply.ssid == 77, reply.show(dump=True)
    assert abs(float(reply.ts_sender) - sent) < 1e-3, reply.show(dump=True)
    assert 0 <= float(reply.ts) - float(reply.ts_rx) < 1, reply.show(dump=True)
    assert 0 <= float(reply.ts_rx) - float(reply.ts_sender) < 1, reply.show(dump=True)
    assert reply.err_estimate.multiplier > 0
print("all read")
"#
        );
        assert_eq!(scapy(world, &sender, &script).trim(), "all read");
        let told = reflect.interrupt().stderr;
        assert!(told.contains("answered 20 probes"), "{told}");
    });
}

#[test]
fn malformed_packets_are_not_answered_or_answered_no_larger_and_end_nothing() {
    sealed(&[&agent], |world| {
        let [sender, reflector] = world.row(["sender", "reflector"]);
        let reflect = reflector.serve(&agent(), &["reflect", "--listen", "10.0.0.2:862"], STAMP);
        let script = format!(
            r#"{HEAD}
import random
random.seed(862)
good = bytes(Request(seq=1, ts=time.time(), err_estimate=ErrorEstimate(S=1, Z=0, scale=0, multiplier=1), ssid=77))
silent = [b"", b"\x00", good[:13], good[:37], bytes(44)]
for data in silent:
    assert ask(data, 0.1) is None, data
def tlv(flags, kind, length, value):
    return struct.pack("!BBH", flags, kind, length) + value
odd = [
    good + b"\x80",                               # an octet of a TLV
    good + tlv(0x80, 4, 0xffff, b"\x00" * 4),       # longer than the packet
    good + tlv(0x80, 4, 3, b"\x00" * 3),            # shorter than its type
    good + tlv(0x80, 8, 16, b"\x00" * 16),          # an HMAC in an open session
    good + tlv(0xff, 0, 0, b""),                   # reserved
    good + tlv(0x80, 10, 4, b"\x00" * 4),           # a return path to nowhere
    good + tlv(0x80, 1, 8900, b"\x55" * 8900),      # padding to a jumbo frame
]
for data in odd:
    answer = ask(data, 0.2)
    assert answer is None or len(answer) <= len(data), (data[:60], answer and len(answer))
answered = 0
for n in range(3000):
    data = bytearray(good + bytes(random.randrange(0, 200)))
    for _ in range(random.randrange(1, 12)):
        data[random.randrange(len(data))] = random.randrange(256)
    s.setblocking(False)
    s.send(bytes(data))
    while True:
        try:
            answered += len(s.recv(65535)) <= len(data)
        except BlockingIOError:
            break
s.close()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.0.0.1", 5001))
s.connect(("10.0.0.2", 862))
assert len(ask(good, 5)) == 44
assert answered > 0
print("still there")
"#
        );
        assert_eq!(scapy(world, &sender, &script).trim(), "still there");
        reflect.interrupt();
    });
}

#[test]
fn scapys_authenticated_requests_are_told_from_forged_ones() {
    sealed(&[&agent], |world| {
        let [sender, reflector] = world.row(["sender", "reflector"]);
        let key = world.file("key", KEY);
        let listen = [
            "reflect",
            "--listen",
            "10.0.0.2:862",
            "--key-file",
            key.to_str().unwrap(),
        ];
        let reflect = reflector.serve(&agent(), &listen, STAMP);
        let script = format!(
            r#"{HEAD}
import hmac, hashlib
key = bytes.fromhex("{KEY}")
def request(n, key):
    ntp = int((time.time() + 2208988800) * 2**32)
    base = struct.pack("!I12xQHH68x", n, ntp, 0x0001, 77)
    assert len(base) == 96, len(base)
    return base + hmac.new(key, base, hashlib.sha256).digest()[:16]
for n in range(10):
    answer = ask(request(n, key), 5)
    assert len(answer) == 112, len(answer)
    seq, sender_seq, ttl = struct.unpack("!I44xI28xB", answer[:81])
    assert (seq, sender_seq, ttl) == (n, n, 64), (seq, sender_seq, ttl)
    assert hmac.new(key, answer[:96], hashlib.sha256).digest()[:16] == answer[96:]
assert ask(request(10, bytes(32)), 0.3) is None
forged = bytearray(request(10, key)); forged[3] ^= 1
assert ask(forged, 0.3) is None
print("told apart")
"#
        );
        assert_eq!(scapy(world, &sender, &script).trim(), "told apart");
        let told = reflect.interrupt().stderr;
        assert!(told.contains("answered 10 probes"), "{told}");
        assert!(told.contains("did not answer 2 packets"), "{told}");
    });
}
