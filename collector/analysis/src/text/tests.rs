use super::*;
use crate::findings::RouteHop;
use hopgap_proto::time::Wall;

fn ns(n: i64) -> Nanos {
    Nanos(Span::from_nanos(n))
}

#[test]
fn bounds_are_rounded_outwards() {
    assert_eq!(
        bounds(ns(828_099_999), Some(ns(830_000_001))),
        "828.0 to 830.1 ms"
    );
    assert_eq!(
        bounds(ns(1_300_999_999), Some(ns(1_320_000_001))),
        "1.300 to 1.321 s"
    );
    assert_eq!(
        bounds(ns(999_900_000), Some(ns(1_001_000_000))),
        "999.9 ms to 1.001 s"
    );
    assert_eq!(bounds(ns(0), Some(ns(1_999_001))), "up to 2.0 ms");
    let exact = ns(12_000_000_000);
    assert_eq!(bounds(exact, Some(exact)), "12.000 s");
    assert_eq!(bounds(ns(3_002_999_999), None), "at least 3.002 s");
    assert_eq!(
        bounds(ns(121_000_000_000), Some(ns(122_010_000_000))),
        "2 min 1.0 s to 2 min 2.1 s"
    );
}

#[test]
fn spans_take_the_unit_that_fits() {
    assert_eq!(span(ns(0)), "0 ms");
    assert_eq!(span(ns(10_000_000_000)), "10 s");
    assert_eq!(span(ns(10_100_000_000)), "10.1 s");
    assert_eq!(span(ns(360_000_000_000)), "6 min 0 s");
    assert_eq!(span(ns(500_000_000)), "500 ms");
    assert_eq!(span(ns(999)), "999 ns");
    assert_eq!(span(ns(41_400)), "41 us");
    assert_eq!(span(ns(-12_340_000)), "-12.3 ms");
    assert_eq!(span(ns(7_200_000_000_000)), "2 h 0 min");
    assert_eq!(span(ns(179_960_000_000)), "3 min 0 s");
    assert_eq!(span(ns(-7_199_999_999_999)), "-120 min 0 s");
    assert_eq!(lower(ns(179_960_000_000)), "2 min 59.9 s");
    assert_eq!(upper(ns(i64::MAX)), "2562047 h 47 min");
    assert_eq!(lower(ns(i64::MIN)), "-2562047 h 47 min");
}

#[test]
fn instants_are_cut_to_milliseconds() {
    let at = Utc(Wall::from_nanos(1_795_399_920_412_999_999));
    assert_eq!(clock(at), "02:12:00.412");
    assert_eq!(date_time(at), "2026-11-23 02:12:00.412");
}

#[test]
fn a_loss_is_never_shown_as_none() {
    assert_eq!(percent(0, 10), "0.00 %");
    assert_eq!(percent(1, 1_000_000), "<0.01 %");
    assert_eq!(percent(999_999, 1_000_000), "99.99 %");
    assert_eq!(percent(u64::MAX, u64::MAX), "100.00 %");
    assert_eq!(percent(0, 0), "-");
}

#[test]
fn runs_of_ports_are_drawn_together() {
    assert_eq!(
        ports([50_003, 50_000, 50_001, 50_002, 50_006]),
        "50000-50003, 50006"
    );
    assert_eq!(ports([1, 2]), "1, 2");
    assert_eq!(ports([u16::MAX]), "65535");
    assert_eq!(ports([]), "");
}

#[test]
fn names_cannot_carry_terminal_escapes() {
    assert_eq!(ascii("a\u{1b}[31mb\u{2192}\n"), "a\\u{1b}[31mb->\\n");
}

#[test]
fn wrapped_lines_keep_their_indent_and_width() {
    let lines = wrap("one two three four", 12, "  - ");
    assert_eq!(lines, ["  - one two", "    three", "    four"]);
    assert_eq!(wrap("", 10, "- "), ["- "]);
}

#[test]
fn a_route_reads_like_tracert() {
    let hop = |hop, address: Option<&str>, ms: Option<i64>| RouteHop {
        hop,
        asked: hop != 3,
        address: address.map(str::to_owned),
        round_trip_ns: ms.map(|m| ns(m * 1_000_000)),
        unreachable: None,
    };
    let route = Route {
        at: Utc(Wall::ZERO),
        path: None,
        reached: true,
        hops: vec![
            hop(1, Some("10.1.11.1"), Some(1)),
            hop(2, None, None),
            hop(3, None, None),
            hop(4, Some("10.17.11.132"), Some(6)),
        ],
    };
    assert_eq!(
        route_lines(&route),
        [
            "  1   1.000 ms  10.1.11.1",
            "  2      *      Request timed out.",
            "  3      -      (not asked)",
            "  4   6.000 ms  10.17.11.132",
        ]
    );
    let beside = side_by_side(&[route_lines(&route), vec!["x".to_owned()]], 80);
    assert_eq!(beside[0], "  1   1.000 ms  10.1.11.1           x");
    assert_eq!(
        side_by_side(&[route_lines(&route), vec!["x".to_owned()]], 20).len(),
        6
    );
}

#[test]
fn columns_line_up() {
    let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
    table.row(["a".to_owned(), "100".to_owned()]);
    table.row(["bcdef".to_owned()]);
    assert_eq!(
        table.lines("  "),
        ["  name     n", "  -----  ---", "  a      100", "  bcdef"]
    );
}
