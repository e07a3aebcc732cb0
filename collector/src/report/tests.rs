pub(in crate::report) mod fixture;
mod strings;

use super::*;
use fixture::at;
use hopgap_analysis::findings::{
    Awaited, Coverage, Direction, Missing, MissingCause, SessionEnd, UnnamedRoute, Verdict,
    VerdictReason, VerdictResult, Window,
};
use hopgap_proto::time::Wall;

fn report() -> Report {
    Report::new(
        "ExpressRoute failover drill, SEA-Cust11",
        Some("2026-q4-sea".to_owned()),
        fixture::drill(),
        at(600_000),
    )
}

fn one_msee() -> Report {
    Report {
        title: "One MSEE only".to_owned(),
        findings: fixture::one_msee(),
        ..report()
    }
}

fn grey() -> Report {
    Report {
        title: "A grey drop".to_owned(),
        drill: None,
        findings: fixture::grey(),
        ..report()
    }
}

fn empty() -> Report {
    let mut report = grey();
    report.title = "Nothing".to_owned();
    report.findings = Findings {
        window: None,
        coverage: Coverage::default(),
        paths: Vec::new(),
        markers: Vec::new(),
        sessions: Vec::new(),
        transitions: Vec::new(),
        echoes: Vec::new(),
        unnamed_routes: Vec::new(),
        verdict: Verdict {
            result: VerdictResult::Undecided,
            objective_ns: fixture::ns(10_000_000_000),
            worst_at_least_ns: fixture::ns(0),
            worst_at_most_ns: None,
            outages: 0,
            reason: VerdictReason::NoData,
            sentence: "There is no data to judge.".to_owned(),
        },
        notes: Vec::new(),
        caveats: Vec::new(),
    };
    report
}

/// A report on two routes without a name.
fn unnamed() -> Report {
    let route = |session: &str, direction, hops: &[&str]| UnnamedRoute {
        session: session.to_owned(),
        direction,
        from: "onprem".to_owned(),
        to: "azure".to_owned(),
        flows: vec![0, 3],
        probes: 1_234,
        target_at_hop: Some(3),
        hops: hops.iter().map(|h| Some((*h).to_owned())).collect(),
        plan_lines: Some("[[path]]\nname = \"path-1\"\ntarget_at_hop = 3\n".to_owned()),
    };
    let mut report = grey();
    report.findings.unnamed_routes = vec![
        route(
            "onprem-azure",
            Direction::Forward,
            &["10.1.11.1", "10.17.11.132"],
        ),
        route("azure-onprem", Direction::Reverse, &[]),
    ];
    report
}

#[test]
fn the_lines_that_would_name_a_route_can_be_pasted() {
    let text = text_of(&unnamed());
    let lines = "[[path]]\nname = \"path-1\"\ntarget_at_hop = 3\n";
    assert_eq!(text.matches(lines).count(), 1, "{text}");
    // Wherever lines are broken.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "1234 probes of 2 flows, over 10.1.11.1, 10.17.11.132",
        "seen by its length alone, 3 hops",
        "report --plan FILE",
    ] {
        assert!(words.contains(said), "{said}: {text}");
    }
    let html = unnamed().render(Format::Html).unwrap();
    assert!(
        html.contains("<pre>[[path]]\nname = &quot;path-1&quot;"),
        "no lines"
    );
    let none = text_of(&grey());
    assert!(!none.contains("[[path]]"), "{none}");
}

/// Every text from outside is markup with a number of its own, control and
/// bidirectional characters included.
fn hostile() -> Report {
    let mut report = report();
    let mut findings = report.findings.clone();
    strings::each(&mut findings, &mut |s| *s = evil(s));
    report.findings = findings;
    report.title = evil("title");
    report.drill = Some(evil("drill"));
    report
}

fn evil(text: &str) -> String {
    format!("<x onload=\"a('{text}')\">&\u{1b}[31m\u{202e},\r\n</script>")
}

fn text_of(report: &Report) -> String {
    let text = report.render(Format::Text).unwrap();
    // Snapshots are not to change with every version.
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

fn csv_of(csv: &str) -> String {
    csv.replace("\r\n", "\n")
}

#[test]
fn the_drill_as_text() {
    insta::assert_snapshot!(text_of(&report()));
}

#[test]
fn one_msee_as_text() {
    insta::assert_snapshot!(text_of(&one_msee()));
}

#[test]
fn a_grey_drop_as_text() {
    insta::assert_snapshot!(text_of(&grey()));
}

#[test]
fn nothing_as_text() {
    insta::assert_snapshot!(text_of(&empty()));
}

#[test]
fn one_msee_as_csv() {
    let findings = fixture::one_msee();
    insta::assert_snapshot!("outages_csv", csv_of(&csv::outages(&findings)));
    insta::assert_snapshot!("paths_csv", csv_of(&csv::paths(&findings)));
    let seconds = csv_of(&csv::seconds(&findings));
    let around: Vec<&str> = seconds
        .lines()
        .take(1)
        .chain(seconds.lines().skip(119).take(4))
        .collect();
    insta::assert_snapshot!("seconds_csv", around.join("\n"));
}

#[test]
fn text_is_ascii_and_fits_a_ticket() {
    for report in [report(), one_msee(), grey(), empty()] {
        for line in report.render(Format::Text).unwrap().lines() {
            assert!(line.len() <= 100, "{} columns: {line}", line.len());
        }
    }
    let text = hostile().render(Format::Text).unwrap();
    assert!(text.chars().all(|c| matches!(c, ' '..='~' | '\n')));
}

#[test]
fn csv_cells_are_quoted_where_they_must_be() {
    // Characters that control a terminal are shown by their number.
    let shown = evil("onprem-azure")
        .replace('\u{1b}', "\\u001b")
        .replace('\u{202e}', "\\u202e");
    let cell = format!("\"{}\"", shown.replace('"', "\"\""));
    let outages = csv::outages(&hostile().findings);
    assert!(!outages.contains(['\u{1b}', '\u{202e}']));
    assert!(outages.contains(&format!("\r\n{cell},forward,")));
    // The session, from and to of each row are the only cells with quotes in them.
    assert_eq!(outages.matches("\r\n</script>\",").count(), 3 * 16);
}

#[test]
fn every_text_from_outside_is_visited() {
    let json = serde_json::to_value(&hostile().findings).unwrap();
    let words = [
        "failover",
        "failback",
        "note",
        "forward",
        "reverse",
        "unknown",
        "reflector_log",
        "trace",
        "hop_count",
        "nothing",
        "met",
        "missed",
        "undecided",
        "too_little_missing",
        "outage_too_long",
        "host_stalled",
        "reroute",
        "interruption",
        "interface",
        "router",
    ];
    let mut left = vec![&json];
    let mut seen = 0;
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::String(s) => {
                let known = words.contains(&s.as_str()) || s.parse::<jiff::Timestamp>().is_ok();
                assert!(known || s.starts_with("<x "), "not visited: {s}");
                seen += usize::from(!known);
            }
            serde_json::Value::Array(a) => left.extend(a),
            serde_json::Value::Object(o) => left.extend(o.values()),
            _ => {}
        }
    }
    assert!(seen > 100);
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let html = hostile().render(Format::Html).unwrap();
    assert!(!html.contains("<x"));
    assert!(!html.contains("</script"));
    assert!(!html.contains(['\u{1b}', '\u{202e}', '\r']));
    for shown in [
        "title",
        "drill",
        "onprem-azure",
        "vpn",
        "azure-vm",
        "10.1.11.1",
        "msee-primary",
    ] {
        let escaped = format!("&lt;x onload=&quot;a(&#39;{shown}&#39;)&quot;&gt;&amp;");
        assert!(html.contains(&escaped), "{shown} is not shown");
    }
    balanced(&html);
}

#[test]
fn the_page_is_well_formed_and_asks_nobody_for_anything() {
    for report in [report(), one_msee(), grey(), empty()] {
        let html = report.render(Format::Html).unwrap();
        balanced(&html);
        assert!(!html.contains("://"), "no address");
        assert!(!html.contains("<script") && !html.contains("@import") && !html.contains("src="));
        assert_eq!(
            html.matches("url(").count(),
            html.matches("url(#hatch").count()
        );
    }
}

/// Every tag is closed, in order.
fn balanced(html: &str) {
    const VOID: [&str; 3] = ["meta", "br", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let (head, body) = html.split_once("<style>").unwrap();
    let body = body.split_once("</style>").unwrap().1;
    for part in [head, body] {
        for tag in part.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
            let name = tag.split([' ', '/', '\n']).find(|n| !n.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}>");
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn every_outage_has_its_gap_in_the_timeline() {
    let report = report();
    let html = report.render(Format::Html).unwrap();
    let outages: usize = report
        .findings
        .sessions
        .iter()
        .flat_map(|s| &s.flows)
        .map(|f| f.outages.len())
        .sum();
    // One frame more in each figure's legend.
    assert_eq!(html.matches("class=\"may\"").count(), outages + 2);
}

#[test]
fn the_page_shows_the_bounds_of_every_flow() {
    let html = report().render(Format::Html).unwrap();
    for flow in &fixture::drill().sessions[0].flows {
        let o = &flow.outages[0];
        let shown = hopgap_analysis::text::bounds(o.at_least_ns, o.at_most_ns);
        assert!(html.contains(&format!(">{shown}</text>")), "{shown}");
    }
}

#[test]
fn instants_at_the_ends_of_time_do_no_harm() {
    for nanos in [i64::MIN, i64::MAX] {
        let mut report = report();
        let far = Utc(Wall::from_nanos(nanos));
        report.generated_at = far;
        report.findings.window = Some(Window {
            from: far,
            to: at(0),
        });
        report.findings.markers[0].at = far;
        report.findings.transitions[0].started = far;
        report.findings.transitions[1].recovered = Some(far);
        report.findings.transitions[1].worst_at_most_ns = Some(fixture::ns(nanos));
        let session = &mut report.findings.sessions[0];
        session.seconds[3].at = far;
        session.flows[0].outages[0].last_lost.sent = far;
        session.flows[0].forward_paths[0].first.sent = far;
        session.latency[0].round_trip.max_ns = fixture::ns(nanos);
        for format in Format::ALL {
            assert!(!report.render(format).unwrap().is_empty());
        }
    }
}

#[test]
fn a_long_report_stays_small() {
    let mut report = report();
    let session = &mut report.findings.sessions[0];
    let day = session.seconds.clone();
    session.seconds = (0..86_400)
        .map(|s| hopgap_analysis::findings::Second {
            at: at(s * 1_000),
            ..day[usize::try_from(s).unwrap() % day.len()].clone()
        })
        .collect();
    let html = report.render(Format::Html).unwrap();
    assert!(html.len() < 400_000, "{} bytes", html.len());
    assert!(html.contains("per 96 seconds"));
}

#[test]
fn a_loss_of_unknown_direction_looks_like_none_that_is_known() {
    let known = report().render(Format::Html).unwrap();
    assert!(known.contains("url(#hatch1)") && !known.contains("url(#hatch-u"));
    assert!(!known.contains("nobody knows whether"));
    let unknown = grey().render(Format::Html).unwrap();
    assert!(unknown.contains("url(#hatch-u1)") && !unknown.contains("url(#hatch1)"));
    assert!(unknown.contains("nobody knows whether the probes or their replies"));
}

#[test]
fn a_card_does_not_say_none_where_nobody_could_see() {
    let html = report().render(Format::Html).unwrap();
    assert!(html.contains("<dt>onprem-azure reverse</dt><dd>1.309 to 1.330 s</dd>"));
    assert!(html.contains("<dt>azure-onprem reverse</dt><dd>not known for 1.34 s</dd>"));
    assert!(html.contains("never answered (360 sent)"));
}

#[test]
fn the_schema_is_the_committed_one() {
    let committed = include_str!("../../schema/report.schema.json");
    assert!(
        committed == schema().unwrap(),
        "collector/schema/report.schema.json is out of date; write there what \
         hopgap_collector::report::schema() gives"
    );
}

#[test]
fn json_names_its_schema_version_and_keeps_nanoseconds() {
    let json: serde_json::Value =
        serde_json::from_str(&report().render(Format::Json).unwrap()).unwrap();
    assert_eq!(json["schema_version"], SCHEMA_VERSION);
    assert_eq!(json["generated_at"], "2026-11-23T02:20:00.000000000Z");
    let outage = &json["findings"]["sessions"][0]["flows"][0]["outages"][0];
    let expected = &fixture::drill().sessions[0].flows[0].outages[0];
    assert_eq!(outage["at_least_ns"], expected.at_least_ns.0.as_nanos());
    assert_eq!(outage["first_lost"]["seq"], expected.first_lost.seq);
}

#[test]
fn all_files_are_written_and_replaced() {
    let dir = std::env::temp_dir().join(format!("hopgap-report-{}", std::process::id()));
    let inner = dir.join("made/on/the/way");
    one_msee().write_all(&inner).unwrap();
    let written = report().write_all(&inner).unwrap();
    let names: Vec<_> = written
        .iter()
        .map(|p| p.file_name().unwrap().to_str().unwrap())
        .collect();
    let text = std::fs::read_to_string(inner.join("report.txt")).unwrap();
    let found = std::fs::read_dir(&inner).unwrap().count();
    let refused = report().write_all(&inner.join("report.txt")).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(
        names,
        [
            "report.html",
            "report.json",
            "report.txt",
            "outages.csv",
            "seconds.csv",
            "paths.csv",
            "coverage.csv"
        ]
    );
    assert_eq!(found, names.len(), "nothing else is left behind");
    assert_eq!(text, report().render(Format::Text).unwrap());
    let sentence = refused.to_string();
    assert!(
        sentence.starts_with("cannot create the report's directory "),
        "{sentence}"
    );
}

#[test]
fn formats_are_known_by_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    let unknown = "pdf".parse::<Format>().unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "`pdf` is no report format; use text, json, csv or html"
    );
}

/// The drill, of which `azure-vm` has not delivered the end.
fn preliminary() -> Report {
    let mut report = report();
    let awaited = |session: &str, end| Awaited {
        agent: "azure-vm".to_owned(),
        session: session.to_owned(),
        end,
        until: Some(at(90_000)),
        expected: Some(at(386_000)),
        heard: Some(at(359_000)),
    };
    let coverage = &mut report.findings.coverage;
    coverage.preliminary = true;
    coverage.awaited = vec![
        awaited("azure-onprem", SessionEnd::Sender),
        awaited("onprem-azure", SessionEnd::Reflector),
    ];
    let direction = &mut coverage.directions[1];
    direction.seen_ppm = 250_000;
    direction.seen_until = Some(at(90_000));
    direction.longest_missing_ns = fixture::ns(270_000_000_000);
    direction.missing = vec![Missing {
        from: at(90_000),
        to: at(360_000),
        lasted_ns: direction.longest_missing_ns,
        cause: MissingCause::NotDelivered {
            agent: "azure-vm".to_owned(),
        },
    }];
    report
}

#[test]
fn what_is_still_to_come_stands_on_top() {
    let text = preliminary().render(Format::Text).unwrap();
    assert_eq!(text.lines().nth(2), Some("PRELIMINARY"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    for said in [
        "of `azure-vm` there is azure-onprem up to 02:11:30.000, the log of onprem-azure up to \
         02:11:30.000; the rest to 02:16:00.000 is expected by 02:16:26.000.",
        "25 %, data up to 2026-11-23 02:11:30.000",
        "`azure-vm` has not delivered its records of that time yet",
    ] {
        assert!(words.contains(said), "{said}: {text}");
    }
    let html = preliminary().render(Format::Html).unwrap();
    balanced(&html);
    let place = |what: &str| html.find(what).unwrap_or_else(|| panic!("{what}"));
    assert!(place("<b>PRELIMINARY</b>") < place("<b>MET</b>"));
    assert!(html.contains("<title>PRELIMINARY, MET"));
    let json = preliminary().render(Format::Json).unwrap();
    assert!(json.contains("\"preliminary\": true"));
    // A report on records that are all here says nothing of it.
    for format in [Format::Text, Format::Html] {
        let whole = report().render(format).unwrap();
        assert!(!whole.contains("PRELIMINARY"), "{format}");
    }
}

#[test]
fn coverage_as_csv_has_a_row_for_each_direction_and_each_stretch() {
    let csv = csv::coverage(&preliminary().findings);
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 1 + 2 + 2, "{csv}");
    assert!(rows[3].contains(",250000,,,,"), "{csv}");
    assert!(
        rows[4].ends_with(
            ",2026-11-23T02:11:30.000000000Z,2026-11-23T02:16:00.000000000Z,270000000000,\
             `azure-vm` has not delivered its records of that time yet"
        ),
        "{csv}"
    );
}

#[test]
fn nothing_is_denied_that_was_not_seen() {
    let mut report = preliminary();
    report.findings.transitions.clear();
    let text = report.render(Format::Text).unwrap();
    assert!(
        text.contains("No change was seen in 25 % of this stretch"),
        "{text}"
    );
    assert!(!text.contains("no interruption"), "{text}");
}
