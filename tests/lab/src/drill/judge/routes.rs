//! The traceroutes of a failover and a failback.

use super::report::{HopTable, Report};
use super::{Judgement, session_of};
use crate::fault::Fault;
use crate::truth::{Direction, TruePath, Truth};
use std::collections::BTreeSet;

impl Judgement {
    /// The article's traceroutes, where the fault is the article's: of the circuits that flows
    /// truly left for the VPN and came back to. After a heal one circuit may come back seconds
    /// before the other.
    pub(super) fn expect_routes(&mut self, fault: Fault, report: &Report, truth: &Truth) {
        if fault != Fault::Admin {
            return;
        }
        for kind in ["failover", "failback"] {
            let changes = changes_to_and_from_vpn(truth, kind);
            let tables: Vec<&HopTable> = report
                .findings
                .transitions
                .iter()
                .filter(|t| t.kind == kind)
                .flat_map(|t| &t.hop_tables)
                .collect();
            let shows = |table: &HopTable| {
                table.session == "onprem-azure"
                    && changes.iter().any(|(before, after)| {
                        table.before() == article(*before) && table.after() == article(*after)
                    })
            };
            if !tables.iter().any(|table| shows(table)) {
                self.faults.push(format!(
                    "no hop table of the {kind} shows the article's traceroutes of {changes:?}; those shown: {tables:?}"
                ));
            }
        }
    }
}

/// The article's traceroute from the server by a path.
fn article(path: TruePath) -> &'static [Option<&'static str>] {
    match path {
        TruePath::ExpressroutePrimary => &[
            Some("10.1.11.1"),
            Some("192.168.11.0"),
            Some("192.168.11.18"),
            None,
            Some("10.17.11.132"),
        ],
        TruePath::ExpressrouteSecondary => &[
            Some("10.1.11.1"),
            Some("192.168.11.2"),
            Some("192.168.11.22"),
            None,
            Some("10.17.11.132"),
        ],
        TruePath::Vpn => &[Some("10.1.11.1"), None, Some("10.17.11.132")],
    }
}

/// From which path to which flows from the server changed when they left for the VPN
/// (`failover`), or came back.
fn changes_to_and_from_vpn(truth: &Truth, kind: &str) -> BTreeSet<(TruePath, TruePath)> {
    let flows = truth.flows.values();
    let of_the_session = flows.filter(|flow| {
        session_of(flow) == "onprem-azure" && flow.flow.direction() == Direction::Forward
    });
    let changes = of_the_session.flat_map(|flow| {
        let names = flow.path_names();
        let pairs = names.windows(2).map(|pair| (pair[0], pair[1]));
        pairs.collect::<Vec<_>>()
    });
    changes
        .filter(|(before, after)| match kind {
            "failover" => *after == TruePath::Vpn,
            _ => *before == TruePath::Vpn,
        })
        .collect()
}

#[cfg(test)]
mod tests;
