//! Receptions by column.
//!
//! After the places (see `grid`; the time is that of arrival): the stamp's
//! source, the TTL (0 for unknown, else one more), whether a reply was sent (0 no, 1 yes,
//! 2 the kernel refused it); then for those with a reply its sequence number less the
//! probe's.
//!
//! From version 2 on there follow: the departure stamp's source (0 for no departure, else one
//! more); for those with a departure, the time since arrival, which is small and hardly
//! varies, while the instant itself is all noise; for those that the kernel refused, the
//! errno.

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
    column(out, &|r| {
        if r.refused.is_some() {
            REFUSED
        } else {
            i64::from(r.reflector_seq.is_some())
        }
    });
    // A refused reply has no number: it never left.
    let replies: Vec<i64> = rows
        .iter()
        .filter(|r| r.refused.is_none())
        .filter_map(|r| r.reflector_seq.map(|seq| seq_code(seq, r.seq)))
        .collect();
    put_column(out, &replies);

    column(out, &|r| {
        r.departed.map_or(0, |left| source_code(left.source) + 1)
    });
    let stays: Vec<i64> = rows
        .iter()
        .zip(&places)
        .filter_map(|(r, place)| {
            let left = unit.count(r.departed?.at.as_nanos());
            Some(left.wrapping_sub(place.at))
        })
        .collect();
    put_column(out, &stays);
    let errnos: Vec<i64> = rows
        .iter()
        .filter_map(|r| r.refused.map(i64::from))
        .collect();
    put_column(out, &errnos);
}

/// Code for a reply that the kernel refused.
const REFUSED: i64 = 2;

pub(super) fn decode(
    mut reader: Reader<'_>,
    rows: usize,
    unit: Unit,
    departures: bool,
) -> Result<Vec<Reception>, BlockError> {
    let (mut flows, mut seqs, mut times) = (Vec::new(), Vec::new(), Vec::new());
    grid::decode(&mut reader, rows, &mut flows, &mut seqs, |at| {
        times.push(at);
    })?;
    let sources = reader.column(rows)?;
    let ttls = reader.column(rows)?;
    let replied = reader.column(rows)?;
    let count = |code: i64| replied.iter().filter(|&&r| r == code).count();
    let refusals = count(REFUSED);
    let mut replies = reader.column(count(1))?.into_iter();
    let mut departed = vec![0; rows];
    let (mut stays, mut errnos) = (Vec::new(), Vec::new());
    if departures {
        reader.column_into(rows, &mut departed)?;
        stays = reader.column(departed.iter().filter(|&&d| d != 0).count())?;
        errnos = reader.column(refusals)?;
    } else if refusals > 0 {
        return Err(BlockError::Malformed("whether a reply was sent is unknown"));
    }
    reader.end()?;
    let (mut stays, mut errnos) = (stays.into_iter(), errnos.into_iter());
    let mut receptions = Vec::with_capacity(rows);
    for row in 0..rows {
        let (seq, at) = (seqs[row], times[row]);
        let (reflector_seq, refused) = match replied[row] {
            0 => (None, None),
            1 => (Some(seq_of(replies.next().unwrap_or_default(), seq)?), None),
            REFUSED => {
                let errno = i32::try_from(errnos.next().unwrap_or_default());
                let errno = errno.map_err(|_| BlockError::Malformed("an errno is out of range"))?;
                (None, Some(errno))
            }
            _ => return Err(BlockError::Malformed("whether a reply was sent is unknown")),
        };
        let departed = match departed[row] {
            0 => None,
            source => {
                let left = at.wrapping_add(stays.next().unwrap_or_default());
                Some(stamp(unit, left, source.wrapping_sub(1))?)
            }
        };
        receptions.push(Reception {
            flow: flows[row],
            seq,
            received: stamp(unit, at, sources[row])?,
            ttl: ttl_of(ttls[row])?,
            reflector_seq,
            departed,
            refused,
        });
    }
    Ok(receptions)
}
