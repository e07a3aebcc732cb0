//! Runs the committed corpus of the fuzz targets of the collector's own files.

#[path = "../../tests/fuzz/src/collector.rs"]
mod collector;
#[path = "../../tests/fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn collector_plan() -> std::io::Result<()> {
    replay("collector_plan", None, collector::collector_plan)
}

#[test]
fn segment() -> std::io::Result<()> {
    replay("segment", Some(64), collector::segment)
}
