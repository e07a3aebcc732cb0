//! Probes by column.
//!
//! After the places (see `grid`): send stamp's source, fate; then for the
//! answered rows the way out (T2 − T1), the way back (T4 − T3), the stay at the
//! reflector (T3 − T2), T4's source, the reflector's sequence number less the
//! probe's, both TTLs (0 for unknown, else one more); then for the refused rows
//! the errno.

use super::BlockError;
use super::column::{Reader, put_column};
use super::columns::FateKind;
use super::grid::{self, Place};
use super::unit::Unit;
use crate::record::{Probe, ProbeFate, Reply, Stamp, StampSource};
use crate::stamp::Seq;
use crate::time::{ClockPair, Mono, Wall};

pub(super) fn encode(out: &mut Vec<u8>, rows: &[Probe], unit: Unit, clocks: ClockPair) {
    let mut rows: Vec<&Probe> = rows.iter().collect();
    rows.sort_unstable();
    let places: Vec<Place> = rows
        .iter()
        .map(|p| Place {
            flow: p.flow,
            seq: p.seq,
            at: unit.count(p.sent.at.as_nanos()),
        })
        .collect();
    grid::encode(out, &places, unit);

    let column = |out: &mut Vec<u8>, cell: &dyn Fn(&Probe) -> i64| {
        put_column(out, &rows.iter().map(|p| cell(p)).collect::<Vec<_>>());
    };
    column(out, &|p| source_code(p.sent.source));
    column(out, &|p| FateKind::of(p.fate).code());

    let offset = unit.count(clocks.offset().as_nanos());
    let near = |wall: Wall| unit.count(wall.as_nanos()).wrapping_sub(offset);
    let answered: Vec<(&Probe, &Place, &Reply)> = rows
        .iter()
        .zip(&places)
        .filter_map(|(probe, place)| match &probe.fate {
            ProbeFate::Answered(reply) => Some((*probe, place, reply)),
            ProbeFate::Unanswered | ProbeFate::Refused(_) => None,
        })
        .collect();
    let column = |out: &mut Vec<u8>, cell: &dyn Fn(&Probe, &Place, &Reply) -> i64| {
        let cells: Vec<i64> = answered.iter().map(|(p, at, r)| cell(p, at, r)).collect();
        put_column(out, &cells);
    };
    column(out, &|_, at, r| {
        near(r.reflector_received).wrapping_sub(at.at)
    });
    column(out, &|_, _, r| {
        unit.count(r.received.at.as_nanos())
            .wrapping_sub(near(r.reflector_sent))
    });
    column(out, &|_, _, r| {
        near(r.reflector_sent).wrapping_sub(near(r.reflector_received))
    });
    column(out, &|_, _, r| source_code(r.received.source));
    column(out, &|p, _, r| seq_code(r.reflector_seq, p.seq));
    column(out, &|_, _, r| ttl_code(r.forward_ttl));
    column(out, &|_, _, r| ttl_code(r.reverse_ttl));

    let errnos: Vec<i64> = rows
        .iter()
        .filter_map(|p| match p.fate {
            ProbeFate::Refused(errno) => Some(i64::from(errno)),
            ProbeFate::Answered(_) | ProbeFate::Unanswered => None,
        })
        .collect();
    put_column(out, &errnos);
}

pub(super) fn decode(
    mut reader: Reader<'_>,
    rows: usize,
    unit: Unit,
    clocks: ClockPair,
) -> Result<Vec<Probe>, BlockError> {
    let (mut flows, mut seqs, mut times) = (Vec::new(), Vec::new(), Vec::new());
    grid::decode(&mut reader, rows, &mut flows, &mut seqs, |at| {
        times.push(at);
    })?;
    let sources = reader.column(rows)?;
    let fates = reader.column(rows)?;
    let count = |kind: FateKind| fates.iter().filter(|&&f| f == kind.code()).count();
    let (answered, refused) = (count(FateKind::Answered), count(FateKind::Refused));
    let mut replies = Replies {
        out: reader.column(answered)?.into_iter(),
        back: reader.column(answered)?.into_iter(),
        stay: reader.column(answered)?.into_iter(),
        source: reader.column(answered)?.into_iter(),
        seq: reader.column(answered)?.into_iter(),
        forward_ttl: reader.column(answered)?.into_iter(),
        reverse_ttl: reader.column(answered)?.into_iter(),
        unit,
        offset: unit.count(clocks.offset().as_nanos()),
    };
    let mut errnos = reader.column(refused)?.into_iter();
    reader.end()?;

    let mut probes = Vec::with_capacity(rows);
    for (row, (source, fate)) in sources.into_iter().zip(fates).enumerate() {
        let (seq, at) = (seqs[row], times[row]);
        let fate = match FateKind::from_code(fate)? {
            FateKind::Unanswered => ProbeFate::Unanswered,
            FateKind::Answered => ProbeFate::Answered(replies.next(seq, at)?),
            FateKind::Refused => {
                let errno = errnos.next().unwrap_or_default();
                ProbeFate::Refused(
                    i32::try_from(errno)
                        .map_err(|_| BlockError::Malformed("an errno is out of range"))?,
                )
            }
        };
        probes.push(Probe {
            flow: flows[row],
            seq,
            sent: stamp(unit, at, source)?,
            fate,
        });
    }
    Ok(probes)
}

/// The columns of the answered rows, read in step.
struct Replies {
    out: std::vec::IntoIter<i64>,
    back: std::vec::IntoIter<i64>,
    stay: std::vec::IntoIter<i64>,
    source: std::vec::IntoIter<i64>,
    seq: std::vec::IntoIter<i64>,
    forward_ttl: std::vec::IntoIter<i64>,
    reverse_ttl: std::vec::IntoIter<i64>,
    unit: Unit,
    offset: i64,
}

impl Replies {
    fn next(&mut self, seq: Seq, sent: i64) -> Result<Reply, BlockError> {
        let cell = |column: &mut std::vec::IntoIter<i64>| column.next().unwrap_or_default();
        let arrived = sent.wrapping_add(cell(&mut self.out));
        let left = arrived.wrapping_add(cell(&mut self.stay));
        let received = left.wrapping_add(cell(&mut self.back));
        let wall = |at: i64| Wall::from_nanos(self.unit.nanos(at.wrapping_add(self.offset)));
        Ok(Reply {
            received: stamp(self.unit, received, cell(&mut self.source))?,
            reflector_received: wall(arrived),
            reflector_sent: wall(left),
            reflector_seq: seq_of(cell(&mut self.seq), seq)?,
            forward_ttl: ttl_of(cell(&mut self.forward_ttl))?,
            reverse_ttl: ttl_of(cell(&mut self.reverse_ttl))?,
        })
    }
}

pub(super) fn stamp(unit: Unit, at: i64, source: i64) -> Result<Stamp, BlockError> {
    Ok(Stamp {
        at: Mono::from_nanos(unit.nanos(at)),
        source: match source {
            0 => StampSource::Kernel,
            1 => StampSource::Hardware,
            2 => StampSource::User,
            _ => return Err(BlockError::Malformed("a stamp's source is unknown")),
        },
    })
}

pub(super) fn source_code(source: StampSource) -> i64 {
    match source {
        StampSource::Kernel => 0,
        StampSource::Hardware => 1,
        StampSource::User => 2,
    }
}

/// Encodes the difference of two counters: a small difference in either direction gives a
/// small code.
#[expect(clippy::cast_possible_wrap, reason = "the difference is modulo 2^32")]
pub(super) fn seq_code(of: Seq, from: Seq) -> i64 {
    i64::from(of.0.wrapping_sub(from.0) as i32)
}

#[expect(clippy::cast_sign_loss, reason = "the difference is modulo 2^32")]
pub(super) fn seq_of(code: i64, from: Seq) -> Result<Seq, BlockError> {
    i32::try_from(code)
        .map(|difference| Seq(from.0.wrapping_add(difference as u32)))
        .map_err(|_| BlockError::Malformed("a sequence number is out of range"))
}

pub(super) fn ttl_code(ttl: Option<u8>) -> i64 {
    ttl.map_or(0, |ttl| i64::from(ttl) + 1)
}

pub(super) fn ttl_of(code: i64) -> Result<Option<u8>, BlockError> {
    if code == 0 {
        return Ok(None);
    }
    match u8::try_from(code.wrapping_sub(1)) {
        Ok(ttl) => Ok(Some(ttl)),
        Err(_) => Err(BlockError::Malformed("a TTL is out of range")),
    }
}
