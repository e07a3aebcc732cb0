//! What can go wrong with identities.

use hopgap_proto::record::AgentName;
use hopgap_proto::uplink::TokenId;
use std::path::PathBuf;

/// Why identities cannot be read or changed. Each sentence says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or the directory cannot be made, read or written.
    #[error("cannot use {}: {source}; run this as the user that the collector runs as, such as with `sudo -u hopgap`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can reach the private key or the catalogue.
    #[error("{} can be reached by others (its mode is {mode:04o}); run `chmod {wanted:04o} {}`, and where others may have read it, remove the directory and let all agents join again", path.display(), path.display())]
    Wide {
        /// The file or directory.
        path: PathBuf,
        /// The mode that it has.
        mode: u32,
        /// The mode that it must have.
        wanted: u32,
    },
    /// The store belongs to another user, who could not read files made now.
    #[error("{} belongs to another user; run this as that one, such as with `sudo -u hopgap`", path.display())]
    NotOwner {
        /// The directory.
        path: PathBuf,
    },
    /// The authority's file holds something else.
    #[error("{} holds no key and certificate of an authority ({what}); restore it from a backup, or remove it and let all agents join again", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer version made the catalogue.
    #[error("{} has the version {found}, but this program knows up to {known}; use the newer hopgap-collector that wrote it", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The catalogue's database failed.
    #[error("the catalogue of identities failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
    /// A signing request cannot be used.
    #[error("the certificate signing request cannot be used: {0}")]
    Request(rcgen::Error),
    /// No agent of that name has joined.
    #[error("no agent `{0}` has joined; `hopgap-collector agent list` shows who has")]
    NoAgent(AgentName),
    /// There is no such token.
    #[error("there is no token {0}; `hopgap-collector token list` shows all")]
    NoToken(TokenId),
    /// The token needs no revoking.
    #[error("the token {0} is used, revoked or expired already")]
    TokenOver(TokenId),
    /// Another agent has the new name.
    #[error(
        "an agent `{0}` has joined already; choose another name, or revoke that one and let it join under another"
    )]
    NameTaken(AgentName),
    /// An agent holds more valid certificates than a working one would.
    #[error(
        "agent `{agent}` holds {certificates} valid certificates, more than one that works would; look at that host, then revoke it with `hopgap-collector agent revoke {agent}` and let it join again"
    )]
    TooMany {
        /// The agent.
        agent: AgentName,
        /// How many.
        certificates: usize,
    },
}

impl IdentityError {
    pub(super) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
