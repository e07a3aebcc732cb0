//! The service: receives frames from agents, sends them the plan, and answers the
//! command line.
//!
//! Agents connect by TLS to one listener, which serves only the uplink's paths. The command
//! line and scripts of this host connect to another on the loopback interface, which serves
//! only the API's. Without TLS one listener serves both.
//!
//! One thread runs the HTTP server; one owns the store and does all its writing, one
//! transaction for each request: drills and markers first, then deliveries in their order. One
//! seals and expires. Others decode deliveries and write `identity.db`. A write request is
//! answered when its transaction is durable. A stop gives requests up to [`GRACE`] to
//! finish, and ends the writer last.

mod access;
mod api;
mod bodies;
mod clocks;
mod delivery;
mod health;
mod join;
mod keeper;
mod limits;
mod metrics;
mod peer;
mod refusals;
mod reply;
mod tls;
mod uplink;
mod watch;
mod writer;

use crate::identity::{self, Catalogue, IdentityError};
use crate::plan::{CollectorPlan, PlanFileError, Roles, Transport};
use crate::store::{Store, StoreError};
use crate::{clock, serve::writer::Writer};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use bodies::Bodies;
use delivery::{Accounts, DECODERS};
use hopgap_process::descriptors;
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::{
    BLOCKS_PATH, HELLO_PATH, JOIN_PATH, MAX_BATCH_BYTES, PLAN_PATH, RENEW_PATH, REPORT_PATH,
};
use join::Identities;
use limits::{Bounds, Connections, Limits};
use refusals::Refusals;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::watch as channel;

pub(crate) use access::OURS_HEADER;
pub use api::{
    AgentBody, ClockDifferenceBody, DrillBody, DrillRequest, MarkerRequest, PlanStatus,
    SessionBody, Status, StopRequest, TimeText,
};
pub(crate) use api::{
    CLOCK_PATH, COMMAND_TIME, ClockBody, DRILLS_PATH, MARKERS_PATH, STATUS_PATH, STOP_PATH,
};
pub use delivery::TakenBody;
pub use health::{AgentState, DiskBody, InUseBody, SessionState, WriteErrorBody};
use health::{DiskTrouble, PathsInUse, Reports};
pub use limits::RefusedBody;
pub use refusals::RefusalBody;
pub use tls::TlsBody;
pub use writer::WriterBody;

/// How long requests may take to finish when the service stops.
pub const GRACE: Duration = Duration::from_secs(5);

/// Options of `serve`; each overrides the plan's setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The plan file.
    pub plan: PathBuf,
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// The store's directory.
    pub store: Option<PathBuf>,
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {listen}: {source}; stop what uses it or choose another with --listen"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The authority or the catalogue.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store's thread died.
    #[error(
        "the store's thread ended early; what was acknowledged is stored, start the collector again"
    )]
    Writer,
    /// The operating system refused a thread, a signal handler or the like.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// State shared by all requests.
struct Shared {
    writer: Writer,
    plan: channel::Receiver<Arc<CollectorPlan>>,
    plan_file: PathBuf,
    /// Why the present plan file is not in force; `None` where it is.
    plan_error: channel::Receiver<Option<String>>,
    stopping: channel::Receiver<bool>,
    store: PathBuf,
    started: Wall,
    bodies: Bodies,
    decoders: Arc<Semaphore>,
    accounts: Accounts,
    /// Who may deliver what, by the plans that were in force recently.
    roles: Arc<RwLock<Roles>>,
    refusals: Refusals,
    limits: Arc<Limits>,
    reports: Reports,
    disk: DiskTrouble,
    paths: PathsInUse,
    /// The identities of agents, where they connect by TLS.
    identities: Option<Arc<Identities>>,
}

type App = Arc<Shared>;

/// A service that listens; [`Service::run`] answers.
pub struct Service {
    listener: TcpListener,
    secure: Option<Secure>,
    plan: CollectorPlan,
    options: Options,
    store: Store,
}

/// The parts needed for TLS.
struct Secure {
    tls: Tls,
    identities: Identities,
    /// For the command line and scripts.
    api: TcpListener,
}

impl Secure {
    async fn new(plan: &CollectorPlan, store: &Path) -> Result<Self, ServeError> {
        let (authority, look) = identity::open(store)?;
        let (_, write): (_, Catalogue) = identity::open(store)?;
        Ok(Self {
            tls: Tls::new(&authority, plan)?,
            identities: Identities::new(authority, look, write),
            api: listen_at(plan.settings.api_listen).await?,
        })
    }
}

async fn listen_at(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen)
        .await
        .map_err(|source| ServeError::Listen { listen, source })
}

impl Service {
    /// Reads the plan, opens the store and listens.
    ///
    /// # Errors
    ///
    /// When one of them is impossible.
    pub async fn bind(options: Options) -> Result<Self, ServeError> {
        let mut plan = CollectorPlan::load(&options.plan)?;
        if let Err(nothing) = plan.plan.measures() {
            tracing::warn!("{}: {nothing}", options.plan.display());
        }
        let listen = options.listen.unwrap_or(plan.settings.listen);
        let transport = plan.may_listen_at(listen)?;
        let dir = options.store.as_ref().unwrap_or(&plan.settings.store);
        let mut store = Store::open(dir)?;
        plan.give_keys(store.dir())?;
        store.adopt_plan(&plan.plan, clock::now())?;
        let secure = match transport {
            Transport::Tls => Some(Secure::new(&plan, store.dir()).await?),
            Transport::Plain => None,
        };
        Ok(Self {
            listener: listen_at(listen).await?,
            secure,
            plan,
            options,
            store,
        })
    }

    /// Returns the address where agents reach it.
    ///
    /// # Errors
    ///
    /// When the operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the address where the command line reaches it.
    ///
    /// # Errors
    ///
    /// When the operating system does not say.
    pub fn api_address(&self) -> std::io::Result<SocketAddr> {
        let secure = self.secure.as_ref();
        secure.map_or(&self.listener, |s| &s.api).local_addr()
    }

    /// Answers until `stop` is done, then lets requests finish.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started or the server fails.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let dir = self.store.dir().to_owned();
        let listen = self.address()?;
        let transport = match self.secure {
            Some(_) => Transport::Tls,
            None => Transport::Plain,
        };
        let roles = Arc::new(RwLock::new(self.store.roles(clock::now())?));
        let (writer, writing) = writer::start(self.store)?;
        let (plan_in, plan) = channel::channel(Arc::new(self.plan));
        let (error_in, plan_error) = channel::channel(None);
        let (stop_in, stopping) = channel::channel(false);
        let keeping = keeper::start(dir.clone(), plan.clone(), writer.clone())?;
        let watching = tokio::spawn(watch::watch(
            (self.options.plan.clone(), dir.clone()),
            (listen, transport),
            (plan_in, Arc::clone(&roles)),
            error_in,
            writer.clone(),
        ));
        let ended = writer.clone();
        let (secure, identities) = match self.secure {
            Some(secure) => (
                Some((secure.tls, secure.api)),
                Some(Arc::new(secure.identities)),
            ),
            None => (None, None),
        };
        let limits = Arc::new(Limits::default());
        let app: App = Arc::new(Shared {
            writer: writer.clone(),
            plan: plan.clone(),
            plan_file: self.options.plan,
            plan_error,
            stopping: stopping.clone(),
            store: dir,
            started: clock::now(),
            bodies: Bodies::default(),
            decoders: Arc::new(Semaphore::new(DECODERS)),
            accounts: Accounts::default(),
            roles,
            refusals: Refusals::default(),
            limits: Arc::clone(&limits),
            reports: Reports::default(),
            disk: DiskTrouble::default(),
            paths: PathsInUse::default(),
            identities,
        });
        let bounds = Bounds::within_files(descriptors::limit().unwrap_or(u64::MAX));
        let connections = || Connections::new(Arc::clone(&limits), bounds);
        let (done_in, done) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            stop.await;
            // Ends held requests, so that their connections can end.
            stop_in.send_replace(true);
            let _ = done_in.send(());
        });
        let serving = async {
            match (secure, app.identities.clone()) {
                (Some((tls, api)), Some(identities)) => {
                    let keeping =
                        tokio::spawn(tls.keep(identities.authority.clone(), plan.clone()));
                    let renaming =
                        tokio::spawn(join::follow_renamings(identities.clone(), writer.clone()));
                    let counts = identities.counts.clone();
                    let agents = finished(uplink_router(), app.clone());
                    let people = finished(api::router(&app), app);
                    // Each listener has its own places, so that filling one leaves the other free.
                    let (people_at, agents_at) = (connections(), connections());
                    tokio::join!(
                        people_at.serve(api, people, stopping.clone()),
                        tls.serve(self.listener, agents, counts, &agents_at, plan, stopping),
                    );
                    keeping.abort();
                    renaming.abort();
                }
                _ => {
                    let both = uplink_router().merge(api::router(&app));
                    connections()
                        .serve(self.listener, finished(both, app), stopping)
                        .await;
                }
            }
        };
        let outcome = tokio::select! {
            () = serving => Ok(()),
            () = ended.ended() => Err(ServeError::Writer),
            () = async {
                let _ = done.await;
                tokio::time::sleep(GRACE).await;
            } => {
                tracing::warn!("some requests did not finish within {} s", GRACE.as_secs());
                Ok(())
            }
        };
        watching.abort();
        keeping.stop();
        writer.stop().await;
        writing.finish();
        outcome
    }
}

/// Returns the routes for agents.
fn uplink_router() -> Router<App> {
    Router::new()
        .route(HELLO_PATH, post(uplink::hello))
        .route(PLAN_PATH, get(uplink::plan))
        .route(BLOCKS_PATH, post(uplink::blocks))
        .route(REPORT_PATH, post(uplink::report))
        .route(JOIN_PATH, post(join::join))
        .route(RENEW_PATH, post(join::renew))
}

fn finished(router: Router<App>, app: App) -> Router {
    router
        .fallback(reply::no_such_path)
        .layer(DefaultBodyLimit::max(MAX_BATCH_BYTES))
        .layer(from_fn_with_state(app.clone(), limits::guard))
        .with_state(app)
}

#[cfg(test)]
mod tests;
