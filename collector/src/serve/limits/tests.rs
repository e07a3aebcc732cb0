use super::{Cause, Limits, RefusedBody, read_body, whose};
use axum::body::Body;
use axum::response::IntoResponse as _;
use std::net::IpAddr;
use std::time::Duration;

#[test]
fn each_cause_has_a_count_of_its_own() {
    let limits = Limits::default();
    for (times, cause) in (1..).zip(Cause::ALL) {
        for _ in 0..times {
            limits.count(cause);
        }
    }
    let refused = limits.refused();
    assert_eq!(
        refused.to_string(),
        "rate 1, body 2, connections 3, time 4, token 5, cross-site 6"
    );
    let json = serde_json::to_string(&refused).unwrap();
    assert_eq!(
        json,
        r#"{"rate":1,"body":2,"connections":3,"time":4,"token":5,"cross_site":6}"#
    );
    assert_eq!(serde_json::from_str::<RefusedBody>(&json).unwrap(), refused);
}

#[test]
fn one_host_is_one_peer() {
    let of = |text: &str| whose(text.parse::<IpAddr>().unwrap());
    assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::9"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    run(async {
        let body = Body::new(Stuck);
        let failure = read_body(body, 100, Duration::from_millis(50)).await;
        let response = failure.unwrap_err().into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.extensions().get(), Some(&Cause::Time));
        let whole = read_body(Body::from("whole"), 5, Duration::from_secs(20)).await;
        assert_eq!(whole.unwrap(), "whole");
        let large = read_body(Body::from("larger"), 5, Duration::from_secs(20)).await;
        let response = large.unwrap_err().into_response();
        assert_eq!(response.extensions().get(), Some(&Cause::Body));
    });
}

/// A body of which nothing comes.
struct Stuck;

impl axum::body::HttpBody for Stuck {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}
