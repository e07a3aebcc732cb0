use super::Sampling;
use hopgap_proto::record::EventKind;
use hopgap_proto::time::{Mono, Span};

fn at(ms: i64) -> Mono {
    Mono::from_nanos(1_000_000_000) + Span::from_millis(ms)
}

/// Returns how many batches are asked for, of `a_millisecond` batches of 64 replies each
/// millisecond for a second.
fn asked(sampling: &mut Sampling, a_millisecond: i64) -> usize {
    (0..1000)
        .flat_map(|ms| (0..a_millisecond).map(move |_| ms))
        .filter(|ms| sampling.takes(64, at(*ms)))
        .count()
}

#[test]
fn a_slow_reflector_asks_for_every_departure() {
    let mut sampling = Sampling::default();
    assert!((0..1000).all(|ms| sampling.takes(20, at(ms))));
    assert_eq!(sampling.report(at(1000)), None);
    assert!(!sampling.is_sampling());
}

#[test]
fn a_flood_is_sampled_and_it_is_told() {
    let mut sampling = Sampling::default();
    // 640,000 replies a second: one batch in 32, after the first window.
    let asked = asked(&mut sampling, 10);
    assert!((1_000 + 250..1_000 + 300).contains(&asked), "{asked}");
    assert!(sampling.is_sampling());
    let told = sampling.report(at(1000)).unwrap();
    assert_eq!(told.at, at(1000));
    let EventKind::DeparturesSampled { since, of } = told.kind else {
        panic!("{told:?}")
    };
    assert_eq!((since, of), (at(100), 32));
    assert_eq!(sampling.report(at(1000)), None);
}

#[test]
fn after_the_flood_every_departure_is_taken_again() {
    let mut sampling = Sampling::default();
    asked(&mut sampling, 10);
    assert!((5_000..6_000).all(|ms| sampling.takes(1, at(ms))));
}
