//! `hopgap-agent measure`: one session to one host, without a collector.

pub mod budget;
mod live;
mod paths;
mod screen;
mod summary;
mod watch;

use crate::cli::MeasureArgs;
use crate::destination::{self, DestinationError, Ends, Wanted};
use crate::icmp::RawSockets;
use crate::output::{self, Stream};
use crate::privilege::{self, PrivilegeError};
use crate::reach::Counts;
use crate::recorder::Batch;
use crate::secret::{self, SecretError};
use crate::session::{Session, SessionSetup, Stop};
use crate::signals::{self, AlsoEnds};
use crate::source_ports;
use budget::{Budget, EndedEarly, Kept};
use hopgap_analysis::analyse;
use hopgap_analysis::findings::VerdictResult;
use hopgap_analysis::input::{Input, SenderRun, SessionRecords};
use hopgap_net::NetError;
use hopgap_net::clock::Clock;
use hopgap_proto::plan::{AgentPlan, Destination, Objective, Plan, PlanError, SessionPlan};
use hopgap_proto::record::{AgentName, Event, EventKind, NameError, RunId, SessionName};
use hopgap_proto::stamp::SessionKeys;
use hopgap_proto::time::{ClockPair, Span};
use live::Live;
use screen::Screen;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Why there was no measurement.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The host.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An option out of its range.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A named path.
    #[error(transparent)]
    Paths(#[from] paths::PathsError),
    /// A socket.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The privileges could not be dropped.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// An internal name; none is known to fail.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A thread or a signal handler could not be created, or output failed.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// No reply came back.
    #[error(
        "no reply from {0}: check that a STAMP reflector runs there (`hopgap-agent reflect`, or a \
         router's), that UDP to its port and back is let through, and that both ends have the same key"
    )]
    NoReply(SocketAddr),
}

/// Most batches that wait for this thread; the session keeps further ones, within its own
/// bound.
const ROOM: usize = 32;
/// Least number of probes by which the records' memory grows; otherwise it grows by an eighth.
const LEAST_GROWTH: usize = 1 << 14;

/// Measures until the time is over or Ctrl-C, then prints the summary; returns whether the
/// objective was met.
///
/// # Errors
/// When it cannot begin, or when no reply ever came.
pub fn run(args: &MeasureArgs) -> Result<VerdictResult, MeasureError> {
    // The far end may be a foreign reflector.
    let keys = args
        .key_file
        .as_deref()
        .map(secret::key)
        .transpose()?
        .map(SessionKeys::shared);
    let wanted = Wanted {
        host: &args.host,
        source: args.source,
        family: args.family,
    };
    let Ends {
        source,
        destination,
    } = destination::find(wanted, keys.as_ref(), Counts::Replies, args.quiet)?;
    let plan = plan(args, source, destination)?.checked()?;
    let Some(session_plan) = plan.sessions.first().cloned() else {
        return Ok(VerdictResult::Undecided);
    };
    let setup = SessionSetup {
        plan: session_plan.clone(),
        source,
        destination,
        keys,
        max_hops: 30,
    };

    let (records, batches) = sync_channel(ROOM);
    let session = Session::open(&setup, &RawSockets::default(), records)?;
    let budget = Budget::new(args.max_memory, args.flows, args.interval, args.timeout);
    let rights = privilege::give_up_all()?;
    if !rights.raw_sockets && args.trace_interval > Span::ZERO {
        output::note(privilege::WITHOUT_RAW_SOCKETS);
    }
    let stop = Stop::default();
    signals::end_in_order(&stop, AlsoEnds::ReaderGone(Stream::Output)).map_err(|source| {
        MeasureError::Io {
            what: "cannot catch Ctrl-C",
            source,
        }
    })?;
    let thread = std::thread::Builder::new()
        .name("session".to_owned())
        .spawn({
            let stop = stop.clone();
            move || session.run(&stop)
        })
        .map_err(|source| MeasureError::Io {
            what: "cannot start a thread",
            source,
        })?;

    let screen = (!args.quiet && !args.json).then(|| {
        Screen::new(Live::new(
            args.flows,
            args.interval,
            &args.paths,
            Clock::now(),
        ))
    });
    let gathered = gather(&batches, args.duration, &stop, screen, &budget);
    // The channel is closed: the session has ended, with or without an error.
    let _ = thread.join();

    let answered = gathered
        .records
        .probes
        .iter()
        .any(|p| p.round_trip().is_some());
    let unnamed_back = paths::without_hop(&plan);
    let ended_early = gathered.ended_early;
    let mut findings = analyse(&input(plan, gathered));
    if let Some(early) = ended_early {
        // Comes first because it qualifies everything else.
        findings.caveats.insert(0, early.to_string());
    }
    let text = if args.json {
        serde_json::to_string_pretty(&findings).map_err(|e| MeasureError::Io {
            what: "cannot write JSON",
            source: e.into(),
        })?
    } else {
        summary::summary(&findings, &unnamed_back)
    };
    output::quiet(output::print(&format!("{}\n", text.trim_end()))).map_err(|source| {
        MeasureError::Io {
            what: "cannot write to standard output",
            source,
        }
    })?;
    if answered {
        Ok(findings.verdict.result)
    } else {
        Err(MeasureError::NoReply(destination))
    }
}

/// Everything that one session recorded.
#[derive(Default)]
struct Gathered {
    records: Batch,
    clocks: Vec<ClockPair>,
    ended_early: Option<EndedEarly>,
    /// Whether a batch was dropped because the system gave no memory for it.
    out_of_memory: bool,
}

fn gather(
    batches: &Receiver<Batch>,
    duration: Option<Span>,
    stop: &Stop,
    mut screen: Option<Screen>,
    budget: &Budget,
) -> Gathered {
    let began = Clock::now();
    let end = duration.map(|d| began + d);
    let mut gathered = Gathered {
        clocks: vec![Clock::pair()],
        ..Gathered::default()
    };
    loop {
        match batches.recv_timeout(Duration::from_millis(100)) {
            Ok(batch) => {
                if let Some(screen) = &mut screen {
                    screen.live().take(&batch);
                }
                gathered.take(batch);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = Clock::now();
        if end.is_some_and(|end| now >= end) {
            stop.request();
        }
        let kept = Kept::of(&gathered.records);
        if !stop.requested() && (gathered.out_of_memory || budget.is_used_up(kept, now - began)) {
            let early = EndedEarly {
                most: budget.most(),
                after: now - began,
                probes: kept.probes(),
            };
            output::note(&early.to_string());
            gathered.ended_early = Some(early);
            stop.request();
        }
        if let Some(screen) = &mut screen
            && !stop.requested()
        {
            screen.show();
        }
    }
    if let Some(screen) = &screen {
        screen.finish();
    }
    gathered
}

impl Gathered {
    fn take(&mut self, batch: Batch) {
        for event in &batch.events {
            if let EventKind::Clock(reading) = event.kind {
                self.clocks.push(reading.pair);
            }
        }
        let more = batch.probes.len();
        let probes = &mut self.records.probes;
        if probes.capacity() - probes.len() < more {
            // Not doubled: that would need twice the present memory.
            let growth = (probes.len() / 8).max(more).max(LEAST_GROWTH);
            if probes.try_reserve_exact(growth).is_err() {
                self.out_of_memory = true;
                self.records.events.push(Event {
                    at: Clock::now(),
                    kind: EventKind::RecordsLost { blocks: 1 },
                });
                return;
            }
        }
        probes.extend(batch.probes);
        self.records.traces.extend(batch.traces);
        self.records.events.extend(batch.events);
    }
}

/// Makes a plan from the options: one session, judged as by a collector.
fn plan(args: &MeasureArgs, source: IpAddr, destination: SocketAddr) -> Result<Plan, MeasureError> {
    let here: AgentName = "here".parse()?;
    Ok(Plan {
        agents: vec![AgentPlan {
            name: here.clone(),
            address: source,
            reflector_port: 862,
        }],
        sessions: vec![SessionPlan {
            name: "measure".parse::<SessionName>()?,
            from: here,
            to: Destination::Foreign(destination),
            interval: args.interval,
            flows: args.flows,
            source_port: source_ports::first(args.source_port, source, args.flows),
            ssid: None,
            timeout: args.timeout,
            trace_interval: args.trace_interval,
            path_mtu_interval: Some(args.path_mtu_interval),
            dscp: args.dscp,
            precise: args.precise,
            time_unit: Span::from_nanos(1),
            authenticated: None,
            key: None,
        }],
        echoes: Vec::new(),
        paths: paths::plan(&args.paths)?,
        objective: Objective {
            outage: args.objective,
            ..Objective::default()
        },
    })
}

fn input(plan: Plan, gathered: Gathered) -> Input {
    let session = plan.sessions.first();
    let Gathered {
        records, clocks, ..
    } = gathered;
    let sessions = session
        .map(|session| SessionRecords {
            session: session.name.clone(),
            sender: vec![SenderRun {
                agent: session.from.clone(),
                run: RunId(0),
                clocks,
                probes: records.probes,
                traces: records.traces,
                events: records.events,
            }],
            reflector: Vec::new(),
        })
        .into_iter()
        .collect();
    Input {
        plan,
        sessions,
        ..Input::default()
    }
}
