//! Runs the committed corpus of the fuzz targets of this crate's parsers.

#[path = "../../tests/fuzz/src/control.rs"]
mod control;
#[path = "../../tests/fuzz/src/packets.rs"]
mod packets;
#[path = "../../tests/fuzz/src/records.rs"]
mod records;
#[expect(
    clippy::disallowed_methods,
    reason = "the crate does no I/O; its corpus is files"
)]
#[path = "../../tests/fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn stamp_sender() -> std::io::Result<()> {
    replay("stamp_sender", None, packets::stamp_sender)
}

#[test]
fn stamp_reflector() -> std::io::Result<()> {
    replay("stamp_reflector", None, packets::stamp_reflector)
}

#[test]
fn tlv() -> std::io::Result<()> {
    replay("tlv", None, packets::tlv)
}

#[test]
fn icmp_quote() -> std::io::Result<()> {
    replay("icmp_quote", None, packets::icmp_quote)
}

#[test]
fn frames() -> std::io::Result<()> {
    replay("frames", None, records::frames)
}

#[test]
fn block() -> std::io::Result<()> {
    replay("block", Some(256), records::block)
}

#[test]
fn messages() -> std::io::Result<()> {
    replay("messages", None, control::messages)
}

#[test]
fn plan_file() -> std::io::Result<()> {
    replay("plan_file", None, control::plan_file)
}
