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
