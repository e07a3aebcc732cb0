use super::*;
use crate::recorder::Batch;
use hopgap_proto::record::{Event, EventKind, FlowIndex};
use hopgap_proto::uplink::SessionReport;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// A plan of two agents on the loopback interface, each with a session to the other.
fn plan(first_port: u16) -> Plan {
    let text = format!(
        r#"
        [[agent]]
        name = "a"
        address = "127.0.0.1"
        reflector_port = {}
        [[agent]]
        name = "b"
        address = "127.0.0.2"
        reflector_port = 8862
        [[session]]
        name = "a-b"
        from = "a"
        to = "b"
        source_port = {first_port}
        authenticated = false
        trace_interval = "0s"
        path_mtu_interval = "0s"
        "#,
        first_port - 1
    );
    toml::from_str::<Plan>(&text).unwrap().checked().unwrap()
}

/// The first of nine ports that are free one after the other.
fn free_ports() -> u16 {
    let is_free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    (20_000..60_000)
        .step_by(9)
        .skip(usize::try_from(std::process::id() % 2_000).unwrap())
        .find(|first| (*first..first + 9).all(is_free))
        .unwrap()
        + 1
}

fn wait_for(health: &Health, what: impl Fn(&SessionReport) -> bool) -> SessionReport {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (sessions, _) = health.report();
        if let Some(session) = sessions.iter().find(|s| what(s)) {
            return session.clone();
        }
        assert!(Instant::now() < end, "{sessions:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn events_of(batches: &Receiver<Batch>) -> Vec<Event> {
    let ours = |b: &Batch| b.session.as_ref().is_some_and(|s| s.as_str() == "a-b");
    let batches = batches.try_iter().filter(ours);
    batches.flat_map(|b| b.events).collect()
}

#[test]
fn one_port_that_another_has_holds_up_one_flow_only() {
    let first = free_ports();
    let held = first + 3;
    let holder = UdpSocket::bind(("127.0.0.1", held)).unwrap();
    let (records, batches) = sync_channel(100_000);
    let health = Health::default();
    let mut work = Work::new("a".parse().unwrap(), records, health.clone());
    let plan = plan(first);
    work.follow(&plan);
    let session = wait_for(&health, |s| s.running == 7);
    let why = RunFault::PortInUse {
        address: [127, 0, 0, 1].into(),
        port: held,
    };
    assert_eq!(session.faults.len(), 1);
    assert_eq!(
        (session.faults[0].flow, session.faults[0].why),
        (Some(FlowIndex(3)), why)
    );
    drop(holder);
    let session = wait_for(&health, |s| s.running == 8);
    assert_eq!(session.faults, []);
    std::thread::sleep(Duration::from_millis(500));
    work.end();
    let mut flows = [0_u32; 8];
    let mut told = Vec::new();
    let mut starts = 0;
    for batch in batches.try_iter() {
        for probe in &batch.probes {
            flows[usize::from(probe.flow.0)] += 1;
        }
        for event in batch.events {
            match event.kind {
                EventKind::NotRunning { flow, why, since } => {
                    told.push((flow, why, since, event.at))
                }
                EventKind::SessionStarted => starts += 1,
                EventKind::SlotsSkipped {
                    flow: FlowIndex(3), ..
                } => {
                    assert!(told.len() > 1, "before it ran nothing was left out");
                }
                _ => {}
            }
        }
    }
    assert_eq!(starts, 1, "the session goes on");
    assert!(flows.iter().all(|n| *n > 10), "{flows:?}");
    assert!(flows[3] * 2 < flows[4], "{flows:?}");
    assert!(told.iter().all(|t| (t.0, t.1) == (Some(FlowIndex(3)), why)));
    // From its start until it opened, without a gap.
    assert!(
        told.len() >= 2 && told.windows(2).all(|w| w[1].2 <= w[0].3),
        "{told:?}"
    );
}

#[test]
fn why_a_session_does_not_run_is_told_and_recorded() {
    let (records, batches) = sync_channel(1_000);
    let health = Health::default();
    let mut work = Work::new("a".parse().unwrap(), records, health.clone());
    let mut wrong = plan(free_ports());
    let why_of = |work: &mut Work, plan: &Plan| {
        assert!(!work.follow(plan));
        let (sessions, faults) = health.report();
        (sessions[0].running, sessions[0].faults[0].why, faults)
    };
    // RFC 5737: no host has it.
    let address = "192.0.2.77".parse().unwrap();
    wrong.agents[0].address = address;
    let (running, why, faults) = why_of(&mut work, &wrong);
    assert_eq!((running, why), (0, RunFault::AddressNotHere { address }));
    assert_eq!(
        (faults[0].part, faults[0].why),
        (AgentPart::Reflector, RunFault::AddressNotHere { address })
    );
    let from = "::1".parse().unwrap();
    wrong.agents[0].address = from;
    let to = "127.0.0.2".parse().unwrap();
    let (_, why, _) = why_of(&mut work, &wrong);
    assert_eq!(why, RunFault::MixedFamilies { from, to });
    wrong.agents[0].address = [127, 0, 0, 1].into();
    wrong.sessions[0].authenticated = Some(true);
    let (_, why, _) = why_of(&mut work, &wrong);
    assert_eq!(why, RunFault::UnusableKey);
    work.end();
    let told: Vec<_> = events_of(&batches)
        .into_iter()
        .filter_map(|e| match e.kind {
            EventKind::NotRunning {
                flow: None, why, ..
            } => Some(why),
            _ => None,
        })
        .collect();
    assert_eq!(told.first(), Some(&RunFault::AddressNotHere { address }));
    assert_eq!(told.last(), Some(&RunFault::UnusableKey));
}

#[test]
fn what_a_changed_plan_brings_begins_when_the_peer_can_have_it() {
    let (records, batches) = sync_channel(100_000);
    let mut work = Work::new("a".parse().unwrap(), records, Health::default());
    let mut plan = plan(free_ports());
    plan.sessions[0].timeout = Span::from_millis(10);
    assert!(work.follow(&plan));
    // Other numbers of the session: it ends and begins anew.
    plan.sessions[0].ssid = Some(hopgap_proto::stamp::Ssid(6_401));
    let changed = Clock::now();
    assert!(!work.follow(&plan));
    let begins = work.waits_until().expect("it waits");
    assert!(begins >= changed + PEER_FOLLOWS, "{begins:?}, {changed:?}");
    while Clock::now() < begins {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(work.follow(&plan));
    assert_eq!(work.waits_until(), None);
    work.end();
    let events = events_of(&batches);
    let of = |kind: EventKind| -> Vec<Mono> {
        let events = events.iter().filter(|e| e.kind == kind);
        events.map(|e| e.at).collect()
    };
    let starts = of(EventKind::SessionStarted);
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert!(starts[1] >= begins, "{starts:?}, {begins:?}");
    // Until then the first one went on.
    let stops = of(EventKind::SessionStopped);
    assert!(stops[0] >= begins, "{stops:?}, {begins:?}");
}

#[test]
fn why_a_session_does_not_run_waits_for_a_recorder_that_is_behind() {
    let (records, batches) = sync_channel(1);
    let mut work = Work::new("a".parse().unwrap(), records.clone(), Health::default());
    let mut wrong = plan(free_ports());
    // RFC 5737: no host has it.
    wrong.agents[0].address = "192.0.2.77".parse().unwrap();
    records.send(Batch::default()).unwrap();
    assert!(!work.follow(&wrong));
    // The recorder takes what it was given before, and then there is room.
    assert_eq!(batches.try_iter().count(), 1);
    assert!(!work.follow(&wrong));
    let told = events_of(&batches);
    assert!(
        matches!(
            told[..],
            [Event {
                kind: EventKind::NotRunning { .. },
                ..
            }]
        ),
        "{told:?}"
    );
}
