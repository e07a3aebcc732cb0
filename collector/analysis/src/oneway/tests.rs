use super::{Exchange, OneWay, delays};
use hopgap_proto::time::{Mono, Span};
use proptest::prelude::*;

const ERROR: Span = Span::from_micros(2);

/// A network with a true offset and drift of the clocks, and true delays.
#[derive(Clone, Debug)]
struct Net {
    offset: i64,
    /// Parts in 10^6.
    skew: i64,
    /// Microseconds out and back, and queueing on top, for each exchange each 10 ms.
    delays: Vec<(i64, i64)>,
}

fn sent(i: usize) -> Mono {
    Mono::from_nanos(7_000_000_000 + 10_000_000 * i64::try_from(i).unwrap())
}

impl Net {
    fn exchanges(&self) -> Vec<Exchange> {
        let true_at = |at: Mono| {
            let since = (at - sent(0)).as_nanos();
            self.offset + since / 1_000_000 * self.skew
        };
        self.delays
            .iter()
            .enumerate()
            .map(|(i, (out, back))| Exchange {
                sent: sent(i),
                clock: 0,
                out: Span::from_nanos(out * 1_000 + true_at(sent(i))),
                round_trip: Span::from_nanos((out + back) * 1_000),
            })
            .collect()
    }

    fn check(&self) -> Vec<OneWay> {
        let found = delays(&self.exchanges(), ERROR);
        assert_eq!(found.len(), self.delays.len());
        for (found, (out, back)) in found.iter().zip(&self.delays) {
            let (out, back) = (Span::from_micros(*out), Span::from_micros(*back));
            assert!(
                (found.forward - out).abs() <= found.bound,
                "{found:?}, {out}"
            );
            assert!(
                (found.reverse - back).abs() <= found.bound,
                "{found:?}, {back}"
            );
            assert_eq!(found.forward + found.reverse, out + back);
        }
        found
    }
}

#[test]
fn the_article_s_failover_is_told_by_direction() {
    // 2.5 ms each way; then 4 ms out by the VPN, and still 2.5 ms back.
    let mut net = Net {
        offset: -3_600_000_000_123,
        skew: 0,
        delays: vec![(2_500, 2_500); 1_000],
    };
    net.delays.extend(vec![(4_000, 2_500); 1_000]);
    let found = net.check();
    // The clocks are held across the change: the way out got longer, the way back did
    // not, and both to the microsecond.
    let change = found[1_500].forward - found[500].forward;
    assert!(
        (change - Span::from_micros(1_500)).abs() <= ERROR,
        "{change}"
    );
    assert!((found[1_500].reverse - found[500].reverse).abs() <= ERROR);
    // Half of the shortest round trip, and the stamps' error.
    assert!(found[0].bound <= Span::from_micros(2_500) + ERROR * 2);
}

#[test]
fn a_minute_on_a_longer_path_widens_the_bound_by_the_drift() {
    let mut net = Net {
        offset: 5_000_000,
        skew: 50,
        delays: vec![(500, 500); 100],
    };
    net.delays.extend(vec![(9_000, 9_000); 6_000]);
    let found = net.check();
    // 30 s away, 100 ppm: 3 ms more on each side, from 0.5 ms.
    let widest = found.iter().map(|f| f.bound).max().unwrap();
    assert!(
        widest > Span::from_millis(3) && widest < Span::from_millis(7),
        "{widest}"
    );
}

#[test]
fn a_clock_that_was_stepped_is_noticed_and_not_believed() {
    let mut exchanges = Net {
        offset: 0,
        skew: 0,
        delays: vec![(2_000, 3_000); 400],
    }
    .exchanges();
    for exchange in &mut exchanges[200..] {
        exchange.out += Span::from_millis(40);
    }
    for found in delays(&exchanges, ERROR) {
        assert!((found.forward - Span::from_millis(2)).abs() <= found.bound);
        assert!(found.bound <= Span::from_micros(2_500) + ERROR * 2);
    }
}

#[test]
fn another_run_of_the_reflector_has_another_clock() {
    let mut exchanges = Net {
        offset: 0,
        skew: 0,
        delays: vec![(2_000, 3_000); 400],
    }
    .exchanges();
    // Less than what the bound would notice.
    for exchange in &mut exchanges[200..] {
        exchange.out += Span::from_millis(2);
        exchange.clock = 1;
    }
    for (i, found) in delays(&exchanges, ERROR).iter().enumerate() {
        assert!(
            (found.forward - Span::from_millis(2)).abs() <= found.bound,
            "{i}"
        );
    }
    assert!(delays(&[], ERROR).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_truth_lies_within_the_bound(
        offset in -10_000_000_000_i64..10_000_000_000,
        skew in -50_i64..=50,
        paths in prop::collection::vec(((100_i64..20_000, 100_i64..20_000), 1_usize..400), 1..6),
        queues in prop::collection::vec((0_i64..5_000, 0_i64..5_000), 1..50),
    ) {
        let delays: Vec<(i64, i64)> = paths
            .iter()
            .flat_map(|(delay, n)| std::iter::repeat_n(*delay, *n))
            .zip(queues.iter().cycle())
            .map(|((out, back), (more, and_more))| (out + more, back + and_more))
            .collect();
        let shortest = delays.iter().map(|(a, b)| a + b).min().unwrap();
        let found = Net { offset, skew, delays }.check();
        // Never wider than half of the shortest round trip (a tenth more, where only such
        // a one was near) and the drift over the run.
        let length = Span::from_millis(10) * i64::try_from(found.len()).unwrap();
        for f in found {
            let half = Span::from_micros(shortest * 11 / 20 + 1);
            prop_assert!(f.bound <= half + ERROR * 2 + length / 5_000, "{f:?} {half}");
        }
    }
}

/// T3 is read before the program waits for the processor: the kernel's departure is what
/// ends the residence, and no delay of the way back.
#[test]
fn a_busy_reflector_makes_no_delay() {
    use crate::scenario::{line, world};
    let mut busy = world(&[line(&".".repeat(400))]);
    busy.residence = Span::from_millis(6);
    let latency = |world: &crate::scenario::World| {
        let found = world.analyse().sessions[0].latency.clone();
        let [latency] = &found[..] else {
            panic!("{found:?}")
        };
        latency.clone()
    };
    let truth = Span::from_micros(2_500);
    let found = latency(&busy);
    let one_way = found.one_way.unwrap();
    for delay in [one_way.forward, one_way.reverse] {
        assert!(
            (delay.p50_ns.0 - truth).abs() <= one_way.bound_ns.0,
            "{one_way:?}"
        );
        assert!(
            (delay.p99_ns.0 - truth).abs() <= Span::from_micros(60),
            "{one_way:?}"
        );
    }
    assert_eq!(found.round_trip.p50_ns.0, truth * 2);
    // Without departures all of it counts for the way.
    busy.departures = false;
    assert_eq!(
        latency(&busy).round_trip.p50_ns.0,
        truth * 2 + Span::from_millis(6)
    );
}
