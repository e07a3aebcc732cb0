//! The sans-IO core of the hopgap agent: time and packets in, packets and records out.
//!
//! Nothing here reads a clock, draws a random number or touches a socket. A shell
//! tells each part what time it is and what arrived, sends what it is given, and
//! drains what is to be recorded; so every run can be replayed.
//!
//! - [`schedule`]: the absolute grid of send times.
//! - [`sender`]: the Session-Sender of a session; finds each reply's probe.
//! - [`reflector`]: the Session-Reflector, with its log of receptions.
//! - [`stall`]: whether this program itself stood still.
//! - [`packet`]: packets beside the probes, as they are sent and quoted.
//! - [`path_mtu`]: the largest packet that the path carries.
//! - [`secret`]: what makes the identifiers of packets unguessable.
//! - [`tracer`]: continuous traceroute in the probes' own 5-tuples.
#![forbid(unsafe_code)]

pub mod packet;
pub mod path_mtu;
pub mod reflector;
pub mod schedule;
pub mod secret;
pub mod sender;
pub mod stall;
pub mod tracer;
mod translated;
mod unfit;
