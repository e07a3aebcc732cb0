//! What an agent, or who asks the API, proves itself by.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A secret or a token, as its file holds it, without blanks around it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret, for a comparison in constant time.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// One that was in no file.
    #[cfg(test)]
    pub(crate) fn made_up(text: &str) -> Self {
        Self(text.as_bytes().to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a file is read for, in the words of its messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// What it holds, such as "the secret of agent `onprem`".
    pub(super) what: &'a str,
    /// The key or option that names it.
    pub(super) key: &'a str,
    /// Least length in bytes.
    pub(super) least: usize,
    /// What to do where the file belongs to somebody else.
    pub(super) if_denied: &'a str,
}

/// What to do where the collector may not read a file that its plan names.
pub(super) const COLLECTORS_FILE: &str =
    "give the file to the user that the collector runs as, or check as that user";

/// Reads a secret that only its owner can read; what is wrong is one sentence.
pub(super) fn read(path: &Path, wanted: Wanted<'_>) -> Result<Secret, String> {
    let what = wanted.what;
    let unreadable = |error: std::io::Error| {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => wanted.if_denied.to_owned(),
            _ => format!("correct `{}` or create the file", wanted.key),
        };
        format!(
            "cannot read {what} from {}: {error}; {remedy}",
            path.display()
        )
    };
    let mode = std::fs::metadata(path)
        .map_err(unreadable)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{what} in {0} can be read by others; run `chmod 600 {0}`",
            path.display()
        ));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let secret = text.trim_ascii();
    if secret.len() < wanted.least {
        return Err(format!(
            "{what} in {} has {} bytes, but must have at least {}; write one with `openssl rand -hex 32`",
            path.display(),
            secret.len(),
            wanted.least
        ));
    }
    // It travels in an HTTP header.
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "{what} in {} holds blanks or characters beyond ASCII; write one with `openssl rand -hex 32`",
            path.display()
        ));
    }
    Ok(Secret(secret.to_owned()))
}
