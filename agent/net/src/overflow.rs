//! Tells datagrams that a full queue dropped from those that arrived damaged.
//!
//! The kernel keeps one count of drops for a socket (`SO_RXQ_OVFL`): datagrams for which
//! there was no room, and datagrams with a wrong checksum. The former are this host's loss,
//! the latter the path's. The host's own count of wrong checksums tells them apart.
//!
//! That count covers the whole network namespace, including datagrams that the socket's count
//! lacks (the kernel finds damage in short ones before it looks for a socket). As many drops
//! of a socket as this count rises by are taken for damaged, so a loss of the path is never
//! excused as this host's own. To avoid the opposite error, the counts are read once a second
//! while datagrams come, which costs next to nothing: only damage within the same second as
//! an overflow can be taken for a part of it.

use crate::sys;
use std::fs;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How often the counts are read while nothing is dropped: a few tens of microseconds each time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counts the datagrams for which a socket's queue had no room.
#[derive(Debug)]
pub(crate) struct Overflow {
    /// The socket's count as of the last datagram that was fetched.
    fetched: u32,
    /// The socket's count when it was last read.
    looked: u32,
    looked_at: Instant,
    /// The host's count of wrong checksums at that time.
    damaged_on_host: u64,
    /// Drops before that time that no fetched datagram has reported yet.
    untold: Kinds,
    /// Datagrams for which there was no room, in all.
    total: u32,
}

/// Drops by their reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds {
    no_room: u32,
    damaged: u32,
}

impl Overflow {
    /// Begins with the present counts of the calling thread's network namespace.
    pub(crate) fn new() -> Self {
        Self {
            fetched: 0,
            looked: 0,
            looked_at: Instant::now(),
            damaged_on_host: damaged().unwrap_or(0),
            untold: Kinds::default(),
            total: 0,
        }
    }

    /// Takes the socket's count of drops as of a datagram's arrival. Returns how many
    /// datagrams found no room since the last one; all that were dropped where the host does
    /// not count damage.
    pub(crate) fn since(&mut self, dropped: u32, socket: BorrowedFd<'_>) -> u32 {
        let more = dropped.wrapping_sub(self.fetched);
        self.fetched = dropped;
        if more == 0 {
            return 0;
        }
        if self.untold.no_room.saturating_add(self.untold.damaged) < more {
            self.look(dropped, socket);
        }
        // Drops that were never split count as no room: their reason is unknown.
        let of_damaged = more
            .saturating_sub(self.untold.no_room)
            .min(self.untold.damaged);
        let no_room = more - of_damaged;
        self.untold.no_room = self.untold.no_room.saturating_sub(no_room);
        self.untold.damaged -= of_damaged;
        self.total = self.total.wrapping_add(no_room);
        no_room
    }

    /// Reads the counts if the last reading is a second old. Call it when datagrams came,
    /// before [`Self::since`].
    pub(crate) fn look_now_and_then(&mut self, socket: BorrowedFd<'_>) {
        if self.looked_at.elapsed() >= LOOK_EVERY {
            self.look(self.looked, socket);
        }
    }

    fn look(&mut self, dropped: u32, socket: BorrowedFd<'_>) {
        // Drops after the datagram's arrival are in the host's count already.
        let now = sys::drops(socket).unwrap_or(dropped);
        let more = now.wrapping_sub(self.looked);
        self.looked = now;
        self.looked_at = Instant::now();
        let Some(damaged) = damaged() else {
            self.untold.no_room = self.untold.no_room.saturating_add(more);
            return;
        };
        let kinds = kinds(more, damaged.saturating_sub(self.damaged_on_host));
        self.damaged_on_host = damaged;
        self.untold.no_room = self.untold.no_room.saturating_add(kinds.no_room);
        self.untold.damaged = self.untold.damaged.saturating_add(kinds.damaged);
    }

    /// Datagrams for which there was no room, in all.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }
}

/// Splits a socket's `drops` by `damaged`, how many wrong checksums the host counted meanwhile.
fn kinds(drops: u32, damaged: u64) -> Kinds {
    let damaged = u32::try_from(damaged).unwrap_or(u32::MAX).min(drops);
    Kinds {
        no_room: drops - damaged,
        damaged,
    }
}

/// Returns `InCsumErrors` of UDP over IPv4 and IPv6 together.
fn damaged() -> Option<u64> {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    // Without IPv6 there is no such file.
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
    Some(damaged_v4(&v4)? + damaged_v6(&v6))
}

/// Reads a line of names, then one of values.
fn damaged_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(name, _)| *name == "InCsumErrors")?;
    value.parse().ok()
}

/// Reads a name and a value in each line.
fn damaged_v6(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .find(|(name, _)| *name == "Udp6InCsumErrors")
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace;
    use crate::outbox::TxStamps;
    use crate::probe::{ProbeOptions, ProbeSocket};
    use crate::raw::{Family, RawPacket, RawSender};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn the_hosts_counts_are_read() {
        let v4 = "Tcp: InCsumErrors\nTcp: 9\nUdp: InDatagrams RcvbufErrors InCsumErrors MemErrors\nUdp: 7 30 5 2\nUdpLite: InCsumErrors\nUdpLite: 8\n";
        assert_eq!(damaged_v4(v4), Some(5));
        assert_eq!(damaged_v4("Udp: RcvbufErrors\nUdp: 7\n"), None);
        assert_eq!(damaged_v4("Udp: InCsumErrors\n"), None);
        let v6 =
            "Udp6InDatagrams  \t4\nUdp6RcvbufErrors \t5\nUdp6InCsumErrors\t6\nUdp6MemErrors\t7\n";
        assert_eq!(damaged_v6(v6), 6);
    }

    #[test]
    fn every_drop_has_one_reason_and_no_more_are_damaged_than_the_host_saw() {
        for (drops, on_host, no_room, damaged) in [
            (0, 0, 0, 0),
            (5, 0, 5, 0),
            (5, 2, 3, 2),
            (5, 9, 0, 5),
            (u32::MAX, u64::MAX, 0, u32::MAX),
        ] {
            assert_eq!(kinds(drops, on_host), Kinds { no_room, damaged });
        }
    }

    /// Sends one datagram of `length` bytes to `to` with a wrong checksum.
    fn damage(raw: &mut RawSender, to: SocketAddr, length: u8) {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
        bytes.extend([127, 0, 0, 1, 127, 0, 0, 1]);
        bytes.extend(40_000_u16.to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend([0, 8 + length, 0xde, 0xad]);
        bytes.extend(1..=length);
        raw.send(&RawPacket {
            bytes: &bytes,
            from: HERE,
            to: HERE,
            ttl: 64,
            tos: 0,
        })
        .unwrap();
    }

    /// Fetches all that waits. Returns how many datagrams, and how many were reported to have
    /// had no room.
    fn fetch(socket: &mut ProbeSocket) -> (u32, u32) {
        let (mut fetched, mut told) = (0, 0);
        while socket
            .recv_batch(|r| {
                fetched += 1;
                told += r.overflowed;
            })
            .unwrap()
            > 0
        {}
        (fetched, told)
    }

    #[test]
    fn what_had_no_room_and_what_was_damaged_are_told_apart_whichever_comes_first() {
        namespace::inside(|| {
            let open = || {
                let local = SocketAddr::new(HERE, 0);
                ProbeSocket::open(&ProbeOptions::reflector(local)).unwrap()
            };
            let (mut socket, mut other) = (open(), open());
            let (to, to_other) = (socket.local_addr().unwrap(), other.local_addr().unwrap());
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut raw = RawSender::open(Family::V4, TxStamps::Off).unwrap();
            let overrun = |to: SocketAddr, room: usize| {
                let many = u32::try_from(3 * room / 2_000).unwrap();
                for _ in 0..many {
                    sender.send_to(&[0; 1_400], to).unwrap();
                }
                many
            };

            // Damaged only.
            for _ in 0..3 {
                damage(&mut raw, to, 112);
            }
            assert_eq!(fetch(&mut socket), (0, 0));
            sender.send_to(b"x", to).unwrap();
            sender.send_to(b"x", to).unwrap();
            assert_eq!(
                fetch(&mut socket),
                (2, 0),
                "damaged is not this host's loss"
            );

            // Short ones, which this kernel does not count at the socket: they are
            // forgotten when it overflows later.
            for _ in 0..3 {
                damage(&mut raw, to, 44);
            }
            std::thread::sleep(LOOK_EVERY);

            // No room only.
            sender.send_to(b"x", to).unwrap();
            assert_eq!(fetch(&mut socket), (1, 0));
            let sent = overrun(to, socket.receive_buffer().unwrap());
            let (fetched, told) = fetch(&mut socket);
            sender.send_to(b"x", to).unwrap();
            let (_, last) = fetch(&mut socket);
            assert!(fetched < sent);
            assert_eq!(told + last, sent - fetched);

            // Damaged here after another socket's queue was full.
            sender.send_to(b"x", to_other).unwrap();
            assert_eq!(fetch(&mut other), (1, 0));
            let sent = overrun(to_other, other.receive_buffer().unwrap());
            let (fetched, told) = fetch(&mut other);
            sender.send_to(b"x", to_other).unwrap();
            assert_eq!(told + fetch(&mut other).1, sent - fetched);
            for _ in 0..5 {
                damage(&mut raw, to, 112);
                fetch(&mut socket);
                sender.send_to(b"x", to).unwrap();
                sender.send_to(b"x", to).unwrap();
                assert_eq!(fetch(&mut socket), (2, 0));
            }

            // Both at once: the damaged ones are told apart by number.
            let before = socket.overflows();
            let sent = overrun(to, socket.receive_buffer().unwrap());
            let (fetched, _) = fetch(&mut socket);
            for _ in 0..7 {
                damage(&mut raw, to, 112);
            }
            fetch(&mut socket);
            sender.send_to(b"x", to).unwrap();
            sender.send_to(b"x", to).unwrap();
            fetch(&mut socket);
            assert_eq!(socket.overflows() - before, sent - fetched);
        });
    }
}
