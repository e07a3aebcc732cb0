//! Sender and reflector over a simulated link: the records must say exactly what
//! truly happened.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod sim;

use hopgap_proto::record::{EventKind, FlowIndex, Probe, ProbeFate, Reply, StampSource};
use hopgap_proto::stamp::{Seq, SessionKeys};
use hopgap_proto::time::Span;
use proptest::prelude::*;
use sim::{Direction, Outcome, Scenario, TrueReply, run};
use std::collections::BTreeMap;

const MS: Span = Span::from_millis(1);

/// Every record of every probe agrees with the truth, and nothing is missing.
fn check(outcome: &Outcome) {
    let mut records: BTreeMap<(FlowIndex, Seq), Vec<&Probe>> = BTreeMap::new();
    for probe in &outcome.probes {
        records
            .entry((probe.flow, probe.seq))
            .or_default()
            .push(probe);
    }
    assert_eq!(
        records.keys().collect::<Vec<_>>(),
        outcome.truth.keys().collect::<Vec<_>>(),
        "a record for each probe that was sent, and for no other"
    );
    for (key, truth) in &outcome.truth {
        let records = &records[key];
        if let Some(errno) = truth.refused {
            let fates: Vec<_> = records.iter().map(|p| p.fate).collect();
            assert_eq!(fates, [ProbeFate::Refused(errno)], "{key:?}");
            continue;
        }
        let sent = truth.sent.unwrap();
        for record in records {
            assert_eq!(record.sent, sent, "{key:?}");
        }
        let mut replies: Vec<TrueReply> = records
            .iter()
            .filter_map(|p| match p.fate {
                ProbeFate::Answered(reply) => Some(reply_of(&reply)),
                _ => None,
            })
            .collect();
        replies.sort();
        let mut expected = truth.replies.clone();
        expected.sort();
        assert_eq!(replies, expected, "{key:?}");
        let unanswered = records.len() - replies.len();
        let first = truth.replies.iter().map(|r| r.received).min();
        match first {
            None => assert_eq!(unanswered, 1, "{key:?}"),
            Some(first) if first <= sent.at + outcome.timeout => {
                assert_eq!(unanswered, 0, "{key:?}: answered in time");
            }
            // Late: also called unanswered, unless the reply came before it was judged.
            Some(_) => assert!(unanswered <= 1, "{key:?}"),
        }
    }
    let arrivals: u32 = outcome.truth.values().map(|t| t.arrivals).sum();
    assert_eq!(outcome.receptions.len(), usize::try_from(arrivals).unwrap());
    for (key, truth) in &outcome.truth {
        let received = outcome
            .receptions
            .iter()
            .filter(|r| (r.flow, r.seq) == *key);
        assert_eq!(received.count(), usize::try_from(truth.arrivals).unwrap());
    }
    assert_eq!(strays(outcome), 0);
}

fn reply_of(reply: &Reply) -> TrueReply {
    assert_eq!(reply.received.source, StampSource::Kernel);
    TrueReply {
        received: reply.received.at,
        reflector_received: reply.reflector_received,
        reflector_sent: reply.reflector_sent,
        reflector_seq: reply.reflector_seq.0,
        forward_ttl: reply.forward_ttl.unwrap(),
        reverse_ttl: reply.reverse_ttl.unwrap(),
    }
}

fn strays(outcome: &Outcome) -> u32 {
    let counts = outcome.events.iter().map(|e| match e.kind {
        EventKind::StrayReplies { count } => count,
        _ => 0,
    });
    counts.sum()
}

fn count(outcome: &Outcome, fits: impl Fn(&EventKind) -> bool) -> usize {
    outcome.events.iter().filter(|e| fits(&e.kind)).count()
}

fn restarts(outcome: &Outcome) -> usize {
    count(outcome, |k| {
        matches!(k, EventKind::ReflectorRestarted { .. })
    })
}

fn lost(outcome: &Outcome) -> usize {
    let fates = outcome.probes.iter().map(|p| p.fate);
    fates.filter(|f| matches!(f, ProbeFate::Unanswered)).count()
}

#[test]
fn a_clean_link_answers_everything_once() {
    let outcome = run(&Scenario::default());
    check(&outcome);
    assert_eq!(outcome.probes.len(), 4 * 500);
    assert_eq!((lost(&outcome), restarts(&outcome)), (0, 0));
    let round_trip = outcome.probes[0].round_trip().unwrap();
    assert_eq!(round_trip, Span::from_micros(5_100));
    assert_eq!(count(&outcome, |k| *k == EventKind::SessionStarted), 1);
    assert_eq!(count(&outcome, |k| *k == EventKind::SessionStopped), 1);
}

/// However long a reflector stands still: what it answers then is late, and recorded as
/// an answer; the reflector's own log says when it came and when the reply left.
#[test]
fn a_reflector_that_stood_still_makes_replies_late_and_none_lost() {
    for seconds in [5, 15, 30, 60, 300] {
        let still = Span::from_secs(seconds);
        let scenario = Scenario {
            length: still + Span::from_secs(5),
            interval: Span::from_millis(50),
            stalls: vec![(Span::from_secs(2), still + Span::from_secs(2))],
            ..Scenario::default()
        };
        let outcome = run(&scenario);
        check(&outcome);
        let late = outcome.probes.iter().filter(|p| match p.fate {
            ProbeFate::Answered(reply) => reply.received.at - p.sent.at > outcome.timeout,
            _ => false,
        });
        let sent_meanwhile = usize::try_from(4 * seconds * 20).unwrap();
        assert!(late.count() > sent_meanwhile - 100, "{seconds} s");
        let longest = outcome
            .receptions
            .iter()
            .filter_map(|r| r.residence())
            .max();
        assert!(
            longest.unwrap() > still - Span::from_millis(60),
            "{seconds} s"
        );
        assert!(outcome.receptions.iter().all(|r| r.departed.is_some()));
    }
}

#[test]
fn a_hostile_link_is_recorded_exactly() {
    for seed in 0..20 {
        let outcome = run(&hostile(seed));
        check(&outcome);
        assert!(lost(&outcome) > 100, "seed {seed}");
        assert_eq!(
            restarts(&outcome),
            0,
            "seed {seed}: reordering is no restart"
        );
    }
}

fn hostile(seed: u64) -> Scenario {
    let direction = |routers| Direction {
        delay: (MS, MS * 40),
        loss: 60,
        duplicates: 30,
        outages: vec![(MS * 1_000, MS * 1_300)],
        routers,
    };
    Scenario {
        seed,
        forward: direction(4),
        reverse: direction(2),
        refused: 20,
        stampless: 50,
        oversleep: MS * 60,
        ..Scenario::default()
    }
}

#[test]
fn an_outage_of_many_hundred_probes_loses_none_of_them() {
    let mut scenario = Scenario {
        interval: MS,
        flows: 2,
        ..Scenario::default()
    };
    scenario.forward.outages = vec![(MS * 1_000, MS * 3_000)];
    let outcome = run(&scenario);
    check(&outcome);
    assert_eq!(lost(&outcome), 2 * 2_000);
    // The reflector's counter tells the direction over any length: no gap in it.
    let mut last: BTreeMap<FlowIndex, u32> = BTreeMap::new();
    for reception in &outcome.receptions {
        let seq = reception.reflector_seq.unwrap().0;
        let before = last.insert(reception.flow, seq);
        assert_eq!(before.map_or(0, |b| b + 1), seq);
    }
}

#[test]
fn a_loss_on_the_way_back_shows_in_the_receptions() {
    let mut scenario = Scenario::default();
    scenario.reverse.outages = vec![(MS * 1_000, MS * 2_000)];
    let outcome = run(&scenario);
    check(&outcome);
    assert_eq!(lost(&outcome), 4 * 100);
    assert_eq!(outcome.receptions.len(), outcome.probes.len());
}

#[test]
fn late_replies_are_recorded_again() {
    let mut scenario = Scenario {
        timeout: MS * 20,
        ..Scenario::default()
    };
    scenario.reverse.delay = (MS * 100, MS * 100);
    let outcome = run(&scenario);
    check(&outcome);
    let sent = outcome.truth.len();
    assert_eq!(lost(&outcome), sent);
    // Those that come after the session's orderly end are nobody's.
    assert!(outcome.probes.len() > 2 * sent - 4 * 20);
}

#[test]
fn sequence_numbers_wrap() {
    let mut scenario = hostile(3);
    scenario.first_seq = Seq(u32::MAX - 100);
    let outcome = run(&scenario);
    check(&outcome);
    assert!(outcome.truth.contains_key(&(FlowIndex(0), Seq(u32::MAX))));
    assert!(outcome.truth.contains_key(&(FlowIndex(0), Seq(0))));
    assert_eq!(restarts(&outcome), 0);
}

#[test]
fn a_restarted_reflector_is_noticed_once_a_flow() {
    let mut scenario = hostile(5);
    scenario.restarts = vec![MS * 2_500];
    let outcome = run(&scenario);
    check(&outcome);
    assert_eq!(restarts(&outcome), 4);
}

#[test]
fn authenticated_sessions_work_alike() {
    let mut scenario = hostile(7);
    let key = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
    scenario.keys = Some(SessionKeys::per_direction(&key));
    check(&run(&scenario));
}

#[test]
fn refused_sends_do_not_end_the_session() {
    let scenario = Scenario {
        refused: 1000,
        ..Scenario::default()
    };
    let outcome = run(&scenario);
    check(&outcome);
    assert_eq!(outcome.probes.len(), 4 * 500);
}

#[test]
fn an_overslept_shell_skips_and_says_so() {
    let scenario = Scenario {
        oversleep: MS * 200,
        ..Scenario::default()
    };
    let outcome = run(&scenario);
    check(&outcome);
    let slots = outcome.truth.len() + usize::try_from(outcome.slots_skipped).unwrap();
    assert!(outcome.slots_skipped > 100);
    // Every slot up to the last waking was used or reported.
    assert!(
        (2_000 - 4 * 20..=2_000 + 4 * 20).contains(&slots),
        "{slots}"
    );
}

#[test]
fn a_shell_without_kernel_stamps_records_its_own_as_such() {
    let scenario = Scenario {
        stampless: 1000,
        ..Scenario::default()
    };
    let outcome = run(&scenario);
    check(&outcome);
    assert!(
        outcome
            .probes
            .iter()
            .all(|p| p.sent.source == StampSource::User)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the link does, the records are the truth.
    #[test]
    fn records_are_the_truth(
        seed: u64,
        interval in 1i64..30,
        flows in 1u8..9,
        timeout in 10i64..120,
        delay in (0i64..20, 0i64..90),
        loss in (0u64..400, 0u64..400),
        duplicates in 0u64..200,
        refused in 0u64..300,
        stampless in 0u64..300,
        oversleep in 0i64..100,
        first_seq: u32,
    ) {
        let direction = |loss| Direction {
            delay: (MS * delay.0, MS * (delay.0 + delay.1)),
            loss,
            duplicates,
            outages: vec![(MS * 300, MS * 450)],
            routers: 5,
        };
        let outcome = run(&Scenario {
            seed,
            length: MS * 800,
            interval: MS * interval,
            flows,
            timeout: MS * timeout,
            forward: direction(loss.0),
            reverse: direction(loss.1),
            refused,
            stampless,
            oversleep: MS * oversleep,
            restarts: vec![],
            stalls: vec![],
            first_seq: Seq(first_seq),
            keys: None,
        });
        check(&outcome);
        prop_assert_eq!(restarts(&outcome), 0);
    }
}
