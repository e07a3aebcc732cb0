//! Issues certificates to agents: the first for a token, later ones for the one before.

use super::App;
use super::peer::{Peer, Way};
use super::reply::Failure;
use super::tls::{Counts, count};
use super::uplink::{let_in, read_body};
use super::writer::Writer;
use crate::clock;
use crate::identity::{
    Authority, Catalogue, IdentityError, Issued, KnownAgent, SigningRequest, TokenRefusal,
    Unwelcome,
};
use axum::Json;
use axum::extract::{Request, State};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{
    Certified, ErrorCode, Fingerprint, JoinRequest, JoinToken, RenewRequest,
};
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The largest body of a request for a certificate, in bytes.
const MOST: usize = 16 << 10;

/// How often to look for renamed agents.
const RENAMINGS: Duration = Duration::from_secs(1);

/// What a collector with TLS has in addition.
pub(super) struct Identities {
    pub(super) authority: Arc<Authority>,
    /// For look-ups, which must not wait for a disk.
    look: Mutex<Catalogue>,
    /// For writing.
    write: Mutex<Catalogue>,
    pub(super) counts: Arc<Counts>,
}

/// Why an agent gets no certificate.
enum Refused {
    Token(TokenRefusal),
    Certificate(Unwelcome),
    Identity(IdentityError),
}

impl From<IdentityError> for Refused {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl Identities {
    pub(super) fn new(authority: Authority, look: Catalogue, write: Catalogue) -> Self {
        Self {
            authority: Arc::new(authority),
            look: Mutex::new(look),
            write: Mutex::new(write),
            counts: Arc::default(),
        }
    }

    /// Returns the agent that a certificate belongs to.
    pub(super) fn look_up(
        &self,
        certificate: Fingerprint,
        now: Wall,
    ) -> Result<KnownAgent, Failure> {
        let found = lock(&self.look).look_up(certificate, now)?;
        found.map_err(|why| unwelcome(&why))
    }

    fn join(
        &self,
        token: &JoinToken,
        request: &SigningRequest,
        planned: impl FnOnce(&AgentName) -> bool,
        life: Span,
    ) -> Result<(AgentName, Issued), Refused> {
        let now = clock::now();
        let mut catalogue = lock(&self.write);
        let certify = |id: &_| self.authority.certify(request, id, now, life);
        let joined = catalogue.join(token, now, planned, certify)?;
        joined.map_err(Refused::Token)
    }

    fn renew(
        &self,
        before: Fingerprint,
        request: &SigningRequest,
        life: Span,
    ) -> Result<(AgentName, Issued), Refused> {
        let now = clock::now();
        let mut catalogue = lock(&self.write);
        let known = catalogue
            .look_up(before, now)?
            .map_err(Refused::Certificate)?;
        catalogue.may_renew(&known, now)?;
        let issued = self.authority.certify(request, &known.id, now, life)?;
        if !catalogue.renew(before, &issued, now)? {
            return Err(Refused::Certificate(Unwelcome::Revoked(known.name)));
        }
        Ok((known.name, issued))
    }

    fn certified(&self, agent: AgentName, issued: Issued) -> Certified {
        Certified {
            agent,
            certificate: issued.pem,
            authority: self.authority.pem().to_owned(),
            not_before_ns: issued.not_before,
            not_after_ns: issued.not_after,
        }
    }
}

/// Applies renamings to the records, for ever: the command line renames in the catalogue,
/// and only this process may write the store.
pub(super) async fn follow_renamings(identities: Arc<Identities>, writer: Writer) {
    loop {
        if let Err(error) = follow_once(&identities, &writer).await {
            tracing::error!("cannot rename the records of an agent: {error}; it is tried again");
        }
        tokio::time::sleep(RENAMINGS).await;
    }
}

async fn follow_once(identities: &Identities, writer: &Writer) -> Result<(), String> {
    let due = lock(&identities.look).renamings();
    for renaming in due.map_err(|e| e.to_string())? {
        let (old, new) = (renaming.old.clone(), renaming.new.clone());
        let done = writer
            .run(move |store| store.rename_agent(&old, &new))
            .await;
        done.map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let noted = lock(&identities.write).renamed(&renaming);
        noted.map_err(|e| e.to_string())?;
        tracing::info!(
            "agent `{}` is `{}` now, its records too",
            renaming.old,
            renaming.new
        );
    }
    Ok(())
}

/// `POST` join.
pub(super) async fn join(
    State(app): State<App>,
    peer: Peer,
    request: Request,
) -> Result<Json<Certified>, Failure> {
    let identities = identities(&app, peer)?;
    let asked: JoinRequest = read(request).await?;
    let token: JoinToken = asked.token.parse().map_err(|error| {
        Failure::new(
            ErrorCode::Malformed,
            format!("{error}"),
            "join with a token of `hopgap-collector token create`",
        )
    })?;
    let signing = signing_request(&asked.request)?;
    let plan = app.plan.borrow().clone();
    let life = plan.settings.certificate_life;
    let joined = blocking({
        let identities = identities.clone();
        move || {
            let planned = |agent: &AgentName| plan.plan.agent(agent).is_some();
            identities.join(&token, &signing, planned, life)
        }
    })
    .await?;
    let (agent, issued) = match joined {
        Ok(joined) => joined,
        Err(Refused::Token(refusal)) => {
            let failure = token_refused(&refusal);
            match refusal.agent() {
                Some(agent) => app.refusals.note(agent, peer.ip(), &failure, clock::now()),
                None => count(&identities.counts.unknown_tokens),
            }
            return Err(failure);
        }
        Err(refused) => return Err(failed(refused)),
    };
    app.refusals.forget(&agent, peer.ip());
    tracing::info!(
        "agent `{agent}` joined from {}; its certificate has the serial number {}",
        peer.ip(),
        issued.serial
    );
    Ok(Json(identities.certified(agent, issued)))
}

/// `POST` renew.
pub(super) async fn renew(
    State(app): State<App>,
    peer: Peer,
    request: Request,
) -> Result<Json<Certified>, Failure> {
    let identities = identities(&app, peer)?;
    let_in(&app, request.headers(), peer)?;
    let Way::Tls(Some(before)) = peer.way else {
        return Err(no_tls());
    };
    let asked: RenewRequest = read(request).await?;
    let signing = signing_request(&asked.request)?;
    let life = app.plan.borrow().settings.certificate_life;
    let renewed = blocking({
        let identities = identities.clone();
        move || identities.renew(before, &signing, life)
    })
    .await?;
    let (agent, issued) = renewed.map_err(failed)?;
    tracing::info!(
        "agent `{agent}` renewed its certificate; the new one has the serial number {}",
        issued.serial
    );
    Ok(Json(identities.certified(agent, issued)))
}

fn identities(app: &App, peer: Peer) -> Result<Arc<Identities>, Failure> {
    match (&app.identities, peer.way) {
        (Some(identities), Way::Tls(_)) => Ok(identities.clone()),
        _ => Err(no_tls()),
    }
}

fn no_tls() -> Failure {
    Failure::new(
        ErrorCode::Malformed,
        "agents join over TLS only, which this collector does not speak here",
        "let the collector's `listen` be an address that other hosts reach, or set `tls = true`, and name its https:// URL",
    )
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    let body = read_body(request.into_body(), MOST).await?;
    // Omits the parser's message, which could repeat a part of the secret.
    serde_json::from_slice(&body).map_err(|_| {
        Failure::new(
            ErrorCode::Malformed,
            "the request for a certificate cannot be read",
            "check that both programs have the same version",
        )
    })
}

fn signing_request(pem: &str) -> Result<SigningRequest, Failure> {
    SigningRequest::read(pem).map_err(|error| {
        Failure::new(
            ErrorCode::Malformed,
            error.to_string(),
            "check that both programs have the same version",
        )
    })
}

fn token_refused(refusal: &TokenRefusal) -> Failure {
    let (code, remedy) = match refusal {
        TokenRefusal::NotPlanned(_) => (
            ErrorCode::Forbidden,
            "add it to the plan, then join with the same token".to_owned(),
        ),
        TokenRefusal::Renaming(_) => (
            ErrorCode::Busy,
            "join with the same token in a few seconds".to_owned(),
        ),
        TokenRefusal::Unknown => (
            ErrorCode::Unauthorized,
            "make one on the collector's host with `hopgap-collector token create`".to_owned(),
        ),
        TokenRefusal::Used(agent) | TokenRefusal::Expired(agent) | TokenRefusal::Revoked(agent) => {
            (
                ErrorCode::Unauthorized,
                format!(
                    "make another on the collector's host with `hopgap-collector token create --agent {agent}`"
                ),
            )
        }
    };
    Failure::new(code, refusal.to_string(), remedy)
}

fn unwelcome(why: &Unwelcome) -> Failure {
    let remedy = match why {
        Unwelcome::Unknown => {
            "let the agent join again, with a token of `hopgap-collector token create`".to_owned()
        }
        Unwelcome::Revoked(agent) | Unwelcome::Expired(agent) => format!(
            "where it shall be let in, run `hopgap-agent join --again` with a token of `hopgap-collector token create --agent {agent}`"
        ),
    };
    Failure::new(ErrorCode::Unauthorized, why.to_string(), remedy)
}

fn failed(refused: Refused) -> Failure {
    match refused {
        Refused::Token(refusal) => token_refused(&refusal),
        Refused::Certificate(why) => unwelcome(&why),
        Refused::Identity(error) => error.into(),
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        tracing::error!("{error}");
        let code = match error {
            IdentityError::TooMany { .. } => ErrorCode::Forbidden,
            _ => ErrorCode::Storage,
        };
        Self::new(code, error.to_string(), "see to it on the collector's host")
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| super::writer::Stopped.into())
}

/// Locks a catalogue, also after a panic: it is consistent between two calls.
fn lock(catalogue: &Mutex<Catalogue>) -> MutexGuard<'_, Catalogue> {
    catalogue.lock().unwrap_or_else(PoisonError::into_inner)
}
