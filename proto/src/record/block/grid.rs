//! Runs of one flow and the grid that a flow's times lie on.
//!
//! A sender sends on an absolute grid and is late by some jitter. The times of a run are kept
//! as base + sequence number × interval + residual, where the interval is common to all flows
//! of the block and the base is such that the residual's median is zero. How well the grid
//! fits changes only the size: arithmetic wraps, so that every time comes back.

use super::BlockError;
use super::column::{Reader, put_column, put_signed, put_unsigned};
use super::unit::Unit;
use crate::record::FlowIndex;
use crate::stamp::Seq;

/// Fractional bits of an interval: over the 2^15 probes of a usual run, half of
/// the last bit makes a quarter of a time unit.
const FRACTION: u32 = 16;

/// How many rows are looked at to choose an interval.
const SAMPLES: usize = 512;

/// One row's place: its flow, its sequence number and its time in units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) flow: FlowIndex,
    pub(super) seq: Seq,
    pub(super) at: i64,
}

/// Returns the grid's time `steps` sequence numbers on, in units.
fn grid(interval: i64, steps: u32) -> i64 {
    i64::from(steps).wrapping_mul(interval) >> FRACTION
}

fn steps(run: &[Place], row: &Place) -> u32 {
    run.first()
        .map_or(0, |first| row.seq.0.wrapping_sub(first.seq.0))
}

fn residual(run: &[Place], row: &Place, interval: i64) -> i64 {
    row.at.wrapping_sub(grid(interval, steps(run, row)))
}

fn median(values: &mut [i64]) -> i64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        0
    } else {
        *values.select_nth_unstable(middle).1
    }
}

/// Returns about how many bits the distance of two numbers takes.
fn bits(a: i64, b: i64) -> u64 {
    u64::from(64 - a.abs_diff(b).leading_zeros())
}

/// Returns the interval that leaves the smallest residuals in the longest run: the median
/// step, a round number near it, or the slope of the whole run. Jitter makes the median miss
/// by a little, which adds up over a run; people choose round numbers.
fn fit(run: &[Place], unit: Unit) -> i64 {
    let mut steps_one: Vec<i64> = run
        .windows(2)
        .filter(|w| w[0].seq.next() == w[1].seq)
        .map(|w| w[1].at.wrapping_sub(w[0].at))
        .collect();
    if steps_one.is_empty() {
        return 0;
    }
    let step_ns = unit.nanos(median(&mut steps_one));
    let fixed = |nanos: i64| {
        let fixed = (i128::from(nanos) << FRACTION) / i128::from(unit.nanos_u32());
        i64::try_from(fixed).unwrap_or(0)
    };
    let mut candidates: Vec<i64> = [1_000_000, 100_000, 10_000, 1_000, 1]
        .into_iter()
        .map(|round: i64| {
            // This is only a guess, so it may be off at the ends of the clock.
            let rounds = step_ns.saturating_add(round / 2).div_euclid(round);
            fixed(rounds.saturating_mul(round))
        })
        .collect();
    if let (Some(first), Some(last)) = (run.first(), run.last()) {
        let whole = i128::from(last.at.wrapping_sub(first.at)) << FRACTION;
        let slope = whole / i128::from(steps(run, last).max(1));
        candidates.extend(i64::try_from(slope).ok());
    }
    let stride = run.len().div_ceil(SAMPLES).max(1);
    let cost = |&interval: &i64| -> u64 {
        let sample = || {
            run.iter()
                .step_by(stride)
                .map(|row| residual(run, row, interval))
        };
        let middle = median(&mut sample().collect::<Vec<_>>());
        sample().map(|r| bits(r, middle)).sum()
    };
    candidates.into_iter().min_by_key(cost).unwrap_or(0)
}

/// Writes the places of rows that are sorted by flow.
pub(super) fn encode(out: &mut Vec<u8>, rows: &[Place], unit: Unit) {
    let runs: Vec<&[Place]> = rows.chunk_by(|a, b| a.flow == b.flow).collect();
    let longest = runs.iter().copied().max_by_key(|run| run.len());
    let interval = longest.map_or(0, |run| fit(run, unit));
    put_signed(out, interval);
    put_unsigned(out, runs.len() as u64);
    let mut gaps = Vec::with_capacity(rows.len());
    let mut residuals = Vec::with_capacity(rows.len());
    let mut last_base = 0;
    for run in runs {
        let Some(first) = run.first() else { continue };
        let start = residuals.len();
        residuals.extend(run.iter().map(|row| residual(run, row, interval)));
        let base = median(&mut residuals[start..].to_vec());
        for r in &mut residuals[start..] {
            *r = r.wrapping_sub(base);
        }
        gaps.push(0);
        gaps.extend(
            run.windows(2)
                .map(|w| i64::from(w[1].seq.0.wrapping_sub(w[0].seq.0).wrapping_sub(1))),
        );
        out.push(first.flow.0);
        put_unsigned(out, run.len() as u64);
        put_unsigned(out, u64::from(first.seq.0));
        put_signed(out, base.wrapping_sub(last_base));
        last_base = base;
    }
    put_column(out, &gaps);
    put_column(out, &residuals);
}

/// A run's flow, its number of rows, its first sequence number and its base.
struct Head {
    flow: FlowIndex,
    rows: usize,
    first: u32,
    base: i64,
}

fn heads(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<Head>, BlockError> {
    let runs = reader.unsigned()?;
    if runs > 256 {
        return Err(BlockError::Malformed("it has more than 256 flows"));
    }
    let mut heads = Vec::new();
    let (mut left, mut base) = (rows, 0_i64);
    for _ in 0..runs {
        let flow = FlowIndex(reader.byte()?);
        let rows = usize::try_from(reader.unsigned()?).unwrap_or(usize::MAX);
        let first = u32::try_from(reader.unsigned()?)
            .map_err(|_| BlockError::Malformed("a sequence number is out of range"))?;
        base = base.wrapping_add(reader.signed()?);
        left = match left.checked_sub(rows) {
            Some(left) if rows > 0 => left,
            _ => {
                return Err(BlockError::Malformed(
                    "a flow has an impossible number of rows",
                ));
            }
        };
        heads.push(Head {
            flow,
            rows,
            first,
            base,
        });
    }
    if left == 0 {
        Ok(heads)
    } else {
        Err(BlockError::Malformed(
            "its flows have fewer rows than it states",
        ))
    }
}

/// Walks through the runs as pieces of a column come in.
struct Walk<'a> {
    heads: std::slice::Iter<'a, Head>,
    /// The present run and how many of its rows are still to come.
    at: Option<(&'a Head, usize)>,
}

impl<'a> Walk<'a> {
    fn new(heads: &'a [Head]) -> Self {
        Self {
            heads: heads.iter(),
            at: None,
        }
    }

    /// Splits a piece where runs end: `each` gets the run, whether it begins here,
    /// and its part of the piece.
    fn piece<'b>(&mut self, mut piece: &'b [i64], mut each: impl FnMut(&Head, bool, &'b [i64])) {
        while !piece.is_empty() {
            let (begins, at) = match self.at {
                Some((head, left)) if left > 0 => (false, Some((head, left))),
                _ => (true, self.heads.next().map(|head| (head, head.rows))),
            };
            // The runs together have as many rows as are read.
            let Some((head, left)) = at else { return };
            let (part, rest) = piece.split_at(left.min(piece.len()));
            each(head, begins, part);
            self.at = Some((head, left - part.len()));
            piece = rest;
        }
    }
}

/// Reads the places of `rows` rows: flows and sequence numbers in place of what the
/// vectors held, and each row's time in units to `at`.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    rows: usize,
    flow: &mut Vec<FlowIndex>,
    seq: &mut Vec<Seq>,
    mut at: impl FnMut(i64),
) -> Result<(), BlockError> {
    let interval = reader.signed()?;
    let heads = heads(reader, rows)?;
    flow.clear();
    flow.reserve(rows);
    for head in &heads {
        flow.resize(flow.len() + head.rows, head.flow);
    }

    seq.clear();
    seq.reserve(rows);
    let (mut walk, mut next, mut in_range) = (Walk::new(&heads), 0_u32, true);
    reader.column_each(rows, |gaps| {
        walk.piece(gaps, |head, begins, gaps| {
            if begins {
                next = head.first;
            }
            for (row, &gap) in gaps.iter().enumerate() {
                let gap = if begins && row == 0 { 0 } else { gap };
                let gap = u32::try_from(gap).unwrap_or_else(|_| {
                    in_range = false;
                    0
                });
                next = next.wrapping_add(gap);
                seq.push(Seq(next));
                next = next.wrapping_add(1);
            }
        });
    })?;
    if !in_range {
        return Err(BlockError::Malformed(
            "a gap between two probes is out of range",
        ));
    }

    let (mut walk, mut seqs) = (Walk::new(&heads), seq.iter());
    reader.column_each(rows, |residuals| {
        walk.piece(residuals, |head, _, residuals| {
            for (&residual, seq) in residuals.iter().zip(seqs.by_ref()) {
                let on_grid = grid(interval, seq.0.wrapping_sub(head.first));
                at(residual.wrapping_add(head.base.wrapping_add(on_grid)));
            }
        });
    })
}
