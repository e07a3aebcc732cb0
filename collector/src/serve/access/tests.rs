use super::{RequestContext, Right};
use crate::plan::{CollectorPlan, Secret, Tokens};
use crate::serve::limits::{Cause, Ends};
use axum::http::header::HeaderMap;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::IntoResponse as _;
use std::path::Path;

const READ: &str = "read-read-read-read-read-read-re";
const OPERATE: &str = "operate-operate-operate-operate-";

/// A plan with or without tokens, which all programs need or not.
fn plan(tokens: bool, required: bool) -> CollectorPlan {
    let mut plan = CollectorPlan::parse("", Path::new("plan.toml")).unwrap();
    if tokens {
        plan.tokens = Tokens {
            read: Some(Secret::made_up(READ)),
            operate: Some(Secret::made_up(OPERATE)),
        };
    }
    plan.settings.token_required = required;
    plan
}

fn ends(peer: &str, local: &str) -> Ends {
    Ends::new(
        format!("{peer}:50000").parse().unwrap(),
        format!("{local}:8620").parse().unwrap(),
    )
}

fn here() -> Ends {
    ends("127.0.0.1", "127.0.0.1")
}

/// Headers as lines `name: value`.
fn headers(lines: &[&str]) -> HeaderMap {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

/// What becomes of a request: its status, and what it is counted as.
fn judged(
    plan: &CollectorPlan,
    ends: Ends,
    method: &Method,
    lines: &[&str],
) -> (u16, Option<Cause>) {
    let asked = RequestContext {
        ends,
        method,
        uri: &Uri::from_static("/api/v1/drills"),
        headers: &headers(lines),
    };
    match asked.judge(plan) {
        Ok(()) => (200, None),
        Err(failure) => {
            let response = failure.into_response();
            let cause = response.extensions().get::<Cause>().copied();
            (response.status().as_u16(), cause)
        }
    }
}

/// What every request that changes something carries.
const OURS: [&str; 3] = [
    "host: 127.0.0.1:8620",
    "content-type: application/json",
    "x-hopgap: 1",
];

const LET_IN: (u16, Option<Cause>) = (200, None);
const ACROSS: (u16, Option<Cause>) = (403, Some(Cause::CrossSite));
const NO_RIGHT: (u16, Option<Cause>) = (403, Some(Cause::Token));
const NO_TOKEN: (u16, Option<Cause>) = (401, Some(Cause::Token));

#[test]
fn without_tokens_this_host_may_do_all_and_others_nothing() {
    let plan = plan(false, false);
    for (peer, local, right) in [
        ("127.0.0.1", "127.0.0.1", LET_IN),
        ("127.0.0.7", "127.0.0.1", LET_IN),
        // By the address that others use.
        ("10.1.11.10", "10.1.11.10", LET_IN),
        // A listener on all addresses of both families.
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]", LET_IN),
        ("[::1]", "[::1]", LET_IN),
        ("10.17.11.132", "10.1.11.10", NO_RIGHT),
        ("10.17.11.132", "127.0.0.1", NO_RIGHT),
        ("127.0.0.1", "10.1.11.10", NO_RIGHT),
        ("[::ffff:10.17.11.132]", "[::ffff:10.1.11.10]", NO_RIGHT),
    ] {
        let ends = ends(peer, local);
        for method in [Method::GET, Method::POST] {
            assert_eq!(judged(&plan, ends, &method, &OURS), right, "{peer} {local}");
        }
    }
    // A wrong token lets nobody in, also where none is needed.
    let wrong = format!("authorization: Bearer {OPERATE}");
    let lines = [&OURS[..], &[&wrong]].concat();
    assert_eq!(judged(&plan, here(), &Method::GET, &lines), NO_TOKEN);
}

#[test]
fn a_token_gives_its_own_right_wherever_it_is_shown() {
    let elsewhere = ends("10.17.11.132", "10.1.11.10");
    for (required, from) in [(false, here()), (true, here()), (false, elsewhere)] {
        let plan = plan(true, required);
        let ask = |method: &Method, token: &str| {
            let token = format!("authorization: Bearer {token}");
            judged(&plan, from, method, &[&OURS[..], &[&token]].concat())
        };
        let read_only = [Method::GET, Method::HEAD];
        let changing = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for method in &read_only {
            assert_eq!(ask(method, READ), LET_IN);
            assert_eq!(ask(method, OPERATE), LET_IN);
        }
        for method in &changing {
            assert_eq!(ask(method, READ), NO_RIGHT);
            assert_eq!(ask(method, OPERATE), LET_IN);
        }
        for method in read_only.iter().chain(&changing) {
            for wrong in [
                "",
                "x",
                &READ[1..],
                &format!("{READ}x"),
                &READ.to_uppercase(),
            ] {
                assert_eq!(ask(method, wrong), NO_TOKEN, "{method} {wrong}");
            }
        }
        let without = if required || from == elsewhere {
            NO_TOKEN
        } else {
            LET_IN
        };
        assert_eq!(judged(&plan, from, &Method::POST, &OURS), without);
    }
}

#[test]
fn two_tokens_and_other_schemes_are_none() {
    let plan = plan(true, false);
    let token = format!("authorization: Bearer {OPERATE}");
    let basic = format!("authorization: Basic {OPERATE}");
    let with = |lines: &[&str]| {
        judged(
            &plan,
            here(),
            &Method::GET,
            &[&["host: localhost"], lines].concat(),
        )
    };
    assert_eq!(with(&[&token]), LET_IN);
    assert_eq!(with(&[&token, &token]), NO_TOKEN);
    assert_eq!(with(&[&basic]), NO_TOKEN);
    assert_eq!(with(&["authorization: Bearer"]), NO_TOKEN);
}

#[test]
fn what_somebody_else_passed_on_is_not_of_this_host() {
    for header in [
        "forwarded: for=10.9.9.9",
        "x-forwarded-for: 10.9.9.9",
        "via: 1.1 proxy",
    ] {
        let lines = ["host: 127.0.0.1:8620", header];
        let asked = |tokens| judged(&plan(tokens, false), here(), &Method::GET, &lines);
        assert_eq!(asked(false), NO_RIGHT, "{header}");
        assert_eq!(asked(true), NO_TOKEN, "{header}");
    }
}

#[test]
fn a_name_that_was_made_to_lead_here_does_not_open_it() {
    let ask = |ends, host: &str| {
        let lines = [format!("host: {host}")];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        judged(&plan(false, false), ends, &Method::GET, &lines)
    };
    for ours in [
        "127.0.0.1:8620",
        "127.0.0.1",
        "localhost:9000",
        "LOCALHOST",
        "[::1]:8620",
    ] {
        assert_eq!(ask(here(), ours), LET_IN, "{ours}");
    }
    let by_address = ends("10.1.11.10", "10.1.11.10");
    assert_eq!(ask(by_address, "10.1.11.10:8620"), LET_IN);
    for other in [
        "rebound.example:8620",
        "rebound.example",
        "localhost.rebound.example",
        "127.0.0.1.rebound.example",
        "10.1.11.10:8620",
        "127.0.0.1@rebound.example",
        ":8620",
        "",
    ] {
        assert_eq!(ask(here(), other), ACROSS, "{other}");
    }
    let none = judged(&plan(false, false), here(), &Method::GET, &[]);
    assert_eq!(none, ACROSS);
    let twice = ["host: localhost", "host: rebound.example"];
    let twice = judged(&plan(false, false), here(), &Method::GET, &twice);
    assert_eq!(twice, ACROSS);
}

#[test]
fn a_request_to_an_address_of_its_own_choice_must_name_the_same_host() {
    let judge = |uri: &'static str| {
        RequestContext {
            ends: here(),
            method: &Method::GET,
            uri: &Uri::from_static(uri),
            headers: &headers(&["host: localhost:8620"]),
        }
        .judge(&plan(false, false))
        .is_ok()
    };
    assert!(judge("http://localhost:8620/api/v1/drills"));
    assert!(!judge("http://rebound.example/api/v1/drills"));
}

#[test]
fn pages_of_other_sites_are_turned_away() {
    let plan = plan(true, false);
    let ask = |method: &Method, lines: &[&str]| judged(&plan, here(), method, lines);
    let with = |method: &Method, line: &str| ask(method, &[&OURS[..], &[line]].concat());
    for method in [Method::GET, Method::POST] {
        for good in [
            "sec-fetch-site: same-origin",
            "sec-fetch-site: none",
            "origin: http://127.0.0.1:8620",
        ] {
            assert_eq!(with(&method, good), LET_IN, "{method} {good}");
        }
        for bad in [
            "sec-fetch-site: cross-site",
            "sec-fetch-site: same-site",
            "sec-fetch-site: ",
            "origin: null",
            "origin: http://127.0.0.1:8000",
            "origin: http://localhost:8620",
            "origin: https://rebound.example",
            "origin: file://127.0.0.1:8620",
        ] {
            assert_eq!(with(&method, bad), ACROSS, "{method} {bad}");
            // Not even a page with a stolen token.
            let token = format!("authorization: Bearer {OPERATE}");
            let lines = [&OURS[..], &[bad, &token]].concat();
            assert_eq!(ask(&method, &lines), ACROSS, "{method} {bad}");
        }
    }
    // What a form or an image can send without asking.
    assert_eq!(ask(&Method::POST, &OURS[..2]), ACROSS);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
    ] {
        let kind = format!("content-type: {kind}");
        let plain = [OURS[0], &kind, OURS[2]];
        let refused = (
            StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            Some(Cause::CrossSite),
        );
        assert_eq!(ask(&Method::POST, &plain), refused, "{kind}");
    }
    let charset = [
        OURS[0],
        "content-type: Application/JSON; charset=utf-8",
        OURS[2],
    ];
    assert_eq!(ask(&Method::POST, &charset), LET_IN);
}

#[test]
fn every_method_that_may_change_something_needs_the_right_to() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        assert_eq!(Right::for_method(&method), Right::Read);
    }
    let own = Method::from_bytes(b"BREW").unwrap();
    for method in [
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        own,
    ] {
        assert_eq!(Right::for_method(&method), Right::Operate);
    }
}
