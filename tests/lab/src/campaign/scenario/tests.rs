use super::{Folder, Range, Scenario, What};
use hopgap_proto::time::Span;

#[test]
fn every_scenario_of_the_lab_is_read() {
    let all = Scenario::all(Folder::Campaign).expect("they are all right");
    assert!(all.len() >= 20, "{} scenarios", all.len());
    let for_peers = Scenario::all(Folder::Peers).expect("they are all right");
    assert_eq!(for_peers.len(), 6);
    let waiting = Scenario::all(Folder::Waiting).expect("they are all right");
    for scenario in all.into_iter().chain(for_peers).chain(waiting) {
        assert!(!scenario.about.is_empty(), "{}", scenario.name);
    }
}

#[test]
fn what_is_drawn_lies_in_its_range() {
    let range: Range<Span> = "0.3s..2s".parse().expect("a range");
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..1000 {
        let drawn = range.draw(&mut rng);
        assert!(drawn >= Span::from_millis(300) && drawn <= Span::from_secs(2));
    }
    assert_eq!(
        "5ms".parse::<Range<Span>>(),
        Ok(Range::only(Span::from_millis(5)))
    );
    assert!("2s..1s".parse::<Range<Span>>().is_err());
}

#[test]
fn numbers_may_stand_alone() {
    let text = "about = \"x\"\n[[event]]\nat = \"1s\"\nwhat = { loss = 2.5 }\n";
    let scenario = Scenario::parse("x", text).expect("right");
    let What::Loss(range) = &scenario.events[0].what else {
        panic!("{:?}", scenario.events);
    };
    assert_eq!(*range, Range::only(2.5));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = "about = \"x\"\n[[event]]\nat = \"1s\"\nhwat = \"drop\"\n";
    let error = format!("{:#}", Scenario::parse("x", text).expect_err("wrong"));
    assert!(error.contains("line 4"), "{error}");
    assert!(error.contains("hwat"), "{error}");
}

#[test]
fn a_path_that_there_is_not_and_a_fault_without_end_are_refused() {
    for (event, says) in [
        ("what = { path = \"x25\" }", "x25"),
        ("what = { stop = \"a\" }", "`for`"),
        ("what = \"drop\"\nrepeat = \"2..3\"", "`every`"),
    ] {
        let text = format!("about = \"x\"\n[[event]]\nat = \"1s\"\n{event}\n");
        let error = format!("{:#}", Scenario::parse("x", &text).expect_err("wrong"));
        assert!(error.contains(says), "{error}");
    }
}
