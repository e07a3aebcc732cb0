//! A small world on paper: 200 probes of one flow, and reports about it.

use super::{Judgement, Record, Report, Scenario, Truth, compare};
use crate::campaign::program::Program;
use crate::campaign::record::Down;
use crate::campaign::truth::{FlowTruth, Passage, Probe};
use hopgap_proto::time::{Mono, Span};
use jiff::Timestamp;
use serde_json::{Value, json};

const OUTAGE: &str = "about = \"x\"\nboth = false\nflows = 1\n[[event]]\nat = \"0.605s\"\n\
                      for = \"0.3s\"\ndirection = \"forward\"\nwhat = \"drop\"\n";

pub(super) fn at(nanos: i64) -> Mono {
    Mono::from_nanos(nanos)
}

pub(super) const MILLI: i64 = 1_000_000;

/// Probe `i` is sent at `i` x 10 ms; those from 61 to 90 are lost on the way out.
fn truth() -> Truth {
    let probes = (0..200).map(|i| {
        let sent = i64::from(i) * 10 * MILLI;
        let lost = (61..=90).contains(&i);
        let way = |enter: i64, lost: bool| Passage {
            enter: at(enter),
            exit: (!lost).then_some(at(enter + 5 * MILLI)),
            path: 0,
            copies: 0,
        };
        Probe {
            seq: i,
            out: way(sent, lost),
            back: (!lost).then(|| way(sent + 5 * MILLI, false)),
        }
    });
    Truth {
        flows: vec![FlowTruth {
            side: 0,
            port: 50_000,
            probes: probes.collect(),
        }],
        hole: None,
    }
}

pub(super) fn utc(nanos: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanos)).expect("a time");
    format!("{at:.9}")
}

fn point(seq: i64) -> Value {
    json!({"seq": seq, "sent": utc(seq * 10 * MILLI)})
}

/// The report that is right.
pub(super) fn report() -> Value {
    let period = json!({"direction": "forward", "first": point(61), "last": point(90), "lost": 30});
    let latency = json!({"count": 170, "p50_ns": 5 * MILLI});
    let epochs = json!([{"path": "er", "first": point(0), "last": point(199)}]);
    json!({"findings": {
        "window": {"from": utc(0), "to": utc(1990 * MILLI)},
        "transitions": [],
        "verdict": {"result": "met"},
        "coverage": {"directions": []},
        "sessions": [{
            "session": "a-b",
            "path_mtu": [],
            "latency": [{
                "forward": "er", "reverse": "er", "round_trip": latency,
                "one_way": {"forward": latency, "reverse": latency, "bound_ns": MILLI}
            }],
            "flows": [{
                "source_port": 50_000,
                "counts": {"sent": 200, "lost_forward": 30, "lost_reverse": 0, "lost_unknown": 0, "duplicated": 0},
                "background": [],
                "forward_paths": epochs, "reverse_paths": epochs,
                "outages": [{
                    "direction": "forward",
                    "last_good": point(60), "first_lost": point(61),
                    "last_lost": point(90), "first_good": point(91),
                    "at_least_ns": 290 * MILLI, "at_most_ns": 310 * MILLI,
                    "lost": 30, "unsent": 0, "loss_periods": [period]
                }]
            }]
        }]
    }})
}

/// Judges the right report after it was changed at the place of this JSON pointer.
fn judged(changes: &[(&str, Value)]) -> Judgement {
    judged_with(Vec::new(), changes)
}

fn judged_with(downs: Vec<Down>, changes: &[(&str, Value)]) -> Judgement {
    let mut report = report();
    for (place, value) in changes {
        *report.pointer_mut(place).expect("a place") = value.clone();
    }
    let report: Report = serde_json::from_value(report).expect("a report");
    let scenario = Scenario::parse("x", OUTAGE).expect("a scenario");
    let record = Record {
        scenario: "x".to_owned(),
        seed: 1,
        begin_ns: 0,
        wall_minus_mono_ns: 0,
        program: Program::draw(&scenario, 1),
        downs,
        asked: None,
        no_routes: Vec::new(),
        clock: None,
    };
    compare(&scenario, &record, &truth(), &report)
}

const FLOW: &str = "/findings/sessions/0/flows/0";

fn of_outage(field: &str) -> String {
    format!("{FLOW}/outages/0/{field}")
}

#[test]
fn the_right_report_is_right() {
    let judgement = judged(&[]);
    assert_eq!(judgement.faults, Vec::<String>::new());
    assert_eq!((judgement.found.right, judgement.found.all), (1, 1));
    assert_eq!(judgement.durations.right, 1);
    assert_eq!(judgement.directions.right, 1);
    assert_eq!((judgement.losses.right, judgement.losses.all), (30, 30));
    assert!(judgement.paths.right > 200 && judgement.paths.right == judgement.paths.all);
    assert_eq!(judgement.delays.right, 2);
    // The program switched in the middle between two probes.
    assert!(judgement.start_errors[0] < 0.01 && judgement.end_errors[0] < 0.01);
}

#[test]
fn an_outage_that_is_missing_is_missed() {
    let judgement = judged(&[(&format!("{FLOW}/outages"), json!([]))]);
    assert_eq!((judgement.found.right, judgement.missed_long), (0, 1));
    assert_eq!(judgement.losses.right, 0);
}

#[test]
fn an_outage_that_was_not_is_invented() {
    let mut outage = report()
        .pointer(&format!("{FLOW}/outages/0"))
        .expect("it")
        .clone();
    for (field, seq) in [
        ("last_good", 120),
        ("first_lost", 121),
        ("last_lost", 125),
        ("first_good", 126),
    ] {
        outage[field] = point(seq);
    }
    let right = report()
        .pointer(&format!("{FLOW}/outages/0"))
        .expect("it")
        .clone();
    let judgement = judged(&[(&format!("{FLOW}/outages"), json!([right, outage]))]);
    assert_eq!((judgement.found.right, judgement.invented), (1, 1));
}

#[test]
fn bounds_that_exclude_the_truth_are_wrong_and_wide_ones_are_said_to_be() {
    let short = judged(&[(&of_outage("at_most_ns"), json!(298 * MILLI))]);
    assert_eq!(short.durations.right, 0, "{:?}", short.faults);
    let long = judged(&[(&of_outage("at_least_ns"), json!(302 * MILLI))]);
    assert_eq!(long.durations.right, 0);
    let wide = judged(&[(&of_outage("at_most_ns"), json!(400 * MILLI))]);
    assert_eq!((wide.durations.right, wide.widths.right), (1, 0));
    let open = judged(&[(&of_outage("at_most_ns"), Value::Null)]);
    assert_eq!(open.durations.right, 0);
}

#[test]
fn an_outage_that_is_cut_short_is_held_against_the_whole() {
    let judgement = judged(&[
        (&of_outage("last_lost"), point(80)),
        (&of_outage("first_good"), point(81)),
        (&of_outage("at_least_ns"), json!(190 * MILLI)),
        (&of_outage("at_most_ns"), json!(210 * MILLI)),
    ]);
    assert_eq!(judgement.durations.right, 0);
    assert_eq!(judgement.found.right, 0);
}

#[test]
fn the_other_direction_is_wrong() {
    let judgement = judged(&[
        (&of_outage("direction"), json!("reverse")),
        (&of_outage("loss_periods/0/direction"), json!("reverse")),
    ]);
    assert_eq!(
        (judgement.directions.right, judgement.directions.all),
        (0, 1)
    );
    assert_eq!((judgement.invented, judgement.losses.right), (0, 0));
}

#[test]
fn a_period_that_holds_a_probe_that_came_through_is_wrong() {
    let period = of_outage("loss_periods/0/last");
    let judgement = judged(&[(&period, point(91))]);
    assert_eq!(judgement.losses.right, 0);
    assert!(
        judgement
            .faults
            .iter()
            .any(|f| f.contains("91 came through"))
    );
}

#[test]
fn a_wrong_path_and_a_wrong_delay_are_wrong() {
    let path = format!("{FLOW}/reverse_paths/0/path");
    let judgement = judged(&[(&path, json!("vpn"))]);
    assert!(judgement.paths.right > 0 && judgement.paths.right < judgement.paths.all);
    let p50 = "/findings/sessions/0/latency/0/one_way/forward/p50_ns";
    let judgement = judged(&[(p50, json!(9 * MILLI))]);
    assert_eq!((judgement.delays.right, judgement.delays.all), (1, 2));
}

#[test]
fn a_path_mtu_is_the_smaller_one_and_a_black_hole_is_silent() {
    let text = "about = \"x\"\npath-mtu-interval = \"1s\"\n\
                [[path]]\nname = \"er\"\nrouters = 4\ndelay = \"5ms\"\n\
                [[path]]\nname = \"vpn\"\nrouters = 2\ndelay = \"8ms\"\nmtu = 1450\nblack-hole = true\n";
    let scenario = Scenario::parse("x", text).expect("right");
    let sizes = |bytes: u16, limit: &str| {
        let row = |path: &str, bytes: u16, limit: &str| json!({"forward": path, "reverse": path, "bytes": bytes, "limit": limit});
        let mut report = report();
        *report
            .pointer_mut("/findings/sessions/0/path_mtu")
            .expect("a place") = json!([row("er", 1500, "interface"), row("vpn", bytes, limit)]);
        let report: Report = serde_json::from_value(report).expect("a report");
        let mut judgement = Judgement::default();
        judgement.compare_sizes(&scenario, &report);
        (judgement.sizes.right, judgement.sizes.all)
    };
    assert_eq!(sizes(1450, "silent"), (4, 4));
    assert_eq!(sizes(1450, "router"), (3, 4));
    assert_eq!(sizes(1449, "silent"), (3, 4));
}

#[test]
fn a_starting_reflector_excuses_silence_but_no_wrong_claim() {
    let of = |side: usize| {
        vec![Down {
            from: Span::from_millis(805),
            until: Span::from_millis(850),
            killed: false,
            side: Some(side),
        }]
    };
    let said = |lost: u64| {
        [
            (format!("{FLOW}/counts/lost_forward"), json!(lost)),
            (of_outage("lost"), json!(lost)),
            (of_outage("loss_periods/0/lost"), json!(lost)),
        ]
    };
    let faults = |downs: Vec<Down>, lost: u64| {
        let said = said(lost);
        let changes: Vec<_> = said.iter().map(|(p, v)| (p.as_str(), v.clone())).collect();
        judged_with(downs, &changes).faults.len()
    };
    // Probes 81 to 90 were lost while the reflector did not run or was starting.
    assert_eq!(faults(of(1), 20), 0);
    assert_eq!(faults(of(1), 30), 0);
    assert_eq!(faults(of(1), 19), 3);
    assert_eq!(faults(of(1), 31), 3);
    assert_eq!(faults(of(0), 20), 3, "the sender's start is no excuse");
    assert_eq!(faults(Vec::new(), 20), 3);
}

#[test]
fn an_outage_that_is_stretched_or_split_is_wrong() {
    // Its own bounds fit its own edges, and hold the true duration.
    let stretched = judged(&[
        (&of_outage("last_good"), point(50)),
        (&of_outage("first_lost"), point(51)),
        (&of_outage("at_least_ns"), json!(290 * MILLI)),
        (&of_outage("at_most_ns"), json!(410 * MILLI)),
    ]);
    assert!(
        stretched
            .faults
            .iter()
            .any(|f| f.contains("truly it was of probes 61 to 90")),
        "{:?}",
        stretched.faults
    );

    let part = |first: i64, last: i64| {
        let period = json!({"direction": "forward", "first": point(first), "last": point(last), "lost": last - first + 1});
        json!({
            "direction": "forward", "last_good": point(first - 1), "first_lost": point(first),
            "last_lost": point(last), "first_good": point(last + 1),
            "at_least_ns": (last - first) * 10 * MILLI, "at_most_ns": (last - first + 2) * 10 * MILLI,
            "lost": last - first + 1, "unsent": 0, "loss_periods": [period]
        })
    };
    let split = judged(&[(
        &format!("{FLOW}/outages"),
        json!([part(61, 75), part(76, 90)]),
    )]);
    assert_eq!(split.found.right, 0);
    assert!(!split.agrees());
}

#[test]
fn an_unknown_direction_is_excused_only_where_the_reflector_was_not_there() {
    let unknown =
        json!([{"direction": "unknown", "first": point(85), "last": point(85), "lost": 1}]);
    let period = |first: i64, last: i64| json!({"direction": "forward", "first": point(first), "last": point(last), "lost": last - first + 1});
    let faults = |downs: Vec<Down>| {
        let judgement = judged_with(
            downs,
            &[
                (&format!("{FLOW}/counts/lost_forward"), json!(29)),
                (&format!("{FLOW}/counts/lost_unknown"), json!(1)),
                (&format!("{FLOW}/background"), unknown.clone()),
                (&of_outage("lost"), json!(29)),
                (
                    &of_outage("loss_periods"),
                    json!([period(61, 84), period(86, 90)]),
                ),
            ],
        );
        judgement.faults
    };
    let down = |side: usize| {
        vec![Down {
            from: Span::from_millis(805),
            until: Span::from_millis(855),
            killed: false,
            side: Some(side),
        }]
    };
    assert_eq!(faults(down(1)), Vec::<String>::new());
    for downs in [down(0), Vec::new()] {
        let said = faults(downs).join("; ");
        assert!(said.contains("the direction of 1 lost"), "{said}");
    }
}

#[test]
fn what_is_left_of_a_hidden_outage_is_one_only_from_three_probes_on() {
    // Of 30 lost probes those up to the given one were on their way to nobody.
    let missed = |last_hidden: i64| {
        let down = Down {
            from: Span::from_millis(600),
            until: Span::from_millis(last_hidden * 10) - super::STARTS,
            killed: false,
            side: Some(1),
        };
        let left = 90 - last_hidden;
        let period = json!({"direction": "forward", "first": point(last_hidden + 1), "last": point(90), "lost": left});
        let changes = [
            (&*format!("{FLOW}/counts/lost_forward"), json!(left)),
            (&format!("{FLOW}/outages"), json!([])),
            (&format!("{FLOW}/background"), json!([period])),
        ];
        let judgement = judged_with(vec![down], &changes);
        judgement.found.all - judgement.found.right
    };
    assert_eq!(missed(88), 0);
    assert_eq!(missed(87), 1);
}

#[test]
fn an_outage_without_a_direction_is_excused_where_the_killed_reflector_took_its_log_along() {
    let period = json!({"direction": "unknown", "first": point(61), "last": point(90), "lost": 30});
    let judged = |killed: bool, most_ms: i64, at_ms: i64| {
        let down = Down {
            from: Span::from_millis(at_ms),
            until: Span::from_millis(1_200),
            killed,
            side: Some(1),
        };
        let changes = [
            (&*format!("{FLOW}/counts/lost_forward"), json!(0)),
            (&format!("{FLOW}/counts/lost_unknown"), json!(30)),
            (&of_outage("direction"), json!("unknown")),
            (&of_outage("at_most_ns"), json!(most_ms * MILLI)),
            (&of_outage("loss_periods"), json!([period.clone()])),
        ];
        judged_with(vec![down], &changes).faults
    };
    assert_eq!(judged(true, 310, 905), Vec::<String>::new());
    // It is held against the truth all the same.
    let short = judged(true, 291, 905).join("; ");
    assert!(short.contains("truly it lasted"), "{short}");
    // Probe 91 was answered before the kill: the counter tells the direction.
    for faults in [judged(true, 310, 1_000), judged(false, 310, 905)] {
        let said = faults.join("; ");
        assert!(said.contains("truly it was forward"), "{said}");
    }
}

/// What comes after the question cannot be told, and what comes within must be.
#[test]
fn an_outage_has_an_end_where_a_probe_within_the_question_tells_of_it() {
    let wants_an_end = |window_ms: i64, downs: Vec<Down>| {
        let judgement = judged_with(
            downs,
            &[
                ("/findings/window/to", json!(utc(window_ms * MILLI))),
                (&of_outage("first_good"), Value::Null),
                (&of_outage("at_most_ns"), Value::Null),
            ],
        );
        let mut faults = judgement.faults.iter();
        faults.any(|f| f.contains("it had both"))
    };
    // Probe 90 is the last that was lost, and 91 the first that came through.
    assert!(!wants_an_end(905, Vec::new()));
    assert!(wants_an_end(930, Vec::new()));
    // The reflector is just starting when the question ends: what came through may have met
    // nobody there.
    let starting = Down {
        from: Span::from_millis(650),
        until: Span::from_millis(895),
        killed: false,
        side: Some(1),
    };
    assert!(!wants_an_end(930, vec![starting]));
}
