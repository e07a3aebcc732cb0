//! `hopgap-agent join`: gets this host the certificate that it proves itself by.

use crate::cli::JoinArgs;
use crate::config::is_url;
use crate::identity::{IdentityError, IdentityStore, NewKey};
use crate::output;
use crate::secret::{self, SecretError};
use crate::uplink::{UplinkError, join};
use hopgap_analysis::schema::Utc;
use hopgap_proto::uplink::{JoinToken, TokenError};
use std::io::{BufRead as _, IsTerminal as _, Read as _};

/// Longer than any token: what comes by standard input may be anything.
const MOST: u64 = 4096;

/// Why this agent did not join. None of them shows the token.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The URL.
    #[error(
        "`{0}` is no URL to join at; write the collector's `listen` with https and its port, such as https://10.1.11.10:8621"
    )]
    Url(String),
    /// The token on the command line.
    #[error(
        "a token on the command line is seen by everyone on this host; write it into a file and name that with --token-file, or write `--token -` and give it by standard input (this one is exposed now: revoke it with `hopgap-collector token revoke`)"
    )]
    Exposed,
    /// No token.
    #[error(
        "there is no token: give it by standard input with `--token -`, or in a file with --token-file"
    )]
    NoToken,
    /// Standard input.
    #[error("cannot read the token from standard input: {0}")]
    Input(std::io::Error),
    /// The token's file.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// This host's side.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The collector's side.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
}

/// Joins; what is said then.
///
/// # Errors
/// When it cannot; then nothing here has changed, and the message says whether to make
/// another token.
pub fn run(args: &JoinArgs) -> Result<String, JoinError> {
    if !args.url.starts_with("https://") || !is_url(&args.url) {
        return Err(JoinError::Url(args.url.clone()));
    }
    let given_openly = args.token.as_deref().is_some_and(|token| token != "-");
    if given_openly {
        return Err(JoinError::Exposed);
    }
    let store = IdentityStore::new(&args.state_dir);
    match store.load() {
        Ok(identity) if !args.again => {
            return Ok(format!(
                "this host joined already, as agent `{}`, with a certificate until {}; nothing was done (--again joins anew, with a new token)\n",
                identity.agent,
                Utc(identity.not_after)
            ));
        }
        Ok(_) | Err(IdentityError::NotJoined { .. }) => {}
        Err(IdentityError::Damaged { .. }) if args.again => {}
        Err(error) => return Err(error.into()),
    }
    let token: JoinToken = read_token(args)?.parse()?;
    // Before the token is spent: what stands in the way here is seen to first.
    store.prepare()?;
    let key = NewKey::make()?;
    let certified = join(&args.url, &token, &key.request, args.proxy.as_ref())?;
    let identity = key.certified(certified)?;
    store.save(&identity)?;
    Ok(format!(
        "joined as agent `{0}`; the certificate is valid until {1} and is renewed before. A host that was `{0}` until now is no longer let in\n",
        identity.agent,
        Utc(identity.not_after)
    ))
}

fn read_token(args: &JoinArgs) -> Result<String, JoinError> {
    if let Some(file) = &args.token_file {
        return Ok(secret::line(file)?);
    }
    if args.token.is_none() {
        return Err(JoinError::NoToken);
    }
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        output::note("paste the token and press Enter");
    }
    let mut line = String::new();
    // One line: whoever pastes it presses Enter.
    input
        .by_ref()
        .take(MOST)
        .read_line(&mut line)
        .map_err(JoinError::Input)?;
    if line.trim().is_empty() {
        return Err(JoinError::NoToken);
    }
    Ok(line)
}

#[cfg(test)]
mod tests;
