use super::*;

const MS: i64 = 1_000_000;
const BASE: i64 = 1_790_000_000_000_000_000;

fn mono(nanos: i64) -> Mono {
    Mono::from_nanos(nanos)
}

/// A reading 200 ns wide whose wall clock is `offset` ahead of its middle.
fn reading(at: i64, offset: i64) -> Reading {
    Reading {
        before: mono(at - 100),
        wall: Wall::from_nanos(at + offset),
        after: mono(at + 100),
    }
}

fn near(a: Mono, b: i64) -> bool {
    (a.as_nanos() - b).abs() <= 100
}

#[test]
fn readings_of_a_steady_clock_narrow_the_offset() {
    let mut tracker = ClockTracker::new(reading(MS, BASE));
    assert_eq!(tracker.uncertainty(), Span::from_nanos(100));
    // Disturbed readings: true, but read early or late within the sandwich.
    for (at, read) in [(2 * MS, 60), (3 * MS, -70), (4 * MS, 0)] {
        assert_eq!(tracker.observe(reading(at, BASE + read)), None);
    }
    assert_eq!(tracker.uncertainty(), Span::from_nanos(35));
    assert!((tracker.pair().offset().as_nanos() - BASE).abs() <= 35);
    assert!(near(
        tracker
            .mono_of(Wall::from_nanos(BASE + 3 * MS), mono(0))
            .unwrap(),
        3 * MS
    ));
}

/// No test can suspend its host. This one checks that the two clocks otherwise run side by
/// side, whatever interrupts their reading.
#[test]
fn a_host_that_is_awake_does_not_seem_to_sleep() {
    let first = Clock::asleep();
    assert!(first >= -Span::from_millis(1), "{first}");
    for _ in 0..20_000 {
        let now = Clock::asleep();
        assert!(now - first < Span::from_millis(1), "{now} after {first}");
    }
    // Interrupted between the two readings: the result is too low, never too high.
    assert_eq!(
        asleep_between(mono(9 * MS), mono(4 * MS)),
        Span::from_millis(5)
    );
    assert_eq!(
        asleep_between(mono(9 * MS), mono(6 * MS)),
        Span::from_millis(3)
    );
}

#[test]
fn a_wide_reading_is_no_step() {
    let mut tracker = ClockTracker::new(reading(MS, BASE));
    // Preempted for 3 ms between the wall clock and the second monotonic reading.
    let preempted = Reading {
        before: mono(2 * MS),
        wall: Wall::from_nanos(BASE + 2 * MS + 50),
        after: mono(5 * MS),
    };
    assert_eq!(tracker.observe(preempted), None);
    assert!((tracker.pair().offset().as_nanos() - BASE).abs() <= 100);
}

#[test]
fn a_small_disturbance_is_followed_but_no_step() {
    let mut tracker = ClockTracker::new(reading(MS, BASE));
    assert_eq!(tracker.observe(reading(2 * MS, BASE + 5_200)), None);
    assert!((tracker.pair().offset().as_nanos() - BASE - 5_200).abs() <= 100);
    let step = tracker
        .observe(reading(3 * MS, BASE + 5_200 + 5_201))
        .expect("a step");
    assert_eq!(step.by, Span::from_nanos(5_201));
}

#[test]
fn a_step_is_told_once_with_its_size_and_time() {
    for by in [2_000 * MS, -2_000 * MS, 10_000, -10_000] {
        let mut tracker = ClockTracker::new(reading(MS, BASE));
        assert_eq!(tracker.observe(reading(2 * MS, BASE)), None);
        let step = tracker.observe(reading(3 * MS, BASE + by)).expect("a step");
        let expected = ClockStep {
            after: mono(2 * MS + 100),
            at: mono(3 * MS + 100),
            by: Span::from_nanos(by),
        };
        assert_eq!(step, expected);
        assert_eq!(tracker.observe(reading(4 * MS, BASE + by)), None);
    }
}

#[test]
fn stamps_around_a_step_find_their_side() {
    for by in [2_000 * MS, -2_000 * MS, 3 * MS, -3 * MS] {
        let mut tracker = ClockTracker::new(reading(100 * MS, BASE));
        tracker.observe(reading(101 * MS, BASE));
        // Stamped half a millisecond before the step and half after, both fetched
        // on the wake at 102 ms, which is the first that sees the step.
        let old = Wall::from_nanos(BASE + 101 * MS + 200_000);
        let new = Wall::from_nanos(BASE + by + 101 * MS + 900_000);
        tracker
            .observe(reading(102 * MS, BASE + by))
            .expect("a step");
        let wake = mono(101 * MS);
        assert!(
            near(tracker.mono_of(old, wake).unwrap(), 101 * MS + 200_000),
            "by {by}"
        );
        assert!(
            near(tracker.mono_of(new, wake).unwrap(), 101 * MS + 900_000),
            "by {by}"
        );
    }
}

#[test]
fn a_stamp_left_over_from_before_the_step_is_placed_before_it() {
    let mut tracker = ClockTracker::new(reading(100 * MS, BASE));
    tracker.observe(reading(150 * MS, BASE));
    tracker
        .observe(reading(151 * MS, BASE + 2_000 * MS))
        .expect("a step");
    let stamp = Wall::from_nanos(BASE + 120 * MS);
    assert!(near(
        tracker.mono_of(stamp, mono(150 * MS)).unwrap(),
        120 * MS
    ));
}

#[test]
fn where_both_sides_of_a_step_fit_the_last_wake_decides() {
    let mut tracker = ClockTracker::new(reading(100 * MS, BASE));
    tracker.observe(reading(101 * MS, BASE));
    tracker
        .observe(reading(102 * MS, BASE + 300_000))
        .expect("a step");
    // At 101.7 ms by the old offset, at 101.4 ms by the new.
    let stamp = Wall::from_nanos(BASE + 101_700_000);
    let placed = |wake| tracker.mono_of(stamp, mono(wake)).unwrap();
    assert!(near(placed(101_500_000), 101_700_000));
    assert!(near(placed(101_000_000), 101_400_000));
}

#[test]
fn long_after_a_step_only_the_new_offset_counts() {
    // Set back by 3 ms: a fresh stamp seconds later must not be converted by the old offset.
    let mut tracker = ClockTracker::new(reading(100 * MS, BASE));
    tracker
        .observe(reading(101 * MS, BASE - 3 * MS))
        .expect("a step");
    tracker.observe(reading(5_000 * MS, BASE - 3 * MS));
    let stamp = Wall::from_nanos(BASE - 3 * MS + 4_999 * MS);
    assert!(near(
        tracker.mono_of(stamp, mono(4_990 * MS)).unwrap(),
        4_999 * MS
    ));
}

#[test]
fn a_stamp_from_the_future_cannot_be_placed() {
    let tracker = ClockTracker::new(reading(100 * MS, BASE));
    assert_eq!(
        tracker.mono_of(Wall::from_nanos(BASE + 101 * MS), mono(0)),
        None
    );
    assert_eq!(tracker.mono_of(Wall::MAX, mono(0)), None);
    assert!(tracker.mono_of(Wall::MIN, mono(0)).is_some());
}

#[test]
fn the_real_clocks_agree_with_themselves() {
    let first = Clock::read();
    assert!(first.before <= first.after);
    let mut tracker = ClockTracker::new(first);
    for _ in 0..1000 {
        assert_eq!(tracker.observe(Clock::read()), None);
    }
    let stamp = Clock::wall();
    let reading = Clock::read();
    tracker.observe(reading);
    let placed = tracker.mono_of(stamp, first.before).expect("just taken");
    assert!(placed >= first.before && placed <= reading.after);
    assert!(Clock::now() >= reading.after);
    let apart = (reading.pair().offset() - tracker.pair().offset())
        .as_nanos()
        .abs();
    assert!(
        apart <= reading.width().as_nanos(),
        "{apart} ns apart, {reading:?}"
    );
    assert!(
        (Clock::pair().offset() - tracker.pair().offset())
            .as_nanos()
            .abs()
            < 1_000_000
    );
}

#[test]
fn the_kernel_tells_of_its_synchronisation() {
    let state = kernel_sync_state().expect("adjtimex without modes is allowed to all");
    assert!(state.max_error >= Span::from_nanos(0));
    assert!(state.est_error >= Span::from_nanos(0));
}
