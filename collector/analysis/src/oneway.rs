//! Computes one-way delays with their bound, without synchronised clocks.
//!
//! An exchange with the stamps T1 (sent), T2 (received there), T3 (sent back) and T4
//! (received here) bounds the offset θ of the reflector's clock against the sender's:
//! no delay is negative, so T3 − T4 ≤ θ ≤ T2 − T1. Both clocks are monotonic, so steps of the
//! wall clocks do not matter. The clocks drift apart by at most [`DRIFT`], so every exchange also
//! bounds the offset at every other one, less tightly the further away it is. All exchanges
//! together give the bound.
//!
//! The bound is about half of the shortest round trip in the last minutes: no method can tell a
//! constant asymmetry from an offset of the clocks. It is kept across a change of path, because
//! clocks do not change when routes do: a failover that makes one direction longer shows as that,
//! and not as a step of a clock.
//!
//! If exchanges contradict each other, a clock was stepped, suspended or drifted faster; then
//! they are judged in two separate parts.
//!
//! Sources: RFC 7679 (delay, and that it is stated with its error), RFC 5905 section 10
//! (the clock filter's correctness interval).

use crate::align::{Logged, Run, Sample};
use crate::loss::Fate;
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;

/// Fastest drift of two hosts' clocks, as one part in this many: 100 ppm. Crystals keep 50 ppm; a
/// clock that is slewed harder shows as a contradiction.
const DRIFT: i64 = 10_000;

/// A shorter stay than this on a longer path does not change the estimated offset.
const HOLD: Span = Span::from_secs(600);

/// Error, on each host, of converting the kernel's stamps to the monotonic clock.
const STAMPS: Span = Span::from_micros(1);

/// The one-way delays of one answered probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OneWay {
    /// From sender to reflector.
    pub(crate) forward: Span,
    /// From reflector to sender.
    pub(crate) reverse: Span,
    /// Error bound of both delays, with opposite signs.
    pub(crate) bound: Span,
}

/// The stamps of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    /// When the probe was sent.
    pub(crate) sent: Mono,
    /// The reflector's run: another run has another clock.
    pub(crate) clock: u32,
    /// T2 − T1.
    pub(crate) out: Span,
    /// Round trip without the reflector's residence. The residence ends when the kernel says that
    /// the reply left, if it does: T3 is read before the program waits for the processor.
    pub(crate) round_trip: Span,
}

impl Exchange {
    /// Returns a sample's exchange; `None` without a reply or without an entry in the reflector's
    /// log. A late reply counts as well.
    fn of(sample: &Sample) -> Option<Self> {
        let answered = matches!(sample.fate, Fate::Answered | Fate::Late);
        let (clock, arrived) = sample.reflected?;
        let logged = sample.replied && sample.logged == Logged::Answered;
        // A damaged record may have a reply before its probe.
        let possible = !sample.round_trip.is_negative();
        (answered && logged && possible).then(|| Self {
            sent: sample.sent,
            clock,
            out: Span::from_nanos(arrived.as_nanos().saturating_sub(sample.sent.as_nanos())),
            round_trip: sample.round_trip,
        })
    }
}

/// Least and greatest offset of the reflector's clock.
#[derive(Clone, Copy, Debug)]
struct Offset {
    at: Mono,
    low: Span,
    high: Span,
}

impl Offset {
    fn of(exchange: &Exchange, error: Span) -> Self {
        Self {
            at: exchange.sent,
            low: exchange.out - exchange.round_trip - error,
            high: exchange.out + error,
        }
    }

    /// Returns what this and `other` both allow at this instant; `None` if they contradict.
    fn with(self, other: Self) -> Option<Self> {
        let drift = (self.at - other.at).abs() / DRIFT;
        let both = Self {
            at: self.at,
            low: self.low.max(other.low - drift),
            high: self.high.min(other.high + drift),
        };
        (both.low <= both.high).then_some(both)
    }
}

/// Returns the one-way delays of a run's probes, by flow and in the order of its samples; `None`
/// for probes that were not answered or that no reflector's log has. `time_unit` is what the
/// session's stamps are rounded to.
pub(crate) fn of(run: &Run, time_unit: Span) -> BTreeMap<u8, Vec<Option<OneWay>>> {
    let mut exchanges: Vec<(u8, usize, Exchange)> = Vec::new();
    let mut found: BTreeMap<u8, Vec<Option<OneWay>>> = BTreeMap::new();
    for (flow, records) in &run.flows {
        found.insert(*flow, vec![None; records.samples.len()]);
        let samples = records.samples.iter().enumerate();
        exchanges.extend(samples.filter_map(|(i, s)| Some((*flow, i, Exchange::of(s)?))));
    }
    exchanges.sort_by_key(|(flow, i, e)| (e.sent, *flow, *i));
    let in_order: Vec<Exchange> = exchanges.iter().map(|(_, _, e)| *e).collect();
    let delays = delays(&in_order, STAMPS * 2 + time_unit * 2);
    for ((flow, i, _), delay) in exchanges.iter().zip(delays) {
        if let Some(place) = found.get_mut(flow).and_then(|f| f.get_mut(*i)) {
            *place = Some(delay);
        }
    }
    found
}

/// Returns the delays of exchanges in the order of sending; each stamp difference is accurate to
/// within `error`.
pub(crate) fn delays(exchanges: &[Exchange], error: Span) -> Vec<OneWay> {
    // Narrow from the past, then from the future; a contradiction begins a new part.
    let mut offsets: Vec<(Offset, bool)> = Vec::with_capacity(exchanges.len());
    let mut previous: Option<(Offset, u32)> = None;
    for exchange in exchanges {
        let own = Offset::of(exchange, error);
        let joined = previous
            .filter(|(_, clock)| *clock == exchange.clock)
            .and_then(|(before, _)| own.with(before));
        offsets.push((joined.unwrap_or(own), joined.is_none()));
        previous = Some((joined.unwrap_or(own), exchange.clock));
    }
    let mut after: Option<Offset> = None;
    for (offset, begins) in offsets.iter_mut().rev() {
        if let Some(joined) = after.and_then(|after| offset.with(after)) {
            *offset = joined;
        }
        after = (!*begins).then_some(*offset);
    }
    let mut found = Vec::with_capacity(exchanges.len());
    let mut rest = (exchanges, &offsets[..]);
    while let Some(length) = part(rest.1) {
        let (exchanges, offsets) = (rest.0.get(..length), rest.1.get(..length));
        let (exchanges, offsets) = (exchanges.unwrap_or_default(), offsets.unwrap_or_default());
        estimate(exchanges, offsets, error, &mut found);
        rest = (
            rest.0.get(length..).unwrap_or_default(),
            rest.1.get(length..).unwrap_or_default(),
        );
    }
    found
}

/// How many exchanges the first part has; `None` without any.
fn part(offsets: &[(Offset, bool)]) -> Option<usize> {
    let (_, others) = offsets.split_first()?;
    let next = others.iter().position(|(_, begins)| *begins);
    Some(next.map_or(offsets.len(), |i| i + 1))
}

/// Estimates the offset within its bounds: in the middle of the quickest exchanges, which queued
/// least, and on a line between two of them. So a change of one direction's delay shows as that,
/// not half in each direction.
fn estimate(
    exchanges: &[Exchange],
    offsets: &[(Offset, bool)],
    error: Span,
    found: &mut Vec<OneWay>,
) {
    let quickest = quickest(exchanges);
    let mut next = 0;
    for (exchange, (bounds, _)) in exchanges.iter().zip(offsets) {
        while quickest
            .get(next)
            .is_some_and(|(at, _)| *at < exchange.sent)
        {
            next += 1;
        }
        let before = next.checked_sub(1).and_then(|i| quickest.get(i));
        let offset = match (before, quickest.get(next)) {
            (Some((a, x)), Some((b, y))) => between((*a, *x), (*b, *y), exchange.sent),
            (Some((_, offset)), None) | (None, Some((_, offset))) => *offset,
            (None, None) => bounds.low,
        }
        .min(bounds.high)
        .max(bounds.low);
        let forward = exchange.out - offset;
        found.push(OneWay {
            forward,
            reverse: exchange.round_trip - forward,
            bound: (bounds.high - offset).max(offset - bounds.low) + error,
        });
    }
}

/// On the line through two points, `a` before `b`.
fn between(a: (Mono, Span), b: (Mono, Span), at: Mono) -> Span {
    let (whole, part) = ((b.0 - a.0).as_nanos(), (at - a.0).as_nanos());
    if whole <= 0 {
        return a.1;
    }
    let rise = i128::from((b.1 - a.1).as_nanos()) * i128::from(part) / i128::from(whole);
    a.1 + Span::from_nanos(i64::try_from(rise).unwrap_or(0))
}

/// Returns the quickest exchange of each second, if it is about as quick as the quickest of the
/// minutes around: its time, and the offset in its middle.
fn quickest(exchanges: &[Exchange]) -> Vec<(Mono, Span)> {
    let second = |e: &Exchange| e.sent.as_nanos().div_euclid(1_000_000_000);
    let minutes = |e: &Exchange| e.sent.as_nanos().div_euclid(HOLD.as_nanos());
    let mut least: BTreeMap<i64, Span> = BTreeMap::new();
    for e in exchanges {
        let least = least.entry(minutes(e)).or_insert(e.round_trip);
        *least = e.round_trip.min(*least);
    }
    exchanges
        .chunk_by(|a, b| second(a) == second(b))
        .filter_map(|of_second| of_second.iter().min_by_key(|e| e.round_trip))
        .filter(|e| {
            let around = least.range(minutes(e) - 1..=minutes(e) + 1);
            let least = around.map(|(_, least)| *least).min();
            least.is_some_and(|least| e.round_trip <= least + least / 10)
        })
        .map(|e| (e.sent, e.out - e.round_trip / 2))
        .collect()
}

#[cfg(test)]
mod tests;
