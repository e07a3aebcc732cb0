use super::super::tests::truth;
use super::{Judgement, unseen};
use crate::drill::judge::report::Coverage;
use crate::truth::{Mark, TrueOutage, Truth};
use hopgap_proto::time::{Mono, Span};

/// The minute that the truth's three seconds lie in.
fn window() -> (Mono, Mono) {
    (Mono::ZERO, Mono::ZERO + Span::from_secs(60))
}

/// With an outage of so long.
fn with_outage(lasted: Span) -> Truth {
    let mut truth = truth();
    let mark = |after: Span| Mark {
        seq: 0,
        echo: None,
        enter: Mono::ZERO + Span::from_secs(10) + after,
    };
    for flow in truth.flows.values_mut() {
        flow.outages = vec![TrueOutage {
            last_good: Some(mark(Span::ZERO)),
            first_lost: mark(Span::from_millis(10)),
            last_lost: mark(Span::from_millis(10) + lasted),
            first_good: Some(mark(Span::from_millis(20) + lasted)),
            lost: 50,
        }];
    }
    truth
}

fn faults(said: &str, truth: &Truth) -> Vec<String> {
    let mut judgement = Judgement::default();
    judgement.compare_verdict(said, truth, window());
    judgement.faults
}

#[test]
fn the_verdict_is_held_against_the_longest_outage() {
    let (short, long) = (Span::from_secs(9), Span::from_secs(11));
    for (said, lasted, fits) in [
        ("met", short, true),
        ("undecided", short, true),
        ("missed", short, false),
        ("not_tested", short, false),
        ("met", long, false),
        ("undecided", long, false),
        ("missed", long, true),
    ] {
        let faults = faults(said, &with_outage(lasted));
        assert_eq!(faults.is_empty(), fits, "{said} after {lasted}: {faults:?}");
    }
}

#[test]
fn what_no_packet_left_in_was_not_seen() {
    // Packets left the server from 10 s to 12.99 s, and none left the VM.
    let truth = truth();
    assert_eq!(unseen(&truth, window(), 0), Span::from_millis(57_010));
    assert_eq!(unseen(&truth, window(), 1), Span::from_secs(60));
}

#[test]
fn more_may_not_be_missing_than_nothing_left_in() {
    let said = |seen_ns: i64| -> Coverage {
        let text = format!(
            r#"{{"directions":[{{"from":"onprem","to":"azure","asked_ns":60000000000,"seen_ns":{seen_ns}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let unseen = Span::from_millis(57_010);
    for (seen_ns, fits) in [(2_990_000_000, true), (2_900_000_000, false)] {
        let mut judgement = Judgement::default();
        judgement.compare_coverage(&said(seen_ns), ("onprem", "azure"), unseen);
        assert_eq!(judgement.faults.is_empty(), fits, "{:?}", judgement.faults);
    }
    let mut judgement = Judgement::default();
    judgement.compare_coverage(&said(0), ("azure", "onprem"), Span::from_secs(60));
    assert_eq!(judgement.faults.len(), 1, "a direction that is not told of");
}
