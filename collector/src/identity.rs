//! Who agents are: the collector's own certificate authority, the certificates that it
//! gave out, and the tokens with which agents join.
//!
//! ```text
//! STORE/identity/               0700
//!   authority.pem               the authority's private key and certificate
//!   identity.db                 agents, certificates, tokens (hashes only)
//! ```
//!
//! A [`Catalogue`] may be open in several processes: what the command line changes, the
//! running collector finds at the next request. Time is an argument everywhere. The
//! server's own key is made anew at every start and never touches the disk: agents trust
//! the authority, not the key.

mod authority;
mod catalogue;
mod error;
mod folder;
mod joining;
mod names;
mod rename;
mod token;

pub use authority::{Authority, Issued, SigningRequest};
pub use catalogue::{AgentId, AgentRow, Catalogue, CertificateRow, Known, Unwelcome};
pub use error::IdentityError;
pub use names::{AddressesUnknown, ServerNameText, server_names};
pub use rename::Renaming;
pub use token::{TokenRefusal, TokenRow, TokenState};

use folder::Folder;
use rustls::crypto::CryptoProvider;
use std::path::Path;
use std::sync::Arc;

/// The directory within the store's.
const FOLDER: &str = "identity";

/// The authority and the catalogue of the store in `store`, made where they are missing.
///
/// # Errors
///
/// When they cannot be read or made, or when others could read the private key.
pub fn open(store: &Path) -> Result<(Authority, Catalogue), IdentityError> {
    let folder = Folder::open(&store.join(FOLDER))?;
    let mut catalogue = Catalogue::open(&folder)?;
    // Two processes that start at once make one authority.
    let authority = catalogue.alone(|now| Authority::load_or_make(&folder, now))?;
    Ok((authority, catalogue))
}

/// The cryptography that everything here uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Random bytes that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
