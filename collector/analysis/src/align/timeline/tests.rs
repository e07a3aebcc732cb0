use super::Timeline;
use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

fn at(seconds: i64) -> Mono {
    Mono::from_nanos(seconds * 1_000_000_000)
}

fn pair(seconds: i64, offset: i64) -> ClockPair {
    ClockPair {
        mono: at(seconds),
        wall: Wall::from_nanos(at(seconds).as_nanos()) + Span::from_secs(offset),
    }
}

fn step(seconds: i64, by: i64) -> Event {
    Event {
        at: at(seconds),
        kind: EventKind::ClockStepped(Span::from_secs(by)),
    }
}

/// How far UTC was ahead of the monotonic clock.
fn offset(timeline: &Timeline, seconds: i64) -> i64 {
    let ahead = timeline.utc(at(seconds)) - Wall::from_nanos(at(seconds).as_nanos());
    ahead.as_nanos() / 1_000_000_000
}

#[test]
fn a_step_that_is_taken_back_before_the_next_reading_is_respected() {
    let readings = vec![pair(0, 100), pair(10, 100), pair(20, 100)];
    let events = [step(12, -30), step(16, 30)];
    let timeline = Timeline::new(readings, &events);
    let offsets: Vec<i64> = [5, 11, 12, 15, 16, 19, 25]
        .into_iter()
        .map(|s| offset(&timeline, s))
        .collect();
    assert_eq!(offsets, [100, 100, 70, 70, 100, 100, 100]);
    let steps: Vec<_> = timeline.steps().collect();
    assert_eq!(
        steps,
        [
            (at(12), Span::from_secs(-30)),
            (at(16), Span::from_secs(30))
        ]
    );
}

#[test]
fn steps_that_do_not_explain_the_readings_are_not_believed() {
    let readings = vec![pair(0, 100), pair(10, 100)];
    let timeline = Timeline::new(readings, &[step(4, -30), step(6, 20)]);
    assert_eq!(offset(&timeline, 5), 100);
    let timeline = Timeline::new(vec![pair(0, 100), pair(10, 107)], &[step(4, 3), step(6, 5)]);
    assert_eq!((offset(&timeline, 5), offset(&timeline, 6)), (100, 107));
}
