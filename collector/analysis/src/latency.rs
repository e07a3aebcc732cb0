//! Exact order statistics of round-trip times.

use crate::findings::Latency;
use crate::loss::len;
use crate::schema::Nanos;
use hopgap_proto::time::Span;

/// Returns the distribution of `values`, which it reorders; `None` without any.
///
/// The p-quantile is the smallest value that at least a share p of the values do
/// not exceed (nearest rank): always a value that was measured.
pub(crate) fn of(values: &mut [Span]) -> Option<Latency> {
    let min = values.iter().min().copied()?;
    let max = values.iter().max().copied()?;
    // From the right: the values left of one quantile include all lower quantiles.
    let n = values.len();
    let (p999, left) = nearest_rank(values, n, 999)?;
    let (p99, left) = nearest_rank(left, n, 990)?;
    let (p90, left) = nearest_rank(left, n, 900)?;
    let (p50, _) = nearest_rank(left, n, 500)?;
    Some(Latency {
        count: len(values.len()),
        min_ns: Nanos(min),
        p50_ns: Nanos(p50),
        p90_ns: Nanos(p90),
        p99_ns: Nanos(p99),
        p999_ns: Nanos(p999),
        max_ns: Nanos(max),
    })
}

/// Returns the quantile of `thousandths`, by nearest rank; `None` without values.
pub(crate) fn quantile(values: &mut [Span], thousandths: usize) -> Option<Span> {
    let n = values.len();
    nearest_rank(values, n, thousandths).map(|(value, _)| value)
}

/// The quantile over `n` values whose smallest are `smallest`, and the values up to it.
fn nearest_rank(
    smallest: &mut [Span],
    n: usize,
    thousandths: usize,
) -> Option<(Span, &mut [Span])> {
    let rank = n.checked_mul(thousandths)?.div_ceil(1000).max(1);
    if rank > smallest.len() {
        return None;
    }
    let value = *smallest.select_nth_unstable(rank - 1).1;
    Some((value, smallest.get_mut(..rank)?))
}

#[cfg(test)]
mod tests;
