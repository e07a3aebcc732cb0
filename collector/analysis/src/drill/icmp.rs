//! ICMP errors as evidence: which router lost the route, and when.

use super::{Cluster, Scene};
use crate::findings::IcmpFinding;
use crate::schema::Utc;
use crate::text::unreachable;
use hopgap_proto::record::{EventKind, IcmpEvidence};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A router may answer the first lost probe before a later one is dated as lost.
const MARGIN: Span = Span::from_secs(1);

/// ICMP errors of a transition, by session, router and meaning.
pub(super) fn find(scene: &Scene<'_>, cluster: &Cluster<'_>) -> Vec<IcmpFinding> {
    let from = (cluster.started - MARGIN).max(cluster.not_before);
    let to = (cluster.settled + MARGIN).min(cluster.not_after);
    let mut found = Vec::new();
    for session in scene.sessions {
        let mut by_kind: BTreeMap<(IpAddr, String), (u64, Wall, Wall)> = BTreeMap::new();
        for run in &session.runs {
            for event in &run.events {
                let EventKind::Icmp(evidence) = event.kind else {
                    continue;
                };
                let at = run.timeline.utc(event.at);
                if at < from || to < at {
                    continue;
                }
                let entry = by_kind
                    .entry((evidence.from, meaning_of(&evidence)))
                    .or_insert((0, at, at));
                *entry = (entry.0 + 1, entry.1.min(at), entry.2.max(at));
            }
        }
        found.extend(
            by_kind
                .into_iter()
                .map(|((from, meaning), (count, first, last))| IcmpFinding {
                    session: session.plan.name.to_string(),
                    from: from.to_string(),
                    meaning,
                    count,
                    first: Utc(first),
                    last: Utc(last),
                }),
        );
    }
    found.sort_by(|a, b| (a.first, &a.session, &a.from).cmp(&(b.first, &b.session, &b.from)));
    found
}

fn meaning_of(evidence: &IcmpEvidence) -> String {
    let IcmpEvidence {
        from,
        icmp_type,
        code,
        mtu,
        ..
    } = *evidence;
    meaning(from, icmp_type, code, mtu)
}

/// What an ICMP error said (RFC 792, RFC 1122, RFC 1812; RFC 4443 for version 6).
pub(crate) fn meaning(from: IpAddr, icmp_type: u8, code: u8, mtu: Option<u32>) -> String {
    let mtu = || {
        mtu.map_or_else(String::new, |mtu| {
            format!(" (next hop's MTU is {mtu} bytes)")
        })
    };
    match (from.is_ipv6(), icmp_type, code) {
        (false, 3, 4) => format!("{}{}", unreachable(from, 4), mtu()),
        (false, 3, code) | (true, 1, code) => unreachable(from, code),
        (true, 2, _) => format!("packet too big{}", mtu()),
        (false, 11, 0) | (true, 3, 0) => {
            "time to live exceeded in transit (a routing loop)".to_owned()
        }
        (false, 11, _) | (true, 3, _) => "fragment reassembly time exceeded".to_owned(),
        (false, 4, _) => "source quench".to_owned(),
        (false, 5, _) => "redirect".to_owned(),
        (false, 12, _) | (true, 4, _) => "parameter problem".to_owned(),
        (_, kind, code) => format!("ICMP type {kind} code {code}"),
    }
}
