//! Tokens with which agents join.

use super::catalogue::{Catalogue, name, wall};
use super::{Authority, IdentityError, random};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{JoinToken, TokenId, TokenSecret};
use rusqlite::{OptionalExtension, Transaction, params};

/// How long a token stays in the list after it expired, whatever its state.
const REMEMBERED: Span = Span::from_secs(90 * 86_400);

/// Why a token lets nobody join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// It is not in the catalogue, or its secret is wrong.
    #[error("the collector does not know this join token")]
    Unknown,
    /// It was used.
    #[error("this join token for agent `{0}` was used already")]
    Used(AgentName),
    /// Its time is over.
    #[error("this join token for agent `{0}` has expired")]
    Expired(AgentName),
    /// It was revoked.
    #[error("this join token for agent `{0}` was revoked")]
    Revoked(AgentName),
    /// The plan has no such agent. The token can be used once it has.
    #[error("the plan has no agent `{0}`, for which this join token is")]
    NotPlanned(AgentName),
    /// The agent that had the name was just renamed. The token can be used once the renaming
    /// is applied to its records.
    #[error("the agent that was `{0}` was renamed, and its records have yet to follow")]
    Renaming(AgentName),
}

impl TokenRefusal {
    /// Returns the agent that the token is for, where the secret was right.
    pub fn agent(&self) -> Option<&AgentName> {
        match self {
            Self::Unknown => None,
            Self::Used(agent)
            | Self::Expired(agent)
            | Self::Revoked(agent)
            | Self::NotPlanned(agent)
            | Self::Renaming(agent) => Some(agent),
        }
    }
}

/// A token, for a list. Its secret is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// The agent that may join with it.
    pub agent: AgentName,
    /// When it was made.
    pub made: Wall,
    /// When it expires.
    pub expires: Wall,
    /// What became of it.
    pub state: TokenState,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// An agent may join with it.
    Waits,
    /// An agent joined with it.
    Used(Wall),
    /// It was revoked.
    Revoked(Wall),
    /// Its time is over.
    Expired,
}

/// A token as stored.
struct Stored {
    agent: AgentName,
    hash: Vec<u8>,
    expires: Wall,
    used: Option<Wall>,
    revoked: Option<Wall>,
}

impl Catalogue {
    /// Makes a new token for `agent`, valid for `life`. Other unused tokens for it stay valid.
    /// Deletes tokens that expired more than 90 days ago.
    ///
    /// # Errors
    ///
    /// When the database or the source of random numbers fails.
    pub fn create_token(
        &mut self,
        authority: &Authority,
        agent: &AgentName,
        now: Wall,
        life: Span,
    ) -> Result<JoinToken, IdentityError> {
        let token = JoinToken {
            authority: authority.fingerprint(),
            id: TokenId(random()?),
            secret: TokenSecret::new(random()?),
        };
        self.db.execute(
            "DELETE FROM token WHERE expires < ?1",
            [(now - REMEMBERED).as_nanos()],
        )?;
        self.db.execute(
            "INSERT INTO token (id, agent, hash, made, expires) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                &token.id.0[..],
                agent.as_str(),
                &token.secret.hash()[..],
                now.as_nanos(),
                (now + life).as_nanos()
            ],
        )?;
        Ok(token)
    }

    /// Returns all tokens, the newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn tokens(&self, now: Wall) -> Result<Vec<TokenRow>, IdentityError> {
        let mut statement = self.db.prepare(
            "SELECT id, agent, made, expires, used, revoked FROM token
             ORDER BY made DESC, rowid DESC",
        )?;
        let rows = statement.query_map([], |row| {
            let expires = wall(row, 3)?;
            let used: Option<i64> = row.get(4)?;
            let revoked: Option<i64> = row.get(5)?;
            let state = match (used, revoked) {
                (Some(at), _) => TokenState::Used(Wall::from_nanos(at)),
                (None, Some(at)) => TokenState::Revoked(Wall::from_nanos(at)),
                (None, None) if expires <= now => TokenState::Expired,
                (None, None) => TokenState::Waits,
            };
            Ok(TokenRow {
                id: TokenId(row.get(0)?),
                agent: name(row, 1)?,
                made: wall(row, 2)?,
                expires,
                state,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Revokes an unused token.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoToken`], [`IdentityError::TokenOver`], or when the database fails.
    pub fn revoke_token(&mut self, id: TokenId, now: Wall) -> Result<(), IdentityError> {
        let tx = self.begin()?;
        let known: i64 = tx.query_row(
            "SELECT count(*) FROM token WHERE id = ?1",
            [&id.0[..]],
            |row| row.get(0),
        )?;
        if known == 0 {
            return Err(IdentityError::NoToken(id));
        }
        let revoked = tx.execute(
            "UPDATE token SET revoked = ?2
             WHERE id = ?1 AND used IS NULL AND revoked IS NULL AND expires > ?2",
            params![&id.0[..], now.as_nanos()],
        )?;
        tx.commit()?;
        if revoked == 0 {
            return Err(IdentityError::TokenOver(id));
        }
        Ok(())
    }
}

/// Returns the agent that a token lets join, or why it lets nobody. Does not use it up.
pub(super) fn check(
    tx: &Transaction<'_>,
    token: &JoinToken,
    now: Wall,
) -> Result<Result<AgentName, TokenRefusal>, IdentityError> {
    let stored = tx
        .query_row(
            "SELECT agent, hash, expires, used, revoked FROM token WHERE id = ?1",
            [&token.id.0[..]],
            |row| {
                Ok(Stored {
                    agent: name(row, 0)?,
                    hash: row.get(1)?,
                    expires: wall(row, 2)?,
                    used: row.get::<_, Option<i64>>(3)?.map(Wall::from_nanos),
                    revoked: row.get::<_, Option<i64>>(4)?.map(Wall::from_nanos),
                })
            },
        )
        .optional()?;
    // A caller that does not know the secret learns nothing about the token.
    let Some(stored) = stored.filter(|s| token.secret.is(&s.hash)) else {
        return Ok(Err(TokenRefusal::Unknown));
    };
    let agent = stored.agent;
    Ok(if stored.used.is_some() {
        Err(TokenRefusal::Used(agent))
    } else if stored.revoked.is_some() {
        Err(TokenRefusal::Revoked(agent))
    } else if stored.expires <= now {
        Err(TokenRefusal::Expired(agent))
    } else {
        Ok(agent)
    })
}

/// Marks a token as used, so that nobody else can use it.
pub(super) fn spend(
    tx: &Transaction<'_>,
    token: &JoinToken,
    now: Wall,
) -> Result<(), IdentityError> {
    tx.execute(
        "UPDATE token SET used = ?2 WHERE id = ?1",
        params![&token.id.0[..], now.as_nanos()],
    )?;
    Ok(())
}

/// Revokes the unused tokens for an agent; returns how many could still have been used.
pub(super) fn revoke_waiting(
    tx: &Transaction<'_>,
    agent: &AgentName,
    now: Wall,
) -> Result<usize, IdentityError> {
    Ok(tx.execute(
        "UPDATE token SET revoked = ?2
         WHERE agent = ?1 AND used IS NULL AND revoked IS NULL AND expires > ?2",
        params![agent.as_str(), now.as_nanos()],
    )?)
}
