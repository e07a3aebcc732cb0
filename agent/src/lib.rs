//! The hopgap agent: shells around the engine, and the way of the records to
//! the collector.
//!
//! A shell waits in one place, feeds the engine, drains its outputs and decides
//! nothing. `run` is the service that follows the collector's plan; `measure`,
//! `reflect` and `trace` work without a collector.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod destination;
pub mod echo;
pub mod health;
pub mod icmp;
pub mod identity;
mod jitter;
pub mod join;
pub mod measure;
pub mod output;
pub mod privilege;
pub mod reach;
pub mod recorder;
pub mod reflector;
pub mod secret;
pub mod service;
pub mod session;
pub mod signals;
mod source_ports;
pub mod spool;
pub mod trace;
pub mod uplink;
