use super::{LINES, REMEMBERED, Refusals};
use crate::serve::reply::Failure;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::ErrorCode;
use std::net::IpAddr;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 17, 11, 132));

fn why() -> Failure {
    Failure::new(ErrorCode::Unauthorized, "the secret is wrong", "correct it")
}

fn at(seconds: i64) -> Wall {
    Wall::ZERO + Span::from_secs(seconds)
}

#[test]
fn one_line_a_minute_says_who_and_what_to_do() {
    let refusals = Refusals::default();
    let azure = "azure".parse().unwrap();
    let lines: Vec<String> = [0, 1, 59, 60, 61]
        .into_iter()
        .filter_map(|s| refusals.take(&azure, PEER, &why(), at(s)))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0],
        "refused agent `azure` from 10.17.11.132: the secret is wrong; correct it (said once a \
         minute at most)"
    );
    let known = refusals.list();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].count, known[0].at.0), (5, at(61)));
    refusals.forget(&azure, PEER);
    assert!(refusals.list().is_empty());
}

#[test]
fn a_flood_of_names_fills_neither_the_log_nor_the_memory() {
    let refusals = Refusals::default();
    let said = (0..1_000)
        .filter_map(|i| {
            let name = format!("agent-{i}").parse().unwrap();
            refusals.take(&name, PEER, &why(), at(0))
        })
        .count();
    assert_eq!(said, LINES);
    let known = refusals.list();
    assert_eq!(known.len(), REMEMBERED);
    assert_eq!(known[0].agent, "agent-999");
}
