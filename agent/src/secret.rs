//! Keys and secrets from files: never on a command line that others can see.

use hopgap_proto::stamp::{AuthKey, KeyError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the file.
    #[error("the secret file {path} can be read by others; run `chmod 600 {path}`")]
    Wide {
        /// The file.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("the secret file {path} is empty; write the secret into its first line")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is no key.
    #[error("the key in {path} cannot be used: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

/// The first line of a file that nobody else may read.
///
/// # Errors
/// When it cannot be read, is empty, or others can read it.
pub fn line(path: &Path) -> Result<String, SecretError> {
    let read = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SecretError::Wide {
            path: path.to_owned(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(SecretError::Empty {
            path: path.to_owned(),
        }),
    }
}

/// An HMAC-SHA-256 key, hexadecimal in a file's first line.
///
/// # Errors
/// As [`line()`], or when it is no key.
pub fn key(path: &Path) -> Result<AuthKey, SecretError> {
    line(path)?.parse().map_err(|source| SecretError::Key {
        path: path.to_owned(),
        source,
    })
}
