use super::super::tests::truth;
use super::{Judgement, article};
use crate::drill::judge::report::Report;
use crate::fault::Fault;
use crate::truth::{TruePath, Truth};

/// All flows left the primary circuit for the VPN and came back to another first.
fn came_back_to(circuit: TruePath) -> Truth {
    let mut truth = truth();
    for flow in truth.flows.values_mut() {
        let mut last = flow.paths[1];
        last.path = circuit;
        flow.paths.push(last);
        last.path = TruePath::ExpressroutePrimary;
        flow.paths.push(last);
    }
    truth
}

/// With the hop tables of a failover from the primary circuit and of a failback to another.
fn report(failback: TruePath) -> Report {
    let hops = |path: TruePath| -> Vec<serde_json::Value> {
        let hops = article(path).iter();
        hops.map(|address| serde_json::json!({ "address": address }))
            .collect()
    };
    let transition = |kind: &str, before: TruePath, after: TruePath| {
        serde_json::json!({"kind": kind, "remarks": [], "hop_tables": [{
            "session": "onprem-azure",
            "before": {"hops": hops(before)},
            "after": {"hops": hops(after)},
        }]})
    };
    let report = serde_json::json!({"findings": {
        "verdict": {"result": "met"},
        "coverage": {"directions": []},
        "sessions": [],
        "transitions": [
            transition("failover", TruePath::ExpressroutePrimary, TruePath::Vpn),
            transition("failback", TruePath::Vpn, failback),
        ],
    }});
    serde_json::from_value(report).unwrap()
}

#[test]
fn the_route_after_a_failback_is_that_of_the_circuit_that_came_back_first() {
    let (primary, secondary) = (
        TruePath::ExpressroutePrimary,
        TruePath::ExpressrouteSecondary,
    );
    for truly in [primary, secondary] {
        for said in [primary, secondary] {
            let mut judgement = Judgement::default();
            judgement.expect_routes(Fault::Admin, &report(said), &came_back_to(truly));
            let faults = &judgement.faults;
            assert_eq!(
                faults.is_empty(),
                truly == said,
                "{said:?} for {truly:?}: {faults:?}"
            );
        }
    }
}
