//! Opens a session's flows. Flows that cannot be opened yet are tried again while the others
//! run; the reasons are recorded and reported.

use super::{Flow, Session, SessionSetup};
use crate::health::{SessionHealth, fault_of};
use crate::session::stamps::SentTokens;
use hopgap_net::NetError;
use hopgap_net::clock::Clock;
use hopgap_net::probe::{ProbeOptions, ProbeSocket, Refusal};
use hopgap_proto::record::{Event, EventKind, FlowIndex, RunFault};
use hopgap_proto::time::{Mono, Span};
use std::net::SocketAddr;
use tracing::{info, warn};

/// How often to try again a flow that cannot be opened.
const TRY_AGAIN: Span = Span::from_secs(5);
/// How often to record that it cannot be opened.
const RECORD_EVERY: Span = Span::from_secs(10);
/// Time over which sends are judged.
const JUDGED_OVER: Span = Span::from_secs(2);

/// Opens a session's flows, and keeps track of those that are closed.
pub(super) struct Opening {
    /// The address that it sends from, with flow 0's port.
    local: SocketAddr,
    first_port: u16,
    tos: u8,
    has_raw_sockets: bool,
    flows: u8,
    next_try: Mono,
    /// Flows that are not open, the reason, and since when that is not recorded yet.
    closed: Vec<(FlowIndex, RunFault, Mono)>,
    health: SessionHealth,
    sends: Sends,
}

/// Counts of sends since they were last judged.
#[derive(Default)]
struct Sends {
    since: Option<Mono>,
    taken: u32,
    refused: u32,
    errno: i32,
}

impl Opening {
    /// With `has_raw_sockets`, ICMP errors come by raw sockets.
    pub(super) fn new(setup: &SessionSetup, health: SessionHealth, has_raw_sockets: bool) -> Self {
        Self {
            local: setup.local(setup.plan.source_port),
            first_port: setup.plan.source_port,
            tos: setup.plan.dscp << 2,
            has_raw_sockets,
            flows: setup.plan.flows,
            next_try: Clock::now() + TRY_AGAIN,
            closed: Vec::new(),
            health,
            sends: Sends::default(),
        }
    }

    fn open(&self, flow: FlowIndex) -> Result<ProbeSocket, NetError> {
        let port = self.first_port.saturating_add(u16::from(flow.0));
        let mut local = self.local;
        local.set_port(port);
        let sender = ProbeOptions::sender(local);
        ProbeSocket::open(&ProbeOptions {
            tos: self.tos,
            // With raw sockets this loses nothing.
            ignore_too_big: sender.ignore_too_big || self.has_raw_sockets,
            ..sender
        })
    }

    /// Opens all flows, or returns the first error.
    pub(super) fn open_all(&mut self) -> Result<Vec<Flow>, NetError> {
        let flows = (0..self.flows).map(FlowIndex);
        let flows = flows.map(|flow| Ok(Flow::new(Some(self.open(flow)?))));
        flows.collect()
    }

    /// Opens the flows that can be opened; returns the last error where none can.
    pub(super) fn open_some(&mut self) -> Result<Vec<Flow>, NetError> {
        let now = Clock::now();
        let mut flows = Vec::new();
        let mut refusal = None;
        for flow in (0..self.flows).map(FlowIndex) {
            let socket = match self.open(flow) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    self.closed.push((flow, fault_of(&error), now));
                    refusal = Some((flow, error));
                    None
                }
            };
            flows.push(Flow::new(socket));
        }
        match refusal {
            Some((_, error)) if flows.iter().all(|f| f.socket.is_none()) => Err(error),
            Some((flow, error)) => {
                warn!("flow {} does not run and is tried again: {error}", flow.0);
                Ok(flows)
            }
            None => Ok(flows),
        }
    }

    /// Counts a send as taken or refused by the kernel.
    pub(super) fn tried_to_send(&mut self, refusal: Option<&Refusal>) {
        match refusal {
            None => self.sends.taken = self.sends.taken.saturating_add(1),
            Some(refusal) => {
                self.sends.refused = self.sends.refused.saturating_add(1);
                self.sends.errno = refusal.errno;
            }
        }
    }

    /// Reports from time to time whether all recent sends were refused.
    pub(super) fn judge_sends(&mut self, now: Mono) {
        let since = *self.sends.since.get_or_insert(now);
        if now - since < JUDGED_OVER || self.sends.taken + self.sends.refused == 0 {
            return;
        }
        let Sends {
            taken,
            refused,
            errno,
            ..
        } = core::mem::take(&mut self.sends);
        let all = taken == 0 && refused > 0;
        let why = all.then_some(RunFault::EverySendRefused { errno });
        self.health.set_refusing(why);
    }

    fn tell(&self) {
        let closed = self.closed.iter().map(|(flow, why, _)| (*flow, *why));
        self.health.set_flows(self.flows, closed.collect());
    }
}

impl Flow {
    fn new(socket: Option<ProbeSocket>) -> Self {
        Self {
            socket,
            tokens: SentTokens::default(),
            last_arrival: Clock::now(),
        }
    }
}

impl Session {
    /// Notes at the start which flows do not run.
    pub(super) fn note_closed(&mut self, now: Mono) {
        for (flow, why, since) in &self.opening.closed {
            self.sender.set_closed(*flow, true);
            self.batch
                .events
                .push(not_running(*flow, *why, *since, now));
        }
        self.opening.tell();
    }

    /// Tries again to open closed flows, where it is time.
    pub(super) fn open_closed(&mut self, now: Mono) {
        if now < self.opening.next_try || self.opening.closed.is_empty() {
            return;
        }
        self.opening.next_try = now + TRY_AGAIN;
        for (flow, why, since) in core::mem::take(&mut self.opening.closed) {
            let opened = self.opening.open(flow);
            if opened.is_ok() || now - since >= RECORD_EVERY {
                self.batch.events.push(not_running(flow, why, since, now));
            }
            match opened {
                Ok(socket) => {
                    info!("session {}: flow {} runs now", self.name, flow.0);
                    self.sender.set_closed(flow, false);
                    if let Some(place) = self.flows.get_mut(usize::from(flow.0)) {
                        *place = Flow::new(Some(socket));
                    }
                }
                Err(error) => {
                    let told = now - since >= RECORD_EVERY;
                    let since = if told { now } else { since };
                    self.opening.closed.push((flow, fault_of(&error), since));
                }
            }
        }
        self.opening.tell();
    }

    /// Notes at the end which flows never ran.
    pub(super) fn note_never_opened(&mut self, now: Mono) {
        for (flow, why, since) in &self.opening.closed {
            self.batch
                .events
                .push(not_running(*flow, *why, *since, now));
        }
    }
}

fn not_running(flow: FlowIndex, why: RunFault, since: Mono, at: Mono) -> Event {
    Event {
        at,
        kind: EventKind::NotRunning {
            flow: Some(flow),
            why,
            since,
        },
    }
}
