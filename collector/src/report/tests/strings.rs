//! Every text in findings that comes from outside.

use hopgap_analysis::findings::*;

/// Calls `f` on each.
pub(super) fn each(findings: &mut Findings, f: &mut dyn FnMut(&mut String)) {
    findings.markers.iter_mut().for_each(|m| f(&mut m.text));
    for session in &mut findings.sessions {
        f(&mut session.session);
        f(&mut session.from);
        f(&mut session.to);
        for flow in &mut session.flows {
            for epoch in flow.forward_paths.iter_mut().chain(&mut flow.reverse_paths) {
                epoch.path.iter_mut().for_each(&mut *f);
                epoch.hops.iter_mut().flatten().for_each(&mut *f);
            }
        }
        for latency in &mut session.latency {
            latency.forward.iter_mut().for_each(&mut *f);
            latency.reverse.iter_mut().for_each(&mut *f);
        }
        for second in &mut session.seconds {
            second.path.iter_mut().for_each(&mut *f);
        }
        for mtu in &mut session.path_mtu {
            mtu.forward.iter_mut().for_each(&mut *f);
            mtu.reverse.iter_mut().for_each(&mut *f);
            mtu.router.iter_mut().for_each(&mut *f);
            mtu.out.router.iter_mut().for_each(&mut *f);
            mtu.back.router.iter_mut().for_each(&mut *f);
        }
        for asymmetry in &mut session.asymmetries {
            asymmetry.forward.iter_mut().for_each(&mut *f);
            asymmetry.reverse.iter_mut().for_each(&mut *f);
        }
    }
    findings
        .transitions
        .iter_mut()
        .for_each(|t| transition(t, f));
    for echo in &mut findings.echoes {
        f(&mut echo.target);
        f(&mut echo.from);
        f(&mut echo.address);
    }
    for direction in &mut findings.coverage.directions {
        f(&mut direction.from);
        f(&mut direction.to);
        direction.sessions.iter_mut().for_each(&mut *f);
        direction.missing.iter_mut().for_each(|m| missing(m, f));
    }
    if let VerdictReason::TooLittleMissing { missing: m, .. } = &mut findings.verdict.reason {
        missing(m, f);
    }
    for route in &mut findings.unnamed_routes {
        f(&mut route.session);
        f(&mut route.from);
        f(&mut route.to);
        route.hops.iter_mut().flatten().for_each(&mut *f);
    }
    findings.paths.iter_mut().for_each(&mut *f);
    f(&mut findings.verdict.sentence);
    findings.caveats.iter_mut().for_each(f);
}

fn missing(missing: &mut Missing, f: &mut dyn FnMut(&mut String)) {
    if let MissingCause::HostStalled { agent } = &mut missing.cause {
        f(agent);
    }
}

fn transition(transition: &mut Transition, f: &mut dyn FnMut(&mut String)) {
    if let Some(marker) = &mut transition.marker {
        f(&mut marker.text);
    }
    for direction in &mut transition.directions {
        f(&mut direction.session);
        f(&mut direction.from);
        f(&mut direction.to);
        for row in &mut direction.rows {
            row.path_before.iter_mut().for_each(&mut *f);
            row.path_after.iter_mut().for_each(&mut *f);
        }
    }
    for table in &mut transition.hop_tables {
        f(&mut table.session);
        let routes = [&mut table.before, &mut table.during, &mut table.after];
        for route in routes.into_iter().flatten() {
            route.path.iter_mut().for_each(&mut *f);
            for hop in &mut route.hops {
                hop.address.iter_mut().for_each(&mut *f);
                hop.unreachable.iter_mut().for_each(&mut *f);
            }
        }
    }
    for icmp in &mut transition.icmp {
        f(&mut icmp.session);
        f(&mut icmp.from);
        f(&mut icmp.meaning);
    }
    transition.remarks.iter_mut().for_each(f);
}
