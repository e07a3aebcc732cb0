use super::{ClockSpec, HostClock};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};

const ZERO: ClockPair = ClockPair {
    mono: Mono::from_nanos(1_000_000_000),
    wall: Wall::from_nanos(1_800_000_000_000_000_000),
};

fn clock(text: &str) -> (HostClock, Option<Span>) {
    let spec: ClockSpec = toml::from_str(text).expect("a clock");
    spec.check().expect("one that can be");
    spec.draw(7, ZERO)
}

fn after(seconds: i64) -> (Mono, Wall) {
    (
        ZERO.mono + Span::from_secs(seconds),
        ZERO.wall + Span::from_secs(seconds),
    )
}

#[test]
fn an_offset_moves_the_wall_clock_alone() {
    let (clock, step) = clock("offset-s = -7200");
    let (mono, wall) = after(100);
    assert_eq!(clock.mono(mono), mono);
    assert_eq!(clock.wall(wall), wall - Span::from_secs(7200));
    assert_eq!(step, None);
}

#[test]
fn a_skew_moves_both_clocks_alike() {
    let (clock, _) = clock("skew-ppm = 50");
    let (mono, wall) = after(100);
    let ahead = Span::from_millis(5);
    assert_eq!(clock.mono(mono), mono + ahead);
    assert_eq!(clock.wall(wall), wall + ahead);
    assert_eq!(
        clock.span(Span::from_secs(100)),
        Span::from_secs(100) + ahead
    );
    assert_eq!(
        clock.true_span(clock.span(Span::from_secs(100))),
        Span::from_secs(100)
    );
}

#[test]
fn a_step_moves_the_wall_clock_from_its_instant_on() {
    let (mut clock, step) = clock("step-s = -3\nstep-at = \"2s\"");
    assert_eq!(step, Some(Span::from_secs(2)));
    let (mono, wall) = after(10);
    assert_eq!(clock.wall(wall), wall);
    clock.step_at(mono);
    assert_eq!(clock.wall(wall), wall - Span::from_secs(3));
    let before = wall - Span::from_nanos(1);
    assert_eq!(clock.wall(before), before);
    assert_eq!(clock.mono(mono), mono);
}

#[test]
fn a_step_may_be_taken_back() {
    let (mut clock, _) = clock("step-s = 3\nstep-at = \"2s\"\nstep-back-after = \"4s\"");
    let (mono, wall) = after(10);
    clock.step_at(mono);
    let three = Span::from_secs(3);
    let back = Span::from_secs(4);
    assert_eq!(clock.wall(wall), wall + three);
    let before = wall + back - Span::from_nanos(1);
    assert_eq!(clock.wall(before), before + three);
    assert_eq!(clock.wall(wall + back), wall + back);
    let steps: Vec<_> = clock.steps().collect();
    assert_eq!(steps, [(mono, three), (mono + back, -three)]);
}

#[test]
fn order_stays() {
    for ppm in ["-100", "-37.5", "33.3", "100"] {
        let (clock, _) = clock(&format!("skew-ppm = {ppm}"));
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let at = Mono::from_nanos(rng.i64(0..i64::MAX / 4));
            let next = at + Span::from_nanos(1);
            assert!(clock.mono(at) <= clock.mono(next), "{ppm} at {at:?}");
        }
    }
}

#[test]
fn a_step_has_a_time_and_a_size() {
    for text in ["step-s = 1", "step-at = \"1s\"", "skew-ppm = 200"] {
        let spec: ClockSpec = toml::from_str(text).expect("a clock");
        assert!(spec.check().is_err(), "{text}");
    }
}
