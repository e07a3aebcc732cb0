use crate::findings::{MtuLimit, PathMtu};
use crate::scenario::{PRIMARY, VPN, World, line, sent_at, world};
use hopgap_proto::record::{Event, EventKind, FlowIndex, MtuLimit as Limit, PathMtu as Found};

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
