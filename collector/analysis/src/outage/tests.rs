use crate::findings::{Direction, DirectionSource, FlowFindings, Outage, OutageCause};
use crate::scenario::{World, line, sent_at, utc_at, world};
use hopgap_proto::time::Span;

fn flow(fates: &str) -> FlowFindings {
    world(&[line(fates)]).analyse().sessions[0].flows[0].clone()
}

fn outages(fates: &str) -> Vec<Outage> {
    flow(fates).outages
}

/// Between two slots, on the sender's monotonic clock.
fn between(a: usize, b: usize) -> Span {
    let interval = Span::from_millis(10);
    sent_at(interval, b) - sent_at(interval, a)
}

#[test]
fn an_outage_is_bounded_by_actual_send_times() {
    let found = outages("......xxxx......");
    let [outage] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(outage.direction, Direction::Forward);
    assert_eq!(outage.last_good.unwrap().seq, 5);
    assert_eq!(outage.first_lost.seq, 6);
    assert_eq!(outage.last_lost.seq, 9);
    assert_eq!(outage.first_good.unwrap().seq, 10);
    assert_eq!(outage.first_lost.sent, utc_at(Span::from_millis(10), 6));
    assert_eq!(outage.at_least_ns.0, between(6, 9));
    assert_eq!(outage.at_most_ns.unwrap().0, between(5, 10));
    assert_eq!((outage.lost, outage.passed, outage.unsent), (4, 0, 0));
}

#[test]
fn a_lost_reply_is_an_outage_of_the_way_back() {
    let found = outages("......rrrr......");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].direction, Direction::Reverse);
    assert_eq!(found[0].lost, 4);
}

#[test]
fn few_losses_are_background() {
    let flow = flow("......xx......r......");
    assert!(flow.outages.is_empty());
    let found: Vec<_> = flow
        .background
        .iter()
        .map(|p| (p.direction, p.lost))
        .collect();
    assert_eq!(found, [(Direction::Forward, 2), (Direction::Reverse, 1)]);
}

#[test]
fn long_loss_periods_close_together_are_one_outage() {
    // Four good probes between, and a short loss among them: one outage of 3 periods.
    let found = outages("......xxxx..x..xxxx......");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].lost, found[0].passed), (9, 4));
    assert_eq!(found[0].loss_periods.len(), 3);
    assert_eq!(found[0].at_least_ns.0, between(6, 18));
    // Five good ones: two outages.
    assert_eq!(outages("......xxxx.....xxxx......").len(), 2);
}

#[test]
fn background_loss_beside_an_outage_does_not_stretch_it() {
    let flow = flow("....x..xxxxx..x.......");
    assert_eq!(flow.outages.len(), 1);
    assert_eq!(flow.outages[0].first_lost.seq, 7);
    assert_eq!(flow.outages[0].last_lost.seq, 11);
    assert_eq!(flow.background.len(), 2);
}

#[test]
fn probes_lost_on_the_way_out_tell_nothing_of_the_way_back() {
    // Replies in flight are lost, then nothing arrives: the way back fails at the same
    // time, and nobody sees it until probes arrive again.
    let found = outages(&format!("......rrr{}......", "x".repeat(50)));
    let reverse: Vec<_> = found
        .iter()
        .filter(|o| o.direction == Direction::Reverse)
        .collect();
    assert_eq!(reverse.len(), 1);
    assert_eq!(reverse[0].lost, 3);
    assert_eq!(reverse[0].at_least_ns.0, between(6, 8));
    assert_eq!(reverse[0].at_most_ns.unwrap().0, between(5, 59));
    let forward: Vec<_> = found
        .iter()
        .filter(|o| o.direction == Direction::Forward)
        .collect();
    assert_eq!(forward[0].lost, 50);
    // A reply that was lost is a good probe of the way out.
    assert_eq!(forward[0].last_good.unwrap().seq, 8);
}

#[test]
fn time_without_evidence_is_left_out_of_the_lower_bound() {
    let found = outages(&format!("......rrr{}rrr......", "x".repeat(50)));
    let reverse: Vec<_> = found
        .iter()
        .filter(|o| o.direction == Direction::Reverse)
        .collect();
    assert_eq!(reverse.len(), 1);
    assert_eq!(reverse[0].lost, 6);
    assert_eq!(reverse[0].at_least_ns.0, between(6, 8) + between(59, 61));
    assert_eq!(reverse[0].at_most_ns.unwrap().0, between(5, 62));
}

#[test]
fn an_outage_at_the_end_of_the_data_has_no_upper_bound() {
    let mut world = world(&[line("......xxxx")]);
    world.tail = Span::from_secs(20);
    let found = world.analyse();
    let outage = &found.sessions[0].flows[0].outages[0];
    assert_eq!(outage.first_good, None);
    assert_eq!(outage.at_most_ns, None);
    assert_eq!(outage.at_least_ns.0, between(6, 9));
}

#[test]
fn an_outage_at_the_beginning_has_no_upper_bound() {
    let found = outages("xxxx......");
    assert_eq!(found[0].last_good, None);
    assert_eq!(found[0].at_most_ns, None);
}

#[test]
fn what_was_not_sent_is_not_lost_but_widens_the_bounds() {
    let found = outages("......RRxxxxss......");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].lost, found[0].unsent), (4, 4));
    assert_eq!(found[0].at_most_ns.unwrap().0, between(5, 14));
    let counts = flow("......RRxxxxss......").counts;
    assert_eq!((counts.sent, counts.refused, counts.skipped), (16, 2, 2));
}

#[test]
fn late_and_unanswered_by_policy_are_no_outage() {
    let flow = flow("......llllll....pppppp......");
    assert!(flow.outages.is_empty() && flow.background.is_empty());
    assert_eq!((flow.counts.late, flow.counts.dropped_by_policy), (6, 6));
}

#[test]
fn without_log_and_counter_an_outage_has_no_direction() {
    let mut world = world(&[line("......xxxx......")]);
    (world.log, world.foreign, world.stateful) = (false, true, false);
    let found = world.analyse();
    assert_eq!(found.sessions[0].direction_source, DirectionSource::None);
    let outages = &found.sessions[0].flows[0].outages;
    assert_eq!(outages.len(), 1);
    assert_eq!(outages[0].direction, Direction::Unknown);
    assert_eq!(found.sessions[0].counts.lost_unknown, 4);
}

fn reverse(world: &World) -> Vec<Outage> {
    let found = world.analyse();
    let flow = &found.sessions[0].flows[0];
    let all = flow.outages.iter().cloned();
    all.filter(|o| o.direction == Direction::Reverse).collect()
}

fn ms(n: i64) -> Span {
    Span::from_millis(n)
}

/// Checks that the bounds include the truth, and are no wider than two slots need.
fn bound(outage: &Outage, truth: Span, interval: Span) {
    let (least, most) = (outage.at_least_ns.0, outage.at_most_ns.unwrap().0);
    assert!(
        least <= truth && truth <= most,
        "{least} to {most}, truly {truth}"
    );
    assert!(most - least <= interval * 2 + ms(1), "{least} to {most}");
}

/// A reflector that stood still for 8 s lets the probes of 8 s leave at once: everything
/// from 0.1 s before to 0.3 s after is lost on the way back, which lasted 0.4 s.
#[test]
fn a_reverse_outage_is_dated_by_departures_and_not_by_probes() {
    let mut stalled = world(&[line(&".".repeat(1_500))]);
    stalled.stalls = vec![(ms(2_000), ms(10_000))];
    stalled.cut_back = vec![(ms(9_900), ms(10_300))];
    let found = reverse(&stalled);
    let [outage] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(outage.lost > 800, "{outage:?}");
    let least = outage.at_least_ns.0;
    assert!(least <= ms(400) && least > ms(280), "{outage:?}");
    // The last that left before it left before the stall: nobody saw when it began.
    let most = outage.at_most_ns.unwrap().0;
    assert!(most >= ms(400), "{outage:?}");
    // It is told to have begun when the replies left, and not when their probes did.
    let close = |at: crate::schema::Utc, after: Span| {
        (at.0 - (crate::scenario::UTC + after)).abs() < ms(20)
    };
    assert!(close(outage.began, ms(10_000)), "{outage:?}");
    assert!(close(outage.ended.unwrap(), ms(10_300)), "{outage:?}");
    let found = stalled.analyse();
    let [transition] = &found.transitions[..] else {
        panic!("{:?}", found.transitions)
    };
    assert!(close(transition.started, ms(10_000)), "{transition:?}");
    let counts = found.sessions[0].counts;
    assert_eq!((counts.lost_forward, counts.lost_unknown), (0, 0));
}

#[test]
fn a_queue_on_the_way_out_does_not_stretch_an_outage_of_the_way_back() {
    let mut queued = world(&[line(&".".repeat(100))]);
    // The probes of 200 ms come a millisecond apart; in their midst the way back is cut.
    queued.queues = vec![(ms(300), ms(500))];
    let out = Span::from_micros(2_500);
    queued.cut_back = vec![(ms(503) + out, ms(517) + out)];
    let found = reverse(&queued);
    let [outage] = found.as_slice() else {
        panic!("{found:?}")
    };
    // Of the queue 14, and one that was sent meanwhile: a loss period of its own, because
    // others of the queue were sent between them and came through (RFC 3357).
    assert_eq!(outage.lost, 14);
    let flow = &queued.analyse().sessions[0].flows[0];
    assert_eq!(flow.counts.lost_reverse, 15);
    assert_eq!(flow.background.len(), 1);
    bound(outage, ms(14), ms(1));
    // By the times of their sending, it would have been ten times as long.
    let sent = outage.last_lost.sent.0 - outage.first_lost.sent.0;
    assert!(sent > ms(120));
}

#[test]
fn without_departures_the_residence_beside_an_outage_widens_it() {
    let mut old = world(&[line(&".".repeat(1_500))]);
    old.departures = false;
    old.cut_back = vec![(ms(3_000), ms(3_400))];
    let plain = reverse(&old);
    bound(&plain[0], ms(400), ms(10));
    // Its last replies left when the reflector had stood still for a while.
    old.stalls = vec![(ms(2_000), ms(3_390))];
    old.cut_back = vec![(ms(3_000), ms(3_390) + Span::from_micros(100))];
    let found = reverse(&old);
    assert!(
        found[0].at_least_ns.0 <= Span::from_millis(400),
        "{found:?}"
    );
}

#[test]
fn refused_sends_tighten_the_bounds() {
    // Refused from slot 6 to 9, then lost until slot 13.
    let found = outages("......RRRRxxxx......");
    let [outage] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((outage.lost, outage.refused, outage.unsent), (4, 4, 4));
    assert_eq!(outage.at_least_ns.0, between(6, 13));
    assert_eq!(outage.at_most_ns.unwrap().0, between(5, 14));
    // Only lost probes are named: refused ones were never on their way.
    assert_eq!((outage.first_lost.seq, outage.last_lost.seq), (10, 13));
    assert_eq!(outage.loss_periods.len(), 1);
    let interval = Span::from_millis(10);
    let cause = OutageCause::NoRoute {
        errno: 101,
        first: utc_at(interval, 6),
        last: utc_at(interval, 9),
    };
    assert_eq!(outage.cause, Some(cause));
}

#[test]
fn refused_sends_alone_are_an_outage_without_a_lost_packet() {
    let flow = flow(&format!("......{}......", "R".repeat(350)));
    let [outage] = flow.outages.as_slice() else {
        panic!("{flow:?}")
    };
    assert_eq!(outage.direction, Direction::Forward);
    assert_eq!((outage.lost, outage.refused), (0, 350));
    assert_eq!(outage.at_least_ns.0, between(6, 355));
    assert_eq!(outage.at_most_ns.unwrap().0, between(5, 356));
    assert!(outage.loss_periods.is_empty() && flow.background.is_empty());
    let counts = flow.counts;
    assert_eq!(
        (counts.sent, counts.lost_forward, counts.refused),
        (12, 0, 350)
    );
}

/// ENOBUFS and EPERM tell of the host, and nothing of the path.
#[test]
fn sends_refused_for_another_reason_are_no_evidence() {
    let flow = flow("......BBBBBB......");
    assert!(flow.outages.is_empty(), "{flow:?}");
    assert_eq!(flow.counts.refused, 6);
}

#[test]
fn replies_refused_for_want_of_a_route_are_an_outage_of_the_way_back() {
    let flow = flow("......qqqqqq......");
    let [outage] = flow.outages.as_slice() else {
        panic!("{flow:?}")
    };
    assert_eq!(outage.direction, Direction::Reverse);
    assert_eq!((outage.lost, outage.refused), (0, 6));
    assert_eq!(outage.at_least_ns.0, between(6, 11));
    assert!(matches!(
        outage.cause,
        Some(OutageCause::NoRoute { errno: 113, .. })
    ));
    assert_eq!(flow.counts.lost_reverse, 0);
}

/// Seen in the campaign: two lost replies whose probes overtook each other on the way out.
#[test]
fn a_loss_period_begins_with_the_probe_that_was_sent_first_whatever_left_first() {
    use super::{Delivery, Seen, as_sent, periods};
    let seen = |seq: u32, left: i64, said| Seen {
        seq,
        sent: sent_at(Span::from_millis(10), usize::try_from(seq).unwrap()),
        at: hopgap_proto::time::Mono::ZERO + ms(left),
        latest: hopgap_proto::time::Mono::ZERO + ms(left),
        said,
        later: Span::ZERO,
        undated: None,
    };
    let line = [
        seen(299, 1, Delivery::Good),
        seen(301, 2, Delivery::Lost),
        seen(300, 3, Delivery::Lost),
        seen(302, 4, Delivery::Good),
    ];
    let found = periods(&line, &as_sent(&line));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].lost, found[0].lost_between), (2, Some((2, 1))));
    // The bounds are by what left first and last.
    assert_eq!((found[0].first, found[0].last), (1, 2));
    // A probe that got through between two in the order of sending separates them.
    let line = [
        seen(302, 1, Delivery::Good),
        seen(301, 2, Delivery::Lost),
        seen(303, 3, Delivery::Lost),
        seen(304, 4, Delivery::Good),
    ];
    assert_eq!(periods(&line, &as_sent(&line)).len(), 2);
}
