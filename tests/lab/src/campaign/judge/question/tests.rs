use crate::campaign::judge::report::Report;
use crate::campaign::judge::tests::{MILLI, at, report, utc};
use crate::campaign::judge::{Judgement, compare};
use crate::campaign::program::Program;
use crate::campaign::record::{Down, Record, Told};
use crate::campaign::scenario::Scenario;
use crate::campaign::truth::{FlowTruth, Passage, Probe, Truth};
use hopgap_proto::time::Span;
use serde_json::{Value, json};

/// Ten seconds in which nothing is lost: a probe and its reply every 10 ms.
fn truth() -> Truth {
    let way = |enter: i64| Passage {
        enter: at(enter),
        exit: Some(at(enter + 5 * MILLI)),
        path: 0,
        copies: 0,
    };
    let probes = (0..1000).map(|i| Probe {
        seq: i,
        out: way(i64::from(i) * 10 * MILLI),
        back: Some(way(i64::from(i) * 10 * MILLI + 5 * MILLI)),
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

/// The same, but what left `b` from 2 s to 7 s left it at 7 s.
fn stalled() -> Truth {
    let mut truth = truth();
    for probe in &mut truth.flows[0].probes {
        let held = at(2_000 * MILLI)..at(7_000 * MILLI);
        if let Some(back) = &mut probe.back
            && held.contains(&back.enter)
        {
            back.enter = held.end;
            back.exit = Some(held.end + Span::from_millis(5));
        }
    }
    truth
}

/// What the judge says of the question alone, of a run of these events, asked for these
/// milliseconds, and this report of it.
fn judged(
    text: &str,
    asked: (i64, i64),
    downs: Vec<Down>,
    changes: &[(&str, Value)],
) -> Vec<String> {
    judged_by(&truth(), text, asked, downs, changes)
}

fn judged_by(
    truth: &Truth,
    text: &str,
    asked: (i64, i64),
    downs: Vec<Down>,
    changes: &[(&str, Value)],
) -> Vec<String> {
    let text = format!("about = \"x\"\nboth = false\nflows = 1\nlasts = \"10s\"\n{text}");
    let scenario = Scenario::parse("x", &text).expect("a scenario");
    let told = |millis: i64| Told {
        earliest_ns: millis * MILLI,
        latest_ns: (millis + 20) * MILLI,
    };
    let record = Record {
        scenario: "x".to_owned(),
        seed: 1,
        begin_ns: 0,
        wall_minus_mono_ns: 0,
        program: Program::draw(&scenario, 1),
        downs,
        asked: Some([told(asked.0), told(asked.1)]),
        no_routes: Vec::new(),
        clock: None,
    };
    let mut report = report();
    let window = json!({"from": utc((asked.0 + 10) * MILLI), "to": utc((asked.1 + 10) * MILLI)});
    *report.pointer_mut("/findings/window").expect("a place") = window;
    for (place, value) in changes {
        *report.pointer_mut(place).expect("a place") = value.clone();
    }
    let report: Report = serde_json::from_value(report).expect("a report");
    let judgement: Judgement = compare(&scenario, &record, truth, &report);
    let of_question = [
        "the question",
        "the verdict",
        "agent ",
        "the transitions",
        "the fail",
    ];
    let mut faults = judgement.faults;
    faults.retain(|fault| of_question.iter().any(|begin| fault.starts_with(begin)));
    faults
}

const VERDICT: &str = "/findings/verdict/result";

#[test]
fn what_is_judged_is_what_was_asked() {
    assert_eq!(
        judged("", (1_000, 9_000), Vec::new(), &[]),
        Vec::<String>::new()
    );
    let shrunk = [("/findings/window/to", json!(utc(7_000 * MILLI)))];
    let faults = judged("", (1_000, 9_000), Vec::new(), &shrunk);
    assert!(
        faults.iter().any(|f| f.contains("another stretch")),
        "{faults:?}"
    );
    let none = [("/findings/window", Value::Null)];
    let faults = judged("", (1_000, 9_000), Vec::new(), &none);
    assert!(
        faults.iter().any(|f| f.contains("of no stretch")),
        "{faults:?}"
    );
}

#[test]
fn nothing_is_met_that_nobody_saw() {
    let objective = "objective = \"2s\"\n";
    // The probes end at 10 s.
    let says = |result: &str, to: i64| {
        judged(
            objective,
            (1_000, to),
            Vec::new(),
            &[(VERDICT, json!(result))],
        )
    };
    assert_eq!(says("met", 11_500), Vec::<String>::new());
    assert_eq!(says("undecided", 15_000), Vec::<String>::new());
    let faults = says("met", 15_000);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("nobody saw what left a"), "{faults:?}");
    assert!(faults[1].contains("nobody saw what left b"), "{faults:?}");
    // Nor where packets went to an agent that did not run.
    let down = |side: usize| {
        vec![Down {
            from: Span::from_secs(3),
            until: Span::from_secs(8),
            killed: true,
            side: Some(side),
        }]
    };
    for (side, leaves) in [(0, "left b"), (1, "left a")] {
        let faults = judged(objective, (1_000, 9_000), down(side), &[]);
        assert!(faults.iter().any(|f| f.contains(leaves)), "{faults:?}");
        let undecided = [(VERDICT, json!("undecided"))];
        let faults = judged(objective, (1_000, 9_000), down(side), &undecided);
        assert_eq!(faults, Vec::<String>::new());
    }
}

#[test]
fn an_outage_over_the_objective_is_missed_and_an_announced_failover_tests_nothing_alone() {
    let outage = "objective = \"2s\"\n[[event]]\nat = \"3s\"\nfor = \"3s\"\nwhat = \"drop\"\n";
    let says = |text: &str, result: &str| {
        judged(
            text,
            (1_000, 9_000),
            Vec::new(),
            &[(VERDICT, json!(result))],
        )
    };
    assert!(says(outage, "missed").is_empty());
    assert!(!says(outage, "undecided").is_empty());
    let announced = "[[event]]\nat = \"3s\"\nwhat = { mark = \"failover\" }\n";
    assert!(says(announced, "not_tested").is_empty());
    assert!(!says(announced, "met").is_empty());
    let moved = format!("{announced}[[event]]\nat = \"3s\"\nwhat = {{ path = \"vpn\" }}\n");
    assert!(says(&moved, "met").is_empty());
}

#[test]
fn a_host_that_stood_still_is_told_as_that() {
    let text = "[[event]]\nat = \"2s\"\nfor = \"5s\"\nwhat = { stop = \"b\" }\n";
    let missing = |host: &str, code: &str, from: i64, to: i64| {
        json!({"from": host, "missing": [{
            "from": utc(from * MILLI), "to": utc(to * MILLI), "cause": {"code": code, "agent": "b"}
        }]})
    };
    let says = |directions: Value| {
        judged_by(
            &stalled(),
            text,
            (1_000, 9_000),
            Vec::new(),
            &[("/findings/coverage/directions", directions)],
        )
    };
    let right = missing("b", "host_stalled", 2_000, 7_000);
    let seen = json!({"from": "a", "missing": []});
    assert_eq!(says(json!([right, seen])), Vec::<String>::new());
    let says_of_b = |code: &str, from: i64, to: i64| says(json!([missing("b", code, from, to)]));
    assert!(says_of_b("agent_not_heard", 2_000, 7_000)[0].contains("agent_not_heard"));
    // Less than nothing was seen of it.
    for (from, to) in [(2_500, 7_000), (2_000, 6_500)] {
        let faults = says_of_b("host_stalled", from, to);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("told as seen"), "{faults:?}");
    }
    // Its kernel took in what was sent to it.
    let faults = says(json!([right, missing("a", "host_stalled", 3_000, 5_000)]));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("took in meanwhile"), "{faults:?}");
    assert!(says(json!([]))[0].contains("all was seen"));
}

#[test]
fn transitions_are_those_of_the_truth_and_at_its_times() {
    let text = "transitions = [\"failover\"]\n\
                [[event]]\nat = \"3s\"\nwhat = { path = \"vpn\" }\n";
    let of = |kind: &str, millis: i64| json!([{"kind": kind, "started": utc(millis * MILLI)}]);
    let says = |transitions: Value| {
        judged(
            text,
            (1_000, 9_000),
            Vec::new(),
            &[("/findings/transitions", transitions)],
        )
    };
    assert_eq!(says(of("failover", 3_005)), Vec::<String>::new());
    assert!(says(of("reroute", 3_005))[0].contains("reroute"));
    assert!(says(of("failover", 6_000))[0].contains("nothing was switched"));
    assert!(says(json!([]))[0].contains("truly"));
}
