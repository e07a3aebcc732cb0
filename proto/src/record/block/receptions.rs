//! Receptions by column.
//!
//! After the places (see `grid`; the time is that of arrival): the stamp's
//! source, the TTL (0 for unknown, else one more), whether a reply was sent;
//! then for those with a reply its sequence number less the probe's.

use super::BlockError;
use super::column::{Reader, put_column};
use super::grid::{self, Place};
use super::probes::{seq_code, seq_of, source_code, stamp, ttl_code, ttl_of};
use super::unit::Unit;
use crate::record::Reception;

pub(super) fn encode(out: &mut Vec<u8>, rows: &[Reception], unit: Unit) {
    let mut rows: Vec<&Reception> = rows.iter().collect();
    rows.sort_unstable();
    let places: Vec<Place> = rows
        .iter()
        .map(|r| Place {
            flow: r.flow,
            seq: r.seq,
            at: unit.count(r.received.at.as_nanos()),
        })
        .collect();
    grid::encode(out, &places, unit);
    let column = |out: &mut Vec<u8>, cell: &dyn Fn(&Reception) -> i64| {
        put_column(out, &rows.iter().map(|r| cell(r)).collect::<Vec<_>>());
    };
    column(out, &|r| source_code(r.received.source));
    column(out, &|r| ttl_code(r.ttl));
    column(out, &|r| i64::from(r.reflector_seq.is_some()));
    let replies: Vec<i64> = rows
        .iter()
        .filter_map(|r| r.reflector_seq.map(|seq| seq_code(seq, r.seq)))
        .collect();
    put_column(out, &replies);
}

pub(super) fn decode(
    mut reader: Reader<'_>,
    rows: usize,
    unit: Unit,
) -> Result<Vec<Reception>, BlockError> {
    let (mut flows, mut seqs, mut times) = (Vec::new(), Vec::new(), Vec::new());
    grid::decode(&mut reader, rows, &mut flows, &mut seqs, |at| {
        times.push(at);
    })?;
    let sources = reader.column(rows)?;
    let ttls = reader.column(rows)?;
    let replied = reader.column(rows)?;
    let mut replies = reader
        .column(replied.iter().filter(|&&r| r == 1).count())?
        .into_iter();
    reader.end()?;
    let mut receptions = Vec::with_capacity(rows);
    for row in 0..rows {
        let seq = seqs[row];
        receptions.push(Reception {
            flow: flows[row],
            seq,
            received: stamp(unit, times[row], sources[row])?,
            ttl: ttl_of(ttls[row])?,
            reflector_seq: match replied[row] {
                0 => None,
                1 => Some(seq_of(replies.next().unwrap_or_default(), seq)?),
                _ => return Err(BlockError::Malformed("whether a reply was sent is unknown")),
            },
        });
    }
    Ok(receptions)
}
