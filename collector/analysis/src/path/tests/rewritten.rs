//! TTLs that are set on the way.

use super::{forward, reverse};
use crate::findings::{Direction, Findings, MarkerKind, NamedBy, TransitionKind};
use crate::input::Input;
use crate::note::{Note, RewrittenTtl};
use crate::scenario::{PRIMARY, VPN, World, line, world};
use hopgap_proto::plan::Destination;
use hopgap_proto::record::{ProbeFate, RunId};
use hopgap_proto::time::Span;

/// What is found where the packets of slots from `from` on arrive with these TTLs.
fn arriving(world: &World, from: u32, out: Option<u8>, back: Option<u8>) -> Findings {
    found(world.input(), from, out, back)
}

/// The same where the other host probes, too, and finds the same.
fn arriving_both_ways(world: &World, from: u32, ttl: u8) -> Findings {
    let mut input = world.input();
    let mut session = input.sessions[0].clone();
    let mut plan = input.plan.sessions[0].clone();
    session.session = "back".parse().unwrap();
    plan.name = session.session.clone();
    let (onprem, azure) = (plan.from.clone(), session.reflector[0].agent.clone());
    plan.from = azure.clone();
    plan.to = Destination::Agent(onprem.clone());
    (session.sender[0].agent, session.sender[0].run) = (azure, RunId(12));
    (session.reflector[0].agent, session.reflector[0].run) = (onprem, RunId(13));
    input.plan.sessions.push(plan);
    input.sessions.push(session);
    found(input, from, Some(ttl), Some(ttl))
}

fn found(mut input: Input, from: u32, out: Option<u8>, back: Option<u8>) -> Findings {
    for session in &mut input.sessions {
        for probe in session.sender.iter_mut().flat_map(|r| &mut r.probes) {
            if let ProbeFate::Answered(reply) = &mut probe.fate
                && probe.seq.0 >= from
            {
                reply.forward_ttl = out.or(reply.forward_ttl);
                reply.reverse_ttl = back.or(reply.reverse_ttl);
            }
        }
        let logged = session.reflector.iter_mut().flat_map(|r| &mut r.receptions);
        for reception in logged.filter(|r| r.seq.0 >= from) {
            reception.ttl = out.or(reception.ttl);
        }
    }
    crate::analyse(&input)
}

/// A failover after ten seconds, with a traceroute each second.
fn failover() -> World {
    let fates = format!("{}{}{}", ".".repeat(1000), "x".repeat(90), ".".repeat(1000));
    let hops = format!("{}{}", "5".repeat(1090), "3".repeat(1000));
    let mut world = world(&[line(&fates).forward(&hops).reverse(&hops)])
        .mark(Span::from_millis(9_500), MarkerKind::Failover);
    for slot in (50..2000).step_by(100) {
        match slot {
            0..1000 => world = world.trace(0, slot, &PRIMARY),
            1090.. => world = world.trace(0, slot, &VPN),
            _ => {}
        }
    }
    world
}

fn rewritten(findings: &Findings) -> Vec<&RewrittenTtl> {
    findings
        .notes
        .iter()
        .filter_map(|n| match n {
            Note::RewrittenTtl(note) => Some(note),
            _ => None,
        })
        .collect()
}

#[test]
fn traceroutes_say_what_a_rewritten_ttl_hides() {
    let found = arriving(&failover(), 0, Some(64), Some(64));
    assert_eq!(
        forward(&found),
        [
            (
                Some("expressroute-primary"),
                NamedBy::Trace,
                Some(5),
                0,
                999
            ),
            (Some("vpn"), NamedBy::Trace, Some(3), 1090, 2089),
        ]
    );
    assert_eq!(reverse(&found), [(None, NamedBy::Nothing, None, 0, 2089)]);
    let [transition] = found.transitions.as_slice() else {
        panic!("{:?}", found.transitions)
    };
    assert_eq!(transition.kind, TransitionKind::Failover);
    assert!(transition.marker.is_some());
    let notes = rewritten(&found);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(notes[0].direction, Direction::Forward);
    assert_eq!(
        (&notes[0].ttls[..], &notes[0].reached_at[..]),
        (&[64][..], &[3, 5][..])
    );
    assert_eq!(
        (notes[1].from.as_str(), notes[1].to.as_str()),
        ("azure", "onprem")
    );
    assert!(notes[1].reached_at.is_empty());
    let said = |c: &String| {
        c.contains("TTLs are rewritten on the way from onprem to azure") && c.contains("hop 3, 5")
    };
    assert!(found.caveats.iter().any(said), "{:?}", found.caveats);
    assert!(!found.caveats.iter().any(|c| c.contains("192")));
}

#[test]
fn a_plausible_hop_count_that_traceroutes_contradict_is_none() {
    let found = arriving(&failover(), 0, Some(250), None);
    let hops: Vec<_> = forward(&found)
        .iter()
        .map(|e| (e.0.unwrap().to_owned(), e.2))
        .collect();
    assert_eq!(
        hops,
        [
            ("expressroute-primary".to_owned(), Some(5)),
            ("vpn".to_owned(), Some(3))
        ]
    );
    assert_eq!(rewritten(&found).len(), 1);
    assert_eq!(rewritten(&found)[0].ttls, [250]);
    // The way back counts its routers as ever.
    let back: Vec<_> = reverse(&found).iter().map(|e| e.2).collect();
    assert_eq!(back, [Some(5), Some(3)]);
}

#[test]
fn where_one_path_alone_rewrites_the_change_is_still_dated_to_the_probe() {
    let found = arriving(&failover(), 1090, Some(64), Some(64));
    assert_eq!(
        forward(&found),
        [
            (
                Some("expressroute-primary"),
                NamedBy::Trace,
                Some(5),
                0,
                999
            ),
            (Some("vpn"), NamedBy::Trace, Some(3), 1090, 2089),
        ]
    );
    let back: Vec<_> = reverse(&found).iter().map(|e| (e.2, e.3, e.4)).collect();
    assert_eq!(back, [(Some(5), 0, 999), (None, 1090, 2089)]);
    assert_eq!(found.transitions[0].kind, TransitionKind::Failover);
    assert_eq!(rewritten(&found)[0].reached_at, [3]);
}

#[test]
fn one_traceroute_that_missed_an_answer_is_no_change_of_path() {
    let six = ["10.1.11.1", "*", "*", "*", "*", "10.17.11.132"];
    let mut world = world(&[line(&".".repeat(900))]);
    for slot in (50..800).step_by(100) {
        let hops = if slot == 350 { &six[..] } else { &PRIMARY[..] };
        world = world.trace(0, slot, hops);
    }
    let found = arriving(&world, 0, Some(64), None);
    assert_eq!(
        forward(&found),
        [(
            Some("expressroute-primary"),
            NamedBy::Trace,
            Some(5),
            0,
            899
        )]
    );
    assert!(found.transitions.is_empty());
}

#[test]
fn ttls_that_traceroutes_agree_with_are_hop_counts() {
    let found = arriving(&failover(), 0, None, None);
    assert!(rewritten(&found).is_empty());
    assert!(!found.caveats.iter().any(|c| c.contains("rewritten")));
    let hops: Vec<_> = forward(&found).iter().map(|e| e.2).collect();
    assert_eq!(hops, [Some(5), Some(3)]);
}

#[test]
fn a_way_back_without_routers_is_doubted_where_the_way_out_has_some() {
    let mut foreign = failover();
    foreign.foreign = true;
    foreign.log = false;
    let found = arriving(&foreign, 0, Some(64), Some(64));
    assert_eq!(forward(&found)[0].2, Some(5));
    assert_eq!(
        reverse(&found).iter().map(|e| e.2).collect::<Vec<_>>(),
        [None]
    );
    let back = rewritten(&found)[1];
    assert_eq!(
        (back.direction, &back.ttls[..]),
        (Direction::Reverse, &[64][..])
    );
}

/// Nobody traces the replies' way on their own ports: the other host's probes go it.
#[test]
fn a_way_back_with_a_rewritten_ttl_is_named_by_the_other_sides_traceroutes() {
    let found = arriving_both_ways(&failover(), 1090, 64);
    let back = reverse(&found);
    assert_eq!((back[0].2, back[0].3, back[0].4), (Some(5), 0, 999));
    assert_eq!(
        back[1..],
        [(Some("vpn"), NamedBy::Trace, Some(3), 1090, 2089)]
    );
    let notes = rewritten(&found);
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes.iter().all(|n| n.reached_at == [3] && n.ttls == [64]));
    let [transition] = found.transitions.as_slice() else {
        panic!("{:?}", found.transitions)
    };
    assert_eq!(transition.kind, TransitionKind::Failover);
}

/// Where both paths set the same TTL, nothing dates a change of the way back.
#[test]
fn a_way_back_that_may_be_either_path_is_said_to_be_either() {
    let found = arriving_both_ways(&failover(), 0, 64);
    assert_eq!(
        reverse(&found),
        [(
            Some("expressroute-primary or vpn"),
            NamedBy::Trace,
            None,
            0,
            2089
        )]
    );
}

#[test]
fn a_traceroute_alone_between_others_has_no_say() {
    let mut world = world(&[line(&".".repeat(900))]);
    for slot in (50..800).step_by(100) {
        let hops = if slot == 350 { &VPN[..] } else { &PRIMARY[..] };
        world = world.trace(0, slot, hops);
    }
    let found = arriving(&world, 0, Some(64), None);
    let names: Vec<_> = forward(&found).iter().map(|e| (e.0, e.2)).collect();
    assert_eq!(names, [(Some("expressroute-primary"), Some(5))]);
}
