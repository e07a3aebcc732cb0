//! Properties over a seeded model of a network: what was found must contain what truly
//! happened, and nothing else.

use crate::findings::{Direction, Findings, Outage};
use crate::input::Input;
use crate::loss::len;
use crate::scenario::{Line, World, sent_at, world};
use hopgap_proto::time::Span;
use proptest::prelude::*;

/// A stretch of slots, from the first to before the last.
type Slots = (usize, usize);

/// What truly happened to one flow.
#[derive(Clone, Debug)]
struct Truth {
    slots: usize,
    forward_drops: Vec<Slots>,
    reverse_drops: Vec<Slots>,
    forward_change: usize,
    reverse_change: usize,
}

fn within(slots: &[Slots], i: usize) -> bool {
    slots.iter().any(|(from, to)| (*from..*to).contains(&i))
}

impl Truth {
    fn line(&self) -> Line {
        let fates = (0..self.slots)
            .map(|i| {
                if within(&self.forward_drops, i) {
                    'x'
                } else if within(&self.reverse_drops, i) {
                    'r'
                } else {
                    '.'
                }
            })
            .collect();
        let hops = |change: usize| {
            (0..self.slots)
                .map(|i| if i < change { 5 } else { 3 })
                .collect()
        };
        Line {
            fates,
            forward: hops(self.forward_change),
            reverse: hops(self.reverse_change),
        }
    }
}

/// Drops at most one each way in each quarter, at least 20 slots apart.
fn drops() -> impl Strategy<Value = Vec<Slots>> {
    prop::collection::vec(prop::option::weighted(0.4, (10_usize..50, 3_usize..40)), 4).prop_map(
        |quarters| {
            quarters
                .into_iter()
                .enumerate()
                .filter_map(|(i, drop)| drop.map(|(at, n)| (i * 120 + at, i * 120 + at + n)))
                .collect()
        },
    )
}

fn truth() -> impl Strategy<Value = Truth> {
    (drops(), drops(), 1_usize..480, 1_usize..480).prop_map(
        |(forward_drops, reverse_drops, forward_change, reverse_change)| Truth {
            slots: 480,
            forward_drops,
            reverse_drops,
            forward_change,
            reverse_change,
        },
    )
}

fn network() -> impl Strategy<Value = (Vec<Truth>, World)> {
    (prop::collection::vec(truth(), 1..4), 1_i64..50).prop_map(|(truths, interval)| {
        let lines: Vec<Line> = truths.iter().map(Truth::line).collect();
        let mut world = world(&lines);
        world.interval = Span::from_millis(interval);
        (truths, world)
    })
}

/// Evidence of a direction: slots that were lost in it, and those that passed.
fn lost_and_passed(truth: &Truth, direction: Direction) -> (Vec<usize>, Vec<usize>) {
    let forward = |i: &usize| within(&truth.forward_drops, *i);
    let all = 0..truth.slots;
    match direction {
        Direction::Forward => all.partition(forward),
        _ => all
            .filter(|i| !forward(i))
            .partition(|i| within(&truth.reverse_drops, *i)),
    }
}

fn check_outages(truth: &Truth, outages: &[Outage], direction: Direction, interval: Span) {
    let (lost, passed) = lost_and_passed(truth, direction);
    let own: Vec<&Outage> = outages
        .iter()
        .filter(|o| o.direction == direction)
        .collect();
    let drops = match direction {
        Direction::Forward => &truth.forward_drops,
        _ => &truth.reverse_drops,
    };
    // None invented: each holds a true drop, from edge to edge, and bounds it.
    for outage in &own {
        let first = outage.first_lost.seq as usize;
        let last = outage.last_lost.seq as usize;
        let good_before = outage.last_good.map(|p| p.seq as usize);
        let good_after = outage.first_good.map(|p| p.seq as usize);
        assert!(lost.contains(&first) && lost.contains(&last));
        assert!(good_before.is_none_or(|i| passed.contains(&i) && i < first));
        assert!(good_after.is_none_or(|i| passed.contains(&i) && i > last));
        let true_from = drops
            .iter()
            .map(|d| d.0)
            .filter(|f| *f <= first)
            .max()
            .unwrap();
        let true_to = drops
            .iter()
            .map(|d| d.1)
            .filter(|t| *t > last)
            .min()
            .unwrap();
        // The drop began between the last good and the first lost probe. Truth in
        // slots: it lasted from the first slot it hit to the last, at least, and at
        // most from the slot before to the slot after.
        // Replies left as much later as their probes were on the way.
        let left = |i: usize| {
            let out = match direction {
                Direction::Reverse if i >= truth.forward_change => Span::from_micros(4_000),
                Direction::Reverse => Span::from_micros(2_500),
                _ => Span::ZERO,
            };
            sent_at(interval, i) + out
        };
        let shortest = left(true_to - 1) - left(true_from);
        assert!(outage.at_least_ns.0 <= shortest, "{outage:?} {truth:?}");
        if let Some(at_most) = outage.at_most_ns {
            assert!(at_most.0 >= shortest, "{outage:?} {truth:?}");
        }
        let inside = lost.iter().filter(|i| (first..=last).contains(*i)).count();
        assert_eq!(outage.lost, len(inside));
    }
    // None missed: every drop with enough evidence is inside of one.
    for (from, to) in drops {
        let seen: Vec<&usize> = lost.iter().filter(|i| (from..to).contains(i)).collect();
        let whole = direction == Direction::Forward || seen.len() == to - from;
        if whole && seen.len() >= 3 {
            assert!(
                own.iter()
                    .any(|o| o.first_lost.seq as usize <= *from
                        && o.last_lost.seq as usize >= to - 1),
                "{direction:?} {from}..{to} not found: {own:?}"
            );
        }
    }
}

fn check_paths(truth: &Truth, found: &Findings, flow: usize) {
    let flow = &found.sessions[0].flows[flow];
    for (epochs, change, direction) in [
        (
            &flow.forward_paths,
            truth.forward_change,
            Direction::Forward,
        ),
        (
            &flow.reverse_paths,
            truth.reverse_change,
            Direction::Reverse,
        ),
    ] {
        let (_, passed) = lost_and_passed(truth, direction);
        let old = passed.iter().filter(|i| **i < change).max();
        let new = passed.iter().find(|i| **i >= change);
        let hops: Vec<_> = epochs.iter().filter_map(|e| e.target_at_hop).collect();
        let expected: Vec<u8> = old.map(|_| 5).into_iter().chain(new.map(|_| 3)).collect();
        assert_eq!(hops, expected);
        if let [before, after] = epochs.as_slice() {
            assert_eq!(Some(&(before.last.seq as usize)), old);
            assert_eq!(Some(&(after.first.seq as usize)), new);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        // A failure prints its input; no file beside the sources.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn findings_contain_the_truth((truths, world) in network()) {
        let found = world.analyse();
        for (i, truth) in truths.iter().enumerate() {
            let flow = &found.sessions[0].flows[i];
            let forward = lost_and_passed(truth, Direction::Forward).0.len();
            let reverse = lost_and_passed(truth, Direction::Reverse).0.len();
            prop_assert_eq!(flow.counts.lost_forward, len(forward));
            prop_assert_eq!(flow.counts.lost_reverse, len(reverse));
            prop_assert_eq!(flow.counts.lost_unknown, 0);
            for direction in [Direction::Forward, Direction::Reverse] {
                check_outages(truth, &flow.outages, direction, world.interval);
            }
            prop_assert!(flow.outages.iter().all(|o| o.direction != Direction::Unknown));
            check_paths(truth, &found, i);
        }
        // Every outage is in exactly one transition.
        let in_flows: usize = found.sessions[0].flows.iter().map(|f| f.outages.len()).sum();
        let in_transitions: usize = found
            .transitions
            .iter()
            .flat_map(|t| &t.directions)
            .flat_map(|d| &d.rows)
            .map(|r| r.outages.len())
            .sum();
        prop_assert_eq!(in_flows, in_transitions);
    }

    #[test]
    fn the_counter_never_contradicts_the_log((truths, world) in network()) {
        let by_log = world.analyse();
        let by_counter = World { log: false, ..world }.analyse();
        for (i, _) in truths.iter().enumerate() {
            let (log, counter) = (
                by_log.sessions[0].flows[i].counts,
                by_counter.sessions[0].flows[i].counts,
            );
            // What it tells is true, what it does not tell is unknown.
            prop_assert!(counter.lost_forward <= log.lost_forward);
            prop_assert!(counter.lost_reverse <= log.lost_reverse);
            prop_assert_eq!(
                counter.lost_forward + counter.lost_reverse + counter.lost_unknown,
                log.lost_forward + log.lost_reverse
            );
        }
    }

    #[test]
    fn any_order_and_any_duplicates_give_the_same_bytes(
        (_, world) in network(),
        swaps in prop::collection::vec((any::<usize>(), any::<usize>()), 0..200),
        repeats in prop::collection::vec(any::<usize>(), 0..50),
    ) {
        let input = world.input();
        let mut other = input.clone();
        let records = &mut other.sessions[0];
        shuffle(&mut records.sender[0].probes, &swaps, &repeats);
        shuffle(&mut records.sender[0].clocks, &swaps, &repeats);
        shuffle(&mut records.sender[0].events, &swaps, &repeats);
        shuffle(&mut records.sender[0].traces, &swaps, &repeats);
        shuffle(&mut records.reflector[0].receptions, &swaps, &repeats);
        shuffle(&mut records.reflector[0].clocks, &swaps, &repeats);
        let half = records.sender[0].probes.len() / 2;
        let mut part = records.sender[0].clone();
        part.probes.truncate(half);
        records.sender.push(part);
        records.sender.reverse();
        prop_assert_eq!(json(&input), json(&other));
    }

    #[test]
    fn nothing_panics(input in garbage()) {
        let found = crate::analyse(&input);
        let c = found.sessions[0].counts;
        prop_assert_eq!(
            c.sent,
            c.answered + c.late + c.lost_forward + c.lost_reverse + c.lost_unknown
                + c.dropped_by_policy + c.no_data + c.pending
        );
        prop_assert_eq!(json(&input), json(&input.clone()));
    }
}

fn json(input: &Input) -> String {
    serde_json::to_string(&crate::analyse(input)).unwrap()
}

fn shuffle<T: Clone>(records: &mut Vec<T>, swaps: &[(usize, usize)], repeats: &[usize]) {
    if records.is_empty() {
        return;
    }
    for i in repeats {
        records.push(records[i % records.len()].clone());
    }
    let n = records.len();
    for (a, b) in swaps {
        records.swap(a % n, b % n);
    }
}

/// Records that no agent would make.
fn garbage() -> impl Strategy<Value = Input> {
    use hopgap_proto::record::*;
    use hopgap_proto::stamp::Seq;
    use hopgap_proto::time::{ClockPair, Mono, Wall};
    let time = prop_oneof![
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
        -100_i64..100,
        any::<i64>()
    ];
    let seq = prop_oneof![Just(0), Just(u32::MAX), 0_u32..10, any::<u32>()];
    let probe = (
        0_u8..3,
        seq,
        time.clone(),
        prop::collection::vec(time.clone(), 4),
        any::<[u8; 4]>(),
    );
    let event = (time.clone(), 0_u8..9, any::<u32>(), time.clone());
    let clock = (time.clone(), time.clone());
    (
        prop::collection::vec(probe.clone(), 0..60),
        prop::collection::vec(probe, 0..30),
        prop::collection::vec(event, 0..10),
        prop::collection::vec(clock, 0..5),
        any::<(bool, bool, u32, u32)>(),
        prop::option::of((time.clone(), time)),
    )
        .prop_map(
            |(probes, arrivals, events, clocks, (log, foreign, min_lost, min_good), window)| {
                let stamp = |at: i64| Stamp {
                    at: Mono::from_nanos(at),
                    source: StampSource::User,
                };
                let clocks: Vec<ClockPair> = clocks
                    .into_iter()
                    .map(|(m, w)| ClockPair {
                        mono: Mono::from_nanos(m),
                        wall: Wall::from_nanos(w),
                    })
                    .collect();
                let mut world = world(&[]);
                (world.log, world.foreign) = (log, foreign);
                let mut input = world.input();
                input.plan.objective.min_lost = min_lost % 5;
                input.plan.objective.min_good = if min_good % 7 == 0 {
                    u32::MAX
                } else {
                    min_good % 7
                };
                input.window = window.map(|(a, b)| (Wall::from_nanos(a), Wall::from_nanos(b)));
                let sender = &mut input.sessions[0].sender[0];
                sender.clocks = clocks.clone();
                sender.probes = probes
                    .iter()
                    .map(|(flow, seq, sent, t, b)| Probe {
                        flow: FlowIndex(*flow),
                        seq: Seq(*seq),
                        sent: stamp(*sent),
                        fate: match b[0] % 4 {
                            0 => ProbeFate::Unanswered,
                            1 => ProbeFate::Refused(i32::from(b[1])),
                            _ => ProbeFate::Answered(Reply {
                                received: stamp(t[0]),
                                reflector_received: Wall::from_nanos(t[1]),
                                reflector_sent: Wall::from_nanos(t[2]),
                                reflector_seq: Seq(u32::from(b[1])),
                                forward_ttl: Some(b[2]),
                                reverse_ttl: Some(b[3]),
                            }),
                        },
                    })
                    .collect();
                sender.traces = probes
                    .iter()
                    .take(5)
                    .map(|(flow, _, sent, ..)| {
                        crate::scenario::trace(
                            *flow,
                            Mono::from_nanos(*sent),
                            &crate::scenario::PRIMARY,
                        )
                    })
                    .collect();
                let events: Vec<Event> = events
                    .into_iter()
                    .map(|(at, kind, n, by)| Event {
                        at: Mono::from_nanos(at),
                        kind: match kind {
                            0 => EventKind::ClockStepped(Span::from_nanos(by)),
                            1 => EventKind::SlotsSkipped {
                                flow: FlowIndex(0),
                                first: Mono::from_nanos(by),
                                count: n,
                            },
                            2 => EventKind::RecordsLost { blocks: n },
                            3 => EventKind::StrayReplies { count: n },
                            4 => EventKind::ReflectorDropped {
                                reason: [
                                    DropReason::RateLimited,
                                    DropReason::Unauthenticated,
                                    DropReason::LoopGuard,
                                ][n as usize % 3],
                                count: n % 64,
                            },
                            5 => EventKind::Icmp(IcmpEvidence {
                                flow: FlowIndex(0),
                                seq: None,
                                from: "2001:db8::1".parse().unwrap(),
                                icmp_type: n.to_be_bytes()[0],
                                code: n.to_be_bytes()[1],
                                mtu: Some(n),
                            }),
                            6 => EventKind::SessionStopped,
                            7 => EventKind::BlocksLost {
                                blocks: n,
                                from: (n % 2 == 0).then_some(Wall::from_nanos(by)),
                                to: Wall::from_nanos(at),
                            },
                            _ => EventKind::SessionStarted,
                        },
                    })
                    .collect();
                sender.events = events.clone();
                if let Some(reflector) = input.sessions[0].reflector.first_mut() {
                    reflector.clocks = clocks;
                    reflector.events = events;
                    reflector.receptions = arrivals
                        .iter()
                        .map(|(flow, seq, at, _, b)| Reception {
                            flow: FlowIndex(*flow),
                            seq: Seq(*seq),
                            received: stamp(*at),
                            ttl: Some(b[0]),
                            reflector_seq: (b[1] % 2 == 0).then_some(Seq(0)),
                            departed: (b[1] % 3 == 0).then_some(stamp(*at)),
                            refused: (b[1] % 5 == 0).then_some(101),
                        })
                        .collect();
                }
                input
            },
        )
}
