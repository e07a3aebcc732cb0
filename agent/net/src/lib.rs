//! Sockets and kernel timestamps of the hopgap agent, for Linux.
//!
//! Every packet that hopgap sends or receives passes here. Stamps are the kernel's
//! own (`SO_TIMESTAMPING`, software); where the kernel gave none the stamp is
//! `None`, and it is never replaced by a reading of the clock.
//!
//! - [`link`]: whole Ethernet frames of one interface
//! - [`clock`]: the two clocks and what lies between them
//! - [`timer`]: waiting for an instant, or for a packet before it
//!
//! All `unsafe` of the project is in the private module `sys`.

pub mod clock;
mod error;
pub mod link;
mod sys;
pub mod timer;

pub use error::NetError;

#[cfg(test)]
mod namespace;
