//! Simple Two-way Active Measurement Protocol packets: RFC 8762 with RFC 8972.

mod id;

pub use id::{Seq, Ssid};
