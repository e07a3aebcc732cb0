use super::*;
use crate::clock::Clock;
use crate::timer::{Ready, wait};
use hopgap_proto::time::Span;
use std::net::UdpSocket;

/// Sends from each of `sources` to lanes on `to`, where `known` have lanes of their own.
/// Returns the lane by which each packet came.
fn lanes_of(to: &str, known: &[&str], sources: &[&str]) -> Vec<usize> {
    let to: IpAddr = to.parse().unwrap();
    let options = ProbeOptions::reflector(SocketAddr::new(to, free_port(to)));
    let mut lanes = open(&options, 4).unwrap();
    let known: Vec<IpAddr> = known.iter().map(|ip| ip.parse().unwrap()).collect();
    assert!(steer(lanes.iter(), options.local, &known).unwrap());
    sources
        .iter()
        .map(|source| {
            let socket = UdpSocket::bind((source.parse::<IpAddr>().unwrap(), 0)).unwrap();
            socket.send_to(b"x", options.local).unwrap();
            came_by(&mut lanes)
        })
        .collect()
}

fn free_port(ip: IpAddr) -> u16 {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

fn came_by(lanes: &mut [ProbeSocket]) -> usize {
    let end = Clock::now() + Span::from_secs(5);
    loop {
        let mut ready = vec![Ready::NONE; lanes.len()];
        let fds: Vec<_> = lanes.iter().map(|l| l.as_fd()).collect();
        assert!(wait(Some(end), &fds, &mut ready).unwrap(), "nothing came");
        let lane = ready.iter().position(|r| r.readable).unwrap();
        if lanes[lane].recv_batch(|_| {}).unwrap() > 0 {
            return lane;
        }
    }
}

#[test]
fn each_source_has_its_lane_and_strangers_have_theirs() {
    let known = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
    let sources = [
        "127.0.0.9",
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.4",
        "127.0.0.5",
        "127.0.0.1",
    ];
    // Three lanes for four sources: two share one.
    assert_eq!(lanes_of("127.0.0.1", &known, &sources), [0, 1, 2, 3, 1, 0]);
    assert_eq!(lanes_of("127.0.0.1", &[], &sources[..2]), [0, 0]);
}

#[test]
fn ipv6_sources_are_known_by_all_of_their_address() {
    let others = ["2001:db8::1", "::2", "1::1", "0:0:1::1"];
    let mut known = others.to_vec();
    known.push("::1");
    assert_eq!(lanes_of("::1", &others, &["::1"]), [0]);
    // The fifth in turn over three lanes.
    assert_eq!(lanes_of("::1", &known, &["::1"]), [2]);
}

#[test]
fn who_is_known_can_change_while_packets_come() {
    let local: SocketAddr = (
        IpAddr::from([127, 0, 0, 1]),
        free_port([127, 0, 0, 1].into()),
    )
        .into();
    let mut lanes = open(&ProbeOptions::reflector(local), 2).unwrap();
    let socket = UdpSocket::bind("127.0.0.7:0").unwrap();
    for (known, lane) in [("127.0.0.7", 1), ("127.0.0.8", 0), ("127.0.0.7", 1)] {
        assert!(steer(lanes.iter(), local, &[known.parse().unwrap()]).unwrap());
        socket.send_to(b"x", local).unwrap();
        assert_eq!(came_by(&mut lanes), lane, "{known}");
    }
}

#[test]
fn a_port_that_another_program_has_is_not_shared() {
    let taken = open(&ProbeOptions::reflector("127.0.0.1:0".parse().unwrap()), 1).unwrap();
    let options = ProbeOptions::reflector(taken[0].local_addr().unwrap());
    assert!(matches!(open(&options, 4), Err(NetError::PortInUse { .. })));
    drop(taken);
    // Nor are lanes that are there already.
    let _lanes = open(&options, 4).unwrap();
    assert!(matches!(open(&options, 4), Err(NetError::PortInUse { .. })));
    assert!(matches!(open(&options, 1), Err(NetError::PortInUse { .. })));
}

#[test]
fn more_sources_than_the_kernel_takes_are_strangers() {
    let v4: Vec<IpAddr> = (0..5_000_u32)
        .map(|n| IpAddr::V4((0x0a00_0000 + n).into()))
        .collect();
    let v6: Vec<IpAddr> = (0..5_000_u128).map(|n| IpAddr::V6(n.into())).collect();
    for (sources, room) in [(v4, 250), (v6, 55)] {
        assert!(program(4, &sources[..room]).1);
        let (most, all) = program(4, &sources);
        assert!(!all && most.len() <= MOST_INSTRUCTIONS);
        let local = SocketAddr::new(sources_home(&sources), free_port(sources_home(&sources)));
        let lanes = open(&ProbeOptions::reflector(local), 2).unwrap();
        assert!(!steer(lanes.iter(), local, &sources).unwrap());
    }
}

/// An address of this host, of the family of `sources`.
fn sources_home(sources: &[IpAddr]) -> IpAddr {
    match sources[0] {
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}
