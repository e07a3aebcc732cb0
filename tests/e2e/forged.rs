//! A stranger who sees no packet, and sends ICMP errors in anybody's name.

use crate::guarded::attacker::Raw;
use crate::programs::program;
use crate::world::{STAMP, sealed};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Who the stranger says that routers are.
const NOBODY: [u8; 4] = [203, 0, 113, 9];

fn agent() -> PathBuf {
    program("hopgap-agent")
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// An ICMP error to 10.0.0.1 that quotes the packet of a session to 10.0.1.2, as far as
/// it can be known: addresses, ports, lengths. What cannot is `guess`.
fn error(kind: [u8; 2], mtu: u16, port: u16, length: u16, guess: u16) -> Vec<u8> {
    let mut quoted = vec![0x45, 0];
    quoted.extend((20 + length).to_be_bytes());
    quoted.extend(guess.to_be_bytes());
    quoted.extend([0, 0, 1, 17, 0, 0, 10, 0, 0, 1, 10, 0, 1, 2]);
    quoted.extend(port.to_be_bytes());
    quoted.extend(STAMP.to_be_bytes());
    quoted.extend(length.to_be_bytes());
    quoted.extend(guess.wrapping_mul(257).to_be_bytes());
    let mut icmp = kind.to_vec();
    icmp.extend([0, 0, 0, 0]);
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut packet = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0];
    packet.extend(NOBODY);
    packet.extend([10, 0, 0, 1]);
    packet.extend(icmp);
    packet
}

#[test]
fn a_stranger_s_icmp_names_no_hop_and_shrinks_no_packet() {
    sealed(&[&agent], |world| {
        let [here, between, there] = world.row(["here", "between", "there"]);
        let _reflect = there.serve(&agent(), &["reflect"], STAMP);
        let line = "measure 10.0.1.2 --flows 2 --source-port 50000 --interval 20ms \
                    --trace-interval 200ms --path-mtu-interval 1s --duration 5s --json";
        let words: Vec<&str> = line.split_whitespace().collect();
        let measuring = here.start(&agent(), &words);
        crate::world::wait_until("the probes leave", || {
            !here.run("ss", &["-Hlun", "sport = :50001"]).is_empty()
        });
        let mut packets = Vec::new();
        for guess in 0..2_000 {
            for port in [50_000, 50_001] {
                packets.push(error([11, 0], 0, port, 52, guess));
                packets.push(error([3, 4], 600, port, 1_480, guess));
            }
        }
        let sent = Raw::on(&between).flood(&packets, Duration::from_secs(3));
        assert!(sent > 1_000, "{sent}");
        let said = measuring.finish().success();
        // What is true is found, and nothing else.
        assert!(said.contains("10.0.0.2"), "{said}");
        let name = "203.0.113.9";
        assert!(!said.contains(name), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        let session = &said["sessions"][0];
        let mtu = &session["path_mtu"][0];
        assert_eq!(mtu["bytes"], 1500, "{mtu:#}");
        assert_eq!(mtu["limit"], "interface", "{mtu:#}");
        assert_eq!(session["counts"]["lost_forward"], 0);
        // That they came is told.
        let unfit = session["unfit_icmp"].as_array().unwrap();
        for what in ["trace", "too_big"] {
            let counted = unfit.iter().find(|u| u["what"] == what);
            let count = counted.and_then(|u| u["count"].as_u64()).unwrap_or(0);
            assert!(count > 100, "{what}: {unfit:?}");
        }
        let caveats = said["caveats"].as_array().unwrap();
        let caveats: Vec<&str> = caveats.iter().filter_map(Value::as_str).collect();
        let told = |what: &str| caveats.iter().any(|c| c.contains(what));
        assert!(told("traceroute answers that fit nothing"), "{caveats:?}");
        assert!(
            told("ICMP messages `too big` that fit nothing"),
            "{caveats:?}"
        );
        // The kernel believes nothing of the path either, whoever else sends on it.
        let route = here.run("ip", &["route", "get", "10.0.1.2"]);
        assert!(route.contains("via 10.0.0.2"), "{route}");
        assert!(!route.contains("mtu"), "{route}");
    });
}
