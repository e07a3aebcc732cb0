//! This agent's identity: its private key, which never leaves this host, and the certificate
//! that the collector gave it.
//!
//! One file, `identity/identity.json` in the agent's `state_dir`, holds both and the
//! certificate of the collector's authority, so that a crash leaves the old identity or
//! the new one.

mod renewal;

pub use renewal::{RenewalSchedule, keep_renewed};

use hopgap_proto::record::AgentName;
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::Certified;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an identity cannot be used. Each sentence says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// This agent has not joined.
    #[error("this agent has not joined: {} is not there; make a token on the collector's host with `hopgap-collector token create --agent NAME`, then run `hopgap-agent join URL --token -` here, as the user that the agent runs as", path.display())]
    NotJoined {
        /// The file.
        path: PathBuf,
    },
    /// The certificate was issued for another name than the configured one.
    #[error(
        "`name` is `{name}`, but this host joined as `{joined}`: write `name = \"{joined}\"`, or let it join as `{name}` with `hopgap-agent join URL --token - --again`; where the collector has renamed it (`hopgap-collector agent list`), it goes by the new name once it has run"
    )]
    OtherName {
        /// In the configuration.
        name: AgentName,
        /// In the identity.
        joined: AgentName,
    },
    /// The agent's `state_dir` does not exist.
    #[error("{} is not there; make it for the user that the agent runs as: `sudo install -d -o hopgap -g hopgap -m 0700 {}`", path.display(), path.display())]
    NoFolder {
        /// The agent's `state_dir`.
        path: PathBuf,
    },
    /// The directory belongs to another user, who could not read files made by this one.
    #[error("{} belongs to another user; run this as that one, such as with `sudo -u hopgap`", path.display())]
    NotOwner {
        /// The agent's `state_dir`.
        path: PathBuf,
    },
    /// Others can read the private key.
    #[error("the private key in {} can be read by others; run `chmod {wanted:o} {}`, and where others may have read it, join again", path.display(), path.display())]
    Wide {
        /// The file or directory.
        path: PathBuf,
        /// The mode that it must have.
        wanted: u32,
    },
    /// The file cannot be read or written.
    #[error("cannot use {}: {source}; run this as the user that the agent runs as", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold a valid identity.
    #[error("{} holds no identity that can be read; join again with `hopgap-agent join URL --token - --again`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The collector's answer is not a usable certificate for the key.
    #[error("the collector sent a certificate that cannot be used: {0}")]
    Certificate(String),
    /// A key cannot be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
}

/// A private key and the certificate for it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The agent's name when the certificate was issued. The collector may have renamed it since.
    pub agent: AgentName,
    /// The private key, PKCS #8 as PEM.
    key: String,
    /// Its certificate, as PEM.
    certificate: String,
    /// The certificate of the collector's authority, as PEM.
    authority: String,
    /// Start of the certificate's validity, in nanoseconds since 1970.
    pub not_before: Wall,
    /// When the certificate expires, in nanoseconds since 1970.
    pub not_after: Wall,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.agent)
    }
}

/// A key that has no certificate yet.
pub struct NewKey {
    key: KeyPair,
    /// The request for a certificate, PKCS #10 as PEM.
    pub request: String,
}

impl NewKey {
    /// Makes a new key and its certificate request.
    ///
    /// # Errors
    /// When the system provides no random numbers.
    pub fn make() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // The collector decides what the certificate says.
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?.pem()?;
        Ok(Self { key, request })
    }

    /// Combines this key with the certificate from the collector's answer.
    ///
    /// # Errors
    /// When the answer holds no certificate for this key.
    pub fn certified(self, by: Certified) -> Result<Identity, IdentityError> {
        let identity = Identity {
            agent: by.agent,
            key: self.key.serialize_pem(),
            certificate: by.certificate,
            authority: by.authority,
            not_before: by.not_before_ns,
            not_after: by.not_after_ns,
        };
        let wrong = |error: &dyn fmt::Display| IdentityError::Certificate(error.to_string());
        let chain = identity.chain().map_err(|e| wrong(&e))?;
        let key = identity.private_key().map_err(|e| wrong(&e))?;
        // Checks that certificate and key belong together.
        rustls::sign::CertifiedKey::from_der(chain, key, &provider()).map_err(|e| wrong(&e))?;
        Ok(identity)
    }
}

impl Identity {
    /// Whether the certificate has expired.
    pub fn is_expired(&self, now: Wall) -> bool {
        now >= self.not_after
    }

    /// The private key.
    pub(crate) fn private_key(
        &self,
    ) -> Result<rustls::pki_types::PrivateKeyDer<'static>, rustls::pki_types::pem::Error> {
        rustls::pki_types::pem::PemObject::from_pem_slice(self.key.as_bytes())
    }

    /// The certificate.
    pub(crate) fn chain(
        &self,
    ) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::pem::Error>
    {
        rustls::pki_types::pem::PemObject::from_pem_slice(self.certificate.as_bytes())
            .map(|certificate| vec![certificate])
    }

    /// The certificate, PEM.
    pub(crate) fn certificate_pem(&self) -> &[u8] {
        self.certificate.as_bytes()
    }

    /// The private key, PEM.
    pub(crate) fn key_pem(&self) -> &[u8] {
        self.key.as_bytes()
    }

    /// The authority's certificate, PEM.
    pub(crate) fn authority_pem(&self) -> &[u8] {
        self.authority.as_bytes()
    }
}

/// The cryptography that the uplink uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Where the identity is kept.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    state_dir: PathBuf,
    folder: PathBuf,
    path: PathBuf,
}

/// Inode and modification time (s, ns), which tell versions of the file apart; `None`: no file.
pub(crate) type Look = Option<(u64, i64, i64)>;

impl IdentityStore {
    /// Returns the store in the agent's `state_dir`.
    pub fn new(state_dir: &Path) -> Self {
        let folder = state_dir.join("identity");
        Self {
            state_dir: state_dir.to_owned(),
            path: folder.join("identity.json"),
            folder,
        }
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// When there is none, when it cannot be read, or when others have access to it.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(IdentityError::NotJoined {
                    path: self.path.clone(),
                });
            }
            Err(source) => return Err(self.failed(source)),
        };
        for (path, wanted) in [(&self.path, 0o600), (&self.folder, 0o700)] {
            let mode = std::fs::metadata(path)
                .map_err(|e| self.failed(e))?
                .permissions()
                .mode();
            if mode & 0o077 != 0 {
                return Err(IdentityError::Wide {
                    path: path.clone(),
                    wanted,
                });
            }
        }
        serde_json::from_str(&text).map_err(|_| IdentityError::Damaged {
            path: self.path.clone(),
        })
    }

    /// Checks that an identity can be kept here, before a token is spent on it.
    ///
    /// # Errors
    /// When the directory is not there, is another user's, or cannot be written.
    pub fn prepare(&self) -> Result<(), IdentityError> {
        let state = match std::fs::metadata(&self.state_dir) {
            Ok(state) => state,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(IdentityError::NoFolder {
                    path: self.state_dir.clone(),
                });
            }
            Err(source) => return Err(self.failed(source)),
        };
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(self.failed(source)),
        }
        // The service could not read files that root makes here, so check the owner of a new one.
        let (file, path) = self.fresh().map_err(|e| self.failed(e))?;
        let owner = file.metadata().map_err(|e| self.failed(e))?.uid();
        std::fs::remove_file(path).map_err(|e| self.failed(e))?;
        if owner != state.uid() {
            // Succeeds only if the folder is empty, that is, just made.
            let _ = std::fs::remove_dir(&self.folder);
            return Err(IdentityError::NotOwner {
                path: self.state_dir.clone(),
            });
        }
        Ok(())
    }

    /// Replaces the identity; a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, identity: &Identity) -> Result<(), IdentityError> {
        let _alone = self.lock()?;
        self.write(identity)
    }

    /// Replaces the identity, unless the file has changed since `before`: whoever changed it did
    /// so on purpose. Returns the new look, or `None` if the file was left alone.
    pub(crate) fn save_over(
        &self,
        identity: &Identity,
        before: Look,
    ) -> Result<Option<Look>, IdentityError> {
        let _alone = self.lock()?;
        if self.look() != before {
            return Ok(None);
        }
        self.write(identity)?;
        Ok(Some(self.look()))
    }

    /// Locks the folder, so that the agent and a `join` do not write at the same time. The lock
    /// is released on drop.
    fn lock(&self) -> Result<File, IdentityError> {
        let lock = || {
            let folder = File::open(&self.folder)?;
            folder.lock()?;
            Ok(folder)
        };
        lock().map_err(|e| self.failed(e))
    }

    fn write(&self, identity: &Identity) -> Result<(), IdentityError> {
        let text = serde_json::to_string_pretty(identity)
            .map_err(|e| self.failed(io::Error::other(e.to_string())))?;
        let write = || {
            let (mut file, fresh) = self.fresh()?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(fresh, &self.path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| self.failed(e))
    }

    /// Creates a new file next to the identity that only its owner may read.
    fn fresh(&self) -> io::Result<(File, PathBuf)> {
        let path = self.path.with_extension("new");
        // A file left by a crash may belong to anybody.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok((file, path))
    }

    /// Returns the file's inode and modification time.
    pub(crate) fn look(&self) -> Look {
        let file = std::fs::metadata(&self.path).ok()?;
        Some((file.ino(), file.mtime(), file.mtime_nsec()))
    }

    fn failed(&self, source: io::Error) -> IdentityError {
        IdentityError::File {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
