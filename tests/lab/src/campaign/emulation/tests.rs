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

#[test]
fn a_path_translates_the_address_of_what_a_begins_and_brings_the_answers_back() {
    use crate::campaign::edit::{End, address, set_address, set_port};
    use crate::campaign::emulation::{HOSTS, TRANSLATED};
    let paths = "[[path]]\nname = \"er\"\nrouters = 4\ndelay = \"5ms\"\n\
                 [[path]]\nname = \"vpn\"\nrouters = 2\ndelay = \"8ms\"\ntranslates = true\n\
                 [[event]]\nat = \"1s\"\nwhat = { path = \"vpn\" }\n";
    let mut network = network(paths);
    let mut through = |side: usize, millis: i64, frame: Vec<u8>, end: End| {
        let fate = carry(&mut network, side, millis, frame);
        address(&fate.leaving[0].bytes, end)
    };
    let [a, b] = HOSTS;
    assert_eq!(through(0, 0, frame(255, 72), End::Source), Some(a));
    assert_eq!(
        through(0, 1000, frame(255, 72), End::Source),
        Some(TRANSLATED)
    );
    // The answer, whichever path it takes.
    let mut answer = frame(255, 72);
    set_address(&mut answer, End::Source, b);
    set_address(&mut answer, End::Destination, TRANSLATED);
    set_port(&mut answer, 0, 862);
    set_port(&mut answer, 1, 50_000);
    for millis in [0, 1000] {
        assert_eq!(
            through(1, millis, answer.clone(), End::Destination),
            Some(a)
        );
    }
    // What a answers keeps its address.
    let mut reply = frame(255, 72);
    set_port(&mut reply, 0, 862);
    set_port(&mut reply, 1, 50_000);
    assert_eq!(through(0, 1000, reply, End::Source), Some(a));
}

#[test]
fn a_path_that_sets_the_ttl_still_answers_what_expires_on_it() {
    let paths = "[[path]]\nname = \"er\"\nrouters = 4\ndelay = \"5ms\"\nsets-ttl = 64\n";
    let mut network = network(paths);
    let out = carry(&mut network, 0, 0, frame(255, 72));
    assert_eq!(Frame::parse(&out.leaving[0].bytes).expect("IPv4").ttl(), 64);
    assert_eq!(out.leaving[0].side, 1);
    let expired = carry(&mut network, 0, 0, frame(4, 72));
    assert_eq!(expired.leaving[0].side, 0);
    let reached = carry(&mut network, 0, 0, frame(5, 72));
    assert_eq!(reached.leaving[0].side, 1);
}
