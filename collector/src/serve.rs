//! The service: takes frames in from agents, gives them the plan, and answers the
//! command line.
//!
//! One thread runs the HTTP server, one owns the store and does all writing (in the order
//! of the requests, one transaction each), one seals and expires. A request for writing
//! is answered when its transaction is durable. Stopping lets requests finish, at most
//! [`GRACE`], and ends the writer last.

mod api;
mod keeper;
mod refusals;
mod reply;
mod uplink;
mod watch;
mod writer;

use crate::plan::{CollectorPlan, PlanFileError};
use crate::store::{Store, StoreError};
use crate::{clock, serve::writer::Writer};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::{BLOCKS_PATH, HELLO_PATH, MAX_BATCH_BYTES, PLAN_PATH};
use refusals::Refusals;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch as channel};

pub use api::{
    AgentBody, DrillBody, DrillRequest, MarkerRequest, PlanStatus, SessionBody, Status,
    StopRequest, TimeText,
};
pub(crate) use api::{DRILLS_PATH, MARKERS_PATH, STATUS_PATH, STOP_PATH};
pub use refusals::RefusalBody;

/// How long requests may take to finish when the service stops.
pub const GRACE: Duration = Duration::from_secs(5);

/// Bodies of frames held in memory at a time: bounds it to about 50 MB.
const BODIES_AT_A_TIME: usize = 8;

/// What `serve` is told beside the plan; each overrides the plan's setting.
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
    /// The store's thread died.
    #[error(
        "the store's thread ended early; what was acknowledged is stored, start the collector again"
    )]
    Writer,
    /// The operating system refused a thread, a signal handler or the like.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// What all requests share.
struct Shared {
    writer: Writer,
    plan: channel::Receiver<Arc<CollectorPlan>>,
    plan_file: PathBuf,
    /// Why the plan file as it is now is not in force; `None` where it is.
    plan_error: channel::Receiver<Option<String>>,
    stopping: channel::Receiver<bool>,
    store: PathBuf,
    listen: SocketAddr,
    started: Wall,
    bodies: Semaphore,
    refusals: Refusals,
}

type App = Arc<Shared>;

/// A service that listens; [`Service::run`] answers.
pub struct Service {
    listener: TcpListener,
    plan: CollectorPlan,
    options: Options,
    store: Store,
}

impl Service {
    /// Reads the plan, opens the store and listens.
    ///
    /// # Errors
    ///
    /// When one of them is impossible.
    pub async fn bind(options: Options) -> Result<Self, ServeError> {
        let mut plan = CollectorPlan::load(&options.plan)?;
        let listen = options.listen.unwrap_or(plan.settings.listen);
        plan.may_listen_at(listen)?;
        let dir = options.store.as_ref().unwrap_or(&plan.settings.store);
        let mut store = Store::open(dir)?;
        plan.give_keys(store.dir())?;
        store.adopt_plan(&plan.plan, clock::now())?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| ServeError::Listen { listen, source })?;
        Ok(Self {
            listener,
            plan,
            options,
            store,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
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
        let (writer, writing) = writer::start(self.store)?;
        let (plan_in, plan) = channel::channel(Arc::new(self.plan));
        let (error_in, plan_error) = channel::channel(None);
        let (stop_in, stopping) = channel::channel(false);
        let keeping = keeper::start(dir.clone(), plan.clone(), writer.clone())?;
        let watching = tokio::spawn(watch::watch(
            (self.options.plan.clone(), dir.clone()),
            listen,
            plan_in,
            error_in,
            writer.clone(),
        ));
        let ended = writer.clone();
        let app: App = Arc::new(Shared {
            writer: writer.clone(),
            listen,
            plan,
            plan_file: self.options.plan,
            plan_error,
            stopping,
            store: dir,
            started: clock::now(),
            bodies: Semaphore::new(BODIES_AT_A_TIME),
            refusals: Refusals::default(),
        });
        let router = router(app).into_make_service_with_connect_info::<SocketAddr>();
        let (done_in, done) = tokio::sync::oneshot::channel();
        let graceful = async move {
            stop.await;
            // Held requests end, so that their connections can.
            stop_in.send_replace(true);
            let _ = done_in.send(());
        };
        let serving = axum::serve(self.listener, router).with_graceful_shutdown(graceful);
        let outcome = tokio::select! {
            served = async { serving.await } => served.map_err(ServeError::from),
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

fn router(app: App) -> Router {
    Router::new()
        .route(HELLO_PATH, post(uplink::hello))
        .route(PLAN_PATH, get(uplink::plan))
        .route(BLOCKS_PATH, post(uplink::blocks))
        .merge(api::router(&app))
        .fallback(reply::no_such_path)
        .layer(DefaultBodyLimit::max(MAX_BATCH_BYTES))
        .with_state(app)
}

#[cfg(test)]
mod tests;
