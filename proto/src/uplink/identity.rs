//! How an agent gets and renews the certificate that proves its identity.
//!
//! A join token is made at the collector and carried to the agent's host by a person. It
//! names the authority that must have signed the collector's certificate, so that the agent
//! trusts nobody blindly. Its secret is good for one certificate.

use crate::record::AgentName;
use crate::time::Wall;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Where an agent gets its first certificate: `POST` [`JoinRequest`], 200 [`Certified`].
/// The only path of the uplink that needs no certificate.
pub const JOIN_PATH: &str = "/uplink/v1/join";
/// Where an agent gets its next certificate: `POST` [`RenewRequest`], 200 [`Certified`].
pub const RENEW_PATH: &str = "/uplink/v1/renew";

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate, or of any other bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// A token's name in lists; not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TokenId(pub [u8; 8]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(s: &str) -> Result<Self, TokenError> {
        let bytes = unhex(s).ok_or(TokenError::NotHex)?;
        let id = bytes.try_into().map_err(|_| TokenError::Length)?;
        Ok(Self(id))
    }
}

/// The secret of a token: 256 random bits. It is shown only in the token's text.
#[derive(Clone)]
pub struct TokenSecret([u8; 32]);

impl TokenSecret {
    /// Makes a secret of random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// Returns what the collector stores of it. A plain hash is enough, because the secret is
    /// random over its whole length.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// Whether its hash is this one, in constant time.
    pub fn is(&self, hash: &[u8]) -> bool {
        self.hash().ct_eq(hash).into()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// A token with which one agent may join, once.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// The fingerprint that the certificate of the collector's authority must have.
    pub authority: Fingerprint,
    /// Which token it is.
    pub id: TokenId,
    /// The secret that proves it.
    pub secret: TokenSecret,
}

/// What a token's text begins with; the digit is the version of what follows.
const PREFIX: &str = "hopgap-join-1-";

/// Why a text is no token. No message repeats the text, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as a token does.
    #[error(
        "this is no join token: one begins with `{PREFIX}`; `hopgap-collector token create` prints one"
    )]
    Prefix,
    /// Characters that cannot be in it.
    #[error("the join token holds characters that none has; copy it whole, without blanks")]
    NotHex,
    /// It is too long or too short.
    #[error("the join token is not whole; copy all of its one line")]
    Length,
    /// A character was changed.
    #[error("the join token was changed on its way; copy it again")]
    Checksum,
}

impl JoinToken {
    /// The token as people carry it: one line of text. It holds the secret.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(76);
        bytes.extend(self.id.0);
        bytes.extend(self.secret.0);
        bytes.extend(self.authority.0);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        format!("{PREFIX}{}", Hex(&bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(s: &str) -> Result<Self, TokenError> {
        let digits = s.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = unhex(digits).ok_or(TokenError::NotHex)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(TokenError::Length)?;
        let (id, rest) = body.split_first_chunk::<8>().ok_or(TokenError::Length)?;
        let (secret, authority) = rest.split_first_chunk::<32>().ok_or(TokenError::Length)?;
        let authority = authority.try_into().map_err(|_| TokenError::Length)?;
        if crc32fast::hash(body).to_be_bytes() != *sum {
            return Err(TokenError::Checksum);
        }
        Ok(Self {
            authority: Fingerprint(authority),
            id: TokenId(*id),
            secret: TokenSecret(*secret),
        })
    }
}

/// An agent asks for its first certificate.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The token's text: it travels inside of TLS, to a collector that was verified.
    pub token: String,
    /// A certificate signing request (PKCS #10, RFC 2986) as PEM. Only its public key
    /// counts; it is signed by the private key, which stays with the agent.
    pub request: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinRequest(..)")
    }
}

/// An agent asks for its next certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    /// As [`JoinRequest::request`], for a new key.
    pub request: String,
}

/// A certificate that an agent was given. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// The agent's name at the collector. The certificate does not hold it, so that an
    /// agent can be renamed.
    pub agent: AgentName,
    /// The certificate, as PEM.
    pub certificate: String,
    /// The certificate of the authority, as PEM.
    pub authority: String,
    /// Start of its validity, nanoseconds since 1970.
    pub not_before_ns: Wall,
    /// End of its validity, nanoseconds since 1970.
    pub not_after_ns: Wall,
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.0, f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests;
