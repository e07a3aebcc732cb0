//! `hopgap-agent measure`: one session to one host, without a collector.

mod live;
mod paths;
mod summary;

use crate::cli::MeasureArgs;
use crate::destination::{self, DestinationError};
use crate::output;
use crate::recorder::Batch;
use crate::secret::{self, SecretError};
use crate::session::{Session, SessionSetup, Stop};
use crate::signals;
use hopgap_analysis::analyse;
use hopgap_analysis::findings::VerdictResult;
use hopgap_analysis::input::{Input, SenderRun, SessionRecords};
use hopgap_net::NetError;
use hopgap_net::clock::Clock;
use hopgap_proto::plan::{AgentPlan, Destination, Objective, Plan, PlanError, SessionPlan};
use hopgap_proto::record::{AgentName, EventKind, NameError, RunId, SessionName};
use hopgap_proto::stamp::SessionKeys;
use hopgap_proto::time::{ClockPair, Span};
use live::Live;
use std::io::IsTerminal;
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
    /// Internal names; none is known to fail.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A thread or a signal handler that could not be had, or output that failed.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing came back at all.
    #[error(
        "no reply from {0}: check that a STAMP reflector runs there (`hopgap-agent reflect`, or a \
         router's), that UDP to its port and back is let through, and that both ends have the same key"
    )]
    NoReply(SocketAddr),
}

/// All probes are held until the end, and judged then: about 200 bytes each.
const MOST_PROBES: usize = 20_000_000;

/// Measures until the time is over or Ctrl-C, then prints the summary; says whether the
/// objective was met.
///
/// # Errors
/// When it cannot begin, or when nothing ever answered.
pub fn run(args: &MeasureArgs) -> Result<VerdictResult, MeasureError> {
    let destination = destination::resolve(&args.host, args.source)?;
    let keys = args.key_file.as_deref().map(secret::key).transpose()?;
    let source = match args.source {
        Some(source) => source,
        None => destination::source_towards(destination)?,
    };
    let plan = plan(args, source, destination)?.checked()?;
    let Some(session_plan) = plan.sessions.first().cloned() else {
        return Ok(VerdictResult::Undecided);
    };
    let setup = SessionSetup {
        plan: session_plan.clone(),
        source,
        destination,
        // The far end may be anybody's reflector.
        keys: keys.map(SessionKeys::shared),
        max_hops: 30,
    };

    let stop = Stop::default();
    signals::stop_on_interrupt(&stop).map_err(|source| MeasureError::Io {
        what: "cannot catch Ctrl-C",
        source,
    })?;
    let (records, batches) = sync_channel(1_024);
    let session = Session::open(&setup, records)?;
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

    let live = (!args.quiet && !args.json && std::io::stderr().is_terminal())
        .then(|| Live::new(session_plan.timeout));
    let gathered = gather(&batches, args.duration, &stop, live);
    // The channel is closed: the session has ended, in order or by its error.
    let _ = thread.join();

    let answered = gathered
        .records
        .probes
        .iter()
        .any(|p| p.round_trip().is_some());
    let unnamed_back = paths::without_hop(&plan);
    let findings = analyse(&input(plan, gathered));
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
}

fn gather(
    batches: &Receiver<Batch>,
    duration: Option<Span>,
    stop: &Stop,
    mut live: Option<Live>,
) -> Gathered {
    let end = duration.map(|d| Clock::now() + d);
    let mut gathered = Gathered {
        clocks: vec![Clock::pair()],
        ..Gathered::default()
    };
    loop {
        match batches.recv_timeout(Duration::from_millis(100)) {
            Ok(batch) => {
                if let Some(live) = &mut live {
                    live.take(&batch);
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
        if gathered.records.probes.len() >= MOST_PROBES && !stop.requested() {
            eprintln!(
                "it ends after {MOST_PROBES} probes: `measure` holds them all in memory; for longer take a longer --interval, or an agent with a collector"
            );
            stop.request();
        }
        if let Some(live) = &mut live {
            live.show(now);
        }
    }
    if let Some(live) = &mut live {
        live.finish();
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
        self.records.probes.extend(batch.probes);
        self.records.traces.extend(batch.traces);
        self.records.events.extend(batch.events);
    }
}

/// The plan that the options amount to: one session, judged as a collector would.
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
            source_port: args.source_port,
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
    let Gathered { records, clocks } = gathered;
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
