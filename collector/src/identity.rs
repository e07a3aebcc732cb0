//! Identities of agents: the collector's own certificate authority, the certificates that
//! it issued, and the tokens with which agents join.
//!
//! ```text
//! STORE/identity/               0700
//!   authority.pem               the authority's private key and certificate
//!   identity.db                 agents, certificates, tokens (hashes only)
//! ```
//!
//! Several processes may open a [`Catalogue`]: the running collector sees a change by the
//! command line at the next request. Time is always an argument. The server makes a new key
//! at every start and never writes it to disk: agents trust the authority, not the key.

mod authority;
mod catalogue;
mod error;
mod folder;
mod joining;
mod names;
mod rename;
mod token;

pub use authority::{Authority, Issued, SigningRequest};
pub use catalogue::{AgentId, AgentRow, Catalogue, CertificateRow, KnownAgent, Unwelcome};
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

/// Opens the authority and the catalogue of the store in `store`; creates missing ones.
///
/// # Errors
///
/// When they cannot be read or made, or when others could read the private key.
pub fn open(store: &Path) -> Result<(Authority, Catalogue), IdentityError> {
    let folder = Folder::open(&store.join(FOLDER))?;
    let mut catalogue = Catalogue::open(&folder)?;
    // Two processes that start at the same time must make only one authority.
    let authority = catalogue.alone(|now| Authority::load_or_make(&folder, now))?;
    Ok((authority, catalogue))
}

/// Returns the cryptography provider for all TLS here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns random bytes that nobody can guess.
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
