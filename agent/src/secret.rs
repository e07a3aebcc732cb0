//! Reads keys and secrets from files: on a command line others could see them.

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
    /// The file begins with a byte-order mark.
    #[error(
        "the secret file {path} begins with a byte-order mark, which is no part of the secret; save it without one, or write a new secret with `openssl rand -hex 32`"
    )]
    ByteOrderMark {
        /// The file.
        path: PathBuf,
    },
    /// The secret cannot travel in an HTTP header.
    #[error(
        "the secret in {path} holds blanks or characters beyond ASCII; write one with `openssl rand -hex 32`"
    )]
    Unprintable {
        /// The file.
        path: PathBuf,
    },
    /// The secret is shorter than the collector accepts.
    #[error(
        "the secret in {path} has {bytes} bytes, but must have at least {LEAST_SECRET}; write one with `openssl rand -hex 32`"
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// How many it has.
        bytes: usize,
    },
    /// The line is not a valid key.
    #[error("the key in {path} cannot be used: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

/// Least length of an agent's secret in bytes; the collector has the same limit.
const LEAST_SECRET: usize = 16;

/// Reads the secret that identifies an agent to a collector without TLS.
///
/// # Errors
/// As [`line()`], or when no collector would accept it.
pub fn shared(path: &Path) -> Result<String, SecretError> {
    let secret = line(path)?;
    let path = || path.to_owned();
    if !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(SecretError::Unprintable { path: path() });
    }
    if secret.len() < LEAST_SECRET {
        return Err(SecretError::Short {
            path: path(),
            bytes: secret.len(),
        });
    }
    Ok(secret)
}

/// Reads the first line of a file, without blanks around it. The file must be its owner's alone.
///
/// # Errors
/// When the file cannot be read, is empty, begins with a byte-order mark, or is open to others.
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
    if text.starts_with('\u{feff}') {
        return Err(SecretError::ByteOrderMark {
            path: path.to_owned(),
        });
    }
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(SecretError::Empty {
            path: path.to_owned(),
        }),
    }
}

/// Reads an HMAC-SHA-256 key, hexadecimal in a file's first line.
///
/// # Errors
/// As [`line()`], or when the line is not a key.
pub fn key(path: &Path) -> Result<AuthKey, SecretError> {
    line(path)?.parse().map_err(|source| SecretError::Key {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content: &[u8]) -> Result<String, String> {
        let name = format!("hopgap-secret-{}-{}", std::process::id(), content.len());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let secret = shared(&path);
        std::fs::remove_file(&path).unwrap();
        let name = path.display().to_string();
        secret.map_err(|error| error.to_string().replace(&name, "FILE"))
    }

    #[test]
    fn a_secret_that_no_collector_could_take_is_refused() {
        let good = "0123456789abcdef";
        assert_eq!(said(b"  0123456789abcdef \nmore\n"), Ok(good.to_owned()));
        let refused = |content: &str| said(content.as_bytes()).unwrap_err();
        let mark = refused("\u{feff}0123456789abcdef\n");
        assert!(
            mark.starts_with("the secret file FILE begins with a byte-order mark"),
            "{mark}"
        );
        for blank in [
            "0123456789 abcdef!",
            "0123456789abcdef\u{e4}",
            "0123456789\tabcdefgh",
        ] {
            assert!(refused(blank).contains("holds blanks or characters beyond ASCII"));
        }
        assert!(refused("   \n").contains("is empty"));
        assert!(refused("short").contains("has 5 bytes, but must have at least 16"));
    }
}
