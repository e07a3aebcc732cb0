use super::{Judgement, Scenario, Share, Table};

fn table(outages: bool) -> Table {
    let text = format!("about = \"x\"\noutages = {outages}\n");
    Table::new(1, &[Scenario::parse("x", &text).expect("right")])
}

/// A run that is right in every point.
fn right() -> Judgement {
    let all = Share { right: 4, all: 4 };
    Judgement {
        scenario: "x".to_owned(),
        found: all,
        durations: all,
        widths: all,
        directions: all,
        paths: all,
        losses: all,
        delays: all,
        sizes: all,
        ..Judgement::default()
    }
}

fn holds(run: Judgement) -> bool {
    let mut table = table(true);
    table.take(right());
    table.take(run);
    table.holds()
}

#[test]
fn one_wrong_point_of_one_run_is_enough_to_fail() {
    assert!(holds(right()));
    let few = Share { right: 3, all: 4 };
    type Wrong = fn(&mut Judgement, Share);
    let wrongs: [(&str, Wrong); 12] = [
        ("found", |run, few| run.found = few),
        ("durations", |run, few| run.durations = few),
        ("widths", |run, few| run.widths = few),
        ("directions", |run, few| run.directions = few),
        ("paths", |run, few| run.paths = few),
        ("losses", |run, few| run.losses = few),
        ("delays", |run, few| run.delays = few),
        ("sizes", |run, few| run.sizes = few),
        ("missed", |run, _| run.missed_long = 1),
        ("invented", |run, _| run.invented = 1),
        ("faults", |run, _| run.faults.push("x".to_owned())),
        ("hole", |run, _| run.hole = Some("x".to_owned())),
    ];
    for (what, wrong) in wrongs {
        let mut run = right();
        wrong(&mut run, few);
        assert!(!holds(run), "{what}");
    }
}

#[test]
fn errors_of_edges_are_judged_by_their_median() {
    let of = |error: f64| Judgement {
        start_errors: vec![error; 8],
        ..right()
    };
    assert!(holds(of(0.5)));
    assert!(!holds(of(0.51)));
}

#[test]
fn a_run_that_was_not_carried_out_or_had_no_outage_shows_nothing() {
    let mut broken = table(false);
    assert!(!broken.holds(), "no run at all");
    broken.take(right());
    assert!(broken.holds());
    broken.broken("x", 2, "x");
    assert!(!broken.holds());

    let quiet = || Judgement {
        found: Share::default(),
        ..right()
    };
    let mut table = table(true);
    // However many outages the others had.
    table.take(right());
    table.take(quiet());
    assert!(!table.holds());
    let mut free = self::table(false);
    free.take(quiet());
    assert!(free.holds());
}
