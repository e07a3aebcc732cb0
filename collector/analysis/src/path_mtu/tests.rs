use crate::findings::{DirectionLimit, DirectionMtu, MtuLimit, PathMtu};
use crate::scenario::{PRIMARY, VPN, World, line, reflector_at, sent_at, world};
use hopgap_proto::record::{
    Event, EventKind, FlowIndex, IcmpEvidence, MtuLimit as Limit, PathMtu as Found,
};
use hopgap_proto::stamp::Seq;

/// 10 s over the primary circuit, 10 s over the VPN, without loss.
fn failover() -> World {
    let hops = format!("{}{}", "5".repeat(1000), "3".repeat(1000));
    let flow = line(&".".repeat(2000)).forward(&hops).reverse(&hops);
    world(&[flow])
        .trace(0, 500, &PRIMARY)
        .trace(0, 950, &PRIMARY)
        .trace(0, 1050, &VPN)
        .trace(0, 1500, &VPN)
}

/// A search from probe `from` to probe `to`.
fn search(world: &mut World, (from, to): (usize, usize), bytes: u16, limit: Limit) {
    world.events.push(Event {
        at: sent_at(world.interval, to),
        kind: EventKind::PathMtu(Found {
            flow: FlowIndex(0),
            since: sent_at(world.interval, from),
            bytes,
            limit: Some(limit),
        }),
    });
}

fn found(world: &World) -> Vec<PathMtu> {
    world.analyse().sessions[0].path_mtu.clone()
}

#[test]
fn each_path_has_its_own_and_a_change_between_tells_of_none() {
    let mut world = failover();
    let router = Limit::Router {
        from: "10.1.11.1".parse().unwrap(),
        mtu: Some(1450),
    };
    search(&mut world, (100, 110), 1500, Limit::Interface);
    search(&mut world, (990, 1010), 1470, Limit::Silent);
    search(&mut world, (1200, 1210), 1450, router);
    let [primary, vpn] = &found(&world)[..] else {
        panic!("{:?}", found(&world));
    };
    assert_eq!(primary.forward.as_deref(), Some("expressroute-primary"));
    assert_eq!((primary.bytes, primary.limit), (1500, MtuLimit::Interface));
    assert_eq!(vpn.forward.as_deref(), Some("vpn"));
    assert_eq!((vpn.bytes, vpn.limit), (1450, MtuLimit::Router));
    assert_eq!(vpn.router.as_deref(), Some("10.1.11.1"));
    assert_eq!((vpn.router_mtu, vpn.searches), (Some(1450), 1));
    // That the failover made it smaller is news for its report.
    let remarks = world.analyse().transitions[0].remarks.join("\n");
    assert!(
        remarks.contains("the largest packet that gets through fell from 1500 to 1450 bytes"),
        "{remarks}"
    );
}

#[test]
fn a_black_hole_is_called_by_its_name() {
    let mut world = failover();
    search(&mut world, (1200, 1300), 1400, Limit::Silent);
    let caveats = world.analyse().caveats.join("\n");
    assert!(caveats.contains("black hole"), "{caveats}");
    assert!(caveats.contains("more than 1400 bytes"), "{caveats}");
}

#[test]
fn one_search_that_lost_a_packet_by_chance_does_not_shrink_the_path() {
    let mut world = failover();
    search(&mut world, (100, 110), 1500, Limit::Interface);
    search(&mut world, (200, 400), 1499, Limit::Silent);
    assert_eq!(found(&world)[0].bytes, 1500);
    assert_eq!(found(&world)[0].searches, 2);
    // Twice is no chance.
    search(&mut world, (500, 700), 1499, Limit::Silent);
    assert_eq!(found(&world)[0].bytes, 1499);
    assert_eq!(found(&world)[0].limit, MtuLimit::Silent);
}

fn direction(bytes: u16, limit: DirectionLimit, router: Option<(&str, u32)>) -> DirectionMtu {
    DirectionMtu {
        bytes,
        limit,
        router: router.map(|(router, _)| router.to_owned()),
        router_mtu: router.map(|(_, mtu)| mtu),
    }
}

/// What the reflector recorded around probe `at`.
fn at_reflector(world: &mut World, at: usize, kind: EventKind) {
    world.reflector_events.push(Event {
        at: reflector_at(world.interval, at),
        kind,
    });
}

fn arrived(world: &mut World, at: usize, bytes: u16) {
    let kind = EventKind::SizeProbeArrived {
        flow: FlowIndex(0),
        seq: Seq(0x8000_01ff),
        bytes,
    };
    at_reflector(world, at, kind);
}

#[test]
fn what_arrives_and_does_not_come_back_is_limited_on_the_way_back() {
    let mut world = failover();
    search(&mut world, (1200, 1300), 1400, Limit::Silent);
    for bytes in [1400, 1450, 1401] {
        arrived(&mut world, 1250, bytes);
    }
    let [vpn] = &found(&world)[..] else {
        panic!("{:?}", found(&world));
    };
    assert_eq!((vpn.bytes, vpn.limit), (1400, MtuLimit::Silent));
    assert_eq!(vpn.out, direction(1450, DirectionLimit::Unknown, None));
    assert_eq!(vpn.back, direction(1400, DirectionLimit::Silent, None));
    let caveats = world.analyse().caveats.join("\n");
    assert!(caveats.contains("black hole"), "{caveats}");
    assert!(caveats.contains("on the way back"), "{caveats}");
}

#[test]
fn what_a_router_tells_the_reflectors_host_is_no_black_hole() {
    let mut world = failover();
    search(&mut world, (1200, 1300), 1400, Limit::Silent);
    arrived(&mut world, 1250, 1500);
    let from = "10.0.1.1".parse().unwrap();
    let kind = EventKind::Icmp(IcmpEvidence {
        flow: FlowIndex(0),
        seq: Some(Seq(0x8000_01ff)),
        from,
        icmp_type: 3,
        code: 4,
        mtu: Some(1400),
    });
    at_reflector(&mut world, 1250, kind);
    let vpn = &found(&world)[0];
    assert_eq!((vpn.bytes, vpn.limit), (1400, MtuLimit::Router));
    assert_eq!(vpn.router.as_deref(), Some("10.0.1.1"));
    assert_eq!(vpn.out, direction(1500, DirectionLimit::Unknown, None));
    let said = Some(("10.0.1.1", 1400));
    assert_eq!(vpn.back, direction(1400, DirectionLimit::Router, said));
    let caveats = world.analyse().caveats.join("\n");
    assert!(!caveats.contains("black hole"), "{caveats}");
}

#[test]
fn what_does_not_arrive_is_limited_on_the_way_out() {
    let mut world = failover();
    search(&mut world, (1200, 1300), 1400, Limit::Silent);
    arrived(&mut world, 1250, 1400);
    // Another search, of a second later, tells nothing of this one.
    arrived(&mut world, 1450, 1500);
    let vpn = &found(&world)[0];
    assert_eq!(vpn.out, direction(1400, DirectionLimit::Silent, None));
    assert_eq!(vpn.back, direction(1400, DirectionLimit::Unknown, None));
    let caveats = world.analyse().caveats.join("\n");
    assert!(caveats.contains("on the way out"), "{caveats}");
}

#[test]
fn a_size_of_a_round_trip_has_no_direction_unless_something_tells_it() {
    let mut world = failover();
    search(&mut world, (100, 110), 1500, Limit::Interface);
    search(&mut world, (1200, 1300), 1400, Limit::Silent);
    let vpn = &found(&world)[1];
    assert_eq!(vpn.out, direction(1400, DirectionLimit::Unknown, None));
    assert_eq!(vpn.back, vpn.out);
    let remarks = world.analyse().transitions[0].remarks.join("\n");
    assert!(
        remarks.contains("Out and back the largest packet that gets through fell from 1500 to 1400 bytes with the change of path; which direction does not carry more is not known."),
        "{remarks}"
    );
    let directed = "to azure: the largest packet";
    assert!(!remarks.contains(directed), "{remarks}");

    // The log knows: it is the way back, and only of that it is said.
    arrived(&mut world, 1250, 1500);
    let remarks = world.analyse().transitions[0].remarks.join("\n");
    assert!(remarks.contains("fell from 1500 to 1400"), "{remarks}");
    assert!(!remarks.contains(directed), "{remarks}");
    assert!(!remarks.contains("is not known"), "{remarks}");
}
