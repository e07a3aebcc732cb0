//! `hopgap-agent trace`: shows the path of one flow, asking all hops at once.

use crate::cli::TraceArgs;
use crate::destination::{self, DestinationError, Ends, Wanted};
use crate::icmp::RawSockets;
use crate::output::{self, Stream};
use crate::privilege::{self, PrivilegeError};
use crate::reach::Counts;
use crate::session::{Session, SessionSetup, Stop};
use crate::signals::{self, AlsoEnds};
use crate::source_ports;
use hopgap_analysis::schema::Nanos;
use hopgap_analysis::text;
use hopgap_net::NetError;
use hopgap_proto::plan::{Destination, PlanError, SessionPlan};
use hopgap_proto::record::{HopReplyKind, NameError, Trace};
use hopgap_proto::stamp::Ssid;
use hopgap_proto::time::Span;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::sync_channel;

/// The port that IANA registered for traceroute; hosts seldom listen on it.
const UNUSED_PORT: u16 = 33_434;

/// Why there was no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The host cannot be measured.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// An option is out of its range.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A socket failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Rights could not be given up.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// An internal name is invalid; not known to happen.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A thread or a signal handler could not be set up.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// Writing to standard output failed.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// Writing JSON failed.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Takes as many traces as asked for and prints each.
///
/// # Errors
/// When it cannot start, or when standard output fails for another reason than a closed pipe.
pub fn run(args: &TraceArgs) -> Result<(), TraceError> {
    let wanted = Wanted {
        host: &args.host,
        source: args.source,
        family: args.family,
    };
    let Ends {
        source,
        destination,
    } = destination::find(wanted, None, Counts::RefusalsToo, false)?;
    let source_port = source_ports::first(args.source_port, source, 1);
    let session = SessionPlan {
        name: "trace".parse()?,
        from: "here".parse()?,
        to: Destination::Foreign(destination),
        // The probes only hold the port open and tell the target's distance.
        interval: Span::from_secs(10),
        flows: 1,
        source_port,
        ssid: Some(Ssid(1)),
        timeout: Span::from_secs(1),
        trace_interval: args.interval,
        path_mtu_interval: None,
        dscp: 0,
        precise: false,
        time_unit: Span::from_nanos(1),
        authenticated: None,
        key: None,
    };
    session.in_range()?;
    let setup = SessionSetup {
        plan: session,
        source,
        destination,
        keys: None,
        max_hops: args.max_hops,
    };
    let (records, batches) = sync_channel(64);
    let session = Session::open(&setup, &RawSockets::default(), records)?;
    let rights = privilege::give_up_all()?;
    if !rights.raw_sockets {
        output::note(privilege::WITHOUT_RAW_SOCKETS);
    }
    let stop = Stop::default();
    signals::end_in_order(&stop, AlsoEnds::ReaderGone(Stream::Output))?;
    let thread = std::thread::Builder::new()
        .name("trace".to_owned())
        .spawn({
            let stop = stop.clone();
            move || session.run(&stop)
        })?;
    let mut printed = Ok(());
    let mut left = if args.count == 0 {
        u32::MAX
    } else {
        args.count
    };
    for trace in batches.iter().flat_map(|batch| batch.traces) {
        if left == 0 {
            continue;
        }
        let text = if args.json {
            serde_json::to_string(&Exported::of(&trace, destination))? + "\n"
        } else {
            lines(&trace, source_port, destination)
        };
        if let Err(error) = output::print(&text) {
            // The reader has closed the pipe, or the output failed.
            printed = Err(error);
            left = 0;
            stop.request();
            continue;
        }
        if args.count > 0 {
            left -= 1;
        }
        if left == 0 {
            stop.request();
        }
    }
    let _ = thread.join();
    output::quiet(printed).map_err(TraceError::Output)
}

fn lines(trace: &Trace, source_port: u16, destination: SocketAddr) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "path of UDP port {} to {destination}, taken in {}",
        source_port,
        text::span(Nanos(trace.finished - trace.started))
    );
    for hop in &trace.hops {
        let Some(first) = hop.replies.first() else {
            if hop.sent == 0 {
                let _ = writeln!(out, "{:>3}         -     (not asked)", hop.ttl);
                continue;
            }
            let _ = writeln!(
                out,
                "{:>3}         *     (no answer to {} tries)",
                hop.ttl, hop.sent
            );
            continue;
        };
        let best = hop
            .replies
            .iter()
            .map(|r| r.round_trip)
            .min()
            .unwrap_or(first.round_trip);
        let mut addresses: Vec<String> = hop.replies.iter().map(|r| r.from.to_string()).collect();
        addresses.dedup();
        let note = match first.kind {
            HopReplyKind::TimeExceeded => String::new(),
            HopReplyKind::Reflected => "  (reflector)".to_owned(),
            HopReplyKind::Unreachable(code) if first.from == destination.ip() => {
                if code == port_unreachable(first.from) {
                    "  (reached, nothing listens on the port)".to_owned()
                } else {
                    format!("  (reached: {})", text::unreachable(first.from, code))
                }
            }
            HopReplyKind::Unreachable(code) => {
                format!("  ({})", text::unreachable(first.from, code))
            }
        };
        let _ = writeln!(
            out,
            "{:>3}  {:>8} ms  {}{note}",
            hop.ttl,
            text::millis(Nanos(best)),
            addresses.join(", ")
        );
    }
    if trace.reached_at.is_none() {
        let _ = match refusal(trace) {
            Some((from, code)) => writeln!(
                out,
                "     {from} passes nothing on to the target: {}",
                text::unreachable(from, code)
            ),
            None => writeln!(
                out,
                "     the target did not answer\n     (an agent that runs by a plan answers the plan's sessions alone: trace a\n     port on which nothing listens there, such as {})",
                SocketAddr::new(destination.ip(), UNUSED_PORT)
            ),
        };
    }
    out
}

/// Returns who refused to forward packets, and the ICMP code, if the path ends with a refusal.
fn refusal(trace: &Trace) -> Option<(IpAddr, u8)> {
    let last = trace.hops.last()?.replies.first()?;
    match last.kind {
        HopReplyKind::Unreachable(code) => Some((last.from, code)),
        HopReplyKind::TimeExceeded | HopReplyKind::Reflected => None,
    }
}

/// Returns the ICMP code for a port on which nothing listens (RFC 792, RFC 4443).
fn port_unreachable(from: IpAddr) -> u8 {
    match from {
        IpAddr::V4(_) => 3,
        IpAddr::V6(_) => 4,
    }
}

/// One trace as JSON.
#[derive(Serialize)]
struct Exported {
    target: SocketAddr,
    reached_at: Option<u8>,
    took_ns: i64,
    hops: Vec<ExportedHop>,
}

#[derive(Serialize)]
struct ExportedHop {
    hop: u8,
    sent: u8,
    replies: Vec<ExportedReply>,
}

#[derive(Serialize)]
struct ExportedReply {
    from: IpAddr,
    round_trip_ns: i64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    /// What the code means.
    #[serde(skip_serializing_if = "Option::is_none")]
    meaning: Option<String>,
}

impl Exported {
    fn of(trace: &Trace, target: SocketAddr) -> Self {
        let reply = |r: &hopgap_proto::record::HopReply| {
            let (kind, code) = match r.kind {
                HopReplyKind::TimeExceeded => ("time_exceeded", None),
                HopReplyKind::Unreachable(code) => ("unreachable", Some(code)),
                HopReplyKind::Reflected => ("reflected", None),
            };
            ExportedReply {
                from: r.from,
                round_trip_ns: r.round_trip.as_nanos(),
                kind,
                code,
                meaning: code.map(|code| text::unreachable(r.from, code)),
            }
        };
        Self {
            target,
            reached_at: trace.reached_at,
            took_ns: (trace.finished - trace.started).as_nanos(),
            hops: trace
                .hops
                .iter()
                .map(|h| ExportedHop {
                    hop: h.ttl,
                    sent: h.sent,
                    replies: h.replies.iter().map(reply).collect(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
