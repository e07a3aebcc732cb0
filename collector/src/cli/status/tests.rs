use super::*;
use serde_json::{Value, json};

/// A status as the API gives it: one agent is well, one was killed 22 s ago.
fn body() -> Value {
    let agent = |name: &str, state: &str, silent: i64| {
        json!({
            "name": name, "planned": true, "plan": null, "version": "0.1.0",
            "last_seen": "2026-11-26T17:00:00Z", "newest": "2026-11-26T17:00:00Z",
            "blocks": 5, "duplicates": 0, "records": 900, "refused": 0,
            "state": state, "silent_ns": silent * 1_000_000_000,
            "behind_ns": silent * 1_000_000_000,
            "spool": {"waiting": 1_250_000, "in_memory": 0, "most": 2_000_000_000, "free": 9_876_543_210_u64},
            "faults": []
        })
    };
    let session = |name: &str, state: &str, running: u8, faults: Value| {
        json!({
            "name": name, "newest": "2026-11-26T17:00:00Z",
            "answered": 5990, "unanswered": 10, "refused": 0,
            "state": state, "flows": 8, "running": running, "faults": faults,
            "paths": {"forward": ["expressroute-primary"], "reverse": ["vpn", null]}
        })
    };
    let held = json!([{"flow": 3, "why": {"port_in_use": {"address": "10.0.0.1", "port": 50003}}}]);
    json!({
        "version": "0.1.0", "started": "2026-11-26T16:00:00Z", "now": "2026-11-26T17:00:22Z",
        "store": "/var/lib/hopgap",
        "plan": {"file": "/etc/hopgap/plan.toml", "revision": "00000000000000ab", "sessions": 2, "error": null},
        "drill": null,
        "sessions": [session("a-b", "partly", 7, held), session("b-a", "stale", 8, json!([]))],
        "agents": [agent("a", "ok", 1), agent("b", "stale", 22)],
        "refusals": [], "tls": null,
        "refused": {"rate": 0, "body": 0, "connections": 0, "time": 0, "token": 0, "cross_site": 0},
        "disk": {"free": 12_300_000_000_u64, "total": null, "low": false, "error": null},
        "ok": false
    })
}

fn shown(change: impl FnOnce(&mut Value)) -> String {
    let mut body = body();
    change(&mut body);
    let page = show(&serde_json::from_value(body).unwrap());
    for line in page.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
    page
}

#[test]
fn a_session_without_replies_says_for_how_long() {
    let text = shown(|body| {
        body["sessions"][0]["state"] = json!("no_reply");
        body["sessions"][0]["unanswered_ns"] = json!(12_000_000_000_i64);
    });
    assert!(text.contains("NO REPLY 12 s"), "{text}");
    let text = shown(|body| body["sessions"][0]["state"] = json!("no_reply"));
    assert!(text.contains("NO REPLY  "), "{text}");
}

fn line<'a>(page: &'a str, begin: &str) -> Vec<&'a str> {
    let line = page.lines().find(|l| l.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("no {begin} in {page}"));
    line.split("  ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect()
}

#[test]
fn agents_and_sessions_are_judged() {
    let page = shown(|_| {});
    assert_eq!(
        line(&page, "a  "),
        ["a", "OK", "1 s ago", "1.25 MB", "9.87 GB", "0", "0.1.0"]
    );
    assert_eq!(line(&page, "b  ")[..3], ["b", "STALE 22 s", "22 s ago"]);
    assert_eq!(
        line(&page, "a-b"),
        [
            "a-b",
            "PARTLY",
            "7/8",
            "10/6000",
            "expressroute-primary",
            "vpn, (unnamed)"
        ]
    );
    assert!(page.contains("session `a-b`: flow 3 does not run: UDP port 50003 is in use\n"));
    assert!(
        page.contains("store /var/lib/hopgap: 12.3 GB free\n"),
        "{page}"
    );
}

#[test]
fn a_disk_that_takes_nothing_is_told_with_its_time() {
    let error = json!({
        "at": "2026-11-26T17:00:20Z", "since": "2026-11-26T16:58:00Z", "count": 14,
        "error": "cannot write /var/lib/hopgap/hopgap.db: no space left on device"
    });
    let page = shown(|b| {
        b["disk"] = json!({"free": 0, "total": 1_000_000, "low": true, "error": error.clone()});
    });
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("ALMOST FULL: 0 B free"), "{page}");
    assert!(
        flat.contains(
            "CANNOT STORE since 2026-11-26 16:58:00.000Z, last tried at 2026-11-26 \
             17:00:20.000Z, 14 times: cannot write"
        ),
        "{page}"
    );
    let page = shown(|b| {
        b["disk"]["error"] = error;
        b["disk"]["error"]["since"] = Value::Null;
    });
    assert!(
        page.contains("could not store until 2026-11-26 17:00:20.000Z"),
        "{page}"
    );
    assert!(!page.contains("CANNOT STORE"), "{page}");
}

#[test]
fn an_agent_that_never_came_is_down_and_one_that_is_silent_for_long() {
    let page = shown(|b| {
        b["agents"][0]["state"] = json!("down");
        b["agents"][0]["silent_ns"] = Value::Null;
        b["agents"][1]["state"] = json!("down");
        b["agents"][1]["silent_ns"] = json!(400_000_000_000_i64);
    });
    assert_eq!(line(&page, "a  ")[1], "DOWN never heard");
    assert_eq!(line(&page, "b  ")[1], "DOWN 6 min");
}

#[test]
fn nothing_is_wider_than_a_terminal() {
    let long = "a-very-long-name-of-something-that-somebody-calls-so-in-the-plan-file";
    let page = shown(|b| {
        b["agents"][0]["name"] = json!(long);
        b["agents"][0]["version"] = json!(long);
        b["sessions"][0]["name"] = json!(long);
        b["sessions"][0]["paths"]["forward"] = json!([long, "vpn"]);
        b["plan"]["error"] = json!("some words ".repeat(30));
        b["plan"]["file"] = json!("/a".repeat(100));
    });
    assert!(page.contains("a-very-long"), "{page}");
    assert!(page.contains('~'), "what is cut says so: {page}");
}

#[test]
fn a_status_of_an_older_collector_is_read() {
    let mut old = body();
    for of in ["agents", "sessions"] {
        for entry in old[of].as_array_mut().unwrap() {
            for key in [
                "state",
                "silent_ns",
                "behind_ns",
                "spool",
                "faults",
                "flows",
                "running",
                "paths",
            ] {
                entry.as_object_mut().unwrap().remove(key);
            }
        }
    }
    old.as_object_mut().unwrap().remove("disk");
    old.as_object_mut().unwrap().remove("ok");
    let page = show(&serde_json::from_value(old).unwrap());
    assert!(page.contains("free space unknown"), "{page}");
}

#[test]
fn lengths_and_sizes_are_short() {
    let seconds = [0, 22, 119, 120, 7_200, 200_000].map(|s| brief(Span::from_secs(s)));
    assert_eq!(seconds, ["0 s", "22 s", "119 s", "2 min", "2 h", "2 d"]);
    let sizes = [0, 999, 1_000, 12_345, 999_999, 1_250_000, 98_765_432_100].map(bytes);
    assert_eq!(
        sizes,
        [
            "0 B", "999 B", "1.00 kB", "12.3 kB", "999 kB", "1.25 MB", "98.7 GB"
        ]
    );
}

#[test]
fn a_clock_that_is_off_is_told_with_its_difference() {
    let with = |ahead: i64, bound: i64| {
        shown(|status| {
            status["agents"][1]["clock"] = json!({
                "ahead_ns": ahead, "bound_ns": bound, "at": "2026-11-26T17:00:00Z"
            });
        })
    };
    const SECOND: i64 = 1_000_000_000;
    for (ahead, said) in [
        (1_500_000_000, "1.50 s ahead of"),
        (-30 * SECOND, "30 s behind"),
        (7_200 * SECOND + 1_000_000, "7200 s (2 h) ahead of"),
        (-259_200 * SECOND, "259200 s (3 d) behind"),
    ] {
        let page = with(ahead, 500_000).replace("\n  ", " ");
        let said = format!(
            "agent `b`: its clock is {said} the collector's; synchronise the two clocks (NTP)\n"
        );
        assert!(page.contains(&said), "{page}");
    }
    // Within a second, as far as is known.
    for (ahead, bound) in [(900_000_000, 0), (3 * SECOND, 2 * SECOND)] {
        let page = with(ahead, bound);
        assert!(!page.contains("its clock"), "{page}");
    }
}
