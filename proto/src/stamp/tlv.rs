//! Type-Length-Value extensions behind a base packet: RFC 8972 section 4.
//!
//! Flags (1) Type (1) Length (2) Value. The sender sets U. A reflector clears it on TLVs that
//! it understands, sets M on a malformed one and stops there, and sets I on all of them if
//! the HMAC TLV fails. So a U that is still set in a reply says that the reflector does not
//! support that type.

mod body;
mod check;
mod location;
mod writer;

pub use body::{
    AccessReport, Body, ClassOfService, DirectMeasurement, FollowUpTelemetry, Malformed,
    SyncSource, TimestampInformation, TimestampMethod,
};
pub use check::{Distrust, Trusted};
pub use location::Location;
pub use writer::{ValueTooLong, Writer, seal};

pub(super) use check::Scan;
pub(super) use location::{FIXED_LEN as LOCATION_FIXED_LEN, SubType};
pub(super) use writer::seal_extension;

use super::layout::u16_at;
use core::fmt;

/// Size of Flags, Type and Length.
pub const HEADER_LEN: usize = 4;

/// The Flags of a TLV.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// U: the reflector has not understood this TLV.
    pub const UNRECOGNISED: Self = Self(0x80);
    /// M: the reflector found this TLV malformed, and stopped at it.
    pub const MALFORMED: Self = Self(0x40);
    /// I: the HMAC TLV failed at the reflector.
    pub const INTEGRITY_FAILED: Self = Self(0x20);

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#04x})", self.0)
    }
}

/// The Type of a TLV, in IANA's registry "STAMP TLV Types".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlvType(pub u8);

impl TlvType {
    /// Section 4.1: makes a packet larger.
    pub const EXTRA_PADDING: Self = Self(1);
    /// Section 4.2: where the packet came from and went to, past any NAT.
    pub const LOCATION: Self = Self(2);
    /// Section 4.3: how the reflector's timestamps are made.
    pub const TIMESTAMP_INFORMATION: Self = Self(3);
    /// Section 4.4: DSCP and ECN as they arrived.
    pub const CLASS_OF_SERVICE: Self = Self(4);
    /// Section 4.5: counters of both ends.
    pub const DIRECT_MEASUREMENT: Self = Self(5);
    /// Section 4.6: the sender's access network has changed.
    pub const ACCESS_REPORT: Self = Self(6);
    /// Section 4.7: the true transmit time of the previous reply.
    pub const FOLLOW_UP_TELEMETRY: Self = Self(7);
    /// Section 4.8: protects the sequence number and the TLVs before it.
    pub const HMAC: Self = Self(8);
}

impl fmt::Debug for TlvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlvType({})", self.0)
    }
}

impl fmt::Display for TlvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EXTRA_PADDING => f.write_str("Extra Padding"),
            Self::LOCATION => f.write_str("Location"),
            Self::TIMESTAMP_INFORMATION => f.write_str("Timestamp Information"),
            Self::CLASS_OF_SERVICE => f.write_str("Class of Service"),
            Self::DIRECT_MEASUREMENT => f.write_str("Direct Measurement"),
            Self::ACCESS_REPORT => f.write_str("Access Report"),
            Self::FOLLOW_UP_TELEMETRY => f.write_str("Follow-Up Telemetry"),
            Self::HMAC => f.write_str("HMAC"),
            Self(other) => write!(f, "TLV type {other}"),
        }
    }
}

/// One TLV as it stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its flags.
    pub flags: Flags,
    /// Its type.
    pub kind: TlvType,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// What the value says.
    ///
    /// # Errors
    /// Where the value's length is not one of its type.
    pub fn body(&self) -> Result<Body<'a>, Malformed> {
        Body::parse(self.kind, self.value)
    }
}

/// A TLV whose Length runs past the end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} claims {claimed} bytes where {left} are left")]
pub struct Truncated {
    /// Its flags.
    pub flags: Flags,
    /// Its type.
    pub kind: TlvType,
    /// What its Length says.
    pub claimed: usize,
    /// Bytes left in the packet.
    pub left: usize,
}

/// What follows the base packet: TLVs, or a TWAMP Light peer's padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// Wraps the bytes that follow a base packet.
    pub const fn new(extension: &'a [u8]) -> Self {
        Self(extension)
    }

    /// All bytes after the base packet, whether they are TLVs or not.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing follows the base packet.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the TLVs in order, up to the first that is truncated, or to bytes that
    /// are no TLV: fewer than four, or a reserved type 0 without flags, as in padding of
    /// zeros.
    pub const fn iter(self) -> Iter<'a> {
        Iter {
            rest: self.0,
            at: 0,
        }
    }

    /// Whether these bytes, of a request, are TLVs rather than padding. A sender
    /// must set U on each of its TLVs, and type 0 is reserved.
    pub(super) fn is_request(self) -> bool {
        match self.0 {
            [flags, kind, _, _, ..] => Flags(*flags).contains(Flags::UNRECOGNISED) && *kind != 0,
            _ => false,
        }
    }
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, Truncated>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Walks TLVs. See [`Tlvs::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Iter<'_> {
    /// Offset of the next TLV's header from the start of the extension, in bytes.
    pub(super) const fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<Tlv<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.rest.split_at_checked(HEADER_LEN)?;
        let (flags, kind) = (Flags(header[0]), TlvType(header[1]));
        if flags == Flags(0) && kind == TlvType(0) {
            self.rest = &[];
            return None;
        }
        let claimed = usize::from(u16_at(header, 2));
        let Some((value, rest)) = rest.split_at_checked(claimed) else {
            let left = rest.len();
            self.rest = &[];
            return Some(Err(Truncated {
                flags,
                kind,
                claimed,
                left,
            }));
        };
        self.rest = rest;
        self.at += HEADER_LEN + claimed;
        Some(Ok(Tlv { flags, kind, value }))
    }
}

#[cfg(test)]
mod tests;
