//! The real programs against each other and against another implementation.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod api;
mod bad_input;
mod collecting;
mod crowded;
mod deployment;
mod dissected;
mod environment;
mod forged;
mod guarded;
mod interop;
mod joined;
mod many_sessions;
mod measured;
mod path_mtu;
mod planted;
mod privilege;
mod programs;
mod question;
mod reflecting;
mod replanned;
mod routes;
mod scraped;
mod scripted;
mod sealed_hours;
mod serviced;
mod stalled;
mod texts;
mod turned;
mod unplugged;
mod world;
