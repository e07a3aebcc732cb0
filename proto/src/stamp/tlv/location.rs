//! The Location TLV (RFC 8972 section 4.2): how the request looked on arrival, which shows
//! the sender a NAT in between.

use super::{HEADER_LEN, Tlvs};
use crate::stamp::layout::{array_at, u16_at};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of the two ports, which sub-TLVs may follow.
pub(in crate::stamp) const FIXED_LEN: usize = 4;

/// Types of sub-TLVs (section 4.2.1). A request asks by a general type (1, 4, 7); a reply
/// answers with the specific type that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stamp) struct SubType(pub(in crate::stamp) u8);

impl SubType {
    pub(in crate::stamp) const SOURCE_MAC: Self = Self(1);
    pub(in crate::stamp) const SOURCE_EUI64: Self = Self(3);
    pub(in crate::stamp) const DESTINATION_IP: Self = Self(4);
    pub(in crate::stamp) const DESTINATION_IPV4: Self = Self(5);
    pub(in crate::stamp) const DESTINATION_IPV6: Self = Self(6);
    pub(in crate::stamp) const SOURCE_IP: Self = Self(7);
    pub(in crate::stamp) const SOURCE_IPV4: Self = Self(8);
    pub(in crate::stamp) const SOURCE_IPV6: Self = Self(9);

    /// The only Length of this type; `None` where the type is unknown.
    const fn len(self) -> Option<usize> {
        match self.0 {
            1..=3 => Some(8),
            4..=9 => Some(16),
            _ => None,
        }
    }
}

/// Ports and addresses of the request as the reflector received it. Zeros in a request; a
/// reflector may leave zeros where it discloses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location<'a> {
    /// UDP destination port of the request.
    pub destination_port: u16,
    /// UDP source port of the request.
    pub source_port: u16,
    fields: &'a [u8],
}

impl<'a> Location<'a> {
    /// A request for ports and for both addresses.
    pub const REQUEST: Location<'static> = Location {
        destination_port: 0,
        source_port: 0,
        fields: &[
            0x80, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // Destination IP
            0x80, 7, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // Source IP
        ],
    };

    /// `None` where the value, or a sub-TLV in it, is malformed.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (ports, fields) = value.split_at_checked(FIXED_LEN)?;
        let mut used = 0;
        for field in Tlvs::new(fields) {
            let field = field.ok()?;
            if SubType(field.kind.0)
                .len()
                .is_some_and(|len| len != field.value.len())
            {
                return None;
            }
            used += HEADER_LEN + field.value.len();
        }
        (used == fields.len()).then_some(Self {
            destination_port: u16_at(ports, 0),
            source_port: u16_at(ports, 2),
            fields,
        })
    }

    /// The source address of the request, where the reflector says it.
    pub fn source(&self) -> Option<IpAddr> {
        self.address(SubType::SOURCE_IPV4, SubType::SOURCE_IPV6)
    }

    /// The destination address of the request, where the reflector says it.
    pub fn destination(&self) -> Option<IpAddr> {
        self.address(SubType::DESTINATION_IPV4, SubType::DESTINATION_IPV6)
    }

    /// The sub-TLVs.
    pub const fn fields(&self) -> Tlvs<'a> {
        Tlvs::new(self.fields)
    }

    fn address(&self, v4: SubType, v6: SubType) -> Option<IpAddr> {
        self.fields()
            .iter()
            .filter_map(Result::ok)
            .find_map(|field| match SubType(field.kind.0) {
                kind if kind == v4 => Some(Ipv4Addr::from(array_at::<4>(field.value, 0)).into()),
                kind if kind == v6 => Some(Ipv6Addr::from(array_at::<16>(field.value, 0)).into()),
                _ => None,
            })
    }

    pub(super) fn append_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.destination_port.to_be_bytes());
        out.extend_from_slice(&self.source_port.to_be_bytes());
        out.extend_from_slice(self.fields);
    }
}
