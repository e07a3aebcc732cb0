use super::super::edit::tests::frame;
use super::{Fate, Network, Program, Scenario};
use crate::wire::packet::Frame;
use hopgap_proto::time::{Mono, Span};

fn network(events: &str) -> Network {
    let text = format!("about = \"x\"\n{events}");
    let scenario = Scenario::parse("x", &text).expect("right");
    Network::new(&scenario, &Program::draw(&scenario, 1), 1)
}

fn carry(network: &mut Network, side: usize, millis: i64, frame: Vec<u8>) -> Fate {
    let at = Span::from_millis(millis);
    network.carry(side, Mono::from_nanos(0) + at, at, frame)
}

#[test]
fn a_packet_takes_its_path_and_loses_ttl() {
    let mut network =
        network("[[event]]\nat = \"1s\"\ndirection = \"forward\"\nwhat = { path = \"vpn\" }\n");
    for (millis, ttl, delay) in [(999, 251, 5), (1000, 253, 8)] {
        let fate = carry(&mut network, 0, millis, frame(255, 72));
        let out = &fate.leaving[0];
        assert_eq!(Frame::parse(&out.bytes).expect("IPv4").ttl(), ttl);
        assert_eq!(out.due.as_nanos(), (millis + delay) * 1_000_000);
        assert_eq!(out.side, 1);
        assert!(fate.lost.is_none());
    }
}

#[test]
fn routers_answer_what_expires_and_an_outage_lies_behind_the_first() {
    let mut network = network("[[event]]\nat = \"1s\"\nwhat = \"drop\"\n");
    for (millis, ttl, answers) in [
        (0, 1, true),
        (0, 3, true),
        (1000, 1, true),
        (1000, 3, false),
    ] {
        let fate = carry(&mut network, 0, millis, frame(ttl, 72));
        assert_eq!(fate.leaving.len(), usize::from(answers), "{millis} {ttl}");
        assert!(fate.leaving.iter().all(|out| out.side == 0));
        assert!(fate.lost.is_some());
    }
}

#[test]
fn an_outage_has_its_flow_and_its_direction() {
    let events = "[[event]]\nat = \"1s\"\nfor = \"1s\"\nflow = 0\ndirection = \"forward\"\nwhat = \"drop\"\n";
    let mut first = network(events);
    assert!(carry(&mut first, 0, 1500, frame(255, 72)).lost.is_some());
    assert!(carry(&mut first, 1, 1500, frame(255, 72)).lost.is_none());
    assert!(carry(&mut first, 0, 2000, frame(255, 72)).lost.is_none());
    let mut second = network(&events.replace("flow = 0", "flow = 1"));
    assert!(carry(&mut second, 0, 1500, frame(255, 72)).lost.is_none());
}

#[test]
fn what_is_too_large_comes_back_as_an_error() {
    let mut network = network("[[event]]\nat = \"0s\"\nwhat = { path = \"vpn\" }\n");
    let fate = carry(&mut network, 0, 1, frame(255, 1451));
    assert_eq!(fate.leaving[0].side, 0);
    assert!(carry(&mut network, 0, 1, frame(255, 1450)).lost.is_none());
}

#[test]
fn a_queue_delays_before_it_overflows() {
    let mut network =
        network("[[event]]\nat = \"0s\"\nwhat = { queue = { rate = 100, holds = 5 } }\n");
    // Eight at once, of which five find room, each 10 ms behind the other.
    let fates: Vec<Fate> = (0..8)
        .map(|_| carry(&mut network, 0, 0, frame(255, 72)))
        .collect();
    let due: Vec<i64> = fates
        .iter()
        .flat_map(|fate| &fate.leaving)
        .map(|l| l.due.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(due, [15, 25, 35, 45, 55]);
    // Half of them have left after 25 ms.
    let fate = carry(&mut network, 0, 25, frame(255, 72));
    assert_eq!(fate.leaving[0].due.as_nanos() / 1_000_000, 25 + 35 + 5);
}

#[test]
fn what_is_held_comes_at_once_and_in_order() {
    let mut network = network("[[event]]\nat = \"1s\"\nfor = \"2s\"\nwhat = \"hold\"\n");
    for (millis, due) in [(999, 1004), (1000, 3000), (2998, 3003), (3000, 3005)] {
        let fate = carry(&mut network, 0, millis, frame(255, 72));
        assert_eq!(fate.leaving[0].due.as_nanos() / 1_000_000, due, "{millis}");
    }
}

#[test]
fn routers_answer_as_much_as_they_may() {
    let mut network =
        network("[[event]]\nat = \"0s\"\nwhat = { icmp-limit = { rate = 1, burst = 3 } }\n");
    let answers = |network: &mut Network, millis| {
        (0..5)
            .filter(|_| !carry(network, 0, millis, frame(2, 72)).leaving.is_empty())
            .count()
    };
    assert_eq!(answers(&mut network, 0), 3);
    assert_eq!(answers(&mut network, 2000), 2);
    // What goes through is not touched.
    assert_eq!(
        carry(&mut network, 0, 2000, frame(255, 72)).leaving.len(),
        1
    );
}
