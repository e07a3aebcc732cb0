use crate::findings::{Direction, DirectionSource, FlowFindings, Outage};
use crate::scenario::{line, sent_at, utc_at, world};
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
