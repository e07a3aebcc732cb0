//! Runs the committed corpus of the traceroute's fuzz target.

#[expect(
    clippy::disallowed_methods,
    reason = "the crate does no I/O; its corpus is files"
)]
#[path = "../../../tests/fuzz/src/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/src/tracer.rs"]
mod tracer;

#[test]
fn tracer() -> std::io::Result<()> {
    replay::replay("tracer", Some(64), tracer::tracer)
}
