use crate::findings::{
    Findings, MarkerKind, MissingCause, SessionEnd, VerdictReason, VerdictResult,
};
use crate::input::{End, Input};
use crate::scenario::{UTC, World, line, sent_at, world};
use hopgap_proto::record::{Event, EventKind, ProbeFate};
use hopgap_proto::time::{Span, Wall};

const INTERVAL: Span = Span::from_millis(10);

fn at(millis: i64) -> Wall {
    UTC + Span::from_millis(millis)
}

/// Asks for the time from the first probe until this long after it.
fn asked(input: &mut Input, millis: i64) {
    input.window = Some((UTC, at(millis)));
}

fn share(found: &Findings, place: usize) -> (&str, &str, u32) {
    let d = &found.coverage.directions[place];
    (&d.from, &d.to, d.seen_ppm)
}

fn causes(found: &Findings, place: usize) -> Vec<(i64, MissingCause)> {
    let missing = found.coverage.directions[place].missing.iter();
    missing
        .map(|m| (m.lasted_ns.0.as_nanos() / 1_000_000, m.cause.clone()))
        .collect()
}

fn by(agent: &str, cause: fn(String) -> MissingCause) -> MissingCause {
    cause(agent.to_owned())
}

fn not_delivered(agent: String) -> MissingCause {
    MissingCause::NotDelivered { agent }
}

fn not_running(agent: String) -> MissingCause {
    MissingCause::AgentNotRunning { agent }
}

fn stalled(agent: String) -> MissingCause {
    MissingCause::HostStalled { agent }
}

/// The records of both ends have arrived up to these times.
fn ends(input: &mut Input, sender: Wall, reflector: Wall) {
    let end = |end, until: Wall| End {
        session: "out".parse().unwrap(),
        end,
        until: Some(until),
        heard: Some(until),
    };
    input.ends = vec![
        end(SessionEnd::Sender, sender),
        end(SessionEnd::Reflector, reflector),
    ];
}

#[test]
fn what_was_seen_from_end_to_end_is_met_without_an_outage() {
    let mut input = world(&[line(&".".repeat(2_000)), line(&".".repeat(2_000))]).input();
    asked(&mut input, 20_000);
    let found = crate::analyse(&input);
    assert_eq!(share(&found, 0), ("onprem", "azure", 1_000_000));
    assert_eq!(share(&found, 1), ("azure", "onprem", 1_000_000));
    assert_eq!(found.verdict.result, VerdictResult::Met);
    assert_eq!(found.verdict.reason, VerdictReason::AllSeen);
    assert!(found.verdict.sentence.contains("there was no outage"));
    assert!(!found.coverage.preliminary);
}

#[test]
fn a_flow_that_the_plan_has_no_more_is_asked_up_to_its_last_probe() {
    // The plan has one flow; the second was taken out of it after 5 of 30 s.
    let lines = [line(&".".repeat(3_000)), line(&".".repeat(500))];
    let judged = |from: i64, flows: u8| {
        let mut input = world(&lines).input();
        input.plan.sessions[0].flows = flows;
        input.window = Some((at(from), at(30_000)));
        crate::analyse(&input)
    };
    for (from, flows) in [(0, 2), (10_000, 1)] {
        let found = judged(from, 1);
        assert_eq!(
            found.verdict.result,
            VerdictResult::Met,
            "{from}: {}",
            found.verdict.sentence
        );
        assert_eq!(found.sessions[0].flows.len(), flows, "from {from} ms on");
    }
    // A flow of the plan that does not send is missing.
    let found = judged(0, 2);
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert!(
        found.verdict.sentence.contains("flow 1"),
        "{}",
        found.verdict.sentence
    );
}

#[test]
fn a_question_is_judged_to_its_end_and_not_to_that_of_the_data() {
    // Both agents are killed after 12 s of a drill of 32 s.
    let mut world = world(&[line(&".".repeat(1_200))]);
    world.tail = Span::ZERO;
    let mut input = world.input();
    asked(&mut input, 32_000);
    let found = crate::analyse(&input);
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    let window = found.window.unwrap();
    assert_eq!((window.from.0, window.to.0), (UTC, at(32_000)));
    let (_, _, ppm) = share(&found, 0);
    assert!((374_000..375_001).contains(&ppm), "{ppm}");
    let sentence = &found.verdict.sentence;
    for said in [
        "data up to ",
        "37.4 % of the stretch",
        "no usable probe for 20.0",
        "`onprem` has not delivered",
    ] {
        assert!(sentence.contains(said), "{said}: {sentence}");
    }
    assert!(!sentence.contains("no outage"), "{sentence}");
}

#[test]
fn what_a_cut_off_agent_has_not_delivered_is_awaited() {
    // The last 15 of 20 s: probes of `onprem` go unanswered, and `azure` cannot deliver.
    let mut world = world(&[line(&format!("{}{}", ".".repeat(500), "x".repeat(1_500)))]);
    world.tail = Span::from_secs(5);
    let mut input = world.input();
    let log = &mut input.sessions[0].reflector[0];
    let last = log.receptions.last().unwrap().received.at;
    log.clocks.retain(|c| c.mono <= last);
    asked(&mut input, 20_000);
    ends(&mut input, at(25_000), at(5_000));
    input.asked_at = Some(at(21_000));
    let found = crate::analyse(&input);
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert!(found.coverage.preliminary);
    let awaited = &found.coverage.awaited;
    assert_eq!(awaited.len(), 1, "{awaited:?}");
    assert_eq!(
        (awaited[0].agent.as_str(), awaited[0].end),
        ("azure", SessionEnd::Reflector)
    );
    assert_eq!(awaited[0].until.unwrap().0, at(5_000));
    assert!(awaited[0].expected.unwrap().0 > at(21_000));
    for place in [0, 1] {
        let (_, _, ppm) = share(&found, place);
        assert!((249_000..250_001).contains(&ppm), "{ppm}");
        let [(lasted, cause)] = causes(&found, place).try_into().unwrap();
        assert!((15_000..15_020).contains(&lasted), "{lasted}");
        assert_eq!(cause, by("azure", not_delivered));
    }
    assert!(
        found.verdict.sentence.contains("data up to"),
        "{}",
        found.verdict.sentence
    );
    // Unseen time is not reported as free of interruptions.
    assert!(found.transitions.is_empty());
    let said = crate::text::no_transition(&found.coverage);
    assert!(
        said.contains("not known") && !said.contains("no interruption"),
        "{said}"
    );
    // Later all records have arrived: there is one outage, and nothing is awaited.
    let mut later = World {
        tail: Span::from_secs(40),
        ..world
    }
    .input();
    asked(&mut later, 20_000);
    ends(&mut later, at(60_000), at(60_000));
    let later = crate::analyse(&later);
    assert_eq!(later.verdict.result, VerdictResult::Missed);
    assert!(!later.coverage.preliminary);
}

#[test]
fn an_agent_that_stopped_in_order_is_not_awaited() {
    let mut world = world(&[line(&".".repeat(1_200))]);
    world.tail = Span::ZERO;
    world.events.push(Event {
        at: sent_at(INTERVAL, 1_200),
        kind: EventKind::SessionStopped,
    });
    let mut input = world.input();
    asked(&mut input, 32_000);
    ends(&mut input, at(12_500), at(60_000));
    let found = crate::analyse(&input);
    assert!(!found.coverage.preliminary, "{:?}", found.coverage.awaited);
    assert_eq!(causes(&found, 0)[0].1, by("onprem", not_running));
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
}

#[test]
fn a_log_that_is_still_to_come_makes_findings_preliminary() {
    let mut input = world(&[line(&".".repeat(2_000))]).input();
    asked(&mut input, 20_000);
    ends(&mut input, at(30_000), at(15_000));
    let found = crate::analyse(&input);
    assert!(found.coverage.preliminary);
    assert_eq!(found.coverage.awaited[0].end, SessionEnd::Reflector);
    // Answered probes tell of both directions, whatever the log adds.
    assert_eq!(found.verdict.result, VerdictResult::Met);
    ends(&mut input, at(30_000), at(21_000));
    assert!(!crate::analyse(&input).coverage.preliminary);
    // A sender's probes are certain after their timeout.
    ends(&mut input, at(21_000), at(30_000));
    assert!(crate::analyse(&input).coverage.preliminary);
}

#[test]
fn an_agent_that_was_never_there_is_not_awaited() {
    let mut input = world(&[line(&"x".repeat(2_000))]).input();
    input.sessions[0].reflector.clear();
    asked(&mut input, 20_000);
    ends(&mut input, at(30_000), at(-3_600_000));
    let found = crate::analyse(&input);
    assert!(!found.coverage.preliminary);
    assert_eq!(share(&found, 0).2, 0);
    assert!(matches!(
        causes(&found, 0)[0].1,
        MissingCause::AgentNotHeard { .. }
    ));
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    let said = crate::text::no_transition(&found.coverage);
    assert!(said.contains("Nothing was seen"), "{said}");
}

#[test]
fn refused_sends_tell_of_the_way_out_and_not_of_the_way_back() {
    // 30 s, of which the host's link is down for 3.5 s.
    let mut input = world(&[line(&format!(
        "{}{}{}",
        ".".repeat(1_000),
        "R".repeat(350),
        ".".repeat(1_650)
    ))])
    .input();
    asked(&mut input, 30_000);
    let found = crate::analyse(&input);
    // The missing route is known: an outage, bounded by the refusals.
    assert_eq!(share(&found, 0).2, 1_000_000);
    let [outage] = &found.sessions[0].flows[0].outages[..] else {
        panic!("{:?}", found.sessions[0].flows[0].outages)
    };
    assert!(outage.at_least_ns.0 > Span::from_millis(3_480));
    assert!(outage.at_most_ns.unwrap().0 < Span::from_millis(3_520));
    // Nothing came to be answered.
    let [(lasted, cause)] = causes(&found, 1).try_into().unwrap();
    assert!((3_500..3_520).contains(&lasted), "{lasted}");
    let expected = MissingCause::SendsRefused {
        agent: "onprem".to_owned(),
        errno: 101,
    };
    assert_eq!(cause, expected);
    let sentence = &found.verdict.sentence;
    for said in [
        "the longest outage lasted at least 3.4",
        "88.2 % of the stretch was seen",
        "nothing could be sent for 3.51",
        "ENETUNREACH",
    ] {
        assert!(sentence.contains(said), "{said}: {sentence}");
    }
    assert!(!sentence.contains("no outage"), "{sentence}");
}

#[test]
fn sends_refused_for_another_reason_tell_nothing() {
    // A local firewall forbids them for 3.5 s of 30.
    let mut input = world(&[line(&format!(
        "{}{}{}",
        ".".repeat(1_000),
        "R".repeat(350),
        ".".repeat(1_650)
    ))])
    .input();
    for probe in &mut input.sessions[0].sender[0].probes {
        if matches!(probe.fate, ProbeFate::Refused(_)) {
            probe.fate = ProbeFate::Refused(1);
        }
    }
    asked(&mut input, 30_000);
    let found = crate::analyse(&input);
    for place in [0, 1] {
        let [(lasted, cause)] = causes(&found, place).try_into().unwrap();
        assert!((3_500..3_520).contains(&lasted), "{lasted}");
        assert!(matches!(cause, MissingCause::SendsRefused { errno: 1, .. }));
    }
    let sentence = &found.verdict.sentence;
    assert!(sentence.contains("none seen in 88.2 %"), "{sentence}");
    assert!(
        sentence.contains("nothing could be sent for 3.51"),
        "{sentence}"
    );
    assert!(!sentence.contains("no outage"), "{sentence}");
    assert_eq!(
        crate::text::no_outage(&found.coverage),
        "outages: none seen in 88.2 %"
    );
}

#[test]
fn refused_sends_over_the_objective_miss_it_or_leave_it_undecided() {
    let verdict = |errno: i32| {
        let fates = format!("{0}{1}{0}", ".".repeat(500), "R".repeat(1_200));
        let mut input = world(&[line(&fates)]).input();
        for probe in &mut input.sessions[0].sender[0].probes {
            if matches!(probe.fate, ProbeFate::Refused(_)) {
                probe.fate = ProbeFate::Refused(errno);
            }
        }
        asked(&mut input, 22_000);
        crate::analyse(&input).verdict
    };
    assert_eq!(verdict(101).result, VerdictResult::Missed);
    let forbidden = verdict(1);
    assert_eq!(forbidden.result, VerdictResult::Undecided);
    assert!(
        forbidden
            .sentence
            .contains("nothing could be sent for 12.0"),
        "{}",
        forbidden.sentence
    );
}

#[test]
fn a_host_that_sends_nothing_stands_still_and_lost_records_were_made() {
    let of = |gap: char| {
        let gap = gap.to_string().repeat(300);
        let mut input = world(&[line(&format!("{0}{gap}{0}", ".".repeat(1_000)))]).input();
        asked(&mut input, 23_000);
        let found = crate::analyse(&input);
        assert_eq!(found.verdict.result, VerdictResult::Met);
        assert!(matches!(
            found.verdict.reason,
            VerdictReason::TooLittleMissing { .. }
        ));
        causes(&found, 0)
    };
    assert_eq!(of('s')[0].1, by("onprem", stalled));
    let lost = |agent| MissingCause::RecordsLost { agent };
    assert_eq!(of('_')[0].1, by("onprem", lost));
}

#[test]
fn a_true_outage_over_the_objective_is_missed_whatever_is_missing() {
    let mut input = world(&[line(&format!(
        "{0}{1}{0}",
        ".".repeat(100),
        "x".repeat(1_100)
    ))])
    .input();
    asked(&mut input, 60_000);
    assert_eq!(crate::analyse(&input).verdict.result, VerdictResult::Missed);
}

#[test]
fn a_flow_of_which_nothing_was_seen_leaves_it_undecided() {
    let mut input = world(&[line(&".".repeat(2_000)), line("")]).input();
    asked(&mut input, 20_000);
    let found = crate::analyse(&input);
    // The direction was seen by the other flow, whose path this one need not take.
    assert_eq!(share(&found, 0).2, 1_000_000);
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert!(
        matches!(
            &found.verdict.reason,
            VerdictReason::FlowUnseen { flow: 1, .. }
        ),
        "{:?}",
        found.verdict.reason
    );
}

#[test]
fn what_one_session_cannot_know_another_does() {
    // Lost on the way out for 5 s: nothing is known of the way back by this session alone.
    let fates = format!("{0}{1}{0}", ".".repeat(500), "x".repeat(500));
    let mut input = world(&[line(&fates)]).input();
    asked(&mut input, 15_000);
    let found = crate::analyse(&input);
    assert_eq!(share(&found, 0).2, 1_000_000);
    assert_eq!(causes(&found, 1)[0].1, MissingCause::LostOnTheWayOut);
    // The session the other way tells of it.
    let mut back = input.plan.sessions[0].clone();
    back.name = "back".parse().unwrap();
    (back.from, back.to) = (
        "azure".parse().unwrap(),
        hopgap_proto::plan::Destination::Agent("onprem".parse().unwrap()),
    );
    input.plan.sessions.push(back);
    let mut records = world(&[line(&".".repeat(1_500))])
        .input()
        .sessions
        .remove(0);
    records.session = "back".parse().unwrap();
    records.sender[0].agent = "azure".parse().unwrap();
    records.reflector[0].agent = "onprem".parse().unwrap();
    input.sessions.push(records);
    let found = crate::analyse(&input);
    assert_eq!(found.coverage.directions.len(), 2);
    assert_eq!(share(&found, 1), ("azure", "onprem", 1_000_000));
    assert_eq!(found.coverage.directions[1].sessions, ["out", "back"]);
}

#[test]
fn a_marked_failover_in_which_nothing_moved_has_tested_nothing() {
    let world = world(&[line(&".".repeat(2_000)), line(&".".repeat(2_000))]);
    let marked = world.clone().mark(Span::from_secs(5), MarkerKind::Failover);
    let found = marked.trace(0, 100, &crate::scenario::PRIMARY).analyse();
    assert_eq!(found.verdict.result, VerdictResult::NotTested);
    let sentence = &found.verdict.sentence;
    assert!(
        sentence.starts_with("Not tested: a failover was marked"),
        "{sentence}"
    );
    assert!(sentence.contains("expressroute-primary"), "{sentence}");
    // Without a failover marker nothing was to be tested; a note is not one.
    assert_eq!(world.analyse().verdict.result, VerdictResult::Met);
    let noted = world.mark(Span::from_secs(5), MarkerKind::Note);
    assert_eq!(noted.analyse().verdict.result, VerdictResult::Met);
}

#[test]
fn a_flow_that_left_its_path_was_tested() {
    let hops = format!("{}{}", "5".repeat(600), "3".repeat(1_400));
    let moves = line(&".".repeat(2_000)).forward(&hops).reverse(&hops);
    let world =
        world(&[moves, line(&".".repeat(2_000))]).mark(Span::from_secs(5), MarkerKind::Failover);
    assert_eq!(world.analyse().verdict.result, VerdictResult::Met);
}

#[test]
fn nothing_is_called_untested_of_which_part_is_missing() {
    let world = world(&[line(&".".repeat(1_000))]).mark(Span::from_secs(5), MarkerKind::Failover);
    let mut input = world.input();
    asked(&mut input, 40_000);
    assert_eq!(
        crate::analyse(&input).verdict.result,
        VerdictResult::Undecided
    );
}

#[test]
fn a_missed_objective_is_missed_though_nothing_moved() {
    let world = world(&[line(&format!(
        "{0}{1}{0}",
        ".".repeat(700),
        "x".repeat(1_200)
    ))])
    .mark(Span::from_secs(5), MarkerKind::Failover);
    assert_eq!(world.analyse().verdict.result, VerdictResult::Missed);
}

#[test]
fn a_step_of_the_clock_hides_nothing() {
    // The sender's wall clock is set forward by a minute between two probes.
    let mut input = world(&[line(&".".repeat(2_000))]).input();
    let sender = &mut input.sessions[0].sender[0];
    let stepped = sent_at(INTERVAL, 1_000);
    for clock in sender.clocks.iter_mut().filter(|c| c.mono >= stepped) {
        clock.wall += Span::from_secs(60);
    }
    sender.events.push(Event {
        at: stepped,
        kind: EventKind::ClockStepped(Span::from_secs(60)),
    });
    asked(&mut input, 80_000);
    let found = crate::analyse(&input);
    assert_eq!(share(&found, 0).2, 1_000_000, "{:?}", found.coverage);
}

#[test]
fn seen_is_never_more_than_asked() {
    let mut input = world(&[line(&".".repeat(100))]).input();
    for probe in &mut input.sessions[0].sender[0].probes {
        if matches!(probe.fate, ProbeFate::Answered(_)) && probe.seq.0 % 2 == 0 {
            probe.fate = ProbeFate::Unanswered;
        }
    }
    for (from, to) in [(-5_000, 5_000), (200, 400), (400, 200), (5_000, 9_000)] {
        input.window = Some((at(from), at(to)));
        let found = crate::analyse(&input);
        for d in &found.coverage.directions {
            let missing: Span = d.missing.iter().map(|m| m.lasted_ns.0).sum();
            assert_eq!(d.seen_ns.0 + missing, d.asked_ns.0, "{d:?}");
        }
    }
}

/// Returns a world whose reflector stands still in these stretches, and a question of this
/// length.
fn stood_still(stalls: &[(i64, i64)], millis: i64) -> World {
    let stretches = stalls.iter();
    let stretches = stretches.map(|(a, b)| (Span::from_millis(*a), Span::from_millis(*b)));
    World {
        stalls: stretches.collect(),
        tail: Span::from_secs(60),
        ..world(&[line(&".".repeat(usize::try_from(millis / 10).unwrap()))])
    }
}

#[test]
fn what_a_reflector_did_not_send_while_it_stood_still_was_not_seen() {
    let mut input = stood_still(&[(2_000, 7_000)], 12_000).input();
    asked(&mut input, 12_000);
    let found = crate::analyse(&input);
    // Its kernel took in what came: nothing was lost on the way there.
    assert_eq!(share(&found, 0), ("onprem", "azure", 1_000_000));
    let (from, to, ppm) = share(&found, 1);
    assert_eq!((from, to), ("azure", "onprem"));
    assert!((582_000..585_000).contains(&ppm), "{ppm}");
    let [(lasted, cause)] = causes(&found, 1).try_into().unwrap();
    assert!((4_980..5_020).contains(&lasted), "{lasted}");
    assert_eq!(cause, by("azure", stalled));
    // Too short to hide an outage over the objective of 10 s.
    assert_eq!(found.verdict.result, VerdictResult::Met);
    let begins = found.coverage.directions[1].missing[0].from.0;
    assert!(
        (begins - at(2_000)).abs() < Span::from_millis(30),
        "{begins:?}"
    );
    assert_eq!(found.sessions[0].flows[0].outages.len(), 0);
}

#[test]
fn a_stall_that_could_hide_an_outage_over_the_objective_leaves_it_undecided() {
    let mut input = stood_still(&[(2_000, 17_000)], 20_000).input();
    asked(&mut input, 20_000);
    let found = crate::analyse(&input);
    assert_eq!(found.verdict.result, VerdictResult::Undecided);
    assert_eq!(share(&found, 0).2, 1_000_000);
    let sentence = &found.verdict.sentence;
    for said in ["azure", "stood still", "15.0"] {
        assert!(sentence.contains(said), "{said}: {sentence}");
    }
    let counts = found.sessions[0].counts;
    assert_eq!(
        (
            counts.lost_forward,
            counts.lost_reverse,
            counts.lost_unknown
        ),
        (0, 0, 0)
    );
    assert_eq!(counts.answered + counts.late, counts.sent);
}

#[test]
fn a_stall_beyond_the_question_is_missing_to_its_edge() {
    for (stall, question) in [((-3_000, 4_000), "begins"), ((6_000, 14_000), "ends")] {
        let mut input = stood_still(&[stall], 20_000).input();
        asked(&mut input, 10_000);
        let found = crate::analyse(&input);
        let [(lasted, cause)] = causes(&found, 1).try_into().unwrap();
        assert!((3_980..4_020).contains(&lasted), "{question}: {lasted}");
        assert_eq!(cause, by("azure", stalled));
        assert!(found.coverage.directions[1].seen_until.unwrap().0 <= at(10_000));
    }
}

#[test]
fn another_session_proves_the_way_back_while_a_reflector_stands_still() {
    let mut input = stood_still(&[(2_000, 7_000)], 12_000).input();
    let mut back = input.plan.sessions[0].clone();
    back.name = "back".parse().unwrap();
    (back.from, back.to) = (
        "azure".parse().unwrap(),
        hopgap_proto::plan::Destination::Agent("onprem".parse().unwrap()),
    );
    input.plan.sessions.push(back);
    let mut records = world(&[line(&".".repeat(1_200))])
        .input()
        .sessions
        .remove(0);
    records.session = "back".parse().unwrap();
    records.sender[0].agent = "azure".parse().unwrap();
    records.reflector[0].agent = "onprem".parse().unwrap();
    input.sessions.push(records);
    asked(&mut input, 12_000);
    let found = crate::analyse(&input);
    assert_eq!(share(&found, 1), ("azure", "onprem", 1_000_000));
}

#[test]
fn losses_while_a_reflector_stands_still_are_seen_where_it_took_others_in() {
    let fates = format!("{}{}{}", ".".repeat(570), "x".repeat(60), ".".repeat(570));
    let mut input = World {
        lines: vec![line(&fates)],
        ..stood_still(&[(1_000, 6_000)], 12_000)
    }
    .input();
    asked(&mut input, 12_000);
    let found = crate::analyse(&input);
    assert_eq!(share(&found, 0).2, 1_000_000);
    let [outage] = &found.sessions[0].flows[0].outages[..] else {
        panic!("{:?}", found.sessions[0].flows[0].outages)
    };
    assert_eq!(
        (outage.lost, outage.direction),
        (60, crate::findings::Direction::Forward)
    );
    // Nothing came to be answered after it: two causes, one after the other.
    let missing = causes(&found, 1);
    assert_eq!(missing[0].1, by("azure", stalled));
    assert_eq!(missing[1].1, MissingCause::LostOnTheWayOut);
    assert_eq!(missing.len(), 2);
}

#[test]
fn what_was_held_up_on_the_way_out_tells_nothing_of_the_way_back_meanwhile() {
    let mut input = World {
        queues: vec![(Span::from_millis(3_000), Span::from_millis(4_500))],
        ..world(&[line(&".".repeat(1_000))])
    }
    .input();
    asked(&mut input, 10_000);
    let found = crate::analyse(&input);
    assert_eq!(share(&found, 0).2, 1_000_000);
    let [(lasted, cause)] = causes(&found, 1).try_into().unwrap();
    assert!((1_480..1_520).contains(&lasted), "{lasted}");
    assert_eq!(cause, MissingCause::HeldOnTheWayOut);
}

#[test]
fn without_a_log_the_replies_tell_how_long_they_stayed() {
    let mut world = stood_still(&[(2_000, 7_000)], 12_000);
    (world.log, world.foreign) = (false, true);
    let mut input = world.input();
    asked(&mut input, 12_000);
    let found = crate::analyse(&input);
    let [(lasted, cause)] = causes(&found, 1).try_into().unwrap();
    assert!((4_980..5_020).contains(&lasted), "{lasted}");
    assert_eq!(cause, stalled("10.17.11.132:862".to_owned()));
    // A reflector whose program stamps arrivals late does not say that the probe stayed there.
    for probe in &mut input.sessions[0].sender[0].probes {
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            reply.reflector_received = reply.reflector_sent;
        }
    }
    let [(lasted, _)] = causes(&crate::analyse(&input), 1).try_into().unwrap();
    // The path itself may take half a second.
    assert!((4_400..5_100).contains(&lasted), "{lasted}");
}

#[test]
fn a_reflector_whose_clock_is_hours_off_ended_when_it_ended() {
    let ended = |hours: i64, heard: i64| {
        let mut world = world(&[line(&".".repeat(1_200))]);
        world.tail = Span::ZERO;
        world.events.push(Event {
            at: sent_at(INTERVAL, 1_200),
            kind: EventKind::SessionStopped,
        });
        world.reflector_events.push(Event {
            at: crate::scenario::reflector_at(INTERVAL, 1_200),
            kind: EventKind::ReflectorStopped,
        });
        let mut input = world.input();
        let off = Span::from_secs(3_600) * hours;
        for clock in &mut input.sessions[0].reflector[0].clocks {
            clock.wall += off;
        }
        for probe in &mut input.sessions[0].sender[0].probes {
            if let ProbeFate::Answered(reply) = &mut probe.fate {
                reply.reflector_received += off;
                reply.reflector_sent += off;
            }
        }
        asked(&mut input, 32_000);
        ends(&mut input, at(12_500), at(12_500));
        input.ends[1].heard = Some(at(heard));
        !crate::analyse(&input).coverage.preliminary
    };
    for hours in [0, -2, 2] {
        assert!(ended(hours, 13_000), "{hours}");
        // It is heard of long after, so it has started again.
        assert!(!ended(hours, 60_000), "{hours}");
    }
}
