//! Simple Two-way Active Measurement Protocol packets: RFC 8762 with RFC 8972.
//!
//! A Session-Sender writes a [`SenderPacket`] and parses the [`ReflectorPacket`] that comes
//! back. A Session-Reflector parses a [`Request`] and writes its reply. Nothing here
//! allocates except [`tlv::Writer`], whose buffer the caller keeps; nothing here panics,
//! whatever the bytes.
//!
//! ```
//! use hopgap_proto::stamp::{
//!     Compatibility, ErrorEstimate, Mode, ReflectorPacket, ReplyContext, Request, Security,
//!     SenderPacket, Seq, Ssid, Timestamp, TimestampFormat,
//! };
//! use hopgap_proto::time::{Span, Wall};
//!
//! let error_estimate = ErrorEstimate::from_error(Span::from_millis(1), TimestampFormat::Ntp);
//! let t1 = Wall::from_nanos(1_790_000_000_000_000_000);
//! let mut request = [0; 44];
//! SenderPacket {
//!     sequence: Seq(7),
//!     timestamp: Timestamp::from_wall(t1, TimestampFormat::Ntp),
//!     error_estimate,
//!     ssid: Ssid(42),
//! }
//! .write(Mode::Open, &mut request)?;
//!
//! let heard = Request::parse(&request, Security::OPEN, Compatibility::Strict)?;
//! let context = ReplyContext::stateless(t1 + Span::from_millis(5), t1 + Span::from_millis(6), error_estimate);
//! let mut reply = [0; 44];
//! let len = heard.reply(&context, &mut reply)?.len;
//!
//! let (reply, _tlvs) = ReflectorPacket::parse(&reply[..len], Mode::Open, Compatibility::Strict)?;
//! assert_eq!(reply.sender_sequence, Seq(7));
//! assert_eq!(reply.receive_timestamp.to_wall(t1) - t1, Span::from_millis(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod error;
mod error_estimate;
mod id;
mod layout;
mod reflect;
mod reflector;
mod sender;
mod timestamp;
pub mod tlv;

pub use auth::{AuthKey, KeyError, Keys, Mode, Security, SessionKeys, TAG_LEN};
pub use error::{BufferTooSmall, ErrorEstimateField, ParseError};
pub use error_estimate::{ErrorEstimate, ZeroMultiplier};
pub use id::{Seq, Ssid};
pub use layout::{AUTHENTICATED_LEN, COMPATIBLE_LEN, OPEN_LEN};
pub use reflect::{DscpSet, ExtensionOutcome, FollowUp, Numbering, Reply, ReplyContext, Request};
pub use reflector::ReflectorPacket;
pub use sender::SenderPacket;
pub use timestamp::{Timestamp, TimestampFormat};

/// Whether packets below the base size of STAMP are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// Only whole STAMP packets: 44 bytes, or 112 authenticated.
    #[default]
    Strict,
    /// Unauthenticated packets of TWAMP Light (RFC 5357 appendix I), from
    /// [`COMPATIBLE_LEN`] bytes on. A reply is never larger than its request.
    TwampLight,
}

/// Returns the session identifier in a datagram that is not authenticated yet, to find the
/// session (and so the key) that it claims. `None` where the datagram is too short to have
/// one.
pub fn claimed_ssid(datagram: &[u8], authenticated: bool) -> Option<Ssid> {
    let layout = layout::SenderLayout::of(authenticated);
    (datagram.len() >= layout.len).then(|| Ssid(layout::u16_at(datagram, layout.ssid)))
}

#[cfg(test)]
mod tests;
