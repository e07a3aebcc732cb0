//! Which plan an agent has.

use crate::plan::Plan;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Names the content of a plan: equal plans have equal revisions, on any
/// collector and after any restart. Sixteen hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a plan: the first eight bytes of the SHA-256 of its
    /// postcard encoding.
    pub fn of(plan: &Plan) -> Self {
        // Encoding into memory fails only for types without a length, and the plan has none.
        // If it did fail, every plan would have the revision of empty bytes, and the agent
        // would keep what it has.
        let bytes = postcard::to_allocvec(plan).unwrap_or_default();
        let digest = Sha256::digest(&bytes);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a plan's revision; send the one of the last plan response, 16 hexadecimal digits"
)]
pub struct RevisionError(pub String);

impl FromStr for Revision {
    type Err = RevisionError;
    fn from_str(s: &str) -> Result<Self, RevisionError> {
        let digits = s.len() == 16 && s.chars().all(|c| c.is_ascii_hexdigit());
        match u64::from_str_radix(s, 16) {
            Ok(value) if digits => Ok(Self(value)),
            _ => Err(RevisionError(s.to_owned())),
        }
    }
}

// Written as text: a JSON number would lose bits in readers that know only doubles.
impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
