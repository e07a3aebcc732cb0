//! Keys and their HMAC (RFC 8762 section 4.4).

use super::layout::{AUTHENTICATED_LEN, HMAC_COVERS, OPEN_LEN};
use core::fmt;
use core::str::FromStr;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Size of an HMAC in a packet: HMAC-SHA-256 truncated to 128 bits.
pub const TAG_LEN: usize = 16;

/// A shared key. Its text is never shown; a copy is cheap.
#[derive(Clone)]
pub struct AuthKey(Hmac<Sha256>);

/// A key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is too short to protect anything.
    #[error("the key has {0} bytes; use at least {min} (`openssl rand -hex 32` makes a good one)", min = AuthKey::MIN_LEN)]
    TooShort(usize),
    /// Its text is not hexadecimal.
    #[error("the key is not hexadecimal: write two digits 0-9 a-f for each byte, without spaces")]
    NotHex,
}

impl AuthKey {
    /// The fewest bytes a key may have: as many as the HMAC it makes.
    pub const MIN_LEN: usize = TAG_LEN;

    /// A key of `bytes`.
    ///
    /// # Errors
    /// Where there are fewer than [`Self::MIN_LEN`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(KeyError::TooShort(bytes.len()));
        }
        Hmac::new_from_slice(bytes)
            .map(Self)
            .map_err(|_| KeyError::TooShort(bytes.len()))
    }

    /// The tag of the concatenated `parts`.
    pub(super) fn tag(&self, parts: [&[u8]; 2]) -> [u8; TAG_LEN] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        super::layout::array_at(&whole, 0)
    }

    /// Whether `tag` is that of `parts`, in constant time.
    pub(super) fn verifies(&self, parts: [&[u8]; 2], tag: &[u8]) -> bool {
        self.tag(parts).ct_eq(tag).into()
    }
}

impl AuthKey {
    /// Derives the key named `label` from this one: HKDF-Expand of RFC 5869 section 2.3 for
    /// its first 32 bytes.
    fn derived(&self, label: &[u8]) -> Self {
        let mut mac = self.0.clone();
        mac.update(label);
        mac.update(&[1]);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        // A key shorter than a block is filled up with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        super::layout::put(&mut block, 0, whole);
        Self(Hmac::new(&block.into()))
    }

    /// Whether `other` is the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        let probe: [&[u8]; 2] = [b"same key", &[]];
        self.tag(probe).ct_eq(&other.tag(probe)).into()
    }
}

impl FromStr for AuthKey {
    type Err = KeyError;

    /// Reads hexadecimal digits, two for each byte.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(KeyError::NotHex);
        }
        let bytes = digits
            .chunks_exact(2)
            .map(|pair| {
                let digit = |c: u8| char::from(c).to_digit(16);
                let value = digit(pair[0])? << 4 | digit(pair[1])?;
                u8::try_from(value).ok()
            })
            .collect::<Option<Vec<u8>>>()
            .ok_or(KeyError::NotHex)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(redacted)")
    }
}

/// The two keys of a session, which may be the same. But a reflected packet is itself a valid
/// request, so only a key for each direction stops two reflectors from answering each other
/// for ever.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'k> {
    /// What the Session-Sender signs with.
    pub request: &'k AuthKey,
    /// What the Session-Reflector signs with.
    pub reply: &'k AuthKey,
}

impl<'k> Keys<'k> {
    /// The same key in both directions, as most peers have it.
    pub const fn shared(key: &'k AuthKey) -> Self {
        Self {
            request: key,
            reply: key,
        }
    }
}

/// The keys of one session, owned.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    request: AuthKey,
    reply: AuthKey,
}

impl SessionKeys {
    /// One key in both directions, as RFC 8762 section 4.4 has it and every foreign
    /// peer expects.
    pub fn shared(key: AuthKey) -> Self {
        Self {
            request: key.clone(),
            reply: key,
        }
    }

    /// A key for each direction, both derived from `key`: for sessions between two
    /// agents.
    ///
    /// A reply has the size, the SSID and the place of the HMAC of a request. With one key
    /// its HMAC is right too. An attacker who records replies on their way could send them to
    /// the reflector from the sender's address, and it would log probes that were never sent.
    /// The keys are HKDF-Expand (RFC 5869) of `key` with the labels `hopgap STAMP request`
    /// and `hopgap STAMP reply`, 32 bytes each.
    pub fn per_direction(key: &AuthKey) -> Self {
        Self {
            request: key.derived(b"hopgap STAMP request"),
            reply: key.derived(b"hopgap STAMP reply"),
        }
    }

    /// The keys, to protect a packet with.
    pub const fn keys(&self) -> Keys<'_> {
        Keys {
            request: &self.request,
            reply: &self.reply,
        }
    }

    /// Whether `other` are the same keys.
    pub fn is_same(&self, other: &Self) -> bool {
        self.request.is_same(&other.request) && self.reply.is_same(&other.reply)
    }
}

/// How one packet is protected: with the key of its own direction.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'k> {
    /// RFC 8762 sections 4.2.1 and 4.3.1: 44 bytes.
    Open,
    /// RFC 8762 sections 4.2.2 and 4.3.2: 112 bytes with an HMAC.
    Authenticated(&'k AuthKey),
}

impl Mode<'_> {
    /// Size of a base packet, sender's and reflector's alike.
    pub const fn base_len(self) -> usize {
        match self {
            Self::Open => OPEN_LEN,
            Self::Authenticated(_) => AUTHENTICATED_LEN,
        }
    }

    pub(super) const fn is_authenticated(self) -> bool {
        matches!(self, Self::Authenticated(_))
    }

    /// Writes the HMAC of a base packet; does nothing in open mode.
    pub(super) fn sign(self, base: &mut [u8]) {
        if let Self::Authenticated(key) = self
            && let Some((covered, rest)) = base.split_at_mut_checked(HMAC_COVERS)
        {
            super::layout::put(rest, 0, key.tag([covered, &[]]));
        }
    }

    /// Whether a base packet has the right HMAC; always true in open mode.
    pub(super) fn accepts(self, base: &[u8]) -> bool {
        match self {
            Self::Open => true,
            Self::Authenticated(key) => {
                base.split_at_checked(HMAC_COVERS)
                    .is_some_and(|(covered, rest)| {
                        rest.get(..TAG_LEN)
                            .is_some_and(|tag| key.verifies([covered, &[]], tag))
                    })
            }
        }
    }
}

/// How a session is protected, as its reflector knows it.
#[derive(Clone, Copy, Debug)]
pub enum Security<'k> {
    /// Unauthenticated packets. With keys, TLVs (except Extra Padding) must be protected by
    /// an HMAC TLV (RFC 8972 section 4.8): otherwise leaving it out would be enough to forge
    /// them. Without keys, TLVs that are protected fail.
    Open {
        /// The keys of HMAC TLVs.
        tlv: Option<Keys<'k>>,
    },
    /// Authenticated packets, whose keys are also those of HMAC TLVs.
    Authenticated(Keys<'k>),
}

impl<'k> Security<'k> {
    /// No key at all.
    pub const OPEN: Self = Self::Open { tlv: None };

    /// How a request is protected.
    pub const fn request(self) -> Mode<'k> {
        match self {
            Self::Open { .. } => Mode::Open,
            Self::Authenticated(keys) => Mode::Authenticated(keys.request),
        }
    }

    /// How a reply is protected.
    pub const fn reply(self) -> Mode<'k> {
        match self {
            Self::Open { .. } => Mode::Open,
            Self::Authenticated(keys) => Mode::Authenticated(keys.reply),
        }
    }

    pub(super) const fn tlv_keys(self) -> Option<Keys<'k>> {
        match self {
            Self::Open { tlv } => tlv,
            Self::Authenticated(keys) => Some(keys),
        }
    }
}
