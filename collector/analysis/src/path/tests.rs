mod rewritten;
mod unnamed;

use crate::findings::{Findings, NamedBy, PathEpoch};
use crate::scenario::{PRIMARY, SECONDARY, VPN, World, line, sent_at, world};
use hopgap_proto::time::Span;

const INTERVAL: Span = Span::from_millis(10);

/// Name, how it was found, hop, first and last sequence number.
type Shape<'a> = (Option<&'a str>, NamedBy, Option<u8>, u32, u32);

fn shape(epochs: &[PathEpoch]) -> Vec<Shape<'_>> {
    epochs
        .iter()
        .map(|e| {
            (
                e.path.as_deref(),
                e.named_by,
                e.target_at_hop,
                e.first.seq,
                e.last.seq,
            )
        })
        .collect()
}

fn forward(found: &Findings) -> Vec<Shape<'_>> {
    shape(&found.sessions[0].flows[0].forward_paths)
}

fn reverse(found: &Findings) -> Vec<Shape<'_>> {
    shape(&found.sessions[0].flows[0].reverse_paths)
}

#[test]
fn a_change_of_hop_count_is_dated_to_one_probe() {
    let hops = format!("{}{}", "5".repeat(8), "3".repeat(8));
    let found = world(&[line("................")
        .forward(&hops)
        .reverse("5555533333333333")])
    .trace(0, 1, &PRIMARY)
    .analyse();
    assert_eq!(
        forward(&found),
        [
            (Some("expressroute-primary"), NamedBy::Trace, Some(5), 0, 7),
            (Some("vpn"), NamedBy::HopCount, Some(3), 8, 15),
        ]
    );
    // Two paths have five hops, and no traceroute shows the way back: it may be either.
    assert_eq!(
        reverse(&found),
        [
            (
                Some("expressroute-primary or expressroute-secondary"),
                NamedBy::HopCount,
                Some(5),
                0,
                4
            ),
            (Some("vpn"), NamedBy::HopCount, Some(3), 5, 15),
        ]
    );
}

#[test]
fn a_short_loop_is_an_epoch_without_name() {
    let found = world(&[line("............").forward("555555633333")])
        .trace(0, 1, &PRIMARY)
        .trace(0, 9, &VPN)
        .analyse();
    assert_eq!(
        forward(&found),
        [
            (Some("expressroute-primary"), NamedBy::Trace, Some(5), 0, 5),
            (None, NamedBy::Nothing, Some(6), 6, 6),
            (Some("vpn"), NamedBy::Trace, Some(3), 7, 11),
        ]
    );
}

#[test]
fn a_probe_whose_reply_was_lost_still_tells_its_way_out() {
    let found = world(&[line("......rrrrrr......").forward("555555553333333333")]).analyse();
    let epochs = forward(&found);
    assert_eq!(epochs.len(), 2);
    assert_eq!((epochs[0].4, epochs[1].3), (7, 8));
}

#[test]
fn an_ambiguous_hop_count_alone_names_all_that_fit() {
    let found = world(&[line("........")]).analyse();
    let either = Some("expressroute-primary or expressroute-secondary");
    assert_eq!(
        forward(&found),
        [(either, NamedBy::HopCount, Some(5), 0, 7)]
    );
}

#[test]
fn a_silent_hop_is_no_other_path() {
    // The MSEE's ICMP rate limit silences it in the second traceroute.
    let silent = ["10.1.11.1", "192.168.11.0", "*", "*", "10.17.11.132"];
    let found = world(&[line(&".".repeat(30))])
        .trace(0, 1, &PRIMARY)
        .trace(0, 10, &silent)
        .trace(0, 20, &PRIMARY)
        .analyse();
    assert_eq!(
        forward(&found),
        [(Some("expressroute-primary"), NamedBy::Trace, Some(5), 0, 29)]
    );
    let hops = &found.sessions[0].flows[0].forward_paths[0].hops;
    let hops: Vec<&str> = hops.iter().map(|h| h.as_deref().unwrap_or("*")).collect();
    assert_eq!(hops, PRIMARY);
}

/// A change between two paths of equal hop counts, traced before and after.
fn moved(fates: &str) -> World {
    world(&[line(fates)])
        .trace(0, 2, &PRIMARY)
        .trace(0, 10, &PRIMARY)
        .trace(0, 30, &SECONDARY)
        .trace(0, 38, &SECONDARY)
}

#[test]
fn traceroutes_split_an_epoch_of_one_hop_count() {
    let found = moved(&".".repeat(40)).analyse();
    // Slot 10 started the last traceroute on the primary; the first on the secondary
    // ended 20 ms after slot 30, microseconds after slot 32. What was sent between is
    // on neither.
    assert_eq!(
        forward(&found),
        [
            (Some("expressroute-primary"), NamedBy::Trace, Some(5), 0, 10),
            (
                Some("expressroute-secondary"),
                NamedBy::Trace,
                Some(5),
                33,
                39
            ),
        ]
    );
    assert_eq!(found.transitions.len(), 1);
    assert!(
        found.transitions[0]
            .remarks
            .iter()
            .any(|r| r.contains("known from traceroutes alone")),
        "{:?}",
        found.transitions[0].remarks
    );
}

/// What one forged answer makes: a route through another path, in one round.
#[test]
fn one_traceroute_alone_makes_no_change_of_path() {
    let straight = |traces: &[(usize, &[&str])]| {
        let mut world = world(&[line(&".".repeat(40))]);
        for (at, hops) in traces {
            world = world.trace(0, *at, hops);
        }
        let found = world.analyse();
        assert_eq!(found.transitions, [], "{traces:?}");
        let epochs = forward(&found);
        assert_eq!(epochs.len(), 1, "{epochs:?}");
        (epochs[0].0.map(str::to_owned), epochs[0].1)
    };
    let primary = (Some("expressroute-primary".to_owned()), NamedBy::Trace);
    // In the midst, at the beginning, at the end.
    for other in [15, 2, 38] {
        let traces: [(usize, &[&str]); 3] = [(10, &PRIMARY), (20, &PRIMARY), (other, &SECONDARY)];
        assert_eq!(straight(&traces), primary, "{other}");
    }
    // One against one: it may be either.
    let either = "expressroute-primary or expressroute-secondary".to_owned();
    assert_eq!(
        straight(&[(10, &PRIMARY), (20, &SECONDARY)]),
        (Some(either), NamedBy::HopCount)
    );
    // With two of each it is a change.
    let found = moved(&".".repeat(40)).analyse();
    assert_eq!(forward(&found).len(), 2);
}

#[test]
fn the_outage_between_two_traceroutes_dates_the_change() {
    let found = moved(&format!("{}xxxxx{}", ".".repeat(15), ".".repeat(20))).analyse();
    let epochs = forward(&found);
    assert_eq!((epochs[0].4, epochs[1].3), (14, 20));
}

#[test]
fn a_traceroute_that_met_the_change_names_nothing() {
    // Started on the old path, it ended on the new one.
    let broken = ["10.1.11.1", "192.168.11.0", "192.168.11.18", "*", "*"];
    let found =
        world(&[line(&".".repeat(40)).forward(&format!("{}{}", "5".repeat(20), "3".repeat(20)))])
            .trace(0, 5, &PRIMARY)
            .trace(0, 19, &broken)
            .trace(0, 30, &VPN)
            .analyse();
    let names: Vec<_> = forward(&found).iter().map(|e| e.0).collect();
    assert_eq!(names, [Some("expressroute-primary"), Some("vpn")]);
}

#[test]
fn the_opposite_sessions_traceroutes_name_the_way_back() {
    let out = world(&[line(&".".repeat(40))]);
    let mut input = out.input();
    // The opposite session, from azure to onprem, traced over the secondary circuit.
    let mut plan = input.plan.sessions[0].clone();
    plan.name = "back".parse().unwrap();
    plan.from = "azure".parse().unwrap();
    plan.to = hopgap_proto::plan::Destination::Agent("onprem".parse().unwrap());
    input.plan.sessions.push(plan);
    let mut back = input.sessions[0].clone();
    back.session = "back".parse().unwrap();
    back.reflector.clear();
    back.sender[0].agent = "azure".parse().unwrap();
    back.sender[0].traces = vec![crate::scenario::trace(0, sent_at(INTERVAL, 5), &SECONDARY)];
    input.sessions.push(back);
    let found = crate::analyse(&input);
    assert_eq!(
        reverse(&found),
        [(
            Some("expressroute-secondary"),
            NamedBy::HopCount,
            Some(5),
            0,
            39
        )]
    );
}

#[test]
fn a_foreign_reflector_may_copy_ttls_and_start_at_64() {
    let mut world = world(&[line("........")]);
    world.foreign = true;
    let mut input = world.input();
    for probe in &mut input.sessions[0].sender[0].probes {
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.forward_ttl = Some(255);
            reply.reverse_ttl = Some(62);
        }
    }
    let found = crate::analyse(&input);
    assert_eq!(forward(&found), [(None, NamedBy::Nothing, None, 0, 7)]);
    assert_eq!(
        reverse(&found),
        [(Some("vpn"), NamedBy::HopCount, Some(3), 0, 7)]
    );
}

#[test]
fn a_stretch_on_two_paths_is_asymmetric() {
    let found = world(&[line(&".".repeat(20))
        .forward("55555555553333333333")
        .reverse("55555333333333333333")])
    .trace(0, 1, &PRIMARY)
    .analyse();
    let found = &found.sessions[0].asymmetries;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].forward.as_deref(), Some("expressroute-primary"));
    assert_eq!(found[0].reverse.as_deref(), Some("vpn"));
    assert_eq!((found[0].first.seq, found[0].last.seq), (5, 9));
    assert_eq!(
        found[0].lasted_ns.0,
        sent_at(INTERVAL, 9) - sent_at(INTERVAL, 5)
    );
}

#[test]
fn latency_is_told_by_path() {
    let found = world(&[line(&".".repeat(20))
        .forward("55555555553333333333")
        .reverse("55555555553333333333")])
    .trace(0, 1, &PRIMARY)
    .analyse();
    let latency: Vec<_> = found.sessions[0]
        .latency
        .iter()
        .map(|l| {
            (
                l.forward.as_deref(),
                l.round_trip.count,
                l.round_trip.p50_ns.0,
            )
        })
        .collect();
    assert_eq!(
        latency,
        [
            (Some("expressroute-primary"), 10, Span::from_millis(5)),
            (Some("vpn"), 10, Span::from_millis(8)),
        ]
    );
}

#[test]
fn a_traceroute_that_ends_after_the_change_names_the_path_that_it_found() {
    // The only traceroute of the old path started one slot before the change, and its
    // last answer came after it.
    let found = world(&[line(&".".repeat(20)).forward("55555555553333333333")])
        .trace(0, 9, &PRIMARY)
        .analyse();
    assert_eq!(
        forward(&found),
        [
            (Some("expressroute-primary"), NamedBy::Trace, Some(5), 0, 9),
            (Some("vpn"), NamedBy::HopCount, Some(3), 10, 19),
        ]
    );
}

#[test]
fn a_traceroute_that_did_not_reach_the_target_shows_no_other_path() {
    // Every router answered; what went to the target was lost. It confirms no name, and denies none.
    let named = |second: &str, third: &str| {
        let found = world(&[line("........")])
            .trace(0, 1, &["10.1.11.1", second, third, "192.0.2.9"])
            .analyse();
        let named = forward(&found);
        assert_eq!(named.len(), 1, "{named:?}");
        (named[0].0.map(str::to_owned), named[0].1)
    };
    assert_eq!(
        named(PRIMARY[1], PRIMARY[2]),
        (Some("expressroute-primary".to_owned()), NamedBy::HopCount)
    );
    // Of the declared paths none passes these routers.
    assert_eq!(named("192.0.2.7", "192.0.2.8"), (None, NamedBy::Nothing));
}
