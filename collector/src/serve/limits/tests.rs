use super::{Cause, Limits, Patience, RefusedBody, read_body, whose};
use axum::body::Body;
use axum::response::IntoResponse as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

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

/// With a clock that jumps to the next timer.
fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

const PATIENCE: Patience = Patience {
    whole: Duration::from_secs(60),
    lag: Duration::from_secs(10),
};

#[test]
fn a_body_that_never_ends_is_given_up() {
    run(async {
        let begun = Instant::now();
        let failure = read_body(Body::new(Stuck), 100, PATIENCE).await;
        assert_eq!(begun.elapsed().as_secs(), 10);
        let response = failure.unwrap_err().into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.extensions().get(), Some(&Cause::Time));
        let whole = read_body(Body::from("whole"), 5, PATIENCE).await;
        assert_eq!(whole.unwrap(), "whole");
        let large = read_body(Body::from("larger"), 5, PATIENCE).await;
        let response = large.unwrap_err().into_response();
        assert_eq!(response.extensions().get(), Some(&Cause::Body));
    });
}

#[test]
fn a_body_that_drips_in_is_cut_and_one_of_a_slow_path_is_not() {
    // Bytes, times and milliseconds between two.
    let bytes_in = |piece, times, pause| {
        run(async move {
            let begun = Instant::now();
            let read =
                read_body(Body::new(Drip::new(piece, times, pause)), 1 << 20, PATIENCE).await;
            (
                read.map(|bytes| bytes.len()).ok(),
                begun.elapsed().as_millis(),
            )
        })
    };
    // A byte a second is too slow.
    let (read, took) = bytes_in(1, 1_000, 1_000);
    assert_eq!(read, None);
    assert!((10_000..10_100).contains(&took), "{took}");
    // Half of the slowest rate: it lags ten seconds behind after twenty.
    let (read, took) = bytes_in(2_000, 1_000, 1_000);
    assert_eq!(read, None);
    assert!((18_000..=21_000).contains(&took), "{took}");
    // The slowest rate itself, and one that stands still for nine seconds at first.
    assert_eq!(bytes_in(4_000, 40, 1_000).0, Some(160_000));
    assert_eq!(bytes_in(50_000, 2, 9_000).0, Some(100_000));
    // None takes more than a minute.
    let (read, took) = bytes_in(4_000, 200, 1_000);
    assert_eq!((read, took), (None, 60_000));
}

/// A body that comes in pieces, each after a pause.
struct Drip {
    piece: usize,
    left: usize,
    pause: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Drip {
    fn new(piece: usize, times: usize, milliseconds: u64) -> Self {
        let pause = Duration::from_millis(milliseconds);
        Self {
            piece,
            left: times,
            pause,
            timer: Box::pin(tokio::time::sleep(pause)),
        }
    }
}

impl axum::body::HttpBody for Drip {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        use std::task::Poll;
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.left -= 1;
        self.timer = Box::pin(tokio::time::sleep(self.pause));
        let piece = vec![0; self.piece].into();
        Poll::Ready(Some(Ok(hyper::body::Frame::data(piece))))
    }
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
