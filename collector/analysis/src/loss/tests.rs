use crate::findings::{Counts, Direction, DirectionSource, VerdictResult};
use crate::scenario::{World, line, world};
use crate::scenario::{reflector_at, sent_at};
use hopgap_proto::record::{DropReason, Event, EventKind, FlowIndex};
use hopgap_proto::time::{ClockPair, Span};

fn counts(world: &World) -> Counts {
    world.analyse().sessions[0].counts
}

/// The same without the reflector's log.
fn by_counter(fates: &str) -> World {
    World {
        log: false,
        ..world(&[line(fates)])
    }
}

fn lost(c: &Counts) -> (u64, u64, u64) {
    (c.lost_forward, c.lost_reverse, c.lost_unknown)
}

#[test]
fn the_log_gives_every_loss_its_direction() {
    let world = world(&[line("...x.r.xr.rx.xxrrxr....")]);
    let found = world.analyse();
    assert_eq!(
        found.sessions[0].direction_source,
        DirectionSource::ReflectorLog
    );
    assert_eq!(lost(&found.sessions[0].counts), (6, 6, 0));
}

#[test]
fn counts_add_up() {
    let c = counts(&world(&[line("..xrldp.RRss_...rr..xx")]));
    assert_eq!(
        c.sent,
        c.answered
            + c.late
            + c.lost_forward
            + c.lost_reverse
            + c.lost_unknown
            + c.dropped_by_policy
            + c.no_data
            + c.pending
    );
    assert_eq!((c.late, c.duplicated, c.refused, c.skipped), (1, 1, 2, 2));
    assert_eq!(lost(&c), (3, 3, 0));
}

#[test]
fn the_counter_gives_gaps_of_one_direction_their_positions() {
    let found = by_counter("....xxxx....rrrr....").analyse();
    let session = &found.sessions[0];
    assert_eq!(session.direction_source, DirectionSource::ReflectorCounter);
    assert_eq!(lost(&session.counts), (4, 4, 0));
    let directions: Vec<_> = session.flows[0]
        .outages
        .iter()
        .map(|o| o.direction)
        .collect();
    assert_eq!(directions, [Direction::Forward, Direction::Reverse]);
}

#[test]
fn the_counter_gives_mixed_gaps_counts_and_no_positions() {
    let found = by_counter("....xxrrrxx....").analyse();
    let session = &found.sessions[0];
    assert_eq!(lost(&session.counts), (4, 3, 0));
    let outages = &session.flows[0].outages;
    assert_eq!(outages.len(), 1);
    assert_eq!(outages[0].direction, Direction::Unknown);
    assert_eq!(outages[0].lost, 7);
}

#[test]
fn refused_sends_do_not_count_as_lost_on_the_way_out() {
    // Refused sends use sequence numbers that never left.
    assert_eq!(
        lost(&counts(&by_counter("....RRxxx....rRr...."))),
        (3, 2, 0)
    );
}

#[test]
fn a_counter_that_went_back_tells_nothing() {
    let mut input = by_counter("....xxxx........").input();
    for probe in &mut input.sessions[0].sender[0].probes {
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate
            && probe.seq.0 >= 8
        {
            reply.reflector_seq.0 -= 4;
        }
    }
    assert_eq!(lost(&crate::analyse(&input).sessions[0].counts), (0, 0, 4));
}

#[test]
fn a_trailing_gap_is_unresolved_by_the_counter() {
    assert_eq!(lost(&counts(&by_counter("......xxxx"))), (0, 0, 4));
}

#[test]
fn a_foreign_reflector_that_copies_the_number_counts_nothing() {
    let mut world = by_counter("....rrrr....");
    (world.foreign, world.stateful) = (true, false);
    assert_eq!(lost(&counts(&world)), (0, 0, 4));
}

#[test]
fn a_foreign_reflector_that_is_known_to_count_is_believed_from_its_first_probe() {
    // Nothing was ever lost on the way out, so its numbers equal those of the probes.
    let mut world = by_counter("....rrrr....");
    world.foreign = true;
    assert_eq!(lost(&counts(&world)), (0, 0, 4));
    world.events.push(Event {
        at: sent_at(world.interval, 1),
        kind: EventKind::ReflectorCounts,
    });
    assert_eq!(lost(&counts(&world)), (0, 4, 0));
}

#[test]
fn a_foreign_reflector_that_counts_is_believed() {
    let mut world = by_counter("....xxxx....rrrr....");
    world.foreign = true;
    assert_eq!(lost(&counts(&world)), (4, 4, 0));
}

#[test]
fn the_newest_unanswered_probes_are_pending() {
    let mut world = world(&[line(&format!("{}xxxx", ".".repeat(500)))]);
    world.tail = Span::from_millis(100);
    let c = counts(&world);
    assert_eq!((c.pending, lost(&c)), (4, (0, 0, 0)));
    // A session that was stopped in order has waited for them.
    world.events.push(hopgap_proto::record::Event {
        at: crate::scenario::sent_at(world.interval, 504),
        kind: hopgap_proto::record::EventKind::SessionStopped,
    });
    let c = counts(&world);
    assert_eq!(c.pending, 0);
    assert_eq!(c.lost_forward + c.lost_unknown, 4);
}

#[test]
fn a_log_that_has_not_come_yet_gives_no_direction() {
    // The log ends with its last reception; the sender's records go on.
    let mut input = world(&[line(&format!("{}xxxx....", ".".repeat(100)))]).input();
    let log = &mut input.sessions[0].reflector[0];
    log.receptions.truncate(50);
    log.clocks.truncate(2);
    let found = crate::analyse(&input);
    // The replies' counter still tells.
    assert_eq!(lost(&found.sessions[0].counts), (4, 0, 0));
    assert!(
        found.caveats.iter().any(|c| c.contains("log is missing")),
        "{:?}",
        found.caveats
    );
    for probe in &mut input.sessions[0].sender[0].probes {
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.reflector_seq.0 = 0;
        }
    }
    let found = crate::analyse(&input);
    assert_eq!(lost(&found.sessions[0].counts), (0, 0, 4));
}

#[test]
fn a_hole_in_the_log_is_not_taken_for_loss_on_the_way_out() {
    // The log lacks a block, in which both ends saw probes answered.
    let mut input = world(&[line(&format!("{0}rrrr{0}", ".".repeat(20)))]).input();
    input.sessions[0].reflector[0]
        .receptions
        .retain(|r| !(15..30).contains(&r.seq.0));
    let found = crate::analyse(&input);
    assert_eq!(lost(&found.sessions[0].counts), (0, 4, 0), "by the counter");
}

#[test]
fn what_the_agent_lost_of_an_earlier_time_is_no_data_of_that_time() {
    // Replies lost after 30 s, of which the reflector logged the requests; its spool lost
    // just that block, and it says so at the very end. Its counter tells nothing.
    let mut input = world(&[line(&format!("{0}rrrr{0}", ".".repeat(3_000)))]).input();
    for probe in &mut input.sessions[0].sender[0].probes {
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.reflector_seq.0 = 0;
        }
    }
    assert_eq!(lost(&crate::analyse(&input).sessions[0].counts), (0, 4, 0));
    let log = &mut input.sessions[0].reflector[0];
    log.receptions
        .retain(|r| !(3_000..3_004).contains(&r.seq.0));
    let at = log.receptions.last().unwrap().received.at;
    let told = |input: &mut crate::input::Input, from: Option<i64>, to: i64| {
        let wall = |seconds| crate::scenario::UTC + Span::from_secs(seconds);
        let kind = hopgap_proto::record::EventKind::BlocksLost {
            blocks: 1,
            from: from.map(wall),
            to: wall(to),
        };
        let event = hopgap_proto::record::Event { at, kind };
        input.sessions[0].reflector[0].events = vec![event];
        let found = crate::analyse(input);
        let said = |c: &String| c.contains("1 block of records were lost by the agent itself");
        assert!(found.caveats.iter().any(said), "{:?}", found.caveats);
        lost(&found.sessions[0].counts)
    };
    assert_eq!(told(&mut input, Some(35), 40), (0, 0, 4));
    assert_eq!(told(&mut input, None, 40), (0, 0, 4));
    // At another time it excuses nothing.
    assert_eq!(told(&mut input, Some(50), 60), (4, 0, 0));
}

#[test]
fn a_reflector_that_did_not_run_is_no_loss() {
    // The agent dies after 5 s and is back after 8 s.
    let mut world = world(&[line(&format!(
        "{0}{1}{0}",
        ".".repeat(500),
        "x".repeat(300)
    ))]);
    world.tail = Span::from_secs(5);
    let mut input = world.input();
    let log = &mut input.sessions[0].reflector;
    let mut second = log[0].clone();
    let died = log[0].receptions[499].received.at;
    second.run = hopgap_proto::record::RunId(3);
    second.receptions.retain(|r| r.received.at > died);
    let back = second.receptions[0].received.at;
    second.clocks.retain(|c| c.mono >= back);
    log[0].receptions.retain(|r| r.received.at <= died);
    log[0].clocks.retain(|c| c.mono <= died);
    log.push(second);
    let found = crate::analyse(&input);
    let counts = found.sessions[0].counts;
    assert_eq!((counts.no_data, lost(&counts)), (300, (0, 0, 0)));
    assert!(found.sessions[0].flows[0].outages.is_empty());
    assert!(found.caveats.iter().any(|c| c.contains("did not run")));
}

#[test]
fn sequence_numbers_of_two_runs_are_told_apart_by_time() {
    // The sender restarts after 3 s: the numbers begin anew, and what the second run
    // loses on the way out the reflector had logged for the first.
    let first = world(&[line(&".".repeat(100))]);
    let mut input = first.input();
    let second = world(&[line("..........xxxx......rrrr........")]).input();
    let shift = Span::from_secs(3);
    let (mut sender, log) = (
        second.sessions[0].sender[0].clone(),
        second.sessions[0].reflector[0].clone(),
    );
    sender.run = hopgap_proto::record::RunId(9);
    for clock in &mut sender.clocks {
        clock.mono += shift;
        clock.wall += shift;
    }
    for probe in &mut sender.probes {
        probe.sent.at += shift;
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.at += shift;
            reply.reflector_received += shift;
            reply.reflector_sent += shift;
            // The counter says nothing: only the log is left to tell.
            reply.reflector_seq.0 = 0;
        }
    }
    input.sessions[0].sender.push(sender);
    input.sessions[0].reflector[0]
        .receptions
        .extend(log.receptions.into_iter().map(|mut r| {
            r.received.at += shift;
            r
        }));
    let counts = crate::analyse(&input).sessions[0].counts;
    assert_eq!(lost(&counts), (4, 4, 0));
    assert_eq!(counts.sent, 132);
}

#[test]
fn reordering_is_counted_by_direction() {
    let mut input = world(&[line(&".".repeat(50))]).input();
    // Probe 10 is held on the way out for 25 ms, reply 30 on the way back: two packets
    // overtake each.
    let delay = Span::from_millis(25);
    for reception in &mut input.sessions[0].reflector[0].receptions {
        if reception.seq.0 == 10 {
            reception.received.at += delay;
        }
    }
    for probe in &mut input.sessions[0].sender[0].probes {
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            if probe.seq.0 == 10 {
                reply.reflector_received += delay;
                reply.reflector_sent += delay;
            }
            if probe.seq.0 == 10 || probe.seq.0 == 30 {
                reply.received.at += delay;
            }
        }
    }
    let counts = crate::analyse(&input).sessions[0].counts;
    assert_eq!((counts.reordered_forward, counts.reordered_reverse), (1, 1));
}

#[test]
fn probes_without_record_are_missing_data() {
    let found = world(&[line("....____....")]).analyse();
    let counts = found.sessions[0].counts;
    assert_eq!((counts.sent, lost(&counts)), (8, (0, 0, 0)));
    assert!(
        found
            .caveats
            .iter()
            .any(|c| c.contains("4 sequence numbers")),
        "{:?}",
        found.caveats
    );
}

#[test]
fn what_the_rate_limit_held_back_without_logging_it_is_no_loss() {
    let lines = format!("{0}xxxx{0}xxxx{0}", ".".repeat(300));
    let mut input = world(&[line(&lines)]).input();
    let log = &mut input.sessions[0].reflector[0];
    // Reported half a second after the first stretch; the second is true loss.
    let at = log.receptions[299].received.at + Span::from_millis(500);
    log.events.push(hopgap_proto::record::Event {
        at,
        kind: hopgap_proto::record::EventKind::ReflectorDropped {
            reason: hopgap_proto::record::DropReason::RateLimited,
            count: 4,
        },
    });
    let found = crate::analyse(&input);
    let c = found.sessions[0].counts;
    assert_eq!((c.dropped_by_policy, lost(&c)), (4, (4, 0, 0)));
    assert!(
        found
            .caveats
            .iter()
            .any(|c| c.contains("exceeded the reflector's rate"))
    );
    // It counted fewer than are missing: some were lost, but it is unknown which.
    if let Some(event) = input.sessions[0].reflector[0].events.last_mut() {
        event.kind = hopgap_proto::record::EventKind::ReflectorDropped {
            reason: hopgap_proto::record::DropReason::RateLimited,
            count: 3,
        };
    }
    assert_eq!(lost(&crate::analyse(&input).sessions[0].counts), (8, 0, 0));
}

/// Three seconds of probes, one every 10 ms, of which the reflector turns away those of
/// the second one; it counts `count` and gives `reason`.
fn turned_away(fates: &str, reason: DropReason, count: u32) -> crate::findings::Findings {
    assert_eq!(fates.len(), 300);
    let mut input = world(&[line(fates)]).input();
    let log = &mut input.sessions[0].reflector[0];
    let first = log.receptions[0].received.at;
    log.events.push(Event {
        at: first + Span::from_millis(2_002),
        kind: EventKind::ReflectorDropped { reason, count },
    });
    crate::analyse(&input)
}

#[test]
fn what_a_reflector_turned_away_is_no_loss_whatever_the_reason() {
    let fates = format!("{}{}{}", ".".repeat(100), "x".repeat(100), ".".repeat(100));
    let all = [
        DropReason::Malformed,
        DropReason::Unauthenticated,
        DropReason::Unprovisioned,
        DropReason::LoopGuard,
        DropReason::RateLimited,
        DropReason::Replayed,
    ];
    for reason in all {
        // With the packets of its traceroutes beside its probes.
        for count in [100, 130] {
            let found = turned_away(&fates, reason, count);
            let c = &found.sessions[0].counts;
            assert_eq!(
                (lost(c), c.dropped_by_policy),
                ((0, 0, 0), 100),
                "{reason:?}"
            );
            assert!(found.sessions[0].flows[0].outages.is_empty(), "{reason:?}");
            let told =
                |c: &String| c.contains("the reflector `azure`") && c.contains(&count.to_string());
            assert!(found.caveats.iter().any(told), "{:?}", found.caveats);
        }
    }
}

#[test]
fn forged_packets_excuse_no_outage() {
    let fates = format!("{}{}{}", ".".repeat(100), "x".repeat(100), ".".repeat(100));
    for reason in [
        DropReason::Malformed,
        DropReason::Unauthenticated,
        DropReason::Replayed,
        DropReason::Unprovisioned,
        DropReason::LoopGuard,
    ] {
        // A flood, and a few packets that may be anybody's.
        for count in [60, 100_000] {
            let found = turned_away(&fates, reason, count);
            let c = &found.sessions[0].counts;
            assert_eq!(
                (lost(c), c.dropped_by_policy),
                ((100, 0, 0), 0),
                "{reason:?}"
            );
            let told =
                |c: &String| c.contains("the reflector `azure`") && c.contains(&count.to_string());
            assert!(found.caveats.iter().any(told), "{:?}", found.caveats);
        }
    }
}

#[test]
fn what_strangers_sent_excuses_nothing() {
    let fates = format!("{}{}{}", ".".repeat(100), "x".repeat(100), ".".repeat(100));
    for count in [99, 100, 101, 150] {
        let c = turned_away(&fates, DropReason::Stranger, count).sessions[0].counts;
        assert_eq!((lost(&c), c.dropped_by_policy), ((100, 0, 0), 0));
    }
}

#[test]
fn what_goes_unanswered_before_the_reflecting_agent_runs_is_no_data() {
    // 20 s of probes, and the agent begins to run 14 s after the first.
    let mut input = world(&[line(&format!("{}{}", "x".repeat(1500), ".".repeat(500)))]).input();
    let reflector = &mut input.sessions[0].reflector[0];
    let began = reflector.receptions[0].received.at - Span::from_secs(1);
    reflector.clocks.retain(|c| c.mono >= began);
    let found = crate::analyse(&input);
    let c = &found.sessions[0].counts;
    assert_eq!((c.no_data, lost(c)), (1500, (0, 0, 0)));
    assert!(found.sessions[0].flows[0].outages.is_empty());
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert!(
        found.caveats.iter().any(|c| c
            .contains("1500 probes went unanswered before the first sign of the agent `azure`")),
        "{:?}",
        found.caveats
    );
}

#[test]
fn what_goes_unanswered_after_the_last_sign_of_the_reflecting_agent_is_no_data() {
    let mut input = world(&[line(&format!("{}{}", ".".repeat(500), "x".repeat(1500)))]).input();
    let reflector = &mut input.sessions[0].reflector[0];
    let last = reflector.receptions.last().unwrap().received.at;
    reflector.clocks.retain(|c| c.mono <= last);
    let found = crate::analyse(&input);
    let c = &found.sessions[0].counts;
    assert_eq!((c.no_data, lost(c)), (1500, (0, 0, 0)));
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert!(
        found
            .caveats
            .iter()
            .any(|c| c.contains("after the last sign of the agent `azure`"))
    );
}

#[test]
fn what_goes_unanswered_by_an_agent_of_which_there_is_no_sign_is_no_data() {
    let found = by_counter(&"x".repeat(2000)).analyse();
    let c = &found.sessions[0].counts;
    assert_eq!((c.no_data, lost(c)), (2000, (0, 0, 0)));
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert!(
        found
            .caveats
            .iter()
            .any(|c| c.contains("no sign of the agent `azure`"))
    );
}

#[test]
fn loss_at_the_end_is_loss_while_the_reflecting_agent_is_heard() {
    let found = world(&[line(&format!("{}{}", ".".repeat(500), "x".repeat(1500)))]).analyse();
    assert_eq!(lost(&found.sessions[0].counts), (1500, 0, 0));
    assert_eq!(found.verdict.result, VerdictResult::Missed);
}

#[test]
fn what_a_host_threw_away_after_it_had_arrived_is_not_loss_on_the_path() {
    let interval = Span::from_millis(10);
    let around =
        |first: usize, last: usize| (sent_at(interval, first - 1), sent_at(interval, last + 1));
    // Slots 100 to 119 never reached the reflecting agent: its host says how many it
    // threw away. Of the replies to 200 to 209 the sender's host says it.
    let fates = format!(
        "{}{}{}{}{}",
        ".".repeat(100),
        "x".repeat(20),
        ".".repeat(80),
        "r".repeat(10),
        ".".repeat(100)
    );
    let mut input = world(&[line(&fates)]).input();
    let lost_as_it_seems = crate::analyse(&input).sessions[0].counts;
    assert_eq!(lost(&lost_as_it_seems), (20, 10, 0));

    let records = &mut input.sessions[0];
    let arrival = |records: &crate::input::SessionRecords, seq: u32| {
        let log = &records.reflector[0].receptions;
        log.iter().find(|r| r.seq.0 == seq).unwrap().received.at
    };
    let (since, at) = (arrival(records, 99), arrival(records, 120));
    records.reflector[0].events.push(Event {
        at,
        kind: EventKind::ReceiveOverflow {
            flow: None,
            since,
            count: 20,
        },
    });
    let (since, at) = around(200, 209);
    records.sender[0].events.push(Event {
        at,
        kind: EventKind::ReceiveOverflow {
            flow: Some(FlowIndex(0)),
            since,
            count: 10,
        },
    });
    let found = crate::analyse(&input);
    let c = &found.sessions[0].counts;
    assert_eq!(lost(c), (0, 0, 0));
    assert_eq!((c.dropped_by_policy, c.no_data), (20, 10));
    assert!(found.sessions[0].flows[0].outages.is_empty());
    for who in [
        "the sender's own host threw away 10 replies",
        "reflector `azure` threw away 20 packets",
    ] {
        assert!(
            found.caveats.iter().any(|c| c.contains(who)),
            "{:?}",
            found.caveats
        );
    }
    assert!(!found.caveats.iter().any(|c| c.contains("did not run")));
}

#[test]
fn more_losses_than_a_host_threw_away_stay_losses() {
    let mut input = world(&[line(&format!("{0}{1}{0}", ".".repeat(100), "r".repeat(11)))]).input();
    let interval = Span::from_millis(10);
    input.sessions[0].sender[0].events.push(Event {
        at: sent_at(interval, 111),
        kind: EventKind::ReceiveOverflow {
            flow: Some(FlowIndex(0)),
            since: sent_at(interval, 99),
            count: 10,
        },
    });
    assert_eq!(lost(&crate::analyse(&input).sessions[0].counts), (0, 11, 0));
}

fn stalled(from: i64, to: i64, slots: usize) -> World {
    World {
        stalls: vec![(Span::from_secs(from), Span::from_secs(to))],
        tail: Span::from_secs(80),
        ..world(&[line(&".".repeat(slots))])
    }
}

#[test]
fn what_a_reflector_answers_after_a_stall_is_late_however_late() {
    for seconds in [5, 15, 30, 60] {
        let world = stalled(2, 2 + seconds, 6_500);
        let found = world.analyse();
        let session = &found.sessions[0];
        let c = session.counts;
        assert_eq!(lost(&c), (0, 0, 0), "{seconds} s");
        assert!(session.flows[0].outages.is_empty(), "{seconds} s");
        // All but those of the last two seconds, which were in time.
        let late = u64::try_from(seconds - 2).unwrap() * 100;
        assert!(
            late - 10 < c.late && c.late < late + 10,
            "{seconds} s: {}",
            c.late
        );
        assert_eq!(c.answered + c.late, c.sent);
    }
}

#[test]
fn without_a_log_what_a_stalled_reflector_did_not_answer_is_no_data() {
    // From 4 s on its queue was full.
    let fates = format!("{}{}{}", ".".repeat(400), "x".repeat(300), ".".repeat(300));
    let full = World {
        stalls: vec![(Span::from_secs(2), Span::from_secs(7))],
        log: false,
        ..world(&[line(&fates)])
    };
    let c = counts(&full);
    assert_eq!(lost(&c), (0, 0, 0), "{c:?}");
    assert_eq!(c.no_data, 300);
    // Without the stall they were lost.
    let lossy = World {
        stalls: Vec::new(),
        ..full
    };
    assert_eq!(lost(&counts(&lossy)), (300, 0, 0));
}

/// With the reflector's log and its count of overflowed packets.
#[test]
fn a_full_queue_of_a_stalled_reflector_is_no_loss_of_the_path() {
    let fates = format!("{}{}{}", ".".repeat(400), "x".repeat(300), ".".repeat(300));
    let mut full = World {
        stalls: vec![(Span::from_secs(2), Span::from_secs(7))],
        ..world(&[line(&fates)])
    };
    // The program's part of it: nothing else is known, so they were lost on the way.
    assert_eq!(lost(&counts(&full)), (300, 0, 0));
    let reflector = |after: Span| hopgap_proto::time::Mono::from_nanos(7_777_000_000_000) + after;
    full.reflector_events = vec![Event {
        at: reflector(Span::from_millis(7_003)),
        kind: EventKind::ReceiveOverflow {
            flow: None,
            since: reflector(Span::from_millis(3_992)),
            count: 300,
        },
    }];
    let c = counts(&full);
    assert_eq!(
        (lost(&c), c.no_data, c.dropped_by_policy),
        ((0, 0, 0), 300, 0)
    );
}

/// A host that stands still as a whole hears nothing; then nobody knows of the path.
#[test]
fn what_came_to_a_host_that_was_deaf_is_no_data() {
    let fates = format!("{}{}{}", ".".repeat(300), "x".repeat(300), ".".repeat(300));
    let mut paused = world(&[line(&fates)]);
    assert_eq!(lost(&counts(&paused)), (300, 0, 0));
    let reflector = |after: Span| hopgap_proto::time::Mono::from_nanos(7_777_000_000_000) + after;
    paused.reflector_events = vec![Event {
        at: reflector(Span::from_millis(6_010)),
        kind: EventKind::Stalled {
            since: reflector(Span::from_millis(2_990)),
        },
    }];
    let c = counts(&paused);
    assert_eq!((lost(&c), c.no_data), ((0, 0, 0), 300));
}

/// The same, but probes of another session arrived: its kernel was awake.
#[test]
fn what_a_host_heard_of_another_session_shows_that_it_was_not_deaf() {
    let fates = format!("{}{}{}", ".".repeat(300), "x".repeat(300), ".".repeat(300));
    let mut input = world(&[line(&fates)]).input();
    let reflector = |after: Span| hopgap_proto::time::Mono::from_nanos(7_777_000_000_000) + after;
    input.sessions[0].reflector[0].events = vec![Event {
        at: reflector(Span::from_millis(6_010)),
        kind: EventKind::Stalled {
            since: reflector(Span::from_millis(2_990)),
        },
    }];
    let mut other = world(&[line(&".".repeat(900))]).input();
    let mut plan = other.plan.sessions.remove(0);
    let mut records = other.sessions.remove(0);
    plan.name = "other".parse().unwrap();
    records.session = plan.name.clone();
    input.plan.sessions.push(plan);
    let count = |input: &crate::input::Input| crate::analyse(input).sessions[0].counts;
    let c = count(&input);
    assert_eq!((lost(&c), c.no_data), ((0, 0, 0), 300));
    input.sessions.push(records);
    let c = count(&input);
    assert_eq!((lost(&c), c.no_data), ((300, 0, 0), 0));
    // What another run's process received says nothing of this one.
    input.sessions[1].reflector[0].run = hopgap_proto::record::RunId(77);
    let c = count(&input);
    assert_eq!((lost(&c), c.no_data), ((0, 0, 0), 300));
}

/// The sender was stopped while the reflector stood still: it heard no replies.
#[test]
fn replies_that_nobody_waited_for_are_not_lost() {
    let mut ended = stalled(4, 34, 600);
    ended.events = vec![Event {
        at: sent_at(ended.interval, 600),
        kind: EventKind::SessionStopped,
    }];
    for line in &mut ended.lines {
        // Answered in the log, and on no reply.
        line.fates[400..].fill('r');
    }
    let c = counts(&ended);
    assert_eq!((lost(&c), c.no_data), ((0, 0, 0), 200), "{c:?}");
}

/// The replies of a minute came at once, and the sender's own queue had no room for some.
#[test]
fn replies_of_a_stall_that_the_senders_queue_had_no_room_for_are_no_loss() {
    let mut burst = stalled(2, 12, 1_500);
    for line in &mut burst.lines {
        line.fates[300..400].fill('r');
    }
    assert_eq!(lost(&counts(&burst)), (0, 100, 0));
    burst.events = vec![Event {
        at: sent_at(burst.interval, 1_202),
        kind: EventKind::ReceiveOverflow {
            flow: Some(FlowIndex(0)),
            since: sent_at(burst.interval, 1_199),
            count: 100,
        },
    }];
    let c = counts(&burst);
    assert_eq!((lost(&c), c.no_data), ((0, 0, 0), 100));
}

#[test]
fn what_a_stalled_host_had_no_room_for_is_told_as_that() {
    let fates = format!("{}{}{}", ".".repeat(400), "x".repeat(300), ".".repeat(300));
    let full = World {
        stalls: vec![(Span::from_secs(2), Span::from_secs(7))],
        log: false,
        ..world(&[line(&fates)])
    };
    let caveats = full.analyse().caveats;
    let told = |what: &str| caveats.iter().any(|c| c.contains(what));
    assert!(
        told("300 probes went unanswered while the host of `azure` stood still"),
        "{caveats:?}"
    );
    assert!(!told("did not run"), "{caveats:?}");
}

#[test]
fn blocks_lost_after_the_reflectors_clock_was_set_leave_their_hole_where_it_was() {
    let mut input = world(&[line(&format!("{0}rrrr{0}", ".".repeat(3_000)))]).input();
    let by = -Span::from_secs(3_600);
    let set = crate::scenario::REFLECTOR_BEGIN + Span::from_secs(15);
    for probe in &mut input.sessions[0].sender[0].probes {
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.reflector_seq.0 = 0;
            if probe.seq.0 >= 1_500 {
                reply.reflector_received += by;
                reply.reflector_sent += by;
            }
        }
    }
    let log = &mut input.sessions[0].reflector[0];
    for clock in log.clocks.iter_mut().filter(|c| c.mono >= set) {
        clock.wall += by;
    }
    log.receptions
        .retain(|r| !(3_000..3_004).contains(&r.seq.0));
    let at = log.receptions.last().unwrap().received.at;
    let wall = |seconds| crate::scenario::UTC + Span::from_secs(seconds) + by;
    let kind = EventKind::BlocksLost {
        blocks: 1,
        from: Some(wall(35)),
        to: wall(40),
    };
    let stepped = EventKind::ClockStepped(by);
    log.events = vec![
        Event {
            at: set,
            kind: stepped,
        },
        Event { at, kind },
    ];
    assert_eq!(lost(&crate::analyse(&input).sessions[0].counts), (0, 0, 4));
}

#[test]
fn what_came_between_the_reflectors_end_and_its_agents_is_no_data() {
    // The agent closes its last block some milliseconds after its reflector ended.
    let mut world = world(&[line(&format!("{}x", ".".repeat(100)))]);
    world.tail = Span::from_secs(3);
    let ended = reflector_at(world.interval, 99) + Span::from_millis(5);
    world.reflector_events.push(Event {
        at: ended,
        kind: EventKind::ReflectorStopped,
    });
    let found = counts(&world);
    assert_eq!((found.no_data, found.lost_unknown), (1, 0), "{found:?}");
    // Without the end nobody knows.
    world.reflector_events.clear();
    let found = counts(&world);
    assert_eq!((found.no_data, found.lost_unknown), (0, 1), "{found:?}");
}

#[test]
fn what_was_to_come_just_before_the_reflectors_end_is_no_data() {
    // The delay is never known to the millisecond: it may have come just after.
    let mut world = world(&[line(&format!("{}x", ".".repeat(100)))]);
    world.tail = Span::from_secs(3);
    let expected = reflector_at(world.interval, 100);
    let ended = |after| Event {
        at: expected + after,
        kind: EventKind::ReflectorStopped,
    };
    world.reflector_events.push(ended(Span::from_millis(15)));
    let found = counts(&world);
    assert_eq!((found.no_data, found.lost_forward), (1, 0), "{found:?}");
    // A probe expected well before did not arrive.
    world.reflector_events = vec![ended(Span::from_millis(60))];
    let found = counts(&world);
    assert_eq!((found.no_data, found.lost_forward), (0, 1), "{found:?}");
}

#[test]
fn what_was_to_come_beside_the_last_reception_on_record_may_be_in_the_next_block() {
    // The last probe of flow 0 was to come beside the last that flow 1 has on record.
    let dots = ".".repeat(99);
    let mut world = world(&[line(&format!("{dots}x")), line(&format!("{dots}."))]);
    world.tail = Span::from_secs(5);
    let direction = |world: &World| {
        let found = counts(world);
        (found.lost_forward, found.lost_unknown)
    };
    assert_eq!(direction(&world), (0, 1));
    // What was on record long after it shows that it did not come.
    let later = ".".repeat(20);
    world.lines[0] = line(&format!("{dots}x{later}"));
    world.lines[1] = line(&format!("{dots}.{later}"));
    assert_eq!(direction(&world), (1, 0));
}

#[test]
fn what_was_to_come_beside_the_last_sign_is_told_as_after_it() {
    let mut world = world(&[line(&format!("{}x", ".".repeat(100)))]);
    world.tail = Span::from_secs(3);
    let mut input = world.input();
    let clocks = &mut input.sessions[0].reflector[0].clocks;
    let last = reflector_at(world.interval, 100) + Span::from_millis(10);
    clocks.retain(|pair| pair.mono < last);
    let wall = clocks[0].wall_of(last);
    clocks.push(ClockPair { mono: last, wall });
    let findings = crate::analyse(&input);
    assert_eq!(findings.sessions[0].counts.no_data, 1);
    let caveats = findings.caveats.join("\n");
    assert!(caveats.contains("1 probe went unanswered after the last sign of"));
    assert!(!caveats.contains("did not run"), "{caveats}");
}
