//! Sends and reflects timestamped probes, traces their path, and ships what it measured.

fn main() {}
