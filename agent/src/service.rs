//! `hopgap-agent run`: sessions, reflector and echoes by the collector's plan.
//!
//! The plan comes by the uplink, or from the cache while the collector is away. Changed
//! parts are restarted, unchanged parts go on undisturbed, and parts that cannot start (an
//! address that is not there yet) are tried again.

mod complaints;
mod echoes;
mod recording;
mod reporting;
mod room;
mod work;

use crate::cli::RunArgs;
use crate::config::{Config, ConfigError};
use crate::health::Health;
use crate::identity::{IdentityError, IdentityStore, keep_renewed};
use crate::privilege::{self, PrivilegeError};
use crate::recorder::Recorder;
use crate::secret::{self, SecretError};
use crate::session::Stop;
use crate::signals::{self, AlsoEnds};
use crate::spool::{Spool, SpoolError, SpoolOptions};
use crate::uplink::{self, Client, Delivery, PlanCache, lock};
use hopgap_net::clock::Clock;
use hopgap_proto::plan::Plan;
use hopgap_proto::record::{Block, RunId, SessionName};
use hopgap_proto::time::Span;
use hopgap_proto::uplink::{PlanResponse, Revision};
use recording::Recording;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{error, info, warn};
use work::Work;

/// Most batches that wait between the shells and the recorder.
const ROOM: usize = 256;
/// How often to try again what could not be started.
const TRY_AGAIN: Span = Span::from_secs(5);
/// How long the uplink may deliver the rest at the end; what remains stays in the spool for
/// the next start.
const GRACE: Duration = Duration::from_secs(5);
/// How much longer to wait for a request that is then under way. After that it is abandoned:
/// its records stay in the spool, and a repeated delivery counts once.
const LEFT_ALONE_AFTER: Duration = Duration::from_secs(6);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The privileges could not be dropped.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread or a signal handler could not be created.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs until SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// When it cannot begin. Once it has begun, it does not fail.
pub fn run(args: &RunArgs) -> Result<(), ServiceError> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HOPGAP_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_ansi(crate::output::colours())
        .with_writer(std::io::stderr)
        .with_target(false)
        // Goes on when nobody reads the log any more.
        .log_internal_errors(false)
        .fmt_fields(crate::output::one_line_fields())
        .init();
    hopgap_process::descriptors::raise_limit();
    let config = Config::load(&args.config)?;
    let rights = privilege::keep_for_sockets()?;
    if !rights.raw_sockets {
        warn!("{}", privilege::WITHOUT_RAW_SOCKETS);
    }
    if rights.all_files {
        info!(
            "started as root, whose rights are given up: {} must be root's own, else run as the user whose it is",
            config.state_dir.display()
        );
    }
    let secret = config
        .secret_file
        .as_deref()
        .map(secret::shared)
        .transpose()?;
    let identities = IdentityStore::new(&config.state_dir);
    let identity = match config.uses_tls() {
        true => Some(identities.load()?),
        false => None,
    };
    let stop = Stop::default();
    signals::end_in_order(&stop, AlsoEnds::Nothing)?;

    let started = Clock::pair();
    let run = RunId(u64::try_from(started.wall.as_nanos()).unwrap_or(0));
    let options = SpoolOptions {
        max_bytes: config.spool.max_bytes,
        max_age: config.spool.max_age,
        max_memory: config.spool.max_memory,
        sync_every: config.spool.sync_every,
        ..SpoolOptions::default()
    };
    let spool = Arc::new(Mutex::new(Spool::open(
        &config.state_dir.join("spool"),
        options,
    )?));
    let units = Units::default();
    let recorder = Recorder::new(config.name.clone(), run, config.block);
    let (records, batches) = sync_channel(ROOM);
    let recording = Recording::start(
        recorder,
        (records.clone(), batches),
        Arc::clone(&spool),
        config.spool.max_memory,
        units.clone(),
    )?;

    let cache = PlanCache::new(&config.state_dir);
    let cached = cache.load().unwrap_or_else(|error| {
        warn!("{error}");
        None
    });
    let proxy = config.proxy();
    match (&proxy, uplink::unused_variable()) {
        (Some(proxy), _) => info!("the way to the collector is by the proxy {proxy}"),
        (None, Some(name)) => info!(
            "{name} is set and not used: the way to the collector is direct, unless `proxy` in {} says otherwise",
            args.config.display()
        ),
        (None, None) => {}
    }
    let client = Client::new(&config.collector, secret, config.name.clone(), run).through(proxy);
    if let Some(identity) = &identity {
        client.adopt(identity)?;
        // Never joined: the thread ends with the process, as the plan's does.
        keep_renewed(client.clone(), identities, identity, stop.clone())?;
    }
    let identity_store = IdentityStore::new(&config.state_dir);
    let (plans, new_plans) = channel();
    // Asks again for a plan that was altered or cannot be followed.
    let known = cached
        .as_ref()
        .filter(|c| Revision::of(&c.plan) == c.revision && c.plan.clone().checked().is_ok())
        .map(|c| c.revision);
    // Never joined: the end does not wait for a held request.
    uplink::follow_plan(client.clone(), known, plans, stop.clone())?;
    let health = Health::default();
    let reporting = reporting::Reporting {
        health: health.clone(),
        spool: Arc::clone(&spool),
        folder: config.state_dir.join("spool"),
        most: config.spool.max_bytes,
        block: config.block,
        run,
    };
    let renamed = identity
        .as_ref()
        .filter(|identity| identity.agent != config.name)
        .map(|identity| {
            let error = IdentityError::OtherName {
                name: config.name.clone(),
                joined: identity.agent.clone(),
            };
            warn!("{error}");
            (identity_store, config.name.clone())
        });
    // Never joined either.
    reporting::start(client.clone(), reporting, renamed, stop.clone())?;
    let after_records = Stop::default();
    let delivery = Delivery {
        rate: config.spool.backfill_rate,
        grace: GRACE,
    };
    let uplink = uplink::deliver(client, Arc::clone(&spool), after_records.clone(), delivery)?;

    info!(
        "agent {} begins, run {run}, collector {}",
        config.name, config.collector
    );
    let mut work = Work::new(config.name.clone(), records, health);
    follow(&mut work, cached, &cache, &new_plans, &units, &stop);
    info!("agent {} ends", config.name);
    work.end();
    drop(work);
    recording.finish();
    after_records.request();
    match join_within(uplink, LEFT_ALONE_AFTER) {
        Some(Ok(())) => {}
        Some(Err(_)) => error!("the uplink ended by a fault of the program"),
        None => warn!("the last delivery has no answer; what it held stays in the spool"),
    }
    let left = lock(&spool).only_in_memory();
    if left > 0 {
        error!(
            "{left} bytes of records are lost: the disk took nothing to the end, and the collector did not have them either"
        );
    }
    Ok(())
}

/// Follows each new plan until `stop`.
fn follow(
    work: &mut Work,
    cached: Option<PlanResponse>,
    cache: &PlanCache,
    new_plans: &Receiver<PlanResponse>,
    units: &Units,
    stop: &Stop,
) {
    let mut plan = cached.and_then(|c| checked(c.plan, "cached plan"));
    if plan.is_none() {
        info!("no cached plan; waiting for the collector");
    }
    let mut all_runs = false;
    let mut next_try = Clock::now();
    while !stop.requested() {
        if let Some(plan) = plan
            .as_ref()
            .filter(|_| !all_runs && Clock::now() >= next_try)
        {
            units.set(plan);
            all_runs = work.follow(plan);
            let again = Clock::now() + TRY_AGAIN;
            next_try = work.waits_until().map_or(again, |at| at.min(again));
        }
        match new_plans.recv_timeout(Duration::from_millis(100)) {
            Ok(response) => {
                // A plan that cannot be followed does not replace one that can.
                if let Some(new) = checked(response.plan.clone(), "collector's plan") {
                    if let Err(error) = cache.store(&response) {
                        error!("{error}");
                    }
                    plan = Some(new);
                    all_runs = false;
                    next_try = Clock::now();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                // Follows the plan again to notice parts that ended by themselves.
                if Clock::now() >= next_try + TRY_AGAIN {
                    all_runs = false;
                }
            }
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Returns the plan where it is valid here: a collector of another version may allow other
/// ranges, and a file on disk may have been altered.
fn checked(plan: Plan, what: &str) -> Option<Plan> {
    plan.checked()
        .inspect_err(|error| error!("the {what} is not followed: {error}"))
        .ok()
}

/// The time unit of each session by the plan.
#[derive(Clone, Debug, Default)]
struct Units(Arc<Mutex<BTreeMap<SessionName, Span>>>);

impl Units {
    fn set(&self, plan: &Plan) {
        let units = plan
            .sessions
            .iter()
            .map(|s| (s.name.clone(), s.time_unit))
            .collect();
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = units;
    }

    fn of(&self, block: &Block) -> Span {
        let units = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let unit = block
            .header
            .session
            .as_ref()
            .and_then(|s| units.get(s))
            .copied();
        unit.unwrap_or(Span::from_nanos(1))
    }
}

/// Waits at most `most` for the thread's end.
fn join_within(thread: JoinHandle<()>, most: Duration) -> Option<std::thread::Result<()>> {
    let end = Clock::now() + Span::from(most);
    while !thread.is_finished() {
        if Clock::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(thread.join())
}
