use super::{of, quantile};
use crate::loss::len;
use hopgap_proto::time::Span;

#[test]
fn quantiles_are_values_by_nearest_rank() {
    // A permutation of 1..=1000: the p-quantile is 1000 p itself.
    let mut values: Vec<Span> = (0..1000)
        .map(|i| Span::from_nanos((i * 617) % 1000 + 1))
        .collect();
    let latency = of(&mut values).unwrap();
    let found = [
        latency.min_ns,
        latency.p50_ns,
        latency.p90_ns,
        latency.p99_ns,
        latency.p999_ns,
        latency.max_ns,
    ]
    .map(|n| n.0.as_nanos());
    assert_eq!(found, [1, 500, 900, 990, 999, 1000]);
    assert_eq!(latency.count, 1000);
}

#[test]
fn small_samples_have_quantiles_too() {
    for n in 1..20_i64 {
        let sorted: Vec<Span> = (1..=n).map(Span::from_nanos).collect();
        for thousandths in [1_usize, 500, 900, 990, 999, 1000] {
            let mut values = sorted.clone();
            values.reverse();
            let found = quantile(&mut values, thousandths).unwrap();
            // The definition, by counting: the smallest that reaches the share.
            let expected = sorted
                .iter()
                .find(|v| {
                    sorted.iter().filter(|w| w <= v).count() * 1000 >= thousandths * sorted.len()
                })
                .unwrap();
            assert_eq!(found, *expected, "n {n}, {thousandths} thousandths");
        }
        assert_eq!(of(&mut sorted.clone()).unwrap().count, len(sorted.len()));
    }
}

#[test]
fn nothing_has_no_distribution() {
    assert_eq!(of(&mut []), None);
    assert_eq!(quantile(&mut [], 500), None);
}
