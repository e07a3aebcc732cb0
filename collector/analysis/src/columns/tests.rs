use super::{ColumnSecond, seconds};
use crate::schema::Nanos;
use hopgap_proto::time::{Mono, Span};

/// 100 probes a second for three seconds: `i` ms of round trip, every tenth lost in the
/// middle second.
fn columns() -> (Vec<Mono>, Vec<Option<Span>>) {
    (0..300_i64)
        .map(|i| {
            let lost = (100..200).contains(&i) && i % 10 == 0;
            let sent = Mono::from_nanos(5_000_000_000 + i * 10_000_000);
            (sent, (!lost).then(|| Span::from_millis(i % 100 + 1)))
        })
        .unzip()
}

#[test]
fn seconds_have_exact_loss_and_quantiles() {
    let (sent, round_trip) = columns();
    let found = seconds(&sent, &round_trip);
    let ms = |n| Some(Nanos(Span::from_millis(n)));
    assert_eq!(
        found[0],
        ColumnSecond {
            second: 5,
            sent: 100,
            unanswered: 0,
            p50_ns: ms(50),
            p99_ns: ms(99),
        }
    );
    assert_eq!((found[1].sent, found[1].unanswered), (100, 10));
    assert_eq!(found.len(), 3);
}

#[test]
fn the_order_of_rows_makes_no_difference() {
    let (mut sent, mut round_trip) = columns();
    let in_order = seconds(&sent, &round_trip);
    sent.reverse();
    round_trip.reverse();
    assert_eq!(seconds(&sent, &round_trip), in_order);
}

#[test]
fn nothing_and_all_lost_are_answered() {
    assert!(seconds(&[], &[]).is_empty());
    let found = seconds(&[Mono::MIN, Mono::MAX], &[None, None]);
    assert_eq!(found.len(), 2);
    assert!(
        found
            .iter()
            .all(|s| s.unanswered == 1 && s.p50_ns.is_none())
    );
}
