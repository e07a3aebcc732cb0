//! What a Session-Reflector sends: RFC 8762 section 4.3.

use super::error::ErrorEstimateField;
use super::layout::{
    COMPATIBLE_LEN, OPEN_SENDER_TTL, ReflectorLayout, SenderLayout, put, u16_at, u32_at, u64_at,
};
use super::tlv::Tlvs;
use super::{BufferTooSmall, Compatibility, ErrorEstimate, Mode, ParseError, Seq, Ssid, Timestamp};

/// The base packet of a Session-Reflector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReflectorPacket {
    /// The reflector's own count of the replies of this session where it is
    /// stateful; a copy of `sender_sequence` where it is stateless.
    pub sequence: Seq,
    /// T3, when the reply was sent, in the format of `error_estimate`.
    pub timestamp: Timestamp,
    /// What the reflector says of its clock. See [`ErrorEstimate`].
    pub error_estimate: ErrorEstimate,
    /// A copy of the request's. Zero where the peer does not know session
    /// identifiers; `None` where the reply, of TWAMP Light, has no place for it.
    pub ssid: Option<Ssid>,
    /// T2, when the request was received, in the format of `error_estimate`.
    pub receive_timestamp: Timestamp,
    /// A copy of the request's.
    pub sender_sequence: Seq,
    /// T1: a copy of the request's, in the format of `sender_error_estimate`.
    pub sender_timestamp: Timestamp,
    /// A copy of the request's.
    pub sender_error_estimate: ErrorEstimate,
    /// The TTL or Hop Limit with which the request arrived. Peers that do not
    /// know it send 0, or 255 always; `None` where the reply has no place for it.
    pub sender_ttl: Option<u8>,
}

impl ReflectorPacket {
    /// Writes the base packet at the start of `out` and leaves the rest of
    /// `out` as it is. Returns the base's length. An identifier or TTL of
    /// `None` is written as zero.
    ///
    /// # Errors
    /// Where `out` is shorter than the base packet of `mode`.
    pub fn write(&self, mode: Mode<'_>, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let authenticated = mode.is_authenticated();
        let (common, own) = (
            SenderLayout::of(authenticated),
            ReflectorLayout::of(authenticated),
        );
        let len = out.len();
        let need = common.len;
        let base = out.get_mut(..need).ok_or(BufferTooSmall { len, need })?;
        base.fill(0);
        put(base, 0, self.sequence.0.to_be_bytes());
        put(base, common.timestamp, self.timestamp.raw.to_be_bytes());
        put(
            base,
            common.error_estimate,
            self.error_estimate.to_bits().to_be_bytes(),
        );
        put(
            base,
            common.ssid,
            self.ssid.unwrap_or_default().0.to_be_bytes(),
        );
        put(
            base,
            own.receive_timestamp,
            self.receive_timestamp.raw.to_be_bytes(),
        );
        put(
            base,
            own.sender_sequence,
            self.sender_sequence.0.to_be_bytes(),
        );
        put(
            base,
            own.sender_timestamp,
            self.sender_timestamp.raw.to_be_bytes(),
        );
        let sender_error_estimate = self.sender_error_estimate.to_bits().to_be_bytes();
        put(base, own.sender_error_estimate, sender_error_estimate);
        put(base, own.sender_ttl, [self.sender_ttl.unwrap_or(0)]);
        mode.sign(base);
        Ok(need)
    }

    /// Reads a reply, and what follows its base packet.
    ///
    /// # Errors
    /// Where the datagram is too short (`compatibility` decides from which
    /// length on), its HMAC is wrong, or an Error Estimate marks it as corrupt.
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
        let common = const { SenderLayout::of(AUTHENTICATED) };
        let own = const { ReflectorLayout::of(AUTHENTICATED) };
        let Some((base, extension)) = datagram.split_at_checked(common.len) else {
            return Self::parse_short(datagram, mode, compatibility);
        };
        if !mode.accepts(base) {
            return Err(ParseError::WrongHmac);
        }
        Ok((Self::take(common, own, base)?, Tlvs::new(extension)))
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
        let packet = Self::take(
            SenderLayout::of(false),
            ReflectorLayout::of(false),
            datagram,
        )?;
        let sender_ttl = datagram.get(OPEN_SENDER_TTL).copied();
        Ok((
            Self {
                ssid: None,
                sender_ttl,
                ..packet
            },
            Tlvs::default(),
        ))
    }

    #[inline(always)]
    fn take(common: &SenderLayout, own: &ReflectorLayout, base: &[u8]) -> Result<Self, ParseError> {
        let estimate = |at: usize, field: ErrorEstimateField| {
            ErrorEstimate::from_bits(u16_at(base, at))
                .map_err(|_| ParseError::ZeroMultiplier(field))
        };
        let error_estimate = estimate(common.error_estimate, ErrorEstimateField::Own)?;
        let sender_error_estimate =
            estimate(own.sender_error_estimate, ErrorEstimateField::Sender)?;
        let stamp = |at: usize, by: ErrorEstimate| Timestamp {
            raw: u64_at(base, at),
            format: by.format(),
        };
        Ok(Self {
            sequence: Seq(u32_at(base, 0)),
            timestamp: stamp(common.timestamp, error_estimate),
            error_estimate,
            ssid: Some(Ssid(u16_at(base, common.ssid))),
            receive_timestamp: stamp(own.receive_timestamp, error_estimate),
            sender_sequence: Seq(u32_at(base, own.sender_sequence)),
            sender_timestamp: stamp(own.sender_timestamp, sender_error_estimate),
            sender_error_estimate,
            sender_ttl: base.get(own.sender_ttl).copied(),
        })
    }
}
