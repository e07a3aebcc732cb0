//! The vocabulary of hopgap: time, STAMP packets, records, frames, the plan
//! and the uplink. No I/O, no clock, no unsafe.
#![forbid(unsafe_code)]

pub mod frame;
pub mod hops;
pub mod icmp;
pub mod plan;
pub mod printable;
pub mod record;
pub mod stamp;
pub mod time;
pub mod uplink;
