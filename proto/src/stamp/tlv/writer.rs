//! Writes the TLVs of a request.

use super::{Body, Flags, HEADER_LEN, Scan, TlvType, Tlvs};
use crate::stamp::layout::{put, u32_at};
use crate::stamp::{AuthKey, Mode, Seq};

/// Appends TLVs to a request, with U = 1, as a Session-Sender must set it.
///
/// The caller must keep the order of RFC 8972 section 4.8: the HMAC TLV after all others
/// except Extra Padding. An HMAC TLV is pushed with zeros; [`seal`] fills them for each
/// packet.
#[derive(Debug)]
pub struct Writer<'b>(&'b mut Vec<u8>);

/// A value that no Length can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TLV's value of {0} bytes is too long: 65535 at most")]
pub struct ValueTooLong(pub usize);

impl<'b> Writer<'b> {
    /// Makes `datagram` a base packet of `mode`, all zero, to append to.
    pub fn new(datagram: &'b mut Vec<u8>, mode: Mode<'_>) -> Self {
        datagram.clear();
        datagram.resize(mode.base_len(), 0);
        Self(datagram)
    }

    /// Appends one TLV.
    ///
    /// # Errors
    /// Where its value is longer than 65535 bytes; nothing is appended then.
    pub fn push(&mut self, body: &Body<'_>) -> Result<&mut Self, ValueTooLong> {
        let start = self.0.len();
        self.0
            .extend_from_slice(&[Flags::UNRECOGNISED.0, body.kind().0, 0, 0]);
        body.append_value(self.0);
        self.close(start)
    }

    /// Appends Extra Padding of zeros, `len` bytes without its header.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn pad(&mut self, len: usize) -> Result<&mut Self, ValueTooLong> {
        let start = self.0.len();
        self.0
            .extend_from_slice(&[Flags::UNRECOGNISED.0, TlvType::EXTRA_PADDING.0, 0, 0]);
        self.0.resize(start + HEADER_LEN + len, 0);
        self.close(start)
    }

    fn close(&mut self, start: usize) -> Result<&mut Self, ValueTooLong> {
        let len = self.0.len() - start - HEADER_LEN;
        let Ok(length) = u16::try_from(len) else {
            self.0.truncate(start);
            return Err(ValueTooLong(len));
        };
        put(self.0, start + 2, length.to_be_bytes());
        Ok(self)
    }
}

/// Fills the HMAC TLV of a packet whose base has `base_len` bytes, for the
/// sequence number that stands in it. Returns whether there is one.
pub fn seal(datagram: &mut [u8], base_len: usize, key: &AuthKey) -> bool {
    let sequence = Seq(u32_at(datagram, 0));
    datagram
        .get_mut(base_len..)
        .is_some_and(|extension| seal_extension(extension, sequence, key))
}

pub(in crate::stamp) fn seal_extension(extension: &mut [u8], sequence: Seq, key: &AuthKey) -> bool {
    let Some(at) = Scan::of(Tlvs::new(extension)).hmac else {
        return false;
    };
    let Some((covered, hmac)) = extension.split_at_mut_checked(at) else {
        return false;
    };
    put(
        hmac,
        HEADER_LEN,
        key.tag([&sequence.0.to_be_bytes(), covered]),
    );
    true
}
