//! The values of the TLV types of RFC 8972.

use super::{Location, TlvType};
use crate::stamp::layout::{u32_at, u64_at};
use crate::stamp::{Seq, TAG_LEN};

/// A TLV whose Length is not one of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} cannot have a value of {len} bytes")]
pub struct Malformed {
    /// Its type.
    pub kind: TlvType,
    /// The length of its value.
    pub len: usize,
}

/// A TLV's parsed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Section 4.1. Any content.
    ExtraPadding(&'a [u8]),
    /// Section 4.2.
    Location(Location<'a>),
    /// Section 4.3.
    TimestampInformation(TimestampInformation),
    /// Section 4.4.
    ClassOfService(ClassOfService),
    /// Section 4.5.
    DirectMeasurement(DirectMeasurement),
    /// Section 4.6.
    AccessReport(AccessReport),
    /// Section 4.7.
    FollowUpTelemetry(FollowUpTelemetry),
    /// Section 4.8: HMAC-SHA-256 truncated to 16 octets over the Sequence
    /// Number and all TLVs before this one.
    Hmac([u8; TAG_LEN]),
    /// A type that this crate does not know.
    Opaque(TlvType, &'a [u8]),
}

impl<'a> Body<'a> {
    /// Reads the value of a TLV of type `kind`.
    ///
    /// # Errors
    /// Where the value's length is not one of its type.
    pub fn parse(kind: TlvType, value: &'a [u8]) -> Result<Self, Malformed> {
        let malformed = Malformed {
            kind,
            len: value.len(),
        };
        Ok(match kind {
            TlvType::EXTRA_PADDING => Self::ExtraPadding(value),
            TlvType::LOCATION => Self::Location(Location::parse(value).ok_or(malformed)?),
            TlvType::TIMESTAMP_INFORMATION => {
                let octets: &[u8; 4] = value.try_into().map_err(|_| malformed)?;
                Self::TimestampInformation(TimestampInformation::from_octets(*octets))
            }
            TlvType::CLASS_OF_SERVICE => {
                let octets: &[u8; 4] = value.try_into().map_err(|_| malformed)?;
                Self::ClassOfService(ClassOfService::from_octets(*octets))
            }
            TlvType::DIRECT_MEASUREMENT => {
                let octets: &[u8; 12] = value.try_into().map_err(|_| malformed)?;
                Self::DirectMeasurement(DirectMeasurement::from_octets(*octets))
            }
            TlvType::ACCESS_REPORT => {
                let octets: &[u8; 4] = value.try_into().map_err(|_| malformed)?;
                Self::AccessReport(AccessReport::from_octets(*octets))
            }
            TlvType::FOLLOW_UP_TELEMETRY => {
                let octets: &[u8; 16] = value.try_into().map_err(|_| malformed)?;
                Self::FollowUpTelemetry(FollowUpTelemetry::from_octets(*octets))
            }
            TlvType::HMAC => Self::Hmac(value.try_into().map_err(|_| malformed)?),
            _ => Self::Opaque(kind, value),
        })
    }

    /// The type whose value this is.
    pub const fn kind(&self) -> TlvType {
        match self {
            Self::ExtraPadding(_) => TlvType::EXTRA_PADDING,
            Self::Location(_) => TlvType::LOCATION,
            Self::TimestampInformation(_) => TlvType::TIMESTAMP_INFORMATION,
            Self::ClassOfService(_) => TlvType::CLASS_OF_SERVICE,
            Self::DirectMeasurement(_) => TlvType::DIRECT_MEASUREMENT,
            Self::AccessReport(_) => TlvType::ACCESS_REPORT,
            Self::FollowUpTelemetry(_) => TlvType::FOLLOW_UP_TELEMETRY,
            Self::Hmac(_) => TlvType::HMAC,
            Self::Opaque(kind, _) => *kind,
        }
    }

    /// Appends the value alone.
    pub(super) fn append_value(&self, out: &mut Vec<u8>) {
        match self {
            Self::ExtraPadding(value) | Self::Opaque(_, value) => out.extend_from_slice(value),
            Self::Location(location) => location.append_value(out),
            Self::TimestampInformation(it) => out.extend_from_slice(&it.to_octets()),
            Self::ClassOfService(it) => out.extend_from_slice(&it.to_octets()),
            Self::DirectMeasurement(it) => out.extend_from_slice(&it.to_octets()),
            Self::AccessReport(it) => out.extend_from_slice(&it.to_octets()),
            Self::FollowUpTelemetry(it) => out.extend_from_slice(&it.to_octets()),
            Self::Hmac(tag) => out.extend_from_slice(tag),
        }
    }
}

/// What a clock is synchronised by (RFC 8972 section 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncSource(pub u8);

impl SyncSource {
    /// Network Time Protocol.
    pub const NTP: Self = Self(1);
    /// Precision Time Protocol.
    pub const PTP: Self = Self(2);
    /// Synchronisation Supply Unit, Building Integrated Timing Supply.
    pub const SSU_BITS: Self = Self(3);
    /// A radio or satellite clock.
    pub const RADIO: Self = Self(4);
    /// A free-running local clock.
    pub const LOCAL: Self = Self(5);
}

/// How a timestamp was taken (RFC 8972 section 5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampMethod(pub u8);

impl TimestampMethod {
    /// By the network hardware.
    pub const HARDWARE: Self = Self(1);
    /// By software on the host: its kernel, at best.
    pub const SOFTWARE: Self = Self(2);
    /// By the control plane.
    pub const CONTROL_PLANE: Self = Self(3);
}

/// How the reflector's timestamps are made (section 4.3). All zero in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampInformation {
    /// What synchronises the clock of T2.
    pub sync_source_in: SyncSource,
    /// How T2 was taken.
    pub method_in: TimestampMethod,
    /// What synchronises the clock of T3.
    pub sync_source_out: SyncSource,
    /// How T3 was taken.
    pub method_out: TimestampMethod,
}

impl TimestampInformation {
    const fn from_octets([a, b, c, d]: [u8; 4]) -> Self {
        Self {
            sync_source_in: SyncSource(a),
            method_in: TimestampMethod(b),
            sync_source_out: SyncSource(c),
            method_out: TimestampMethod(d),
        }
    }

    pub(in crate::stamp) const fn to_octets(self) -> [u8; 4] {
        [
            self.sync_source_in.0,
            self.method_in.0,
            self.sync_source_out.0,
            self.method_out.0,
        ]
    }
}

/// DSCP and ECN, as requested and as they arrived (section 4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassOfService {
    /// DSCP1, 6 bits: what the reply shall be sent with.
    pub reply_dscp: u8,
    /// DSCP2, 6 bits: what the request arrived with. Zero in a request.
    pub received_dscp: u8,
    /// ECN, 2 bits: what the request arrived with. Zero in a request.
    pub received_ecn: u8,
    /// RP, 2 bits: 1 where the reflector refused DSCP1 and used the DSCP that
    /// the request arrived with. Zero in a request.
    pub reverse_path: u8,
}

impl ClassOfService {
    const fn from_octets([a, b, _, _]: [u8; 4]) -> Self {
        Self {
            reply_dscp: a >> 2,
            received_dscp: (a & 0b11) << 4 | b >> 4,
            received_ecn: b >> 2 & 0b11,
            reverse_path: b & 0b11,
        }
    }

    /// Bits beyond a field's width are cut off.
    pub(in crate::stamp) const fn to_octets(self) -> [u8; 4] {
        let received = self.received_dscp & 0x3f;
        [
            (self.reply_dscp & 0x3f) << 2 | received >> 4,
            (received & 0x0f) << 4 | (self.received_ecn & 0b11) << 2 | self.reverse_path & 0b11,
            0,
            0,
        ]
    }
}

/// Counters of the session's packets at both ends (section 4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectMeasurement {
    /// `S_TxC`: packets the sender has sent.
    pub sender_tx: u32,
    /// `R_RxC`: packets the reflector has received. Zero in a request.
    pub reflector_rx: u32,
    /// `R_TxC`: packets the reflector has sent. Zero in a request.
    pub reflector_tx: u32,
}

impl DirectMeasurement {
    fn from_octets(octets: [u8; 12]) -> Self {
        Self {
            sender_tx: u32_at(&octets, 0),
            reflector_rx: u32_at(&octets, 4),
            reflector_tx: u32_at(&octets, 8),
        }
    }

    fn to_octets(self) -> [u8; 12] {
        let mut octets = [0; 12];
        octets[..4].copy_from_slice(&self.sender_tx.to_be_bytes());
        octets[4..8].copy_from_slice(&self.reflector_rx.to_be_bytes());
        octets[8..].copy_from_slice(&self.reflector_tx.to_be_bytes());
        octets
    }
}

/// A change of the sender's access network (section 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessReport {
    /// ID, 4 bits: 1 for 3GPP, 2 for another network; others are invalid.
    pub access_id: u8,
    /// 1 where the network is available, 2 where it is not.
    pub return_code: u8,
}

impl AccessReport {
    const fn from_octets([id, return_code, _, _]: [u8; 4]) -> Self {
        Self {
            access_id: id >> 4,
            return_code,
        }
    }

    const fn to_octets(self) -> [u8; 4] {
        [self.access_id << 4, self.return_code, 0, 0]
    }
}

/// When the previous reply truly left (section 4.7). All zero in a request, and
/// in the replies of a stateless reflector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowUpTelemetry {
    /// The reflector's Sequence Number of that reply.
    pub sequence: Seq,
    /// When it was sent, in the format of the reply's Error Estimate.
    pub timestamp: u64,
    /// How that time was taken.
    pub method: TimestampMethod,
}

impl FollowUpTelemetry {
    fn from_octets(octets: [u8; 16]) -> Self {
        Self {
            sequence: Seq(u32_at(&octets, 0)),
            timestamp: u64_at(&octets, 4),
            method: TimestampMethod(octets[12]),
        }
    }

    pub(in crate::stamp) fn to_octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&self.sequence.0.to_be_bytes());
        octets[4..12].copy_from_slice(&self.timestamp.to_be_bytes());
        octets[12] = self.method.0;
        octets
    }
}
