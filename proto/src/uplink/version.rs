//! The version of a program, as it reports it to the other side.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize};

/// A text that is no version. It is not repeated in the message, as anybody may have written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the program's version is none; send 1 to {} letters, digits, `.`, `-`, `+` or `_`, such as 0.1.0",
    ProgramVersion::LONGEST
)]
pub struct VersionError;

/// A program's version, for people: the characters of Semantic Versioning 2.0.0 and `_`,
/// 1 to [`ProgramVersion::LONGEST`] of them. So it can be printed as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProgramVersion(String);

impl ProgramVersion {
    /// Most characters.
    pub const LONGEST: usize = 64;

    /// Makes a version of a build's own text, without the characters that a version cannot have.
    pub fn cleaned(text: &str) -> Self {
        let mut text: String = text.chars().filter(|c| is_allowed(*c)).collect();
        text.truncate(Self::LONGEST);
        if text.is_empty() {
            text.push('0');
        }
        Self(text)
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')
}

impl FromStr for ProgramVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let good = (1..=Self::LONGEST).contains(&text.len()) && text.chars().all(is_allowed);
        good.then(|| Self(text.to_owned())).ok_or(VersionError)
    }
}

impl fmt::Display for ProgramVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProgramVersion {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{ProgramVersion, VersionError};

    #[test]
    fn a_version_is_short_and_printable() {
        for good in ["0.1.0", "1.2.3-rc.1+build_5", &"9".repeat(64)] {
            assert_eq!(good.parse::<ProgramVersion>().unwrap().as_str(), good);
        }
        assert_eq!(ProgramVersion::cleaned("1.2\n é").as_str(), "1.2");
        assert_eq!(ProgramVersion::cleaned("").as_str(), "0");
        let long = "9".repeat(65);
        for bad in ["", &long, "0.1\x1b[2J", "0.1\n", "0 1", "0.1\u{202e}", "é"] {
            assert_eq!(bad.parse::<ProgramVersion>(), Err(VersionError), "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            let said = serde_json::from_str::<ProgramVersion>(&json).unwrap_err();
            assert!(said.to_string().contains("version is none"), "{said}");
        }
    }
}
