//! What an agent proves itself by.

use hopgap_proto::record::AgentName;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// An agent's secret, as its file holds it, without blanks around it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Least length in bytes.
    const LEAST: usize = 16;

    /// The secret, for a comparison in constant time.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Reads the secret of an agent; what is wrong is one sentence.
pub(super) fn read(path: &Path, agent: &AgentName) -> Result<Secret, String> {
    let unreadable = |error: std::io::Error| {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => {
                "give the file to the user that the collector runs as, or check as that user"
            }
            _ => "correct `secret_file` or create the file",
        };
        format!(
            "cannot read the secret of agent `{agent}` from {}: {error}; {remedy}",
            path.display()
        )
    };
    let mode = std::fs::metadata(path)
        .map_err(unreadable)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "the secret of agent `{agent}` in {0} can be read by others; run `chmod 600 {0}`",
            path.display()
        ));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let secret = text.trim_ascii();
    if secret.len() < Secret::LEAST {
        return Err(format!(
            "the secret of agent `{agent}` in {} has {} bytes, but must have at least {}; write one with `openssl rand -hex 32`",
            path.display(),
            secret.len(),
            Secret::LEAST
        ));
    }
    // It travels in an HTTP header.
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "the secret of agent `{agent}` in {} holds blanks or characters beyond ASCII; write one with `openssl rand -hex 32`",
            path.display()
        ));
    }
    Ok(Secret(secret.to_owned()))
}
