//! What a Session-Sender sends: RFC 8762 section 4.2.

use super::error::ErrorEstimateField;
use super::layout::{COMPATIBLE_LEN, ReflectorLayout, SenderLayout, put, u16_at, u32_at, u64_at};
use super::tlv::Tlvs;
use super::{BufferTooSmall, Compatibility, ErrorEstimate, Mode, ParseError, Seq, Ssid, Timestamp};

/// A reply leaves within this many seconds of its request.
const REPLIED_WITHIN: u32 = 60;

/// The base packet of a Session-Sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderPacket {
    /// Counts the packets of a flow, from zero.
    pub sequence: Seq,
    /// T1, when the packet was sent, in the format of `error_estimate`.
    pub timestamp: Timestamp,
    /// What the sender says of its clock.
    pub error_estimate: ErrorEstimate,
    /// The session; zero where it has no identifier.
    pub ssid: Ssid,
}

impl SenderPacket {
    /// Writes the base packet at the start of `out` and leaves the rest of
    /// `out`, where TLVs may stand, as it is. Returns the base's length.
    ///
    /// A reader goes by the format of `error_estimate`, so `timestamp` must be in it.
    ///
    /// # Errors
    /// Where `out` is shorter than the base packet of `mode`.
    pub fn write(&self, mode: Mode<'_>, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let layout = SenderLayout::of(mode.is_authenticated());
        let len = out.len();
        let need = layout.len;
        let base = out.get_mut(..need).ok_or(BufferTooSmall { len, need })?;
        base.fill(0);
        self.put(layout, base);
        mode.sign(base);
        Ok(need)
    }

    fn put(&self, layout: &SenderLayout, base: &mut [u8]) {
        put(base, 0, self.sequence.0.to_be_bytes());
        put(base, layout.timestamp, self.timestamp.raw.to_be_bytes());
        put(
            base,
            layout.error_estimate,
            self.error_estimate.to_bits().to_be_bytes(),
        );
        put(base, layout.ssid, self.ssid.0.to_be_bytes());
    }

    /// Returns the session identifier that a request claims, before anything is checked.
    /// `None` where it is too short.
    pub fn peek_ssid(bytes: &[u8], authenticated: bool) -> Option<Ssid> {
        let layout = SenderLayout::of(authenticated);
        let base = bytes.get(..layout.len)?;
        Some(Ssid(u16_at(base, layout.ssid)))
    }

    /// Whether the packet is itself a reply, which could make two reflectors answer each
    /// other for ever. Where a request has zeros, or the padding of TWAMP Light, a reply has
    /// its request's arrival time, which is close to the packet's own time.
    pub fn is_reply(bytes: &[u8], authenticated: bool) -> bool {
        // Both formats have the seconds in the upper half.
        let seconds = |at: usize| (u64_at(bytes, at) >> 32) as u32;
        let own = seconds(SenderLayout::of(authenticated).timestamp);
        let at = ReflectorLayout::of(authenticated).receive_timestamp;
        let apart = own.abs_diff(seconds(at));
        u64_at(bytes, at) != 0 && apart.min(apart.wrapping_neg()) <= REPLIED_WITHIN
    }

    /// Reads a request, and what follows its base packet.
    ///
    /// A request of TWAMP Light below 44 bytes, where `compatibility` allows
    /// it, has no session identifier: it reads as zero.
    ///
    /// # Errors
    /// Where the datagram is too short, its HMAC is wrong, or its Error
    /// Estimate marks it as corrupt.
    pub fn parse<'a>(
        datagram: &'a [u8],
        mode: Mode<'_>,
        compatibility: Compatibility,
    ) -> Result<(Self, Tlvs<'a>), ParseError> {
        match mode {
            Mode::Open => Self::parse_as::<false>(datagram, mode, compatibility),
            Mode::Authenticated(_) => Self::parse_as::<true>(datagram, mode, compatibility),
        }
    }

    /// Parses with the layout known at compile time, so that offsets are constants.
    #[inline]
    fn parse_as<'a, const AUTHENTICATED: bool>(
        datagram: &'a [u8],
        mode: Mode<'_>,
        compatibility: Compatibility,
    ) -> Result<(Self, Tlvs<'a>), ParseError> {
        let layout = const { SenderLayout::of(AUTHENTICATED) };
        let Some((base, extension)) = datagram.split_at_checked(layout.len) else {
            return Self::parse_short(datagram, mode, compatibility);
        };
        if !mode.accepts(base) {
            return Err(ParseError::WrongHmac);
        }
        Ok((Self::take(layout, base)?, Tlvs::new(extension)))
    }

    #[cold]
    fn parse_short<'a>(
        datagram: &'a [u8],
        mode: Mode<'_>,
        compatibility: Compatibility,
    ) -> Result<(Self, Tlvs<'a>), ParseError> {
        let need = match (mode, compatibility) {
            (Mode::Open, Compatibility::TwampLight) => COMPATIBLE_LEN,
            _ => mode.base_len(),
        };
        if datagram.len() < need {
            return Err(ParseError::TooShort {
                len: datagram.len(),
                need,
            });
        }
        let packet = Self::take(SenderLayout::of(false), datagram)?;
        // The sender's padding begins where STAMP has the identifier.
        Ok((
            Self {
                ssid: Ssid(0),
                ..packet
            },
            Tlvs::default(),
        ))
    }

    #[inline(always)]
    fn take(layout: &SenderLayout, base: &[u8]) -> Result<Self, ParseError> {
        let error_estimate = ErrorEstimate::from_bits(u16_at(base, layout.error_estimate))
            .map_err(|_| ParseError::ZeroMultiplier(ErrorEstimateField::Own))?;
        Ok(Self {
            sequence: Seq(u32_at(base, 0)),
            timestamp: Timestamp {
                raw: u64_at(base, layout.timestamp),
                format: error_estimate.format(),
            },
            error_estimate,
            ssid: Ssid(u16_at(base, layout.ssid)),
        })
    }
}
