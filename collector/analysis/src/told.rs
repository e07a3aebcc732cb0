//! What the agents themselves say of a session beside its probes: that its packets come
//! from a translated address, and why flows of it did not run.

use crate::align::{Run, Session};
use crate::schema::Utc;
use hopgap_proto::record::{EventKind, FlowIndex, RunFault};
use hopgap_proto::time::Wall;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Packets of a session came from another address than the plan's, and the session's HMAC
/// proves that the other end made them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Translation {
    /// Whose address was translated: the agent that sent the packets.
    pub of: String,
    /// Who saw it.
    pub seen_by: String,
    /// The address that they came from.
    pub address: String,
    /// When the first came, on the clock of who saw it.
    pub first: Utc,
    /// When the last came.
    pub last: Utc,
    /// How many came. Of a stretch that reaches beyond what is judged all count.
    pub packets: u64,
}

/// A stretch in which a flow, or a whole session, did not run. Nothing was sent in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotRunning {
    /// The flow; `null` for the session.
    pub flow: Option<u8>,
    /// Why.
    pub why: NotRunningCause,
    /// From when on, on the sender's clock.
    pub first: Utc,
    /// Until when it is known.
    pub last: Utc,
}

/// Why a flow or a session did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotRunningCause {
    /// Another program has the UDP port.
    PortInUse {
        /// The agent's address.
        address: String,
        /// The port.
        port: u16,
    },
    /// The plan's address of the agent is none of its host.
    AddressNotHere {
        /// The address.
        address: String,
    },
    /// The agent may not have the port, or a raw socket.
    NotPermitted {
        /// The port.
        port: Option<u16>,
    },
    /// The two ends have addresses of different families.
    MixedFamilies {
        /// The sender's.
        from: String,
        /// The reflector's.
        to: String,
    },
    /// The key is absent or cannot be used.
    UnusableKey,
    /// The kernel refused every send.
    EverySendRefused {
        /// As in errno(3).
        errno: i32,
    },
    /// The kernel refused a socket or a thread.
    Refused {
        /// As in errno(3).
        errno: i32,
    },
    /// The plan does not say where the ends are.
    NoEnds,
    /// It ended by a fault of the program.
    Ended,
    /// A reason that this build does not know.
    Other,
}

impl From<RunFault> for NotRunningCause {
    fn from(fault: RunFault) -> Self {
        match fault {
            RunFault::PortInUse { address, port } => Self::PortInUse {
                address: address.to_string(),
                port,
            },
            RunFault::AddressNotHere { address } => Self::AddressNotHere {
                address: address.to_string(),
            },
            RunFault::NotPermitted { port } => Self::NotPermitted { port },
            RunFault::MixedFamilies { from, to } => Self::MixedFamilies {
                from: from.to_string(),
                to: to.to_string(),
            },
            RunFault::UnusableKey => Self::UnusableKey,
            RunFault::EverySendRefused { errno } => Self::EverySendRefused { errno },
            RunFault::Refused { errno } => Self::Refused { errno },
            RunFault::NoEnds => Self::NoEnds,
            RunFault::Ended => Self::Ended,
            RunFault::Other => Self::Other,
        }
    }
}

/// The translated addresses of a session's packets, both ways.
pub(crate) fn translations(session: &Session<'_>) -> Vec<Translation> {
    let (from, to) = (session.plan.from.to_string(), session.to_name());
    let mut by_address: BTreeMap<(bool, IpAddr), (Wall, Wall, u64)> = BTreeMap::new();
    let mut add = |forward, address, first: Wall, last: Wall, packets: u32| {
        let entry = by_address
            .entry((forward, address))
            .or_insert((first, last, 0));
        let packets = entry.2.saturating_add(u64::from(packets));
        *entry = (entry.0.min(first), entry.1.max(last), packets);
    };
    for seen in &session.log.translated {
        // The judged time ends with the last probe.
        if let Some((first, last)) = judged(session)
            && seen.first <= last
            && first <= seen.last
        {
            let (first, last) = (seen.first.max(first), seen.last.min(last));
            add(true, seen.address, first, last, seen.packets);
        }
    }
    for run in &session.runs {
        for event in &run.events {
            let EventKind::AddressTranslated {
                address,
                since,
                count,
            } = event.kind
            else {
                continue;
            };
            let utc = |at| run.timeline.utc(at);
            add(false, address, utc(since), utc(event.at), count);
        }
    }
    // Packets to the reflector first.
    let found = by_address.into_iter().rev();
    found
        .map(|((forward, address), (first, last, packets))| {
            let (of, seen_by) = if forward { (&from, &to) } else { (&to, &from) };
            Translation {
                of: of.clone(),
                seen_by: seen_by.clone(),
                address: address.to_string(),
                first: Utc(first),
                last: Utc(last),
                packets,
            }
        })
        .collect()
}

/// Returns when the judged probes were expected at the reflector, first and last, on its wall
/// clock.
fn judged(session: &Session<'_>) -> Option<(Wall, Wall)> {
    let expected = session.runs.iter().enumerate().flat_map(|(i, run)| {
        let ends = run.flows.values().flat_map(|flow| {
            let samples = &flow.samples;
            [samples.first(), samples.last()].into_iter().flatten()
        });
        ends.map(move |s| session.log.expected(i, &run.timeline, s.sent))
    });
    expected.fold(None, |range, at| {
        let (first, last) = range.unwrap_or((at, at));
        Some((at.min(first), at.max(last)))
    })
}

/// A stretch in which the whole session, or one flow, did not run, and why.
pub(crate) type Silent = (Option<FlowIndex>, RunFault, Wall, Wall);

/// Stretches in which flows of a session did not run, joined where one follows the other.
pub(crate) fn not_running(session: &Session<'_>) -> Vec<Silent> {
    let mut found: Vec<Silent> = Vec::new();
    for run in &session.runs {
        let mut open: BTreeMap<(Option<FlowIndex>, RunFault), usize> = BTreeMap::new();
        for (flow, why, first, last) in told_by(run) {
            let before = open.get(&(flow, why)).and_then(|i| found.get_mut(*i));
            match before.filter(|(_, _, _, end)| first <= *end) {
                Some((_, _, _, end)) => *end = last.max(*end),
                None => {
                    open.insert((flow, why), found.len());
                    found.push((flow, why, first, last));
                }
            }
        }
    }
    found.sort_by_key(|(flow, _, first, _)| (*first, *flow));
    found
}

fn told_by(run: &Run) -> impl Iterator<Item = Silent> {
    run.events.iter().filter_map(|event| match event.kind {
        EventKind::NotRunning { flow, why, since } => Some((
            flow,
            why,
            run.timeline.utc(since),
            run.timeline.utc(event.at),
        )),
        _ => None,
    })
}

/// The same stretches as findings.
pub(crate) fn not_running_findings(session: &Session<'_>) -> Vec<NotRunning> {
    let stretches = not_running(session).into_iter();
    stretches
        .map(|(flow, why, first, last)| NotRunning {
            flow: flow.map(|f| f.0),
            why: why.into(),
            first: Utc(first),
            last: Utc(last),
        })
        .collect()
}

#[cfg(test)]
mod tests;
