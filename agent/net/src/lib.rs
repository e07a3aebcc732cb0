//! Sockets and kernel timestamps of the hopgap agent, for Linux.
//!
//! All probes, traceroutes and readings of the clocks that measure pass through here. Echo
//! requests do not: a library sends them. Stamps are the kernel's own (`SO_TIMESTAMPING`,
//! software). Where the kernel gave none the stamp is `None`; a reading of the clock never
//! replaces it.
//!
//! - [`echo`]: which ICMP messages the sockets of ICMP echo receive
//! - [`lanes`]: several sockets on one port, so that a flood fills its own queue only
//! - [`interface`]: network interfaces by name
//! - [`link`]: whole Ethernet frames of one interface
//! - [`probe`]: UDP sockets of probes and reflectors, with the error queue
//! - [`raw`]: raw packets and ICMP of the tracer
//! - [`clock`]: the two clocks and the difference between them
//! - [`timer`]: waiting for an instant, or for a packet before it
//!
//! All `unsafe` of the project is in the private module `sys`.

pub mod clock;
pub mod echo;
mod error;
mod error_queue;
mod family;
pub mod interface;
pub mod lanes;
pub mod link;
mod outbox;
mod overflow;
pub mod probe;
pub mod raw;
mod refusal;
mod stamping;
mod sys;
pub mod timer;
mod token;

pub use error::NetError;

#[cfg(test)]
mod namespace;
