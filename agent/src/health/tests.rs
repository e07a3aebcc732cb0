use super::*;
use hopgap_proto::uplink::AgentPart;

fn name(name: &str) -> SessionName {
    name.parse().unwrap()
}

const IN_USE: RunFault = RunFault::PortInUse {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    port: 50_003,
};

#[test]
fn seven_flows_run_and_the_eighth_says_why_not() {
    let health = Health::default();
    let session = health.session(&name("a-b"));
    session.set_flows(8, vec![(FlowIndex(3), IN_USE)]);
    let (sessions, faults) = health.report();
    assert_eq!(faults, []);
    assert_eq!(
        sessions,
        [SessionReport {
            name: name("a-b"),
            running: 7,
            faults: vec![FlowFault {
                flow: Some(FlowIndex(3)),
                why: IN_USE
            }],
        }]
    );
    let changes = health.changes();
    session.set_flows(8, vec![(FlowIndex(3), IN_USE)]);
    assert_eq!(health.changes(), changes, "nothing changed");
    session.set_flows(8, Vec::new());
    assert_eq!(health.changes(), changes + 1);
    let (sessions, _) = health.report();
    assert_eq!((sessions[0].running, &sessions[0].faults[..]), (8, &[][..]));
}

#[test]
fn what_fails_is_told_until_it_runs_or_is_no_more_wanted() {
    let health = Health::default();
    let address = RunFault::AddressNotHere {
        address: [10, 9, 9, 9].into(),
    };
    let part = AgentFault {
        part: AgentPart::Reflector,
        why: address,
    };
    health.set(&BTreeMap::from([(name("a-b"), address)]), vec![part]);
    let (sessions, faults) = health.report();
    assert_eq!(sessions[0].running, 0);
    assert_eq!(sessions[0].faults[0].why, address);
    assert_eq!(faults, [part]);
    health.set(&BTreeMap::new(), Vec::new());
    assert_eq!(health.report(), (vec![], vec![]));

    let refused = RunFault::EverySendRefused { errno: 101 };
    let session = health.session(&name("a-b"));
    session.set_flows(8, Vec::new());
    session.set_refusing(Some(refused));
    health.set(&BTreeMap::new(), Vec::new());
    assert_eq!(health.report().0[0].faults[0].why, refused);
    session.set_refusing(None);
    assert_eq!(health.report().0[0].faults, []);
    health.forget(&name("a-b"));
    assert_eq!(health.report().0, []);
}
