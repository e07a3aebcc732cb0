//! The digest that identifies a sealed file.

use super::StoreError;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Returns the SHA-256 (FIPS 180-4) of a file.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn of(path: &Path) -> Result<[u8; 32], StoreError> {
    let mut file = File::open(path).map_err(StoreError::file(path))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut part).map_err(StoreError::file(path))?;
        match part.get(..length) {
            Some(bytes) if length > 0 => hash.update(bytes),
            _ => return Ok(hash.finalize().into()),
        }
    }
}
