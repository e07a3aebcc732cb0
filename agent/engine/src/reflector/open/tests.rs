use super::{OpenKey, OpenSessions};
use core::net::{IpAddr, Ipv4Addr};
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::stamp::{Seq, Ssid};
use hopgap_proto::time::{Mono, Span, Wall};

const IDLE: Span = Span::from_secs(600);
const MOST: usize = 64;

/// Sessions and a clock.
struct Bench {
    sessions: OpenSessions,
    now: Mono,
}

impl Bench {
    fn new() -> Self {
        Self {
            sessions: OpenSessions::new(MOST),
            now: Mono::ZERO,
        }
    }

    fn wait(&mut self, milliseconds: i64) {
        self.now += Span::from_millis(milliseconds);
    }

    /// Returns the number that the reflector gives a packet; `None` without a place.
    fn packet(&mut self, source: u32, ssid: u16, seq: u32) -> Option<u32> {
        let key = OpenKey::new(address(source), 50_000, Ssid(ssid));
        let counter = self
            .sessions
            .counter(key, Ssid(ssid), Seq(seq), self.now, IDLE)?;
        Some(counter.count(self.now, Wall::ZERO, IDLE).seq.0)
    }

    /// Checks that all indices agree with each other.
    fn check(&self) {
        let s = &self.sessions;
        assert!(s.places.len() <= s.most);
        let in_networks: usize = s.networks.values().map(|n| n.places).sum();
        assert_eq!(in_networks, s.places.len());
        let passing: usize = s.networks.values().map(|n| n.passing.len()).sum();
        assert_eq!(passing, s.passing.len());
        for (at, key) in &s.passing {
            assert_eq!(s.places[key].ordered_at, *at);
        }
    }
}

/// Returns an address in a network of its own.
fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from((n << 8) + 1))
}

#[test]
fn a_flood_of_made_up_sources_takes_nothing_from_a_session_and_shuts_nobody_out() {
    let mut bench = Bench::new();
    let mut seq = 0;
    for _ in 0..400 {
        assert_eq!(bench.packet(1, 1, seq), Some(seq));
        seq += 1;
        bench.wait(10);
    }
    // A thousand made-up packets between any two of the session.
    for n in 0..200_000_u32 {
        bench.packet(1_000 + n, 1, 77);
        if n % 1_000 == 0 {
            assert_eq!(bench.packet(1, 1, seq), Some(seq), "after {n}");
            seq += 1;
            bench.wait(10);
            bench.check();
        }
    }
    // A newcomer during the flood is answered without a count, and stays so.
    bench.packet(500_000, 1, 0);
    // The flood has ended: the next newcomer is counted.
    bench.wait(6_000);
    assert_eq!(bench.packet(500_001, 1, 0), Some(0));
    assert_eq!(bench.packet(500_001, 1, 1), Some(1));
    assert_eq!(bench.packet(1, 1, seq), Some(seq));
    bench.check();
}

#[test]
fn who_goes_on_keeps_its_place_and_who_comes_then_is_never_counted_midway() {
    let mut bench = Bench::new();
    let most = u32::try_from(MOST).unwrap();
    for seq in 0..4 {
        for source in 0..most {
            assert_eq!(bench.packet(source, 1, seq), Some(seq));
        }
        bench.wait(1_000);
    }
    // Silent within the idle timeout, they keep their places.
    bench.wait(300_000);
    for seq in 0..100 {
        assert_eq!(bench.packet(7_777, 1, seq), None);
        bench.wait(10);
    }
    // Places become free; a session that began without a count goes on without one.
    bench.wait(301_000);
    bench.sessions.forget_idle(bench.now, IDLE);
    bench.check();
    assert_eq!(bench.packet(7_777, 1, 100), None);
    assert_eq!(bench.packet(7_777, 1 | TRACE_SSID_BIT, 5_000), None);
    assert_eq!(bench.packet(8_888, 1, 0), Some(0));
    bench.check();
}

#[test]
fn a_session_that_did_not_go_on_makes_room_and_the_longest_silent_goes_first() {
    let mut bench = Bench::new();
    let most = u32::try_from(MOST).unwrap();
    for source in 0..most {
        assert_eq!(bench.packet(source, 1, 0), Some(0));
        bench.wait(1);
    }
    assert_eq!(bench.packet(900, 1, 0), None, "all are new yet");
    bench.wait(5_000);
    assert_eq!(bench.packet(901, 1, 0), Some(0));
    bench.check();
    assert_eq!(bench.packet(1, 1, 1), Some(1), "only the first had to go");
    assert_eq!(bench.packet(0, 1, 1), Some(0));
}

#[test]
fn probes_and_traceroutes_of_a_flow_share_a_place_and_count_apart() {
    let mut bench = Bench::new();
    assert_eq!(bench.packet(1, 3 | TRACE_SSID_BIT, 9_000), Some(0));
    assert_eq!(bench.packet(1, 3, 0), Some(0));
    assert_eq!(bench.packet(1, 3 | TRACE_SSID_BIT, 9_001), Some(1));
    assert_eq!(bench.packet(1, 3, 1), Some(1));
    assert_eq!(bench.sessions.places.len(), 1);
}

#[test]
fn a_network_of_made_up_sources_takes_its_share_and_no_more() {
    let mut bench = Bench::new();
    for host in 0..250_u8 {
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
        let key = OpenKey::new(from, 50_000, Ssid(1));
        bench
            .sessions
            .counter(key, Ssid(1), Seq(0), bench.now, IDLE);
    }
    bench.check();
    assert_eq!(bench.sessions.places.len(), MOST / 4);
    assert_eq!(bench.packet(1, 1, 0), Some(0));
}
