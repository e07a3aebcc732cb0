//! Control messages, read and written as bytes.
//!
//! The kernel's layout: a length in the native word, level and type as `int`, the data, and
//! padding to the native word. The parser trusts nothing: a truncated buffer only ends the
//! walk.

use super::name::array;
use std::ffi::c_int;

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 2 * size_of::<c_int>();

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control<'a> {
    pub(crate) level: c_int,
    pub(crate) kind: c_int,
    pub(crate) data: &'a [u8],
}

impl Control<'_> {
    /// The data as an `int`.
    pub(crate) fn int(&self) -> Option<c_int> {
        array(self.data, 0).map(c_int::from_ne_bytes)
    }

    /// The data as an `int` or a single byte, whichever the kernel sent, if it fits 8 bits.
    pub(crate) fn small(&self) -> Option<u8> {
        match *self.data {
            [byte] => Some(byte),
            _ => self.int().and_then(|value| u8::try_from(value).ok()),
        }
    }
}

/// The control messages in a received buffer.
pub(crate) struct Controls<'a> {
    rest: &'a [u8],
}

impl<'a> Controls<'a> {
    pub(crate) fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer }
    }
}

impl<'a> Iterator for Controls<'a> {
    type Item = Control<'a>;

    fn next(&mut self) -> Option<Control<'a>> {
        let len = usize::from_ne_bytes(array(self.rest, 0)?);
        let level = c_int::from_ne_bytes(array(self.rest, WORD)?);
        let kind = c_int::from_ne_bytes(array(self.rest, WORD + size_of::<c_int>())?);
        let data = self.rest.get(HEADER..len)?;
        let next = len.checked_next_multiple_of(WORD)?;
        self.rest = self.rest.get(next..).unwrap_or_default();
        Some(Control { level, kind, data })
    }
}

/// Control messages to send with one packet.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(crate) struct Outgoing {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Outgoing {
    /// Room for source address, hop limit, traffic class and timestamp id.
    const CAPACITY: usize = 160;

    pub(crate) const EMPTY: Self = Self {
        bytes: [0; Self::CAPACITY],
        len: 0,
    };

    /// Appends a message. One that does not fit is left out: a bug in this crate, which the
    /// tests would show.
    pub(crate) fn push(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let len = HEADER + data.len();
        let padded = len.next_multiple_of(WORD);
        let Some(space) = self.bytes.get_mut(self.len..self.len + padded) else {
            debug_assert!(false, "control buffer too small");
            return;
        };
        space[..WORD].copy_from_slice(&len.to_ne_bytes());
        space[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        space[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        space[HEADER..len].copy_from_slice(data);
        space[len..].fill(0);
        self.len += padded;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
