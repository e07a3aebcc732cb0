use super::super::tests::truth;
use super::{Judgement, Unseen};
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
    let server = Unseen {
        most: Span::from_millis(57_010),
        least: Span::from_millis(57_010),
        longest: Span::from_millis(47_010),
    };
    assert_eq!(Unseen::of(&truth, window(), 0), server);
    let all = Span::from_secs(60);
    let vm = Unseen {
        most: all,
        least: all,
        longest: all,
    };
    assert_eq!(Unseen::of(&truth, window(), 1), vm);
}

#[test]
fn what_is_missing_is_what_nothing_left_in() {
    let said = |asked_ns: i64, seen_ns: i64| -> Coverage {
        let text = format!(
            r#"{{"directions":[{{"from":"onprem","to":"azure","asked_ns":{asked_ns},"seen_ns":{seen_ns}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let asked = Span::from_secs(60);
    let unseen = Unseen::of(&truth(), window(), 0);
    for (asked_ns, seen_ns, fits) in [
        (60_000_000_000, 2_990_000_000, true),
        // Too much is said to be missing.
        (60_000_000_000, 2_900_000_000, false),
        // Too little.
        (60_000_000_000, 3_600_000_000, false),
        // Another stretch: as much is missing.
        (58_000_000_000, 990_000_000, false),
    ] {
        let mut judgement = Judgement::default();
        let said = said(asked_ns, seen_ns);
        judgement.compare_coverage(&said, ("onprem", "azure"), asked, unseen);
        assert_eq!(judgement.faults.is_empty(), fits, "{:?}", judgement.faults);
    }
    let mut judgement = Judgement::default();
    let said = said(60_000_000_000, 0);
    judgement.compare_coverage(&said, ("azure", "onprem"), asked, unseen);
    assert_eq!(judgement.faults.len(), 1, "a direction that is not told of");
}

#[test]
fn slow_probes_leave_longer_gaps_without_hiding_anything() {
    let mut truth = truth();
    for flow in truth.flows.values_mut() {
        for (i, packet) in (0..).zip(&mut flow.packets) {
            packet.mark.enter = Mono::ZERO + Span::from_millis(200) * i;
        }
    }
    // 300 packets, one each 200 ms, fill the minute.
    assert_eq!(Unseen::of(&truth, window(), 0).least, Span::ZERO);
}

#[test]
fn an_objective_is_not_met_where_nothing_left_for_longer() {
    for (seconds, fits) in [(9, true), (11, false)] {
        let mut judgement = Judgement::default();
        let unseen = Unseen {
            longest: Span::from_secs(seconds),
            ..Unseen::of(&truth(), window(), 0)
        };
        judgement.compare_met(unseen, ("onprem", "azure"));
        assert_eq!(judgement.faults.is_empty(), fits, "{:?}", judgement.faults);
    }
}
