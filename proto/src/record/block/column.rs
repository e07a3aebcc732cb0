//! One column of integers, in the smallest of a few codes.
//!
//! | tag | code | for |
//! |---|---|---|
//! | 0 | nothing | a column of zeros, or of no rows |
//! | 1 | the value | a column that never changes |
//! | 2 | pairs of value and run length | a column that seldom changes: fates, TTLs |
//! | 3 | smallest value, width, bits | a few rows |
//! | 4 | smallest value, pco of 32-bit differences from it | noise |
//! | 5 | smallest value, pco of 64-bit differences from it | noise with far outliers |
//!
//! Every code but 0 is preceded by its length in bytes, so that a reader can
//! step over a column. Lengths and values are LEB128 varints, signed values in
//! zigzag. The number of rows is not part of a column: the reader knows it.
//!
//! pco's settings are fixed instead of chosen by it: classic mode, and differences of first
//! order or none. Its other modes win nothing here, and some of them allocate as much as the
//! input says; a reader refuses them by the first byte of pco's own header.

use super::BlockError;
use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

const ZEROS: u8 = 0;
const CONSTANT: u8 = 1;
const RUNS: u8 = 2;
const PACKED: u8 = 3;
const PCO_32: u8 = 4;
const PCO_64: u8 = 5;

/// Up to this many rows packing is tried too: pco's tables cost some bytes.
const FEW_ROWS: usize = 1024;

/// Columns are read in pieces of this many rows, which stay in the processor's first cache. A
/// multiple of pco's batch of 256.
const PIECE: usize = 1024;

/// pco's format, major version 4.
const PCO_MAJOR: u8 = 4;

/// Writes an unsigned LEB128 varint.
#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub(super) fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a signed varint in zigzag.
#[expect(clippy::cast_sign_loss, reason = "zigzag is defined on the bits")]
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Writes a column.
pub(super) fn put_column(out: &mut Vec<u8>, values: &[i64]) {
    let Some((&first, rest)) = values.split_first() else {
        out.push(ZEROS);
        return;
    };
    if rest.iter().all(|&v| v == first) {
        if first == 0 {
            out.push(ZEROS);
        } else {
            let mut code = Vec::new();
            put_signed(&mut code, first);
            put_coded(out, CONSTANT, &code);
        }
        return;
    }
    let runs = 1 + values.windows(2).filter(|w| w[0] != w[1]).count();
    let least = values.iter().copied().min().unwrap_or(0);
    let differences: Vec<u64> = values.iter().map(|&v| v.abs_diff(least)).collect();
    let widest = differences.iter().copied().max().unwrap_or(0);

    let mut best = noise(values, &differences, least, widest);
    let mut offer = |(tag, code): (u8, Vec<u8>)| {
        if best.as_ref().is_none_or(|(_, b)| code.len() < b.len()) {
            best = Some((tag, code));
        }
    };
    // With more than a run for every eighth row, runs are no gain over noise.
    if runs <= values.len() / 8 + 2 {
        offer((RUNS, coded_runs(values)));
    }
    if values.len() <= FEW_ROWS {
        offer((PACKED, packed(&differences, least, widest)));
    }
    // pco refuses nothing that is given to it here. If it ever does, packing takes anything.
    let (tag, code) = best.unwrap_or_else(|| (PACKED, packed(&differences, least, widest)));
    put_coded(out, tag, &code);
}

fn put_coded(out: &mut Vec<u8>, tag: u8, code: &[u8]) {
    out.push(tag);
    put_unsigned(out, code.len() as u64);
    out.extend_from_slice(code);
}

fn coded_runs(values: &[i64]) -> Vec<u8> {
    let mut code = Vec::new();
    for run in values.chunk_by(|a, b| a == b) {
        put_signed(&mut code, run.first().copied().unwrap_or(0));
        put_unsigned(&mut code, run.len() as u64);
    }
    code
}

/// Bits of a number; at least one.
fn width_of(widest: u64) -> u32 {
    (64 - widest.leading_zeros()).max(1)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "eight bits at a time; a width is at most 64"
)]
fn packed(differences: &[u64], least: i64, widest: u64) -> Vec<u8> {
    let width = width_of(widest);
    let mut code = Vec::new();
    put_signed(&mut code, least);
    code.push(width as u8);
    let (mut pending, mut bits) = (0_u128, 0_u32);
    for &value in differences {
        pending |= u128::from(value) << bits;
        bits += width;
        while bits >= 8 {
            code.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        code.push(pending as u8);
    }
    code
}

/// The column by pco; `None` where pco refuses it.
fn noise(values: &[i64], differences: &[u64], least: i64, widest: u64) -> Option<(u8, Vec<u8>)> {
    let mut code = Vec::new();
    put_signed(&mut code, least);
    let delta = delta_of(values);
    if u32::try_from(widest).is_ok() {
        let narrow: Option<Vec<u32>> = differences.iter().map(|&d| d.try_into().ok()).collect();
        Some((PCO_32, compress(code, &narrow?, delta)?))
    } else {
        Some((PCO_64, compress(code, differences, delta)?))
    }
}

/// Chooses differences where neighbours are nearer to each other than to the median.
fn delta_of(values: &[i64]) -> DeltaSpec {
    let bits = |a: i64, b: i64| u64::from(64 - a.abs_diff(b).leading_zeros());
    let mut sorted = values.to_vec();
    let middle = values.len() / 2;
    let median = *sorted.select_nth_unstable(middle).1;
    let plain: u64 = values.iter().map(|&v| bits(v, median)).sum();
    let between: u64 = values.windows(2).map(|w| bits(w[0], w[1])).sum();
    if between < plain {
        DeltaSpec::TryConsecutive(1)
    } else {
        DeltaSpec::NoOp
    }
}

fn compress<T: Number>(mut code: Vec<u8>, values: &[T], delta: DeltaSpec) -> Option<Vec<u8>> {
    let config = ChunkConfig::default()
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(vec![values.len()]));
    let file = FileCompressor::default();
    file.write_header(&mut code).ok()?;
    let mut chunk = file.chunk_compressor(values, &config).ok()?;
    chunk.write_meta(&mut code).ok()?;
    chunk.write_page(0, &mut code).ok()?;
    Some(code)
}

/// Decompresses `rows` numbers and hands them to `take`, piece by piece.
fn decompress<T: Number>(
    code: &[u8],
    rows: usize,
    mut take: impl FnMut(&[T]),
) -> Result<(), BlockError> {
    let fail = |_| BlockError::Malformed("a column cannot be decompressed");
    let (file, rest) = FileDecompressor::new(code).map_err(fail)?;
    // Low half: mode, classic is 0. High half: differences, none 0 or consecutive 1.
    let refused = !matches!(rest.first(), Some(0x00 | 0x10));
    if file.format_version().major != PCO_MAJOR || refused {
        return Err(BlockError::Malformed(
            "a column uses a code that is not in use",
        ));
    }
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).map_err(fail)?;
    let mut page = chunk.page_decompressor(rest, rows).map_err(fail)?;
    let mut piece = [T::default(); PIECE];
    let mut left = rows;
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE)];
        let progress = page.read(piece).map_err(fail)?;
        left -= piece.len();
        if progress.n_processed != piece.len() || progress.finished != (left == 0) {
            return Err(BlockError::Malformed("a column has another number of rows"));
        }
        take(piece);
    }
    if page.into_src().is_empty() {
        Ok(())
    } else {
        Err(BlockError::Malformed("something follows a column's rows"))
    }
}

/// Reads columns and numbers from bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn byte(&mut self) -> Result<u8, BlockError> {
        let (&byte, rest) = self
            .rest
            .split_first()
            .ok_or(BlockError::Malformed("it is cut off"))?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, BlockError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Malformed("a number is too long"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, BlockError> {
        let zigzag = self.unsigned()?;
        #[expect(clippy::cast_possible_wrap, reason = "zigzag is defined on the bits")]
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Checks that everything was used up.
    pub(super) fn end(self) -> Result<(), BlockError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BlockError::Malformed("something follows its last column"))
        }
    }

    fn coded(&mut self) -> Result<(u8, &'a [u8]), BlockError> {
        let tag = self.byte()?;
        if tag == ZEROS {
            return Ok((tag, &[]));
        }
        let length = usize::try_from(self.unsigned()?).unwrap_or(usize::MAX);
        let (code, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(BlockError::Malformed("a column is cut off"))?;
        self.rest = rest;
        Ok((tag, code))
    }

    /// Steps over a column.
    pub(super) fn skip(&mut self) -> Result<(), BlockError> {
        self.coded().map(drop)
    }

    /// A column of `rows` rows.
    pub(super) fn column(&mut self, rows: usize) -> Result<Vec<i64>, BlockError> {
        let mut values = Vec::new();
        self.column_into(rows, &mut values)?;
        Ok(values)
    }

    /// Reads a column of `rows` rows into `values`, replacing their content.
    pub(super) fn column_into(
        &mut self,
        rows: usize,
        values: &mut Vec<i64>,
    ) -> Result<(), BlockError> {
        values.clear();
        values.reserve(rows);
        self.column_each(rows, |piece| values.extend_from_slice(piece))
    }

    /// Reads a column of `rows` rows and hands it to `take` piece by piece. After an error
    /// some may have been handed out.
    pub(super) fn column_each(
        &mut self,
        rows: usize,
        mut take: impl FnMut(&[i64]),
    ) -> Result<(), BlockError> {
        let (tag, code) = self.coded()?;
        if rows == 0 {
            return match tag {
                ZEROS => Ok(()),
                _ => Err(BlockError::Malformed("a column without rows has values")),
            };
        }
        let mut code = Reader::new(code);
        let mut wide = [0_i64; PIECE];
        match tag {
            ZEROS => repeat(0, rows, &mut take),
            CONSTANT => repeat(code.signed()?, rows, &mut take),
            RUNS => {
                let mut left = rows;
                while !code.rest.is_empty() {
                    let value = code.signed()?;
                    let length = usize::try_from(code.unsigned()?).unwrap_or(usize::MAX);
                    left = left
                        .checked_sub(length)
                        .ok_or(BlockError::Malformed("a column has too many rows"))?;
                    repeat(value, length, &mut take);
                }
                if left > 0 {
                    return Err(BlockError::Malformed("a column has too few rows"));
                }
            }
            PACKED => code.unpack(rows, take)?,
            PCO_32 => {
                let least = code.signed()?;
                decompress(code.take_rest(), rows, |narrow: &[u32]| {
                    let wide = &mut wide[..narrow.len()];
                    for (to, &difference) in wide.iter_mut().zip(narrow) {
                        *to = least.wrapping_add(i64::from(difference));
                    }
                    take(wide);
                })?;
            }
            PCO_64 => {
                let least = code.signed()?;
                decompress(code.take_rest(), rows, |far: &[u64]| {
                    let wide = &mut wide[..far.len()];
                    for (to, &difference) in wide.iter_mut().zip(far) {
                        *to = least.wrapping_add_unsigned(difference);
                    }
                    take(wide);
                })?;
            }
            _ => return Err(BlockError::Malformed("a column's code is unknown")),
        }
        code.end()
    }

    fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    fn unpack(&mut self, rows: usize, mut take: impl FnMut(&[i64])) -> Result<(), BlockError> {
        let least = self.signed()?;
        let width = u32::from(self.byte()?);
        if !(1..=64).contains(&width) {
            return Err(BlockError::Malformed("a column's width is out of range"));
        }
        let mask = u64::MAX >> (64 - width);
        let (mut pending, mut bits) = (0_u128, 0_u32);
        for _ in 0..rows {
            while bits < width {
                pending |= u128::from(self.byte()?) << bits;
                bits += 8;
            }
            #[expect(clippy::cast_possible_truncation, reason = "masked to the width")]
            let value = pending as u64 & mask;
            take(&[least.wrapping_add_unsigned(value)]);
            pending >>= width;
            bits -= width;
        }
        Ok(())
    }
}

/// Hands out one value `rows` times, in pieces.
fn repeat(value: i64, rows: usize, take: &mut impl FnMut(&[i64])) {
    let piece = [value; PIECE];
    let mut left = rows;
    while left > 0 {
        let length = left.min(PIECE);
        take(&piece[..length]);
        left -= length;
    }
}

#[cfg(test)]
mod tests;
