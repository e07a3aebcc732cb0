//! Which TLVs may be used: RFC 8972 sections 4 and 4.8.

use super::{Body, Flags, HEADER_LEN, Iter, TlvType, Tlvs};
use crate::stamp::{AuthKey, Seq, TAG_LEN};

/// What an extension contains and where, before any of it is trusted.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::stamp) struct Scan {
    /// Offset of the header of the HMAC TLV.
    pub(in crate::stamp) hmac: Option<usize>,
    /// Something other than Extra Padding follows the HMAC TLV, another HMAC
    /// TLV included.
    misplaced: bool,
    /// There are TLVs other than Extra Padding and HMAC.
    needs_hmac: bool,
    /// Offset of the header of the first malformed TLV.
    pub(in crate::stamp) malformed: Option<usize>,
    /// Some TLV has the I flag.
    integrity_failed: bool,
}

impl Scan {
    pub(in crate::stamp) fn of(tlvs: Tlvs<'_>) -> Self {
        let mut scan = Self::default();
        let mut iter = tlvs.iter();
        loop {
            let at = iter.offset();
            let Some(item) = iter.next() else {
                return scan;
            };
            let (kind, flags, well_formed) = match item {
                Ok(tlv) => (tlv.kind, tlv.flags, tlv.body().is_ok()),
                Err(truncated) => (truncated.kind, truncated.flags, false),
            };
            scan.integrity_failed |= flags.contains(Flags::INTEGRITY_FAILED);
            if scan.hmac.is_some() && kind != TlvType::EXTRA_PADDING {
                scan.misplaced = true;
            }
            if !well_formed && scan.malformed.is_none() {
                scan.malformed = Some(at);
            }
            match kind {
                TlvType::HMAC => {
                    if well_formed {
                        scan.hmac = scan.hmac.or(Some(at));
                    } else {
                        scan.misplaced = true;
                    }
                }
                TlvType::EXTRA_PADDING => {}
                _ => scan.needs_hmac = true,
            }
        }
    }

    /// Checks that the holder of `key` made the extension. Without a key, it passes as long
    /// as there is no HMAC TLV to verify.
    ///
    /// # Errors
    /// Why it fails.
    pub(in crate::stamp) fn verify(
        &self,
        tlvs: Tlvs<'_>,
        sequence: Seq,
        key: Option<&AuthKey>,
    ) -> Result<(), Distrust> {
        if self.misplaced {
            return Err(Distrust::MisplacedHmac);
        }
        match (self.hmac, key) {
            (None, None) => Ok(()),
            (None, Some(_)) if self.needs_hmac => Err(Distrust::Unprotected),
            (None, Some(_)) => Ok(()),
            (Some(_), None) => Err(Distrust::NoKey),
            (Some(at), Some(key)) => {
                let bytes = tlvs.as_bytes();
                let (covered, hmac) = bytes.split_at_checked(at).ok_or(Distrust::WrongHmac)?;
                let tag = hmac
                    .get(HEADER_LEN..HEADER_LEN + TAG_LEN)
                    .ok_or(Distrust::WrongHmac)?;
                if key.verifies([&sequence.0.to_be_bytes(), covered], tag) {
                    Ok(())
                } else {
                    Err(Distrust::WrongHmac)
                }
            }
        }
    }
}

/// Why no TLV of a packet may be used. The base packet is not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The HMAC TLV does not match the session's key.
    #[error("the HMAC TLV does not match the session's key")]
    WrongHmac,
    /// Another TLV than Extra Padding follows the HMAC TLV.
    #[error("the HMAC TLV is not the last")]
    MisplacedHmac,
    /// There is a key, but no HMAC TLV.
    #[error("the TLVs are not protected by an HMAC TLV, as the session's key demands")]
    Unprotected,
    /// There is an HMAC TLV, but no key to verify it with.
    #[error("the TLVs are protected by an HMAC TLV, but the session has no key")]
    NoKey,
    /// The reflector says, by the I flag, that the request's HMAC TLV failed.
    #[error(
        "the reflector refused the TLVs: their HMAC TLV is missing, or the two ends have different keys"
    )]
    RefusedByPeer,
}

impl<'a> Tlvs<'a> {
    /// Returns the TLVs of a reply that its receiver may use: those the reflector understood,
    /// up to the first that either side found malformed.
    ///
    /// `sequence` is the reply's; `key` the key of replies where the session has
    /// one.
    ///
    /// # Errors
    /// Where integrity fails, on this side or on the other: none may be used.
    pub fn trusted(self, sequence: Seq, key: Option<&AuthKey>) -> Result<Trusted<'a>, Distrust> {
        let scan = Scan::of(self);
        if scan.integrity_failed {
            return Err(Distrust::RefusedByPeer);
        }
        scan.verify(self, sequence, key)?;
        Ok(Trusted(Some(self.iter())))
    }
}

/// The TLVs of a reply that may be used. See [`Tlvs::trusted`].
#[derive(Clone, Debug)]
pub struct Trusted<'a>(Option<Iter<'a>>);

impl<'a> Iterator for Trusted<'a> {
    type Item = Body<'a>;

    fn next(&mut self) -> Option<Body<'a>> {
        loop {
            match self.0.as_mut()?.next()? {
                Ok(tlv) if !tlv.flags.contains(Flags::MALFORMED) => {
                    if tlv.flags.contains(Flags::UNRECOGNISED) {
                        continue;
                    }
                    match tlv.body() {
                        Ok(body) => return Some(body),
                        Err(_) => self.0 = None,
                    }
                }
                _ => self.0 = None,
            }
        }
    }
}
