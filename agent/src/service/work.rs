//! Runs the parts of the present plan.

use super::complaints::{Complaints, Failing};
use super::echoes::Echoes;
use super::room;
use crate::health::{Health, fault_of};
use crate::icmp::RawSockets;
use crate::recorder::Batch;
use crate::reflector::{Link, ReflectorShell};
use crate::session::{Session, SessionSetup, Stop, error_estimate};
use hopgap_engine::reflector::{ReflectedSession, ReflectorConfig};
use hopgap_net::clock::Clock;
use hopgap_proto::plan::{Plan, SessionPlan};
use hopgap_proto::record::{AgentName, RunFault, SessionName};
use hopgap_proto::time::{Mono, Span};
use hopgap_proto::uplink::AgentPart;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, SyncSender, TrySendError, channel};
use std::thread::JoinHandle;
use tracing::{error, info, warn};

/// Greatest TTL of traceroutes.
const MAX_HOPS: u8 = 30;

/// Most records of sessions that do not run that wait for the recorder.
const MOST_UNTAKEN: usize = 1_000;

/// How long after a changed plan came new and changed sessions begin. A peer that reaches the
/// collector has the plan by then, and its reflector answers them.
const PEER_FOLLOWS: Span = Span::from_secs(1);

/// How many probes a reflector's socket should hold: half a second of 8 flows at 1 kHz.
const ROOM_WANTED: usize = 4_000;

/// Sessions, reflector and echoes of one agent.
pub(super) struct Work {
    agent: AgentName,
    records: SyncSender<Batch>,
    /// Shared by all sessions.
    raw: RawSockets,
    sessions: BTreeMap<SessionName, Running>,
    reflector: Option<Reflecting>,
    echoes: Option<Echoes>,
    /// The plan that is followed.
    plan: Option<Plan>,
    /// Earliest start of new and changed sessions.
    begin_at: Mono,
    /// Some of them wait for it.
    waiting: bool,
    /// Faults that were logged; each is logged when it appears, not at each new try.
    complained: Vec<String>,
    /// Sessions that do not run.
    failing: Failing,
    /// Why they do not, until the recorder takes it.
    untaken: VecDeque<Batch>,
    health: Health,
}

struct Running {
    setup: SessionSetup,
    stop: Stop,
    thread: JoinHandle<()>,
}

struct Reflecting {
    address: SocketAddr,
    changes: Sender<Vec<ReflectedSession>>,
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Work {
    pub(super) fn new(agent: AgentName, records: SyncSender<Batch>, health: Health) -> Self {
        Self {
            agent,
            failing: Failing::default(),
            untaken: VecDeque::new(),
            health,
            records,
            raw: RawSockets::default(),
            sessions: BTreeMap::new(),
            reflector: None,
            echoes: None,
            plan: None,
            begin_at: Clock::now(),
            waiting: false,
            complained: Vec::new(),
        }
    }

    /// Starts and ends parts so that they match the plan. Returns whether all of them run;
    /// faults are logged. Call it again to try again.
    pub(super) fn follow(&mut self, plan: &Plan) -> bool {
        let mut complaints = Complaints::default();
        if self.plan.as_ref() != Some(plan) && self.plan.replace(plan.clone()).is_some() {
            self.begin_at = Clock::now() + PEER_FOLLOWS;
        }
        // The reflector first: the peer may already follow the new plan.
        self.follow_reflector(plan, &mut complaints);
        self.follow_sessions(plan, &mut complaints);
        self.follow_echoes(plan, &mut complaints);
        for complaint in &complaints.said {
            if !self.complained.contains(complaint) {
                error!("{complaint}");
            }
        }
        let Complaints {
            said,
            sessions,
            parts,
        } = complaints;
        for (session, events) in self.failing.update(&sessions, Clock::now()) {
            self.untaken.push_back(Batch {
                events,
                ..Batch::of(session)
            });
        }
        self.hand_over();
        self.health.set(&sessions, parts);
        self.complained = said;
        self.complained.is_empty() && !self.waiting
    }

    /// When [`Self::follow`] is to be called again, where sessions wait for their beginning.
    pub(super) fn waits_until(&self) -> Option<Mono> {
        self.waiting.then_some(self.begin_at)
    }

    /// Gives the recorder why sessions do not run. What it has no room for waits for the next
    /// call; of too many the oldest are dropped.
    fn hand_over(&mut self) {
        while let Some(batch) = self.untaken.pop_front() {
            if let Err(TrySendError::Full(batch)) = self.records.try_send(batch) {
                self.untaken.push_front(batch);
                break;
            }
        }
        while self.untaken.len() > MOST_UNTAKEN {
            self.untaken.pop_front();
            warn!("why a session did not run is not recorded, the recorder is behind");
        }
    }

    /// Ends everything in order; returns when the last replies are in.
    pub(super) fn end(&mut self) {
        self.echoes = None;
        for running in self.sessions.values() {
            running.stop.request();
        }
        for (name, running) in std::mem::take(&mut self.sessions) {
            if running.thread.join().is_err() {
                error!("session {name} ended by a fault of the program");
            }
        }
        // Ended after the sessions, because the peer's last probes may still come.
        self.end_reflector();
    }

    fn end_reflector(&mut self) {
        if let Some(reflecting) = self.reflector.take() {
            reflecting.stop.request();
            if reflecting.thread.join().is_err() {
                error!("the reflector ended by a fault of the program");
            }
        }
    }

    fn follow_sessions(&mut self, plan: &Plan, complaints: &mut Complaints) {
        let mut wanted: BTreeMap<SessionName, SessionSetup> = BTreeMap::new();
        for session in plan.sessions.iter().filter(|s| s.from == self.agent) {
            match setup(plan, session) {
                Ok(setup) => drop(wanted.insert(session.name.clone(), setup)),
                Err((why, said)) => complaints.of_session(&session.name, why, said),
            }
        }
        // A changed session goes on until its successor begins: peers still answer it.
        let runs = |name: &SessionName, setup: &SessionSetup| {
            let running = self.sessions.get(name);
            running.is_some_and(|running| setup.is_same(&running.setup))
        };
        let is_early = Clock::now() < self.begin_at;
        let (waiting, wanted): (BTreeMap<_, _>, BTreeMap<_, _>) = wanted
            .into_iter()
            .partition(|(name, setup)| is_early && !runs(name, setup));
        self.waiting = !waiting.is_empty();
        let stays = |name: &SessionName, running: &Running| {
            let wanted = wanted.get(name);
            waiting.contains_key(name) || wanted.is_some_and(|w| w.is_same(&running.setup))
        };
        let ended: Vec<SessionName> = self
            .sessions
            .iter()
            .filter(|(name, running)| !stays(name, running) || running.thread.is_finished())
            .map(|(name, _)| name.clone())
            .collect();
        // Stops all before waiting for the first: each waits for its last replies.
        for name in &ended {
            if let Some(running) = self.sessions.get(name) {
                info!("session {name} ends");
                running.stop.request();
            }
        }
        for name in ended {
            self.health.forget(&name);
            if let Some(running) = self.sessions.remove(&name)
                && running.thread.join().is_err()
            {
                error!("session {name} ended by a fault of the program; it is started again");
            }
        }
        for (name, setup) in wanted {
            if self.sessions.contains_key(&name) {
                continue;
            }
            match self.start_session(setup) {
                Ok(running) => {
                    info!("session {name} to {} begins", running.setup.destination);
                    self.sessions.insert(name, running);
                }
                Err((why, said)) => {
                    complaints.of_session(&name, why, format!("session {name}: {said}"));
                }
            }
        }
    }

    fn start_session(&self, setup: SessionSetup) -> Result<Running, (RunFault, String)> {
        // The same error as from the kernel.
        let no_room = RunFault::Refused {
            errno: rustix::io::Errno::MFILE.raw_os_error(),
        };
        room::for_sockets(setup.plan.flows).map_err(|error| (no_room, error.to_string()))?;
        let health = self.health.session(&setup.plan.name);
        let session = Session::open_some(&setup, &self.raw, self.records.clone(), health)
            .map_err(|error| (fault_of(&error), error.to_string()))?;
        let stop = Stop::default();
        let thread = std::thread::Builder::new()
            .name(format!("session {}", setup.plan.name))
            .spawn({
                let stop = stop.clone();
                move || session.run(&stop)
            })
            .map_err(no_thread)?;
        Ok(Running {
            setup,
            stop,
            thread,
        })
    }

    fn follow_reflector(&mut self, plan: &Plan, complaints: &mut Complaints) {
        let Some(agent) = plan.agent(&self.agent) else {
            complaints.say(format!(
                "the plan has no agent `{}`; correct `name` in the configuration, or add it to the plan",
                self.agent
            ));
            self.end_reflector();
            return;
        };
        let (sessions, unusable) = ReflectedSession::from_plan(plan, &self.agent);
        for key in &unusable {
            complaints.say(key.to_string());
        }
        let address = SocketAddr::new(agent.address, agent.reflector_port);
        let goes_on = self
            .reflector
            .as_ref()
            .is_some_and(|r| r.address == address && !r.thread.is_finished());
        if goes_on {
            if let Some(reflecting) = &self.reflector
                && reflecting.changes.send(sessions).is_err()
            {
                warn!("the reflector does not take the new plan");
            }
            return;
        }
        self.end_reflector();
        match self.start_reflector(address, sessions) {
            Ok(reflecting) => {
                info!("reflector on UDP {address} begins");
                self.reflector = Some(reflecting);
            }
            Err((why, said)) => {
                complaints.of_part(AgentPart::Reflector, why, format!("reflector: {said}"));
            }
        }
    }

    fn start_reflector(
        &self,
        address: SocketAddr,
        sessions: Vec<ReflectedSession>,
    ) -> Result<Reflecting, (RunFault, String)> {
        let config = ReflectorConfig {
            sessions,
            ..ReflectorConfig::new(address.port(), error_estimate())
        };
        let (changes, changed) = channel();
        let link = Link {
            changes: changed,
            records: self.records.clone(),
        };
        let shell = ReflectorShell::open(address, config)
            .map_err(|error| (fault_of(&error), error.to_string()))?
            .linked(link)
            .hearing(&self.raw);
        if let Some(few) = shell.room().filter(|room| *room < ROOM_WANTED) {
            warn!(
                "the reflector's socket has room for about {few} probes that wait; more are thrown away (and reported) when this agent is held up: allow more by `sudo sysctl -w net.core.rmem_max=8388608`"
            );
        }
        let stop = Stop::default();
        let thread = std::thread::Builder::new()
            .name("reflector".to_owned())
            .spawn({
                let stop = stop.clone();
                move || {
                    shell.run(&stop, None);
                }
            })
            .map_err(no_thread)?;
        Ok(Reflecting {
            address,
            changes,
            stop,
            thread,
        })
    }

    fn follow_echoes(&mut self, plan: &Plan, complaints: &mut Complaints) {
        let wanted: Vec<_> = plan
            .echoes
            .iter()
            .filter(|e| e.from == self.agent)
            .cloned()
            .collect();
        let source = plan.agent(&self.agent).map(|agent| agent.address);
        if self.echoes.as_ref().is_some_and(|e| e.is(&wanted, source)) {
            return;
        }
        self.echoes = None;
        if wanted.is_empty() {
            return;
        }
        match Echoes::start(wanted, source, self.records.clone()) {
            Ok(echoes) => self.echoes = Some(echoes),
            Err(error) => {
                let why = RunFault::Refused {
                    errno: error.raw_os_error().unwrap_or(0),
                };
                let said = format!("cannot start the ICMP echo: {error}");
                complaints.of_part(AgentPart::Echo, why, said);
            }
        }
    }
}

fn no_thread(error: std::io::Error) -> (RunFault, String) {
    let errno = error.raw_os_error().unwrap_or(0);
    let said = format!("cannot start a thread: {error}");
    (RunFault::Refused { errno }, said)
}

fn setup(plan: &Plan, session: &SessionPlan) -> Result<SessionSetup, (RunFault, String)> {
    let name = &session.name;
    let source = plan.agent(&session.from).map(|a| a.address);
    let (Some(source), Some(destination)) = (source, plan.destination(session)) else {
        let said = format!("session {name}: the plan does not say where its ends are");
        return Err((RunFault::NoEnds, said));
    };
    let (from, to) = (source, destination.ip());
    if from.is_ipv4() != to.is_ipv4() {
        let said = format!(
            "session {name}: it goes from {from} to {to}, which are of different families; give both ends addresses of one in the collector's plan"
        );
        return Err((RunFault::MixedFamilies { from, to }, said));
    }
    let keys = session
        .keys()
        .map_err(|error| (RunFault::UnusableKey, error.to_string()))?;
    Ok(SessionSetup {
        plan: session.clone(),
        source,
        destination,
        keys,
        max_hops: MAX_HOPS,
    })
}

#[cfg(test)]
mod tests;
