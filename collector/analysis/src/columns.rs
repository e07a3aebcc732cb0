//! Computes whole seconds from columns of probes, without a record for each.
//!
//! For long stretches of time, where only loss and latency per second are wanted: the
//! store decodes its blocks into columns, and rows are never built.

use crate::latency;
use crate::loss::len;
use crate::schema::Nanos;
use hopgap_proto::time::{Mono, Span};

const NANOS: i64 = 1_000_000_000;

/// Loss and latency of the probes sent in one second of the sender's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSecond {
    /// Its number, counted from the clock's zero.
    pub second: i64,
    /// Probes sent in it.
    pub sent: u64,
    /// Of these, without a reply.
    pub unanswered: u64,
    /// Median round trip.
    pub p50_ns: Option<Nanos>,
    /// 99th percentile of the round trip.
    pub p99_ns: Option<Nanos>,
}

/// Loss and exact p50 and p99 for each second in which a probe was sent, in the order
/// of time.
///
/// `sent` and `round_trip` are parallel; a probe without reply has no round trip. Sends
/// that were refused are to be left out. Where the columns differ in length, the longer
/// one's rest is left out. Fast where `sent` is nearly sorted, right in any order.
pub fn seconds(sent: &[Mono], round_trip: &[Option<Span>]) -> Vec<ColumnSecond> {
    let second_of = |at: Mono| at.as_nanos().div_euclid(NANOS);
    let mut found: Vec<ColumnSecond> = Vec::new();
    let pairs = || sent.iter().copied().zip(round_trip.iter().copied());
    let sorted = sent.windows(2).all(|w| match w {
        [a, b] => second_of(*a) <= second_of(*b),
        _ => true,
    });
    if sorted {
        gather(pairs().map(|(at, rtt)| (second_of(at), rtt)), &mut found);
    } else {
        let mut rows: Vec<(i64, Option<Span>)> =
            pairs().map(|(at, rtt)| (second_of(at), rtt)).collect();
        rows.sort_by_key(|(second, _)| *second);
        gather(rows.into_iter(), &mut found);
    }
    found
}

/// From rows in the order of seconds.
fn gather(rows: impl Iterator<Item = (i64, Option<Span>)>, found: &mut Vec<ColumnSecond>) {
    let mut values: Vec<Span> = Vec::new();
    let mut open: Option<(i64, u64)> = None;
    let mut close = |open: Option<(i64, u64)>, values: &mut Vec<Span>| {
        if let Some((second, sent)) = open {
            let answered = len(values.len());
            let p99_ns = latency::quantile(values, 990).map(Nanos);
            let p50_ns = latency::quantile(values, 500).map(Nanos);
            values.clear();
            found.push(ColumnSecond {
                second,
                sent,
                unanswered: sent - answered,
                p50_ns,
                p99_ns,
            });
        }
    };
    for (second, round_trip) in rows {
        match &mut open {
            Some((current, sent)) if *current == second => *sent += 1,
            _ => {
                close(open.take(), &mut values);
                open = Some((second, 1));
            }
        }
        values.extend(round_trip);
    }
    close(open, &mut values);
}

#[cfg(test)]
mod tests;
