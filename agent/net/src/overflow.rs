//! Telling what a full queue threw away from what arrived damaged.
//!
//! The kernel has one count of drops for a socket (`SO_RXQ_OVFL`): datagrams for which
//! there was no room, and datagrams whose checksum was wrong. The former is this host's
//! loss, the latter the path's. The host's own counts tell them apart.

use std::fs;

/// How many datagrams of this network namespace found no room, as far as they are not
/// accounted for.
#[derive(Debug, Default)]
pub(crate) struct Overflow {
    /// The host's count, as of the last reading.
    counted: u64,
    /// Of these, how many no socket's count has claimed yet.
    open: u64,
}

impl Overflow {
    /// Begins with what the calling thread's network namespace counts now.
    pub(crate) fn new() -> Self {
        Self {
            counted: no_room().unwrap_or(0),
            open: 0,
        }
    }

    /// Of `dropped` datagrams of a socket, how many found no room; all of them where the
    /// host does not tell.
    pub(crate) fn of(&mut self, dropped: u32) -> u32 {
        if self.open < u64::from(dropped) {
            let Some(counted) = no_room() else {
                return dropped;
            };
            self.open += counted.saturating_sub(self.counted);
            self.counted = counted;
        }
        let overflowed = self.open.min(u64::from(dropped));
        self.open -= overflowed;
        u32::try_from(overflowed).unwrap_or(dropped)
    }
}

/// `RcvbufErrors` and `MemErrors` of UDP over IPv4 and IPv6.
fn no_room() -> Option<u64> {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    // Without IPv6 there is no such file.
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
    Some(no_room_v4(&v4)? + no_room_v6(&v6))
}

/// A line of names, then one of values.
fn no_room_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let counts = pairs.filter(|(name, _)| matches!(*name, "RcvbufErrors" | "MemErrors"));
    counts.map(|(_, value)| value.parse::<u64>().ok()).sum()
}

/// A name and a value in each line.
fn no_room_v6(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .filter(|(name, _)| matches!(*name, "Udp6RcvbufErrors" | "Udp6MemErrors"))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace;
    use crate::probe::{ProbeOptions, ProbeSocket};
    use std::net::UdpSocket;

    #[test]
    fn the_hosts_counts_are_read() {
        let v4 = "Tcp: RcvbufErrors\nTcp: 9\nUdp: InDatagrams RcvbufErrors InCsumErrors MemErrors\nUdp: 7 30 5 2\nUdpLite: RcvbufErrors\nUdpLite: 8\n";
        assert_eq!(no_room_v4(v4), Some(32));
        assert_eq!(no_room_v4("Udp: RcvbufErrors\n"), None);
        let v6 =
            "Udp6InDatagrams  \t4\nUdp6RcvbufErrors \t5\nUdp6InCsumErrors\t6\nUdp6MemErrors\t7\n";
        assert_eq!(no_room_v6(v6), 12);
    }

    #[test]
    fn a_full_queue_is_told_by_the_host_and_no_more_than_it() {
        namespace::inside(|| {
            let mut overflow = Overflow::new();
            assert_eq!(overflow.of(5), 0, "nothing was thrown away yet");
            let local = "127.0.0.1:0".parse().unwrap();
            let mut socket = ProbeSocket::open(&ProbeOptions::reflector(local)).unwrap();
            let to = socket.local_addr().unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let room = u32::try_from(socket.receive_buffer().unwrap() / 2_000).unwrap();
            for _ in 0..3 * room {
                sender.send_to(&[0; 1_400], to).unwrap();
            }
            let mut told = 0;
            while socket.recv_batch(|r| told += r.overflowed).unwrap() > 0 {}
            sender.send_to(b"last", to).unwrap();
            while socket.recv_batch(|r| told += r.overflowed).unwrap() > 0 {}
            assert!(told > 0);
            assert_eq!(overflow.of(told + 7), told);
            assert_eq!(overflow.of(1), 0);
        });
    }
}
