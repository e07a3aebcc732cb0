//! What can be wrong with a datagram.

/// Why a datagram is no packet of STAMP, or cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is shorter than the base packet of the mode in use.
    #[error("{len} bytes are too few for a STAMP packet, which has at least {need}")]
    TooShort {
        /// Bytes received.
        len: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Its HMAC is not that of the session's key (RFC 8762 section 4.4).
    #[error("the packet's HMAC does not match the session's key")]
    WrongHmac,
    /// An Error Estimate's Multiplier is zero, which marks a corrupt packet
    /// (RFC 4656 section 4.1.2).
    #[error("the {0} has multiplier 0, so the packet is corrupt")]
    ZeroMultiplier(ErrorEstimateField),
}

/// Which Error Estimate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorEstimateField {
    /// That of the packet's own sender.
    Own,
    /// The copy of the Session-Sender's, in a reply.
    Sender,
}

impl core::fmt::Display for ErrorEstimateField {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Own => "Error Estimate",
            Self::Sender => "Session-Sender Error Estimate",
        })
    }
}

/// A buffer that cannot hold the packet to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a buffer of {len} bytes is too small for a packet of {need}")]
pub struct BufferTooSmall {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes needed.
    pub need: usize,
}
